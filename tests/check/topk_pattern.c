/* SPDX-License-Identifier: MIT
 * Inputs of topk by name. */
#include "topk_pattern.h"

#include "ref/convert.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int base; /* of the argument; 0: it has none */
} patterns[PATTERN_COUNT] = {
    [PATTERN_UNIFORM] = {"uniform", 0},
    [PATTERN_NORMAL] = {"normal", 0},
    [PATTERN_INFS] = {"infs", 10},
    [PATTERN_NANS] = {"nans", 10},
    [PATTERN_IOTA] = {"iota", 0},
    [PATTERN_DESCENDING] = {"descending", 0},
    [PATTERN_SHUFFLED] = {"shuffled", 0},
    [PATTERN_SHUFFLED_TIES] = {"shuffled_ties", 0},
    [PATTERN_MOD] = {"mod", 10},
    [PATTERN_MIXED] = {"mixed", 0},
    [PATTERN_CONSTANT] = {"constant", 0},
    [PATTERN_ZERO] = {"zero", 0},
    [PATTERN_BITS] = {"bits", 0},
    [PATTERN_AND] = {"and", 10},
    [PATTERN_RAMP] = {"ramp", 16},
    [PATTERN_10LSB] = {"10lsb", 0},
    [PATTERN_LOWEST] = {"lowest", 0},
    [PATTERN_ONE_BETTER] = {"one_better", 0},
    [PATTERN_ONE_WORSE] = {"one_worse", 0},
    [PATTERN_ASCENDING] = {"ascending", 0},
    [PATTERN_FALLING] = {"falling", 0},
    [PATTERN_CLUSTERED] = {"clustered", 0},
    [PATTERN_PERIODIC] = {"periodic", 10},
    [PATTERN_STRIPED] = {"striped", 10},
    [PATTERN_BEST_FIRST] = {"best_first", 0},
    [PATTERN_BEST_LAST] = {"best_last", 0},
    [PATTERN_BEST_MIDDLE] = {"best_middle", 0},
    [PATTERN_ORGAN_PIPE] = {"organ_pipe", 0},
    [PATTERN_VALLEY] = {"valley", 0},
    [PATTERN_TWO_VALUES] = {"two_values", 10},
    [PATTERN_ALL_MIN] = {"all_min", 0},
    [PATTERN_ALL_MAX] = {"all_max", 0},
    [PATTERN_ALL_FINITE] = {"all_finite", 0},
    [PATTERN_ALL_NAN] = {"all_nan", 0},
    [PATTERN_MIN_BUT_ONE] = {"min_but_one", 0},
};

bool pattern_parse(const char *text, struct pattern *pattern) {
    const char *const colon = strchr(text, ':');
    const size_t length = colon ? (size_t)(colon - text) : strlen(text);
    for (int kind = 0; kind < PATTERN_COUNT; kind++) {
        if (strlen(patterns[kind].name) != length || memcmp(patterns[kind].name, text, length) != 0) continue;
        *pattern = (struct pattern){(enum pattern_kind)kind, 0};
        if (!colon != !patterns[kind].base) return false;
        char *end = NULL;
        if (colon) pattern->arg = strtoll(colon + 1, &end, patterns[kind].base);
        return !colon || (end > colon + 1 && *end == '\0');
    }
    return false;
}

const char *pattern_name(enum pattern_kind kind) {
    return patterns[kind].name;
}

/* ---- dtypes ---- */

struct layout {
    int bytes;
    char kind;     /* 'f' floating, 'i' signed, 'u' unsigned */
    uint64_t inf;  /* bits of infinity */
    uint64_t base; /* bits that codes count from: 1.0, or 0, or half of the range */
    int64_t range; /* codes are within +- this */
};

