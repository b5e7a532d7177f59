// SPDX-License-Identifier: MIT
// Codes from a stage to the registers of products, a block at a time, a word of either row for two products. Of a word
// of f4_e2m1 codes i and i + 4 come to register i of four. In mxfp4 the two bytes between are exchanged when words are
// shifted to where registers have them, so that register i of word j has neighbours: elements 4j + 2 * (i % 2) and the
// next, or of the second product those 16 further. So what a product takes of x are neighbouring registers, too.

// A block of a stage: the words of either row, their scales.
struct raw {
    uint codes[2][4], e[2];
};

// Registers of two products: pairs of codes of either row by turns.
inline void hold_word(const struct raw *raw, int word, const uint *factor, uint *held) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint w = raw->codes[i][word], w8 = w >> 8;
        held[i] = multiply_two(low_codes(w), factor[i]);
        held[(SCALED ? 2 : 4) + i] = multiply_two(high_codes(w), factor[i]);
        held[(SCALED ? 4 : 2) + i] = multiply_two(low_codes(w8), factor[i]);
        held[6 + i] = multiply_two(high_codes(w8), factor[i]);
    }
}
