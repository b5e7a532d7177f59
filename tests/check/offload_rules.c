/* SPDX-License-Identifier: MIT
 * offload: what it refuses and says then, and how objects, plans, queues and contexts go together. */
#include "offload_case.h"

#include <stdlib.h>
#include <string.h>

#define EXPERTS 6

static struct clmoe_moe_params small_layer(void) {
    return (struct clmoe_moe_params){.plan.kernel = "matmul_ref",
                                     .max_tokens = 8,
                                     .experts = EXPERTS,
                                     .topk = 2,
                                     .hidden = 24,
                                     .inter = 8,
                                     .glu = CLMOE_GLU_GATE_UP,
                                     .bias1 = 1,
                                     .source = CLMOE_MOE_IDS};
}

/* A layer of `tokens` with a plan of each kind, and a result to compare with. */
struct rig {
    struct offload_case *c;
    clmoe_plan *resident, *plan;
};

static struct rig rig_make(struct rng *rng, const struct clmoe_moe_params *params, clmoe_context *ctx,
                           int64_t tokens) {
    struct rig r = {.c = offload_case_make(rng, params, tokens)};
    r.resident = offload_case_plan(r.c, ctx, false);
    r.plan = offload_case_plan(r.c, ctx, true);
    offload_case_route(rng, r.c, OFFLOAD_RANDOM);
    offload_case_solve(r.c, r.resident);
    return r;
}

static void rig_free(struct rig *r) {
    clmoe_plan_destroy(&r->resident);
    clmoe_plan_destroy(&r->plan);
    offload_case_free(r->c);
}

static void run(const struct rig *r, clmoe_offload *offload) {
    const struct clmoe_moe_args args = offload_case_args(r->c, offload);
    case_ok(clmoe_moe_enqueue(r->plan, tester()->queue, &args, 0, NULL, NULL));
    offload_case_compare(r->c);
}

static struct clmoe_offload_stats stats_of(const clmoe_offload *offload) {
    struct clmoe_offload_stats s;
    case_ok(clmoe_offload_stats(offload, &s));
    return s;
}

/* ---- what is refused ---- */

static void judge(enum clmoe_status status, const void *handle, const char *part) {
    case_require(status == CLMOE_E_INVALID, "%s, expected CLMOE_E_INVALID", clmoe_status_name(status));
    case_require(handle == NULL, "a handle after a failure");
    const char *const log = tester_log();
    case_require(strstr(log, part) != NULL, "the log says \"%s\", not \"%s\"", log, part);
}
/* The handle is looked at after the call. */
#define refused(call, handle, part)                                                                          \
    do {                                                                                                     \
        const enum clmoe_status refused_status_ = (call);                                                    \
        judge(refused_status_, (handle), (part));                                                            \
    } while (0)

START_TEST(creation_refused) {
    struct rng rng = rng_for(1);
    const struct clmoe_moe_params params = small_layer();
    case_begin("creation refused");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    const struct clmoe_offload_params good = offload_case_params(r.c, r.c->expert_bytes);
    const void *holes[EXPERTS];
    memcpy(holes, good.w2, sizeof holes);
    holes[4] = NULL;
    clmoe_offload *o = (clmoe_offload *)&good;
    ck_assert_int_eq(clmoe_offload_create(r.plan, &good, NULL), CLMOE_E_INVALID);
    ck_assert_int_eq(clmoe_offload_create(NULL, &good, &o), CLMOE_E_INVALID);
    ck_assert_ptr_null(o);
    o = (clmoe_offload *)&good;
    refused(clmoe_offload_create(r.plan, NULL, &o), o, "params is NULL");
    refused(clmoe_offload_create(r.resident, &good, &o), o, "made without offload");
#define REFUSED(change, part)                                                                                \
    do {                                                                                                     \
        struct clmoe_offload_params p = good;                                                                \
        o = (clmoe_offload *)&good;                                                                          \
        change;                                                                                              \
        refused(clmoe_offload_create(r.plan, &p, &o), o, part);                                              \
    } while (0)
    REFUSED(p.budget = 0, "budget = 0, an expert has ");
    REFUSED(p.budget = r.c->expert_bytes - 1, "budget = ");
    REFUSED(p.w1 = NULL, "w1 = ");
    REFUSED(p.w2 = NULL, "w2 = ");
    REFUSED(p.bias1 = NULL, "bias1 = ");
    REFUSED(p.w2 = holes, "w2[4] is NULL");
    REFUSED(p.w1_up = good.w1, "w1_up = ");
    REFUSED(p.w1_scale = good.w1, "w1_scale = ");
    REFUSED(p.w1_scale_up = good.w1, "w1_scale_up = ");
    REFUSED(p.w2_scale = good.w1, "w2_scale = ");
    REFUSED(p.w1_zero = good.w1, "w1_zero = ");
    REFUSED(p.w1_zero_up = good.w1, "w1_zero_up = ");
    REFUSED(p.w2_zero = good.w1, "w2_zero = ");
    REFUSED(p.bias1_up = good.w1, "bias1_up = ");
    REFUSED(p.bias2 = good.w1, "bias2 = ");
#undef REFUSED
    const struct clmoe_combine_params other = {.max_tokens = 1, .topk = 1, .experts = 1, .hidden = 1};
    clmoe_plan *combine;
    case_ok(clmoe_combine_plan(tester_context(CAPS_OWN), &other, &combine));
    refused(clmoe_offload_create(combine, &good, &o), o, "the plan is for combine");
    clmoe_plan_destroy(&combine);
    clmoe_offload_destroy(&o);
    clmoe_offload_destroy(NULL);
    rig_free(&r);
}
END_TEST

