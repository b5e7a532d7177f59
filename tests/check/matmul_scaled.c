/* SPDX-License-Identifier: MIT
 * matmul with scaled codes: what each code and each scale means, bit by bit, and the rules of w_scale. Sizes,
 * layouts and options are in matmul.c. */
#include "matmul_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CODES = 256, STEPS = 37 };

/* One expert, rows [out, in] of codes on a single row of ones. */
struct product {
    struct clmoe_matmul_params params;
    struct guarded x, w, w_scale, y;
};

static struct product product_make(struct rng *rng, enum clmoe_dtype dtype, int64_t out, int64_t in,
                                   const void *codes, const struct clmoe_w_scale *scale, const void *scales) {
    struct product p = {.params = {.max_tokens = 1,
                                   .topk = 1,
                                   .experts = 1,
                                   .in = in,
                                   .out = out,
                                   .w_dtype = dtype,
                                   .w_scale = *scale,
                                   .routing = CLMOE_ROUTING_DENSE}};
    const int64_t rows = scale->rows ? scale->rows : out, columns = scale->columns ? scale->columns : in;
    const int64_t w[3] = {1, out, in};
    const int64_t s[3] = {1, (out + rows - 1) / rows, (in + columns - 1) / columns};
    float *const ones = matmul_room(in, sizeof *ones);
    for (int64_t k = 0; k < in; k++)
        ones[k] = 1;
    p.x = guarded_floats(rng, CLMOE_F32, 1, in, ones);
    p.w = guarded_bytes(rng, dtype, 3, w, codes);
    p.w_scale = guarded_bytes(rng, scale->dtype, 3, s, scales);
    p.y = guarded_floats(rng, CLMOE_F32, 1, out, NULL);
    free(ones);
    return p;
}

/* False: the row refuses. */
static bool product_run(struct product *p, int row, enum forced_caps caps, float *y) {
    p->params.plan.kernel = clmoe_kernel_name("matmul", row);
    case_begin("%s %s caps %s", p->params.plan.kernel, clmoe_dtype_name(p->params.w_dtype), caps_name(caps));
    clmoe_plan *plan;
    if (!row_fits("matmul", row, clmoe_matmul_plan(tester_context(caps), &p->params, &plan))) return false;
    const struct clmoe_matmul_args args = {
        .x = p->x.tensor, .w = &p->w.tensor, .w_scale = &p->w_scale.tensor, .y = p->y.tensor};
    case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read_floats(&p->y, y);
    clmoe_plan_destroy(&plan);
    return true;
}

static void product_free(struct product *p) {
    guarded_free(&p->x), guarded_free(&p->w), guarded_free(&p->w_scale), guarded_free(&p->y);
}

/* Values of all codes: fp8's are those of tests/data/make_quant_goldens.py. */
static void code_values(enum clmoe_dtype dtype, float values[CODES]) {
    for (int code = 0; code < CODES; code++)
        values[code] = (float)(signed char)code;
    if (dtype == CLMOE_I8) return;
    FILE *const f = fopen(CLMOE_QUANT_GOLDENS "/f8_e4m3.unpack", "rb");
    case_require(f != NULL, "no goldens of fp8");
    for (int code = 0; code < CODES; code++) {
        unsigned char byte = 0;
        const bool read = fread(&byte, 1, 1, f) == 1 && fread(&values[code], 4, 1, f) == 1;
        case_require(read && byte == code, "golden %d", code);
    }
    fclose(f);
}

