// SPDX-License-Identifier: MIT
// key_of in three instructions, for the most common kind of keys on devices with inline PTX of sm_80 or later.
#include "topk/output.cl"

#ifndef QUICK_KEY
#error "QUICK_KEY: 1 for f32 with the greatest NaN and inline PTX of sm_80, else 0"
#endif
#ifndef SMALLEST_FIRST
#error "SMALLEST_FIRST: with QUICK_KEY which end comes first: 1 the smallest, 0 the largest"
#endif

// The same keys as key_of. Adding +0 turns -0 into +0 and every NaN into the one of positive sign with all bits set.
inline KEY_T quick_key(BITS(X_T) bits, struct key_rule rule) {
#if QUICK_KEY
    uint u;
    asm("add.f32 %0, %1, 0f00000000;" : "=r"(u) : "r"(bits));
    u ^= (uint)((int)u >> 31) | 0x80000000u;
    return SMALLEST_FIRST ? ~u : u;
#else
    return key_of(bits, rule);
#endif
}

// Elements on their way to a bound, most of which have no need of a key: where keys are quick, floats as they are, else
// keys. quick_best gives an element whose key is the larger one of both; quick_absent is no better than any element;
// quick_passes lets through what has at least the bound's key, and perhaps more: NaN, or everything where the bound is.
#if QUICK_KEY
typedef float quick_bound;
#define QUICK_OF(bits, rule) (bits)
#define quick_absent (SMALLEST_FIRST ? 0x7fffffffu : 0xff800000u)

inline uint quick_best(uint a, uint b) {
    uint r;
    if (SMALLEST_FIRST)
        asm("min.f32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); // of a number and NaN the number
    else
        asm("max.NaN.f32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

inline quick_bound quick_bound_of(KEY_T key) {
    const uint u = SMALLEST_FIRST ? ~key : key;
    return as_float(u & 0x80000000u ? u ^ 0x80000000u : ~u);
}

inline bool quick_passes(uint element, quick_bound bound) {
    return SMALLEST_FIRST ? !(as_float(element) > bound) : !(as_float(element) < bound);
}

inline KEY_T quick_element_key(uint element, struct key_rule rule) { return quick_key(element, rule); }
#else
typedef KEY_T quick_bound;
#define QUICK_OF(bits, rule) key_of((BITS(X_T))(bits), rule)
#define quick_absent 0
inline KEY_T quick_best(KEY_T a, KEY_T b) { return max(a, b); }
inline quick_bound quick_bound_of(KEY_T key) { return key; }
inline bool quick_passes(KEY_T element, quick_bound bound) { return element >= bound; }
inline KEY_T quick_element_key(KEY_T element, struct key_rule rule) { return element; }
#endif
