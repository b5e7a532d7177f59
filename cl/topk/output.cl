// SPDX-License-Identifier: MIT
// What the kernels of topk share: the arguments, keys of elements, and how outputs are written. An element i of a row
// is selected iff before-or-equal(i, cut) in the total order, where (kth, cut) are key and index of the k-th element:
//   key(i) > kth  or  key(i) == kth and i <= cut
// With k = 0 there is no such element, and (0xffffffff, -1) selects nothing.
#include "common/dtype.cl"
#include "common/key.cl"

#ifndef X_T
#error "X_T: f32, f16 or bf16"
#endif

// The storage of an element, and the bits of the same value as f32, by integer operations.
#define BITS(T) CAT(bits_, T)
#define WIDEN(T, b) CAT(widen_, T)(b)
#define NARROW(T, v) CAT(narrow_, T)(v)

typedef uint bits_f32;
typedef ushort bits_f16;
typedef ushort bits_bf16;

inline uint widen_f32(uint b) { return b; }
inline uint widen_bf16(ushort b) { return (uint)b << 16; }
inline uint widen_f16(ushort b) {
    const uint sign = ((uint)b & 0x8000u) << 16, magnitude = (uint)b & 0x7fffu;
    if (magnitude >= 0x7c00u) return sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
    if (magnitude >= 0x400u) return sign | ((magnitude << 13) + (112u << 23));
    if (magnitude == 0u) return sign;
    const uint top = 31u - clz(magnitude); // denormal: magnitude * 2^-24, its highest bit becomes the hidden one
    return sign | (top + 103u) << 23 | ((magnitude << (23u - top)) & 0x7fffffu);
}

inline uint narrow_f32(float v) { return as_uint(v); }
inline ushort narrow_bf16(float v) { return round_bf16(v); }
inline ushort narrow_f16(float v) { return round_f16(v); }

// Bits of `flags`; the outputs are those of enum clmoe_topk_output.
#define OUT_VALUES 1
#define OUT_INDICES 2
#define OUT_MASK 4
#define OUT_BITMASK 8
#define OUT_DENSE 16
#define OUT_CELLS (OUT_MASK | OUT_BITMASK | OUT_DENSE)
#define SMALLEST 32
#define NAN_LOWEST 64
#define BY_INDEX 128 // values and indices by index ascending, not best first
#define SCALED 256   // dense is scale * x, not x

#define X_PARAMS const global BITS(X_T) *x, ulong x_skip, long x_stride, int n, int k, int flags
#define LIST_PARAMS                                                                                                    \
    global BITS(X_T) *values, ulong values_skip, long values_stride, global int *indices, ulong indices_skip,          \
        long indices_stride
#define CELL_PARAMS                                                                                                    \
    global uchar *mask, ulong mask_skip, long mask_stride, global uint *bitmask, ulong bitmask_skip,                   \
        long bitmask_stride, global BITS(X_T) *dense, ulong dense_skip, long dense_stride, ulong fill, float scale

inline uint key_at(const global BITS(X_T) *x, long i, int flags) {
    return key_directed(WIDEN(X_T, x[i]), flags & SMALLEST, flags & NAN_LOWEST);
}

// The pointers of one row.
#define ROW(tensor, row) (tensor + tensor##_skip + (row) * tensor##_stride)

inline void put_selected(global BITS(X_T) *values, global int *indices, const global BITS(X_T) *x, int flags, uint at,
                         uint i) {
    if (flags & OUT_VALUES) values[at] = x[i];
    if (flags & OUT_INDICES) indices[at] = (int)i;
}

// Element i of mask and dense. A copy moves bits, so that no NaN is quieted and no denormal flushed.
inline void put_cell(global uchar *mask, global BITS(X_T) *dense, const global BITS(X_T) *x, int flags, BITS(X_T) fill,
                     float scale, uint i, bool selected) {
    if (flags & OUT_MASK) mask[i] = selected;
    if (!(flags & OUT_DENSE)) return;
    if (!selected)
        dense[i] = fill;
    else if (flags & SCALED)
        dense[i] = NARROW(X_T, scale * as_float(WIDEN(X_T, x[i])));
    else
        dense[i] = x[i];
}

// mask, bitmask and dense of one row; this is lane `lane` of `lanes`.
inline void put_cells(global uchar *mask, global uint *bitmask, global BITS(X_T) *dense, const global BITS(X_T) *x,
                      int n, int flags, BITS(X_T) fill, float scale, uint kth, int cut, int lane, int lanes) {
    if (flags & (OUT_MASK | OUT_DENSE))
        for (long i = lane; i < n; i += lanes) {
            const uint key = key_at(x, i, flags);
            put_cell(mask, dense, x, flags, fill, scale, (uint)i, key > kth || (key == kth && i <= cut));
        }
    if (flags & OUT_BITMASK)
        for (long w = lane; 32 * w < n; w += lanes) {
            uint word = 0;
            for (long i = 32 * w; i < n && i < 32 * w + 32; i++) {
                const uint key = key_at(x, i, flags);
                word |= (uint)(key > kth || (key == kth && i <= cut)) << (i % 32);
            }
            bitmask[w] = word;
        }
}