/* Row n has code n at one step of K, in the runs and in what is left of them, and zeros elsewhere. */
START_TEST(each_code_is_exact) {
    static const struct clmoe_w_scale f32 = {.dtype = CLMOE_F32}, exponent = {.dtype = CLMOE_U8};
    const enum clmoe_dtype dtype = _i ? CLMOE_I8 : CLMOE_F8_E4M3;
    struct rng rng = rng_for(3000 + (uint64_t)_i);
    const float one = 1;
    const unsigned char exponent_of_one = 127;
    float want[CODES], got[CODES];
    unsigned char codes[CODES][STEPS] = {{0}};
    case_begin("%s", clmoe_dtype_name(dtype));
    code_values(dtype, want);
    for (int n = 0; n < CODES; n++)
        codes[n][n % STEPS] = (unsigned char)n;
    struct product p = product_make(&rng, dtype, CODES, STEPS, codes, _i ? &exponent : &f32,
                                    _i ? (const void *)&exponent_of_one : &one);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        if (!product_run(&p, row, CAPS_OWN, got)) continue;
        for (int n = 0; n < CODES; n++)
            case_require(got[n] == want[n] || (isnan(got[n]) && isnan(want[n])),
                         "code %02x is %g, expected %g", (unsigned)n, (double)got[n], (double)want[n]);
    }
    product_free(&p);
}
END_TEST

/* Exponents of E8M0, the ends too, each for its own 16 columns of 3 rows: NaN stays there. */
START_TEST(each_scale_is_exact) {
    struct rng rng = rng_for(3100);
    enum { ROWS = 7, IN = 40 };
    static const unsigned char exponents[3][3] = {{127, 1, 254}, {3, 255, 130}, {0, 126, 2}};
    const struct clmoe_w_scale scale = {CLMOE_U8, 3, 16};
    float got[ROWS];
    for (int block = 0; block < 3; block++) {
        signed char codes[ROWS][IN] = {{0}};
        for (int n = 0; n < ROWS; n++)
            codes[n][16 * block + n] = 2; /* 2 * 2^-127 is a normal number */
        struct product p = product_make(&rng, CLMOE_I8, ROWS, IN, codes, &scale, exponents);
        for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
            if (!product_run(&p, row, CAPS_OWN, got)) continue;
            for (int n = 0; n < ROWS; n++) {
                const int e = exponents[n / 3][block];
                /* A row with a NaN scale is NaN wherever its code is. */
                const bool nan = n / 3 == 1;
                case_require(nan ? isnan(got[n]) : got[n] == ldexpf(2, e - 127),
                             "row %d, block %d: %g, exponent %d", n, block, (double)got[n], e);
            }
        }
        product_free(&p);
    }
}
END_TEST

static void refused(clmoe_plan *plan, const struct clmoe_matmul_args *args, const char *what) {
    case_begin("args: %s", what);
    cl_event event = (cl_event)plan;
    const enum clmoe_status status = clmoe_matmul_enqueue(plan, tester()->queue, args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID && !event, "%s", clmoe_status_name(status));
    case_require(*tester_log(), "nothing was logged");
}

#define REFUSED(change)                                                                                      \
    do {                                                                                                     \
        struct clmoe_matmul_args a = d.args;                                                                 \
        struct clmoe_tensor scale[2] = {d.w_scale_views[0], d.w_scale_views[1]};                             \
        struct clmoe_tensor scale_up[2] = {d.w_scale_up_views[0], d.w_scale_up_views[1]};                    \
        a.w_scale = scale, a.w_scale_up = scale_up;                                                          \
        change;                                                                                              \
        refused(plan, &a, #change);                                                                          \
    } while (0)

START_TEST(bad_scales) {
    struct rng rng = rng_for(3200);
    struct clmoe_matmul_params params = {.max_tokens = 4,
                                         .topk = 1,
                                         .experts = 3,
                                         .in = 64,
                                         .out = 20,
                                         .w_dtype = CLMOE_F8_E4M3,
                                         .w_scale = {CLMOE_F32, 8, 32},
                                         .glu = CLMOE_GLU_APART,
                                         .act = {CLMOE_ACT_SILU}};
    struct matmul_sample s = matmul_sample_make(&rng, &params, 4, ROUTING_RANDOM, 2);
    clmoe_plan *plan;
    params.plan.kernel = "matmul_ref";
    case_begin("plan");
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan));
    struct matmul_operands d;
    matmul_upload(&rng, &s, &d);
    case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
    REFUSED(a.w_scale = NULL);
    REFUSED(a.w_scale_up = NULL);
    REFUSED(scale[1].mem = NULL);
    REFUSED(scale[0].dtype = CLMOE_F16);
    REFUSED(scale[0].shape[0] = 2);
    REFUSED(scale[1].shape[1] = 2);
    REFUSED(scale[0].shape[2] = 3);
    REFUSED(scale[0].stride[2] = 2);
    REFUSED(scale_up[1].shape[0] = 1);
    REFUSED(scale_up[0].offset += 2);
    REFUSED(scale_up[0].offset += (uint64_t)1 << 40);
    REFUSED(a.y.mem = scale[1].mem; a.y.offset = scale[1].offset);
    guarded_read(&d.y, NULL);
    matmul_operands_free(&d);
    clmoe_plan_destroy(&plan);

    params.w_dtype = CLMOE_F32, params.w_scale = (struct clmoe_w_scale){0};
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan));
    struct matmul_sample plain = matmul_sample_make(&rng, &params, 4, ROUTING_RANDOM, 2);
    matmul_upload(&rng, &plain, &d);
    d.args.w_scale = d.w_views;
    refused(plan, &d.args, "scales of weights that have none");
    matmul_operands_free(&d);
    clmoe_plan_destroy(&plan);
    matmul_sample_free(&s), matmul_sample_free(&plain);
}
END_TEST