START_TEST(plans_refused) {
    struct clmoe_moe_params p = small_layer();
    clmoe_plan *plan;
    case_begin("plans refused");
    p.offload = 1;
    p.experts = 2049;
    refused(clmoe_moe_plan(tester_context(CAPS_OWN), &p, &plan), plan, "experts = 2049 > 2048");
    p = small_layer();
    p.offload = 1;
    p.adapters = (struct clmoe_moe_adapters){.count = 2, .rank = 4, .glu = CLMOE_GLU_GATE_UP};
    refused(clmoe_moe_plan(tester_context(CAPS_OWN), &p, &plan), plan, "adapters.count = 2");
}
END_TEST

START_TEST(calls_refused) {
    struct rng rng = rng_for(2);
    struct clmoe_moe_params params = small_layer();
    case_begin("calls refused");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    params.experts--;
    struct rig fewer = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    params.experts++;
    params.inter += 8;
    struct rig wider = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    struct rig elsewhere = rig_make(&rng, &r.c->params, tester_context(CAPS_PLAIN), 3);
    clmoe_offload *o = offload_case_create(r.c, r.plan, r.c->expert_bytes);
    const struct clmoe_moe_args good = offload_case_args(r.c, o), plain = offload_case_args(r.c, NULL);
#define REFUSED(plan, from, change, part)                                                                    \
    do {                                                                                                     \
        struct clmoe_moe_args a = from;                                                                      \
        cl_event event = (cl_event)&r;                                                                       \
        change;                                                                                              \
        refused(clmoe_moe_enqueue(plan, tester()->queue, &a, 0, NULL, &event), event, part);                 \
    } while (0)
    REFUSED(r.plan, good, a.offload = NULL, "offload = ");
    REFUSED(r.plan, plain, (void)a, "offload = ");
    REFUSED(r.resident, plain, a.offload = o, "made without it");
    REFUSED(r.plan, good, a.w1 = plain.w1, "weights of experts are given");
    REFUSED(r.plan, good, a.w2 = plain.w2, "weights of experts are given");
    REFUSED(r.plan, good, a.w1_up = plain.w2, "weights of experts are given");
    REFUSED(r.plan, good, a.w2_scale = plain.w2, "weights of experts are given");
    REFUSED(r.plan, good, a.w1_zero = plain.w2, "weights of experts are given");
    REFUSED(r.plan, good, a.n_w = 1, "weights of experts are given");
    REFUSED(r.plan, good, a.bias1 = plain.bias1, "bias1");
    REFUSED(fewer.plan, good, (void)a, "offload has 6 experts, the plan 5");
    REFUSED(wider.plan, good, (void)a, "bias.shape[1] = 16, expected 32");
    REFUSED(elsewhere.plan, good, (void)a, "offload belongs to another context");
#undef REFUSED
    ck_assert_uint_eq(stats_of(o).calls, 0);
    run(&r, o);
    clmoe_offload_destroy(&o);
    rig_free(&r), rig_free(&fewer), rig_free(&wider), rig_free(&elsewhere);
}
END_TEST

