/* SPDX-License-Identifier: MIT */
#include "permute.h"

#include <stdlib.h>

struct pair {
    int64_t bucket, number;
};

static int by_bucket(const void *a, const void *b) {
    const struct pair *const x = a, *const y = b;
    if (x->bucket != y->bucket) return x->bucket < y->bucket ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

void ref_permute(int64_t pairs, int experts, const int32_t *ids, int32_t *counts, int32_t *offsets,
                 int32_t *order, int32_t *inverse) {
    struct pair *const sorted = malloc(((size_t)pairs + 1) * sizeof *sorted);
    if (!sorted) abort();
    for (int64_t p = 0; p < pairs; p++)
        sorted[p] = (struct pair){ids[p] < 0 || ids[p] >= experts ? experts : ids[p], p};
    qsort(sorted, (size_t)pairs, sizeof *sorted, by_bucket);
    int64_t i = 0;
    for (int e = 0; e <= experts; e++) {
        offsets[e] = (int32_t)i;
        while (i < pairs && sorted[i].bucket == e)
            i++;
        if (e < experts) counts[e] = (int32_t)i - offsets[e];
    }
    for (int64_t at = 0; at < pairs; at++) {
        order[at] = (int32_t)sorted[at].number;
        inverse[sorted[at].number] = (int32_t)at;
    }
    free(sorted);
}
