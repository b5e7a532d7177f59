// SPDX-License-Identifier: MIT
// What few.cl makes of the shares of few_blocks.cl: sums of products with what x has for them, on tensor cores or not.
#ifndef IS_SUPER
#error "few_blocks.cl comes first"
#endif

// What x has for a share
typedef struct {
    PIECE(X_T) of[FOURS];
} x_share;

#if TENSOR
// Two elements of x, of a row of w: those of even bytes of a four, then those of odd ones
typedef struct {
    uint even[FOURS], odd[FOURS], mask;
    float sums[PARTS];
} ready_x;

// Two codes become two numbers of x's type: bits made of the codes, times a factor, and something added, all exact.
#define TWO_OF(bits) ((bits) << 16 | (bits))
#define IS_BF16 (CAT(NAME_, X_T) == 1)
#define NAME_bf16 1
#define NAME_f16 2
#if IS_BF16
#define X_NAME "bf16"
#define ONE TWO_OF(0x3f80u)
#else
#define X_NAME "f16"
#define ONE TWO_OF(0x3c00u)
#endif

#if BY_WORDS == WORDS_MXFP4
#define NUMBER_MASK (IS_BF16 ? TWO_OF(7u << 6) : TWO_OF(7u << 9))
#elif BY_WORDS == WORDS_Q8_0 && IS_BF16
#define NUMBER_MASK TWO_OF(0x7fu)
#else
#define NUMBER_MASK CODE_MASK
#endif

// `zero` is known at run time only, so that the mask is a register: an instruction has room for one number of its own.
static inline void make_ready(ready_x *to, const x_share *x, uint zero) {
    to->mask = NUMBER_MASK | zero;
    UNROLL for (int p = 0; p < PARTS; p++) to->sums[p] = 0.0f;
    UNROLL for (int f = 0; f < FOURS; f++) {
        uint raw[2];
        vstore2(x->of[f], 0, raw);
        to->even[f] = (raw[0] & 0xffffu) | raw[1] << 16;
        to->odd[f] = raw[0] >> 16 | (raw[1] & 0xffff0000u);
        if (HAS_MIN) to->sums[f / (FOURS / PARTS)] += add_lanes4(FLOATS4(X_T, x->of[f]));
    }
}

static inline uint fma_two(uint a, uint factor, uint add) {
    uint r;
    asm("fma.rn." X_NAME "x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(factor), "r"(add));
    return r;
}
static inline uint numbers_of(uint codes, uint mask) {
#if BY_WORDS == WORDS_MXFP4
    // The bits of e2m1 are those of a number 2^126 or 2^14 times smaller.
    const uint bits = (codes << (IS_BF16 ? 6 : 9) & mask) | (codes << 12 & TWO_OF(0x8000u));
    return fma_two(bits, IS_BF16 ? TWO_OF(0x7e80u) : TWO_OF(0x7400u), TWO_OF(0x8000u));
#elif !IS_BF16
    return fma_two((codes & mask) | TWO_OF(0x6400u), ONE, TWO_OF(0xe400u | CODE_ZERO)); // 1024 + code
#elif BY_WORDS == WORDS_Q8_0
    // 8 bits are one too many: 128 + the lower ones, and what is left of the highest and CODE_ZERO
    return fma_two((codes & mask) | TWO_OF(0x4300u), ONE, (codes & TWO_OF(0x80u)) ^ TWO_OF(0xc380u));
#else
    return fma_two((codes & mask) | TWO_OF(0x4300u), ONE, TWO_OF(0xc300u | CODE_ZERO)); // 128 + code
#endif
}

static inline void multiply(float *c, const share *p, const share *q, const ready_x *x, int f) {
    const uint a = four_codes(p, f), b = four_codes(q, f);
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." X_NAME "." X_NAME ".f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(numbers_of(a, x->mask)), "r"(numbers_of(b, x->mask)), "r"(numbers_of(a >> 8, x->mask)),
                   "r"(numbers_of(b >> 8, x->mask)), "r"(x->even[f]), "r"(x->odd[f]));
}

