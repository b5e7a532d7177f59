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
    cl_mem flush;          /* larger than any cache: read before each repetition */
    bool flush_by_writing; /* or written, so that lines in the caches have to be written back first */
    size_t flush_bytes;
    size_t local, read_local; /* work-items of a work-group: of most kernels, and of the one that reads */
    int repeats;              /* least number of timed runs */
    double read_gbps;         /* measured: a kernel that reads `flush` */
    double fma_tflops;        /* measured: a kernel of fp32 fma */
};

/* Each returns -1 or an exit code, having printed an error. */
int bench_open(struct bench *b, struct session *s, int repeats);
void bench_close(struct bench *b);

/* Fills a tensor with about normal numbers of deviation `scale`. */
int bench_fill(struct bench *b, const struct clmoe_tensor *t, uint32_t seed, float scale);

/* What rows of a top-k hold: numbers about normal; all equal; sorted; or apart in their last bits only. */
enum bench_pattern { BENCH_RANDOM, BENCH_EQUAL, BENCH_ASCENDING, BENCH_DESCENDING, BENCH_CLUSTERED };
#define BENCH_PATTERNS "random|equal|ascending|descending|clustered"

/* Fills the rows of a [rows, n] tensor of f32, f16 or bf16. */
int bench_fill_rows(struct bench *b, const struct clmoe_tensor *t, uint32_t seed, enum bench_pattern pattern);

/* Fills a tensor of i32 with numbers below `limit`. */
int bench_fill_ids(struct bench *b, const struct clmoe_tensor *t, uint32_t seed, int64_t limit);

/* Allocates and fills. */
int bench_tensor(struct bench *b, enum clmoe_dtype dtype, int ndim, const int64_t *shape, uint32_t seed,
                 float scale, struct clmoe_tensor *t);

/* Reads `count` elements of f32, f16, bf16 or e4m3, `stride` apart, from element `first` on. */
int bench_read(struct bench *b, const struct clmoe_tensor *t, int64_t first, int64_t stride, int64_t count,
               float *out);

/* The same of i32, as they are. */
int bench_read_words(struct bench *b, const struct clmoe_tensor *t, int64_t first, int64_t stride,
                     int64_t count, uint32_t *out);

/* The host's clock. */
double bench_now_us(void);

struct timing {
    double median_us, p10_us, p90_us;
    double enqueue_us; /* of the host, for one call on a queue without profiling: median */
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
