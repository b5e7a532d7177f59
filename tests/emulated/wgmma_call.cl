// SPDX-License-Identifier: MIT
// The kernel as a function that C can call: vectors as arguments are not passed alike everywhere.
#include KERNEL_FILE

// As struct call of call.h. Numbers in the order of MATMUL_ARGS.
struct call {
    global ushort *x;
    global ELEM(W_T) *gate, *up;
    global float *scales;
    global ELEM(W_T) *zeros;
    global ushort *y;
    global float *bias, *gamma;
    global int *ids, *offsets, *order;
    long numbers[15][4];
    float limits[4], shape[4];
    global uchar *maps;
    global uint *counters;
};

#define FOUR(v) (v)[0], (v)[1], (v)[2], (v)[3]
#define NUMBERS(i) (long4)(FOUR(c->numbers[i]))

void call_kernel(const struct call *c) {
    KERNEL(c->x, c->gate, c->up, c->scales, c->scales, c->zeros, c->zeros, c->bias, c->bias + 1, 0, 0, 0, 0, c->gamma, c->ids,
           c->offsets, c->order, c->y, NUMBERS(0), NUMBERS(1), NUMBERS(2), NUMBERS(3), NUMBERS(4), NUMBERS(5), NUMBERS(6),
           NUMBERS(7), NUMBERS(8), NUMBERS(9), NUMBERS(10), NUMBERS(11), NUMBERS(12), NUMBERS(13), NUMBERS(14),
           (float4)(FOUR(c->limits)), (float4)(FOUR(c->shape)), c->maps, 0, c->counters);
}
