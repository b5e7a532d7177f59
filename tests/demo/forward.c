/* SPDX-License-Identifier: MIT
 * The demo model against what tools/demo/reference.py makes of the same weights in numpy, on CPU kernels and
 * on those that a bare GPU gets. */
#include "check/harness.h"
#include "generate/sample.h"
#include "generate/score.h"
#include "generate/text.h"
#include "io/map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A model ready to run on the device under test. */
struct rig {
    struct model model;
    struct device device;
    struct forward *forward;
    struct config reference; /* reference.json */
};

static struct io_error error;

#define must(call) case_require(call, "%s: %s", #call, error.text)

static const enum forced_caps forms[] = {CAPS_OWN, CAPS_PLAIN};
#define N_FORMS ((int)(sizeof forms / sizeof *forms))

static void open_rig_in(struct rig *r, enum forced_caps caps, int64_t sequences,
                        const struct quant_format *format) {
    case_begin("caps %s, %d sequences", caps_name(caps), (int)sequences);
    *r = (struct rig){.device = {.context = tester()->context,
                                 .device = tester()->device,
                                 .queue = tester()->queue,
                                 .ctx = tester_context(caps)}};
    must(config_open(CLMOE_DEMO_SOURCE "/reference.json", &r->reference, &error));
    must(model_open(CLMOE_DEMO_SOURCE, &r->model, &error));
    must(forward_create(&r->device, &r->model, format, sequences, &r->forward, &error));
}

static void open_rig(struct rig *r, enum forced_caps caps, int64_t sequences) {
    open_rig_in(r, caps, sequences, NULL);
}

static void close_rig(struct rig *r) {
    forward_destroy(&r->forward);
    model_close(&r->model);
    config_close(&r->reference);
}

static const cJSON *recorded(const struct rig *r, const char *key) {
    const cJSON *const item = config_find(&r->reference, key);
    case_require(item, "reference.json has no %s", key);
    return item;
}

static double number(const cJSON *list, int i) {
    return cJSON_GetNumberValue(cJSON_GetArrayItem(list, i));
}

static void check_near(double got, double want, double tolerance, const char *what) {
    case_require(fabs(got - want) <= tolerance, "%s: got %.9g, expected %.9g", what, got, want);
}

START_TEST(last_position) {
    struct rig r;
    float logits[MODEL_VOCAB], gamma[2];
    int32_t ids[2];
    open_rig(&r, forms[_i], 1);
    const char *const prompt = cJSON_GetStringValue(recorded(&r, "last_position.prompt"));
    const int n = (int)strlen(prompt);
    must(forward_next(r.forward, (const uint8_t *)prompt, n, 0, logits, &error));
    for (int i = 0; i < 8; i++) {
        const int byte = (int)number(recorded(&r, "last_position.largest_ids"), i);
        check_near(logits[i], number(recorded(&r, "last_position.first_logits"), i), 1e-3, "a first logit");
        check_near(logits[byte], number(recorded(&r, "last_position.largest_logits"), i), 1e-3,
                   "a large one");
    }
    for (int l = 0; l < 4; l++) {
        must(forward_routing(r.forward, l, n - 1, ids, gamma, &error));
        for (int slot = 0; slot < 2; slot++) {
            const cJSON *const want_ids = cJSON_GetArrayItem(recorded(&r, "last_position.router_ids"), l);
            const cJSON *const want = cJSON_GetArrayItem(recorded(&r, "last_position.gamma"), l);
            ck_assert_int_eq(ids[slot], (int)number(want_ids, slot));
            check_near(gamma[slot], number(want, slot), 1e-4, "gamma");
        }
    }
    close_rig(&r);
}
END_TEST

START_TEST(greedy_text) {
    struct rig r;
    float logits[MODEL_VOCAB];
    open_rig(&r, forms[_i], 1);
    const cJSON *sample;
    int samples = 0;
    cJSON_ArrayForEach(sample, recorded(&r, "greedy")) {
        const char *const want = cJSON_GetStringValue(cJSON_GetObjectItem(sample, "continuation"));
        const char *prompt = cJSON_GetStringValue(cJSON_GetObjectItem(sample, "prompt"));
        struct text text = {.context = r.model.context};
        struct sampler sampler = {0};
        for (; *prompt; prompt++)
            text_add(&text, (uint8_t)*prompt);
        for (int i = 0; want[i]; i++) {
            must(text_next(&text, r.forward, logits, &error));
            const int byte = sample_next(&sampler, logits);
            case_require(byte == want[i], "byte %d: got %d, expected %d", i, byte, want[i]);
            text_add(&text, (uint8_t)byte);
        }
        samples++;
    }
    ck_assert_int_eq(samples, 2);
    close_rig(&r);
}
END_TEST

