/* SPDX-License-Identifier: MIT
 * What surrounds the demo model and needs no device: drawing bytes, the sliding context, the table of
 * experts. */
#include "generate/picture.h"
#include "generate/sample.h"
#include "generate/text.h"

#include <check.h>
#include <math.h>
#include <string.h>

static void fill(float logits[MODEL_VOCAB], float value) {
    for (int i = 0; i < MODEL_VOCAB; i++)
        logits[i] = value;
}

START_TEST(greedy) {
    struct sampler s = {.temperature = 0};
    float logits[MODEL_VOCAB];
    fill(logits, -3);
    ck_assert_int_eq(sample_next(&s, logits), 0);
    logits[9] = logits[200] = 1;
    ck_assert_int_eq(sample_next(&s, logits), 9);
    ck_assert_uint_eq(s.state, 0);
}
END_TEST

START_TEST(no_numbers) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 6; i++) {
        struct sampler s = {.temperature = i % 2};
        float logits[MODEL_VOCAB];
        fill(logits, 1);
        logits[255] = bad[i / 2];
        ck_assert_int_eq(sample_next(&s, logits), -1);
    }
}
END_TEST

START_TEST(a_seed_repeats) {
    struct sampler a = {7, 1}, b = {7, 1}, c = {8, 1};
    float logits[MODEL_VOCAB];
    int differ = 0;
    fill(logits, 0);
    for (int i = 0; i < 100; i++) {
        const int byte = sample_next(&a, logits);
        ck_assert_int_eq(sample_next(&b, logits), byte);
        differ += sample_next(&c, logits) != byte;
    }
    ck_assert_int_gt(differ, 50);
}
END_TEST

/* Bytes 3 and 5 with odds of 3 to 1 at temperature 1, of 9 to 1 at 0.5; nothing else. */
START_TEST(odds) {
    const double temperatures[] = {1, 0.5, 1e-300}, share[] = {0.75, 0.9, 1};
    for (int t = 0; t < 3; t++) {
        struct sampler s = {1, temperatures[t]};
        float logits[MODEL_VOCAB];
        int threes = 0;
        fill(logits, -1e30f);
        logits[5] = 2;
        logits[3] = 2 + logf(3);
        for (int i = 0; i < 20000; i++) {
            const int byte = sample_next(&s, logits);
            ck_assert(byte == 3 || byte == 5);
            threes += byte == 3;
        }
        ck_assert_double_eq_tol(threes / 20000.0, share[t], 0.02);
    }
}
END_TEST

START_TEST(the_later_half_stays) {
    struct text t = {.context = 16};
    for (int i = 0; i < 16; i++)
        text_add(&t, (uint8_t)i);
    t.read = 16;
    ck_assert_int_eq(t.n, 16);
    text_add(&t, 16);
    ck_assert_int_eq(t.n, 8);
    ck_assert_int_eq(t.read, 0);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(t.bytes[i], 9 + i);
}
END_TEST

static void expect_picture(const struct usage_counts *u, bool colour, const char *want) {
    char got[4096];
    FILE *const f = tmpfile();
    ck_assert_ptr_nonnull(f);
    picture_print(u, colour, f);
    rewind(f);
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    fclose(f);
    ck_assert_str_eq(got, want);
}

START_TEST(a_number_each) {
    const uint32_t counts[] = {1, 3, 0, 0};
    const struct usage_counts u = {2, 2, counts};
    expect_picture(&u, false,
                   "experts each layer used, in % of its choices (an even share is 50 %):\n"
                   "layer   expert  0    1 \n"
                   "    0           25   75 \n"
                   "    1            0    0 \n");
    ck_assert_double_eq(usage_largest(&u), 0.75);
}
END_TEST

START_TEST(a_character_each) {
    uint32_t counts[65] = {0};
    counts[1] = 5;
    counts[2] = 10;
    counts[64] = 9;
    const struct usage_counts u = {1, 65, counts};
    expect_picture(&u, false,
                   "experts each layer used, from 0, never, to 9, most of all (an even share is 1.54 %):\n"
                   "layer   0  0590000000000000000000000000000000000000000000000000000000000000\n"
                   "           9\n");
}
END_TEST

START_TEST(colours) {
    const uint32_t counts[] = {0, 4};
    const struct usage_counts u = {1, 2, counts};
    expect_picture(&u, true,
                   "experts each layer used, in % of its choices (an even share is 50 %):\n"
                   "layer   expert  0    1 \n"
                   "    0         \033[48;5;17;38;5;231m   0 \033[0m\033[48;5;226;38;5;16m 100 \033[0m\n");
}
END_TEST

int main(void) {
    Suite *const s = suite_create("demo_text");
    TCase *const cases = tcase_create("text");
    tcase_add_test(cases, greedy);
    tcase_add_test(cases, no_numbers);
    tcase_add_test(cases, a_seed_repeats);
    tcase_add_test(cases, odds);
    tcase_add_test(cases, the_later_half_stays);
    tcase_add_test(cases, a_number_each);
    tcase_add_test(cases, a_character_each);
    tcase_add_test(cases, colours);
    suite_add_tcase(s, cases);
    SRunner *const runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