START_TEST(the_rest_refused) {
    struct rng rng = rng_for(3);
    const struct clmoe_moe_params params = small_layer();
    case_begin("prefetch and stats refused");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    clmoe_offload *o = offload_case_create(r.c, r.plan, 2 * r.c->expert_bytes);
    struct clmoe_offload_stats s;
    const int32_t low[] = {0, -1}, high[] = {EXPERTS};
    ck_assert_int_eq(clmoe_offload_prefetch(NULL, 0, NULL), CLMOE_E_INVALID);
    refused(clmoe_offload_prefetch(o, -1, low), NULL, "n = -1");
    refused(clmoe_offload_prefetch(o, 1, NULL), NULL, "experts is NULL");
    refused(clmoe_offload_prefetch(o, 2, low), NULL, "experts[1] = -1");
    refused(clmoe_offload_prefetch(o, 1, high), NULL, "experts[0] = 6");
    ck_assert_int_eq(clmoe_offload_stats(o, NULL), CLMOE_E_INVALID);
    ck_assert_int_eq(clmoe_offload_stats(NULL, &s), CLMOE_E_INVALID);
    clmoe_offload_clear_stats(NULL);
    ck_assert_uint_eq(stats_of(o).prefetched, 0);
    clmoe_offload_destroy(&o);
    rig_free(&r);
}
END_TEST

/* ---- what goes together ---- */

/* What was prefetched is there, and nothing else has to come. */
START_TEST(prefetched_experts_are_hits) {
    struct rng rng = rng_for(4);
    const struct clmoe_moe_params params = small_layer();
    const enum forced_caps caps = _i ? CAPS_PLAIN : CAPS_OWN;
    static const int32_t wanted[] = {5, 1, 3};
    case_begin("prefetched experts, caps %s", caps_name(caps));
    struct rig r = rig_make(&rng, &params, tester_context(caps), 4);
    clmoe_offload *o = offload_case_create(r.c, r.plan, 3 * r.c->expert_bytes);
    for (int64_t i = 0; i < 8; i++)
        r.c->routing[i] = wanted[i % 3];
    offload_case_put_ids(&rng, r.c);
    offload_case_solve(r.c, r.resident);
    case_ok(clmoe_offload_prefetch(o, 3, wanted));
    case_ok(clmoe_offload_prefetch(o, 3, wanted));
    case_ok(clmoe_offload_prefetch(o, 0, NULL));
    run(&r, o);
    struct clmoe_offload_stats s = stats_of(o);
    ck_assert_uint_eq(s.prefetched, 3);
    ck_assert_uint_eq(s.hits, 3);
    ck_assert_uint_eq(s.misses, 0);
    ck_assert_uint_eq(s.bytes, 3 * s.expert_bytes);
    clmoe_offload_clear_stats(o);
    s = stats_of(o);
    ck_assert_uint_eq(s.calls + s.hits + s.misses + s.prefetched + s.bytes, 0);
    ck_assert_uint_eq(s.expert_bytes, r.c->expert_bytes);
    ck_assert_int_eq(s.slots, 3);
    /* Right behind a call, whose slots must not change under it. */
    for (int i = 0; i < 10; i++) {
        const struct clmoe_moe_args args = offload_case_args(r.c, o);
        const int32_t others[] = {0, 2, 4};
        case_ok(clmoe_moe_enqueue(r.plan, tester()->queue, &args, 0, NULL, NULL));
        case_ok(clmoe_offload_prefetch(o, 3, others));
        offload_case_compare(r.c);
    }
    clmoe_offload_destroy(&o);
    rig_free(&r);
}
END_TEST

