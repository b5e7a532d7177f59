/* SPDX-License-Identifier: MIT
 * Timing on the device: warm, with events, caches flushed before each repetition, medians; and the ceilings
 * that times are compared with. */
#ifndef CLMOE_TOOLS_MEASURE_H
#define CLMOE_TOOLS_MEASURE_H

#include "clmoe/session.h"

struct embedded_bench {
    const char *path, *text;
};
extern const struct embedded_bench embedded_bench[];

struct bench {
    struct session *s;
    cl_program program;
    cl_mem flush; /* larger than any cache: read before each repetition */
    size_t flush_bytes;
    size_t local;      /* work-items of a work-group of the kernels above */
    int repeats;       /* least number of timed runs */
    double read_gbps;  /* measured: a kernel that reads `flush` */
    double fma_tflops; /* measured: a kernel of fp32 fma */
};

/* Each returns -1 or an exit code, having printed an error. */
int bench_open(struct bench *b, struct session *s, int repeats);
void bench_close(struct bench *b);

/* Fills a tensor with about normal numbers of deviation `scale`. */
int bench_fill(struct bench *b, const struct clmoe_tensor *t, uint32_t seed, float scale);

/* Allocates and fills. */
int bench_tensor(struct bench *b, enum clmoe_dtype dtype, int ndim, const int64_t *shape, uint32_t seed,
                 float scale, struct clmoe_tensor *t);

struct timing {
    double median_us, p10_us, p90_us;
    int repeats;
};

/* What is timed: enqueues the work, sets *event to its end. */
typedef enum clmoe_status (*timed_call)(void *priv, cl_command_queue queue, cl_event *event);

/* Time from the end of the cache flush, which keeps the device busy while the host enqueues, to the end of
 * the work: bench.repeats runs after 2 warm-ups, and up to BENCH_MAX_REPEATS while they take less than two
 * seconds. */
#define BENCH_MAX_REPEATS 60
int bench_time(struct bench *b, timed_call call, void *priv, struct timing *timing);

#endif
