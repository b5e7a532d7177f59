/* SPDX-License-Identifier: MIT
 * OpenCL calls fail one at a time while the demo model is loaded and runs: each failure is reported in one
 * line, and everything is given back. There are thousands of calls, so every STRIDE-th one is taken. */
#include "generate/forward.h"
#include "unit/kit.h"

#include <string.h>

#define STRIDE 131

static struct model model;
static struct io_error error;

/* From nothing to logits, bits and counts, and back to nothing. */
static bool run(const struct quant_format *format) {
    static const uint8_t text[] = "Behold, the LORD";
    const struct device device = {.context = tester()->context,
                                  .device = tester()->device,
                                  .queue = tester()->queue,
                                  .ctx = tester_context(CAPS_OWN)};
    float logits[MODEL_VOCAB], bits[16];
    uint32_t counts[4 * 8];
    struct forward *f;
    error.text[0] = '\0';
    bool ok = forward_create(&device, &model, format, 1, &f, &error) &&
              forward_next(f, text, 3, 0, logits, &error) &&
              forward_next(f, text + 3, 1, 3, logits, &error) &&
              forward_surprise(f, text, 1, 16, bits, &error) && forward_counts(f, counts, &error);
    forward_destroy(&f);
    clFinish(tester()->queue);
    return ok;
}

START_TEST(every_so_many_calls) {
    const struct quant_format *const format = _i ? quant_format(QUANT_Q8_0) : NULL;
    uint64_t failed = 0, n = 1;
    case_begin("a run without faults");
    case_require(model_open(CLMOE_DEMO_SOURCE, &model, &error), "%s", error.text);
    case_require(run(format), "%s", error.text); /* from here on the library has its programs */
    for (;; n += STRIDE) {
        case_begin("call %llu fails", (unsigned long long)n);
        const struct layer_counts before = layer_now();
        layer()->make_fail(n, (enum layer_flavour)_i);
        const bool ok = run(format);
        const char *const call = layer()->failed();
        layer()->make_fail(0, LAYER_RESOURCES);
        const struct layer_counts after = layer_now();
        for (int o = 0; o < LAYER_OBJECTS; o++)
            case_require(after.references[o] == before.references[o], "%s: objects of kind %d: %+lld",
                         call ? call : "no call", o, (long long)(after.references[o] - before.references[o]));
        if (!call) break;
        case_require(!ok, "nobody saw that %s failed", call);
        case_require(*error.text && !strchr(error.text, '\n'), "%s: \"%s\"", call, error.text);
        failed++;
    }
    case_require(failed > 10, "only %llu calls failed", (unsigned long long)failed);
    model_close(&model);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, every_so_many_calls, 0, LAYER_FLAVOURS);
}

int main(void) {
    return harness_main("demo_fault", "", add_tests);
}
