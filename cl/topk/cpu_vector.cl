// SPDX-License-Identifier: MIT
// Vectors of keys for cpu.cl. A signed key fills its type (narrow elements are shifted to the top), so that compares,
// minima and maxima of vectors are those of integers. Its order is that of topk/key.cl, but for classes of keys that
// are equal there and neighbours here: the two zeros, and all NaN. Raw keys are what long loops need: a key is
//   float     (bits, those below zero with all but the sign inverted) + offset
//   unsigned  the sign inverted        smallest  all bits inverted before the offset, which is negated
// where the offset turns the NaN of one sign around to where those of the other are, beyond an infinity. `settled`
// makes one key of each class, its lowest, of the few keys that are compared with each other; a bound is settled, too.
#if KEY_BITS == 64
#define LANES 8
#define SKEY_BITS 64
#define SKEY_T long
#define SKEYS_T long8
#define USKEY_T ulong
#define PLACES_T uint8
#define RAISE(bits) as_long8(bits)
#define AS_SKEYS(v) as_long8(v)
#define AS_USKEYS(v) as_ulong8(v)
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
#define AS_SKEYS(v) as_int16(v)
#define AS_USKEYS(v) as_uint16(v)
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
    SKEY_T flip;
    USKEY_T offset;
    bool classes;             // whether there are any:
    SKEY_T nan_low, nan_high; // all NaN
    SKEY_T zero;              // this and the next
};

static inline struct skey_rule skey_rule_of(int flags) { // not FORCE: see row_of
    struct skey_rule rule;
    rule.flip = flags & SMALLEST ? -1 : 0;
    rule.classes = KEY_IS_FLOAT && !(flags & NAN_TOTAL_ORDER);
#if !KEY_SIGNED
    rule.flip ^= SKEY_MIN;
#endif
    // from an infinity to the end: +NaN lie above +inf, as many -NaN below -inf
    const USKEY_T beyond = (USKEY_T)SKEY_MAX - ((USKEY_T)KEY_INFINITY << (SKEY_BITS - KEY_BITS));
    const bool lowest = flags & NAN_LOWEST;
    const bool at_bottom = lowest != ((flags & SMALLEST) != 0);
    rule.offset = !rule.classes ? 0 : at_bottom ? beyond : -beyond;
    rule.zero = (SKEY_T)(rule.offset - 1);
    rule.nan_low = at_bottom ? SKEY_MIN : (SKEY_T)((USKEY_T)SKEY_MAX - 2 * beyond + 1);
    rule.nan_high = at_bottom ? (SKEY_T)((USKEY_T)SKEY_MIN + 2 * beyond - 1) : SKEY_MAX;
    return rule;
}

#if KEY_IS_FLOAT
FORCE SKEYS_T skeys_of(SKEYS_T u, const struct skey_rule *rule) {
    const SKEYS_T keys = u ^ ((u >> (SKEY_BITS - 1)) & SKEY_MAX) ^ (SKEYS_T)(rule->flip);
    return AS_SKEYS(AS_USKEYS(keys) + rule->offset);
}
#else
FORCE SKEYS_T skeys_of(SKEYS_T u, const struct skey_rule *rule) { return u ^ (SKEYS_T)(rule->flip); }
#endif

FORCE SKEYS_T settled(SKEYS_T keys, const struct skey_rule *rule) {
    if (!rule->classes) return keys;
    const SKEYS_T nan = (keys >= (SKEYS_T)(rule->nan_low)) & (keys <= (SKEYS_T)(rule->nan_high));
    keys = nan ? (SKEYS_T)(rule->nan_low) : keys;
    return keys == (SKEYS_T)(rule->zero + 1) ? (SKEYS_T)(rule->zero) : keys;
}

FORCE SKEY_T settled_key(SKEY_T key, const struct skey_rule *rule) {
    if (!rule->classes) return key;
    if (key >= rule->nan_low && key <= rule->nan_high) return rule->nan_low;
    return key == rule->zero + 1 ? rule->zero : key;
}

// The last key of the class of a settled key.
FORCE SKEY_T class_end(SKEY_T key, const struct skey_rule *rule) {
    if (!rule->classes) return key;
    return key == rule->nan_low ? rule->nan_high : key + (key == rule->zero);
}

// Elements that far ahead are on their way from memory: hardware stops at the end of a page. Not in simulators.
#if defined(__x86_64__) || defined(__aarch64__)
#define SHUFFLES // see max_lanes
#define FETCH_AHEAD(row, p) __builtin_prefetch((const void *)(ulong)((row)->x + (p) + 4096 / sizeof(BITS(X_T))))
#else
#define FETCH_AHEAD(row, p)
#endif

// Elements that do not lie side by side.
static SKEYS_T gather(const global BITS(X_T) *x, long step) {
    SKEY_T lanes[LANES];
    for (uint l = 0; l < LANES; l++)
        lanes[l] = (SKEY_T)((USKEY_T)x[(long)l * step] << (SKEY_BITS - KEY_BITS));
    return CAT(vload, LANES)(0, lanes);
}

// Positions p .. p + LANES - 1, all of them inside of the row. `dense` is row->step == 1, as a constant.
FORCE SKEYS_T skeys_at(const struct row *row, const struct skey_rule *rule, uint p, bool dense) {
    if (dense) return skeys_of(RAISE(CAT(vload, LANES)(0, row->x + p)), rule);
    const global BITS(X_T) *const x = row->x + (long)p * row->step;
#ifdef SHUFFLES
    if (row->step == -1)
        return skeys_of(REVERSED(RAISE(CAT(vload, LANES)(0, x - (LANES - 1)))), rule);
#endif
    return skeys_of(gather(x, row->step), rule);
}

FORCE SKEY_T skey_at(const struct row *row, const struct skey_rule *rule, uint p) {
    const SKEY_T u = (SKEY_T)((USKEY_T)row->x[(long)p * row->step] << (SKEY_BITS - KEY_BITS));
#if KEY_IS_FLOAT
    return (SKEY_T)((USKEY_T)(u ^ ((u >> (SKEY_BITS - 1)) & SKEY_MAX) ^ rule->flip) + rule->offset);
#else
    return u ^ rule->flip;
#endif
}

// By lanes, not by halves: oclgrind takes what comes from a shuffle for uninitialised, and compilers make shuffles of
// it.
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
