// SPDX-License-Identifier: MIT
// What wgmma_coded.cl does where blocks of 256 steps have scales of two levels: those of 16 or 32 steps are whole
// numbers, which times codes are one number of x's type, or two. So the instruction sums a whole block, by as many
// products, and the scale of the block goes to what comes of that, in fp32:
//
//   sums = fma(scale, sums of the block, sums)
//
// Where there are minima, so do they: what is taken away is their scales times sums over 32 steps of x, which
// wgmma_x_sums.cl left as three numbers of x's type each. That is a product of two times 16 steps:
//
//   steps  0 .. 7, 8 .. 15, 16 .. 23   the first, second and third number of 8 sums; 24 .. 31 are zeros
//
// Rows of these numbers lie in local memory as if they were 64 steps of x.
#include "matmul/wgmma_k_numbers.cl"

// ---- to local memory ----

#define W_LANES 8 // of a row, each for two chunks
#define W_EACH (HALF_FETCHERS / W_LANES)

struct window {
    const global uchar *w; // of the expert, at a multiple of 16 bytes
    uint before, row;      // how far behind it that begins; from row to row
    int column, last;      // of a tile, of all
};

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    const struct source source = source_of(w, lid >= HALF_FETCHERS);
    const global uchar *const first = source.w + expert * source.expert;
    own->before = (uint)(ulong)first & 15u;
    own->w = first - own->before;
    own->row = (uint)source.column;
    own->column = (int)column, own->last = (int)w->columns - 1;
}

// A block of each row: the bytes around it, so that it may begin anywhere.
inline void fetch_block(uint to, const struct window *own, uint lid, uint block) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS, chunk = (l & (W_LANES - 1)) * 16;
#pragma unroll
    for (uint i = 0; i < HALF_ROWS; i += W_EACH) {
        const uint row = i + l / W_LANES, at = GLU ? row : row / 8 * 16 + side * 8 + (row & 7u);
        const uint begin = own->before + (uint)min(own->column + (int)at, own->last) * own->row + block * BLOCK_BYTES;
        const uint from = (begin & ~15u) + chunk, place = to + (side * HALF_ROWS + row) * PITCH + chunk;
#pragma unroll
        for (int more = 0; more < 16 * 2 * W_LANES; more += 16 * W_LANES) {
            const int bytes = (int)(begin + BLOCK_BYTES - from) - more;
            copy_some_of_16_if(bytes > 0 && row < HALF_ROWS, place + more, own->w + from + more, at_most(bytes, 16));
        }
    }
}

#if HAS_MIN
#define SUMS_EACH (FETCHING_WARPS * 8) // rows from copy to copy
inline void fetch_sums(uint to, const local struct slot *slot, int rows, const global uchar *x_sums, uint block,
                       uint blocks, uint lid) {
    const uint chunk = lid & 3u;
#pragma unroll
    for (int i = 0; i < TOKENS; i += SUMS_EACH) {
        const int row = i + (int)(lid / 4);
        const ulong from = (ulong)(uint)slot->x_row[min(row, rows - 1)] * blocks + block;
        copy_16_if(row < rows, to + row * 128 + (chunk ^ ((uint)row & 7u)) * 16, x_sums + from * 64 + chunk * 16);
    }
}
#endif

// ---- sums ----

#define ALL_SUMS (TOKENS / 2)

// Of either row half of 32 steps; at first, of a block of 256, both halves and what all of it share.
inline void load_steps(struct coded *raw, const local ushort *const *rows, uint b, int odd, int second) {
#pragma unroll
    for (int i = 0; i < 2; i++)
        load_coded(&raw[i], rows[i], b, odd, second, get_local_id(0) & 3u);
}

inline void load_first_steps(struct coded *raw, const local ushort *const *rows) {
#pragma unroll
    for (int i = 0; i < 2; i++)
        load_first(&raw[i], rows[i], get_local_id(0) & 3u);
    load_steps(raw, rows, 0, 0, 0);
    load_steps(raw, rows, 0, 0, 1);
}

// Registers of the products of half of 32 steps. What factors the first half has may be those of the second one, too.
inline void hold_steps(const struct coded *raw, uint *held, struct factors *by, uint b, int odd, int second,
                       uint above) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        factors_of(&raw[i], &by[i], b, odd, second);
        hold_coded(&raw[i], held + i, &by[i], b, odd, second, above);
    }
}

// Products of n pairs to `now`, whose first one is to look as if it added to that: `none` is 0.
#define DEFINE_PRODUCTS(n, n_sums)                                                                                     \
    inline void CAT(start_steps_, n)(float *now, const uint *held, ulong pairs, uint keep) {                           \
        WGMMA_FENCE();                                                                                                 \
        HELD_WGMMA_##n(now, held, pairs, keep);                                                                        \
        if (PRODUCTS > 1) HELD_WGMMA_##n(now, held + 4 * (PRODUCTS - 1), pairs, 1);                                    \
        WGMMA_COMMIT();                                                                                                \
    }                                                                                                                  \
    inline void CAT(add_sums_, n)(float *sums, float *now, const float *scale) {                                       \
        HOLD(n_sums, now);                                                                                             \
        _Pragma("unroll") for (int i = 0; i < n_sums; i++) sums[i] = fma(scale[i / 2 & 1], now[i], sums[i]);           \
        HOLD(n_sums, sums);                                                                                            \
    }

