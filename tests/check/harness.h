/* SPDX-License-Identifier: MIT
 * What the kernel checks share: the device, contexts with caps forced down, seeded data, guarded buffers,
 * comparison.
 *
 * Environment, one a line:
 * - CLMOE_TEST_DEVICE: a part of "platform / device" (default: the first device of the first platform)
 * - CLMOE_TEST_SEED: seed of all random data (default: from the clock, printed)
 * - CLMOE_TEST_SMALL=1: only small cases (simulators)
 * - CLMOE_TEST_PLAIN=1: no feature bits, but for what the device is if it is a GPU, so that rows which need
 * one do not run
 * - CLMOE_TEST_SLICE=i/n: of each loop of tests only the i-th of n parts (0 <= i < n), to spread a suite
 * whose time goes into compiling over processes; whether every row ran is not checked then
 * - CK_RUN_CASE: Check's own filter for one test case
 *
 * A run that finds no device fails. */
#ifndef CLMOE_CHECK_HARNESS_H
#define CLMOE_CHECK_HARNESS_H

#include "clmoe/clmoe.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- device ---- */

struct tester {
    cl_platform_id platform;
    cl_device_id device;
    cl_context context;
    cl_command_queue queue;     /* in-order */
    cl_command_queue ooo_queue; /* out-of-order; the in-order one where the device has none */
    char name[512];             /* "platform / device" */
    bool small;                 /* CLMOE_TEST_SMALL */
};

/* The device under test, made on the first call. Exits with a message if there is none. */
const struct tester *tester(void);

/* Contexts of the library with caps forced down, so that one machine tests the paths of smaller ones. */
enum forced_caps {
    CAPS_OWN = 0,   /* as the device is */
    CAPS_GROUP_64,  /* work-groups of 64 */
    CAPS_LOCAL_16K, /* 16 KiB of local memory */
    CAPS_PLAIN,     /* no feature bits, not even CPU, but GPU where it is one: the rows a bare GPU gets */
    CAPS_COUNT,
    CAPS_EMULATED = CAPS_COUNT, /* as the device is, and matrix instructions that it lacks are emulated: for
                                   the tests of the rows that need them */
    CAPS_EMULATED_SMALL,        /* the same with 32 KiB of local memory */
    CAPS_EMULATED_GPU,          /* the same without the rows for CPUs, which layers would take */
    CAPS_ONE_UNIT,              /* one compute unit: kernels for so much work that it fills a device */
    CAPS_END
};
clmoe_context *tester_context(enum forced_caps caps);
const char *caps_name(enum forced_caps caps);

/* The last message the library logged as an error, "" if none since the last call. */
const char *tester_log(void);

/* ---- random data ---- */

struct rng {
    uint64_t state;
};

/* A generator for one case: the run's seed and the number of the case. */
struct rng rng_for(uint64_t test_case);
uint64_t rng_seed(void); /* the run's seed */
uint32_t rng_u32(struct rng *rng);
int64_t rng_below(struct rng *rng, int64_t n); /* 0 .. n-1 */
float rng_float(struct rng *rng);              /* about normal: sum of uniforms, mean 0, deviation 1 */

enum fill {
    FILL_RANDOM = 0,
    FILL_TIES,     /* few distinct values */
    FILL_EXTREMES, /* largest, smallest, denormal, signed zeros */
    FILL_NAN_INF,  /* random with NaNs of both signs and infinities */
    FILL_COUNT
};
const char *fill_name(enum fill fill);
void fill_floats(struct rng *rng, enum fill fill, float *v, int64_t n);

/* Expert ids [tokens, k]. */
enum routing_fill {
    ROUTING_RANDOM = 0, /* distinct in a token where k <= E */
    ROUTING_ONE_EXPERT, /* all tokens on one expert, so others are empty; ids repeat in a token */
    ROUTING_SKIPS,      /* random with repeats, -1 and E */
    ROUTING_COUNT
};
void fill_ids(struct rng *rng, enum routing_fill fill, int32_t *ids, int64_t tokens, int k, int experts);

/* ---- guarded buffers ----
 * A device buffer with canaries around a view, mostly 2-D [rows, n]: 256 + random bytes before, random row
 * padding, 256 bytes after. guarded_read fails the test if a byte outside the view has changed. */
