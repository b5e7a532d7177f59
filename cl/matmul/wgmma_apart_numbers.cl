// SPDX-License-Identifier: MIT
// Blocks of 32 codes and a scale of 16 bits, as wgmma_coded_apart.cl takes them: the codes that a work-item has of a
// block to whole numbers of x's type, which are exact.
//
// Those are of each chunk of 8 steps the elements 2 * (lane % 4) and the next: in q8_0 two neighbouring bytes, else the
// lower or the upper halves of two. In the last bits of the mantissa of 2^7 (bf16) or of 2^10 (f16) a code is added to
// that; what CODE_ZERO makes of it is then taken away.
#if APART == 8
#define CODE_ZERO 128
#define HALVES 4 // of 16 bits: what a work-item loads of the codes of a row's block
#define CODES_AT 1
#elif APART == 5
#define CODE_ZERO 16
#define HALVES 4 // the last two have the highest bits
#define CODES_AT 3
#elif APART == 4
#define CODE_ZERO 8
#define HALVES 2
#define CODES_AT 1
#else
#error "APART: bits of a code, 4, 5 or 8"
#endif
// Of a row's block, as it is in memory.
struct coded {
    ushort codes[HALVES], scale;
};

inline void load_coded(struct coded *own, const local ushort *block, uint t) {
    own->scale = block[0];
#if APART == 8
#pragma unroll
    for (int c = 0; c < 4; c++)
        own->codes[c] = block[CODES_AT + 4 * c + t];
#else
    own->codes[0] = block[CODES_AT + t], own->codes[1] = block[CODES_AT + 4 + t];
#endif
#if APART == 5
    own->codes[2] = block[1], own->codes[3] = block[2];
#endif
}

// The numbers of chunks 0 .. 3 to every second register of `held`.
inline void hold_coded(const struct coded *own, uint *held, uint t) {
#if APART == 8
#pragma unroll
    for (int c = 0; c < 4; c++) {
#if IS_BF16
        // 8 bits are one too many: 128 + the lower ones, less 128 or, where the highest is set, 256
        const uint two = permute_bytes(own->codes[c], ABOVE, 0x4140);
        held[2 * c] = subtract_two(two & 0xff7fff7fu, two & 0xff80ff80u);
#else
        held[2 * c] = subtract_two(permute_bytes(own->codes[c] ^ 0x8080u, ABOVE, 0x4140), TWO_OF(ABOVE << 8 | CODE_ZERO));
#endif
    }
#else
    const uint bytes = permute_bytes(own->codes[0], own->codes[1], 0x5140);
#if APART == 5
    const uint high = permute_bytes(own->codes[2], own->codes[3], 0x5410) >> 2 * t;
    const uint even = high << 4 & 0x10101010u, odd = high << 3 & 0x10101010u;
#endif
#pragma unroll
    for (int c = 0; c < 4; c++) {
        uint two = (bytes >> (c % 2 * 8 + c / 2 * 4) & TWO_OF(15)) | TWO_OF(ABOVE << 8);
#if APART == 5
        two |= permute_bytes(even, odd, 0x0400u + 0x0101u * c) & TWO_OF(16);
#endif
        held[2 * c] = subtract_two(two, TWO_OF(ABOVE << 8 | CODE_ZERO));
    }
#endif
}
