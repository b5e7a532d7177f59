/* SPDX-License-Identifier: MIT
 * By a full sort of the elements as what they are: doubles, integers, or signed magnitudes for the total
 * order. */
#include "topk.h"

#include "convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct element {
    int place; /* NaN: 1 after all numbers, -1 before them; of doubles and integers only one kind is used */
    double f;
    int64_t i;
    uint64_t u;
    int64_t index;
};

/* What the comparison of the running sort needs beside the elements. */
static bool first_is_less, high_index_first;

static int by_value(const struct element *p, const struct element *q) {
    if (p->place != q->place) return p->place < q->place ? -1 : 1;
    if (p->f != q->f) return p->f < q->f ? -1 : 1;
    if (p->i != q->i) return p->i < q->i ? -1 : 1;
    return (p->u > q->u) - (p->u < q->u);
}

static int by_order(const void *a, const void *b) {
    const struct element *const p = a, *const q = b;
    const int value = by_value(p, q);
    if (value) return first_is_less ? value : -value;
    return (p->index < q->index) == high_index_first ? 1 : -1;
}

static int ascending(const void *a, const void *b) {
    const int64_t p = *(const int64_t *)a, q = *(const int64_t *)b;
    return (p > q) - (p < q);
}

static uint64_t load_bits(enum clmoe_dtype dtype, const void *x, int64_t at) {
    const int64_t bytes = clmoe_dtype_bytes(dtype, 1);
    uint64_t bits = 0;
    for (int64_t b = 0; b < bytes; b++)
        bits |= (uint64_t)((const unsigned char *)x)[at * bytes + b] << 8 * b;
    return bits;
}

/* -0 before +0, and NaN by sign and payload: negative magnitudes count down from -1. */
static int64_t signed_magnitude(uint64_t bits, int64_t bytes) {
    const uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    const int64_t magnitude = (int64_t)(bits & (sign - 1));
    return bits & sign ? -magnitude - 1 : magnitude;
}

static struct element load(const struct ref_topk *p, const void *x, int64_t row, int64_t index) {
    const int64_t at = row * p->n + index, bytes = clmoe_dtype_bytes(p->dtype, 1);
    const uint64_t bits = load_bits(p->dtype, x, at), sign = (uint64_t)1 << (8 * bytes - 1);
    struct element e = {.index = index};
    switch (p->dtype) {
    case CLMOE_U8:
    case CLMOE_U16:
    case CLMOE_U32:
    case CLMOE_U64: e.u = bits; return e;
    case CLMOE_I8:
    case CLMOE_I16:
    case CLMOE_I32:
    case CLMOE_I64:
        e.i = (int64_t)(bits & (sign - 1)) + (bits & sign ? -(int64_t)(sign - 1) - 1 : 0);
        return e;
    case CLMOE_F64: memcpy(&e.f, (const char *)x + 8 * at, 8); break;
    default: e.f = (double)ref_load(p->dtype, x, at); break;
    }
    if (p->nan == CLMOE_NAN_TOTAL_ORDER) {
        e.f = 0;
        e.i = signed_magnitude(bits, bytes);
    } else if (isnan(e.f)) {
        e.f = 0;
        e.place = p->nan == CLMOE_NAN_LOWEST ? -1 : 1;
    }
    return e;
}

static int64_t clamped(int64_t v, int64_t most) {
    return v < 0 ? 0 : v > most ? most : v;
}

void ref_topk(const struct ref_topk *p, const void *x, int64_t *indices, int64_t *cuts) {
    struct element *const row = malloc((size_t)p->n * sizeof *row);
    if (!row) abort();
    first_is_less = p->smallest;
    high_index_first = p->ties == CLMOE_TIES_HIGHEST;
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t begin = p->row_begin ? clamped(p->row_begin[r], p->n) : 0;
        const int64_t length = p->row_length ? clamped(p->row_length[r], p->n - begin) : p->n - begin;
        int64_t k = p->row_k ? clamped(p->row_k[r], p->k) : p->k;
        if (k > length) k = length;
        for (int64_t i = 0; i < length; i++)
            row[i] = load(p, x, r, begin + i);
        qsort(row, (size_t)length, sizeof *row, by_order);
        int64_t *const slots = indices + r * p->k;
        for (int64_t j = 0; j < p->k; j++)
            slots[j] = j < k ? row[j].index : -1;
        cuts[r] = k ? row[k - 1].index : -1;
        if (p->by_index) qsort(slots, (size_t)k, sizeof *slots, ascending);
    }
    free(row);
}
