/* SPDX-License-Identifier: MIT
 * topk: every row of its table against a full sort, exactly, all outputs. */
#include "topk_case.h"

#include "ref/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16};

/* ---- sizes ---- */

static const int64_t sizes[] = {1,    2,    3,    7,    8,    9,    15,   16,   17,   31,   32,
                                33,   40,   60,   63,   64,   65,   127,  128,  129,  255,  256,
                                257,  511,  512,  513,  600,  1000, 1023, 1024, 1025, 1500, 2047,
                                2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 32000};
enum { N_SIZES = sizeof sizes / sizeof *sizes, N_KS = 6 };

static int64_t k_of(int which, int64_t n) {
    const int64_t ks[N_KS] = {1, 8, n / 2, n, 2, 0};
    return ks[which] > n ? n : ks[which];
}

/* Large sizes are compiled for f32 only: a compilation costs more than the case. */
START_TEST(every_size) {
    const int64_t n = sizes[_i / N_KS];
    const unsigned mix = (unsigned)_i * 2654435761u >> 7;
    const struct clmoe_topk_params params = {
        .n = n,
        .k = k_of(_i % N_KS, n),
        .dtype = n > 1100 ? CLMOE_F32 : dtypes[mix % 3],
        .smallest = mix / 3 % 2,
        .order = (enum clmoe_topk_order)(mix / 6 % 3),
        .nan = (enum clmoe_nan)(mix / 18 % 2),
        .outputs = TOPK_ALL_OUTPUTS,
        .dense_fill.f = mix / 36 % 2 ? -1e30f : 0.0f,
        .dense_scale = mix / 72 % 2 ? 0.37f : 0.0f,
        .max_rows = 40,
    };
    const int64_t rows = n <= 64 ? 37 : n <= 600 ? 9 : 3;
    const enum forced_caps caps =
        n > 1100 ? (enum forced_caps)(mix / 144 % 2 * CAPS_PLAIN) : mix / 144 % CAPS_COUNT;
    topk_run_fill((uint64_t)_i, params, rows, (int)(mix / 512 % FILLS), caps);
}
END_TEST

/* Every fill with every direction of order, at one size for each row of the table to be first. */
START_TEST(fills) {
    static const int64_t ns[][2] = {{61, 7}, {300, 200}, {1100, 50}, {2500, 2100}};
    const int fill = _i % FILLS, shape = _i / FILLS;
    struct clmoe_topk_params params = {.n = ns[shape][0], .k = ns[shape][1], .outputs = TOPK_ALL_OUTPUTS};
    for (int way = 0; way < 4; way++) {
        params.dtype = shape > 1 ? CLMOE_F32 : dtypes[(way + fill) % 3];
        params.smallest = way & 1;
        params.nan = way & 2 ? CLMOE_NAN_LOWEST : CLMOE_NAN_GREATEST;
        params.order = (enum clmoe_topk_order)((way + shape) % 3);
        topk_run_fill((uint64_t)(5000 + 4 * _i + way), params, 3, fill, CAPS_OWN);
    }
}
END_TEST

/* The same sizes on devices with less of everything. */
START_TEST(small_devices) {
    static const int64_t ns[][2] = {{1, 1},    {40, 8},    {200, 90},    {500, 64},
                                    {513, 65}, {1025, 64}, {2700, 2600}, {3000, 3}};
    const int shape = _i % 8;
    const struct clmoe_topk_params params = {.n = ns[shape][0],
                                             .k = ns[shape][1],
                                             .outputs = TOPK_ALL_OUTPUTS,
                                             .order = (enum clmoe_topk_order)(_i % 3)};
    topk_run_fill((uint64_t)(6000 + _i), params, 5, _i % FILLS, (enum forced_caps)(1 + _i / 8));
}
END_TEST

/* Each path of each row once, for simulators: in lanes all or few candidates; in a work-group all or few; by
 * radix one tile, several tiles, a sort past local memory. */
