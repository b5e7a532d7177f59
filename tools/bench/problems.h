/* SPDX-License-Identifier: MIT
 * What `clmoe bench` can time: one operation at one size, with its data on the device and its traffic
 * counted. */
#ifndef CLMOE_TOOLS_PROBLEMS_H
#define CLMOE_TOOLS_PROBLEMS_H

#include "measure.h"

struct shape {
    const char *model; /* "" if given by numbers */
    int32_t experts, topk;
    int64_t hidden, inter;
    struct clmoe_route_params route; /* its options; sizes and dtype are 0 */
};

/* A known model's shape by name, NULL if there is none. `index` walks the list for --help: NULL past the end.
 */
const struct shape *shape_find(const char *model);
const struct shape *shape_at(int index);

struct settings {
    struct shape shape;
    int64_t tokens;
    int64_t rows, n, k; /* topk, scatter */
    enum clmoe_scatter_mode mode;
    bool in_place; /* scatter: y is x, or, for sums and products, there is no x */
    enum bench_pattern fill;
    enum clmoe_topk_order order;
    bool smallest;
    bool masks; /* topk: a mask and a dense row instead of values and indices */
    enum clmoe_dtype dtype;
    const char *kernel; /* rows allowed, NULL for all */
    const char *peer;   /* matmul in f32: "clblast", "openblas"; topk, scatter: "copy"; NULL for none */
};

/* One line of the report. */
struct result {
    const char *op;
    char kernel[256];
    struct settings settings;
    struct timing timing;
    double flops, bytes; /* at least: each input byte once, each output byte once */
    bool has_peer;
    struct timing peer;
};

/* Each runs one problem and appends its results; returns -1 or an exit code. */
typedef int (*result_sink)(void *priv, const struct result *result);
int problem_topk(struct bench *b, const struct settings *s, result_sink sink, void *priv);
/* Two results: "route", and "order", which has permute behind it. */
int problem_matmul(struct bench *b, const struct settings *s, result_sink sink, void *priv);
int problem_scatter(struct bench *b, const struct settings *s, result_sink sink, void *priv);
/* Two results: "route", and "order" with permute behind it. */
int problem_route(struct bench *b, const struct settings *s, result_sink sink, void *priv);
int problem_moe(struct bench *b, const struct settings *s, result_sink sink, void *priv);

/* For the files of this folder: a result without times, its kernels those of the plan. */
struct result result_new(const char *op, const struct settings *s, const clmoe_plan *plan);
double bytes_of(enum clmoe_dtype dtype, double count);

#endif
