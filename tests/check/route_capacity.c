/* SPDX-License-Identifier: MIT
 * route with a capacity of its experts: against the code of Switch and NLLB as it is written there, with
 * cumulative sums over masks, and what holds whatever the order. */
#include "route_case.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { E = 8, MAX_T = 300, MAX_K = 4 };

static int32_t ids[MAX_T * MAX_K];
static float weights[MAX_T * MAX_K], identity[MAX_T];

static void run(struct clmoe_route_params p, const struct ref_route_call *call) {
    struct rng rng = rng_for((uint64_t)p.capacity);
    p.max_tokens = call->tokens;
    p.experts = E;
    case_require(call->tokens <= MAX_T && p.topk <= MAX_K, "MAX_T, MAX_K");
    route_run_call(&rng, p, CAPS_OWN, call, ids, weights, identity);
}

/* A few experts are liked by most tokens. The best logit of a token is its own step above the others, which
 * are the same for all tokens: the best scores of any two tokens are far from equal. */
static void fill_logits(struct rng *rng, float *logits, int tokens) {
    int place[MAX_T];
    for (int t = 0; t < tokens; t++)
        place[t] = t;
    for (int t = 0; t < tokens; t++) {
        const int64_t other = t + rng_below(rng, tokens - t);
        const int step = place[other];
        place[other] = place[t];
        float *const row = logits + t * E;
        for (int e = 0; e < E; e++)
            row[e] = (float)(e - E) / 4;
        for (int e = 0; e < E; e++) {
            const int64_t with = e + rng_below(rng, E - e);
            const float swapped = row[e];
            row[e] = row[with];
            row[with] = swapped;
        }
        row[rng_below(rng, 3) ? rng_below(rng, 2) : rng_below(rng, E)] = 0.5f + (float)step / 64;
    }
}

static void softmax(const float *logits, double *p) {
    double sum = 0;
    for (int e = 0; e < E; e++)
        sum += p[e] = exp((double)logits[e]);
    for (int e = 0; e < E; e++)
        p[e] /= sum;
}

static int argmax(const double *p, int but) {
    int best = but == 0;
    for (int e = 0; e < E; e++)
        if (e != but && p[e] > p[best]) best = e;
    return best;
}

static void expect(int cell, int32_t id, double gamma) {
    case_require(ids[cell] == id, "ids[%d] = %d, expected %d", cell, (int)ids[cell], (int)id);
    case_require(fabs((double)weights[cell] - gamma) <= 2e-6, "gamma[%d] = %.9g, expected %.9g", cell,
                 (double)weights[cell], gamma);
}

/* expert_index * (cumsum(expert_index, dim = -2) <= capacity), of sequences in a batch. */
START_TEST(switch_counts_along_sequences) {
    enum { BATCH = 5, LENGTH = 23, T = BATCH * LENGTH };
    const int capacity = _i ? 1 : 4;
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E];
    fill_logits(&rng, logits, T);
    case_begin("Switch, capacity %d", capacity);
    const struct ref_route_call call = {.tokens = T, .logits = logits};
    run(
        (struct clmoe_route_params){
            .topk = 1, .capacity = capacity, .capacity_tokens = LENGTH, .pass_dropped = 1},
        &call);
    for (int b = 0; b < BATCH; b++) {
        int priority[E] = {0};
        for (int t = b * LENGTH; t < (b + 1) * LENGTH; t++) {
            double p[E];
            softmax(logits + t * E, p);
            const int e = argmax(p, -1);
            const bool kept = ++priority[e] <= capacity;
            expect(t, kept ? e : -1, kept ? p[e] : 0);
            case_require(fabs((double)identity[t] - (kept ? 0 : p[e])) <= 2e-6, "identity_gamma[%d] = %g", t,
                         (double)identity[t]);
        }
    }
}
END_TEST

/* locations1 = cumsum(top_1_mask) - 1, locations2 = cumsum(top_2_mask) - 1 + sum(top_1_mask), of the tokens
 * in the order of their best probability if batch_prioritized_routing; the sum is clamped by eps, of the
 * probabilities before or after dropping. Padding takes no place. */
