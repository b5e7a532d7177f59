// SPDX-License-Identifier: MIT
// For CPU devices and codes of 4 bits, 8 in a word, as AWQ and GPTQ store them: as cpu.cl, one work-item a work-group
// for up to TM rows of one expert, with sums in vector registers. 16 words that lie side by side, and one shift of all
// of them, make a vector of codes (words16, code16):
//
//                 16 words are                      lane l of vector v is, of the 128 columns of a work-group,
//   AWQ           a step, of all 128 columns        8 l + what column has its code at place v
//   GPTQ          8 steps, of 16 columns            16 v + l
//
// so that AWQ's sums are put in order at the end. With a GLU the 128 gate rows of w go first, then the up rows. Where
// fewer than 128 columns are left the last 128 are taken again, and only those are stored that are new.
//
// K goes in pieces of TK. Many rows of x share the numbers of two vectors of columns; a row alone takes all eight at a
// time, by the same operations on each number: what a token gets does not depend on those beside it.
#include "matmul/cpu_rows.cl"

#define WIDTH 128
#define SUMS (WIDTH / 16)
#define PIECE_OF_W const float16 *
#define NUMBERS16(p) (*(p))
#define SOON_OF_W(p)
#include "matmul/cpu_products.cl"

#define IN_ORDER_gptq 1
#define IN_ORDER_awq 0
#define IN_ORDER CAT(IN_ORDER_, W_T)
#define WORD_STEPS (IN_ORDER ? 8 : 1) // of a word
#define WORDS(width) (IN_ORDER ? (width) : (width) / 8) // of a row
#define COLUMN(v, l) (IN_ORDER ? 16 * (v) + (l) : 8 * (l) + 2 * (v) % 8 + (v) / 4)

// Rows of w are too far apart for processors to read ahead by themselves: that many steps are asked for ahead, which
// was best of 32, 64, 128 and none on 2 cores of an EPYC (AWQ: 1.1 and, with none, 2.6 times slower).
#define SOON_STEPS 32

// A code as a number, with MAGIC added; differences of such are exact.
#define MAGIC 0x1p23f
static inline float16 code16(uint16 words, int place) {
    return as_float16(words >> (uint)(4 * place) & 15u | 0x4b000000u);
}

// Words at .. at + 15 of a row, of which it has `words`; the last one again past the end
static inline uint16 words16(const global uint *row, int at, int words) {
    if (at + 16 <= words) return vload16(0, row + at);
    uint some[16];
    for (int l = 0; l < 16; l++)
        some[l] = row[min(at + l, words - 1)];
    return vload16(0, some);
}

// A group of steps that share scales: what the codes of each vector of columns are taken less, MAGIC in it, and times
struct group {
    float16 zero[SUMS], scale[SUMS];
};

