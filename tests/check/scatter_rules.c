/* SPDX-License-Identifier: MIT
 * scatter: what its params and args may not be. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_MODES = 4 };

static const struct clmoe_scatter_params good = {.max_rows = 4, .n = 8, .k = 2};

static void plan_refused(const char *what, const struct clmoe_scatter_params *params) {
    clmoe_plan *plan = (clmoe_plan *)&good;
    case_begin("%s", what);
    const enum clmoe_status status = clmoe_scatter_plan(tester_context(CAPS_OWN), params, &plan);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!plan && *tester_log(), "the plan is not NULL, or nothing was logged");
}

START_TEST(bad_params) {
    struct clmoe_scatter_params p = good;
#define REFUSED(field, value) (p = good, p.field = (value), plan_refused(#field " = " #value, &p))
    REFUSED(max_rows, -1);
    REFUSED(max_rows, INT64_MAX);
    REFUSED(n, 0);
    REFUSED(n, -5);
    REFUSED(n, ((int64_t)1 << 31) + 1);
    REFUSED(k, -1);
    REFUSED(k, ((int64_t)1 << 31) + 1);
    REFUSED(dtype, CLMOE_Q8_0);
    REFUSED(dtype, (enum clmoe_dtype)99);
    REFUSED(index_dtype, CLMOE_U32);
    REFUSED(index_dtype, (enum clmoe_dtype)99);
    REFUSED(mode, (enum clmoe_scatter_mode)4);
    REFUSED(mode, (enum clmoe_scatter_mode) - 1);
    REFUSED(scale, NAN);
    REFUSED(slot_scale, 2);
    REFUSED(column_scale, -1);
    REFUSED(from_x, 1);
    REFUSED(no_values, 1);
    REFUSED(plan.kernel, "scatter_fast");
#undef REFUSED
    plan_refused("params is NULL", NULL);
}
END_TEST

/* What goes with which mode and which dtype. */
START_TEST(bad_combinations) {
    struct clmoe_scatter_params p;
#define REFUSED(...)                                                                                         \
    (p = (struct clmoe_scatter_params){.max_rows = 4, .n = 8, .k = 2, __VA_ARGS__},                          \
     plan_refused(#__VA_ARGS__, &p))
    REFUSED(.mode = CLMOE_SCATTER_ADD, .dtype = CLMOE_I32);
    REFUSED(.mode = CLMOE_SCATTER_MULTIPLY, .dtype = CLMOE_F64);
    REFUSED(.mode = CLMOE_SCATTER_ADD, .from_x = 2);
    REFUSED(.mode = CLMOE_SCATTER_MULTIPLY, .no_values = -1);
    REFUSED(.mode = CLMOE_SCATTER_MASK, .from_x = 1);
    REFUSED(.mode = CLMOE_SCATTER_MASK, .no_values = 1);
    REFUSED(.dtype = CLMOE_U8, .scale = 2);
    REFUSED(.dtype = CLMOE_F64, .slot_scale = 1);
    REFUSED(.dtype = CLMOE_I64, .mode = CLMOE_SCATTER_MASK, .column_scale = 1);
    REFUSED(.dtype = CLMOE_U8, .fill = {.u = 256});
    REFUSED(.dtype = CLMOE_I8, .fill = {.i = 128});
    REFUSED(.dtype = CLMOE_I16, .fill = {.i = -32769});
    REFUSED(.dtype = CLMOE_U32, .fill = {.u = (uint64_t)1 << 32});
#undef REFUSED
}
END_TEST

/* All that is legal can be planned, and the workspace stays within what the header says. */
START_TEST(sizes_and_workspace) {
    static const int64_t sizes[] = {1, 3, 300, 131072, 5000000, (int64_t)1 << 31};
    enum { N_SIZES = sizeof sizes / sizeof *sizes };
    for (int i = 0; i < N_SIZES * N_SIZES * N_MODES; i++) {
        const enum clmoe_scatter_mode mode = (enum clmoe_scatter_mode)(i / N_SIZES / N_SIZES);
        const struct clmoe_scatter_params p = {.plan.external_workspace = 1,
                                               .max_rows = 3000000,
                                               .n = sizes[i % N_SIZES],
                                               .k = sizes[i / N_SIZES % N_SIZES],
                                               .dtype = mode < CLMOE_SCATTER_ADD ? CLMOE_I64 : CLMOE_BF16,
                                               .mode = mode};
        const uint64_t one_row = ((uint64_t)4 << 20) + 8 * (uint64_t)p.k;
        for (int row = 0; clmoe_kernel_name("scatter", row); row++) {
            struct clmoe_scatter_params forced = p;
            forced.plan.kernel = clmoe_kernel_name("scatter", row);
            case_begin("%s mode %d n = %lld k = %lld", forced.plan.kernel, (int)mode, (long long)p.n,
                       (long long)p.k);
            clmoe_plan *plan;
            if (!row_fits("scatter", row, clmoe_scatter_plan(tester_context(CAPS_OWN), &forced, &plan)))
                continue;
            const uint64_t size = clmoe_plan_workspace_size(plan);
            case_require(size <= (uint64_t)16 << 20 || size <= one_row, "a workspace of %llu bytes",
                         (unsigned long long)size);
            clmoe_plan_destroy(&plan);
        }
    }
}
END_TEST

struct buffers {
    struct guarded ids, values, x, slot_scale, column_scale, y;
};

static struct buffers make_buffers(struct rng *rng, int64_t rows, int64_t n, int64_t k) {
    float ones[64];
    int32_t zeros[64] = {0};
    for (int i = 0; i < 64; i++)
        ones[i] = 1.0f;
    return (struct buffers){
        guarded_ints(rng, CLMOE_I32, rows, k, zeros),  guarded_floats(rng, CLMOE_F32, rows, k, ones),
        guarded_floats(rng, CLMOE_F32, rows, n, ones), guarded_floats(rng, CLMOE_F32, rows, k, ones),
        guarded_floats(rng, CLMOE_F32, 1, n, ones),    guarded_floats(rng, CLMOE_F32, rows, n, NULL),
    };
}

static void free_buffers(struct buffers *b) {
    guarded_free(&b->ids), guarded_free(&b->values), guarded_free(&b->x);
    guarded_free(&b->slot_scale), guarded_free(&b->column_scale), guarded_free(&b->y);
}

static void args_refused(const char *what, clmoe_plan *plan, const struct clmoe_scatter_args *args,
                         const struct guarded *y) {
    case_begin("%s", what);
    cl_event event = (cl_event)plan;
    const enum clmoe_status status = clmoe_scatter_enqueue(plan, tester()->queue, args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!event && *tester_log(), "the event is not NULL, or nothing was logged");
    unsigned char *const now = malloc(y->bytes);
    clEnqueueReadBuffer(tester()->queue, y->mem, CL_TRUE, 0, y->bytes, now, 0, NULL, NULL);
    const bool same = memcmp(now, y->image, y->bytes) == 0;
    free(now);
    case_require(same, "the output was written");
}

/* Each rule on the args, of every mode; MULTIPLY with x and without values. */
START_TEST(bad_args) {
    struct rng rng = rng_for(7003);
    struct buffers b = make_buffers(&rng, 4, 8, 2);
    struct clmoe_scatter_params params = good;
    params.slot_scale = params.column_scale = 1;
    for (int mode = 0; mode < N_MODES; mode++) {
        clmoe_plan *plan;
        params.mode = (enum clmoe_scatter_mode)mode;
        params.from_x = params.no_values = mode == CLMOE_SCATTER_MULTIPLY;
        const bool x = mode == CLMOE_SCATTER_MASK || params.from_x;
        const bool values = mode != CLMOE_SCATTER_MASK && !params.no_values;
        case_begin("plan");
        case_ok(clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plan));
        struct clmoe_scatter_args fine = {.indices = b.ids.tensor,
                                          .slot_scale = b.slot_scale.tensor,
                                          .column_scale = as_1d(&b.column_scale),
                                          .y = b.y.tensor};
        if (x) fine.x = b.x.tensor;
        if (values) fine.values = b.values.tensor;
        struct clmoe_scatter_args a;
#define REFUSED(field, value) (a = fine, a.field = (value), args_refused(#field " = " #value, plan, &a, &b.y))
        REFUSED(indices, (struct clmoe_tensor){0});
        REFUSED(slot_scale, (struct clmoe_tensor){0});
        REFUSED(column_scale, (struct clmoe_tensor){0});
        REFUSED(y, (struct clmoe_tensor){0});
        REFUSED(indices.dtype, CLMOE_F32);
        REFUSED(indices.dtype, CLMOE_I64);
        REFUSED(indices.ndim, 3);
        REFUSED(y.dtype, CLMOE_F16);
        REFUSED(y.ndim, 1);
        REFUSED(y.ndim, 3);
        REFUSED(y.shape[0], 5);
        REFUSED(y.shape[0], -1);
        REFUSED(y.shape[1], 9);
        REFUSED(y.stride[1], 0);
        REFUSED(y.stride[1], -1);
        REFUSED(y.stride[0], 7);
        REFUSED(y.offset, 2);
        REFUSED(indices.shape[1], 3);
        REFUSED(indices.offset, (uint64_t)1 << 40);
        REFUSED(column_scale.ndim, 2);
        REFUSED(slot_scale, b.y.tensor);
        if (x) {
            REFUSED(x, (struct clmoe_tensor){0});
            a = fine;
            a.x = b.y.tensor;
            a.x.offset += 4;
            args_refused("x overlaps y, but is not the same view", plan, &a, &b.y);
        } else {
            REFUSED(x, b.x.tensor);
        }
        if (values) {
            REFUSED(values, (struct clmoe_tensor){0});
            REFUSED(values.mem, b.y.mem);
        } else {
            REFUSED(values, b.values.tensor);
        }
#undef REFUSED
        clmoe_plan_destroy(&plan);
    }
    free_buffers(&b);
}
END_TEST

/* Rows of three dimensions are counted together. */
START_TEST(bad_rows) {
    struct rng rng = rng_for(7012);
    struct buffers b = make_buffers(&rng, 4, 8, 2);
    clmoe_plan *plan;
    case_begin("plan");
    case_ok(clmoe_scatter_plan(tester_context(CAPS_OWN), &good, &plan));
    struct clmoe_scatter_args a = {.indices = clmoe_tensor_3d(b.ids.mem, CLMOE_I32, 3, 2, 2),
                                   .values = clmoe_tensor_3d(b.values.mem, CLMOE_F32, 3, 2, 2),
                                   .y = clmoe_tensor_3d(b.y.mem, CLMOE_F32, 3, 8, 2)};
    args_refused("6 rows of 4", plan, &a, &b.y);
    a.indices.shape[0] = a.values.shape[0] = a.y.shape[0] = 2;
    a.values.shape[2] = 1;
    args_refused("another inner dimension", plan, &a, &b.y);
    a.values.shape[2] = 2;
    a.y.stride[0] = 16, a.y.stride[1] = 1, a.y.stride[2] = 7;
    args_refused("rows overlap", plan, &a, &b.y);
    clmoe_plan_destroy(&plan);
    free_buffers(&b);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_combinations);
    tcase_add_test(cases, sizes_and_workspace);
    tcase_add_test(cases, bad_args);
    tcase_add_test(cases, bad_rows);
}

int main(void) {
    return harness_main("scatter_rules", "", add_tests);
}
