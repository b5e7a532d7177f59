// SPDX-License-Identifier: MIT
#include "io.h"
#include "mxfp4.h"
#include "array.h"

#include <math.h>

// Sign, two bits of exponent with bias 1, one of mantissa.
static double element(unsigned bits) {
    const int exponent = (int)(bits >> 1 & 3u);
    const double fraction = bits & 1u ? 0.5 : 0;
    const double value = exponent ? ldexp(1 + fraction, exponent - 1) : fraction;
    return bits & 8u ? -value : value;
}

// Every element under every scale, at both places of a byte.
START_TEST(decodes_exactly) {
    uint8_t blocks[2 * MXFP4_BLOCK_BYTES], scales[2] = {(uint8_t)_i, 127};
    uint16_t out[2 * MXFP4_BLOCK];
    for (unsigned i = 0; i < MXFP4_BLOCK_BYTES; ++i) {
        blocks[i] = (uint8_t)(i | (15 - i) << 4);
        blocks[MXFP4_BLOCK_BYTES + i] = 0x12;
    }
    mxfp4_to_bf16(blocks, scales, 2, out);
    for (unsigned i = 0; i < MXFP4_BLOCK; ++i) {
        const double wanted = ldexp(element(i % 2 ? 15 - i / 2 : i / 2), _i - 127);
        const float got = array_bf16_to_f32(out[i]);
        if (_i == 255)
            ck_assert(isnan(got));
        else if (fabs(wanted) >= ldexp(1, 128))
            ck_assert(isinf(got) && (got < 0) == (wanted < 0));
        else
            ck_assert_msg((double)got == wanted, "element %u: got %g, expected %g", i, (double)got, wanted);
        ck_assert(array_bf16_to_f32(out[MXFP4_BLOCK + i]) == (i % 2 ? 0.5f : 1));
    }
}
END_TEST

Suite *io_mxfp4_suite(void) {
    Suite *suite = suite_create("io mxfp4");
    TCase *decode = tcase_create("decode");
    tcase_add_loop_test(decode, decodes_exactly, 0, 256);
    suite_add_tcase(suite, decode);
    return suite;
}
