/* SPDX-License-Identifier: MIT */
#include "scatter.h"

#include "convert.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void copy_element(enum clmoe_dtype dtype, void *to, int64_t at, const void *from, int64_t i) {
    const int64_t size = clmoe_dtype_bytes(dtype, 1);
    memcpy((char *)to + at * size, (const char *)from + i * size, (size_t)size);
}

static void store_scalar(enum clmoe_dtype dtype, void *y, int64_t at, union clmoe_scalar v) {
    switch (dtype) {
    case CLMOE_F32:
    case CLMOE_F16:
    case CLMOE_BF16: ref_store(dtype, y, at, (float)v.f); break;
    case CLMOE_F64: ((double *)y)[at] = v.f; break;
    case CLMOE_I8: ((int8_t *)y)[at] = (int8_t)v.i; break;
    case CLMOE_U8: ((uint8_t *)y)[at] = (uint8_t)v.u; break;
    case CLMOE_I16: ((int16_t *)y)[at] = (int16_t)v.i; break;
    case CLMOE_U16: ((uint16_t *)y)[at] = (uint16_t)v.u; break;
    case CLMOE_I32: ((int32_t *)y)[at] = (int32_t)v.i; break;
    case CLMOE_U32: ((uint32_t *)y)[at] = (uint32_t)v.u; break;
    case CLMOE_I64: ((int64_t *)y)[at] = v.i; break;
    case CLMOE_U64: ((uint64_t *)y)[at] = v.u; break;
    default: abort();
    }
}

static float factor(const struct ref_scatter *p, int64_t row, int64_t j, int64_t i, bool *all_ones) {
    const float slot = p->slot_scale ? p->slot_scale[row * p->k + j] : 1.0f;
    const float column = p->column_scale ? p->column_scale[i] : 1.0f;
    *all_ones = p->scale == 1.0f && slot == 1.0f && column == 1.0f;
    return (float)((double)(float)((double)p->scale * slot) * column);
}

static void place_slot(const struct ref_scatter *p, int64_t row, int64_t j, int64_t i, void *y,
                       unsigned char *exact) {
    const int64_t from = p->mode == CLMOE_SCATTER_MASK ? row * p->n + i : row * p->k + j;
    bool ones;
    const float s = factor(p, row, j, i, &ones);
    exact[row * p->n + i] = ones;
    if (ones)
        copy_element(p->dtype, y, row * p->n + i, p->source, from);
    else
        ref_store(p->dtype, y, row * p->n + i, (float)((double)s * ref_load(p->dtype, p->source, from)));
}

/* Sums and products of a row in fp32, kept apart from y so that each is rounded to dtype once. */
static void fold_row(const struct ref_scatter *p, int64_t row, float *folds, void *y, unsigned char *exact) {
    for (int64_t i = 0; i < p->n; i++)
        folds[i] = ref_load(p->dtype, y, row * p->n + i);
    for (int64_t j = 0; j < p->k; j++) {
        const int64_t i = p->indices[row * p->k + j];
        if (i < 0 || i >= p->n) continue;
        bool ones;
        const float s = factor(p, row, j, i, &ones);
        const double value = p->source ? ref_load(p->dtype, p->source, row * p->k + j) : 1.0;
        const float term = (float)((double)s * value);
        const double exactly =
            p->mode == CLMOE_SCATTER_ADD ? (double)folds[i] + (double)term : (double)folds[i] * (double)term;
        folds[i] = (float)exactly;
        exact[row * p->n + i] = 0;
    }
    for (int64_t i = 0; i < p->n; i++)
        if (!exact[row * p->n + i]) ref_store(p->dtype, y, row * p->n + i, folds[i]);
}

void ref_scatter(const struct ref_scatter *p, void *y, unsigned char *exact) {
    const bool fold = p->mode == CLMOE_SCATTER_ADD || p->mode == CLMOE_SCATTER_MULTIPLY;
    float *const folds = malloc((size_t)p->n * sizeof *folds);
    if (!folds) abort();
    memset(exact, 1, (size_t)(p->rows * p->n));
    for (int64_t row = 0; row < p->rows; row++) {
        if (fold) {
            fold_row(p, row, folds, y, exact);
            continue;
        }
        for (int64_t i = 0; i < p->n; i++)
            store_scalar(p->dtype, y, row * p->n + i, p->fill);
        for (int64_t j = 0; j < p->k; j++) {
            const int64_t i = p->indices[row * p->k + j];
            if (i >= 0 && i < p->n) place_slot(p, row, j, i, y, exact);
        }
    }
    free(folds);
}
