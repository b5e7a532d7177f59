// SPDX-License-Identifier: MIT
// For mma_coded.cl: what a work-item takes of a stage's rows of w. Of each part of 128 steps it is a block of 32 codes,
// that of its place in a quad, of SIXTEENS times two rows: the second is eight below, or with GLU the one of up. In
// each sixteen they begin at the same byte of 16 as in the one before: only the first two have places in registers.
#include "matmul/coded_words.cl"

#define SIXTEEN_COLUMNS (GLU ? 8 : 16) // of y

#if SCALED
#ifndef SCALE_PERIOD
#error "SCALE_PERIOD: rows of w after which scales begin at the same byte of 16 again, 1 to 16 or with GLU 8"
#endif
#define SCALE_PITCH ((TK / 32 + 15 + 15) / 16 * 16)
#define SCALE_BYTES (W_ROWS * SCALE_PITCH)
#else
#define SCALE_BYTES 0
#endif

// Of two rows of codes or of scales: where they lie in a stage if they begin at multiples of 16; how far behind.
struct places {
    uint at[2], behind[2];
};

inline struct places places_of(const struct weights *w, const bool scales, const uint period, const uint pitch, uint to,
                               int expert, long n0, uint column) {
    const bool alike = GLU ? false : period <= 8; // eight rows below
    struct places p;
#pragma unroll
    for (uint second = 0; second < 2; second++) {
        if (second && alike) {
            p.at[1] = p.at[0] + 8 / period * pitch, p.behind[1] = p.behind[0];
            break;
        }
        const uint side = GLU ? second : 0, own = GLU ? column : column + 8 * second;
        const struct boxed b = boxed_of(w, side, scales);
        p.at[second] = boxed_place(to, period, pitch, side, own);
        p.behind[second] =
            ((uint)(ulong)b.first + (uint)expert * (uint)b.expert + (uint)(n0 + own) * (uint)b.column) & 15u;
    }
    return p;
}

// `shift`: all blocks of the work-item begin so far behind a multiple of 4, of which `rows` has that of the first.
struct share {
    struct places rows;
#if SCALED
    struct places scales;
#else
    uint shift[2];
#endif
};

inline struct share share_of(const struct weights *w, int expert, long n0, uint column, uint q) {
    struct share h;
    h.rows = places_of(w, false, PERIOD, PITCH, X_BYTES, expert, n0, column);
#if SCALED
    h.scales = places_of(w, true, SCALE_PERIOD, SCALE_PITCH, SCALES_AT, expert, n0, column);
#endif
#pragma unroll
    for (int i = 0; i < 2; i++) {
        h.rows.at[i] += q * BLOCK_BYTES;
#if SCALED
        h.scales.at[i] += q;
#else
        h.shift[i] = (h.rows.behind[i] + q * BLOCK_BYTES) & 3u;
        h.rows.at[i] -= h.shift[i];
#endif
    }
    return h;
}

// Of a part of a stage. Behind a row's last block, where it is not `there`, lies something else, which meets zeros.
inline void load_share(struct raw *raw, const local uchar *stage, const struct share *h, int sixteen, uint step,
                       uint part, bool there) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint ahead = sixteen * (SIXTEEN_COLUMNS / PERIOD) * PITCH + part * (4 * BLOCK_BYTES);
#if SCALED
        const uint4 w = *(const local uint4 *)(stage + h->rows.at[i] + ahead);
        raw->codes[i][0] = w.s0, raw->codes[i][1] = w.s1, raw->codes[i][2] = w.s2, raw->codes[i][3] = w.s3;
        const uint scale = h->scales.at[i] + ((h->scales.behind[i] + step * (TK / 32)) & 15u);
        raw->e[i] = there ? stage[scale + sixteen * (SIXTEEN_COLUMNS / SCALE_PERIOD) * SCALE_PITCH + part * 4] : 0;
#else
        const uint begin = h->rows.at[i] + ((h->rows.behind[i] + step * STEP_BYTES) & 15u);
        const local uint *const at = (const local uint *)(stage + begin + ahead);
        const uint words[5] = {at[0], at[1], at[2], at[3], at[4]};
#pragma unroll
        for (int j = 0; j < 4; j++)
            raw->codes[i][j] = permute_bytes(words[j], words[j + 1], 0x4231 + h->shift[i] * 0x1111);
        raw->e[i] = there ? permute_bytes(words[0], 0, 0x4440 | h->shift[i]) : 0;
#endif
    }
}
