// SPDX-License-Identifier: MIT
// What wgmma_coded.cl does where pairs are many: weights and x by asynchronous copies of 16 bytes, x as it is. Of a row
// of w these are the bytes around a stage's steps, so that it may begin anywhere.
//
// In a step of 16 a work-item holds elements 2 * (lane % 4) and the next of two chunks of 8: in a block of mxfp4 those
// are in neighbouring bytes, twice two of them, and in f4_e2m1 in one byte of each word.
// ---- to local memory ----

#define HALF_ROWS (W_ROWS / 2)
#define HALF_FETCHERS (FETCHING_WARPS * 32 / 2)
#define W_LANES (WINDOW > 32 ? 4 : 2) // of a row
#define W_EACH (HALF_FETCHERS / W_LANES)
#define W_COPIES ((HALF_ROWS + W_EACH - 1) / W_EACH)

inline int at_most(int bytes, int most) { return min(most, max(0, bytes)); }

struct window {
    const global uchar *w; // of the expert, at a multiple of 16 bytes
    uint from[W_COPIES];   // from there on, a multiple of 16 as well
    ulong before;          // how far behind it that row begins: 4 bits each
};

#define BEFORE(own, i) ((uint)((own)->before >> 4 * (i)) & 15u)

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS;
    const struct source source = source_of(w, side);
    const global uchar *const first = source.w + expert * source.expert;
    const uint off = (uint)(ulong)first & 15u;
    own->w = first - off;
    own->before = 0;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint row = min(l / W_LANES + i * W_EACH, HALF_ROWS - 1u), more = (l & (W_LANES - 1)) * 16;
        const uint at = GLU ? row : row / 8 * 16 + side * 8 + (row & 7u);
        const uint begin = off + (uint)(column_of(at, side, column, w->columns) * source.column);
        own->from[i] = (begin & ~15u) + more;
        own->before |= (ulong)(begin & 15u) << 4 * i;
    }
}

// What lies in a stage of which rows do not end.
inline void fetch_middle(uint to, const struct window *own, uint l, uint begin) {
    const uint row = l / W_LANES, chunk = (l & (W_LANES - 1)) * 16;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = BEFORE(own, i), from = (before + begin) & ~15u;
        const bool there = chunk < before + begin - from + STEP_BYTES &&
                           ((i + 1) * W_EACH <= HALF_ROWS || i * W_EACH + row < HALF_ROWS);
        copy_16_if(there, to + row * PITCH + chunk + i * W_EACH * PITCH, own->w + from + own->from[i]);
    }
}

// The same where they end: behind a row's last byte come zeros, which are codes of 0 with the smallest scale.
inline void fetch_end(uint to, const struct window *own, uint l, uint begin, uint row_bytes) {
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = BEFORE(own, i), from = (before + begin) & ~15u;
        const uint row = l / W_LANES + i * W_EACH, more = (l & (W_LANES - 1)) * 16;
        const int bytes = at_most((int)(before + row_bytes) - (int)(from + more), 16);
        copy_some_of_16_if(row < HALF_ROWS && more < WINDOW, to + row * PITCH + more,
                           bytes ? own->w + from + own->from[i] : own->w, bytes);
    }
}

inline void fetch_weights(uint stage, uint full, const struct window *own, uint lid, uint step, uint row_bytes) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS, begin = step * STEP_BYTES;
    const uint to = stage + X_BYTES + side * HALF_ROWS * PITCH;
    if (begin + STEP_BYTES + 32 <= row_bytes)
        fetch_middle(to, own, l, begin);
    else
        fetch_end(to, own, l, begin, row_bytes);
}

#define X_EACH (FETCHING_WARPS * 4) // rows from copy to copy: an odd number of fours, by which a chunk's place changes
#define X_COPIES ((TOKENS + X_EACH - 1) / X_EACH)

// What a work-item copies of x: a chunk of every X_EACH-th row that the slot names. Behind the last pair what was there
// stays: sums of other pairs do not see it.
struct rows {
    const global uchar *x;
    uint from[X_COPIES]; // in chunks
    int n;               // rows less the first one's number
};

inline void place_rows(struct rows *own, const local struct slot *slot, int rows, const global uchar *x,
                       uint x_row_chunks, uint lid) {
    own->x = x;
    own->n = rows - (int)(lid / 8);
#pragma unroll
    for (int i = 0; i < X_COPIES; i++)
        own->from[i] = (uint)slot->x_row[min((int)(lid / 8) + i * X_EACH, rows - 1)] * x_row_chunks + (lid & 7u);
}

inline void fetch_rows(uint stage, const struct rows *own, uint lid, uint step, uint depth) {
    const uint chunk = lid & 7u, row = lid / 8, to = stage + row * 128 + (chunk ^ (row & 7u)) * 16;
#pragma unroll
    for (int part = 0; part < TK / 64; part++) {
        const uint at = step * TK + part * 64, bytes = at + chunk * 8 < depth ? 16 : 0;
        const global uchar *const x = own->x + (bytes ? at * 2 : 0);
#pragma unroll
        for (int i = 0; i < X_COPIES; i++)
            copy_some_of_16_if(i * X_EACH < own->n, (to ^ (i & 1) * 64) + part * TOKENS * 128 + i * X_EACH * 128,
                       x + (ulong)own->from[i] * 16, bytes);
    }
}