// The products of two rows' shares
static inline void add_two(float *sums, const ready_x *x, const share *p) {
    // Chosen by masks: of a choice between two of an array compilers make one of addresses, and keep it in memory.
    const uint lane = get_local_id(0) & 31, quad = lane / 4, odd = 0u - (quad & 1u);
    float scale[2][PARTS], min[2][PARTS];
    share_scales(&p[0], scale[0], min[0]);
    share_scales(&p[1], scale[1], min[1]);
    UNROLL for (int part = 0; part < PARTS; part++) {
        float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        UNROLL for (int f = 0; f < FOURS / PARTS; f++) multiply(c, &p[0], &p[1], x, part * (FOURS / PARTS) + f);
        // The column of the quad's own x; the other lanes have what nobody wants, and it may be no number.
        const bool mine = (lane & 3) == quad / 2;
        UNROLL for (int r = 0; r < 2; r++) {
            const float dot = as_float((as_uint(c[2 * r]) & ~odd) | (as_uint(c[2 * r + 1]) & odd));
            if (mine) sums[r] += dot * scale[r][part];
            if (HAS_MIN) sums[r] -= x->sums[part] * min[r][part];
        }
    }
}
#define ADD_ROWS(sums, x, p)                                                                                           \
    UNROLL for (int r = 0; r < ROWS; r += 2) add_two(&sums[r], &x, &p[r]);

#else
typedef struct {
    float4 of[FOURS];
    float sums[PARTS];
} ready_x;

static inline void make_ready(ready_x *to, const x_share *x, uint zero) {
    UNROLL for (int p = 0; p < PARTS; p++) to->sums[p] = 0.0f;
    UNROLL for (int f = 0; f < FOURS; f++) {
        to->of[f] = FLOATS4(X_T, x->of[f]);
        if (HAS_MIN) to->sums[f / (FOURS / PARTS)] += add_lanes4(to->of[f]);
    }
}

#if BY_WORDS == WORDS_MXFP4
// The bits of e2m1 are those of a half 2^14 times smaller, two of them in a word at a time.
#define CODES_SCALE 0x1p14f
static inline uint halves_of(uint codes) { return (codes & 0x00070007u) << 9 | (codes & 0x00080008u) << 12; }
static inline float4 numbers_of(uint codes) {
    const uint even = halves_of(codes), odd = halves_of(codes >> 8);
    return (float4)(float_of_f16((ushort)even), float_of_f16((ushort)odd), float_of_f16((ushort)(even >> 16)),
                    float_of_f16((ushort)(odd >> 16)));
}
#else
// A float of 2^23 and a number below 2^23 has the number in its last bits.
#define CODES_SCALE 1.0f
static inline float4 numbers_of(uint codes) {
    const uint mask = CODE_MASK & 255u;
    const uint4 numbers = (uint4)(codes & mask, codes >> 8 & mask, codes >> 16 & mask, codes >> 24 & mask);
    return as_float4(numbers | 0x4b000000u) - (8388608.0f + CODE_ZERO);
}
#endif

static inline float add_one(float sum, const ready_x *x, const share *p) {
    float scale[PARTS], min[PARTS];
    share_scales(p, scale, min);
    UNROLL for (int part = 0; part < PARTS; part++) {
        float4 dot = (float4)(0.0f);
        UNROLL for (int f = part * (FOURS / PARTS); f < (part + 1) * (FOURS / PARTS); f++)
            dot += x->of[f] * numbers_of(four_codes(p, f));
        sum += add_lanes4(dot) * (scale[part] * CODES_SCALE);
        if (HAS_MIN) sum -= x->sums[part] * min[part];
    }
    return sum;
}
#define ADD_ROWS(sums, x, p) UNROLL for (int r = 0; r < ROWS; r++) sums[r] = add_one(sums[r], &x, &p[r]);
#endif
