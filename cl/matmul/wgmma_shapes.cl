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
#define SUMS_96(d, i) SUMS_64(d, i), SUMS_32(d, (i) + 64)
#define SUMS_128(d, i) SUMS_64(d, i), SUMS_64(d, (i) + 64)

// Before the first product of a step; behind the last one; until all but the last n steps are through.
#define WGMMA_FENCE() asm volatile("//@@ wgmma.fence.sync.aligned;" : : : "memory")
#define WGMMA_COMMIT() asm volatile("//@@ wgmma.commit_group.sync.aligned;" : : : "memory")
#define WGMMA_WAIT(n) asm volatile("//@@ wgmma.wait_group.sync.aligned " n ";" : : : "memory")

// Keeps n sums in their registers between two asm statements.
#define HOLD(n, d) asm volatile("" : CAT(SUMS_, n)(d, 0) : : "memory")
