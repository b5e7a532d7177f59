// SPDX-License-Identifier: MIT
// wgmma of four warps: d[m][n] (+)= sum over 16 steps of a[m][k] * b[n][k] for 64 rows m; `keep` = 0 overwrites d.
// a and b describe tiles in local memory. Behind "//@@ " stands what only target sm_90a assembles (lib/device/ptx.h).
//
// Of d a work-item has, for each 8 columns j: d[4 * j], d[4 * j + 1] in row lane / 4 of the warp's 16, columns
// 2 * (lane % 4) and the next, d[4 * j + 2], d[4 * j + 3] eight rows below.
#ifndef WGMMA_T
#error "WGMMA_T: \"bf16.bf16\" or \"f16.f16\""
#endif

#define SUMS_4(d, i) "+f"((d)[i]), "+f"((d)[(i) + 1]), "+f"((d)[(i) + 2]), "+f"((d)[(i) + 3])
#define SUMS_16(d, i) SUMS_4(d, i), SUMS_4(d, (i) + 4), SUMS_4(d, (i) + 8), SUMS_4(d, (i) + 12)
#define SUMS_32(d, i) SUMS_16(d, i), SUMS_16(d, (i) + 16)
#define SUMS_64(d, i) SUMS_32(d, i), SUMS_32(d, (i) + 32)

#define SUMS_8(d, i) SUMS_4(d, i), SUMS_4(d, (i) + 4)
#define SUMS_48(d, i) SUMS_32(d, i), SUMS_16(d, (i) + 32)
#define SUMS_72(d, i) SUMS_64(d, i), SUMS_8(d, (i) + 64)
#define SUMS_80(d, i) SUMS_64(d, i), SUMS_16(d, (i) + 64)
#define SUMS_88(d, i) SUMS_80(d, i), SUMS_8(d, (i) + 80)
#define SUMS_96(d, i) SUMS_64(d, i), SUMS_32(d, (i) + 64)
#define SUMS_128(d, i) SUMS_64(d, i), SUMS_64(d, (i) + 64)
#define SUMS_176(d, i) SUMS_88(d, i), SUMS_88(d, (i) + 88)

// Before the first product of a step; behind the last one; until all but the last n steps are through.
#define WGMMA_FENCE() asm volatile("//@@ wgmma.fence.sync.aligned;" : : : "memory")
#define WGMMA_COMMIT() asm volatile("//@@ wgmma.commit_group.sync.aligned;" : : : "memory")
#define WGMMA_WAIT(n) asm volatile("//@@ wgmma.wait_group.sync.aligned " n ";" : : : "memory")

// Keeps n sums in their registers between two asm statements.
#define HOLD(n, d) asm volatile("" : CAT(SUMS_, n)(d, 0) : : "memory")

#define WGMMA_32(d, a, b, keep)                                                                                        \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %18, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32." WGMMA_T     \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "                           \
                 "%16, %17, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_16(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA_64(d, a, b, keep)                                                                                        \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." WGMMA_T     \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                            \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "                   \
                 "%32, %33, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_32(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA_96(d, a, b, keep)                                                                                        \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %50, 0; wgmma.mma_async.sync.aligned.m64n96k16.f32." WGMMA_T     \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                            \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                    \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}, "                   \
                 "%48, %49, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_48(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA_128(d, a, b, keep)                                                                                       \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." WGMMA_T    \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                            \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                    \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                    \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "                   \
                 "%64, %65, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_64(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA_144(d, a, b, keep)                                                                                       \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %74, 0; wgmma.mma_async.sync.aligned.m64n144k16.f32." WGMMA_T    \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                            \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                    \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                    \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                    \
                 "%64, %65, %66, %67, %68, %69, %70, %71}, "                                                           \
                 "%72, %73, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_72(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA_160(d, a, b, keep)                                                                                       \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %82, 0; wgmma.mma_async.sync.aligned.m64n160k16.f32." WGMMA_T    \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                            \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                    \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                    \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                    \
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79}, "                   \
                 "%80, %81, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_80(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA_176(d, a, b, keep)                                                                                       \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, %90, 0; wgmma.mma_async.sync.aligned.m64n176k16.f32." WGMMA_T    \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                            \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                    \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                    \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                    \
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                    \
                 "%80, %81, %82, %83, %84, %85, %86, %87}, "                                                           \
                 "%88, %89, p, 1, 1, 0, 0; }"                                                                          \
                 : SUMS_88(d, 0)                                                                                       \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")

#define WGMMA(n, d, a, b, keep) CAT(WGMMA_, n)(d, a, b, keep)
