// SPDX-License-Identifier: MIT
// What sm_90 has to move tiles: barriers in local memory (mbarrier) that copies arrive on, such copies, and matrices
// from registers to local memory. Addresses there are uint. tests/emulated has this file, wgmma_maps.cl and
// wgmma_shapes.cl for CPUs.

#ifndef PACK_TWO
#error "PACK_TWO: \"cvt.rn.bf16x2.f32\" or \"cvt.rn.f16x2.f32\""
#endif

// A kernel begins with it. As long as PTX is hidden (lib/device/ptx.h) the rest of it is dead: the driver, which
// assembles that too, has nothing to do. Shown, it is no instruction.
#define WHEN_SHOWN asm volatile("//@@ bra.uni SHOWN;\n\texit;\nSHOWN:");

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
#define PAIR_BARRIER(id) asm volatile("bar.sync %0, 256;" : : "n"(id) : "memory") // of two groups of 128
#define WARP_BARRIER() asm volatile("bar.warp.sync 0xffffffff;" : : : "memory")
// Work-items of a group give registers back, or take them: "dec", "inc".
#define CHANGE_REGISTERS(how, n) asm volatile("//@@ setmaxnreg." how ".sync.aligned.u32 " n ";" : : : "memory")

#define ASYNC_FENCE() asm volatile("fence.proxy.async.shared::cta;" : : : "memory")

// 16 bytes on their way to local memory, of which the last 16 - bytes become 0; only for rows that there are.
inline void copy_16_below(uint to, const global uchar *from, uint bytes, int row, int rows) {
    asm volatile("{ .reg .pred p; setp.lt.s32 p, %3, %4; @p cp.async.cg.shared.global [%0], [%1], 16, %2; }"
                 :
                 : "r"(to), "l"(from), "r"(bytes), "r"(row), "r"(rows)
                 : "memory");
}

// A word, or 0, for whose sake all 128 bytes of its line come to the cache.
inline uint load_of_line(const global uint *at, bool is) {
    uint word;
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, 0; @p ld.global.L2::128B.b32 %0, [%1]; }"
                 : "=r"(word)
                 : "l"(at), "r"((int)is));
    return word;
}

#define WARP 32

inline uint from_lane(uint v, uint lane) {
    asm volatile("shfl.sync.idx.b32 %0, %0, %1, 31, 0xffffffff;" : "+r"(v) : "r"(lane));
    return v;
}

// v of this work-item and of those before it in its warp.
inline uint sum_of_lanes_to(uint v) {
#pragma unroll
    for (uint n = 1; n < WARP; n *= 2)
        asm volatile("{ .reg .u32 t; .reg .pred p; shfl.sync.up.b32 t|p, %0, %1, 0, 0xffffffff; @p add.u32 %0, %0, t; }"
                     : "+r"(v)
                     : "r"(n));
    return v;
}

inline bool any_of_warp(bool is) {
    uint any;
    asm volatile("{ .reg .pred p, q; setp.ne.u32 p, %1, 0; vote.sync.any.pred q, p, 0xffffffff; selp.u32 %0, 1, 0, q; }"
                 : "=r"(any)
                 : "r"((uint)is));
    return any;
}

// One at least has it.
inline uint first_lane_with(bool is) {
    uint lanes;
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
                 : "=r"(lanes)
                 : "r"((uint)is));
    return 31 - clz(lanes & -lanes);
}

inline uint pack_two(float low, float high) {
    uint r;
    asm(PACK_TWO " %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// Four 8 x 8 elements, of which work-item i names the place of row i % 8 of i / 8, transposed.
inline void store_matrices(uint at, const uint *v) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                 :
                 : "r"(at), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3])
                 : "memory");
}

// Two stores, or one, or none: no branches.
inline void store_two(global uint4 *to, uint4 v, bool is, global uint4 *to1, uint4 v1, bool is1) {
    asm volatile("{ .reg .pred p, q; setp.ne.s32 p, %0, 0; setp.ne.s32 q, %1, 0; "
                 "@p st.global.v4.u32 [%2], {%3, %4, %5, %6}; @q st.global.v4.u32 [%7], {%8, %9, %10, %11}; }"
                 :
                 : "r"((int)is), "r"((int)is1), "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "l"(to1), "r"(v1.x),
                   "r"(v1.y), "r"(v1.z), "r"(v1.w));
}
