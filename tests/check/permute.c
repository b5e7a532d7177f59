/* SPDX-License-Identifier: MIT
 * permute: every row of its table against ref_permute, which must match exactly. */
#include "harness.h"
#include "ref/permute.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    int64_t tokens;
    int k;
} sizes[] = {{0, 2},  {1, 1},   {1, 8},    {9, 7},   {16, 4},   {13, 5},    {64, 1},
             {1, 65}, {125, 8}, {1250, 4}, {512, 8}, {4097, 1}, {11667, 6}, {70000, 1}};
static const int experts[] = {1, 2, 8, 60, 128, 256, 1000, 4096};

enum { N_SIZES = sizeof sizes / sizeof *sizes, N_EXPERTS = sizeof experts / sizeof *experts };
enum { N_CASES = N_SIZES * N_EXPERTS * ROUTING_COUNT, SMALL_SIZES = 7, SMALL_EXPERTS = 4 };

static void *room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

struct expected {
    int32_t *ids, *counts, *offsets, *order, *inverse;
};

static struct expected make_expected(struct rng *rng, enum routing_fill fill, int64_t tokens, int k,
                                     int n_experts) {
    const int64_t pairs = tokens * k;
    struct expected s = {room(pairs, 4), room(n_experts, 4), room(n_experts + 1, 4), room(pairs, 4),
                         room(pairs, 4)};
    fill_ids(rng, fill, s.ids, tokens, k, n_experts);
    for (int64_t p = 0; fill == ROUTING_SKIPS && p < pairs; p += 5)
        s.ids[p] = (int32_t[]){INT32_MIN, INT32_MAX, n_experts + 7, -2}[rng_below(rng, 4)];
    ref_permute(pairs, n_experts, s.ids, s.counts, s.offsets, s.order, s.inverse);
    return s;
}

static void free_expected(struct expected *s) {
    free(s->ids), free(s->counts), free(s->offsets), free(s->order), free(s->inverse);
}

static void same(const struct guarded *g, const int32_t *want, int64_t n, const char *what) {
    int32_t *const got = room(g->tensor.shape[1], 4);
    guarded_read(g, got);
    for (int64_t i = 0; i < n; i++)
        case_require(got[i] == want[i], "%s[%lld] = %d, expected %d", what, (long long)i, (int)got[i],
                     (int)want[i]);
    for (int64_t i = n; i < g->tensor.shape[1]; i++)
        case_require((uint32_t)got[i] == 0xa5a5a5a5u, "%s[%lld] past the pairs was written", what,
                     (long long)i);
    free(got);
}

struct buffers {
    struct guarded ids, counts, offsets, order, inverse;
    struct clmoe_permute_args args;
};

/* `extra`: elements of order and inverse past the pairs of the call. */
static struct buffers make_buffers(struct rng *rng, const struct expected *s, int64_t tokens, int k,
                                   int n_experts, int64_t extra, bool inverse) {
    struct buffers b = {
        .ids = guarded_ints(rng, CLMOE_I32, tokens, k, s->ids),
        .counts = guarded_ints(rng, CLMOE_I32, 1, n_experts, NULL),
        .offsets = guarded_ints(rng, CLMOE_I32, 1, n_experts + 1, NULL),
        .order = guarded_ints(rng, CLMOE_I32, 1, tokens * k + extra, NULL),
        .inverse = guarded_ints(rng, CLMOE_I32, 1, tokens * k + extra, NULL),
    };
    b.args = (struct clmoe_permute_args){.ids = b.ids.tensor,
                                         .counts = as_1d(&b.counts),
                                         .offsets = as_1d(&b.offsets),
                                         .order = as_1d(&b.order)};
    if (inverse) b.args.inverse = as_1d(&b.inverse);
    return b;
}

static void compare(struct buffers *b, const struct expected *s, int64_t pairs) {
    same(&b->counts, s->counts, b->counts.tensor.shape[1], "counts");
    same(&b->offsets, s->offsets, b->offsets.tensor.shape[1], "offsets");
    same(&b->order, s->order, pairs, "order");
    same(&b->inverse, s->inverse, b->args.inverse.mem ? pairs : 0, "inverse");
    guarded_read(&b->ids, NULL);
}

static void free_buffers(struct buffers *b) {
    guarded_free(&b->ids), guarded_free(&b->counts), guarded_free(&b->offsets);
    guarded_free(&b->order), guarded_free(&b->inverse);
}

