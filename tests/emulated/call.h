/* SPDX-License-Identifier: MIT
 * What a kernel is called with on a CPU. */
#ifndef CLMOE_TESTS_EMULATED_CALL_H
#define CLMOE_TESTS_EMULATED_CALL_H

#include <stdint.h>

/* As in wgmma_call.cl. */
struct call {
    uint16_t *x;
    unsigned char *gate, *up;
    void *scales;
    uint32_t *zeros;
    uint16_t *y;
    float *bias, *gamma;
    int *ids, *offsets, *order;
    long numbers[15][4]; /* at_xy, at_w, at_v, .. of MATMUL_ARGS in cl/matmul/pair.cl */
    float limits[4], shape[4];
    unsigned char *maps;
    uint32_t *counters;
};

#endif
