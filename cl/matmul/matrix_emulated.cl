// SPDX-License-Identifier: MIT
// What a matrix instruction computes, in plain OpenCL C, for devices that lack it: each lane brings what it holds of A
// and B to local memory, where the layout says it belongs, and computes the elements of D that the layout gives it.
// Where halves of a wave hold the same twice, each half computes from its own copy, so that copies that differ show.
//
// Every work-item of the work-group makes every call, since there are barriers in them.
#if !EMULATED
#define SCRATCH 1
#define UNROLL _Pragma("unroll")
#define ROLL _Pragma("nounroll") // or the fragments of all steps are in registers at a time
#define ACCUMULATE(d, a, b) d = CAT(MULTIPLY_, X_T)(d, a, b)
#else
#define SCRATCH (LAYOUT_LANES(LAYOUT) * (LAYOUT_A(LAYOUT) + LAYOUT_B(LAYOUT))) // floats of a wave
#define UNROLL
#define ROLL
#define ACCUMULATE(d, a, b) multiply(&(d), a, b, scratch, lane)

static inline void multiply(d_fragment *d, a_fragment a, b_fragment b, local float *scratch, uint lane) {
    const int m = LAYOUT_M(LAYOUT), n = LAYOUT_N(LAYOUT), steps = LAYOUT_K(LAYOUT), copies = LAYOUT_COPIES(LAYOUT);
    const uint copy = lane / (LAYOUT_LANES(LAYOUT) / copies);
    local float *const as = scratch + copy * m * steps, *const bs = scratch + copies * m * steps + copy * steps * n;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int j = 0; j < LAYOUT_A(LAYOUT); j++)
        as[layout_a_row(LAYOUT, lane, j) * steps + layout_a_k(LAYOUT, lane, j)] = FLOAT_OF(X_T, ((const ushort *)&a)[j]);
    for (int j = 0; j < LAYOUT_B(LAYOUT); j++)
        bs[layout_b_column(LAYOUT, lane) * steps + layout_b_k(LAYOUT, lane, j)] = FLOAT_OF(X_T, ((const ushort *)&b)[j]);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int r = 0; r < LAYOUT_D(LAYOUT); r++) {
        const local float *const row = as + layout_d_row(LAYOUT, lane, r) * steps;
        const local float *const column = bs + layout_d_column(LAYOUT, lane, r) * steps;
        float sum = ((float *)d)[r];
        for (int k = 0; k < steps; k++)
            sum += row[k] * column[k];
        ((float *)d)[r] = sum;
    }
}
#endif
