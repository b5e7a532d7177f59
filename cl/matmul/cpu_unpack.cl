// SPDX-License-Identifier: MIT
// For CPU devices: a piece of a row of coded weights as numbers, which are what LOAD16 says, bit by bit.
//
//   unpack(to, from, next, steps, scales, scale_group, scale_shift, d0)
//
// `steps` numbers, or up to the end of the last block. from: where they begin, step d0 of a row, which is a multiple of
// 256; next: what will be read soon, as much again, which is only asked for and may lie behind the weights; scales:
// SCALE_ROW of the row.
#define UNPACK_ARGS                                                                                                    \
    float16 *to, const global ELEM(W_T) *from, const global ELEM(W_T) *next, int steps,                                \
        const global ELEM(S_T) *scales, long scale_group, int scale_shift, long d0

#if BLOCK(W_T) == 256
// S and M of eight times 32 numbers, which scale_min_k of blocks.cl has one by one: d * S, then dmin * M
static inline float16 scales_mins_k(const global ushort *block) {
    const uint4 head = as_uint4(vload8(0, block));
    const uint4 six_bits = (uint4)(head.y & 0x3f3f3f3fu, (head.w & 0x0f0f0f0fu) | (head.y >> 2 & 0x30303030u),
                                   head.z & 0x3f3f3f3fu, (head.w >> 4 & 0x0f0f0f0fu) | (head.z >> 2 & 0x30303030u));
    return convert_float16(as_uchar16(six_bits)) * (float16)((float8)(half_at(block)), (float8)(half_at(block + 1)));
}

// Numbers l and 32 + l of each 64, 16 of each at a time
static inline void unpack_q4_k(float16 *to, const global ushort *block) {
    float s[16];
    vstore16(scales_mins_k(block), 0, s);
    UNROLL for (int i = 0; i < 8; i++) {
        const int sub = i / 2 * 2, at = i / 2 * 4 + i % 2;
        const uchar16 codes = bytes16(block + 8 + i * 8);
        to[at] = convert_float16(nibbles16(codes, 0)) * s[sub] - s[8 + sub];
        to[at + 2] = convert_float16(nibbles16(codes, 1)) * s[sub + 1] - s[9 + sub];
    }
}

static inline void unpack_q5_k(float16 *to, const global ushort *block) {
    float s[16];
    vstore16(scales_mins_k(block), 0, s);
    UNROLL for (int i = 0; i < 8; i++) {
        const int sub = i / 2 * 2, at = i / 2 * 4 + i % 2;
        const uchar16 codes = bytes16(block + 24 + i * 8), high = bytes16(block + 8 + i % 2 * 8) >> (uchar)sub;
        const uchar16 first = nibbles16(codes, 0) | (high & (uchar)1) << (uchar)4;
        const uchar16 second = nibbles16(codes, 1) | (high & (uchar)2) << (uchar)3;
        to[at] = convert_float16(first) * s[sub] - s[8 + sub];
        to[at + 2] = convert_float16(second) * s[sub + 1] - s[9 + sub];
    }
}

// Numbers l, 32 + l, 64 + l and 96 + l of each half of a block, 16 of each at a time
static inline void unpack_q6_k(float16 *to, const global ushort *block) {
    float s[16];
    vstore16(convert_float16(as_char16(bytes16(block + 96))) * half_at(block + 104), 0, s);
    UNROLL for (int i = 0; i < 4; i++) {
        const global ushort *const low = block + i / 2 * 32 + i % 2 * 8;
        const uchar16 high = bytes16(block + 64 + i * 8);
        UNROLL for (int q = 0; q < 4; q++) {
            const int at = i / 2 * 8 + q * 2 + i % 2;
            const uchar16 bits = q < 2 ? high << (uchar)(4 - 2 * q) : high >> (uchar)(2 * q - 4);
            const uchar16 codes = nibbles16(bytes16(low + q % 2 * 16), q / 2) | (bits & (uchar)0x30);
            to[at] = (convert_float16(codes) - 32.0f) * s[at];
        }
    }
}

static inline void unpack(UNPACK_ARGS) {
    for (int d = 0; d < steps; d += 256, from += UNITS(W_T), next += UNITS(W_T)) {
        UNROLL for (int i = 0; i < UNITS(W_T); i += 32) SOON(next + i);
        CAT(unpack_, W_T)(to + d / 16, from);
    }
}
#elif BLOCK(W_T) == 32
static inline void unpack(UNPACK_ARGS) {
    for (int d = 0; d < steps; d += 32, from += UNITS(W_T), next += UNITS(W_T)) {
        SOON(next);
        UNROLL for (int i = 0; i < 32; i += 16) to[(d + i) / 16] = LOAD16(W_T, from, i);
    }
}
#elif SCALED && HAS_RUNS(W_T)
// By runs of WIDTH steps, 16 or more, that have one scale
#define UNPACK_RUNS(WIDTH)                                                                                             \
    static inline void unpack_##WIDTH(UNPACK_ARGS) {                                                                   \
        for (int d = 0; d < steps; d += WIDTH, from += WIDTH / BLOCK(W_T), next += WIDTH / BLOCK(W_T)) {               \
            const float scale = LOAD(S_T, scales, ((d0 + d) >> scale_shift) * scale_group);                            \
            const int n = min(WIDTH, steps - d);                                                                       \
            SOON(next);                                                                                                \
            if (n == WIDTH)                                                                                            \
                UNROLL for (int i = 0; i < WIDTH; i += 16) to[(d + i) / 16] = LOAD16(W_T, from, i) * scale;            \
            else                                                                                                       \
                for (int i = 0; i < n; i++)                                                                            \
                    ((float *)to)[d + i] = LOAD(W_T, from, i) * scale;                                                 \
        }                                                                                                              \
    }
UNPACK_RUNS(16)
UNPACK_RUNS(32)
UNPACK_RUNS(64)

static inline void unpack(UNPACK_ARGS) {
    switch (scale_shift) {
    case 4: unpack_16(to, from, next, steps, scales, scale_group, scale_shift, d0); break;
    case 5: unpack_32(to, from, next, steps, scales, scale_group, scale_shift, d0); break;
    default: unpack_64(to, from, next, steps, scales, scale_group, scale_shift, d0); break;
    }
}
#endif
