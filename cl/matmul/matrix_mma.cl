// SPDX-License-Identifier: MIT
// NVIDIA sm_80 and later: mma.sync on warps. Of each row that it holds a lane has pairs of steps, 4 bytes.
#if LAYOUT == MMA_16
typedef uint4 a_fragment;
typedef uint2 b_fragment;
typedef float4 d_fragment;

#ifdef STRIDE // of rows in local memory, in the order of K; mma.cl has others
#define STEP_PAIR(rows, row, at) (*(const local uint *)((rows) + (row)*STRIDE + (at) + lane % 4 * 2))

static inline a_fragment read_a(const local ushort *rows, uint lane) {
    const uint row = lane / 4;
    return (uint4)(STEP_PAIR(rows, row, 0), STEP_PAIR(rows, row + 8, 0), STEP_PAIR(rows, row, 8),
                   STEP_PAIR(rows, row + 8, 8));
}

static inline b_fragment read_b(const local ushort *rows, uint lane) {
    return (uint2)(STEP_PAIR(rows, lane / 4, 0), STEP_PAIR(rows, lane / 4, 8));
}
#endif

#if !EMULATED
#define MMA(type)                                                                                                      \
    static inline float4 CAT(multiply_, type)(float4 d, uint4 a, uint2 b) {                                            \
        float d0 = d.x, d1 = d.y, d2 = d.z, d3 = d.w;                                                                  \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #type "." #type                                          \
                     ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                            \
                     : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)                                                          \
                     : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));                                    \
        return (float4)(d0, d1, d2, d3);                                                                               \
    }
MMA(f16)
MMA(bf16)
#define MULTIPLY_f16 multiply_f16
#define MULTIPLY_bf16 multiply_bf16
#endif
#endif