START_TEST(nllb_counts_second_choices_last) {
    enum { T = 150 };
    const bool prioritized = _i & 1, before = _i & 2, padded = _i & 4;
    const int capacity = 12;
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E];
    double p[T][E];
    uint8_t mask[T];
    int first[T], second[T], order[T], sum1[E] = {0}, count1[E] = {0}, count2[E] = {0};
    fill_logits(&rng, logits, T);
    for (int t = 0; t < T; t++) {
        mask[t] = !padded || rng_below(&rng, 3);
        softmax(logits + t * E, p[t]);
        first[t] = argmax(p[t], -1);
        second[t] = argmax(p[t], first[t]);
        sum1[first[t]] += mask[t];
        int at = t; /* insertion by importance */
        for (; prioritized && at > 0 && p[order[at - 1]][first[order[at - 1]]] < p[t][first[t]]; at--)
            order[at] = order[at - 1];
        order[at] = t;
    }
    case_begin("NLLB, prioritized %d, normalised before %d, padded %d", prioritized, before, padded);
    const struct ref_route_call call = {.tokens = T, .logits = logits, .token_mask = padded ? mask : NULL};
    run(
        (struct clmoe_route_params){
            .topk = 2,
            .renorm = CLMOE_RENORM_CLAMP,
            .renorm_eps = FLT_EPSILON,
            .capacity = capacity,
            .capacity_order = prioritized ? CLMOE_CAPACITY_SLOT_BEST : CLMOE_CAPACITY_SLOT,
            .renorm_kept = !before,
            .token_mask = padded,
        },
        &call);
    for (int i = 0; i < T; i++) {
        const int t = order[i], a = first[t], b = second[t];
        const bool keep1 = mask[t] && count1[a]++ < capacity;
        const bool keep2 = mask[t] && sum1[b] + count2[b]++ < capacity;
        const double sum = (keep1 || before ? p[t][a] : 0) + (keep2 || before ? p[t][b] : 0);
        const double by = fmax(sum, (double)FLT_EPSILON);
        expect(2 * t, keep1 ? a : -1, keep1 ? p[t][a] / by : 0);
        expect(2 * t + 1, keep2 ? b : -1, keep2 ? p[t][b] / by : 0);
    }
}
END_TEST

static void count_pairs(int cells, int *count) {
    memset(count, 0, E * sizeof *count);
    for (int c = 0; c < cells; c++)
        if (ids[c] >= 0) count[ids[c]]++;
}

/* Each expert keeps as many pairs as it has room for, never more, and with less room a part of those. */
START_TEST(experts_fill_up) {
    enum { T = 97, K = 3 };
    static const int capacities[] = {T * K, 40, 39, 5, 1};
    const struct clmoe_route_params p = {.score = CLMOE_SCORE_SIGMOID,
                                         .topk = K,
                                         .capacity = 7,
                                         .capacity_order = (enum clmoe_capacity_order)_i};
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E];
    int32_t larger[T * K];
    int all[E], count[E];
    fill_logits(&rng, logits, T);
    for (int i = 0; i < 5; i++) {
        const struct ref_route_call call = {.tokens = T, .logits = logits, .capacity = capacities[i]};
        case_begin("order %d, capacity %d", _i, capacities[i]);
        run(p, &call);
        count_pairs(T * K, count);
        if (i == 0) memcpy(all, count, sizeof all), memcpy(larger, ids, sizeof larger);
        for (int e = 0; e < E; e++)
            case_require(count[e] == (all[e] < capacities[i] ? all[e] : capacities[i]),
                         "expert %d has %d of %d pairs", e, count[e], all[e]);
        for (int c = 0; c < T * K; c++)
            case_require(ids[c] < 0 || ids[c] == larger[c], "pair %d came with less room", c);
        memcpy(larger, ids, sizeof larger);
    }
}
END_TEST

