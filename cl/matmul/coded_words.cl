// SPDX-License-Identifier: MIT
// Codes from a stage to the registers of products, a block at a time, a word of either row for two products. Of a word of
// f4_e2m1 codes i and i + 4 come to register i of four. In mxfp4 the two bytes between are exchanged when words are
// shifted to where registers have them, so that register i of word j has neighbours: elements 4j + 2 * (i / 2) and the
// next, or with odd i those 16 further.

// A block of a stage: the words of either row, their scales.
struct raw {
    uint codes[2][4], e[2];
};

inline void load_block(struct raw *raw, const local uchar *stage, const struct held *h, uint step, uint block) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
#if SCALED
        const uint4 w = *(const local uint4 *)(stage + h->row[i] + block * 16);
        raw->codes[i][0] = w.s0, raw->codes[i][1] = w.s1, raw->codes[i][2] = w.s2, raw->codes[i][3] = w.s3;
#else
        const uint begin = ((h->before[i] + step * STEP_BYTES) & 15u) + block * BLOCK_BYTES, scale = begin & 3u;
        const local uint *const at = (const local uint *)(stage + h->row[i] + (begin - scale));
        const uint words[5] = {at[0], at[1], at[2], at[3], at[4]};
#pragma unroll
        for (int j = 0; j < 4; j++)
            raw->codes[i][j] = permute_bytes(words[j], words[j + 1], 0x4231 + scale * 0x1111);
        // Behind a row's last block lies something else, which meets zeros.
        raw->e[i] = step * (TK / 32) + block < h->blocks ? permute_bytes(words[0], 0, 0x4440 | scale) : 0;
#endif
    }
}

// Registers of two products: pairs of codes of either row by turns.
inline void hold_word(const struct raw *raw, int word, const uint *factor, uint *held) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint w = raw->codes[i][word], w8 = w >> 8;
        held[i] = multiply_two(low_codes(w), factor[i]);
        held[2 + i] = multiply_two(high_codes(w), factor[i]);
        held[4 + i] = multiply_two(low_codes(w8), factor[i]);
        held[6 + i] = multiply_two(high_codes(w8), factor[i]);
    }
}