#if HAS_MIN
// f16 has not the range of these sums: its second number is times 2^11, its third one times 2^22, and all are a 32nd.
#define MIN_FACTOR(part) ((part) == 0 ? 0x5000u : (part) == 1 ? 0x2400u : 0x0080u)
inline uint part_of(uint two, int part) { return IS_BF16 ? two : scale_two(two, TWO_OF(MIN_FACTOR(part))); }

#define DEFINE_TAKE_MINIMA(n)                                                                                          \
    inline void CAT(take_minima_, n)(float *sums, float *now, const local ushort *const *rows, ulong x_sums,           \
                                     uint none) {                                                                      \
        const uint t = get_local_id(0) & 3u, m[2] = {minima_of(rows[0], t), minima_of(rows[1], t)};                    \
        const uint held[8] = {part_of(m[0], 0), part_of(m[1], 0), part_of(m[0], 1), part_of(m[1], 1),                  \
                              part_of(m[0], 2), part_of(m[1], 2), 0, 0};                                               \
        const float scale[2] = {-float_of_f16(rows[0][MIN_AT]), -float_of_f16(rows[1][MIN_AT])};                       \
        WGMMA_FENCE();                                                                                                 \
        HELD_WGMMA_##n(now, held, x_sums, none);                                                                       \
        HELD_WGMMA_##n(now, held + 4, x_sums + 2, 1);                                                                  \
        WGMMA_COMMIT();                                                                                                \
        WGMMA_WAIT("0");                                                                                               \
        CAT(add_sums_, n)(sums, now, scale);                                                                           \
    }
#else
#define DEFINE_TAKE_MINIMA(n)                                                                                          \
    inline void CAT(take_minima_, n)(float *sums, float *now, const local ushort *const *rows, ulong x_sums,           \
                                     uint none) {}
#endif

// All steps of a tile of which n pairs are multiplied. While products of 16 steps run, codes of the next ones are
// decoded.
#define DEFINE_MULTIPLY_STEPS(n, n_sums)                                                                               \
    DEFINE_PRODUCTS(n, n_sums)                                                                                         \
    DEFINE_TAKE_MINIMA(n)                                                                                              \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, const struct held *h, uint none, float *sums) {     \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        const uint above = kept_apart(ABOVE);                                                                          \
        struct coded raw[2];                                                                                           \
        struct factors by[2];                                                                                          \
        uint held[2][4 * PRODUCTS];                                                                                    \
        float now[n_sums];                                                                                             \
        _Pragma("unroll") for (int i = 0; i < n_sums; i++) now[i] = 0.0f;                                              \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        for (uint block = 0; block * STAGES < steps; block++) {                                                        \
            const local ushort *rows[2];                                                                               \
            _Pragma("unroll") for (int i = 0; i < 2; i++) rows[i] =                                                    \
                (const local ushort *)(memory + stage->phase * W_BYTES + h->row[i] +                                   \
                                       ((h->before[i] + block * STEP_BYTES) & 15u));                                   \
            mb_wait(r->full, stage->phase);                                                                            \
            load_first_steps(raw, rows);                                                                               \
            ASYNC_FENCE();                                                                                             \
            CAT(take_minima_, n)(sums, now, rows, tile_of(r->base + SUMS_BEGIN + stage->phase * X_BYTES), none);       \
            _Pragma("unroll 1") for (uint part = 0; part < STAGES; part++) {                                           \
                const ulong pairs = tile_of(r->base + part * STAGE_BYTES);                                             \
                if (part) {                                                                                            \
                    mb_wait(r->full + 8 * part, stage->phase);                                                         \
                    ASYNC_FENCE();                                                                                     \
                }                                                                                                      \
                _Pragma("unroll") for (int i = 0; i < 4; i++) {                                                        \
                    const uint b = 2 * part + i / 2;                                                                   \
                    hold_steps(raw, held[i & 1], by, b, i / 2, i & 1, above);                                          \
                    CAT(start_steps_, n)(now, held[i & 1], pairs + 2 * i, i || part ? 1 : none);                       \
                    load_steps(raw, rows, (b + 1) & 7u, 1 - i / 2, i & 1);                                             \
                    WGMMA_WAIT("1");                                                                                   \
                    if (i == 0 && part && tells) mb_arrive(r->empty + 8 * (part - 1));                                 \
                }                                                                                                      \
            }                                                                                                          \
            const float scale[2] = {float_of_f16(rows[0][SCALE_AT]), float_of_f16(rows[1][SCALE_AT])};                 \
            WGMMA_WAIT("0");                                                                                           \
            if (tells) mb_arrive(r->empty + 8 * (STAGES - 1));                                                         \
            stage->phase ^= 1;                                                                                         \
            CAT(add_sums_, n)(sums, now, scale);                                                                       \
        }                                                                                                              \
    }
DEFINE_MULTIPLY_STEPS(64, 32)
DEFINE_MULTIPLY_STEPS(96, 48)
DEFINE_MULTIPLY_STEPS(128, 64)

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, int rows, float *sums) {
    const uint none = rows <= 0;
    if (rows > 96)
        multiply_steps_128(r, stage, steps, memory, h, none, sums);
    else if (rows > 64)
        multiply_steps_96(r, stage, steps, memory, h, none, sums);
    else
        multiply_steps_64(r, stage, steps, memory, h, none, sums);
}
