// SPDX-License-Identifier: MIT
// What epilogue.cl takes for exp, division and limits, in single instructions of NVIDIA's: exact enough where y has 16
// bits. Numbers below the normal ones are 0 to them; a NaN stays one. tests/emulated has this file for CPUs.
//
// Of a vector each instruction comes for all elements before the next one does, so that none waits for the one before.
#ifndef VALUE
#error "VALUE: float, float4 or float8"
#endif

#define OF_ONE(name, instruction)                                                                                      \
    inline float name##_float(float v) {                                                                               \
        float r;                                                                                                       \
        asm volatile(instruction " %0, %1;" : "=f"(r) : "f"(v));                                                       \
        return r;                                                                                                      \
    }                                                                                                                  \
    inline float4 name##_float4(float4 v) {                                                                            \
        return (float4)(name##_float(v.x), name##_float(v.y), name##_float(v.z), name##_float(v.w));                   \
    }                                                                                                                  \
    inline float8 name##_float8(float8 v) { return (float8)(name##_float4(v.lo), name##_float4(v.hi)); }
OF_ONE(exp2_of, "ex2.approx.ftz.f32")
OF_ONE(inverse_of, "rcp.approx.ftz.f32")

#define OF_TWO(name, instruction)                                                                                      \
    inline float name##_float(float v, float limit) {                                                                  \
        float r;                                                                                                       \
        asm volatile(instruction " %0, %1, %2;" : "=f"(r) : "f"(v), "f"(limit));                                       \
        return r;                                                                                                      \
    }                                                                                                                  \
    inline float4 name##_float4(float4 v, float4 limit) {                                                              \
        return (float4)(name##_float(v.x, limit.x), name##_float(v.y, limit.y), name##_float(v.z, limit.z),            \
                        name##_float(v.w, limit.w));                                                                   \
    }                                                                                                                  \
    inline float8 name##_float8(float8 v, float8 limit) {                                                              \
        return (float8)(name##_float4(v.lo, limit.lo), name##_float4(v.hi, limit.hi));                                 \
    }
OF_TWO(at_most, "min.NaN.f32")
OF_TWO(at_least, "max.NaN.f32")

#define ACT_EXP(rate, v) CAT(exp2_of_, VALUE)((rate) * 1.44269504088896f * (v))
#define ACT_DIVIDE(a, b) ((a) * CAT(inverse_of_, VALUE)(b))
#define AT_MOST(v, limit) CAT(at_most_, VALUE)(v, limit)
#define AT_LEAST(v, limit) CAT(at_least_, VALUE)(v, limit)