/* The cache holds what reading at once computes: whole, byte by byte, and in uneven parts. */
START_TEST(parts_of_a_text) {
    static const int64_t steps[][3] = {{1, 1, 1}, {100, 1, 60}, {7, 130, 2}};
    struct rig r;
    struct file_map file;
    float whole[MODEL_VOCAB], parts[MODEL_VOCAB];
    const int64_t n = 256;
    open_rig(&r, forms[_i], 1);
    must(file_map_open(CLMOE_DEMO_SOURCE "/heldout.txt", &file, &error));
    must(forward_next(r.forward, file.data, n, 0, whole, &error));
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        int64_t at = 0;
        for (int i = 0; at < n; i++) {
            const int64_t step = steps[s][i % 3] < n - at ? steps[s][i % 3] : n - at;
            must(forward_next(r.forward, (const uint8_t *)file.data + at, step, at, parts, &error));
            at += step;
        }
        for (int i = 0; i < MODEL_VOCAB; i++)
            check_near(parts[i], whole[i], 1e-3, "a logit");
    }
    file_map_close(&file);
    close_rig(&r);
}
END_TEST

/* Bits per byte of the first n bytes of heldout.txt, by reference.py. */
static const struct {
    int64_t n, scored;
    double bits_per_byte;
} windows[] = {
    {2, 1, 3.024771566},       {300, 298, 1.468901514},   {2048, 2040, 1.464476653},
    {2049, 2040, 1.464476653}, {2105, 2096, 1.467522350}, {4096, 4080, 1.516965337},
};

START_TEST(score_of_windows) {
    struct rig r;
    struct file_map file;
    struct score score;
    open_rig(&r, forms[_i], SCORE_SEQUENCES);
    must(file_map_open(CLMOE_DEMO_SOURCE "/heldout.txt", &file, &error));
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        must(score_text(r.forward, file.data, windows[i].n, NULL, &score, &error));
        ck_assert_int_eq(score.bytes, windows[i].scored);
        check_near(score.bits / (double)score.bytes, windows[i].bits_per_byte, 1e-4, "bits per byte");
    }
    must(score_text(r.forward, file.data, 1, NULL, &score, &error));
    ck_assert_int_eq(score.bytes, 0);
    file_map_close(&file);
    close_rig(&r);
}
END_TEST

/* Of the first 2048 bytes, with the experts' weights in other formats, by quantised.py. */
static const struct {
    enum quant_choice format;
    enum forced_caps caps;
    double bits_per_byte;
} formats[] = {
    {QUANT_Q4_0, CAPS_OWN, 1.471047}, {QUANT_FP8, CAPS_PLAIN, 1.464410}, {QUANT_INT4, CAPS_PLAIN, 1.471889}};

START_TEST(score_of_formats) {
    struct rig r;
    struct file_map file;
    struct score score;
    open_rig_in(&r, formats[_i].caps, SCORE_SEQUENCES, quant_format(formats[_i].format));
    must(file_map_open(CLMOE_DEMO_SOURCE "/heldout.txt", &file, &error));
    must(score_text(r.forward, file.data, 2048, NULL, &score, &error));
    check_near(score.bits / (double)score.bytes, formats[_i].bits_per_byte, 1e-5, "bits per byte");
    file_map_close(&file);
    close_rig(&r);
}
END_TEST

/* Hidden and inner sizes, in blocks and words. */
START_TEST(sizes_of_formats) {
    static const struct {
        enum quant_choice format;
        int64_t hidden, inter;
        const char *error;
    } cases[] = {{QUANT_Q8_0, 256, 128, NULL},
                 {QUANT_Q4_K, 32, 96, NULL},
                 {QUANT_Q8_0, 272, 128, "q8_0: 272 numbers are no whole blocks of 32"},
                 {QUANT_MXFP4, 256, 100, "mxfp4: 100 numbers are no whole blocks of 32"},
                 {QUANT_INT4, 272, 104, NULL},
                 {QUANT_INT4, 272, 100, "int4: 100 numbers are no whole blocks of 8"},
                 {QUANT_INT8, 16, 7, NULL}};
    const bool fits = quant_fits(quant_format(cases[_i].format), cases[_i].hidden, cases[_i].inter, &error);
    case_begin("sizes %d and %d", (int)cases[_i].hidden, (int)cases[_i].inter);
    case_require(fits == !cases[_i].error, "fits: %d", fits);
    if (!fits) ck_assert_str_eq(error.text, cases[_i].error);
}
END_TEST

