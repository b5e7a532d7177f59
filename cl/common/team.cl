// SPDX-License-Identifier: MIT
// Teams of 32 neighbouring work-items that exchange values: warps where there is inline PTX (PTX = 1). Without it the
// values go through `swap`, LOCAL_SIZE numbers of local memory, behind barriers, so that every work-item of the
// work-group has to make every call, in the same order. Code that keeps to this runs on any device.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, a multiple of 32"
#endif
#ifndef PTX
#error "PTX: 1 where inline PTX works, else 0"
#endif

// For functions that are too large for some compilers to inline: of `inline` alone C99 makes no function, so that a
// call which is left has no callee. NVIDIA's compiler leaves none.
#if PTX
#define CALLABLE inline
#else
#define CALLABLE static inline
#endif

#define TEAM 32u
#define TEAMS (LOCAL_SIZE / 32)
#define team_lane() ((uint)get_local_id(0) & 31u)
#define team_index() ((uint)get_local_id(0) >> 5)

#if PTX
#define TEAM_UNROLL _Pragma("unroll")
#define TEAM_LOOP _Pragma("unroll 1") // where code is dearer than what it does

// The same pointer, of which the compiler knows nothing: what is loaded at constant distances from it then has them in
// the instruction, where it would else add up a 64-bit address for each.
#define OPAQUE(pointer) asm volatile("" : "+l"(pointer))

// Four numbers from a multiple of 16 bytes, by one instruction: a vector load is taken apart where branches join.
inline uint4 team_load4(const global uint4 *from) {
    uint4 v;
    asm("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

inline uint team_at(local ulong *swap, uint v, uint lane) {
    uint r;
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(lane));
    return r;
}

inline uint team_xor(local ulong *swap, uint v, uint distance) {
    uint r;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(distance));
    return r;
}

// The value `distance` lanes below, 0 where there is none.
inline uint team_below(local ulong *swap, uint v, uint distance) {
    uint r;
    asm volatile("{ .reg .pred there; shfl.sync.up.b32 %0|there, %1, %2, 0, 0xffffffff; @!there mov.b32 %0, 0; }"
                 : "=r"(r)
                 : "r"(v), "r"(distance));
    return r;
}

inline ulong team_xor64(local ulong *swap, ulong v, uint distance) {
    return (ulong)team_xor(swap, (uint)(v >> 32), distance) << 32 | team_xor(swap, (uint)v, distance);
}

// Bit i: whether lane i says yes.
inline uint team_ballot(local ulong *swap, bool yes) {
    uint r;
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %1, 0; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
                 : "=r"(r)
                 : "r"((int)yes));
    return r;
}

// Bit i: whether lane i has the same number, of `bits` bits.
inline uint team_match(local ulong *swap, uint v, int bits) {
    uint same = ~0u;
    TEAM_UNROLL
    for (int i = 0; i < bits; i++) {
        const bool one = v >> i & 1u;
        const uint ones = team_ballot(swap, one);
        same &= one ? ones : ~ones;
    }
    return same;
}

// What lanes of a team wrote to local memory before is there for its other lanes.
inline void team_fence(void) { asm volatile("bar.warp.sync 0xffffffff;" : : : "memory"); }

#else
#define TEAM_UNROLL
#define TEAM_LOOP
#define OPAQUE(pointer)

inline uint4 team_load4(const global uint4 *from) { return *from; }

inline ulong team_exchange(local ulong *swap, ulong v, uint from) {
    barrier(CLK_LOCAL_MEM_FENCE); // the exchange before has been read
    swap[get_local_id(0)] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    return swap[from];
}

inline uint team_at(local ulong *swap, uint v, uint lane) {
    return (uint)team_exchange(swap, v, ((uint)get_local_id(0) & ~31u) + (lane & 31u));
}

inline uint team_xor(local ulong *swap, uint v, uint distance) {
    return (uint)team_exchange(swap, v, (uint)get_local_id(0) ^ distance);
}

inline uint team_below(local ulong *swap, uint v, uint distance) {
    const uint below = (uint)team_exchange(swap, v, ((uint)get_local_id(0) & ~31u) + ((team_lane() - distance) & 31u));
    return team_lane() >= distance ? below : 0u;
}

inline ulong team_xor64(local ulong *swap, ulong v, uint distance) {
    return team_exchange(swap, v, (uint)get_local_id(0) ^ distance);
}

inline uint team_ballot(local ulong *swap, bool yes) {
    team_exchange(swap, yes, 0);
    uint bits = 0;
    for (uint i = 0; i < TEAM; i++)
        bits |= (uint)swap[((uint)get_local_id(0) & ~31u) + i] << i;
    return bits;
}

inline uint team_match(local ulong *swap, uint v, int bits) {
    team_exchange(swap, v, 0);
    uint same = 0;
    for (uint i = 0; i < TEAM; i++)
        same |= (uint)(swap[((uint)get_local_id(0) & ~31u) + i] == v) << i;
    return same;
}

inline void team_fence(void) { barrier(CLK_LOCAL_MEM_FENCE); }
#endif

// Whether any lane says yes: of the team where it can go its own way, else of the work-group, whose teams go together.
inline bool team_any(local ulong *swap, bool yes) {
#if PTX
    return team_ballot(swap, yes) != 0;
#else
    team_exchange(swap, yes, 0);
    ulong any = 0;
    for (uint i = 0; i < LOCAL_SIZE; i++)
        any |= swap[i];
    return any != 0;
#endif
}

inline uint team_max(local ulong *swap, uint v) {
    TEAM_UNROLL
    for (uint d = 1; d < TEAM; d *= 2)
        v = max(v, team_xor(swap, v, d));
    return v;
}

// Sum over the lanes up to this one, itself included.
inline uint team_prefix(local ulong *swap, uint v) {
    TEAM_UNROLL
    for (uint d = 1; d < TEAM; d *= 2)
        v += team_below(swap, v, d);
    return v;
}

// Sorts the team's numbers, the largest into lane 0, by a bitonic network: runs of 2, 4 .. 32.
#define TEAM_SORT(exchange)                                                                                            \
    TEAM_UNROLL                                                                                                        \
    for (uint size = 1; size <= 5; size++) {                                                                           \
        TEAM_UNROLL                                                                                                    \
        for (uint step = 0; step < 5; step++) {                                                                        \
            if (step >= size) break;                                                                                   \
            const uint bit = size - 1 - step;                                                                          \
            const bool descending = size == 5 || !(team_lane() >> size & 1u), low = !(team_lane() >> bit & 1u);        \
            const ulong_or_uint other = exchange(swap, v, 1u << bit);                                                  \
            v = descending == low ? max(v, other) : min(v, other);                                                     \
        }                                                                                                              \
    }

inline uint team_sort(local ulong *swap, uint v) {
    typedef uint ulong_or_uint;
    TEAM_SORT(team_xor)
    return v;
}

inline ulong team_sort64(local ulong *swap, ulong v) {
    typedef ulong ulong_or_uint;
    TEAM_SORT(team_xor64)
    return v;
}
