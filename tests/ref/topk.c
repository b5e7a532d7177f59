/* SPDX-License-Identifier: MIT
 * By a full sort of (is it NaN, value, index). */
#include "topk.h"

#include <math.h>
#include <stdlib.h>

struct element {
    int nan; /* 1: NaN that comes first, -1: NaN that comes last, 0: a number */
    double value;
    int32_t index;
};

static int by_value(const void *a, const void *b) {
    const struct element *const p = a, *const q = b;
    if (p->nan != q->nan) return p->nan > q->nan ? -1 : 1;
    if (p->value != q->value) return p->value > q->value ? -1 : 1;
    return p->index < q->index ? -1 : 1;
}

static int ascending(const void *a, const void *b) {
    const int32_t p = *(const int32_t *)a, q = *(const int32_t *)b;
    return (p > q) - (p < q);
}

void ref_topk(int64_t rows, int64_t n, int64_t k, const float *x, bool smallest, bool nan_lowest,
              bool by_index, int32_t *indices) {
    struct element *const row = malloc((size_t)n * sizeof *row);
    if (!row) abort();
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            const float v = x[r * n + i];
            row[i] = (struct element){0, smallest ? -(double)v : (double)v, (int32_t)i};
            if (isnan(v)) row[i] = (struct element){smallest == nan_lowest ? 1 : -1, 0, (int32_t)i};
        }
        qsort(row, (size_t)n, sizeof *row, by_value);
        for (int64_t j = 0; j < k; j++)
            indices[r * k + j] = row[j].index;
        if (by_index) qsort(indices + r * k, (size_t)k, sizeof *indices, ascending);
    }
    free(row);
}