static struct layout layout_of(enum clmoe_dtype dtype) {
    switch (dtype) {
    case CLMOE_F16: return (struct layout){2, 'f', 0x7c00, 0x3c00, 0x3000};
    case CLMOE_BF16: return (struct layout){2, 'f', 0x7f80, 0x3f80, 0x3000};
    case CLMOE_F64: return (struct layout){8, 'f', 0x7ff0000000000000, 0x3ff0000000000000, INT64_C(1) << 60};
    case CLMOE_I8: return (struct layout){1, 'i', 0, 0, 100};
    case CLMOE_U8: return (struct layout){1, 'u', 0, 128, 100};
    case CLMOE_I16: return (struct layout){2, 'i', 0, 0, 30000};
    case CLMOE_U16: return (struct layout){2, 'u', 0, 0x8000, 30000};
    case CLMOE_I32: return (struct layout){4, 'i', 0, 0, 0x70000000};
    case CLMOE_U32: return (struct layout){4, 'u', 0, 0x80000000, 0x70000000};
    case CLMOE_I64: return (struct layout){8, 'i', 0, 0, INT64_C(1) << 60};
    case CLMOE_U64: return (struct layout){8, 'u', 0, UINT64_C(1) << 63, INT64_C(1) << 60};
    default: return (struct layout){4, 'f', 0x7f800000, 0x3f800000, 0x30000000};
    }
}

int pattern_bytes(enum clmoe_dtype dtype) {
    return layout_of(dtype).bytes;
}

static void put_bits(const struct layout *l, char *x, int64_t i, uint64_t bits) {
    memcpy(x + i * l->bytes, &bits, (size_t)l->bytes); /* little-endian, as devices under test are */
}

