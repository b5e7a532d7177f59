/* SPDX-License-Identifier: MIT
 * topk: rows that kernels cut into parts or read chunk by chunk, on every row of the table: windows that
 * begin and end anywhere in a part, and data by which every chunk, or one part alone, holds all that is
 * selected. */
#include "topk_case.h"

#include <stdlib.h>

/* What a row of n elements holds; larger is better. */
enum { RISING_BLOCKS, FALLING_BLOCKS, BORDERS, ONE_PART, FEW_VALUES, LAST_BITS, ONE_ABOVE, PATTERNS };
static const char *const names[] = {"rising blocks", "falling blocks", "borders",  "one part",
                                    "few values",    "last bits",      "one above"};

static double element(struct rng *rng, int pattern, int64_t i, int64_t n) {
    const double noise = (double)(rng_u32(rng) >> 8) / (1 << 24);
    switch (pattern) {
    case RISING_BLOCKS: return (double)(i / 1000) + noise;
    case FALLING_BLOCKS: return (double)(n / 1000 - i / 1000) + noise;
    case BORDERS: return i % 16384 < 3 || i % 16384 > 16380 ? 5 + noise : noise;
    case ONE_PART: return i > n / 2 && i < n / 2 + n / 9 ? 3 + noise : noise;
    case FEW_VALUES: return (double)(rng_u32(rng) % 3);
    case ONE_ABOVE: return i > n / 2 && i % 5000 == 7 ? 2 : 1; /* when buffers are full of the others */
    default: return 1 + (double)(rng_u32(rng) % 200) / (1 << 23);
    }
}

static char *data(struct rng *rng, const struct clmoe_topk_params *p, int64_t rows, int pattern) {
    char *const raw = topk_room(rows * p->n, 8);
    const double scale = p->dtype == CLMOE_BF16 ? 0.25 : 1;
    for (int64_t i = 0; i < rows * p->n; i++) {
        const double v = element(rng, pattern, i % p->n, p->n) * scale;
        topk_store(p->dtype, raw, i, topk_scalar(p->dtype, p->smallest ? -v : v));
    }
    return raw;
}

static int32_t *numbers(struct rng *rng, int64_t rows, int64_t least, int64_t most) {
    int32_t *const v = topk_room(rows, sizeof *v);
    for (int64_t r = 0; r < rows; r++)
        v[r] = (int32_t)(least + (int64_t)(rng_u32(rng) % (uint32_t)(most - least + 1)));
    return v;
}

/* rows, n, k; the first one is for the simulator */
static const int64_t shapes[][3] = {{1, 5000, 9},     {1, 65536, 1},    {3, 65537, 9},    {2, 70001, 100},
                                    {1, 131083, 700}, {1, 98304, 5000}, {1, 66000, 33000}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

START_TEST(long_rows_in_parts) {
    static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_F32, CLMOE_F64, CLMOE_BF16};
    const int pattern = _i % PATTERNS, shape = _i / PATTERNS;
    const unsigned mix = (unsigned)_i * 2654435761u >> 9;
    const int64_t rows = shapes[shape][0], n = shapes[shape][1], k = shapes[shape][2];
    struct clmoe_topk_params params = {
        .max_rows = rows,
        .n = n,
        .k = k,
        .dtype = pattern == ONE_ABOVE ? CLMOE_I32 : dtypes[mix % 4],
        .smallest = mix / 4 % 2,
        .order = (enum clmoe_topk_order)(mix / 8 % 3),
        .ties = (enum clmoe_ties)(mix / 32 % 2),
        .outputs = mix / 64 % 2 ? TOPK_ALL_OUTPUTS : 0,
        .row_begin = mix / 128 % 2,
        .row_length = mix / 256 % 2,
        .row_k = mix / 512 % 2,
    };
    struct rng rng = rng_for((uint64_t)_i);
    struct topk_sample s = topk_sample_with(&params, rows, data(&rng, &params, rows, pattern),
                                            params.row_begin ? numbers(&rng, rows, 0, n / 3) : NULL,
                                            params.row_length ? numbers(&rng, rows, n / 4, n) : NULL,
                                            params.row_k ? numbers(&rng, rows, k / 2, k) : NULL);
    topk_run_rows(&rng, &s, CAPS_OWN, names[pattern]);
    topk_sample_free(&s);
}
END_TEST

/* As many rows as decide how a device is filled: several groups for a row, one of each size. */
START_TEST(rows_for_the_units) {
    cl_uint units = 1;
    clGetDeviceInfo(tester()->device, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    const int64_t rows_of[] = {units / 2 + 1, 2 * units, 8 * units};
    const int64_t rows = rows_of[_i % 3], k = _i / 3 ? 300 : 50;
    const int pattern = _i % 2 ? BORDERS : RISING_BLOCKS;
    const struct clmoe_topk_params params = {
        .max_rows = rows, .n = 17001, .k = k, .smallest = _i % 2, .ties = (enum clmoe_ties)(_i / 2 % 2)};
    struct rng rng = rng_for((uint64_t)(1000 + _i));
    struct topk_sample s =
        topk_sample_with(&params, rows, data(&rng, &params, rows, pattern), NULL, NULL, NULL);
    topk_run_rows(&rng, &s, CAPS_OWN, names[pattern]);
    topk_sample_free(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, long_rows_in_parts, 0, tester()->small ? 1 : PATTERNS * N_SHAPES);
    if (!tester()->small) tcase_add_loop_test(cases, rows_for_the_units, 0, 6);
}

int main(void) {
    return harness_main("topk_long", "", add_tests);
}