/* 4 bits, 8 in a word: what each order excludes. */
START_TEST(bad_words) {
    static const struct clmoe_matmul_params good = {.max_tokens = 1,
                                                    .topk = 1,
                                                    .experts = 1,
                                                    .in = 64,
                                                    .out = 24,
                                                    .w_dtype = CLMOE_I32,
                                                    .w_order = CLMOE_W_GPTQ,
                                                    .w_scale = {CLMOE_F16, 1, 32, CLMOE_ZERO_PLUS_ONE}};
    struct clmoe_matmul_params p = good;
    clmoe_plan *plan;
    p.plan.kernel = "matmul_ref";
    case_begin("good words");
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &p, &plan));
    struct clmoe_matmul_args a = {0};
    struct clmoe_tensor w = clmoe_tensor_3d(NULL, CLMOE_I32, 1, 8, 24);
    struct clmoe_tensor scale = clmoe_tensor_3d(NULL, CLMOE_F16, 1, 2, 24), zero = scale;
    a.w = &w, a.w_scale = &scale, a.ids = clmoe_tensor_2d(NULL, CLMOE_I32, 0, 1);
    a.x = a.y = clmoe_tensor_2d(NULL, CLMOE_F32, 0, 64);
    a.y.shape[1] = 24;
    refused(plan, &a, "no zeros");
    a.w_zero = &zero;
    refused(plan, &a, "zeros of another dtype and shape");
    clmoe_plan_destroy(&plan);
#define BAD(change)                                                                                          \
    do {                                                                                                     \
        p = good;                                                                                            \
        p.change;                                                                                            \
        case_begin("params %s", #change);                                                                    \
        const enum clmoe_status status = clmoe_matmul_plan(tester_context(CAPS_OWN), &p, &plan);             \
        case_require(status == CLMOE_E_INVALID && !plan && *tester_log(), "%s", clmoe_status_name(status));  \
    } while (0)
    BAD(in = 60);
    BAD(out = 20);
    BAD(w_order = CLMOE_W_AWQ; p.out = 20);
    BAD(w_order = CLMOE_W_ENK);
    BAD(w_order = CLMOE_W_PACKED);
    BAD(w_dtype = CLMOE_I8);
    BAD(w_dtype = CLMOE_F16);
    BAD(w_dtype = CLMOE_U32);
    BAD(glu = CLMOE_GLU_INTERLEAVED);
    BAD(w_scale.rows = 0);
    BAD(w_scale.rows = 2);
    BAD(w_scale.columns = 8);
    BAD(w_scale.zero = (enum clmoe_zero)3);
    BAD(w_scale.dtype = CLMOE_I32);
    BAD(w_dtype = CLMOE_I8; p.w_order = CLMOE_W_ENK);
#undef BAD
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, each_code_is_exact, 0, 2);
    tcase_add_test(cases, each_scale_is_exact);
    tcase_add_test(cases, bad_scales);
    tcase_add_test(cases, bad_words);
}

int main(void) {
    return harness_main("matmul_scaled", "", add_tests);
}
