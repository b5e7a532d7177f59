/* SPDX-License-Identifier: MIT
 * quant: all formats against what the gguf package made (tests/data/make_quant_goldens.py), and the corners
 * of the definitions in quant.h. */
#include "quant_case.h"
#include "ref/quant.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum clmoe_dtype formats[] = {CLMOE_Q8_0, CLMOE_Q4_0, CLMOE_Q5_0, CLMOE_MXFP4,
                                           CLMOE_Q4_K, CLMOE_Q5_K, CLMOE_Q6_K};
enum { N_FORMATS = sizeof formats / sizeof *formats, GOLDEN_MAX = 64 };

/* ---- goldens ---- */

/* Records of two parts, `first` and `second` bytes, as arrays of the parts. Returns how many. */
static int64_t read_golden(enum clmoe_dtype format, const char *kind, size_t first, void *firsts,
                           size_t second, void *seconds) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s.%s", CLMOE_QUANT_GOLDENS, clmoe_dtype_name(format), kind);
    case_begin("%s", path);
    FILE *const f = fopen(path, "rb");
    if (!f) return 0;
    int64_t n = 0;
    while (n < GOLDEN_MAX && fread((char *)firsts + (size_t)n * first, first, 1, f) == 1 &&
           fread((char *)seconds + (size_t)n * second, second, 1, f) == 1)
        n++;
    fclose(f);
    return n;
}

START_TEST(gguf_unpacks) {
    struct rng rng = rng_for(8000 + (uint64_t)_i);
    const enum clmoe_dtype format = formats[_i];
    const int length = ref_block_length(format), bytes = ref_block_bytes(format);
    unsigned char *const q = quant_room(GOLDEN_MAX, (size_t)bytes);
    float *const x = quant_room(GOLDEN_MAX * length, sizeof *x), *const own = quant_room(1024, sizeof *own);
    const int64_t n = read_golden(format, "unpack", (size_t)bytes, q, sizeof *x * (size_t)length, x) * length;
    case_require(n == 1024, "%lld elements", (long long)n);
    ref_unpack(format, q, n, own);
    case_require(!memcmp(own, x, (size_t)n * sizeof *x), "the reference differs");
    const struct quant_shape s = {CLMOE_F32, format, 4, n / 4};
    quant_check_unpack(&rng, "golden", &s, CAPS_OWN, q, x);
    quant_check_unpack(&rng, "golden", &s, CAPS_PLAIN, q, x);
    free(q), free(x), free(own);
}
END_TEST

START_TEST(gguf_packs) {
    struct rng rng = rng_for(8100 + (uint64_t)_i);
    const enum clmoe_dtype format = formats[_i];
    const int length = ref_block_length(format), bytes = ref_block_bytes(format);
    if (length > 32) return; /* the package does not pack those */
    unsigned char *const q = quant_room(GOLDEN_MAX, (size_t)bytes), *const own = quant_room(1024, 2);
    float *const x = quant_room(GOLDEN_MAX * length, sizeof *x);
    const int64_t n = read_golden(format, "pack", sizeof *x * (size_t)length, x, (size_t)bytes, q) * length;
    case_require(n == 1024, "%lld elements", (long long)n);
    ref_pack(format, x, n, own);
    quant_compare_blocks(format, own, q, n);
    const struct quant_shape s = {CLMOE_F32, format, 4, n / 4};
    quant_check_pack(&rng, "golden", &s, CAPS_OWN, x);
    quant_check_pack(&rng, "golden", &s, CAPS_PLAIN, x);
    free(q), free(x), free(own);
}
END_TEST

/* ---- corners ---- */

/* A block whose values are all 0, with `d` for scales (`e` in mxfp4). */
static void neutral_block(enum clmoe_dtype format, uint16_t d, unsigned char e, unsigned char *b) {
    const unsigned char bytes[2] = {(unsigned char)d, (unsigned char)(d >> 8)};
    memset(b, 0, 256);
    memcpy(format == CLMOE_Q6_K ? b + 208 : b, bytes, 2);
    if (format == CLMOE_Q4_K || format == CLMOE_Q5_K) memcpy(b + 2, bytes, 2);
    if (format == CLMOE_Q4_0) memset(b + 2, 0x88, 16);
    if (format == CLMOE_Q5_0) memset(b + 2, 0xff, 4);
    if (format == CLMOE_Q6_K) memset(b + 128, 0xaa, 64);
    if (format == CLMOE_MXFP4) b[0] = e, b[1] = 0;
}

