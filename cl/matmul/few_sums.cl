// SPDX-License-Identifier: MIT
// What the kernels for few rows share: sums over the slots of a token, and the pairs that a work-group takes in turns.
#ifndef SUMS
#error "SUMS: 1 if it may be asked for sums, else 0"
#endif
#ifndef SUM_T
#error "SUM_T: f32, f16 or bf16, what y has where it is asked for sums"
#endif

// Bits of `sum_flags`; the same list is in lib/kernel/matmul_few.c.
#define SUM 1
#define SUM_RESIDUAL 2
#define SUM_SHARED 4
#define SUM_SHARED_F32 8 // else it has the type of y

#if SUMS
#define SUM_ARGS                                                                                                       \
    , const global ELEM(SUM_T) *residual, const global ELEM(SUM_T) *shared, long4 at_sum, float4 sum_scales,           \
        int slot_bits, int sum_flags
#define SUM_NUMBERS                                                                                                    \
    const ulong residual_skip = (ulong)at_sum.x, shared_skip = (ulong)at_sum.z;                                        \
    const long residual_stride = at_sum.y, shared_stride = at_sum.w;                                                   \
    const float sum_scale = sum_scales.x, shared_scale = sum_scales.y;
#define LOAD_RESIDUAL(t, n)                                                                                            \
    (sum_flags & SUM_RESIDUAL ? LOAD(SUM_T, residual, residual_skip + (t) * residual_stride + (n)) : 0.0f)
#define SHARED_AT(t, n) (shared_skip + (t) * shared_stride + (n))
#define LOAD_SHARED(t, n)                                                                                              \
    (!(sum_flags & SUM_SHARED)     ? 0.0f                                                                              \
     : sum_flags & SUM_SHARED_F32 ? ((const global float *)shared)[SHARED_AT(t, n)]                                    \
                                   : LOAD(SUM_T, shared, SHARED_AT(t, n)))
#else
#define SUM_ARGS
#define SUM_NUMBERS
#define slot_bits 0
#define sum_flags 0
#endif

#ifndef BY_TOKENS
#define BY_TOKENS (sum_flags & SUM) // whether position i of the launch is all slots of a token, or only one of them
#endif
#define POSITION(slot) (BY_TOKENS ? i * k + turn + (slot) : i)

// The pair of slot `slot`, of those whose turn it is: its number, token, expert, and what is to be done; nothing behind
// the last slot of a token.
#define FIND_PAIR(p, token, e, task, slot)                                                                             \
    const bool p##_is = turn + (slot) < turns_end;                                                                     \
    const long p = p##_is ? pair_at(POSITION(slot), order + order_skip, flags) : 0;                                    \
    const long token = (uint)p / (uint)k;                                                                              \
    const int e = p##_is ? EXPERT_OF(p, token) : -1;                                                                   \
    const int task = pair_task(e, experts, first, count);
