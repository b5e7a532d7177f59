/* SPDX-License-Identifier: MIT
 * scatter: what its params and args may not be. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_MODES = 3 };

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
    REFUSED(n, 0);
    REFUSED(n, -5);
    REFUSED(n, (int64_t)1 << 31);
    REFUSED(k, -1);
    REFUSED(k, (int64_t)1 << 31);
    REFUSED(dtype, CLMOE_I32);
    REFUSED(dtype, CLMOE_Q8_0);
    REFUSED(dtype, (enum clmoe_dtype)99);
    REFUSED(mode, (enum clmoe_scatter_mode)3);
    REFUSED(mode, (enum clmoe_scatter_mode) - 1);
    REFUSED(scale, NAN);
    REFUSED(plan.kernel, "scatter_fast");
#undef REFUSED
    plan_refused("params is NULL", NULL);
    p = good;
    p.n = INT32_MAX;
    p.k = INT32_MAX;
    p.scale = INFINITY;
    p.fill = NAN;
    clmoe_plan *plan;
    case_begin("the largest sizes");
    case_ok(clmoe_scatter_plan(tester_context(CAPS_OWN), &p, &plan));
    clmoe_plan_destroy(&plan);
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

/* Each rule on the args of SET and ADD, then of MASK. */
START_TEST(bad_args) {
    struct rng rng = rng_for(7003);
    struct buffers b = make_buffers(&rng, 4, 8, 2);
    struct clmoe_scatter_params params = good;
    params.slot_scale = params.column_scale = 1;
    for (int mode = 0; mode < N_MODES; mode++) {
        clmoe_plan *plan;
        params.mode = (enum clmoe_scatter_mode)mode;
        const bool mask = mode == CLMOE_SCATTER_MASK;
        case_begin("plan");
        case_ok(clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plan));
        struct clmoe_scatter_args fine = {.indices = b.ids.tensor,
                                          .slot_scale = b.slot_scale.tensor,
                                          .column_scale = as_1d(&b.column_scale),
                                          .y = b.y.tensor};
        *(mask ? &fine.x : &fine.values) = mask ? b.x.tensor : b.values.tensor;
        struct clmoe_scatter_args a;
#define REFUSED(field, value) (a = fine, a.field = (value), args_refused(#field " = " #value, plan, &a, &b.y))
        REFUSED(indices, (struct clmoe_tensor){0});
        REFUSED(slot_scale, (struct clmoe_tensor){0});
        REFUSED(column_scale, (struct clmoe_tensor){0});
        REFUSED(y, (struct clmoe_tensor){0});
        REFUSED(indices.dtype, CLMOE_F32);
        REFUSED(y.dtype, CLMOE_F16);
        REFUSED(y.shape[0], 5);
        REFUSED(y.shape[1], 9);
        REFUSED(y.stride[1], 2);
        REFUSED(y.stride[0], 7);
        REFUSED(y.offset, 2);
        REFUSED(indices.shape[1], 3);
        REFUSED(indices.offset, (uint64_t)1 << 40);
        REFUSED(column_scale.ndim, 2);
        REFUSED(slot_scale, b.y.tensor);
        if (mask) {
            REFUSED(x, (struct clmoe_tensor){0});
            REFUSED(values, b.values.tensor);
            a = fine;
            a.x = b.y.tensor;
            a.x.offset += 4;
            args_refused("x overlaps y, but is not the same view", plan, &a, &b.y);
        } else {
            REFUSED(values, (struct clmoe_tensor){0});
            REFUSED(x, b.x.tensor);
            REFUSED(values.mem, b.y.mem);
        }
#undef REFUSED
        clmoe_plan_destroy(&plan);
    }
    free_buffers(&b);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
}

int main(void) {
    return harness_main("scatter_rules", "", add_tests);
}