START_TEST(zeros) {
    const enum clmoe_dtype format = formats[_i];
    const uint16_t d = format == CLMOE_Q4_0 || format == CLMOE_Q5_0 ? 0x8000 : 0;
    unsigned char want[256];
    float x[REF_BLOCK_MAX] = {0};
    neutral_block(format, d, 0, want);
    quant_expect_block("+0", format, x, want);
    for (int i = 0; i < REF_BLOCK_MAX; i++)
        x[i] = -0.0f;
    quant_expect_block("-0", format, x, want);
}
END_TEST

START_TEST(damage_shows) {
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    const enum clmoe_dtype format = formats[_i];
    unsigned char want[256];
    float x[REF_BLOCK_MAX], back[REF_BLOCK_MAX];
    neutral_block(format, 0x7e00, 255, want);
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < REF_BLOCK_MAX; i++)
            x[i] = (float)(i % 29) - 11;
        x[kind % 2 ? ref_block_length(format) - 1 : 3] = bad[kind];
        quant_expect_block("NaN or infinity", format, x, want);
    }
    ref_unpack(format, want, ref_block_length(format), back);
    for (int i = 0; i < ref_block_length(format); i++)
        case_require(isnan(back[i]), "element %d of a damaged block is %g", i, (double)back[i]);
}
END_TEST

/* Scales below and above all of f16; of mxfp4 the ends of fp32. */
START_TEST(ends_of_scales) {
    float x[32] = {8.0f * 65520.0f, -4.0f * 65520.0f};
    unsigned char want[256];
    neutral_block(CLMOE_Q4_0, 0xfc00, 0, want);
    want[2] = 0x80, want[3] = 0x8c; /* -8 and 4 */
    quant_expect_block("q4_0 beyond f16", CLMOE_Q4_0, x, want);
    x[0] = nextafterf(8 * 0x1p-124f, 0), x[1] = -x[0];
    neutral_block(CLMOE_Q4_0, 0x8000, 0, want);
    quant_expect_block("q4_0 below 2^-124", CLMOE_Q4_0, x, want);
    x[0] = 8 * 0x1p-124f, x[1] = -x[0];
    want[2] = 0x80, want[3] = 0x8f;
    quant_expect_block("q4_0 at 2^-124", CLMOE_Q4_0, x, want);

    neutral_block(CLMOE_MXFP4, 0, 252, want);
    x[0] = FLT_MAX, x[1] = -FLT_MAX / 2;
    want[1] = 7, want[2] = 8 + 6; /* 6 * 2^125 and -4 * 2^125 */
    quant_expect_block("mxfp4 at FLT_MAX", CLMOE_MXFP4, x, want);
    neutral_block(CLMOE_MXFP4, 0, 0, want);
    x[0] = FLT_MIN, x[1] = -0x1p-128f;
    x[2] = 0x1p-129f, x[3] = nextafterf(0x1p-129f, 1);
    want[1] = 4, want[2] = 9, want[4] = 1; /* 2, -1/2, a tie to 0, beside it */
    quant_expect_block("mxfp4 at FLT_MIN", CLMOE_MXFP4, x, want);
}
END_TEST

START_TEST(ends_of_scales_k) {
    static const enum clmoe_dtype k_formats[] = {CLMOE_Q4_K, CLMOE_Q5_K, CLMOE_Q6_K};
    const enum clmoe_dtype format = k_formats[_i];
    unsigned char want[256];
    float x[REF_BLOCK_MAX] = {0};
    neutral_block(format, 0, 0, want);
    x[7] = format == CLMOE_Q6_K ? 0x1p-13f : 0x1p-16f; /* D = 2^-25 and less: to 0 */
    quant_expect_block("D below f16", format, x, want);
    neutral_block(format, 0x7e00, 0, want);
    x[7] = 4096.0f * 65520.0f;
    quant_expect_block("D beyond f16", format, x, want);
    x[7] = FLT_MAX, x[8] = -FLT_MAX;
    quant_expect_block("a sum beyond fp32", format, x, want);
}
END_TEST

