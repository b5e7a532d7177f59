/* SPDX-License-Identifier: MIT
 * route with permute_experts: the pairs sorted along the way, whatever the size of a call, and what is
 * refused.
 */
#include "harness.h"
#include "ref/permute.h"

#include <stdlib.h>
#include <string.h>

enum { E = 96, K = 8, MAX = 1100 }; /* calls on both sides of what one work-group sorts */

static const struct {
    const char *name;
    struct clmoe_route_params route;
    int32_t sorted; /* experts */
} settings[] = {
    {"softmax", {.renorm = CLMOE_RENORM_SUM}, E},
    {"sigmoid, bias", {.score = CLMOE_SCORE_SIGMOID, .bias = 1}, E},
    {"half of the experts elsewhere", {.expert_map = 1}, E / 2},
    {"shared slots, padding", {.shared_slots = 2, .valid_tokens = 1}, E + 2},
    {"capacity", {.capacity = 40}, E},
    {"fewer experts sorted than chosen from", {.renorm = CLMOE_RENORM_SUM}, 5},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

struct buffers {
    struct guarded logits, bias, expert_map, valid, ids, gamma, counts, offsets, order, inverse;
    struct clmoe_route_args args;
};

static struct clmoe_route_params params_of(int setting) {
    struct clmoe_route_params p = settings[setting].route;
    p.max_tokens = MAX;
    p.experts = E;
    p.topk = K;
    p.permute_experts = settings[setting].sorted;
    return p;
}

static struct buffers make_buffers(struct rng *rng, const struct clmoe_route_params *p, int64_t tokens) {
    const int64_t slots = p->topk + p->shared_slots, n = p->permute_experts;
    int32_t map[E + 2];
    for (int e = 0; e < E + 2; e++)
        map[e] = e % 2 ? -1 : e / 2;
    const int32_t valid = (int32_t)(tokens - tokens / 4);
    struct buffers b = {
        .logits = guarded_floats(rng, CLMOE_F32, tokens, E, NULL),
        .bias = guarded_floats(rng, CLMOE_F32, 1, E, NULL),
        .expert_map = guarded_ints(rng, CLMOE_I32, 1, E + p->shared_slots, map),
        .valid = guarded_ints(rng, CLMOE_I32, 1, 1, &valid),
        .ids = guarded_ints(rng, CLMOE_I32, tokens, slots, NULL),
        .gamma = guarded_floats(rng, CLMOE_F32, tokens, slots, NULL),
        .counts = guarded_ints(rng, CLMOE_I32, 1, n, NULL),
        .offsets = guarded_ints(rng, CLMOE_I32, 1, n + 1, NULL),
        .order = guarded_ints(rng, CLMOE_I32, 1, tokens * slots + 3, NULL),
        .inverse = guarded_ints(rng, CLMOE_I32, 1, tokens * slots, NULL),
    };
    b.args = (struct clmoe_route_args){
        .logits = b.logits.tensor,
        .ids = b.ids.tensor,
        .gamma = b.gamma.tensor,
        .counts = as_1d(&b.counts),
        .offsets = as_1d(&b.offsets),
        .order = as_1d(&b.order),
    };
    if (tokens % 2 == 0) b.args.inverse = as_1d(&b.inverse);
    if (p->bias) b.args.bias = as_1d(&b.bias);
    if (p->expert_map) b.args.expert_map = as_1d(&b.expert_map);
    if (p->valid_tokens) b.args.valid_tokens = as_1d(&b.valid);
    return b;
}

static void free_buffers(struct buffers *b) {
    struct guarded *const all[] = {&b->logits, &b->bias,   &b->expert_map, &b->valid, &b->ids,
                                   &b->gamma,  &b->counts, &b->offsets,    &b->order, &b->inverse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guarded_free(all[i]);
}

static int32_t *room(int64_t n) {
    int32_t *const p = calloc((size_t)n + 1, sizeof *p);
    if (!p) abort();
    return p;
}

/* `n` elements as wanted, and those behind them as they were. */
static void same(const struct guarded *g, const int32_t *want, int64_t n, const char *what) {
    int32_t *const got = room(g->tensor.shape[1]);
    guarded_read(g, got);
    for (int64_t i = 0; i < g->tensor.shape[1]; i++) {
        const uint32_t expected = i < n ? (uint32_t)want[i] : 0xa5a5a5a5u;
        case_require((uint32_t)got[i] == expected, "%s[%lld] = %d, expected %d", what, (long long)i,
                     (int)got[i], (int)expected);
    }
    free(got);
}

static void judge(const struct buffers *b, int64_t tokens, int64_t slots, int32_t experts) {
    const int64_t pairs = tokens * slots;
    int32_t *const ids = room(pairs), *const counts = room(experts), *const offsets = room(experts + 1);
    int32_t *const order = room(pairs), *const inverse = room(pairs);
    guarded_read(&b->ids, ids);
    ref_permute(pairs, experts, ids, counts, offsets, order, inverse);
    same(&b->counts, counts, experts, "counts");
    same(&b->offsets, offsets, experts + 1, "offsets");
    same(&b->order, order, pairs, "order");
    same(&b->inverse, inverse, b->args.inverse.mem ? pairs : 0, "inverse");
    free(ids), free(counts), free(offsets), free(order), free(inverse);
}

/* Of one plan, and on one queue right behind each other. */
START_TEST(calls_of_any_size) {
    static const int64_t calls[] = {5, 512, 0, 1, MAX, 410, 64};
    enum { N = sizeof calls / sizeof *calls };
    const int n = tester()->small ? 4 : N, first = tester()->small ? 2 : 0;
    struct clmoe_route_params p = params_of(_i);
    for (int row = 0; (p.plan.kernel = clmoe_kernel_name("route", row)); row++) {
        struct rng rng = rng_for((uint64_t)_i);
        case_begin("%s: %s", settings[_i].name, p.plan.kernel);
        clmoe_plan *plan;
        if (!row_fits("route", row, clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan))) continue;
        struct buffers b[N];
        for (int i = first; i < n; i++) {
            b[i] = make_buffers(&rng, &p, calls[i]);
            case_ok(clmoe_route_enqueue(plan, tester()->queue, &b[i].args, 0, NULL, NULL));
        }
        for (int i = first; i < n; i++) {
            case_begin("%s: %s T=%lld", settings[_i].name, p.plan.kernel, (long long)calls[i]);
            judge(&b[i], calls[i], p.topk + p.shared_slots, p.permute_experts);
            free_buffers(&b[i]);
        }
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

START_TEST(bad_params) {
    static const struct clmoe_route_params bad[] = {
        {.max_tokens = 4, .experts = 8, .topk = 2, .permute_experts = -1},
        {.max_tokens = 4, .experts = 8, .topk = 2, .permute_experts = 4097},
        {.max_tokens = 4, .experts = 8, .permute_experts = 8},
        {.max_tokens = 1 << 30, .experts = 8, .topk = 2, .permute_experts = 8},
        {.max_tokens = 4, .experts = 8, .topk = 2, .permute_experts = 8, .plan.kernel = "matmul_ref"},
    };
    case_begin("params %d", _i);
    clmoe_plan *plan = (clmoe_plan *)1;
    const enum clmoe_status status = clmoe_route_plan(tester_context(CAPS_OWN), &bad[_i], &plan);
    case_require(status == CLMOE_E_INVALID && !plan && *tester_log(), "%s", clmoe_status_name(status));
}
END_TEST
enum { N_BAD_PARAMS = 5 };

/* Refused before anything is written, the ids included. */
START_TEST(bad_args) {
    struct rng rng = rng_for(7);
    const struct clmoe_route_params p = params_of(0);
    clmoe_plan *plan;
    case_begin("plan");
    case_ok(clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan));
    struct buffers b = make_buffers(&rng, &p, 6);
#define REFUSED(change)                                                                                      \
    do {                                                                                                     \
        struct clmoe_route_args a = b.args;                                                                  \
        cl_event event = (cl_event)&a;                                                                       \
        case_begin("%s", #change);                                                                           \
        a.change;                                                                                            \
        const enum clmoe_status status = clmoe_route_enqueue(plan, tester()->queue, &a, 0, NULL, &event);    \
        case_require(status == CLMOE_E_INVALID && !event && *tester_log(), "%s", clmoe_status_name(status)); \
    } while (0)
    REFUSED(counts = (struct clmoe_tensor){0});
    REFUSED(offsets.mem = NULL);
    REFUSED(order.mem = NULL);
    REFUSED(order.shape[0] = 6 * K - 1);
    REFUSED(inverse.shape[0] = 6 * K - 1);
    REFUSED(counts.shape[0] = E + 1);
    REFUSED(offsets.shape[0] = E);
    REFUSED(offsets.dtype = CLMOE_F32);
    REFUSED(order = b.args.inverse);
    REFUSED(order = as_1d(&b.logits));
    REFUSED(counts.mem = b.args.gamma.mem);
#undef REFUSED
    int32_t *const untouched = room(6 * K);
    memset(untouched, 0xa5, 6 * K * sizeof *untouched);
    int32_t *const ids = room(6 * K);
    guarded_read(&b.ids, ids);
    case_require(memcmp(ids, untouched, 6 * K * sizeof *ids) == 0, "ids of a refused call");
    free(ids), free(untouched);
    free_buffers(&b);
    clmoe_plan_destroy(&plan);
}
END_TEST

/* Outputs of sorting are no arguments of a plan that does not sort. */
START_TEST(not_asked_for) {
    struct rng rng = rng_for(8);
    struct clmoe_route_params p = params_of(0);
    clmoe_plan *plan;
    struct buffers b = make_buffers(&rng, &p, 6);
    p.permute_experts = 0;
    case_begin("no permute_experts");
    case_ok(clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan));
    const enum clmoe_status status = clmoe_route_enqueue(plan, tester()->queue, &b.args, 0, NULL, NULL);
    case_require(status == CLMOE_E_INVALID && *tester_log(), "%s", clmoe_status_name(status));
    free_buffers(&b);
    clmoe_plan_destroy(&plan);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, calls_of_any_size, 0, tester()->small ? 4 : N_SETTINGS);
    tcase_add_loop_test(cases, bad_params, 0, N_BAD_PARAMS);
    tcase_add_test(cases, bad_args);
    tcase_add_test(cases, not_asked_for);
}

int main(void) {
    return harness_main("route_sort", "route", add_tests);
}
