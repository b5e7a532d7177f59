// SPDX-License-Identifier: MIT
// Vectors of keys for cpu.cl. A signed key fills its type (narrow elements are shifted to the top), so that compares,
// minima and maxima of vectors are those of integers. Its order is that of topk/key.cl:
//   float     bits below zero have all but the sign inverted; -0 as +0 and NaN as one value, or nothing special
//   unsigned  the sign inverted        smallest  all bits inverted
#if KEY_BITS == 64
#define LANES 8
#define SKEY_BITS 64
#define SKEY_T long
#define SKEYS_T long8
#define USKEY_T ulong
#define PLACES_T uint8
#define RAISE(bits) as_long8(bits)
#define LANE_NUMBERS ((uint8)(0, 1, 2, 3, 4, 5, 6, 7))
#define LANE_SKEYS ((long8)(0, 1, 2, 3, 4, 5, 6, 7))
#define REVERSED(v) (v).s76543210
#else
#define LANES 16
#define SKEY_BITS 32
#define SKEY_T int
#define SKEYS_T int16
#define USKEY_T uint
#define PLACES_T uint16
#define RAISE(bits) as_int16(convert_uint16(bits) << (32 - KEY_BITS))
#define LANE_NUMBERS ((uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define LANE_SKEYS ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define REVERSED(v) (v).sfedcba9876543210
#endif

#define SKEY_DIGITS (SKEY_BITS / 8)
#define SKEY_MIN ((SKEY_T)((USKEY_T)1 << (SKEY_BITS - 1)))
#define SKEY_MAX (~SKEY_MIN)
#define ALL_LANES ((1u << LANES) - 1u)

// Inlined even where that looks too large: a call would pass vectors and structs through memory.
#define FORCE static inline __attribute__((always_inline))

// Unaligned vectors. vstoreN may become several stores, and a load of the whole vector then waits for them.
typedef SKEYS_T loose_keys __attribute__((aligned(4)));
typedef PLACES_T loose_places __attribute__((aligned(4)));
#define LOAD_KEYS(p) (*(const global loose_keys *)(p))
#define LOAD_PLACES(p) (*(const global loose_places *)(p))
#define STORE_KEYS(p, v) (*(global loose_keys *)(p) = (v))
#define STORE_PLACES(p, v) (*(global loose_places *)(p) = (v))

struct skey_rule {
    SKEY_T minus_zero, nan_above, nan, flip;
};

FORCE struct skey_rule skey_rule_of(int flags) {
    const bool total = !KEY_IS_FLOAT || (flags & NAN_TOTAL_ORDER);
    struct skey_rule rule;
    rule.flip = flags & SMALLEST ? -1 : 0;
    rule.minus_zero = total ? 0 : SKEY_MIN; // 0 becomes 0 either way
    rule.nan_above = total ? SKEY_MAX : (SKEY_T)((USKEY_T)KEY_INFINITY << (SKEY_BITS - KEY_BITS));
    rule.nan = (flags & NAN_LOWEST ? SKEY_MIN : SKEY_MAX) ^ rule.flip;
#if !KEY_SIGNED
    rule.flip ^= SKEY_MIN;
#endif
    return rule;
}

#if KEY_IS_FLOAT
FORCE SKEYS_T skeys_of(SKEYS_T u, const struct skey_rule *rule) {
    u &= ~(u == (SKEYS_T)(rule->minus_zero));
    const SKEYS_T keys = u ^ ((u >> (SKEY_BITS - 1)) & SKEY_MAX) ^ (SKEYS_T)(rule->flip);
    return (u & SKEY_MAX) > (SKEYS_T)(rule->nan_above) ? (SKEYS_T)(rule->nan) : keys;
}
#else
FORCE SKEYS_T skeys_of(SKEYS_T u, const struct skey_rule *rule) { return u ^ (SKEYS_T)(rule->flip); }
#endif

// Elements that do not lie side by side.
static SKEYS_T gather(const global BITS(X_T) *x, long step) {
    SKEY_T lanes[LANES];
    for (uint l = 0; l < LANES; l++)
        lanes[l] = (SKEY_T)((USKEY_T)x[(long)l * step] << (SKEY_BITS - KEY_BITS));
    return CAT(vload, LANES)(0, lanes);
}