/* Pieces of pinned memory: arrays of more than two, and straight copies of the same. */
START_TEST(large_experts) {
    struct rng rng = rng_for(5);
    struct clmoe_moe_params params = small_layer();
    params.experts = 3;
    params.topk = 1;
    params.hidden = 1024;
    params.inter = 1280;
    case_begin("experts of 15 MB, %s", _i ? "pinned" : "in pieces");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_PLAIN), 2);
    r.c->routing[0] = 1, r.c->routing[1] = 0;
    offload_case_put_ids(&rng, r.c);
    offload_case_solve(r.c, r.resident);
    struct clmoe_offload_params p = offload_case_params(r.c, r.c->expert_bytes);
    clmoe_offload *o;
    p.pinned = _i;
    case_ok(clmoe_offload_create(r.plan, &p, &o));
    run(&r, o);
    run(&r, o);
    ck_assert_uint_eq(stats_of(o).misses, 3);
    clmoe_offload_destroy(&o);
    /* The last of several that are still on their way is waited for. */
    p.budget *= 3;
    case_ok(clmoe_offload_create(r.plan, &p, &o));
    r.c->routing[0] = r.c->routing[1] = 2;
    offload_case_put_ids(&rng, r.c);
    offload_case_solve(r.c, r.resident);
    case_ok(clmoe_offload_prefetch(o, 3, (const int32_t[]){0, 1, 2}));
    run(&r, o);
    ck_assert_uint_eq(stats_of(o).misses, 0);
    clmoe_offload_destroy(&o);
    rig_free(&r);
}
END_TEST

/* Layers of a model take turns in one plan, each with its object; and one object serves a second plan. */
START_TEST(layers_and_plans) {
    struct rng rng = rng_for(6);
    struct clmoe_moe_params params = small_layer();
    case_begin("two layers, two plans");
    struct rig a = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    params.max_tokens = 40;
    struct rig b = rig_make(&rng, &params, tester_context(CAPS_OWN), 5);
    clmoe_offload *of_a = offload_case_create(a.c, a.plan, 2 * a.c->expert_bytes);
    clmoe_offload *of_b = offload_case_create(b.c, a.plan, 3 * b.c->expert_bytes);
    for (int i = 0; i < 3; i++) {
        run(&a, of_a);
        run(&b, of_b);
        const struct clmoe_moe_args args = offload_case_args(a.c, of_a);
        case_ok(clmoe_moe_enqueue(b.plan, tester()->queue, &args, 0, NULL, NULL));
        offload_case_compare(a.c);
    }
    clmoe_offload_destroy(&of_a);
    clmoe_offload_destroy(&of_b);
    rig_free(&a), rig_free(&b);
}
END_TEST

/* Plan and object may go while their last call runs, in either order, and before their context. */
START_TEST(destroyed_behind_a_call) {
    struct rng rng = rng_for(7 + (uint64_t)_i);
    const struct clmoe_moe_params params = small_layer();
    clmoe_context *ctx;
    case_begin("destroyed behind a call, order %d", _i);
    case_ok(clmoe_context_create(tester()->context, tester()->device, NULL, &ctx));
    struct rig r = rig_make(&rng, &params, ctx, 8);
    clmoe_offload *o = offload_case_create(r.c, r.plan, r.c->expert_bytes);
    const struct clmoe_moe_args args = offload_case_args(r.c, o);
    if (_i) clmoe_context_destroy(&ctx);
    case_ok(clmoe_moe_enqueue(r.plan, tester()->queue, &args, 0, NULL, NULL));
    if (_i) clmoe_plan_destroy(&r.plan);
    clmoe_offload_destroy(&o);
    ck_assert_ptr_null(o);
    offload_case_compare(r.c);
    rig_free(&r);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* Calls on an out-of-order queue, each behind the event of the one before. */
START_TEST(chained_by_events) {
    struct rng rng = rng_for(9);
    const struct clmoe_moe_params params = small_layer();
    enum { CALLS = 6 };
    case_begin("chained by events");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), 8);
    clmoe_offload *o = offload_case_create(r.c, r.plan, 2 * r.c->expert_bytes);
    const struct clmoe_moe_args args = offload_case_args(r.c, o);
    cl_event events[CALLS];
    for (int i = 0; i < CALLS; i++)
        case_ok(clmoe_moe_enqueue(r.plan, tester()->ooo_queue, &args, i > 0, i ? &events[i - 1] : NULL,
                                  &events[i]));
    ck_assert_int_eq(clWaitForEvents(1, &events[CALLS - 1]), CL_SUCCESS);
    offload_case_compare(r.c);
    for (int i = 0; i < CALLS; i++)
        clReleaseEvent(events[i]);
    clmoe_offload_destroy(&o);
    rig_free(&r);
}
END_TEST