START_TEST(against_reference) {
    const int n_sizes = tester()->small ? SMALL_SIZES : N_SIZES;
    const int size = _i % n_sizes, e = _i / n_sizes / ROUTING_COUNT;
    const enum routing_fill fill = (enum routing_fill)(_i / n_sizes % ROUTING_COUNT);
    const enum forced_caps caps = (enum forced_caps)((_i + _i / n_sizes) % CAPS_COUNT);
    const int64_t tokens = sizes[size].tokens, pairs = tokens * sizes[size].k;
    struct rng rng = rng_for((uint64_t)_i);
    struct clmoe_permute_params params = {
        .max_tokens = tokens + _i % 3, .topk = sizes[size].k, .experts = experts[e]};
    struct expected s = make_expected(&rng, fill, tokens, params.topk, params.experts);
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("permute", row)); row++) {
        case_begin("%s T=%lld k=%d E=%d routing %d caps %s", params.plan.kernel, (long long)tokens,
                   params.topk, params.experts, (int)fill, caps_name(caps));
        clmoe_plan *plan;
        if (!row_fits("permute", row, clmoe_permute_plan(tester_context(caps), &params, &plan))) continue;
        struct buffers b =
            make_buffers(&rng, &s, tokens, params.topk, params.experts, _i % 4, (_i + row) % 3 != 0);
        case_ok(clmoe_permute_enqueue(plan, tester()->queue, &b.args, 0, NULL, NULL));
        compare(&b, &s, pairs);
        free_buffers(&b);
        clmoe_plan_destroy(&plan);
    }
    free_expected(&s);
}
END_TEST

/* One plan, calls of many sizes, each behind the one before on the out-of-order queue; the last call has no
 * pairs. The second plan is for more pairs than one work-group sorts. */
