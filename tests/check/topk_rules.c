/* SPDX-License-Identifier: MIT
 * topk: what a call must and must not be, several calls of a plan, workspaces. */
#include "topk_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
        memcpy(selected + 4 * j, s.x + 4 * (j / first.k * first.n + s.indices[j]), 4);
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

/* Counts are of one call, whatever the calls before left. */
START_TEST(counts_of_each_call) {
    static const int64_t ns[][2] = {{60, 8}, {1300, 40}, {2600, 2500}};
    struct clmoe_topk_params params = {.max_rows = 9,
                                       .n = ns[_i % 3][0],
                                       .k = ns[_i % 3][1],
                                       .outputs = _i < 3 ? CLMOE_TOPK_COUNTS
                                                         : CLMOE_TOPK_COUNTS | CLMOE_TOPK_INDICES};
    struct rng rng = rng_for((uint64_t)(9750 + _i));
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        const int64_t rows[] = {9, 4, 0, 9};
        case_begin("%s counts, n=%lld", params.plan.kernel, (long long)params.n);
        clmoe_plan *plan;
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan))) continue;
        struct guarded counts = guarded_bytes(&rng, CLMOE_U32, 1, &params.n, NULL);
        for (int c = 0; c < 4; c++) {
            struct topk_sample s = topk_sample_filled(&rng, &params, rows[c], FILL_RANDOM);
            struct topk_operands o = topk_operands_new(&rng, &s);
            guarded_free(&o.counts);
            o.counts = counts;
            o.args.counts = counts.tensor;
            if (topk_affordable(params.plan.kernel, &s)) {
                case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
                topk_compare(&s, &o);
            }
            o.counts = (struct guarded){0};
            topk_operands_free(&o);
            topk_sample_free(&s);
        }
        guarded_free(&counts);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

/* The same bytes each time, for any order, and the same whatever the plan's largest number of rows makes of
 * the slabs. */
START_TEST(same_bytes) {
    static const struct {
        int64_t n, k;
        int fill;
    } cases[] = {
        {100, 9, FILL_TIES}, {1500, 60, FILL_TIES}, {1500, 60, FILL_RANDOM}, {2600, 2200, FILL_NAN_INF}};
    struct clmoe_topk_params params = {.n = cases[_i / 2].n,
                                       .k = cases[_i / 2].k,
                                       .order = _i % 2 ? CLMOE_ORDER_ANY : CLMOE_ORDER_SORTED,
                                       .outputs = CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES | CLMOE_TOPK_MASK};
    const int64_t rows = 5, repeats = 100;
    struct rng rng = rng_for((uint64_t)(9760 + _i));
    params.max_rows = rows;
    struct topk_sample s = topk_sample_filled(&rng, &params, rows, cases[_i / 2].fill);
    const size_t size = (size_t)(rows * params.k) * 4;
    char *const first = topk_room((int64_t)size, 1), *const again = topk_room((int64_t)size, 1);
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        for (params.max_rows = rows; params.max_rows;
             params.max_rows = params.max_rows == rows ? 10000000 : 0) {
            case_begin("%s repeats, max_rows=%lld", params.plan.kernel, (long long)params.max_rows);
            clmoe_plan *plan;
            if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan))) continue;
            struct topk_operands o = topk_operands_new(&rng, &s);
            const int times =
                params.max_rows > rows || strcmp(params.plan.kernel, "topk_ref") == 0 ? 2 : (int)repeats;
            for (int i = 0; i < times; i++) {
                case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
                guarded_read(&o.indices, i ? again : first);
                case_require(i == 0 || memcmp(again, first, size) == 0, "run %d differs from the first", i);
            }
            topk_compare(&s, &o);
            topk_operands_free(&o);
            clmoe_plan_destroy(&plan);
        }
    }
    free(first), free(again);
    topk_sample_free(&s);
}
END_TEST

