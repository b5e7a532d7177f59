// SPDX-License-Identifier: MIT
// wgmma of which a is in registers: of a work-item a[0] has columns 2 * (lane % 4) and the next of row lane / 4 of the
// warp's 16, a[1] those eight rows below, a[2] and a[3] the same eight columns further. They may change only once the
// product is waited for. d, b and `keep`: wgmma_shapes.cl.
#include "matmul/wgmma_shapes.cl"

#define HELD_WGMMA(n, outputs, held, pairs, keeps, d, a, b, keep)                                                      \
    asm volatile("//@@ { .reg .pred p; setp.ne.b32 p, " keeps ", 0; wgmma.mma_async.sync.aligned.m64n" #n              \
                 "k16.f32." WGMMA_T " {" outputs "}, {" held "}, " pairs ", p, 1, 1, 0; }"                             \
                 : d                                                                                                   \
                 : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "l"(b), "r"(keep)                               \
                 : "memory")

#define OPERANDS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define OPERANDS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define OPERANDS_32 OPERANDS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define OPERANDS_48 OPERANDS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define OPERANDS_64 OPERANDS_32                                                                                        \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"                                 \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define OPERANDS_72 OPERANDS_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define OPERANDS_80 OPERANDS_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define OPERANDS_96 OPERANDS_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define OPERANDS_128 OPERANDS_96                                                                                       \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"                     \
    ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define HELD_WGMMA_16(d, a, b, keep)                                                                                   \
    HELD_WGMMA(16, OPERANDS_8, "%8, %9, %10, %11", "%12", "%13", SUMS_8(d, 0), a, b, keep)
#define HELD_WGMMA_32(d, a, b, keep)                                                                                   \
    HELD_WGMMA(32, OPERANDS_16, "%16, %17, %18, %19", "%20", "%21", SUMS_16(d, 0), a, b, keep)
#define HELD_WGMMA_64(d, a, b, keep)                                                                                   \
    HELD_WGMMA(64, OPERANDS_32, "%32, %33, %34, %35", "%36", "%37", SUMS_32(d, 0), a, b, keep)
#define HELD_WGMMA_96(d, a, b, keep)                                                                                   \
    HELD_WGMMA(96, OPERANDS_48, "%48, %49, %50, %51", "%52", "%53", SUMS_48(d, 0), a, b, keep)
#define HELD_WGMMA_128(d, a, b, keep)                                                                                  \
    HELD_WGMMA(128, OPERANDS_64, "%64, %65, %66, %67", "%68", "%69", SUMS_64(d, 0), a, b, keep)
#define HELD_WGMMA_144(d, a, b, keep)                                                                                  \
    HELD_WGMMA(144, OPERANDS_72, "%72, %73, %74, %75", "%76", "%77", SUMS_72(d, 0), a, b, keep)
#define HELD_WGMMA_160(d, a, b, keep)                                                                                  \
    HELD_WGMMA(160, OPERANDS_80, "%80, %81, %82, %83", "%84", "%85", SUMS_80(d, 0), a, b, keep)
#define HELD_WGMMA_192(d, a, b, keep)                                                                                  \
    HELD_WGMMA(192, OPERANDS_96, "%96, %97, %98, %99", "%100", "%101", SUMS_96(d, 0), a, b, keep)
#define HELD_WGMMA_256(d, a, b, keep)                                                                                  \
    HELD_WGMMA(256, OPERANDS_128, "%128, %129, %130, %131", "%132", "%133", SUMS_128(d, 0), a, b, keep)