static const struct {
    int64_t rows, n, k;
    enum forced_caps caps;
    enum clmoe_topk_order order;
    int fill;
} simulated_cases[] = {
    {5, 9, 2, CAPS_OWN, CLMOE_ORDER_SORTED, FILL_TIES},
    {3, 40, 5, CAPS_OWN, CLMOE_ORDER_INDEX, FILL_NAN_INF},
    {3, 33, 20, CAPS_GROUP_64, CLMOE_ORDER_INDEX, FILL_TIES},
    {1, 300, 3, CAPS_GROUP_64, CLMOE_ORDER_SORTED, FILL_TIES},
    {1, 1100, 9, CAPS_GROUP_64, CLMOE_ORDER_INDEX, FILL_TIES},
    {1, 2100, 2060, CAPS_GROUP_64, CLMOE_ORDER_SORTED, FILL_RANDOM},
};
enum { N_SIMULATED = sizeof simulated_cases / sizeof *simulated_cases };

START_TEST(simulated) {
    const struct clmoe_topk_params params = {.n = simulated_cases[_i].n,
                                             .k = simulated_cases[_i].k,
                                             .order = simulated_cases[_i].order,
                                             .outputs = TOPK_ALL_OUTPUTS};
    topk_run_fill((uint64_t)(6500 + _i), params, simulated_cases[_i].rows, simulated_cases[_i].fill,
                  simulated_cases[_i].caps);
}
END_TEST

/* ---- exhaustive ---- */

/* All rows of n elements from an alphabet of 8, for n <= 4: every pattern of ties and special values. */
START_TEST(exhaustive) {
    static const uint32_t f32[] = {0x7fc00001u, 0xff800001u, 0u, 0x80000000u,
                                   0x7f800000u, 0xff800000u, 1u, 0xbf800000u};
    static const uint16_t f16[] = {0x7e01, 0xfc01, 0, 0x8000, 0x7c00, 0xfc00, 1, 0xbc00};
    static const uint16_t bf16[] = {0x7fc1, 0xff81, 0, 0x8000, 0x7f80, 0xff80, 1, 0xbf80};
    const int n = 1 + _i / 4 % 4;
    const int64_t rows = (int64_t)1 << 3 * n;
    struct rng rng = rng_for((uint64_t)(7000 + _i));
    for (int k = 0; k <= n; k++) {
        const struct clmoe_topk_params params = {
            .max_rows = rows,
            .n = n,
            .k = k,
            .dtype = dtypes[_i / 16],
            .smallest = _i & 1,
            .nan = _i & 2 ? CLMOE_NAN_LOWEST : CLMOE_NAN_GREATEST,
            .order = (enum clmoe_topk_order)((k + n) % 3 ? CLMOE_ORDER_SORTED : CLMOE_ORDER_INDEX),
            .outputs = TOPK_ALL_OUTPUTS,
        };
        char *const raw = topk_room(rows * n, 4);
        for (int64_t i = 0; i < rows * n; i++) {
            const int letter = (int)(i / n >> 3 * (i % n) & 7);
            if (params.dtype == CLMOE_F32)
                memcpy(raw + 4 * i, &f32[letter], 4);
            else
                memcpy(raw + 2 * i, params.dtype == CLMOE_F16 ? &f16[letter] : &bf16[letter], 2);
        }
        struct topk_sample s = topk_sample_of(&params, rows, raw);
        topk_run_rows(&rng, &s, CAPS_OWN, "exhaustive");
        topk_sample_free(&s);
    }
}
END_TEST

/* ---- outputs ---- */

START_TEST(subset_of_outputs) {
    static const int64_t ns[][2] = {{45, 6}, {1200, 30}};
    struct clmoe_topk_params params = {.outputs = (uint32_t)_i % 32, .dense_fill.f = 2.5};
    params.n = ns[_i / 32][0], params.k = ns[_i / 32][1];
    params.order = (enum clmoe_topk_order)(_i % 3);
    topk_run_fill((uint64_t)(8000 + _i), params, 4, FILL_TIES, CAPS_OWN);
}
END_TEST

/* ---- named traps ---- */

/* Candidates that lose against everything real still win against padding, at sizes that leave some. */
START_TEST(padding_never_leaks) {
    static const int64_t ns[] = {5, 33, 100, 257, 700, 1025, 1537, 2049, 3000};
    static const int worst[] = {FILL_NEG_INF, FILL_ALL_NAN, FILL_NEG_MAX};
    const int64_t n = ns[_i / 3];
    struct clmoe_topk_params params = {.n = n, .k = n, .nan = CLMOE_NAN_LOWEST, .outputs = TOPK_ALL_OUTPUTS};
    for (int64_t k = n; k > 0; k = k == n && n > 3 ? n - 3 : 0) {
        params.k = k;
        topk_run_fill((uint64_t)(9000 + _i), params, 3, worst[_i % 3], CAPS_OWN);
    }
}
END_TEST

