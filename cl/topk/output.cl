// SPDX-License-Identifier: MIT
// What the kernels of topk share: their arguments, the rows they work on, and how outputs are written.
//
// A kernel works on the positions 0 <= p < row.n of a row and selects the first row.k of them in the order of
// key_before: by key_at(&row, p) descending, then by p ascending. Windows and ties are settled here: position p is
// column row.first + p, or row.first - p where ties go to the highest index and so a row is walked backwards.
//
//   kernel void any(TOPK_PARAMS, ...) {
//       const struct row row = TOPK_ROW(r);              // r < rows
//       put_selected(&row, place, p);                    // each selected position once, whatever outputs are wanted
//       put_padding(&row, lane, lanes);                  // each row once, by `lanes` work-items
//       if (lane == 0) put_threshold(&row, p);           // p: the last one selected
//   }
//   if (flags & OUT_CELLS) {
//       const struct row row = TOPK_ROW(r);
//       put_cells(&row, kth, p, lane, lanes);            // kth: the key of p
//   }
//
// A row is made anew between any two barriers, in a block of its own: PoCL keeps a struct that lives across a barrier
// in memory, one for each work-item. Making one costs a few integer operations. put_cells is large and no compiler need
// inline it: it has a row of its own, made only where OUT_CELLS are wanted.
//
// With row.k = 0 there is no last one: any p and any key do, and are not looked at. Outputs that are not wanted are
// not written; kernels test OUT_ bits only to save work.
#include "topk/key.cl"

// So that a row, of which functions get the address, is taken apart into registers.
#define INLINE inline __attribute__((always_inline))

// Bits of `flags`; the outputs are those of enum clmoe_topk_output.
#define OUT_VALUES 1
#define OUT_INDICES 2
#define OUT_MASK 4
#define OUT_BITMASK 8
#define OUT_DENSE 16
#define OUT_THRESHOLD 32
#define OUT_COUNTS 64
#define OUT_CELLS (OUT_MASK | OUT_BITMASK | OUT_DENSE)
#define SMALLEST 128
#define NAN_LOWEST 256
#define NAN_TOTAL_ORDER 512
#define BY_INDEX 1024 // values and indices by index ascending, not best first
#define BACKWARD 2048 // ties go to the highest index
#define SCALED 4096   // dense is scale * x, not x
#define INDEX64 8192  // indices and cut are i64
#define HAS_BEGIN 16384
#define HAS_LENGTH 32768
#define HAS_K 65536

// A view of a tensor is (offset, stride of outer, stride of inner, stride along a row); row r is
// (r / inner_rows, r % inner_rows). threshold, cut and the arrays of rows are contiguous, from `skip` on.
//
// What every plan needs comes first: on a GPU whose constant memory is cold each further line of it costs a wait.
#define TOPK_PARAMS                                                                                                    \
    const global BITS(X_T) *x, global BITS(X_T) *values, global int *indices, long inner_rows, long4 x_view,           \
        long4 values_view, long4 indices_view, long rows, uint columns, uint slots, int flags,                         \
        const global int *row_begin, ulong row_begin_skip, const global int *row_length, ulong row_length_skip,        \
        const global int *row_k, ulong row_k_skip, global uchar *mask, long4 mask_view, global uint *bitmask,          \
        long4 bitmask_view, global BITS(X_T) *dense, long4 dense_view, global BITS(X_T) *threshold,                    \
        ulong threshold_skip, global int *cut, ulong cut_skip, global uint *counts, ulong counts_skip, ulong fill,     \
        ulong pad, float scale

// A row. What is written once at the end is computed there from the kernel's arguments, so that little is kept.
struct row {
    const global BITS(X_T) *x; // position p is x[p * step]
    long step;
    uint n, k;           // positions; how many are selected: k <= n
    uint columns, slots; // n and k of the plan; slots k..slots-1 are padding
    uint first;          // column of position 0
    int flags;
    struct key_rule rule;
    long number, outer, inner; // number = outer * inner_rows + inner
    global BITS(X_T) *values;
    global int *indices; // of long with INDEX64
    global uchar *mask;
    global uint *bitmask;
    global BITS(X_T) *dense;
    global BITS(X_T) *threshold; // of this row
    global int *cut;             // of the first row, of long with INDEX64
    global uint *counts;
    long4 values_view, indices_view, mask_view, bitmask_view, dense_view;
    ulong fill, pad, cut_skip;
    float scale;
};