/* Two outputs that alternate, element by element, in one buffer. */
START_TEST(interleaved_outputs) {
    enum { ROWS = 3, N = 40, K = 5 };
    const struct clmoe_topk_params params = {.max_rows = ROWS, .n = N, .k = K};
    struct rng rng = rng_for(9770);
    struct topk_sample s = topk_sample_filled(&rng, &params, ROWS, FILL_RANDOM);
    struct topk_operands o = topk_operands_new(&rng, &s);
    const int64_t shape[3] = {ROWS, K, 2};
    struct guarded both = guarded_bytes(&rng, CLMOE_I32, 3, shape, NULL);
    clmoe_plan *plan;
    case_begin("interleaved outputs");
    case_ok(clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan));
    o.args.values = (struct clmoe_tensor){both.mem, both.tensor.offset, CLMOE_F32, 2, {ROWS, K}, {2 * K, 2}};
    o.args.indices = o.args.values;
    o.args.indices.dtype = CLMOE_I32;
    case_require(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL) == CLMOE_E_INVALID,
                 "two outputs in one place");
    o.args.indices.offset += 4;
    case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
    int32_t got[ROWS * K * 2];
    guarded_read(&both, got);
    for (int j = 0; j < ROWS * K; j++) {
        case_require(got[2 * j + 1] == s.indices[j], "index %d", j);
        case_require(memcmp(&got[2 * j], s.x + 4 * (j / K * N + s.indices[j]), 4) == 0, "value %d", j);
    }
    guarded_free(&both);
    clmoe_plan_destroy(&plan);
    topk_operands_free(&o);
    topk_sample_free(&s);
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
        params.n = (int64_t[]){32000, 8, (int64_t)1 << 31}[i];
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
        {.max_rows = 1, .n = 4, .k = 1, .dtype = CLMOE_U16, .dense_fill.i = -1},
        {.max_rows = 1, .n = 4, .k = 1, .dtype = CLMOE_F64, .dense_scale = 2},
        {.max_rows = 1, .n = 4, .k = 1, .ties = (enum clmoe_ties)2},
        {.max_rows = 1, .n = 4, .k = 1, .index_dtype = CLMOE_U32},
        {.max_rows = 1, .n = 4, .k = 1, .pad = 2},
        {.max_rows = 1, .n = 4, .k = ((int64_t)1 << 31) + 1, .pad = 1},
        {.max_rows = 1, .n = 4, .k = 1, .row_begin = -1},
        {.max_rows = 1, .n = 4, .k = 1, .row_length = 2},
        {.max_rows = 1, .n = 4, .k = 1, .row_k = 2},
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
    enum { N_BAD = 24 };
    struct clmoe_topk_args bad[N_BAD];
    for (int i = 0; i < N_BAD; i++)
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
    bad[12].x.ndim = 1;
    bad[13].x.ndim = 3, bad[13].x.shape[2] = 1, bad[13].x.stride[2] = 1; /* the others have two dimensions */
    bad[14].x.ndim = 3, bad[14].x.shape[2] = 2;                          /* 8 rows */
    bad[15].x.shape[0] = -1;
    bad[16].values.stride[0] = 1; /* rows would overlap */
    bad[17].values.stride[0] = 0;
    bad[18].indices.stride[0] = 4, bad[18].indices.stride[1] = 2; /* 4 * 1 = 2 * 2 */
    bad[19].dense.stride[1] = -1;
    bad[20].row_k = o.row_k.tensor; /* the plan was made without */
    bad[21].cut.mem = NULL;
    bad[22].threshold.stride[0] = 2;
    bad[23].counts = bad[23].cut;
    clmoe_plan *plan;
    case_begin("bad args");
    case_ok(clmoe_topk_plan(tester_context(CAPS_OWN), &params, &plan));
    for (int i = 0; i < N_BAD; i++) {
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
    tcase_add_test(cases, interleaved_outputs);
    if (tester()->small) return;
    tcase_add_test(cases, calls_of_one_plan);
    tcase_add_loop_test(cases, counts_of_each_call, 0, 6);
    tcase_add_loop_test(cases, same_bytes, 0, 8);
    tcase_add_loop_test(cases, out_of_order, 0, 3);
    tcase_add_test(cases, dirty_workspace);
    tcase_add_test(cases, workspace_is_bounded);
}

int main(void) {
    return harness_main("topk_rules", "", add_tests);
}
