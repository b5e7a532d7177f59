// SPDX-License-Identifier: MIT
// Floats as unsigned integers of the same order, by integer operations only, so that no compiler option and no
// flushing of denormals can change an order:  v < w  <=>  key(v) < key(w),  -0 and +0 have the same key.
// NaN, of any sign and payload, is one value: below -inf or above +inf.
// KEY_NONE is below the key of every value but a lowest NaN.
#define KEY_NONE 0u
#define KEY_NAN_GREATEST 0xffffffffu

inline int key_bits_are_nan(uint u) { return (u & 0x7fffffffu) > 0x7f800000u; }

inline uint key_of_bits(uint u) {
    if ((u << 1) == 0) u = 0;
    return (u >> 31) ? ~u : u | 0x80000000u;
}

inline uint key_nan_lowest(float v) {
    const uint u = as_uint(v);
    return key_bits_are_nan(u) ? KEY_NONE : key_of_bits(u);
}

inline uint key_nan_greatest(float v) {
    const uint u = as_uint(v);
    return key_bits_are_nan(u) ? KEY_NAN_GREATEST : key_of_bits(u);
}

// The value of a key that is not a NaN's; -0 comes back as +0.
inline float key_value(uint key) { return as_float((key >> 31) ? key & 0x7fffffffu : ~key); }

// One number for "larger key first, then lower index": the largest pair is the best.
inline ulong key_pair(uint key, uint index) { return ((ulong)key << 32) | (uint)~index; }
inline uint key_pair_index(ulong pair) { return ~(uint)pair; }