#ifndef TOPK_FLAGS
#error "TOPK_FLAGS: flags, or their value if the kernel is for one plan's, so that what they rule out is compiled away"
#endif

#define TOPK_ROW(r)                                                                                                    \
    row_of(r, x, values, indices, inner_rows, x_view, values_view, indices_view, rows, columns, slots,                 \
           TOPK_FLAGS, row_begin, row_begin_skip, row_length, row_length_skip, row_k, row_k_skip, mask, mask_view,     \
           bitmask, bitmask_view, dense, dense_view, threshold, threshold_skip, cut, cut_skip, counts,                 \
           counts_skip, fill, pad, scale)

// Not INLINE: where a compiler is made to inline a function that returns a struct, it leaves marks (scopes of aliases)
// that oclgrind does not know. All but it inline this one anyway.
inline struct row row_of(long r, TOPK_PARAMS) {
    struct row row;
    row.number = r;
    row.outer = inner_rows == 1 ? r : r / inner_rows;
    row.inner = r - row.outer * inner_rows;
    const long begin = flags & HAS_BEGIN ? clamp((long)row_begin[row_begin_skip + r], 0l, (long)columns) : 0l;
    const long most = (long)columns - begin;
    const long length = flags & HAS_LENGTH ? clamp((long)row_length[row_length_skip + r], 0l, most) : most;
    const long wanted = flags & HAS_K ? clamp((long)row_k[row_k_skip + r], 0l, (long)slots) : (long)slots;
    row.n = (uint)length;
    row.k = (uint)min(wanted, length);
    row.columns = columns;
    row.slots = slots;
    row.first = (uint)(flags & BACKWARD && length > 0 ? begin + length - 1 : begin);
    row.step = flags & BACKWARD ? -x_view.w : x_view.w;
    row.x = x + (x_view.x + row.outer * x_view.y + row.inner * x_view.z + (long)row.first * x_view.w);
    row.flags = flags;
    row.rule = key_rule_of(flags & SMALLEST, flags & NAN_LOWEST, flags & NAN_TOTAL_ORDER);
    row.values = values;
    row.indices = indices;
    row.mask = mask;
    row.bitmask = bitmask;
    row.dense = dense;
    row.threshold = threshold + threshold_skip + r;
    row.cut = cut;
    row.counts = counts + counts_skip;
    row.values_view = values_view;
    row.indices_view = indices_view;
    row.mask_view = mask_view;
    row.bitmask_view = bitmask_view;
    row.dense_view = dense_view;
    row.fill = fill;
    row.pad = pad;
    row.cut_skip = cut_skip;
    row.scale = scale;
    return row;
}

INLINE KEY_T key_at(const struct row *row, uint p) { return key_of(row->x[(long)p * row->step], row->rule); }

INLINE uint row_column(const struct row *row, uint p) {
    return row->flags & BACKWARD ? row->first - p : row->first + p;
}

// Where the element or slot i of the row lies.
INLINE long view_at(const struct row *row, long4 view, uint i) {
    return view.x + row->outer * view.y + row->inner * view.z + (long)i * view.w;
}

INLINE void put_index(const struct row *row, global int *list, long at, long index) {
    if (row->flags & INDEX64)
        ((global long *)list)[at] = index;
    else
        list[at] = (int)index;
}

