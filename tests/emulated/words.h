/* SPDX-License-Identifier: MIT
 * Weights of 4 bits in words for tests/emulated/hopper.c, as AWQ and GPTQ store them. */
#ifndef CLMOE_TESTS_EMULATED_WORDS_H
#define CLMOE_TESTS_EMULATED_WORDS_H

#include "call.h"

#include <stddef.h>

/* Experts x steps of K x rows; of rows of gate and up in one tensor the latter are behind the former. */
struct words {
    int gptq; /* else AWQ */
    long group, experts, depth, rows;
    uint32_t *codes, *zeros;
    float *scales; /* one for a row and `group` steps */
};

/* Two tensors of random ones, one behind the other. Groups of so many steps, AWQ; less than 0: GPTQ. */
void words_make(struct words w[2], int group, long experts, long depth, long rows,
                void *(*room)(size_t bytes), uint32_t (*drawn)(uint32_t n));

/* Gate is in the first tensor, up in the second one or from row `up_first` of the first one on. */
void words_set(struct call *c, const struct words w[2], int apart, long up_first);

/* The weight of expert, row and step. */
double words_weight(const struct words *w, long e, long row, long k);

#endif
