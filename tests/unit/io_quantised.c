// SPDX-License-Identifier: MIT
#include "quantised.h"
#include "io.h"

// Blocks of 2 x 4 in a matrix of 3 x 6: whole ones, and what is left.
START_TEST(fp8_in_blocks) {
    static const float scales[2][2] = {{1, 2}, {4, 8}};
    static const uint8_t bits[] = {0x38, 0xb8, 0x00, 0x01, 0x7e, 0x40}; // 1 -1 0 2^-9 448 2
    static const float values[] = {1, -1, 0, 1.0f / 512, 448, 2};
    uint8_t data[18];
    for (int i = 0; i < 18; ++i)
        data[i] = bits[i % 6];
    const struct fp8_matrix m = {data, scales[0], 3, 6, 2, 4};
    for (int r = 0; r < 3; ++r) {
        float out[6];
        fp8_row(&m, r, out);
        for (int c = 0; c < 6; ++c)
            ck_assert(out[c] == values[c] * scales[r / 2][c / 4]);
    }
}
END_TEST

#define HALF(n) ((uint16_t)(0x3c00 + 0x400 * (n))) // 2^n

// Row r of column c is 2^g (r + c - zero), of group g, whose zero points are r + g.
static void fill(const struct int4_matrix *m, uint8_t *data, uint8_t *zeros, uint16_t *scales, bool awq) {
    static const int awq_rows[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    for (int c = 0; c < 8; ++c)
        for (int i = 0; i < 8; ++i) {
            const int row = awq ? awq_rows[i] : i;
            const int word = awq ? c : row, place = awq ? i : c;
            data[4 * word + place / 2] |= (uint8_t)((row + c) % 16 << 4 * (place % 2));
        }
    for (int g = 0; g < 2; ++g)
        for (int i = 0; i < 8; ++i) {
            const int row = awq ? awq_rows[i] : i;
            zeros[4 * g + i / 2] |= (uint8_t)((row + g + 1 - m->zero_added) << 4 * (i % 2));
            scales[8 * g + i] = HALF(g);
        }
}

START_TEST(four_bits) {
    const bool awq = _i == 0, listed = _i == 2;
    static const int32_t groups[] = {1, 0, 0, 1, 1, 0, 1, 0};
    uint8_t room[33] = {0}, zeros[8] = {0};
    uint16_t scales[16];
    uint8_t *const data = room + 1; // not aligned
    const struct int4_matrix m = {.data = data,
                                  .zeros = zeros,
                                  .scales = scales,
                                  .groups = listed ? groups : NULL,
                                  .rows = 8,
                                  .columns = 8,
                                  .group = 4,
                                  .zero_added = !awq,
                                  .awq = awq};
    fill(&m, data, zeros, scales, awq);
    for (int r = 0; r < 8; ++r) {
        float out[5];
        int4_values(&m, r, 2, 5, out);
        for (int c = 2; c < 7; ++c) {
            const int g = listed ? groups[c] : c / 4;
            ck_assert_int_eq(int4_group(&m, c), g);
            ck_assert(out[c - 2] == (float)((r + c - (r + g + 1)) * (1 << g)));
        }
    }
}
END_TEST

Suite *io_quantised_suite(void) {
    Suite *suite = suite_create("io quantised");
    TCase *decode = tcase_create("decode");
    tcase_add_test(decode, fp8_in_blocks);
    tcase_add_loop_test(decode, four_bits, 0, 3);
    suite_add_tcase(suite, decode);
    return suite;
}
