// SPDX-License-Identifier: MIT
// What wgmma_words.cl multiplies. Of a row of w and a group of K
//
//   sums = fma(scale, sums of the group, sums)
//
// and products have codes less zeros, which are whole numbers that bf16 and f16 hold. A code becomes a number as the
// lowest bits of a mantissa, 128 (f16: 1024) more than it is; so is its zero.
#if TK != 128
#error "TK: 128, four words for each work-item of a quad and row"
#endif

// For products of a number of pairs: sums of a work-item, and HOLD of these.
#define HALF_32 16
#define HALF_64 32
#define HALF_96 48
#define HALF_128 64
#define HALF_160 80
#define HOLD_32(d) HOLD(16, d)
#define HOLD_64(d) HOLD(32, d)
#define HOLD_96(d) HOLD(48, d)
#define HOLD_128(d) HOLD(64, d)
#define HOLD_160(d) HOLD(80, d)

#if IS_BF16
#define SUBTRACT_TWO "sub.rn.bf16x2"
#else
#define SUBTRACT_TWO "sub.rn.f16x2"
#endif
inline uint subtract_two(uint a, uint b) {
#if PTX
    uint r;
    asm(SUBTRACT_TWO " %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
#else
    const float low = FLOAT_OF(X_T, (ushort)a) - FLOAT_OF(X_T, (ushort)b);
    const float high = FLOAT_OF(X_T, (ushort)(a >> 16)) - FLOAT_OF(X_T, (ushort)(b >> 16));
    return (uint)ROUND(X_T, low) | (uint)ROUND(X_T, high) << 16;
#endif
}

// Of rows g and g + 8: words of a stage, factors of a group.
struct words {
    uint of[2][4];
};

// From the two eights of a warp on.
inline void load_words(struct words *words, const local uchar *from, uint warp) {
    const uint lane = get_local_id(0) & 31u, g = lane / 4, t = lane & 3u;
#pragma unroll
    for (uint i = 0; i < 2; i++) {
        const uint4 v = *(const local uint4 *)(from + (place_of(i, g, t) ^ SPREAD(warp)));
        const uint4 w = IS_AWQ && i ? v.s2301 : v;
        words->of[i][0] = w.s0, words->of[i][1] = w.s1, words->of[i][2] = w.s2, words->of[i][3] = w.s3;
    }
}

inline void load_factors(struct factor *factor, const local uchar *memory, uint stage, uint group, uint warp) {
    const local struct factor *const from = (const local struct factor *)(memory + FACTORS_AT) +
                                            (stage * SCALE_GROUPS + group) * W_ROWS + warp * 16 +
                                            (get_local_id(0) & 31u) / 4;
    factor[0] = from[0];
    factor[1] = from[8];
}

// Registers of product `part` of a stage.
inline void hold_codes(uint *held, const struct words *words, int part, const struct factor *factor) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint codes = words->of[i % 2][part / 2] >> (part % 2 * 2 + i / 2) * 4 & 0x000f000fu;
        held[i] = subtract_two(codes | TWO_CODES, factor[i % 2].zero);
    }
}

// A stage that is there: its words, and the factors of its first group.
inline void enter_stage(const struct ring *r, const struct turn *stage, const local uchar *memory, uint warp,
                        struct words *words, struct factor *factor) {
    mb_wait(r->full + 8 * stage->at, stage->phase);
    if (!CONTIGUOUS) ASYNC_FENCE();
    load_words(words, memory + stage->at * STAGE_BYTES + warp * 1024, warp);
    load_factors(factor, memory, stage->at, 0, warp);
}

#define PARTS (TK / 16)
#define IN_GROUP (SCALE_STEPS / 16) // products of a group of K

// All steps of a tile of which n pairs are multiplied; `warp` of the eight has its 16 rows of w. While a product runs,
// codes of the next one are made. The last stage remains to be given back. Sums are held where they are added to: else
// compilers add later, and have the sums of two groups at a time.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, uint warp, float *sums) {                           \
        const uint lane = get_local_id(0) & 31u;                                                                       \
        float now[CAT(HALF_, n)];                                                                                      \
        uint held[2][4];                                                                                               \
        struct words words;                                                                                            \
        struct factor factor[2], next[2];                                                                              \
        _Pragma("unroll") for (int i = 0; i < CAT(HALF_, n); i++) now[i] = 0.0f;                                       \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        enter_stage(r, stage, memory, warp, &words, factor);                                                           \
        hold_codes(held[0], &words, 0, factor);                                                                        \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint own = stage->at;                                                                                \
            const ulong pairs = tile_of(r->base + own * STAGE_BYTES + W_BYTES);                                        \
            _Pragma("unroll") for (int part = 0; part < PARTS; part++) {                                               \
                const ulong at = pairs + part / 4 * (X_BYTES >> 4) + part % 4 * 2;                                     \
                const bool ends = part % IN_GROUP == IN_GROUP - 1;                                                     \
                WGMMA_FENCE();                                                                                         \
                HELD_WGMMA_##n(now, held[part & 1], at, part % IN_GROUP);                                              \
                WGMMA_COMMIT();                                                                                        \
                WGMMA_WAIT("1");                                                                                       \
                next[0] = factor[0], next[1] = factor[1];                                                              \
                if (part < PARTS - 1) {                                                                                \
                    if (ends) load_factors(next, memory, own, (part + 1) / IN_GROUP, warp);                            \
                    hold_codes(held[~part & 1], &words, part + 1, next);                                               \
                } else {                                                                                               \
                    next_turn(stage, STAGES);                                                                          \
                    if (step + 1 < steps) {                                                                            \
                        enter_stage(r, stage, memory, warp, &words, next);                                             \
                        hold_codes(held[~part & 1], &words, 0, next);                                                  \
                    }                                                                                                  \
                }                                                                                                      \
                if (!ends) continue;                                                                                   \
                WGMMA_WAIT("0");                                                                                       \
                if (part == PARTS - 1) {                                                                               \
                    WARP_BARRIER();                                                                                    \
                    if (lane == 0 && step + 1 < steps) mb_arrive(r->empty + 8 * own);                                  \
                }                                                                                                      \
                CAT(HOLD_, n)(now);                                                                                    \
                _Pragma("unroll") for (int i = 0; i < CAT(HALF_, n); i++)                                              \
                    sums[i] = fma(i & 2 ? factor[1].scale : factor[0].scale, now[i], sums[i]);                         \
                CAT(HOLD_, n)(sums);                                                                                   \
                factor[0] = next[0], factor[1] = next[1];                                                              \
            }                                                                                                          \
        }                                                                                                              \
    }

DEFINE_MULTIPLY_STEPS(32)
#if TOKENS > 32
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(96)
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_STEPS(160)
#endif

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory, uint warp,
                          int rows, float *sums) {
#if TOKENS > 32
    if (rows > 128)
        multiply_steps_160(r, stage, steps, memory, warp, sums);
    else if (rows > 96)
        multiply_steps_128(r, stage, steps, memory, warp, sums);
    else if (rows > 64)
        multiply_steps_96(r, stage, steps, memory, warp, sums);
    else if (rows > 32)
        multiply_steps_64(r, stage, steps, memory, warp, sums);
    else
#endif
        multiply_steps_32(r, stage, steps, memory, warp, sums);
}
