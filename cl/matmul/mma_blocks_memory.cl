// SPDX-License-Identifier: MIT
// Copies of 16 bytes to local memory that go on while a work-item computes: cp.async of sm_80, or plain ones where
// EMULATED. Groups of them are closed, and waited for, in their order, of this work-item's.
#if !defined(X_THROUGH_L1) || !defined(W_THROUGH_L1)
#error "X_THROUGH_L1, W_THROUGH_L1: 1 where asynchronous copies of x, of w, are faster by way of L1, 0 past it"
#endif

// copy_x, copy_w: the first `bytes` of them, and zeros
#if EMULATED
#define CLOSE_COPIES()
#define WAIT_COPIES(but)
static inline void copy_16(local uchar *to, const global uchar *from, int bytes) {
    for (int i = 0; i < 16; i++) to[i] = i < bytes ? from[i] : 0;
}
#define copy_x copy_16
#define copy_w copy_16
#else
#define CLOSE_COPIES() asm volatile("cp.async.commit_group;" : : : "memory")
#define WAIT_COPIES(but) asm volatile("cp.async.wait_group %0;" : : "n"(but) : "memory")
#define COPY_16(name, cached)                                                                                          \
    static inline void name(local uchar *to, const global uchar *from, int bytes) {                                    \
        asm volatile("cp.async." cached ".shared.global.L2::128B [%0], [%1], 16, %2;"                                  \
                     :                                                                                                 \
                     : "r"((uint)(size_t)to), "l"(from), "r"(bytes)                                                    \
                     : "memory");                                                                                      \
    }
#if X_THROUGH_L1
COPY_16(copy_x, "ca")
#else
COPY_16(copy_x, "cg")
#endif
#if W_THROUGH_L1
COPY_16(copy_w, "ca")
#else
COPY_16(copy_w, "cg")
#endif
#endif
