// SPDX-License-Identifier: MIT
// As cl/matmul/activation_nv.cl, in C.
#define OF_EIGHT(name, of)                                                                                             \
    inline float name##_float(float v) { return of; }                                                                  \
    inline float8 name##_float8(float8 v) {                                                                            \
        return (float8)(name##_float(v.s0), name##_float(v.s1), name##_float(v.s2), name##_float(v.s3),                \
                        name##_float(v.s4), name##_float(v.s5), name##_float(v.s6), name##_float(v.s7));               \
    }
OF_EIGHT(exp_of, native_exp(v))
OF_EIGHT(inverse_of, native_divide(1.0f, v))

#define ACT_EXP(rate, v) CAT(exp_of_, VALUE)((rate) * (v))
#define ACT_DIVIDE(a, b) ((a) * CAT(inverse_of_, VALUE)(b))