/* Equal elements come by index ascending, whichever end is wanted. */
START_TEST(ties_take_the_lowest_index) {
    static const int64_t ns[][2] = {{8, 3}, {100, 40}, {600, 20}, {1500, 700}, {5000, 300}};
    struct clmoe_topk_params params = {.n = ns[_i / 2][0], .k = ns[_i / 2][1], .smallest = _i % 2};
    params.max_rows = 2;
    struct rng rng = rng_for((uint64_t)(9100 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &params, 2, FILL_CONSTANT);
    for (int64_t j = 0; j < 2 * params.k; j++)
        ck_assert_int_eq(s.indices[j], j % params.k); /* the oracle, too */
    topk_run_rows(&rng, &s, CAPS_OWN, "all equal");
    topk_sample_free(&s);
}
END_TEST

/* Rows of NaN, as padding tokens have: a router that picks one id twice corrupts what follows it. */
START_TEST(nan_rows_have_distinct_ids) {
    const struct clmoe_topk_params params = {.max_rows = 130,
                                             .n = _i / 2 ? 256 : 60,
                                             .k = 8,
                                             .outputs = CLMOE_TOPK_INDICES,
                                             .nan = (enum clmoe_nan)(_i % 2)};
    struct rng rng = rng_for((uint64_t)(9200 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &params, 130, FILL_ALL_NAN);
    for (int64_t j = 0; j < 130 * 8; j++)
        ck_assert_int_eq(s.indices[j], j % 8);
    topk_run_rows(&rng, &s, CAPS_OWN, "NaN rows");
    topk_sample_free(&s);
}
END_TEST

/* Infinities and NaN in dropped places would survive a multiplication by a mask. */
START_TEST(dense_is_a_select) {
    static const int64_t ns[] = {50, 700, 5000};
    const int64_t n = ns[_i / 2 % 3];
    struct clmoe_topk_params params = {.max_rows = 2, .n = n, .k = 3, .outputs = CLMOE_TOPK_DENSE};
    params.dtype = n > 1100 ? CLMOE_F32 : dtypes[_i % 3];
    params.nan = CLMOE_NAN_LOWEST;
    params.smallest = _i % 2;
    params.dense_scale = _i < 6 ? 0.0f : 2.0f;
    struct rng rng = rng_for((uint64_t)(9300 + _i));
    char *const raw = topk_room(2 * n, 4);
    for (int64_t i = 0; i < 2 * n; i++)
        ref_store(params.dtype, raw, i, i % 7 == 3 ? NAN : params.smallest ? INFINITY : -INFINITY);
    /* Three numbers a row, and for the smallest NaN would be first: put it out of the way. */
    for (int64_t i = 0; i < 2 * n; i++) {
        if (params.smallest && i % 7 == 3) ref_store(params.dtype, raw, i, INFINITY);
        if (i % n == 1 || i % n == n / 2 || i % n == n - 1)
            ref_store(params.dtype, raw, i, (float)(i % n) + 1);
    }
    struct topk_sample s = topk_sample_of(&params, 2, raw);
    for (int64_t i = 0; i < 2 * n; i++) {
        const float v = ref_load(params.dtype, s.dense, i);
        const bool number = i % n == 1 || i % n == n / 2 || i % n == n - 1;
        ck_assert(number ? v > 0 : v == 0 && !signbit(v));
    }
    topk_run_rows(&rng, &s, CAPS_OWN, "inf and NaN dropped");
    topk_sample_free(&s);
}
END_TEST

START_TEST(mask_has_k_ones) {
    static const int64_t ns[][2] = {{9, 4}, {300, 299}, {900, 0}, {1027, 200}, {4500, 16}};
    const struct clmoe_topk_params params = {
        .n = ns[_i][0], .k = ns[_i][1], .outputs = CLMOE_TOPK_MASK, .max_rows = 3};
    struct rng rng = rng_for((uint64_t)(9400 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &params, 3, FILL_TIES);
    for (int64_t r = 0; r < 3; r++) {
        int64_t ones = 0;
        for (int64_t i = 0; i < params.n; i++)
            ones += s.mask[r * params.n + i];
        ck_assert_int_eq(ones, params.k);
    }
    topk_run_rows(&rng, &s, CAPS_OWN, "ones");
    topk_sample_free(&s);
}
END_TEST

/* More rows than fit into one slab of the workspace. */
START_TEST(many_rows) {
    const struct clmoe_topk_params params = {.n = 8, .k = 2, .outputs = _i ? TOPK_ALL_OUTPUTS : 0};
    topk_run_fill((uint64_t)(9500 + _i), params, 70000, _i ? FILL_BITS : FILL_TIES, CAPS_OWN);
}
END_TEST

START_TEST(long_rows) {
    static const int64_t shapes[][3] = {
        {1, 300000, 1000}, {1, 300000, 5000}, {3, 70000, 10}, {60, 6000, 5500}};
    const struct clmoe_topk_params params = {
        .n = shapes[_i / 2][1],
        .k = shapes[_i / 2][2],
        .order = _i % 2 ? CLMOE_ORDER_INDEX : CLMOE_ORDER_SORTED,
        .outputs = _i % 2 ? TOPK_ALL_OUTPUTS : 0,
    };
    topk_run_fill((uint64_t)(9600 + _i), params, shapes[_i / 2][0], _i / 2 % 2 ? FILL_TIES : FILL_RANDOM,
                  CAPS_OWN);
}
END_TEST

/* ---- calls ---- */

/* Fewer rows than the plan is for, none, and again with the same plan; events. */
START_TEST(calls_of_one_plan) {
    const int64_t counts[] = {7, 0, 1, 5};
    struct clmoe_topk_params params = {.max_rows = 7, .n = 90, .k = 5, .outputs = TOPK_ALL_OUTPUTS};
    struct rng rng = rng_for(9700);
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        case_begin("%s calls", params.plan.kernel);
        clmoe_plan *plan;
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan))) continue;
        for (int c = 0; c < 4; c++) {
            struct topk_sample s = topk_sample_filled(&rng, &params, counts[c], FILL_NAN_INF);
            struct topk_operands o = topk_operands_new(&rng, &s);
            cl_event done = NULL;
            case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, &done));
            case_require(done && clWaitForEvents(1, &done) == CL_SUCCESS, "no event");
            clReleaseEvent(done);
            topk_compare(&s, &o);
            topk_operands_free(&o);
            topk_sample_free(&s);
        }
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

