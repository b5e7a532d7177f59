// SPDX-License-Identifier: MIT
// What sm_90 has to move tiles: barriers in local memory (mbarrier) that copies arrive on. Addresses in local memory
// are uint.

inline void mb_init(uint at, uint arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(at), "r"(arrivals) : "memory");
}

inline void mb_expect(uint at, uint bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" : : "r"(at), "r"(bytes) : "memory");
}

inline void mb_arrive(uint at) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(at) : "memory"); }

// Arrives once all asynchronous copies that this work-item has asked for are through.
inline void mb_arrive_copied(uint at) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" : : "r"(at) : "memory");
}

inline void mb_wait(uint at, uint parity) {
    uint ready;
    do {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(ready)
                     : "r"(at), "r"(parity)
                     : "memory");
    } while (!ready);
}

#define GROUP_BARRIER(id) asm volatile("bar.sync %0, 128;" : : "r"(id) : "memory")
#define WARP_BARRIER() asm volatile("bar.warp.sync 0xffffffff;" : : : "memory")
#define ASYNC_FENCE() asm volatile("fence.proxy.async.shared::cta;" : : : "memory")

// A place in a ring of `n`, each with a barrier of 8 bytes, and how often the ring has gone around.
struct turn {
    uint at, phase;
};

inline void next_turn(struct turn *t, uint n) {
    if (++t->at == n) t->at = 0, t->phase ^= 1;
}