struct guarded {
    cl_mem mem;
    struct clmoe_tensor tensor; /* the view: offset and strides are not trivial */
    unsigned char *image;       /* what the whole buffer held at first */
    size_t bytes;
    bool strided; /* made by guarded_strided */
};

/* While on, views begin at multiples of 16 bytes, and so do their rows if they are padded; not block
 * formats. */
void guarded_align(bool on);

/* `values`: rows * n elements as floats, rounded to dtype (f32, f16, bf16), or NULL: poison. */
struct guarded guarded_floats(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                              const float *values);
/* `values`: rows * n elements of an integer dtype (i32, u32, u8), or NULL: poison. */
struct guarded guarded_ints(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                            const void *values);
/* `values`: rows * n elements of any dtype as they lie in memory, block formats included (n and the padding
 * of rows are whole blocks), or NULL: poison. */
struct guarded guarded_raw(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                           const void *values);
/* Any dtype from raw bytes of a contiguous array, without row padding; the tensor has the given dims. */
struct guarded guarded_bytes(struct rng *rng, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                             const void *bytes);
/* A plain dtype (no block format) with any strides of 0 and more; `values` densely, or NULL: poison. */
struct guarded guarded_strided(struct rng *rng, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                               const int64_t *stride, const void *values);
/* The view as one-dimensional (rows must be 1 or the view contiguous). */
struct clmoe_tensor as_1d(const struct guarded *g);

/* Waits for the queue, checks the canaries, copies the view's elements (dtype of the tensor) to `out`
 * densely. */
void guarded_read(const struct guarded *g, void *out);
/* The same, converted to float (f32, f16, bf16). */
void guarded_read_floats(const struct guarded *g, float *out);
void guarded_free(struct guarded *g);

/* ---- checks ---- */

/* Describes the running case in failure messages; printf-like. Also resets tester_log. */
void case_begin(const char *fmt, ...);
const char *case_text(void);

/* Fails the test with the case, the seed and the message. */
#define case_fail(...) case_fail_at(__FILE__, __LINE__, __VA_ARGS__)
void case_fail_at(const char *file, int line, const char *fmt, ...);
#define case_require(cond, ...)                                                                              \
    do {                                                                                                     \
        if (!(cond)) case_fail(__VA_ARGS__);                                                                 \
    } while (0)

/* A call that must succeed. */
#define case_ok(expr)                                                                                        \
    do {                                                                                                     \
        const enum clmoe_status case_status_ = (expr);                                                       \
        if (case_status_ != CLMOE_OK)                                                                        \
            case_fail("%s: %s: %s", #expr, clmoe_status_name(case_status_), tester_log());                   \
    } while (0)

/* |got - want| <= tolerance * magnitude + one rounding of dtype; NaN matches NaN, inf matches inf.
 * `magnitude` (may be NULL: |want|) is the sum of the absolute values of the terms; where it is beyond fp32
 * anything is accepted. */
void case_close(enum clmoe_dtype dtype, const float *got, const double *want, const double *magnitude,
                int64_t n, double tolerance, const char *what);

/* Plans `X_plan(ctx, params, &plan)` for row `row` of the table "op". Returns false if the row refuses the
 * problem; any other failure fails the test. Counts the rows that ran. Use as: for (int row = 0; (name =
 * clmoe_kernel_name(op, row)); row++) { params.plan.kernel = name; status = ..plan(..); if (!row_fits(op,
 * row, status)) continue; ... } */
bool row_fits(const char *op, int row, enum clmoe_status status);

/* Says how often row `row` of the table "op" ran. Fails if every case refused it, or if it had none and this is
 * not a slice of the cases. */
void row_require_ran(const char *op, int row);

/* Check's macro for a loop of tests, with its bounds cut down by CLMOE_TEST_SLICE. */
int slice_at(int first, int end, int further); /* the first test of the slice, or of the one further */
#undef tcase_add_loop_test
#define tcase_add_loop_test(tcase, test, first, end)                                                         \
    _tcase_add_test((tcase), (test), 0, 0, slice_at((first), (end), 0), slice_at((first), (end), 1))

/* Runs the suite without forking, prints the seed and how often each row of the tables ran; fails if a row of
 * one of `ops` (space-separated) never ran. Returns main's result. `cases`: tests of the suite. */
int harness_main(const char *suite, const char *ops, void (*add_tests)(TCase *));

#endif