/* Two calls chained by events on the out-of-order queue; the second reads what the first wrote. */
START_TEST(out_of_order) {
    static const int64_t ns[][2] = {{50, 9}, {1300, 40}, {2600, 2500}};
    struct clmoe_topk_params first = {.max_rows = 3, .n = ns[_i][0], .k = ns[_i][1]};
    struct clmoe_topk_params second = {.max_rows = 3, .n = first.k, .k = 4, .smallest = 1};
    struct rng rng = rng_for((uint64_t)(9800 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &first, 3, FILL_RANDOM);
    char *const selected = topk_room(3 * first.k, 4);
    for (int64_t j = 0; j < 3 * first.k; j++)
        memcpy(selected + 4 * j, &s.values[j / first.k * first.n + s.indices[j]], 4);
    struct topk_sample t = topk_sample_of(&second, 3, selected);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("topk", row)); row++) {
        case_begin("%s out of order, n=%lld", name, (long long)first.n);
        if (!topk_affordable(name, &s)) continue;
        first.plan.kernel = second.plan.kernel = name;
        clmoe_plan *plans[2];
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &first, &plans[0]))) continue;
        if (row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &second, &plans[1]))) {
            struct topk_operands o = topk_operands_new(&rng, &s), u = topk_operands_new(&rng, &t);
            cl_event events[2];
            case_ok(clmoe_topk_enqueue(plans[0], tester()->ooo_queue, &o.args, 0, NULL, &events[0]));
            u.args.x = o.args.values;
            case_ok(clmoe_topk_enqueue(plans[1], tester()->ooo_queue, &u.args, 1, &events[0], &events[1]));
            case_require(clWaitForEvents(1, &events[1]) == CL_SUCCESS, "the event failed");
            clReleaseEvent(events[0]), clReleaseEvent(events[1]);
            topk_compare(&s, &o);
            topk_compare(&t, &u);
            topk_operands_free(&o), topk_operands_free(&u);
            clmoe_plan_destroy(&plans[1]);
        }
        clmoe_plan_destroy(&plans[0]);
    }
    topk_sample_free(&s), topk_sample_free(&t);
}
END_TEST