/* Tokens that come later, or with worse scores, push nobody out. */
START_TEST(the_first_in_order_stay) {
    enum { T = 200, K = 2, HALF = T / 2 };
    const struct clmoe_route_params p = {.topk = K, .score = CLMOE_SCORE_SIGMOID, .capacity = 9};
    struct rng rng = rng_for(1);
    float logits[T * E];
    int32_t alone[HALF * K];
    fill_logits(&rng, logits, T);
    struct ref_route_call call = {.tokens = HALF, .logits = logits};
    case_begin("the first half");
    run(p, &call);
    memcpy(alone, ids, sizeof alone);
    call.tokens = T;
    case_begin("both halves");
    run(p, &call);
    for (int c = 0; c < HALF * K; c++)
        case_require(ids[c] == alone[c], "pair %d: %d, alone %d", c, (int)ids[c], (int)alone[c]);
    struct clmoe_route_params by_score = p;
    by_score.capacity_order = CLMOE_CAPACITY_SCORE;
    case_begin("by score");
    run(by_score, &call);
    for (int e = 0; e < E; e++) {
        double worst_kept = INFINITY, best_dropped = -INFINITY;
        for (int t = 0; t < T; t++) {
            double row[E];
            for (int f = 0; f < E; f++)
                row[f] = (double)logits[t * E + f];
            const int chosen[] = {argmax(row, -1), argmax(row, argmax(row, -1))};
            for (int j = 0; j < K; j++) {
                if (chosen[j] != e) continue;
                if (ids[t * K + j] == e)
                    worst_kept = fmin(worst_kept, row[e]);
                else
                    best_dropped = fmax(best_dropped, row[e]);
            }
        }
        case_require(worst_kept >= best_dropped, "expert %d keeps %g, drops %g", e, worst_kept, best_dropped);
    }
}
END_TEST

/* Sequences in one call are what calls of one sequence each are. On simulators less than 128 pairs: oclgrind
 * 21.10 takes bytes of a workspace from the 128th on for uninitialised, even right after a kernel wrote them.
 */
START_TEST(sequences_do_not_see_each_other) {
    enum { LENGTH = 70, N = 3, T = LENGTH * N - 7, K = 2 };
    const int tokens = tester()->small ? LENGTH + 20 : T, k = tester()->small ? 1 : K;
    struct clmoe_route_params p = {.topk = k,
                                   .score = CLMOE_SCORE_SIGMOID,
                                   .capacity = 5,
                                   .capacity_order = (enum clmoe_capacity_order)_i,
                                   .capacity_tokens = LENGTH};
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E];
    int32_t together[T * K];
    fill_logits(&rng, logits, tokens);
    case_begin("order %d, together", _i);
    const struct ref_route_call all = {.tokens = tokens, .logits = logits};
    run(p, &all);
    memcpy(together, ids, (size_t)(tokens * k) * sizeof *ids);
    p.capacity_tokens = 0;
    for (int first = 0; first < tokens; first += LENGTH) { /* the last one is shorter */
        const int n = tokens - first < LENGTH ? tokens - first : LENGTH;
        const struct ref_route_call one = {.tokens = n, .logits = logits + first * E};
        case_begin("order %d, the sequence from token %d on", _i, first);
        run(p, &one);
        case_require(memcmp(ids, together + first * k, (size_t)(n * k) * sizeof *ids) == 0, "ids differ");
    }
}
END_TEST

/* Sequences of any length: that of a call ends where its tokens do. */
START_TEST(sequences_may_outlast_the_call) {
    enum { T = 50 };
    static const int64_t lengths[] = {T, T + 1, INT64_MAX - T, INT64_MAX};
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E];
    fill_logits(&rng, logits, T);
    const struct ref_route_call call = {.tokens = T, .logits = logits};
    case_begin("sequences of %lld", (long long)lengths[_i]);
    run((struct clmoe_route_params){.topk = 1, .capacity = 3, .capacity_tokens = lengths[_i]}, &call);
    int count[E];
    count_pairs(T, count);
    for (int e = 0; e < E; e++)
        case_require(count[e] <= 3, "expert %d has %d pairs", e, count[e]);
}
END_TEST

static void add_tests(TCase *cases) {
    const bool small = tester()->small;
    if (!small) tcase_add_loop_test(cases, switch_counts_along_sequences, 0, 2);
    if (!small) tcase_add_loop_test(cases, nllb_counts_second_choices_last, 0, 8);
    if (!small) tcase_add_loop_test(cases, experts_fill_up, 0, 4);
    if (!small) tcase_add_test(cases, the_first_in_order_stay);
    tcase_add_loop_test(cases, sequences_do_not_see_each_other, 0, 4);
    if (!small) tcase_add_loop_test(cases, sequences_may_outlast_the_call, 0, 4);
}

int main(void) {
    return harness_main("route_capacity", "route", add_tests);
}