/* No tokens: nothing is read, waited for or counted. */
START_TEST(no_tokens) {
    struct rng rng = rng_for(10);
    const struct clmoe_moe_params params = small_layer();
    case_begin("no tokens");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), 1);
    struct offload_case *const none = offload_case_make(&rng, &params, 0);
    clmoe_offload *o = offload_case_create(r.c, r.plan, r.c->expert_bytes);
    const struct clmoe_moe_args args = offload_case_args(none, o);
    case_ok(clmoe_moe_enqueue(r.plan, tester()->queue, &args, 0, NULL, NULL));
    ck_assert_uint_eq(stats_of(o).calls, 0);
    run(&r, o);
    clmoe_offload_destroy(&o);
    offload_case_free(none);
    rig_free(&r);
}
END_TEST

/* A plan for no tokens makes objects like any other. */
START_TEST(a_plan_for_no_tokens) {
    struct rng rng = rng_for(12);
    struct clmoe_moe_params params = small_layer();
    case_begin("a plan for no tokens");
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), 3);
    params.max_tokens = 0;
    struct offload_case *const none = offload_case_make(&rng, &params, 0);
    clmoe_plan *plan = offload_case_plan(none, tester_context(CAPS_OWN), true);
    clmoe_offload *o = offload_case_create(r.c, plan, r.c->expert_bytes);
    const struct clmoe_moe_args args = offload_case_args(none, o);
    case_ok(clmoe_moe_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    run(&r, o);
    clmoe_offload_destroy(&o);
    clmoe_plan_destroy(&plan);
    offload_case_free(none);
    rig_free(&r);
}
END_TEST

/* ids with any strides: rows apart, all the same one, and overlapping. */
START_TEST(strided_ids) {
    static const int64_t strides[] = {2, 5, 0, 1};
    struct rng rng = rng_for(11 + (uint64_t)_i);
    const struct clmoe_moe_params params = small_layer();
    const int64_t t = 7, shape[] = {t, 2}, stride[] = {strides[_i], 1};
    int32_t dense[14], numbers[8];
    case_begin("ids with a row stride of %d", (int)strides[_i]);
    struct rig r = rig_make(&rng, &params, tester_context(CAPS_OWN), t);
    for (int i = 0; i < 8; i++)
        numbers[i] = (int32_t)rng_below(&rng, EXPERTS + 1) - 1;
    for (int i = 0; i < 14; i++)
        dense[i] = strides[_i] >= 2   ? (int32_t)rng_below(&rng, EXPERTS + 1) - 1
                   : strides[_i] == 1 ? numbers[i / 2 + i % 2]
                                      : numbers[i % 2];
    guarded_free(&r.c->ids);
    r.c->ids = guarded_strided(&rng, CLMOE_I32, 2, shape, stride, dense);
    offload_case_solve(r.c, r.resident);
    clmoe_offload *o = offload_case_create(r.c, r.plan, 2 * r.c->expert_bytes);
    run(&r, o);
    run(&r, o);
    memcpy(r.c->routing, dense, sizeof dense);
    ck_assert_uint_eq(stats_of(o).hits + stats_of(o).misses, (uint64_t)(2 * offload_case_wanted(r.c)));
    clmoe_offload_destroy(&o);
    rig_free(&r);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, creation_refused);
    tcase_add_test(cases, plans_refused);
    tcase_add_test(cases, calls_refused);
    tcase_add_test(cases, the_rest_refused);
    tcase_add_loop_test(cases, prefetched_experts_are_hits, 0, 2);
    tcase_add_test(cases, layers_and_plans);
    tcase_add_loop_test(cases, destroyed_behind_a_call, 0, 2);
    tcase_add_test(cases, chained_by_events);
    tcase_add_test(cases, no_tokens);
    tcase_add_test(cases, a_plan_for_no_tokens);
    tcase_add_loop_test(cases, strided_ids, 0, 4);
    if (tester()->small) return;
    tcase_add_loop_test(cases, large_experts, 0, 2);
}

int main(void) {
    return harness_main("offload_rules", "", add_tests);
}
