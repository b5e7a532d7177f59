// SPDX-License-Identifier: MIT
// A stage of the ring, 64 steps of K, by wgmma: rows of w x the pairs there are, in the least width that holds them. It
// is one asm statement: where each instruction, with its many sums, is one of its own, and widths are branches between
// them, NVIDIA's compiler copies sums to and fro and takes twice as long.
#include "matmul/wgmma_shapes.cl"

// 16 steps of K, n pairs. a, b and x describe tiles in local memory: two blocks of 64 rows of w, and rows of x.
#define PRODUCT(n, sums, rows, keep)                                                                                   \
    "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." WGMMA_T " {" sums "}, " rows ", x, " keep ", 1, 1, 0, 0; "
#define AHEAD "add.s64 a, a, 2; add.s64 b, b, 2; add.s64 x, x, 2; "
#define STAGE(step)                                                                                                    \
    "wgmma.fence.sync.aligned; " step("p") AHEAD step("t") AHEAD step("t") AHEAD step("t")                             \
        "wgmma.commit_group.sync.aligned; "
#define BEGIN_STAGE(weights, pairs, keep)                                                                              \
    "//@@ { .reg .pred p, t, more; .reg .b64 a, b, x; setp.ne.b32 p, " keep ", 0; setp.eq.b32 t, 0, 0; mov.b64 a, "    \
    weights "; mov.b64 x, " pairs "; "

#define BLOCK_SUMS 88 // from the first sum of a block to that of the next

#define FIRST_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#if TOKENS > 32
#define FIRST_32 FIRST_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FIRST_48 FIRST_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define FIRST_64 FIRST_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FIRST_72 FIRST_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define FIRST_80 FIRST_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define FIRST_88 FIRST_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define SECOND_16 "%88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103"
#define SECOND_32 SECOND_16                                                                                            \
    ", %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119"
#define SECOND_48 SECOND_32                                                                                            \
    ", %120, %121, %122, %123, %124, %125, %126, %127, %128, %129, %130, %131, %132, %133, %134, %135"
#define SECOND_64 SECOND_48                                                                                            \
    ", %136, %137, %138, %139, %140, %141, %142, %143, %144, %145, %146, %147, %148, %149, %150, %151"
#define SECOND_72 SECOND_64 ", %152, %153, %154, %155, %156, %157, %158, %159"
#define SECOND_80 SECOND_72 ", %160, %161, %162, %163, %164, %165, %166, %167"
#define SECOND_88 SECOND_80 ", %168, %169, %170, %171, %172, %173, %174, %175"

#define ALL_SUMS 176
#define TWO_PRODUCTS(n, half, keep) PRODUCT(n, FIRST_##half, "a", keep) PRODUCT(n, SECOND_##half, "b", keep)
#define STEP_32(keep) TWO_PRODUCTS(32, 16, keep)
#define STEP_64(keep) TWO_PRODUCTS(64, 32, keep)
#define STEP_96(keep) TWO_PRODUCTS(96, 48, keep)
#define STEP_128(keep) TWO_PRODUCTS(128, 64, keep)
#define STEP_144(keep) TWO_PRODUCTS(144, 72, keep)
#define STEP_160(keep) TWO_PRODUCTS(160, 80, keep)
#define STEP_176(keep) TWO_PRODUCTS(176, 88, keep)
#define UP_TO(n)                                                                                                       \
    "setp.gt.s32 more, %179, " #n "; @more bra.uni MORE_THAN_" #n "; " STAGE(STEP_##n) "bra.uni DONE; MORE_THAN_" #n ": "
#define MULTIPLY_STAGE(sums, rows, weights, pairs, keep)                                                               \
    asm volatile(BEGIN_STAGE("%176", "%177", "%178") "add.s64 b, a, 512; " UP_TO(32) UP_TO(64) UP_TO(96) UP_TO(128)    \
                     UP_TO(144) UP_TO(160) STAGE(STEP_176) "DONE: }"                                                   \
                 : SUMS_176(sums, 0)                                                                                   \
                 : "l"(weights), "l"(pairs), "r"(keep), "r"(rows)                                                      \
                 : "memory")
#else
#define ALL_SUMS 16
#define STEP_32(keep) PRODUCT(32, FIRST_16, "a", keep)
#define MULTIPLY_STAGE(sums, rows, weights, pairs, keep)                                                               \
    asm volatile(BEGIN_STAGE("%16", "%17", "%18") "mov.b64 b, 0; " STAGE(STEP_32) "}"                                  \
                 : SUMS_16(sums, 0)                                                                                    \
                 : "l"(weights), "l"(pairs), "r"(keep)                                                                 \
                 : "memory")
#endif