START_TEST(score_of_heldout) {
    struct rig r;
    struct file_map file;
    struct score score;
    int64_t scored;
    double want;
    open_rig(&r, CAPS_OWN, SCORE_SEQUENCES);
    must(config_int(&r.reference, "scored_bytes", 1, INT32_MAX, &scored, &error));
    must(config_number(&r.reference, "bits_per_byte", 0, 8, &want, &error));
    must(file_map_open(CLMOE_DEMO_SOURCE "/heldout.txt", &file, &error));
    must(score_text(r.forward, file.data, (int64_t)file.size, NULL, &score, &error));
    ck_assert_int_eq(score.bytes, scored);
    check_near(score.bits / (double)score.bytes, want, 1e-4, "bits per byte");
    file_map_close(&file);
    close_rig(&r);
}
END_TEST

/* New buffers may hold anything: here what memory gives back that held NaN before. */
START_TEST(memory_full_of_nan) {
    enum { BUFFERS = 256 };
    const cl_float nan = NAN;
    cl_mem dirty[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) {
        const size_t bytes = (size_t)4096 << i % 9;
        dirty[i] = clCreateBuffer(tester()->context, CL_MEM_READ_WRITE, bytes, NULL, NULL);
        ck_assert_int_eq(
            clEnqueueFillBuffer(tester()->queue, dirty[i], &nan, sizeof nan, 0, bytes, 0, NULL, NULL),
            CL_SUCCESS);
    }
    clFinish(tester()->queue);
    for (int i = 0; i < BUFFERS; i++)
        clReleaseMemObject(dirty[i]);
    struct rig r;
    float logits[MODEL_VOCAB];
    open_rig(&r, forms[_i], 1);
    for (int i = 0; i < 3; i++) {
        must(forward_next(r.forward, (const uint8_t *)"And", 1 + i % 2, i, logits, &error));
        for (int b = 0; b < MODEL_VOCAB; b++)
            case_require(isfinite(logits[b]), "logit %d is %g", b, (double)logits[b]);
    }
    close_rig(&r);
}
END_TEST

/* Every layer chooses topk experts for every byte read, and forgets on demand. */
START_TEST(counts_of_experts) {
    static const uint8_t text[] = "Behold, ";
    struct rig r;
    float logits[MODEL_VOCAB], gamma[2];
    int32_t ids[2];
    uint32_t counts[4 * 8], want[4 * 8] = {0};
    open_rig(&r, forms[_i], 1);
    for (int pass = 0; pass < 2; pass++) {
        must(forward_next(r.forward, text, 8, 0, logits, &error));
        must(forward_next(r.forward, text + 7, 1, 7, logits, &error));
        must(forward_counts(r.forward, counts, &error));
        for (int l = 0; l < 4; l++) {
            uint32_t sum = 0;
            for (int e = 0; e < 8; e++)
                sum += counts[8 * l + e];
            ck_assert_uint_eq(sum, 9 * 2);
        }
        must(forward_forget_counts(r.forward, &error));
    }
    must(forward_next(r.forward, text, 8, 0, logits, &error));
    for (int i = 0; i < 4 * 8; i++) {
        must(forward_routing(r.forward, i / 8, i % 8, ids, gamma, &error));
        want[i / 8 * 8 + ids[0]]++;
        want[i / 8 * 8 + ids[1]]++;
    }
    must(forward_counts(r.forward, counts, &error));
    ck_assert_mem_eq(counts, want, sizeof want);
    close_rig(&r);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, last_position, 0, N_FORMS);
    tcase_add_loop_test(cases, greedy_text, 0, N_FORMS);
    tcase_add_loop_test(cases, parts_of_a_text, 0, N_FORMS);
    tcase_add_loop_test(cases, score_of_windows, 0, N_FORMS);
    tcase_add_loop_test(cases, memory_full_of_nan, 0, N_FORMS);
    tcase_add_loop_test(cases, counts_of_experts, 0, N_FORMS);
    tcase_add_loop_test(cases, sizes_of_formats, 0, 7);
    if (tester()->small) return;
    tcase_add_test(cases, score_of_heldout);
    tcase_add_loop_test(cases, score_of_formats, 0, (int)(sizeof formats / sizeof *formats));
}

int main(void) {
    return harness_main("demo_forward", "", add_tests);
}