/* A workspace of the caller, full of rubbish, at an offset, used up to its last byte and no further. */
START_TEST(dirty_workspace) {
    struct clmoe_topk_params params = {.max_rows = 6, .n = 2400, .k = 2300, .outputs = TOPK_ALL_OUTPUTS};
    params.plan = (struct clmoe_plan_options){.kernel = "topk_radix", .external_workspace = 1};
    struct rng rng = rng_for(9900);
    struct topk_sample s = topk_sample_filled(&rng, &params, 6, FILL_TIES);
    case_begin("dirty workspace");
    clmoe_plan *plan;
    case_ok(clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan));
    const int64_t size = (int64_t)clmoe_plan_workspace_size(plan), before = 512, after = 256;
    unsigned char *const image = topk_room(before + size + after, 1), *const got =
                                                                          topk_room(before + size + after, 1);
    for (int round = 0; round < 3; round++) {
        for (int64_t i = 0; i < before + size + after; i++)
            image[i] = round == 0 ? 0xff : (unsigned char)rng_u32(&rng);
        cl_int err;
        const cl_mem mem = clCreateBuffer(tester()->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                          (size_t)(before + size + after), image, &err);
        case_require(err == CL_SUCCESS, "clCreateBuffer: %d", (int)err);
        struct topk_operands o = topk_operands_new(&rng, &s);
        case_require(round ||
                         clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL) == CLMOE_E_INVALID,
                     "runs without a workspace");
        case_ok(clmoe_plan_set_workspace(plan, mem, (uint64_t)before));
        case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
        topk_compare(&s, &o);
        clEnqueueReadBuffer(tester()->queue, mem, CL_TRUE, 0, (size_t)(before + size + after), got, 0, NULL,
                            NULL);
        case_require(memcmp(got, image, (size_t)before) == 0 &&
                         memcmp(got + before + size, image + before + size, (size_t)after) == 0,
                     "writes outside of the workspace");
        topk_operands_free(&o);
        clReleaseMemObject(mem);
    }
    free(image), free(got);
    clmoe_plan_destroy(&plan);
    topk_sample_free(&s);
}
END_TEST

/* The workspace does not grow with the number of rows. */
START_TEST(workspace_is_bounded) {
    struct clmoe_topk_params params = {.max_rows = 50000000, .n = 32000, .k = 64};
    params.plan = (struct clmoe_plan_options){.kernel = "topk_radix", .external_workspace = 1};
    case_begin("workspace of many rows");
    for (int i = 0; i < 3; i++) {
        params.n = (int64_t[]){32000, 8, 2147483647}[i];
        params.k = (int64_t[]){64, 8, 0}[i];
        clmoe_plan *plan;
        case_ok(clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan));
        ck_assert_uint_le(clmoe_plan_workspace_size(plan), 16 << 20);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

/* ---- refusals ---- */

START_TEST(bad_params) {
    static const struct clmoe_topk_params bad[] = {
        {.max_rows = -1, .n = 4, .k = 1},
        {.max_rows = INT64_MAX / 64, .n = 4, .k = 1},
        {.max_rows = 1, .n = 0, .k = 0},
        {.max_rows = 1, .n = -4, .k = 0},
        {.max_rows = 1, .n = ((int64_t)1 << 31) + 1, .k = 1},
        {.max_rows = 1, .n = 4, .k = 5},
        {.max_rows = 1, .n = 4, .k = -1},
        {.max_rows = 1, .n = 4, .k = 1, .dtype = CLMOE_I8, .pad_value.i = 128},
        {.max_rows = 1, .n = 32, .k = 1, .dtype = CLMOE_Q8_0},
        {.max_rows = 1, .n = 4, .k = 1, .dtype = (enum clmoe_dtype)77},
        {.max_rows = 1, .n = 4, .k = 1, .smallest = 2},
        {.max_rows = 1, .n = 4, .k = 1, .order = (enum clmoe_topk_order)3},
        {.max_rows = 1, .n = 4, .k = 1, .nan = (enum clmoe_nan)3},
        {.max_rows = 1, .n = 4, .k = 1, .outputs = 128},
        {.max_rows = 1, .n = 4, .k = 1, .dense_scale = NAN},
        {.max_rows = 1, .n = 4, .k = 1, .plan.kernel = "topk_none"},
        {.max_rows = 1, .n = 4, .k = 1, .plan.kernel = "combine_rows"},
    };
    clmoe_plan *plan = (clmoe_plan *)&plan;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        case_begin("bad params %zu", i);
        case_require(clmoe_topk_plan(tester_context(CAPS_OWN), &bad[i], &plan) == CLMOE_E_INVALID,
                     "accepted");
        case_require(!plan && tester_log()[0], "plan %p or no message", (void *)plan);
    }
    case_require(clmoe_topk_plan(tester_context(CAPS_OWN), NULL, &plan) == CLMOE_E_INVALID, "NULL accepted");
}
END_TEST