// From rows of `width` scales and zeros (or none: null)
static inline void read_group(struct group *group, const global ELEM(S_T) *scales, const global uint *zeros, int width,
                              int flags) {
    const uint16 lane = (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const float one = flags & ZERO_PLUS_ONE ? 1.0f : 0.0f;
    float in_order[WIDTH] = {0.0f}, *const scale = (float *)group->scale;
    for (int c = 0; c < width; c++)
        in_order[c] = LOAD(S_T, scales, c);
    for (int v = 0; v < SUMS; v++) {
        for (int l = 0; l < 16; l++)
            scale[16 * v + l] = in_order[COLUMN(v, l)];
        group->zero[v] = (float16)(MAGIC + 8.0f);
        if (!(flags & HAS_ZERO)) continue;
        if (IN_ORDER) {
            const uint low = zeros[min(2 * v, width / 8 - 1)], high = zeros[min(2 * v + 1, width / 8 - 1)];
            group->zero[v] = code16(select((uint16)(low), (uint16)(high), lane > 7u) >> lane % 8u * 4u, 0) + one;
        } else {
            group->zero[v] = code16(words16(zeros, 0, width / 8), v) + one;
        }
    }
}

// sums += a row of x times all columns, over `steps` of a group; the words `next` further on will be read soon
static inline void multiply_row(float16 *sums, floats x, const global uint *w, long w_row, int width, long next,
                                const struct group *group, int steps) {
    float16 sum[SUMS];
    UNROLL for (int v = 0; v < SUMS; v++) sum[v] = sums[v];
    for (int d = 0; d < steps; d += WORD_STEPS, w += w_row) {
        uint16 words[IN_ORDER ? SUMS : 1];
        UNROLL for (int v = 0; v < (IN_ORDER ? SUMS : 1); v++) {
            words[v] = words16(w, 16 * v, WORDS(width));
            SOON(w + next + 16 * v);
        }
        UNROLL for (int s = 0; s < WORD_STEPS; s++) {
            const float16 a = (float16)(d + s < steps ? x[d + s] : 0.0f);
            UNROLL for (int v = 0; v < SUMS; v++) {
                const float16 codes = code16(words[IN_ORDER ? v : 0], IN_ORDER ? s : v) - group->zero[v];
                sum[v] = fma(a, codes * group->scale[v], sum[v]);
            }
        }
    }
    UNROLL for (int v = 0; v < SUMS; v++) sums[v] = sum[v];
}

// The numbers of vectors v and v + 1 over `steps` of a group: two for each step
static inline void decode_columns(float16 *numbers, const global uint *w, long w_row, int width, long next,
                                  const struct group *group, int v, int steps) {
    const float16 zero[2] = {group->zero[v], group->zero[v + 1]}, scale[2] = {group->scale[v], group->scale[v + 1]};
    for (int d = 0; d < steps; d += WORD_STEPS, w += w_row) {
        uint16 words[2];
        UNROLL for (int i = 0; i < 2; i++) words[i] = words16(w, IN_ORDER ? 16 * (v + i) : 0, WORDS(width));
        if (IN_ORDER || v == 0) SOON(w + next + 16 * v);
        if (IN_ORDER) SOON(w + next + 16 * v + 16);
        UNROLL for (int s = 0; s < WORD_STEPS; s++)
            UNROLL for (int i = 0; i < 2; i++)
                numbers[2 * (d + s) + i] = (code16(words[i], IN_ORDER ? s : v + i) - zero[i]) * scale[i];
    }
}

// The same, compiled for whole tiles once more
static inline void decode(float16 *numbers, const global uint *w, long w_row, int width, long next,
                          const struct group *group, int v, int steps) {
    if (width == WIDTH)
        decode_columns(numbers, w, w_row, WIDTH, next, group, v, steps);
    else
        decode_columns(numbers, w, w_row, width, next, group, v, steps);
}

// Of a row's sums, by columns
static inline void bring_in_order(float16 *sums) {
    if (IN_ORDER) return;
    float own[WIDTH], *const lanes = (float *)sums;
    for (int v = 0; v < SUMS; v++)
        for (int l = 0; l < 16; l++)
            own[COLUMN(v, l)] = lanes[16 * v + l];
    for (int c = 0; c < WIDTH; c++)
        lanes[c] = own[c];
}

// Columns of the gate or the up rows, from `start` on: words, scales and zeros, and what is between rows of each
struct source {
    const global uint *w, *zeros;
    const global ELEM(S_T) *scales;
    long w_row, zero_row, scale_row;
};
#define SOURCE(w)                                                                                                      \
    {ROW_AT(W_T, w + w##_skip, expert * w##_expert + start * w##_column),                                              \
     ROW_AT(W_T, w##_zero + w##_zero_skip, expert * w##_zero_expert + W_ROW(w, start)),                                \
     SCALE_ROW(w, expert, start),                                                                                      \
     w##_depth / BLOCK(W_T),                                                                                           \
     w##_zero_group / BLOCK(W_T),                                                                                      \
     w##_scale_group}

// Steps d .. end - 1 of a piece are in a group, for all its groups.
#define EACH_GROUP(call)                                                                                               \
    for (int d = 0, end; d < steps; d = end) {                                                                         \
        const long g = (d0 + d) >> scale_shift;                                                                        \
        const struct group *const group = &groups[g - first_group];                                                    \
        end = (int)min((long)steps, ((g + 1) << scale_shift) - d0);                                                    \
        call;                                                                                                          \
    }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_cpu_words(MATMUL_ARGS) {
    MATMUL_NUMBERS
    GROUP_ROWS(WIDTH)
    const long start = max(min(n0, columns - WIDTH), 0L), expert = e - first;
    const int width = (int)min((long)WIDTH, columns);
    const long all = steps_at(limits + limits_skip, e, start, depth, flags);
#if GLU
    const struct source sources[] = {SOURCE(w), SOURCE(v)};
#else
    const struct source sources[] = {SOURCE(w)};
#endif
    float16 sums[GLU ? 2 : 1][TM * SUMS];
    for (int half_of_w = 0; half_of_w < (GLU ? 2 : 1); half_of_w++) {
        const struct source *const from = &sources[half_of_w];
        float16 *const own = sums[half_of_w];
        for (int i = 0; i < rows * SUMS; i++)
            own[i] = (float16)(0.0f);
        for (long d0 = 0; d0 < all; d0 += TK) {
            const int steps = (int)min((long)TK, all - d0);
            const global uint *const piece = from->w + d0 / WORD_STEPS * from->w_row;
            const long next = SOON_STEPS / WORD_STEPS * from->w_row, first_group = d0 >> scale_shift;
            struct group groups[TK / 16];
            for (long g = first_group; g <= (d0 + steps - 1) >> scale_shift; g++)
                read_group(&groups[g - first_group], from->scales + g * from->scale_row,
                           from->zeros + g * from->zero_row, width, flags);
            if (rows == 1) {
                PIECES_OF_X(1, 0, d0, steps)
                EACH_GROUP(multiply_row(own, xs[0] + d, piece + d / WORD_STEPS * from->w_row, from->w_row, width, next,
                                        group, end - d))
                continue;
            }
            for (int v = 0; v < SUMS; v += 2) {
                float16 numbers[TK * 2];
                EACH_GROUP(decode(numbers + d * 2, piece + d / WORD_STEPS * from->w_row, from->w_row, width, next,
                                  group, v, end - d))
                for (int r0 = 0; r0 < rows; r0 += MR) {
                    PIECES_OF_X(MR, r0, d0, steps)
                    multiply(some, own + r0 * SUMS + v, xs, numbers, numbers + 1, 2, 2, steps);
                }
            }
        }
        for (int r = 0; r < rows; r++)
            bring_in_order(own + r * SUMS);
    }
    for (int c = 0; c < width; c += 16) {
        const int skip = (int)(n0 - start) - c;
#define GATE16(r) sums[0][(r) * SUMS + c / 16]
#define UP16(r) sums[GLU][(r) * SUMS + c / 16]
        FINISH16(start + c, max(skip, 0), min(16, width - c), GATE16, UP16)
    }
}
