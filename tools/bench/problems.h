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
    const int64_t *token_counts; /* route, matmul, moe: `tokens` becomes each of them */
    int n_token_counts;
    const char *logits;       /* folder of their router logits, NULL to draw them */
    int draw;                 /* which of the draws with the same probabilities */
    bool zipf;                /* drawn: experts are chosen about as often as 1 / their rank */
    bool glu;                 /* matmul: also the first product with its activation */
    bool plan_times;          /* matmul, moe: also how long making a plan takes */
    double resident;          /* moe: part of the experts that the device has room for; 0: offload nothing */
    enum clmoe_dtype x_dtype; /* matmul, moe: activations */
    int64_t rows, n, k;       /* topk, scatter */
    enum clmoe_scatter_mode mode;
    bool in_place; /* scatter: y is x, or, for sums and products, there is no x */
    enum bench_pattern fill;
    enum clmoe_topk_order order;
    bool smallest;
    bool masks;                 /* topk: a mask and a dense row instead of values and indices */
    enum clmoe_dtype dtype;     /* of data, logits, weights */
    enum clmoe_w_order w_order; /* matmul, moe: CLMOE_W_AWQ, CLMOE_W_GPTQ, else CLMOE_W_ENK */
    int64_t group;              /* of these two: steps of K that share a scale */
    const char *kernel;         /* rows allowed, NULL for all */
    const char *peer; /* matmul in f32: "clblast", "openblas"; topk, scatter: "copy"; NULL for none */
};

/* Relative errors of samples of the output: the largest one, and the root mean square. */
struct errors {
    bool known, good;
    double max, rms;
};

/* Making a plan, in milliseconds: nothing cached; programs in the cache on disk (0 if there is none). */
struct plan_times {
    double cold, disk;
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
    int active, most; /* experts that have pairs, pairs of the expert with most; 0 where there are none */
    struct errors errors;
    struct plan_times plan_times;
    struct clmoe_offload_stats offload; /* of the timed calls; slots 0: none */
};

/* Each runs one problem, with all numbers of tokens, and appends its results; returns -1 or an exit code. */
typedef int (*result_sink)(void *priv, const struct result *result);
int problem_topk(struct bench *b, const struct settings *s, result_sink sink, void *priv);
int problem_scatter(struct bench *b, const struct settings *s, result_sink sink, void *priv);
/* Two results: "route", and "order" with permute behind it. */
int problem_route(struct bench *b, const struct settings *s, result_sink sink, void *priv);
/* "matmul1" and "matmul2", and with settings.glu "matmul1_glu". */
int problem_matmul(struct bench *b, const struct settings *s, result_sink sink, void *priv);
int problem_moe(struct bench *b, const struct settings *s, result_sink sink, void *priv);

/* For the files of this folder: a result without times, its kernels those of the plan. */
struct result result_new(const char *op, const struct settings *s, const clmoe_plan *plan);
/* How long a plan takes to make, in contexts of their own; afterwards the programs are in all caches. */
typedef enum clmoe_status (*plan_maker)(clmoe_context *ctx, const void *params, clmoe_plan **plan);
int time_plan(struct bench *b, plan_maker make, const void *params, struct plan_times *times);
double bytes_of(enum clmoe_dtype dtype, double count);
/* Whether weights are words of 4-bit codes; and the name that `--dtype` has for what they are. */
bool settings_words(const struct settings *s);
const char *settings_dtype(const struct settings *s);

#endif
