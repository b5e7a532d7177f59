// SPDX-License-Identifier: MIT
// Copies of 16 bytes to local memory that go on while a work-item computes: cp.async of sm_80, or plain ones where
// EMULATED. Groups of them are closed, and waited for, in their order, of this work-item's.
#ifndef THROUGH_L1
#error "THROUGH_L1: 1 where asynchronous copies are faster by way of L1, 0 past it"
#endif

#if EMULATED
#define CLOSE_COPIES()
#define WAIT_COPIES(but)
static inline void copy_16(local uchar *to, const global uchar *from, int bytes) {
    for (int i = 0; i < 16; i++) to[i] = i < bytes ? from[i] : 0;
}
#else
#define CLOSE_COPIES() asm volatile("cp.async.commit_group;" : : : "memory")
#define WAIT_COPIES(but) asm volatile("cp.async.wait_group %0;" : : "n"(but) : "memory")
#if THROUGH_L1
#define CACHED "ca"
#else
#define CACHED "cg"
#endif
// The first `bytes` of them, and zeros
static inline void copy_16(local uchar *to, const global uchar *from, int bytes) {
    asm volatile("cp.async." CACHED ".shared.global.L2::128B [%0], [%1], 16, %2;"
                 :
                 : "r"((uint)(size_t)to), "l"(from), "r"(bytes)
                 : "memory");
}
#endif
