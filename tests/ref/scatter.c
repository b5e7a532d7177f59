/* SPDX-License-Identifier: MIT */
#include "scatter.h"

#include "convert.h"

#include <string.h>

static void copy_element(enum clmoe_dtype dtype, void *to, int64_t at, const void *from, int64_t i) {
    const int64_t size = clmoe_dtype_bytes(dtype, 1);
    memcpy((char *)to + at * size, (const char *)from + i * size, (size_t)size);
}

static void put_slot(const struct ref_scatter *p, int64_t row, int64_t j, int64_t i, void *y,
                     unsigned char *exact) {
    const int64_t from = p->mode == CLMOE_SCATTER_MASK ? row * p->n + i : row * p->k + j;
    const float slot = p->slot_scale ? p->slot_scale[row * p->k + j] : 1.0f;
    const float column = p->column_scale ? p->column_scale[i] : 1.0f;
    const float s = (float)((double)(float)((double)p->scale * slot) * column);
    exact[row * p->n + i] = p->scale == 1.0f && slot == 1.0f && column == 1.0f;
    if (exact[row * p->n + i]) {
        copy_element(p->dtype, y, row * p->n + i, p->source, from);
    } else {
        const double product = (double)s * ref_load(p->dtype, p->source, from);
        ref_store(p->dtype, y, row * p->n + i, (float)product);
    }
}

/* Sums of a row in fp32, kept apart from y so that each is rounded to dtype once. */
static void add_row(const struct ref_scatter *p, int64_t row, void *y, unsigned char *exact) {
    for (int64_t i = 0; i < p->n; i++) {
        float sum = ref_load(p->dtype, y, row * p->n + i);
        for (int64_t j = 0; j < p->k; j++) {
            if (p->indices[row * p->k + j] != i) continue;
            const float slot = p->slot_scale ? p->slot_scale[row * p->k + j] : 1.0f;
            const float column = p->column_scale ? p->column_scale[i] : 1.0f;
            const float s = (float)((double)(float)((double)p->scale * slot) * column);
            const float term = (float)((double)s * ref_load(p->dtype, p->source, row * p->k + j));
            sum = (float)((double)sum + (double)term);
            exact[row * p->n + i] = 0;
        }
        if (!exact[row * p->n + i]) ref_store(p->dtype, y, row * p->n + i, sum);
    }
}

void ref_scatter(const struct ref_scatter *p, void *y, unsigned char *exact) {
    memset(exact, p->mode == CLMOE_SCATTER_ADD, (size_t)(p->rows * p->n));
    for (int64_t row = 0; row < p->rows; row++) {
        if (p->mode == CLMOE_SCATTER_ADD) {
            add_row(p, row, y, exact);
            continue;
        }
        for (int64_t i = 0; i < p->n; i++)
            ref_store(p->dtype, y, row * p->n + i, p->fill);
        for (int64_t j = 0; j < p->k; j++) {
            const int64_t i = p->indices[row * p->k + j];
            if (i >= 0 && i < p->n) put_slot(p, row, j, i, y, exact);
        }
    }
}
