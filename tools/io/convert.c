// SPDX-License-Identifier: MIT
//
// Element types of array.h converted into one another.
#include "array.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

// v / 2^shift to nearest, ties to even; shift in 1..31.
static uint32_t shift_to_even(uint32_t v, unsigned shift) {
    const uint32_t quotient = v >> shift;
    const uint32_t rest = v & ((UINT32_C(1) << shift) - 1);
    const uint32_t half = UINT32_C(1) << (shift - 1);
    return quotient + (rest > half || (rest == half && (quotient & 1)) ? 1 : 0);
}

float array_f16_to_f32(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    const uint32_t exponent = (bits >> 10) & 31u;
    const uint32_t mantissa = bits & 1023u;
    if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent > 0) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    return float_of(sign | bits_of(ldexpf((float)mantissa, -24)));
}

float array_bf16_to_f32(uint16_t bits) {
    return float_of((uint32_t)bits << 16);
}

float array_f8_e4m3_to_f32(uint8_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x80u) << 24;
    const int exponent = (bits >> 3) & 15;
    const int mantissa = bits & 7;
    if ((bits & 0x7fu) == 0x7fu) return float_of(sign | 0x7fc00000u);
    const float magnitude =
        exponent > 0 ? ldexpf((float)(mantissa + 8), exponent - 10) : ldexpf((float)mantissa, -9);
    return float_of(sign | bits_of(magnitude));
}

float array_f8_e5m2_to_f32(uint8_t bits) {
    return array_f16_to_f32((uint16_t)(bits << 8));
}

uint16_t array_f32_to_f16(float value) {
    const uint32_t all = bits_of(value);
    const uint32_t sign = (all >> 16) & 0x8000u;
    const uint32_t bits = all & 0x7fffffffu;
    if (bits > 0x7f800000u) { // NaN: a payload only in the lost bits must not leave an infinity
        const uint32_t payload = (bits >> 13) & 1023u;
        return (uint16_t)(sign | 0x7c00u | (payload ? payload : 0x200u));
    }
    if (bits >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); // 2^16 and more
    if (bits < 0x33000000u) return (uint16_t)sign;              // less than half of the smallest, 2^-25
    if (bits < 0x38800000u) {                                   // less than 2^-14: in units of 2^-24
        const uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;
        return (uint16_t)(sign | shift_to_even(mantissa, 126 - (bits >> 23)));
    }
    return (uint16_t)(sign |
                      shift_to_even(bits - (UINT32_C(112) << 23), 13)); // a carry goes into the exponent
}

uint16_t array_f32_to_bf16(float value) {
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        const uint32_t upper = bits >> 16;
        return (uint16_t)((upper & 0x7fu) ? upper : upper | 0x40u);
    }
    return (uint16_t)shift_to_even(bits, 16);
}

// `x` is the element inside `expression`.
#define TO_F32(type, expression)                                                                             \
    do {                                                                                                     \
        const type *from = a->data;                                                                          \
        for (int64_t i = 0; i < n; ++i) {                                                                    \
            const type x = from[i];                                                                          \
            to[i] = (expression);                                                                            \
        }                                                                                                    \
    } while (0)

bool array_to_f32(const char *name, const struct array *a, struct array *out, struct io_error *err) {
    if (!array_alloc(name, ARRAY_F32, a->ndim, a->shape, out, err)) return false;
    const int64_t n = array_count(a);
    float *to = out->data;
    switch (a->dtype) {
    case ARRAY_F32: memcpy(to, a->data, a->bytes); break; // bit for bit, signalling NaN too
    case ARRAY_F16: TO_F32(uint16_t, array_f16_to_f32(x)); break;
    case ARRAY_BF16: TO_F32(uint16_t, array_bf16_to_f32(x)); break;
    case ARRAY_F64: TO_F32(double, (float)x); break;
    case ARRAY_I8: TO_F32(int8_t, (float)x); break;
    case ARRAY_U8: TO_F32(uint8_t, (float)x); break;
    case ARRAY_I16: TO_F32(int16_t, (float)x); break;
    case ARRAY_U16: TO_F32(uint16_t, (float)x); break;
    case ARRAY_I32: TO_F32(int32_t, (float)x); break;
    case ARRAY_U32: TO_F32(uint32_t, (float)x); break;
    case ARRAY_I64: TO_F32(int64_t, (float)x); break;
    case ARRAY_U64: TO_F32(uint64_t, (float)x); break;
    case ARRAY_BOOL: TO_F32(uint8_t, x ? 1.0f : 0.0f); break;
    case ARRAY_F8_E4M3: TO_F32(uint8_t, array_f8_e4m3_to_f32(x)); break;
    case ARRAY_F8_E5M2: TO_F32(uint8_t, array_f8_e5m2_to_f32(x)); break;
    case ARRAY_DTYPE_COUNT: break;
    }
    return true;
}