// Positions p .. p + LANES - 1, all of them inside of the row.
FORCE SKEYS_T skeys_at(const struct row *row, const struct skey_rule *rule, uint p) {
    const global BITS(X_T) *const x = row->x + (long)p * row->step;
    SKEYS_T u;
    if (row->step == 1)
        u = RAISE(CAT(vload, LANES)(0, x));
#if defined(__x86_64__) || defined(__aarch64__)
    else if (row->step == -1) // not in simulators: see max_lanes
        u = REVERSED(RAISE(CAT(vload, LANES)(0, x - (LANES - 1))));
#endif
    else
        u = gather(x, row->step);
    return skeys_of(u, rule);
}

FORCE SKEY_T skey_at(const struct row *row, const struct skey_rule *rule, uint p) {
    const USKEY_T u = (USKEY_T)row->x[(long)p * row->step] << (SKEY_BITS - KEY_BITS);
    return skeys_of((SKEYS_T)((SKEY_T)u), rule).s0;
}

// By lanes, not by halves: oclgrind takes what comes from a shuffle for uninitialised, and compilers make shuffles of it.
FORCE SKEY_T max_lanes(SKEYS_T v) {
    const SKEY_T low = max(max(max(v.s0, v.s1), max(v.s2, v.s3)), max(max(v.s4, v.s5), max(v.s6, v.s7)));
#if LANES == 16
    return max(low, max(max(max(v.s8, v.s9), max(v.sa, v.sb)), max(max(v.sc, v.sd), max(v.se, v.sf))));
#else
    return low;
#endif
}

// What vector types of OpenCL C cannot say: a bit for each lane, and the lanes of set bits moved to the front. Each is
// one instruction of AVX-512, where the compiler offers it; otherwise the lanes are taken one by one.
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__has_builtin)
#if __has_builtin(__builtin_ia32_compresssi512_mask) && __has_builtin(__builtin_ia32_cmpd512_mask)
#define SQUEEZE
#endif
#endif

// The lanes that are not below `least`.
FORCE uint mask_from(SKEYS_T keys, SKEY_T least) {
#if defined(SQUEEZE) && LANES == 16
    return __builtin_ia32_cmpd512_mask(keys, (SKEYS_T)(least), 5, 0xffff);
#elif defined(SQUEEZE)
    return __builtin_ia32_cmpq512_mask(keys, (SKEYS_T)(least), 5, 0xff);
#elif LANES == 16
    // bytes of a lane's own bit each; the product adds them up in the highest byte
    const ulong2 bits = as_ulong2(convert_char16(keys >= (SKEYS_T)(least))) & 0x8040201008040201ul;
    return (uint)(bits.x * 0x0101010101010101ul >> 56) | (uint)(bits.y * 0x0101010101010101ul >> 56) << 8;
#else
    const ulong bits = as_ulong(convert_char8(keys >= (SKEYS_T)(least))) & 0x8040201008040201ul;
    return (uint)(bits * 0x0101010101010101ul >> 56);
#endif
}

// Writes the lanes of `mask` to keys and places, and perhaps anything to the rest of LANES elements.
FORCE uint append(global SKEY_T *keys, global uint *places, SKEYS_T key, PLACES_T place, uint mask) {
#if defined(SQUEEZE) && LANES == 16
    const int16 at = as_int16(place);
    STORE_KEYS(keys, __builtin_astype(__builtin_ia32_compresssi512_mask(key, key, (ushort)mask), int16));
    STORE_PLACES(places, __builtin_astype(__builtin_ia32_compresssi512_mask(at, at, (ushort)mask), uint16));
    return popcount(mask);
#elif defined(SQUEEZE)
    const int8 at = as_int8(place);
    STORE_KEYS(keys, __builtin_astype(__builtin_ia32_compressdi512_mask(key, key, (uchar)mask), long8));
    STORE_PLACES(places, __builtin_astype(__builtin_ia32_compresssi256_mask(at, at, (uchar)mask), uint8));
    return popcount(mask);
#else
    if (mask == 0) return 0;
    if (mask == ALL_LANES) {
        STORE_KEYS(keys, key);
        STORE_PLACES(places, place);
        return LANES;
    }
    SKEY_T each_key[LANES];
    uint each_place[LANES];
    CAT(vstore, LANES)(key, 0, each_key);
    CAT(vstore, LANES)(place, 0, each_place);
    uint count = 0;
    for (uint m = mask; m; m &= m - 1) {
        const uint lane = popcount((m & -m) - 1);
        keys[count] = each_key[lane];
        places[count++] = each_place[lane];
    }
    return count;
#endif
}