// ---- sums ----

// Of a block of either row, as they are in memory: what the work-item needs of its codes; its scale.
struct raw {
    uint codes[2][4], e[2];
};

// Block `block` of a stage.
inline void load_block(struct raw *raw, const local uchar *memory, uint stage, const struct held *h, uint step,
                       int block) {
    const uint lane = get_local_id(0) & 31u;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const local uchar *const row = memory + stage + h->row[i];
#if SCALED
        const uint4 words = *(const local uint4 *)(row + block * 16);
        raw->codes[i][0] = words.s0, raw->codes[i][1] = words.s1, raw->codes[i][2] = words.s2,
        raw->codes[i][3] = words.s3;
        raw->e[i] = scale_at(h, i, step * (TK / 32) + block);
#else
        const local uchar *const at = row + ((h->before[i] + step * STEP_BYTES) & 15u) + block * BLOCK_BYTES;
        const local uchar *const own = at + 2 * (lane & 3u);
        raw->e[i] = at[0];
        raw->codes[i][0] = own[1], raw->codes[i][1] = own[2], raw->codes[i][2] = own[9], raw->codes[i][3] = own[10];
#endif
    }
}

// Registers of two products: of chunks 0 .. 3 those of the first row, each followed by the second row's.
inline void hold_block(const struct raw *raw, uint *held) {
    const uint factor[2] = {scale_factor(raw->e[0]), scale_factor(raw->e[1])};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint *const codes = raw->codes[i];
#if SCALED
        const uint select = (get_local_id(0) & 3u) * 0x1111u + 0x0004u;
#pragma unroll
        for (int c = 0; c < 4; c++)
            held[2 * c + i] = high_codes(permute_bytes(codes[c], codes[c] << 4, select));
#else
        const uint first = codes[0] | codes[1] << 16, second = codes[2] | codes[3] << 16;
        held[i] = low_codes(first), held[2 + i] = low_codes(second);
        held[4 + i] = high_codes(first), held[6 + i] = high_codes(second);
#endif
    }
#pragma unroll
    for (int n = 0; n < 8; n++)
        held[n] = multiply_two(held[n], factor[n & 1]);
}

inline void hold_scaled(const struct raw *raw, uint *held) {
    hold_block(raw, held);
    if (any_of_warp(max(raw->e[0], raw->e[1]) > LARGE_SCALE)) scale_held(raw->e, held);
}

#define BLOCKS (TK / 32) // of a stage

// All steps of a tile of which n pairs are multiplied. While products run, codes of the next block are read and
// decoded.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, const struct held *h, float *sums) {                \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        struct raw raw;                                                                                                \
        uint held[2][8], previous = 0;                                                                                 \
        mb_wait(r->full + 8 * stage->at, stage->phase);                                                                \
        load_block(&raw, memory, stage->at * STAGE_BYTES, h, 0, 0);                                                    \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint base = stage->at * STAGE_BYTES, own = stage->at;                                                \
            const ulong pairs = tile_of(r->base + base);                                                               \
            ASYNC_FENCE();                                                                                             \
            _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                                           \
                hold_scaled(&raw, held[block & 1]);                                                                    \
                WGMMA_FENCE();                                                                                         \
                _Pragma("unroll") for (int i = 0; i < 2; i++) {                                                        \
                    const int k16 = 2 * block + i;                                                                     \
                    HELD_WGMMA_##n(sums, held[block & 1] + 4 * i, pairs + k16 / 4 * (TOKENS * 128 >> 4) + k16 % 4 * 2, \
                                   k16 ? 1 : step);                                                                    \
                }                                                                                                      \
                WGMMA_COMMIT();                                                                                        \
                if (block + 1 < BLOCKS) {                                                                              \
                    load_block(&raw, memory, base, h, step, block + 1);                                                \
                } else {                                                                                               \
                    next_turn(stage, STAGES);                                                                          \
                    if (step + 1 < steps) {                                                                            \
                        mb_wait(r->full + 8 * stage->at, stage->phase);                                                \
                        load_block(&raw, memory, stage->at * STAGE_BYTES, h, step + 1, 0);                             \
                    }                                                                                                  \
                }                                                                                                      \
                WGMMA_WAIT("1");                                                                                       \
                if (block == 0 && step && tells) mb_arrive(r->empty + 8 * previous);                                   \
            }                                                                                                          \
            previous = own;                                                                                            \
        }                                                                                                              \
        WGMMA_WAIT("0");                                                                                               \
        if (tells) mb_arrive(r->empty + 8 * previous);                                                                 \
    }

#define ALL_SUMS 128 // as a number, for HOLD
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_STEPS(160)
DEFINE_MULTIPLY_STEPS(192)
DEFINE_MULTIPLY_STEPS(256)

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, int rows, float *sums) {
    if (rows > 192)
        multiply_steps_256(r, stage, steps, memory, h, sums);
    else if (rows > 160)
        multiply_steps_192(r, stage, steps, memory, h, sums);
    else if (rows > 128)
        multiply_steps_160(r, stage, steps, memory, h, sums);
    else if (rows > 64)
        multiply_steps_128(r, stage, steps, memory, h, sums);
    else
        multiply_steps_64(r, stage, steps, memory, h, sums);
    HOLD(ALL_SUMS, sums);
}
