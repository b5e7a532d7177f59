/* SPDX-License-Identifier: MIT */
#include "dtype.h"

#include <math.h>
#include <string.h>

static const struct dtype_info infos[CLMOE_DTYPE_COUNT] = {
    [CLMOE_F32] = {"f32", 1, 4, 4, KIND_FLOAT},         [CLMOE_F16] = {"f16", 1, 2, 2, KIND_FLOAT},
    [CLMOE_BF16] = {"bf16", 1, 2, 2, KIND_FLOAT},       [CLMOE_I32] = {"i32", 1, 4, 4, KIND_SIGNED},
    [CLMOE_U32] = {"u32", 1, 4, 4, KIND_UNSIGNED},      [CLMOE_U8] = {"u8", 1, 1, 1, KIND_UNSIGNED},
    [CLMOE_Q8_0] = {"q8_0", 32, 34, 2, KIND_BLOCKS},    [CLMOE_F64] = {"f64", 1, 8, 8, KIND_FLOAT},
    [CLMOE_I8] = {"i8", 1, 1, 1, KIND_SIGNED},          [CLMOE_I16] = {"i16", 1, 2, 2, KIND_SIGNED},
    [CLMOE_U16] = {"u16", 1, 2, 2, KIND_UNSIGNED},      [CLMOE_I64] = {"i64", 1, 8, 8, KIND_SIGNED},
    [CLMOE_U64] = {"u64", 1, 8, 8, KIND_UNSIGNED},      [CLMOE_Q4_0] = {"q4_0", 32, 18, 2, KIND_BLOCKS},
    [CLMOE_Q5_0] = {"q5_0", 32, 22, 2, KIND_BLOCKS},    [CLMOE_Q4_K] = {"q4_k", 256, 144, 2, KIND_BLOCKS},
    [CLMOE_Q5_K] = {"q5_k", 256, 176, 2, KIND_BLOCKS},  [CLMOE_Q6_K] = {"q6_k", 256, 210, 2, KIND_BLOCKS},
    [CLMOE_MXFP4] = {"mxfp4", 32, 17, 1, KIND_BLOCKS},  [CLMOE_F8_E4M3] = {"f8_e4m3", 1, 1, 1, KIND_CODES},
    [CLMOE_F4_E2M1] = {"f4_e2m1", 2, 1, 1, KIND_CODES},
};

const struct dtype_info *dtype_info(enum clmoe_dtype dtype) {
    return (unsigned)dtype < CLMOE_DTYPE_COUNT ? &infos[dtype] : NULL;
}

bool dtype_is_float(enum clmoe_dtype dtype) {
    return dtype == CLMOE_F32 || dtype == CLMOE_F16 || dtype == CLMOE_BF16;
}

bool dtype_is_block(enum clmoe_dtype dtype) {
    return (unsigned)dtype < CLMOE_DTYPE_COUNT && infos[dtype].kind == KIND_BLOCKS;
}

bool dtype_is_scaled(enum clmoe_dtype dtype) {
    return dtype == CLMOE_I8 || dtype == CLMOE_I32 || dtype == CLMOE_F8_E4M3 || dtype == CLMOE_F4_E2M1;
}

bool dtype_is_plain(enum clmoe_dtype dtype) {
    return (unsigned)dtype < CLMOE_DTYPE_COUNT && infos[dtype].kind <= KIND_FLOAT;
}

bool dtype_holds(enum clmoe_dtype dtype, union clmoe_scalar v) {
    const int spare = 64 - 8 * infos[dtype].bytes;
    switch (infos[dtype].kind) {
    case KIND_UNSIGNED: return v.u <= UINT64_MAX >> spare;
    case KIND_SIGNED: return v.i <= INT64_MAX >> spare && v.i >= -(INT64_MAX >> spare) - 1;
    default: return true;
    }
}

/* A binary float of 16 bits with `fraction` bits after the leading one. */
static uint64_t round_to_16_bits(double v, int fraction) {
    const int bias = (1 << (14 - fraction)) - 1;
    const uint64_t sign = signbit(v) ? 0x8000 : 0, infinity = (uint64_t)(2 * bias + 1) << fraction;
    if (isnan(v)) return sign | infinity | (uint64_t)1 << (fraction - 1);
    if (isinf(v)) return sign | infinity;
    if (v == 0) return sign;
    int exponent;
    (void)frexp(v, &exponent); /* 2^(exponent - 1) <= |v| < 2^exponent */
    const int lowest = 1 - bias, own = exponent - 1 < lowest ? lowest : exponent - 1;
    const uint64_t units =
        (uint64_t)nearbyint(ldexp(fabs(v), fraction - own)); /* with the leading one, if any */
    /* A denormal has no leading one; one more unit than fits carries into the exponent, up to infinity. */
    const uint64_t bits = units + ((uint64_t)(own - lowest) << fraction);
    return sign | (own > bias || bits > infinity ? infinity : bits);
}

uint64_t dtype_bits(enum clmoe_dtype dtype, union clmoe_scalar v) {
    const float f = (float)v.f;
    uint32_t single;
    memcpy(&single, &f, sizeof single);
    switch (dtype) {
    case CLMOE_F32: return single;
    case CLMOE_F16: return round_to_16_bits(v.f, 10);
    case CLMOE_BF16: return round_to_16_bits(v.f, 7);
    default: return v.u & UINT64_MAX >> (64 - 8 * infos[dtype].bytes);
    }
}
