// SPDX-License-Identifier: MIT
// As wgmma_memory.cl, what wgmma_coded.cl has of its own.

// Copies of 16 bytes; of fewer, and zeros for the rest. Where this is not said, it costs nothing.
inline void copy_16_if(bool there, uint to, const global uchar *from) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p cp.async.cg.shared.global.L2::128B [%0], [%1], 16; }"
                 :
                 : "r"(to), "l"(from), "r"((uint)there)
                 : "memory");
}

inline void copy_some_of_16_if(bool there, uint to, const global uchar *from, int bytes) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %3, 0; @p cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2; }"
                 :
                 : "r"(to), "l"(from), "r"(bytes), "r"((uint)there)
                 : "memory");
}

// Of 4 bytes as many, and zeros for the rest.
inline void copy_some_of_4(uint to, const global uint *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" : : "r"(to), "l"(from), "r"(bytes) : "memory");
}

inline void store_local(uint at, uint v) { asm volatile("st.shared.b32 [%0], %1;" : : "r"(at), "r"(v) : "memory"); }

// On its way to the second cache.
inline void ask_for(const global uchar *at) { asm volatile("prefetch.global.L2 [%0];" : : "l"(at) : "memory"); }

// What is computed of a and b behind it is not computed before it, where it may not be needed.
#define COMPUTED_HERE(a, b) asm volatile("" : "+r"(a), "+r"(b))

#define WARPS_BARRIER(id, items) asm volatile("bar.sync %0, %1;" : : "r"(id), "n"(items) : "memory")

// sums[m][n] += over 16 steps of w[m][k] * x[n][k], of a warp: 16 rows of w, 8 of x. Of a work-item sums[0]
// and sums[1] are in row lane / 4, columns 2 * (lane % 4) and the next, sums[2] and sums[3] eight rows below.
inline void warp_multiply(float *sums, const uint *w, const uint *x) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "r"(x[0]), "r"(x[1]));
}
