/* SPDX-License-Identifier: MIT */
#include "quant_case.h"

#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void *quant_room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

bool quant_run_row(struct rng *rng, int row, enum clmoe_quant_mode mode, const struct quant_shape *s,
                   enum forced_caps caps, const void *from, void *to) {
    const struct clmoe_quant_params params = {.plan.kernel = clmoe_kernel_name("quant", row),
                                              .mode = mode,
                                              .max_rows = s->rows + rng_below(rng, 2),
                                              .n = s->n,
                                              .plain = s->plain,
                                              .block = s->block};
    clmoe_plan *plan;
    if (!row_fits("quant", row, clmoe_quant_plan(tester_context(caps), &params, &plan))) return false;
    const bool pack = mode == CLMOE_QUANT_PACK;
    struct guarded x = guarded_raw(rng, s->plain, s->rows, s->n, pack ? from : NULL);
    struct guarded q = guarded_raw(rng, s->block, s->rows, s->n, pack ? NULL : from);
    const struct clmoe_quant_args args = {.x = x.tensor, .q = q.tensor};
    case_ok(clmoe_quant_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(pack ? &q : &x, to);
    guarded_read(pack ? &x : &q, NULL);
    guarded_free(&x), guarded_free(&q);
    clmoe_plan_destroy(&plan);
    return true;
}

void quant_describe(int row, const char *what, const struct quant_shape *s, enum forced_caps caps) {
    case_begin("%s %s %s %s rows=%lld n=%lld caps %s", clmoe_kernel_name("quant", row), what,
               clmoe_dtype_name(s->plain), clmoe_dtype_name(s->block), (long long)s->rows, (long long)s->n,
               caps_name(caps));
}

void quant_compare_blocks(enum clmoe_dtype block, const unsigned char *got, const unsigned char *want,
                          int64_t n) {
    const int64_t bytes = ref_block_bytes(block);
    for (int64_t i = 0; i < n / ref_block_length(block) * bytes; i++)
        case_require(got[i] == want[i], "block %lld, byte %lld: %02x, expected %02x", (long long)(i / bytes),
                     (long long)(i % bytes), got[i], want[i]);
}

void quant_check_pack(struct rng *rng, const char *what, const struct quant_shape *s, enum forced_caps caps,
                      const void *raw) {
    const int64_t count = s->rows * s->n, bytes = clmoe_dtype_bytes(s->block, count);
    float *const x = quant_room(count, sizeof *x);
    unsigned char *const want = quant_room(bytes, 1), *const got = quant_room(bytes, 1);
    for (int64_t i = 0; i < count; i++)
        x[i] = ref_load(s->plain, raw, i);
    ref_pack(s->block, x, count, want);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        quant_describe(row, what, s, caps);
        if (quant_run_row(rng, row, CLMOE_QUANT_PACK, s, caps, raw, got))
            quant_compare_blocks(s->block, got, want, count);
    }
    free(x), free(want), free(got);
}

void quant_compare_bytes(const char *what, const void *got, const void *want, int64_t n) {
    const unsigned char *const g = got, *const w = want;
    for (int64_t i = 0; i < n; i++)
        case_require(g[i] == w[i], "%s, byte %lld: %02x, expected %02x", what, (long long)i, g[i], w[i]);
}

void quant_compare_plain(enum clmoe_dtype plain, const void *got, const float *want, int64_t n) {
    const size_t size = (size_t)clmoe_dtype_bytes(plain, 1);
    for (int64_t i = 0; i < n; i++) {
        uint32_t rounded;
        ref_store(plain, &rounded, 0, want[i]);
        const float g = ref_load(plain, got, i), w = ref_load(plain, &rounded, 0);
        case_require((isnan(g) && isnan(w)) || !memcmp((const char *)got + size * (size_t)i, &rounded, size),
                     "x[%lld] = %.9g, expected %.9g", (long long)i, (double)g, (double)w);
    }
}

void quant_check_unpack(struct rng *rng, const char *what, const struct quant_shape *s, enum forced_caps caps,
                        const void *q, const float *want) {
    const int64_t count = s->rows * s->n;
    void *const got = quant_room(count, (size_t)clmoe_dtype_bytes(s->plain, 1));
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        quant_describe(row, what, s, caps);
        if (quant_run_row(rng, row, CLMOE_QUANT_UNPACK, s, caps, q, got))
            quant_compare_plain(s->plain, got, want, count);
    }
    free(got);
}

void quant_expect_block(const char *what, enum clmoe_dtype block, const float *x, const unsigned char *want) {
    struct rng rng = rng_for(9001);
    const struct quant_shape s = {CLMOE_F32, block, 1, ref_block_length(block)};
    unsigned char got[256];
    for (int row = 0; clmoe_kernel_name("quant", row); row++)
        for (int caps = 0; caps < CAPS_COUNT; caps += block == CLMOE_Q8_0 ? 1 : CAPS_PLAIN) {
            quant_describe(row, what, &s, (enum forced_caps)caps);
            if (quant_run_row(&rng, row, CLMOE_QUANT_PACK, &s, (enum forced_caps)caps, x, got))
                quant_compare_blocks(block, got, want, s.n);
        }
}

void quant_plan_refused(const char *what, const struct clmoe_quant_params *params) {
    clmoe_plan *plan = (clmoe_plan *)(uintptr_t)params;
    case_begin("%s", what);
    const enum clmoe_status status = clmoe_quant_plan(tester_context(CAPS_OWN), params, &plan);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!plan && *tester_log(), "the plan is not NULL, or nothing was logged");
}

clmoe_plan *quant_plan_for(const struct clmoe_quant_params *params, enum clmoe_quant_mode mode) {
    struct clmoe_quant_params of = *params;
    clmoe_plan *plan;
    of.mode = mode;
    case_begin("plan");
    case_ok(clmoe_quant_plan(tester_context(CAPS_OWN), &of, &plan));
    return plan;
}

void quant_args_refused(const char *what, clmoe_plan *plan, const struct clmoe_quant_args *args) {
    case_begin("%s", what);
    cl_event event = (cl_event)plan;
    const enum clmoe_status status = clmoe_quant_enqueue(plan, tester()->queue, args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!event && *tester_log(), "the event is not NULL, or nothing was logged");
}

void quant_require_ran(const char *rows) {
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("quant", row)); row++)
        if (strstr(rows, name)) row_require_ran("quant", row);
}
