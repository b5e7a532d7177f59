/* SPDX-License-Identifier: MIT
 * Reads the tables of tests/data/topk (the README there says what a line means) into single cases. */
#ifndef CLMOE_CHECK_TOPK_TABLE_H
#define CLMOE_CHECK_TOPK_TABLE_H

#include "topk_pattern.h"

/* A number of a list: n_times * n + plus, or any (chosen at random). */
struct topk_number {
    double n_times, plus;
    bool any;
};

struct topk_list {
    int64_t count; /* 0: the list is absent */
    struct topk_number *items;
};

/* The number at place i of a list that is repeated. For `any` a random one in [1, n]. */
double topk_number(struct rng *rng, const struct topk_list *list, int64_t i, int64_t n);

/* One line with one of each of its alternatives. Lists belong to the line. */
struct topk_entry {
    const char *file, *name;
    int line;
    struct clmoe_topk_params params; /* without max_rows and outputs */
    int64_t outer, inner;            /* x is [outer, n, inner], or [outer, n] where inner is 1 */
    int64_t stride;                  /* of the elements of x; 1 */
    bool literal;                    /* x, values and indices are given; else x is a pattern */
    int shape, shapes, of_dtype,
        dtypes; /* which of the line's shapes and dtypes this is, and how many it has */
    struct pattern pattern;
    const struct topk_list *x, *values, *indices, *begin, *length;
};

struct topk_table {
    int count;
    struct topk_entry *entries;
};

/* The table `name`.txt, read once; it stays. Entries with k > n that are not padded are left out. A line that
 * cannot be read ends the program with a message. */
const struct topk_table *topk_table_named(const char *name);

#endif
