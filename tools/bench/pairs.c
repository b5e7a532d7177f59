/* SPDX-License-Identifier: MIT */
#include "pairs.h"

#include "io/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* About normal, of deviation 1: the sum of four uniform numbers. */
static float about_normal(uint64_t bits) {
    const uint32_t sum = (uint32_t)(bits & 0xffff) + (uint32_t)(bits >> 16 & 0xffff) +
                         (uint32_t)(bits >> 32 & 0xffff) + (uint32_t)(bits >> 48);
    return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
}

/* Ranks 1..n in random order. */
static void shuffle_ranks(int32_t *rank, int32_t n, uint64_t *state) {
    for (int32_t i = 0; i < n; i++) {
        const int32_t j = (int32_t)(next_random(state) % (uint64_t)(i + 1));
        rank[i] = rank[j];
        rank[j] = i + 1;
    }
}

/* Random experts, or such that an expert is chosen about as often as 1 / its rank: with Gumbel noise the
 * largest k of log p are a draw by p without replacement. */
static bool draw(const struct settings *s, float *logits) {
    const int32_t experts = s->shape.experts;
    const uint64_t further = (uint64_t)s->draw << 40;
    uint64_t state = 20240607u + (uint64_t)s->tokens;
    if (!s->zipf) {
        state += further;
        for (int64_t i = 0; i < s->tokens * experts; i++)
            logits[i] = about_normal(next_random(&state));
        return true;
    }
    int32_t *const rank = malloc((size_t)experts * sizeof *rank);
    if (!rank) return false;
    shuffle_ranks(rank, experts, &state);
    state += further;
    for (int64_t i = 0; i < s->tokens * experts; i++) {
        const double u = ((double)(next_random(&state) >> 11) + 0.5) * 0x1p-53;
        logits[i] = (float)(-log((double)rank[i % experts]) - log(-log(u)));
    }
    free(rank);
    return true;
}

static int read_logits(struct bench *b, const struct settings *s, struct array *logits) {
    char path[1024];
    struct io_error error;
    snprintf(path, sizeof path, "%s/%s%s_%lld.npy", s->logits, s->shape.model, s->zipf ? "-zipf" : "",
             (long long)s->tokens);
    if (!npy_load(path, false, logits, &error))
        return command_fail(b->s->usage, EXIT_USAGE, "%s", error.text);
    if (logits->dtype == ARRAY_F32 && logits->ndim == 2 && logits->shape[0] == s->tokens &&
        logits->shape[1] == s->shape.experts)
        return -1;
    command_fail(b->s->usage, EXIT_USAGE, "%s: expected f32 of shape (%lld, %d), got %s of shape %s", path,
                 (long long)s->tokens, (int)s->shape.experts, array_dtype_name(logits->dtype),
                 array_shape_text(logits->ndim, logits->shape).text);
    array_free(logits);
    return EXIT_USAGE;
}

int pairs_check(struct bench *b, const struct settings *s) {
    int code = -1;
    for (int i = 0; s->logits && i < s->n_token_counts && code < 0; i++) {
        struct settings one = *s;
        struct array logits = {0};
        one.tokens = s->token_counts[i];
        code = read_logits(b, &one, &logits);
        array_free(&logits);
    }
    return code;
}

/* p->logits in `dtype`, and the same numbers in f32. */
static int make_logits(struct bench *b, const struct settings *s, enum clmoe_dtype dtype, struct pairs *p,
                       struct array *exact) {
    const enum array_dtype to = dtype == CLMOE_F32 ? ARRAY_F32 : dtype == CLMOE_F16 ? ARRAY_F16 : ARRAY_BF16;
    const int64_t shape[2] = {s->tokens, s->shape.experts};
    struct array drawn = {0};
    struct io_error error = {{0}};
    int code = s->logits ? read_logits(b, s, &drawn) : -1;
    if (code >= 0) return code;
    const bool ok =
        (s->logits || (array_alloc("logits", ARRAY_F32, 2, shape, &drawn, &error) && draw(s, drawn.data))) &&
        array_from_f32("logits", &drawn, to, &p->logits, &error) &&
        array_to_f32("logits", &p->logits, exact, &error);
    array_free(&drawn);
    return ok ? -1 : command_fail(b->s->usage, EXIT_FAILED, "%s", *error.text ? error.text : "out of memory");
}

/* The k largest of n, best first; equal ones by index. */
static void largest(const float *v, int32_t n, int32_t k, int32_t *ids) {
    int32_t have = 0;
    for (int32_t e = 0; e < n; e++) {
        int32_t j = have;
        for (; j > 0 && v[e] > v[ids[j - 1]]; j--)
            if (j < k) ids[j] = ids[j - 1];
        if (j < k) ids[j] = e;
        have += have < k;
    }
}