START_TEST(smaller_calls) {
    static const int64_t calls[] = {1100, 1024, 1, 300, 0}, most[] = {1100, 1400};
    enum { K = 3, E = 60, N = sizeof calls / sizeof *calls };
    const int first = tester()->small ? 2 : 0;
    struct clmoe_permute_params params = {.max_tokens = most[_i], .topk = K, .experts = E};
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("permute", row)); row++) {
        case_begin("%s, calls in a chain, at most %lld tokens", params.plan.kernel, (long long)most[_i]);
        clmoe_plan *plan;
        if (!row_fits("permute", row, clmoe_permute_plan(tester_context(CAPS_OWN), &params, &plan))) continue;
        struct expected s[N];
        struct buffers b[N];
        cl_event done[N];
        for (int i = first; i < N; i++) {
            struct rng rng = rng_for((uint64_t)i);
            s[i] = make_expected(&rng, ROUTING_SKIPS, calls[i], K, E);
            b[i] = make_buffers(&rng, &s[i], calls[i], K, E, 2, true);
            case_ok(clmoe_permute_enqueue(plan, tester()->ooo_queue, &b[i].args, i > first,
                                          i > first ? &done[i - 1] : NULL, &done[i]));
        }
        case_require(clWaitForEvents(1, &done[N - 1]) == CL_SUCCESS, "clWaitForEvents");
        for (int i = first; i < N; i++) {
            clReleaseEvent(done[i]);
            compare(&b[i], &s[i], calls[i] * K);
            free_buffers(&b[i]);
            free_expected(&s[i]);
        }
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

/* More chunks than a work-group has work-items. */
START_TEST(more_chunks_than_work_items) {
    enum { T = 40000, E = 3 };
    struct rng rng = rng_for(1);
    const struct clmoe_context_params small = {.caps.max_work_group = 32};
    const struct clmoe_permute_params params = {
        .plan.kernel = "permute_chunks", .max_tokens = T, .topk = 1, .experts = E};
    clmoe_context *ctx;
    clmoe_plan *plan;
    case_begin("permute_chunks by work-groups of 32");
    case_ok(clmoe_context_create(tester()->context, tester()->device, &small, &ctx));
    case_ok(clmoe_permute_plan(ctx, &params, &plan));
    struct expected s = make_expected(&rng, ROUTING_SKIPS, T, 1, E);
    struct buffers b = make_buffers(&rng, &s, T, 1, E, 0, true);
    case_ok(clmoe_permute_enqueue(plan, tester()->queue, &b.args, 0, NULL, NULL));
    compare(&b, &s, T);
    free_buffers(&b);
    free_expected(&s);
    clmoe_plan_destroy(&plan);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* The table of permute_chunks stays moderate however many pairs there are, and row 0 is not chosen for
 * them. */
START_TEST(workspace_is_bounded) {
    static const int64_t tokens[] = {1, 1000, 70000, 1 << 20, 1 << 24, INT32_MAX};
    for (int i = 0; i < N_EXPERTS * (int)(sizeof tokens / sizeof *tokens); i++) {
        const int64_t pairs = tokens[i / N_EXPERTS];
        case_begin("T=%lld E=%d", (long long)pairs, experts[i % N_EXPERTS]);
        const struct clmoe_permute_params params = {
            .plan = {.kernel = "permute_chunks", .external_workspace = 1},
            .max_tokens = pairs,
            .topk = 1,
            .experts = experts[i % N_EXPERTS]};
        clmoe_plan *plan;
        const enum clmoe_status status = clmoe_permute_plan(tester_context(CAPS_OWN), &params, &plan);
        if (status == CLMOE_E_UNSUPPORTED) continue; /* not enough local memory */
        case_ok(status);
        const uint64_t bytes = clmoe_plan_workspace_size(plan);
        const uint64_t cells = (uint64_t)pairs + 2 * (uint64_t)params.experts + 16; /* rows have room */
        case_require(bytes <= 4 * cells, "%llu bytes for %llu pairs", (unsigned long long)bytes,
                     (unsigned long long)pairs);
        case_require(bytes <= 16u << 20, "%llu bytes", (unsigned long long)bytes);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

START_TEST(bad_params) {
    static const struct clmoe_permute_params bad[] = {
        {.max_tokens = -1, .topk = 1, .experts = 1},
        {.max_tokens = 1, .topk = 0, .experts = 1},
        {.max_tokens = 1, .topk = 4097, .experts = 1},
        {.max_tokens = 1, .topk = 1, .experts = 0},
        {.max_tokens = 1, .topk = 1, .experts = 4097},
        {.max_tokens = 1 << 30, .topk = 2, .experts = 1},
        {.max_tokens = INT64_MAX, .topk = 4096, .experts = 1},
    };
    case_begin("params %d", _i);
    clmoe_plan *plan = (clmoe_plan *)1;
    const enum clmoe_status status = clmoe_permute_plan(tester_context(CAPS_OWN), &bad[_i], &plan);
    case_require(status == CLMOE_E_INVALID && !plan, "%s", clmoe_status_name(status));
    case_require(*tester_log(), "no message");
}
END_TEST
enum { N_BAD_PARAMS = 7 };

static void spoil(struct clmoe_permute_args *a, int how) {
    switch (how) {
    case 0: a->ids.shape[0] = 6; break;           /* more tokens than the plan has */
    case 1: a->ids.shape[1] = 4; break;           /* another k */
    case 2: a->counts.shape[0] = 8; break;        /* another E */
    case 3: a->offsets.shape[0] = 9; break;       /* E, not E + 1 */
    case 4: a->order.shape[0] = 14; break;        /* shorter than the pairs */
    case 5: a->inverse.shape[0] = 14; break;      /* the same */
    case 6: a->order = a->inverse; break;         /* two outputs in one place */
    case 7: a->order.mem = NULL; break;           /* required */
    case 8: a->counts.dtype = CLMOE_F32; break;   /* not I32 */
    case 9: a->order.ndim = 2; break;             /* not one-dimensional */
    case 10: a->ids.stride[1] = 2; break;         /* last stride not 1 */
    case 11: a->inverse.offset += 1 << 20; break; /* past the end of the buffer */
    default: a->order.stride[0] = 2; break;       /* last stride not 1 */
    }
}
enum { N_BAD_ARGS = 13 };

START_TEST(bad_args) {
    struct rng rng = rng_for((uint64_t)_i);
    const struct clmoe_permute_params params = {.max_tokens = 5, .topk = 3, .experts = 9};
    case_begin("args %d", _i);
    clmoe_plan *plan;
    case_ok(clmoe_permute_plan(tester_context(CAPS_OWN), &params, &plan));
    struct expected s = make_expected(&rng, ROUTING_RANDOM, 5, 3, 9);
    struct buffers b = make_buffers(&rng, &s, 5, 3, 9, 0, true);
    struct clmoe_permute_args args = b.args;
    spoil(&args, _i);
    cl_event event = (cl_event)1;
    const enum clmoe_status status = clmoe_permute_enqueue(plan, tester()->queue, &args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID && !event, "%s", clmoe_status_name(status));
    case_require(*tester_log(), "no message");
    memset(s.counts, 0xa5, 9 * sizeof *s.counts);
    same(&b.counts, s.counts, 9, "counts of a refused call");
    free_buffers(&b);
    free_expected(&s);
    clmoe_plan_destroy(&plan);
}
END_TEST

static void add_tests(TCase *cases) {
    const int small = SMALL_SIZES * SMALL_EXPERTS * ROUTING_COUNT;
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? small : N_CASES);
    tcase_add_loop_test(cases, smaller_calls, 0, 2);
    tcase_add_test(cases, more_chunks_than_work_items);
    tcase_add_test(cases, workspace_is_bounded);
    tcase_add_loop_test(cases, bad_params, 0, N_BAD_PARAMS);
    tcase_add_loop_test(cases, bad_args, 0, N_BAD_ARGS);
}

int main(void) {
    return harness_main("permute", "permute", add_tests);
}