static uint64_t ones(int bits) {
    return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

void pattern_store(enum clmoe_dtype dtype, char *x, int64_t i, double number) {
    const struct layout l = layout_of(dtype);
    const int bits = 8 * l.bytes;
    if (dtype == CLMOE_F64) {
        memcpy(x + 8 * i, &number, 8);
    } else if (l.kind == 'f') {
        ref_store(dtype, x, i, (float)number);
    } else if (l.kind == 'u') {
        const double top = ldexp(1, bits);
        put_bits(&l, x, i, number <= 0 ? 0 : number >= top ? ones(bits) : (uint64_t)number);
    } else {
        const double top = ldexp(1, bits - 1);
        const int64_t least = (int64_t)(UINT64_MAX << (bits - 1)), greatest = (int64_t)ones(bits - 1);
        put_bits(&l, x, i, (uint64_t)(number <= -top ? least : number >= top ? greatest : (int64_t)number));
    }
}

/* The number `code` representable numbers above the base; below it for the smallest. */
static void put_code(const struct layout *l, bool smallest, char *x, int64_t i, int64_t code) {
    int64_t up = smallest ? -code : code;
    if (up > l->range) up = l->range;
    if (up < -l->range) up = -l->range;
    put_bits(l, x, i,
             l->base + (uint64_t)up); /* of positive floats the bits are in the order of the numbers */
}

/* The worst for this direction, or the best; of floats an infinity or the largest finite number. */
static uint64_t extreme(const struct layout *l, bool low, bool finite) {
    const uint64_t sign = UINT64_C(1) << (8 * l->bytes - 1);
    if (l->kind == 'f') return (l->inf - (finite ? 1 : 0)) | (low ? sign : 0);
    if (l->kind == 'u') return low ? 0 : ones(8 * l->bytes);
    return low ? sign : sign - 1;
}

static uint64_t random_bits(struct rng *rng) {
    const uint64_t high = rng_u32(rng);
    return high << 32 | rng_u32(rng);
}

/* ---- rows ---- */

struct row {
    struct rng *rng;
    struct layout l;
    enum clmoe_dtype dtype;
    bool smallest;
    int64_t n, k;
    int64_t number; /* of the row */
    int64_t arg;
    char *x; /* n elements */
};

/* About normal, mean 0, deviation 1, and cheap: the sum of four 16-bit numbers, with a fraction. */
static double normal(struct rng *rng) {
    const uint32_t a = rng_u32(rng), b = rng_u32(rng);
    const double sum = (double)((a >> 16) + (a & 0xffff) + (b >> 16) + (b & 0xffff));
    return (sum + rng_u32(rng) / 4294967296.0 - 131072) / 37837.0;
}

/* A NaN of either sign and any payload; of integers the least or the greatest. */
static uint64_t any_nan(const struct row *w) {
    const uint64_t sign = UINT64_C(1) << (8 * w->l.bytes - 1), r = random_bits(w->rng);
    return w->l.kind == 'f' ? w->l.inf | 1 | (r & (sign | (sign - 1))) : extreme(&w->l, r & 1, false);
}

static void numbers(const struct row *w, enum pattern_kind kind) {
    const bool whole = w->l.kind != 'f';
    const double constant = (double)rng_float(w->rng);
    for (int64_t i = 0; i < w->n; i++) {
        double v = 0;
        switch (kind) {
        case PATTERN_UNIFORM: v = (whole ? 101.0 : 1.0) * (rng_u32(w->rng) / 4294967296.0); break;
        case PATTERN_IOTA: v = (double)(w->number * w->n + i); break;
        case PATTERN_DESCENDING: v = (double)(w->l.kind == 'u' ? w->n - 1 - i : -i); break;
        case PATTERN_MOD: v = (double)(i % w->arg) / (whole ? 1.0 : (double)w->arg); break;
        case PATTERN_CONSTANT: v = whole ? 10 * constant : constant; break;
        case PATTERN_ZERO: break;
        default: v = 10 + 100 * normal(w->rng); break;
        }
        pattern_store(w->dtype, w->x, i, v);
        const bool other = (kind == PATTERN_INFS || kind == PATTERN_NANS) && rng_below(w->rng, 1000) < w->arg;
        if (other)
            put_bits(&w->l, w->x, i, kind == PATTERN_NANS ? any_nan(w) : extreme(&w->l, !w->smallest, false));
    }
}

static void bits(const struct row *w, enum pattern_kind kind) {
    for (int64_t i = 0; i < w->n; i++) {
        uint64_t v = random_bits(w->rng);
        for (int64_t words = 0; kind == PATTERN_AND && words < w->arg; words++)
            v &= random_bits(w->rng);
        if (kind == PATTERN_RAMP) v = (uint64_t)(w->arg + i);
        if (kind == PATTERN_10LSB || kind == PATTERN_MIXED) v = 0x3f900000u | (v & 0x3ff);
        put_bits(&w->l, w->x, i, v);
    }
}

static void shuffle(const struct row *w) {
    for (int64_t i = w->n - 1; i > 0; i--) {
        char element[8];
        const int64_t j = rng_below(w->rng, i + 1);
        const size_t bytes = (size_t)w->l.bytes;
        memcpy(element, w->x + i * w->l.bytes, bytes);
        memcpy(w->x + i * w->l.bytes, w->x + j * w->l.bytes, bytes);
        memcpy(w->x + j * w->l.bytes, element, bytes);
    }
}

static void shuffled(const struct row *w, enum pattern_kind kind) {
    const int64_t half = w->k / 2, denominator = half < 1 ? 1 : half > 10 ? 10 : half;
    const uint64_t sign = UINT64_C(1) << (8 * w->l.bytes - 1);
    for (int64_t i = 0; i < w->n; i++) {
        if (kind == PATTERN_LOWEST) {
            const uint64_t from_end =
                (uint64_t)i + 1; /* of negative floats the bits fall as the numbers rise */
            const uint64_t low =
                w->l.kind == 'f' ? (w->l.inf | sign) - from_end : (w->l.kind == 'i' ? sign : 0) + from_end;
            put_bits(&w->l, w->x, i, low);
        } else {
            pattern_store(w->dtype, w->x, i, (double)(kind == PATTERN_SHUFFLED_TIES ? i / denominator : i));
        }
    }
    shuffle(w);
}

/* Codes of rows where the best are in one piece: random, those in [from, from + k) above all others. */
static int64_t piece(const struct row *w, int64_t i, int64_t from) {
    const int64_t room = w->l.range / 2, code = rng_below(w->rng, room);
    return i >= from && i < from + w->k ? room + code : code - room;
}

static int64_t clustered(const struct row *w) {
    const int64_t near = rng_below(w->rng, 7) - 3, far = 4 + rng_below(w->rng, w->l.range - 4);
    const int64_t rare = w->k / 2 + 1; /* of n: clearly better than the cluster, so the k-th is in it */
    if (rng_below(w->rng, w->n) < rare) return far;
    return rng_below(w->rng, 2) ? near : -far;
}

static void codes(const struct row *w, enum pattern_kind kind) {
    const int64_t n = w->n, odd = rng_below(w->rng, n), half = n / 2;
    const int64_t period = w->arg > 0 ? w->arg : 1, phase = rng_below(w->rng, period);
    int64_t good = kind == PATTERN_TWO_VALUES ? w->k + w->arg : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t code = 0;
        switch (kind) {
        case PATTERN_ONE_BETTER: code = i == odd; break;
        case PATTERN_ONE_WORSE: code = -(i == odd); break;
        case PATTERN_ASCENDING: code = i - half; break;
        case PATTERN_FALLING: code = half - i; break;
        case PATTERN_CLUSTERED: code = clustered(w); break;
        case PATTERN_PERIODIC: code = i % period == phase ? 1 + rng_below(w->rng, w->l.range) : 0; break;
        case PATTERN_STRIPED: code = i % period < w->k + 8 ? 1 + rng_below(w->rng, w->l.range) : 0; break;
        case PATTERN_BEST_FIRST: code = piece(w, i, 0); break;
        case PATTERN_BEST_LAST: code = piece(w, i, n - w->k); break;
        case PATTERN_BEST_MIDDLE: code = piece(w, i, (n - w->k) / 2); break;
        case PATTERN_ORGAN_PIPE: code = i < half ? i : n - 1 - i; break;
        case PATTERN_VALLEY: code = i < half ? -i : i + 1 - n; break;
        default: code = good-- > 0; break;
        }
        put_code(&w->l, w->smallest, w->x, i, code);
    }
    if (kind == PATTERN_TWO_VALUES) shuffle(w);
}

