/* SPDX-License-Identifier: MIT
 * Inputs of topk by name, for every dtype: random ones of several entropies, those of other projects' tests,
 * and those that are hard for radix selection and for sampling. */
#ifndef CLMOE_CHECK_TOPK_PATTERN_H
#define CLMOE_CHECK_TOPK_PATTERN_H

#include "harness.h"

enum pattern_kind {
    /* numbers */
    PATTERN_UNIFORM = 0, /* [0, 1); for integers [0, 100] */
    PATTERN_NORMAL,      /* mean 10, deviation 100 */
    PATTERN_INFS, /* normal, `arg` of 1000 elements the worst there is: -inf, or inf for the smallest */
    PATTERN_NANS, /* normal, `arg` of 1000 elements NaN of either sign; the best and the worst of integers */
    PATTERN_IOTA, /* 0, 1, 2, ... through all rows */
    PATTERN_DESCENDING,    /* 0, -1, -2, ... in each row; from n - 1 down for unsigned integers */
    PATTERN_SHUFFLED,      /* 0 .. n - 1 in random order */
    PATTERN_SHUFFLED_TIES, /* those divided by max(1, min(10, k / 2)) */
    PATTERN_MOD,           /* (i mod arg) / arg; for integers i mod arg */
    PATTERN_MIXED,         /* rows of PATTERN_10LSB and of normal numbers */
    PATTERN_CONSTANT,      /* one random number a row */
    PATTERN_ZERO,
    /* bits */
    PATTERN_BITS,  /* any */
    PATTERN_AND,   /* arg + 1 random words and-ed: the more, the less entropy */
    PATTERN_RAMP,  /* f32: the bits arg, arg + 1, ... */
    PATTERN_10LSB, /* f32: random in the 10 low bits, the others those of 1.125 */
    /* The order of a row alone, as codes: how many representable numbers above a base (below for the
       smallest). */
    PATTERN_LOWEST,     /* consecutive from the lowest number of all on, shuffled */
    PATTERN_ONE_BETTER, /* all equal but one */
    PATTERN_ONE_WORSE,
    PATTERN_ASCENDING, /* by one representable number each time */
    PATTERN_FALLING,
    PATTERN_CLUSTERED,  /* about half within 3 representable numbers of the k-th */
    PATTERN_PERIODIC,   /* one phase of every `arg` elements is good, the others are equal */
    PATTERN_STRIPED,    /* min(arg, k + 8) phases of every `arg` elements are good */
    PATTERN_BEST_FIRST, /* the k best are at the start ... */
    PATTERN_BEST_LAST,
    PATTERN_BEST_MIDDLE,
    PATTERN_ORGAN_PIPE, /* up to the middle, then down */
    PATTERN_VALLEY,     /* down to the middle, then up */
    PATTERN_TWO_VALUES, /* k + arg good ones at random places, the others equal; arg may be negative */
    /* What a sentinel of a kernel might be. */
    PATTERN_ALL_MIN, /* the worst there is: -inf or the least integer (0 for unsigned), or inf, the greatest
                      */
    PATTERN_ALL_MAX, /* the best there is */
    PATTERN_ALL_FINITE,  /* -FLT_MAX and its like, or FLT_MAX for the smallest */
    PATTERN_ALL_NAN,     /* of both signs and any payload */
    PATTERN_MIN_BUT_ONE, /* the worst, but for the last element, which is one better */
    PATTERN_COUNT
};

struct pattern {
    enum pattern_kind kind;
    int64_t arg;
};

/* "normal", "and:2", "ramp:3f800000". False if there is no such pattern. */
bool pattern_parse(const char *text, struct pattern *pattern);
const char *pattern_name(enum pattern_kind kind);

/* Bytes of an element. */
int pattern_bytes(enum clmoe_dtype dtype);

/* x [outer, n, inner] for these params, dense; n, k, dtype and smallest of them count. Rows are drawn one
 * after another, so the first rows do not depend on how many there are. */
void pattern_fill(struct rng *rng, struct pattern pattern, const struct clmoe_topk_params *params,
                  int64_t outer, int64_t inner, char *x);

/* Element i of x becomes the number; rounded to floating dtypes, cut to the range of integers. */
void pattern_store(enum clmoe_dtype dtype, char *x, int64_t i, double number);

#endif