// `place` is the rank of the position among the selected ones, or for BY_INDEX the number of those at lower positions.
INLINE void put_selected(const struct row *row, uint place, uint p) {
    const int flags = row->flags;
    const uint column = row_column(row, p);
    const uint slot = (flags & BY_INDEX) && (flags & BACKWARD) ? row->k - 1 - place : place;
    if (flags & OUT_VALUES) row->values[view_at(row, row->values_view, slot)] = row->x[(long)p * row->step];
    if (flags & OUT_INDICES) put_index(row, row->indices, view_at(row, row->indices_view, slot), column);
    if (flags & OUT_COUNTS) atomic_inc(&row->counts[column]);
}

INLINE void put_padding(const struct row *row, uint lane, uint lanes) {
    for (uint slot = row->k + lane; slot < row->slots; slot += lanes) {
        if (row->flags & OUT_VALUES) row->values[view_at(row, row->values_view, slot)] = (BITS(X_T))row->pad;
        if (row->flags & OUT_INDICES) put_index(row, row->indices, view_at(row, row->indices_view, slot), -1);
    }
}

INLINE void put_threshold(const struct row *row, uint p) {
    if (!(row->flags & OUT_THRESHOLD)) return;
    *row->threshold = row->k ? row->x[(long)p * row->step] : (BITS(X_T))row->pad;
    put_index(row, row->cut, (long)row->cut_skip + row->number, row->k ? (long)row_column(row, p) : -1l);
}

// Scaled elements: f32, f16 and bf16. The bits of the same value as f32, by integer operations, and back.
#define WIDEN(T, b) CAT(widen_, T)(b)
#define NARROW(T, v) CAT(narrow_, T)(v)
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
inline ushort narrow_f16(float v) { return round_f16(v); }
inline ushort narrow_bf16(float v) { return round_bf16(v); }

inline BITS(X_T) scaled(BITS(X_T) bits, float scale) {
#if KEY_IS_FLOAT && KEY_BITS <= 32
    return NARROW(X_T, scale * as_float(WIDEN(X_T, bits)));
#else
    return bits; // never asked for
#endif
}

// The position of a column: at least n outside of the window.
inline uint cell_position(const struct row *row, uint column) {
    return row->flags & BACKWARD ? row->first - column : column - row->first;
}

inline bool cell_selected(const struct row *row, KEY_T kth, uint cut_position, uint p) {
    if (p >= row->n || row->k == 0) return false;
    const KEY_T key = key_at(row, p);
    return key > kth || (key == kth && p <= cut_position);
}

// Mask and dense of one column. A copy moves bits, so that no NaN is quieted and no denormal flushed.
inline void put_cell(const struct row *row, uint column, uint p, bool selected) {
    if (row->flags & OUT_MASK) row->mask[view_at(row, row->mask_view, column)] = selected;
    if (!(row->flags & OUT_DENSE)) return;
    BITS(X_T) cell = (BITS(X_T))row->fill;
    if (selected) cell = row->x[(long)p * row->step];
    if (selected && (row->flags & SCALED)) cell = scaled(cell, row->scale);
    row->dense[view_at(row, row->dense_view, column)] = cell;
}

// Mask, bitmask and dense of the columns from `begin`, a multiple of 32, to `end`; this is lane `lane` of `lanes`.
inline void put_cells_between(const struct row *row, KEY_T kth, uint cut_position, uint begin, uint end, uint lane,
                              uint lanes) {
    if (row->flags & (OUT_MASK | OUT_DENSE))
        for (uint c = begin + lane; c < end; c += lanes) {
            const uint p = cell_position(row, c);
            put_cell(row, c, p, cell_selected(row, kth, cut_position, p));
        }
    if (row->flags & OUT_BITMASK)
        for (uint w = begin / 32 + lane; w < (end + 31) / 32; w += lanes) {
            uint word = 0;
            for (uint c = 32 * w; c < end && c < 32 * w + 32; c++)
                word |= (uint)cell_selected(row, kth, cut_position, cell_position(row, c)) << (c % 32);
            row->bitmask[view_at(row, row->bitmask_view, w)] = word;
        }
}

inline void put_cells(const struct row *row, KEY_T kth, uint cut_position, uint lane, uint lanes) {
    put_cells_between(row, kth, cut_position, 0, row->columns, lane, lanes);
}