START_TEST(ties_between_codes) {
    unsigned char want[256];
    /* d = 1, as the first of the largest is -8; halves away from -8 */
    const float x4[32] = {-8, 8, 0.5f, -0.5f, 1.5f, -7.5f, 6.5f, 7.49f, 7.5f};
    neutral_block(CLMOE_Q4_0, 0x3c00, 0, want);
    memcpy(want + 2, "\x80\x8f\x89\x88\x8a\x81\x8f\x8f\x8f", 9);
    quant_expect_block("q4_0", CLMOE_Q4_0, x4, want);
    const float first[32] = {4, 8, -8};
    neutral_block(CLMOE_Q4_0, 0xbc00, 0, want);
    memcpy(want + 2, "\x84\x80\x8f", 3);
    quant_expect_block("q4_0, the first of the largest", CLMOE_Q4_0, first, want);
    const float x5[32] = {-16, 0.5f, -0.5f, 15.5f};
    neutral_block(CLMOE_Q5_0, 0x3c00, 0, want);
    memcpy(want + 2, "\xfe", 1); /* -16 has no fifth bit */
    memcpy(want + 6, "\x00\x01\x00\x0f", 4);
    quant_expect_block("q5_0", CLMOE_Q5_0, x5, want);
    const float mx[32] = {4, 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, 7, -0.25f, -0.75f, 5.01f};
    neutral_block(CLMOE_MXFP4, 0, 127, want);
    memcpy(want + 1, "\x06\x00\x01\x02\x03\x04\x05\x06\x07\x00\x09\x07", 12);
    quant_expect_block("mxfp4, to the smaller magnitude", CLMOE_MXFP4, mx, want);
}
END_TEST

/* Two parts of opposite sign with the largest magnitude: the second scale is 128, kept at 127. */
START_TEST(scale_of_a_part_saturates) {
    unsigned char want[256];
    float x[REF_BLOCK_MAX] = {0};
    neutral_block(CLMOE_Q6_K, 0x3c00, 0, want); /* d = 1 */
    x[0] = 32 * 128, x[17] = -32 * 128;         /* scales -128 and 128 */
    want[192] = (unsigned char)-128, want[193] = 127;
    want[0] = 0, want[128] = 0xa8; /* 32 + 4096 / -128 = 0 */
    want[17] = 0, want[128 + 17] = 0xa8;
    quant_expect_block("q6_k", CLMOE_Q6_K, x, want);
}
END_TEST

/* What comes back is near what went in: a wrong definition that all implementations share would show here. */
START_TEST(round_trips) {
    /* The worst error, as a part of the largest magnitude of the block */
    static const double bounds[N_FORMATS] = {0.005, 0.126, 0.064, 0.251, 0.1, 0.055, 0.04};
    struct rng rng = rng_for(8200 + (uint64_t)_i);
    const enum clmoe_dtype format = formats[_i];
    const struct quant_shape s = {CLMOE_F32, format, 1, 1024};
    const int length = ref_block_length(format);
    float x[1024], back[1024];
    unsigned char q[2048];
    fill_floats(&rng, FILL_RANDOM, x, 1024);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        quant_describe(row, "round trip", &s, CAPS_OWN);
        if (!quant_run_row(&rng, row, CLMOE_QUANT_PACK, &s, CAPS_OWN, x, q)) continue;
        quant_run_row(&rng, row, CLMOE_QUANT_UNPACK, &s, CAPS_OWN, q, back);
        for (int b = 0; b < 1024; b += length) {
            double top = 0, worst = 0;
            for (int i = b; i < b + length; i++) {
                top = fmax(top, fabs((double)x[i]));
                worst = fmax(worst, fabs((double)x[i] - (double)back[i]));
            }
            case_require(worst <= bounds[_i] * top, "error %g, largest %g", worst, top);
        }
    }
}
END_TEST

START_TEST(ran_at_all) {
    quant_require_ran("quant_lanes quant_block");
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, gguf_unpacks, 0, N_FORMATS);
    tcase_add_loop_test(cases, gguf_packs, 0, N_FORMATS);
    tcase_add_loop_test(cases, zeros, 0, N_FORMATS);
    tcase_add_loop_test(cases, damage_shows, 0, N_FORMATS);
    tcase_add_test(cases, ends_of_scales);
    tcase_add_loop_test(cases, ends_of_scales_k, 0, 3);
    tcase_add_test(cases, ties_between_codes);
    tcase_add_test(cases, scale_of_a_part_saturates);
    tcase_add_loop_test(cases, round_trips, 0, N_FORMATS);
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("quant_formats", "", add_tests);
}
