// SPDX-License-Identifier: MIT
// A stage of the ring, 64 steps of K, by wgmma: rows of w x the pairs there are, in the least width that holds them. It
// is one asm statement: where each instruction, with its many sums, is one of its own, and widths are branches between
// them, NVIDIA's compiler copies sums to and fro and takes twice as long.
//
// Sums are registers that the PTX declares and the compiler of OpenCL C does not know of: values that go through its
// statements and loops by the hundred take most of its time. Part p of them is that of 16 pairs, of a work-item
// f<p>_0 .. f<p>_7 for the first block of rows of w and s<p>_0 .. s<p>_7 for the second.
#include "matmul/wgmma_shapes.cl"

// 16 steps of K, n pairs. a, b and x describe tiles in local memory: two blocks of 64 rows of w, and rows of x.
#define PRODUCT(n, sums, rows)                                                                                         \
    "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." WGMMA_T " {" sums "}, " rows ", x, p, 1, 1, 0, 0; "
#define BEGIN_STAGE                                                                                                    \
    "//@@ { .reg .pred p, more; .reg .b32 left; .reg .b64 a, b, x; setp.ne.b32 p, %2, 0; mov.b32 left, 4; "            \
    "mov.b64 a, %0; add.s64 b, a, 512; mov.b64 x, %1; "

// A loop, since the assembler's time goes with the number of products. Each turn commits its own: where the loop commits
// once, at its end, ptxas puts an empty product there, and who waits for the stage before waits for this one.
#define STAGE(n, products)                                                                                             \
    "AGAIN_" #n ": wgmma.fence.sync.aligned; " products "wgmma.commit_group.sync.aligned; "                            \
    "add.s64 a, a, 2; add.s64 b, b, 2; add.s64 x, x, 2; setp.eq.b32 p, 0, 0; "                                         \
    "sub.s32 left, left, 1; setp.ne.b32 more, left, 0; @more bra.uni AGAIN_" #n "; "
#define WAIT_FOR_STAGES_BEFORE() WGMMA_WAIT("4")

#define SUMS_PARAMETER // of functions, and what is given for it: a register is none
#define SUMS_ARGUMENT

#define EIGHT_SUMS(part) #part "0, " #part "1, " #part "2, " #part "3, " #part "4, " #part "5, " #part "6, " #part "7"
#define FIRST_16 EIGHT_SUMS(f0_) ", " EIGHT_SUMS(f1_)

// Part `part`: out[8 * b] and the next seven are of block b. In loops that are unrolled there is one case of these.
#define TAKE_8(from, out)                                                                                              \
    asm volatile("//@@ mov.f32 %0, " from "0; mov.f32 %1, " from "1; mov.f32 %2, " from "2; mov.f32 %3, " from "3; "   \
                 "mov.f32 %4, " from "4; mov.f32 %5, " from "5; mov.f32 %6, " from "6; mov.f32 %7, " from "7;"         \
                 : "=f"((out)[0]), "=f"((out)[1]), "=f"((out)[2]), "=f"((out)[3]), "=f"((out)[4]), "=f"((out)[5]),     \
                   "=f"((out)[6]), "=f"((out)[7]))
#define TAKE(p, out)                                                                                                   \
    case p:                                                                                                            \
        TAKE_8("f" #p "_", out);                                                                                       \
        if (BLOCKS > 1) TAKE_8("s" #p "_", (out) + 8 * (BLOCKS - 1));                                                  \
        break;

#if TOKENS > 32
#define FIRST_32 FIRST_16 ", " EIGHT_SUMS(f2_) ", " EIGHT_SUMS(f3_)
#define FIRST_48 FIRST_32 ", " EIGHT_SUMS(f4_) ", " EIGHT_SUMS(f5_)
#define FIRST_64 FIRST_48 ", " EIGHT_SUMS(f6_) ", " EIGHT_SUMS(f7_)
#define FIRST_72 FIRST_64 ", " EIGHT_SUMS(f8_)
#define FIRST_80 FIRST_72 ", " EIGHT_SUMS(f9_)
#define FIRST_88 FIRST_80 ", " EIGHT_SUMS(f10_)
#define SECOND_16 EIGHT_SUMS(s0_) ", " EIGHT_SUMS(s1_)
#define SECOND_32 SECOND_16 ", " EIGHT_SUMS(s2_) ", " EIGHT_SUMS(s3_)
#define SECOND_48 SECOND_32 ", " EIGHT_SUMS(s4_) ", " EIGHT_SUMS(s5_)
#define SECOND_64 SECOND_48 ", " EIGHT_SUMS(s6_) ", " EIGHT_SUMS(s7_)
#define SECOND_72 SECOND_64 ", " EIGHT_SUMS(s8_)
#define SECOND_80 SECOND_72 ", " EIGHT_SUMS(s9_)
#define SECOND_88 SECOND_80 ", " EIGHT_SUMS(s10_)

#define SUMS                                                                                                           \
    asm volatile("//@@ .reg .f32 f0_<8>, f1_<8>, f2_<8>, f3_<8>, f4_<8>, f5_<8>, f6_<8>, f7_<8>, f8_<8>, f9_<8>, "     \
                 "f10_<8>, s0_<8>, s1_<8>, s2_<8>, s3_<8>, s4_<8>, s5_<8>, s6_<8>, s7_<8>, s8_<8>, s9_<8>, s10_<8>;");
#define STAGE_OF(n, half) STAGE(n, PRODUCT(n, FIRST_##half, "a") PRODUCT(n, SECOND_##half, "b"))
#define UP_TO(n, half)                                                                                                 \
    "setp.gt.s32 more, %3, " #n "; @more bra.uni MORE_THAN_" #n "; " STAGE_OF(n, half) "bra.uni DONE; MORE_THAN_" #n   \
    ": "
#define MULTIPLY_STAGE(rows, weights, pairs, keep)                                                                     \
    asm volatile(BEGIN_STAGE UP_TO(32, 16) UP_TO(64, 32) UP_TO(96, 48) UP_TO(128, 64) UP_TO(144, 72) UP_TO(160, 80)    \
                     STAGE_OF(176, 88) "DONE: }"                                                                       \
                 :                                                                                                     \
                 : "l"(weights), "l"(pairs), "r"(keep), "r"(rows)                                                      \
                 : "memory")

#define TAKE_SUMS(out, part)                                                                                           \
    switch (part) {                                                                                                    \
        TAKE(0, out) TAKE(1, out) TAKE(2, out) TAKE(3, out) TAKE(4, out) TAKE(5, out) TAKE(6, out) TAKE(7, out)        \
        TAKE(8, out) TAKE(9, out) TAKE(10, out)                                                                        \
    }
#else
#define SUMS asm volatile("//@@ .reg .f32 f0_<8>, f1_<8>;");
#define MULTIPLY_STAGE(rows, weights, pairs, keep)                                                                     \
    asm volatile(BEGIN_STAGE STAGE(32, PRODUCT(32, FIRST_16, "a")) "}"                                                 \
                 :                                                                                                     \
                 : "l"(weights), "l"(pairs), "r"(keep)                                                                 \
                 : "memory")

#define TAKE_SUMS(out, part)                                                                                           \
    switch (part) {                                                                                                    \
        TAKE(0, out) TAKE(1, out)                                                                                      \
    }
#endif
