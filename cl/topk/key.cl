// SPDX-License-Identifier: MIT
// Elements of any dtype as unsigned integers of the same order, by integer operations only, so that no compiler option
// and no flushing of denormals can change an order. The larger key comes first; equal keys by position ascending.
// All keys of KEY_BITS bits are legal, 0 and KEY_MAX too: whether there is an element is known apart from its key.
//
//   unsigned  the bits        signed  the bits, sign inverted        float  the bits, sign inverted; below zero all
//   smallest  all bits inverted                                      NaN: all of them the same key, or none special
#include "common/dtype.cl"

#ifndef X_T
#error "X_T: f32, f16, bf16, f64, i8, u8, i16, u16, i32, u32, i64 or u64"
#endif

// The storage of an element.
#define BITS(T) CAT(bits_, T)
typedef uint bits_f32;
typedef ushort bits_f16;
typedef ushort bits_bf16;
typedef ulong bits_f64;
typedef uchar bits_i8;
typedef uchar bits_u8;
typedef ushort bits_i16;
typedef ushort bits_u16;
typedef uint bits_i32;
typedef uint bits_u32;
typedef ulong bits_i64;
typedef ulong bits_u64;

#define key_bits_f32 32
#define key_bits_f16 16
#define key_bits_bf16 16
#define key_bits_f64 64
#define key_bits_i8 8
#define key_bits_u8 8
#define key_bits_i16 16
#define key_bits_u16 16
#define key_bits_i32 32
#define key_bits_u32 32
#define key_bits_i64 64
#define key_bits_u64 64
#define KEY_BITS CAT(key_bits_, X_T)

typedef uint key_8;
typedef uint key_16;
typedef uint key_32;
typedef ulong key_64;
#define KEY_T CAT(key_, KEY_BITS)

#define KEY_MAX ((KEY_T)(~0ul >> (64 - KEY_BITS)))
#define KEY_SIGN ((KEY_T)1 << (KEY_BITS - 1))

// The bits of an infinity; 0 for integers.
#define key_infinity_f32 0x7f800000u
#define key_infinity_f16 0x7c00u
#define key_infinity_bf16 0x7f80u
#define key_infinity_f64 0x7ff0000000000000ul
#define key_infinity_i8 0
#define key_infinity_u8 0
#define key_infinity_i16 0
#define key_infinity_u16 0
#define key_infinity_i32 0
#define key_infinity_u32 0
#define key_infinity_i64 0
#define key_infinity_u64 0
#define KEY_INFINITY CAT(key_infinity_, X_T)
#define KEY_IS_FLOAT (KEY_INFINITY != 0)

#define key_signed_f32 1
#define key_signed_f16 1
#define key_signed_bf16 1
#define key_signed_f64 1
#define key_signed_i8 1
#define key_signed_u8 0
#define key_signed_i16 1
#define key_signed_u16 0
#define key_signed_i32 1
#define key_signed_u32 0
#define key_signed_i64 1
#define key_signed_u64 0
#define KEY_SIGNED CAT(key_signed_, X_T)

// What the options of a plan make of it.
struct key_rule {
    KEY_T nan_above;  // magnitudes above this are NaN, which has
    KEY_T nan;        // this key before `flip`
    KEY_T minus_zero; // key of -0 before `flip`
    KEY_T flip;
};

// Inlined by force: a call with a struct would keep the struct that it is in, a row, in memory.
inline __attribute__((always_inline)) struct key_rule key_rule_of(bool smallest, bool nan_lowest, bool total_order) {
    struct key_rule rule;
    rule.nan_above = total_order ? KEY_MAX : (KEY_T)KEY_INFINITY; // no magnitude is above KEY_MAX
    rule.nan = nan_lowest ? 0 : KEY_MAX;
    rule.minus_zero = total_order ? KEY_SIGN - 1 : KEY_SIGN;
    rule.flip = smallest ? KEY_MAX : 0;
    return rule;
}

inline __attribute__((always_inline)) KEY_T key_of(BITS(X_T) bits, struct key_rule rule) {
    const KEY_T u = bits;
#if KEY_IS_FLOAT
    KEY_T key = u ^ ((KEY_T)((0 - (u >> (KEY_BITS - 1))) & KEY_MAX) | KEY_SIGN);
    key = u == KEY_SIGN ? rule.minus_zero : key;
    key = (u & (KEY_SIGN - 1)) > rule.nan_above ? rule.nan : key;
    return key ^ rule.flip;
#elif KEY_SIGNED
    return u ^ KEY_SIGN ^ rule.flip;
#else
    return u ^ rule.flip;
#endif
}

// The total order: does position i with key a come before position j with key b?
inline bool key_before(KEY_T a, uint i, KEY_T b, uint j) { return a > b || (a == b && i < j); }