static void choose(const struct settings *s, const float *logits, struct pairs *p) {
    const int32_t k = s->shape.topk;
    for (int64_t t = 0; t < s->tokens; t++) {
        const float *const v = logits + t * s->shape.experts;
        int32_t *const ids = p->ids + t * k;
        double sum = 0;
        largest(v, s->shape.experts, k, ids);
        for (int32_t j = 0; j < k; j++)
            sum += exp((double)v[ids[j]] - v[ids[0]]);
        for (int32_t j = 0; j < k; j++)
            p->gamma[t * k + j] = (float)(exp((double)v[ids[j]] - v[ids[0]]) / sum);
    }
}

void pairs_sort(const int32_t *ids, int64_t n, int32_t experts, int32_t *counts, int32_t *offsets,
                int32_t *order) {
    memset(counts, 0, (size_t)experts * sizeof *counts);
    for (int64_t p = 0; p < n; p++)
        counts[ids[p]]++;
    offsets[0] = 0;
    for (int32_t e = 0; e < experts; e++)
        offsets[e + 1] = offsets[e] + counts[e];
    for (int64_t p = 0; p < n; p++)
        order[offsets[ids[p]]++] = (int32_t)p;
    for (int32_t e = experts; e > 0; e--)
        offsets[e] = offsets[e - 1];
    offsets[0] = 0;
}

static int upload(struct bench *b, const struct settings *s, struct pairs *p) {
    const int64_t tokens = s->tokens, k = s->shape.topk, pairs = tokens * k, ends = s->shape.experts + 1;
    const struct {
        enum array_dtype dtype;
        int ndim;
        int64_t shape[2];
        void *data;
        struct clmoe_tensor *tensor;
    } arrays[] = {
        {ARRAY_I32, 2, {tokens, k}, p->ids, &p->d_ids},
        {ARRAY_F32, 2, {tokens, k}, p->gamma, &p->d_gamma},
        {ARRAY_I32, 1, {pairs}, p->order, &p->d_order},
        {ARRAY_I32, 1, {ends}, p->offsets, &p->d_offsets},
    };
    int code = session_upload(b->s, &p->logits, &p->d_logits);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && code < 0; i++) {
        struct array array;
        struct io_error error;
        if (!array_view("pairs", arrays[i].dtype, arrays[i].ndim, arrays[i].shape, arrays[i].data, &array,
                        &error))
            return command_fail(b->s->usage, EXIT_FAILED, "%s", error.text);
        code = session_upload(b->s, &array, arrays[i].tensor);
    }
    return code;
}

int pairs_make(struct bench *b, const struct settings *s, enum clmoe_dtype dtype, struct pairs *p) {
    const int32_t experts = s->shape.experts;
    const size_t pairs = (size_t)(s->tokens * s->shape.topk);
    struct array exact = {0};
    *p = (struct pairs){0};
    int code = make_logits(b, s, dtype, p, &exact);
    if (code < 0) {
        p->ids = malloc(pairs * sizeof *p->ids);
        p->gamma = malloc(pairs * sizeof *p->gamma);
        p->order = malloc(pairs * sizeof *p->order);
        p->counts = malloc((size_t)experts * sizeof *p->counts);
        p->offsets = malloc(((size_t)experts + 1) * sizeof *p->offsets);
        if (!p->ids || !p->gamma || !p->order || !p->counts || !p->offsets)
            code = command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    }
    if (code < 0) {
        choose(s, exact.data, p);
        pairs_sort(p->ids, (int64_t)pairs, experts, p->counts, p->offsets, p->order);
        for (int32_t e = 0; e < experts; e++) {
            p->active += p->counts[e] > 0;
            if (p->counts[e] > p->most) p->most = p->counts[e];
        }
        code = upload(b, s, p);
    }
    array_free(&exact);
    if (code >= 0) pairs_free(p);
    return code;
}

void pairs_free(struct pairs *p) {
    struct clmoe_tensor *const tensors[] = {&p->d_logits, &p->d_ids, &p->d_gamma, &p->d_order, &p->d_offsets};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        session_release(tensors[i]);
    array_free(&p->logits);
    free(p->ids);
    free(p->gamma);
    free(p->order);
    free(p->counts);
    free(p->offsets);
    *p = (struct pairs){0};
}

bool pairs_are_few(const struct bench *b, const struct settings *s) {
    const int64_t pairs = s->tokens * s->shape.topk;
    const bool wide = s->dtype == CLMOE_BF16 || s->dtype == CLMOE_F16 ||
                      (s->dtype == CLMOE_F8_E4M3 && s->x_dtype != CLMOE_F32);
    const bool coded = s->x_dtype == CLMOE_BF16 && (s->dtype == CLMOE_MXFP4 || s->dtype == CLMOE_F4_E2M1);
    struct clmoe_device_info info;
    clmoe_context_device_info(b->s->ctx, &info);
    if ((wide || coded) && info.features & CLMOE_FEATURE_NV_WGMMA) return s->tokens <= (wide ? 2 : 4);
    return pairs <= s->shape.experts || pairs <= 8;
}