bool array_from_f32(const char *name, const struct array *a, enum array_dtype dtype, struct array *out,
                    struct io_error *err) {
    *out = (struct array){0};
    if (a->dtype != ARRAY_F32) return io_fail(err, name, "expected f32, got %s", array_dtype_name(a->dtype));
    if (dtype != ARRAY_F32 && dtype != ARRAY_F16 && dtype != ARRAY_BF16 && dtype != ARRAY_F64) {
        return io_fail(err, name, "cannot convert f32 to %s", array_dtype_name(dtype));
    }
    if (!array_alloc(name, dtype, a->ndim, a->shape, out, err)) return false;

    const float *from = a->data;
    const int64_t n = array_count(a);
    if (dtype == ARRAY_F32) {
        memcpy(out->data, from, a->bytes);
    } else if (dtype == ARRAY_F64) {
        double *to = out->data;
        for (int64_t i = 0; i < n; ++i)
            to[i] = (double)from[i];
    } else {
        uint16_t (*const encode)(float) = dtype == ARRAY_F16 ? array_f32_to_f16 : array_f32_to_bf16;
        uint16_t *to = out->data;
        for (int64_t i = 0; i < n; ++i)
            to[i] = encode(from[i]);
    }
    return true;
}

// Element i of an integer array; false when it is a u64 beyond int64_t.
static bool integer_at(const struct array *a, int64_t i, int64_t *value) {
    switch (a->dtype) {
    case ARRAY_I8: *value = ((const int8_t *)a->data)[i]; break;
    case ARRAY_U8: *value = ((const uint8_t *)a->data)[i]; break;
    case ARRAY_I16: *value = ((const int16_t *)a->data)[i]; break;
    case ARRAY_U16: *value = ((const uint16_t *)a->data)[i]; break;
    case ARRAY_I32: *value = ((const int32_t *)a->data)[i]; break;
    case ARRAY_U32: *value = ((const uint32_t *)a->data)[i]; break;
    case ARRAY_I64: *value = ((const int64_t *)a->data)[i]; break;
    default: {
        const uint64_t wide = ((const uint64_t *)a->data)[i];
        if (wide > INT64_MAX) return false;
        *value = (int64_t)wide;
    }
    }
    return true;
}

bool array_to_i32(const char *name, const struct array *a, struct array *out, struct io_error *err) {
    *out = (struct array){0};
    if (!array_dtype_is_integer(a->dtype)) {
        return io_fail(err, name, "expected integers, got %s", array_dtype_name(a->dtype));
    }
    if (!array_alloc(name, ARRAY_I32, a->ndim, a->shape, out, err)) return false;
    int32_t *to = out->data;
    const int64_t n = array_count(a);
    for (int64_t i = 0; i < n; ++i) {
        int64_t value = 0;
        const bool narrow = integer_at(a, i, &value);
        if (narrow && value >= INT32_MIN && value <= INT32_MAX) {
            to[i] = (int32_t)value;
            continue;
        }
        array_free(out);
        if (!narrow) {
            return io_fail(err, name, "element %" PRId64 " is %" PRIu64 ", beyond 32 bits", i,
                           ((const uint64_t *)a->data)[i]);
        }
        return io_fail(err, name, "element %" PRId64 " is %" PRId64 ", beyond 32 bits", i, value);
    }
    return true;
}