static void extremes(const struct row *w, enum pattern_kind kind) {
    const bool low = (kind != PATTERN_ALL_MAX) != w->smallest;
    for (int64_t i = 0; i < w->n; i++) {
        uint64_t v = extreme(&w->l, low, kind == PATTERN_ALL_FINITE);
        if (kind == PATTERN_ALL_NAN && w->l.kind == 'f') v = any_nan(w);
        put_bits(&w->l, w->x, i, v);
    }
    if (kind == PATTERN_MIN_BUT_ONE) {
        const uint64_t v = extreme(&w->l, low, true), step = w->l.kind == 'f' ? 0 : 1;
        put_bits(&w->l, w->x, w->n - 1, low ? v + step : v - step);
    }
}

static void fill_row(const struct row *w, enum pattern_kind kind) {
    if (kind == PATTERN_MIXED)
        rng_below(w->rng, 2) ? bits(w, kind) : numbers(w, PATTERN_NORMAL);
    else if (kind == PATTERN_SHUFFLED || kind == PATTERN_SHUFFLED_TIES || kind == PATTERN_LOWEST)
        shuffled(w, kind);
    else if (kind < PATTERN_BITS)
        numbers(w, kind);
    else if (kind < PATTERN_LOWEST)
        bits(w, kind);
    else if (kind < PATTERN_ALL_MIN)
        codes(w, kind);
    else
        extremes(w, kind);
}

void pattern_fill(struct rng *rng, struct pattern pattern, const struct clmoe_topk_params *params,
                  int64_t outer, int64_t inner, char *x) {
    struct row w = {.rng = rng,
                    .l = layout_of(params->dtype),
                    .dtype = params->dtype,
                    .smallest = params->smallest != 0,
                    .n = params->n,
                    .k = params->k < params->n ? params->k : params->n,
                    .arg = pattern.arg};
    const int64_t bytes = w.l.bytes;
    char *const row = inner > 1 ? malloc((size_t)(w.n * bytes)) : NULL;
    if (inner > 1 && !row) abort();
    for (w.number = 0; w.number < outer * inner; w.number++) {
        char *const first = x + (w.number / inner * w.n * inner + w.number % inner) * bytes;
        w.x = row ? row : first;
        fill_row(&w, pattern.kind);
        for (int64_t i = 0; row && i < w.n; i++)
            memcpy(first + i * inner * bytes, row + i * bytes, (size_t)bytes);
    }
    free(row);
}
