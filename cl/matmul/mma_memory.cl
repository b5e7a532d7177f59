// SPDX-License-Identifier: MIT
// What kernels on mma.sync want of memory: copies to local memory that go on while a work-item computes, and
// matrices that the lanes of a wave read from there together. PTX of sm_80 (cp.async, ldmatrix), or the same in plain
// OpenCL C where EMULATED. There a copy happens at the last moment that the wait for it allows, so that a wait for too
// few of them shows.
//
//   copy_chunk    8 elements from a multiple of 16 bytes, or zeros unless they exist; in the group that is open
//   close_group   what was copied since the last one is a group
//   wait_groups   until all but the last `but` groups are there, of this work-item's copies; a constant
//   READ_MATRICES(to, kept, place, flip, stage, ahead)   place: an expression of `lane`, where in a stage lane l has
//                 row l % 8 of matrix l / 8, 8 elements; with its bits `flip` the other way and so many chunks `ahead`.
//                 Of each of the four matrices it gets the elements 2 * (l % 4) and the next of row l / 4.
//   KEEP_PLACE(kept, place)   declares `kept`, from which lanes find their own place
//   READ_ACROSS   the same of the transposed matrices: the elements l / 4 of rows 2 * (l % 4) and the next
//   zero_behind_barrier   of the work-group: 0, but the compiler does not know, so that what is made of it stays behind
//   WAVE_BARRIER  for a wave; every work-item of the work-group comes by
//
// Every work-item of the work-group makes every call, since there may be barriers in them.
#ifndef COPIES
#error "COPIES: of a work-item in a group, at most"
#endif
#ifndef STAGES
#error "STAGES: groups that are on their way at a time, and one"
#endif

#ifndef THROUGH_L1
#error "THROUGH_L1: 1 where asynchronous copies are faster by way of L1, 0 past it"
#endif

#if EMULATED
struct copies {
    local uint4 *to[STAGES][COPIES];
    const global ushort *from[STAGES][COPIES];
    bool exists[STAGES][COPIES];
    int copied[STAGES]; // of the group
    int first, open;    // groups, modulo STAGES
    int closed;         // how many there are from `first` on
};

static inline void copy_chunk(struct copies *c, local uint4 *to, const global ushort *from, bool exists) {
    const int i = c->copied[c->open]++;
    c->to[c->open][i] = to;
    c->from[c->open][i] = from - ((ulong)from & 15) / 2; // others come from elsewhere, where a chip would trap
    c->exists[c->open][i] = exists;
}

static inline void close_group(struct copies *c) {
    c->open = (c->open + 1) % STAGES;
    c->copied[c->open] = 0;
    c->closed++;
}

static inline void wait_groups(struct copies *c, int but) {
    for (; c->closed > but; c->closed--, c->first = (c->first + 1) % STAGES)
        for (int i = 0; i < c->copied[c->first]; i++)
            *c->to[c->first][i] = c->exists[c->first][i] ? *(const global uint4 *)c->from[c->first][i] : (uint4)(0);
}

#define READ_MATRICES(to, kept, place, flip, stage, ahead)                                                             \
    {                                                                                                                  \
        const uint own = lane;                                                                                         \
        uint r[4];                                                                                                     \
        for (int matrix = 0; matrix < 4; matrix++) {                                                                   \
            const uint lane = 8 * matrix + own / 4;                                                                    \
            r[matrix] = ((const local uint *)(ring + READ_AT(place, flip, stage, ahead)))[own % 4];                    \
        }                                                                                                              \
        to = vload4(0, r);                                                                                             \
    }

#define READ_ACROSS(to, kept, place, flip, stage, ahead)                                                               \
    {                                                                                                                  \
        const uint own = lane;                                                                                         \
        ushort r[8];                                                                                                   \
        for (int element = 0; element < 8; element++) {                                                                \
            const uint lane = element / 2 * 8 + own % 4 * 2 + element % 2;                                             \
            r[element] = ((const local ushort *)(ring + READ_AT(place, flip, stage, ahead)))[own / 4];                 \
        }                                                                                                              \
        to = as_uint4(vload8(0, r));                                                                                   \
    }

#define READ_AT(place, flip, stage, ahead) ((stage)*STAGE + ((place) ^ (flip)) + (ahead))

static inline uint zero_behind_barrier(void) {
    barrier(CLK_LOCAL_MEM_FENCE);
    return 0;
}

#define WAVE_BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define KEEP_PLACE(kept, place)
#define OPAQUE(d)

#else

struct copies {
    int open; // the chip keeps count
};

#if THROUGH_L1
#define CACHED "ca"
#else
#define CACHED "cg"
#endif

static inline void copy_chunk(struct copies *c, local uint4 *to, const global ushort *from, bool exists) {
    asm volatile("{ .reg .pred p; setp.eq.u32 p, %2, 0; cp.async." CACHED ".shared.global.L2::128B [%0], [%1], 16, p; }"
                 :
                 : "r"((uint)(size_t)to), "l"(from), "r"((uint)exists)
                 : "memory");
}

static inline void close_group(struct copies *c) {
    asm volatile("cp.async.commit_group;" : : : "memory");
}

#define wait_groups(c, but) asm volatile("cp.async.wait_group %0;" : : "n"(but) : "memory")

// In bytes, and from a register, so that `ahead` becomes part of the instruction.
#define KEEP_PLACE(kept, place)                                                                                        \
    uint kept = (place)*16;                                                                                            \
    OPAQUE(kept)
#define READ_AT(kept, flip, stage, ahead)                                                                              \
    ((uint)(size_t)ring + (stage) * (STAGE * 16) + ((kept) ^ (flip)*16) + (ahead)*16)
#define READ_MATRICES(to, kept, place, flip, stage, ahead) READ_FOUR("", to, READ_AT(kept, flip, stage, ahead))
#define READ_ACROSS(to, kept, place, flip, stage, ahead) READ_FOUR(".trans", to, READ_AT(kept, flip, stage, ahead))
#define READ_FOUR(how, to, at)                                                                                         \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" how ".shared.b16 {%0, %1, %2, %3}, [%4];"                             \
                 : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w)                                                      \
                 : "r"(at)                                                                                             \
                 : "memory");

static inline uint zero_behind_barrier(void) {
    uint r;
    asm volatile("{ .reg .pred p; setp.ne.u32 p, 0, 0; bar.red.popc.u32 %0, 0, p; }" : "=r"(r) : : "memory");
    return r;
}

#define WAVE_BARRIER() asm volatile("bar.warp.sync 0xffffffff;" : : : "memory")

#define OPAQUE(d) asm volatile("" : "+r"(d)) // or the compiler keeps a pointer for each copy, and adds to all of them
#endif