START_TEST(bad_args) {
    const struct clmoe_topk_params params = {
        .max_rows = 4, .n = 40, .k = 3, .outputs = TOPK_ALL_OUTPUTS & ~CLMOE_TOPK_MASK};
    struct rng rng = rng_for(9950);
    struct topk_sample s = topk_sample_filled(&rng, &params, 4, FILL_RANDOM);
    struct topk_operands o = topk_operands_new(&rng, &s);
    struct clmoe_topk_args bad[12];
    for (int i = 0; i < 12; i++)
        bad[i] = o.args;
    bad[0].x.mem = NULL;
    bad[1].values.mem = NULL;
    bad[2].mask = o.mask.tensor; /* the plan was made without */
    bad[3].x.shape[0] = 5;
    bad[4].indices.shape[1] = 4;
    bad[5].indices.dtype = CLMOE_U32;
    bad[6].x.stride[1] = -1;
    bad[7].bitmask.shape[1] = 1;
    bad[8].dense.offset += 2;
    bad[9].dense = bad[9].x;
    bad[10].values.shape[0] = 3;
    bad[11].x.dtype = CLMOE_F16;
    clmoe_plan *plan;
    case_begin("bad args");
    case_ok(clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan));
    for (int i = 0; i < 12; i++) {
        case_begin("bad args %d", i);
        case_require(clmoe_topk_enqueue(plan, tester()->queue, &bad[i], 0, NULL, NULL) == CLMOE_E_INVALID,
                     "accepted");
        case_require(tester_log()[0], "no message");
    }
    case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
    topk_compare(&s, &o);
    topk_operands_free(&o);
    clmoe_plan_destroy(&plan);
    topk_sample_free(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
    if (tester()->small) {
        tcase_add_loop_test(cases, simulated, 0, N_SIMULATED);
        tcase_add_loop_test(cases, exhaustive, 0, 1);
        return;
    }
    tcase_add_loop_test(cases, every_size, 0, N_SIZES * N_KS);
    tcase_add_loop_test(cases, fills, 0, 4 * FILLS);
    tcase_add_loop_test(cases, small_devices, 0, 24);
    tcase_add_loop_test(cases, simulated, 0, N_SIMULATED);
    tcase_add_loop_test(cases, exhaustive, 0, 48);
    tcase_add_loop_test(cases, subset_of_outputs, 0, 64);
    tcase_add_loop_test(cases, padding_never_leaks, 0, 27);
    tcase_add_loop_test(cases, ties_take_the_lowest_index, 0, 10);
    tcase_add_loop_test(cases, nan_rows_have_distinct_ids, 0, 4);
    tcase_add_loop_test(cases, dense_is_a_select, 0, 12);
    tcase_add_loop_test(cases, mask_has_k_ones, 0, 5);
    tcase_add_loop_test(cases, many_rows, 0, 2);
    tcase_add_loop_test(cases, long_rows, 0, 8);
    tcase_add_test(cases, calls_of_one_plan);
    tcase_add_loop_test(cases, out_of_order, 0, 3);
    tcase_add_test(cases, dirty_workspace);
    tcase_add_test(cases, workspace_is_bounded);
}

int main(void) {
    return harness_main("topk", "topk", add_tests);
}
