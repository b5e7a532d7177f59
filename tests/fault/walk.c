/* SPDX-License-Identifier: MIT
 *
 * A run with a failing call must end in one of two ways: an error status with NULL for the handle and a word
 * in the log, or, where the library can do without (a probe, a cache, a better kernel), in success with right
 * results. Nothing may leak either way. A walk ends with the first run in which nothing was left to fail. */
#include "walk.h"

#include "check/offload_case.h"
#include "unit/kit.h"
#include "unit/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct fault *fault;
static struct logbook book;
static int positions;

/* What a walk works on. */
struct subject {
    int sample;
    clmoe_plan *plan;
    cl_command_queue queue;
    clmoe_context
        *warm; /* plans are made in this context, which has all programs; NULL: in a new one each time */
    const struct clmoe_cache *cache;
    bool keep_cache; /* false: emptied before every step */
    struct offload_case *offload;
};

/* One step makes call n fail inside of the function under test, cleans up, and returns what was made to fail.
 */
typedef const char *step_fn(const struct subject *s, uint64_t n, int flavour);

static struct layer_counts references_now(void) {
    clFinish(tester()->queue);
    clFinish(tester()->ooo_queue);
    return layer_now();
}

/* After the function under test: disarms, judges, returns what failed. */
static const char *judge(enum clmoe_status status, const void *handle) {
    const char *const hit = fault->hit();
    fault->arm(0, 0);
    if (status == CLMOE_OK) {
        case_require(handle != NULL, "success without a handle");
        return hit;
    }
    case_require(hit != NULL, "%s, though nothing was made to fail: %s", clmoe_status_name(status),
                 book.text);
    case_require(handle == NULL, "%s with a handle that is not NULL", clmoe_status_name(status));
    case_require(fault->plausible(status), "%s failed, the status is %s", hit, clmoe_status_name(status));
    case_require(status == CLMOE_E_NO_MEMORY || book.levels[CLMOE_LOG_ERROR] > 0,
                 "%s failed, the log is empty", hit);
    return hit;
}

/* Steps with n = 1, 2, ... until nothing is left to fail. */
static void walk(const char *what, const struct subject *s, step_fn *step) {
    for (int flavour = 0; flavour < fault->flavours; flavour++) {
        const char *hit = "";
        for (uint64_t n = 1; hit; n++) {
            case_begin("%s, %s, failure %d of call %llu", sample_name(s->sample), what, flavour,
                       (unsigned long long)n);
            case_require(n < 5000, "no end");
            const struct layer_counts before = references_now();
            const int64_t alive = fault->alive();
            logbook_clear(&book);
            hit = step(s, n, flavour);
            const struct layer_counts after = references_now();
            for (int i = 0; i < LAYER_OBJECTS; i++)
                case_require(after.references[i] == before.references[i],
                             "%s failed: %lld objects of type %d leak", hit ? hit : "nothing",
                             (long long)(after.references[i] - before.references[i]), i);
            case_require(fault->alive() == alive, "%s failed: %lld allocations leak", hit ? hit : "nothing",
                         (long long)(fault->alive() - alive));
            positions += hit != NULL;
        }
    }
}

static void require_right_result(int sample, clmoe_plan *plan) {
    struct sample s;
    sample_open(&s, sample, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    case_require(sample_outputs(&s, tester()->queue) == sample_result(sample), "wrong results");
    sample_close(&s);
}

/* ---- contexts ---- */

static const char *step_context(const struct subject *s, uint64_t n, int flavour) {
    const struct clmoe_context_params params = {
        .log = logbook_keep, .log_priv = &book, .log_level = CLMOE_LOG_INFO};
    clmoe_context *ctx = (clmoe_context *)&book;
    (void)s;
    fault->arm(n, flavour);
    const enum clmoe_status status = clmoe_context_create(tester()->context, tester()->device, &params, &ctx);
    const char *const hit = judge(status, ctx);
    clmoe_context_destroy(&ctx);
    return hit;
}

START_TEST(contexts) {
    walk("context", &(struct subject){0}, step_context);
}
END_TEST

/* ---- plans: without a cache, with an empty one, with a full one ---- */

/* A cache of one entry a key, without allocations of its own. */
enum { CACHE_ENTRIES = 16, CACHE_BYTES = 1 << 20 };
static struct {
    char key[65];
    size_t size;
    unsigned char blob[CACHE_BYTES];
} entries[CACHE_ENTRIES];

static size_t cache_get(void *priv, const char *key, void *blob, size_t capacity) {
    (void)priv;
    for (int i = 0; i < CACHE_ENTRIES; i++) {
        if (strcmp(entries[i].key, key) != 0) continue;
        if (entries[i].size <= capacity) memcpy(blob, entries[i].blob, entries[i].size);
        return entries[i].size;
    }
    return 0;
}

static void cache_set(void *priv, const char *key, const void *blob, size_t size) {
    (void)priv;
    int i = 0;
    while (i < CACHE_ENTRIES && entries[i].size && strcmp(entries[i].key, key) != 0)
        i++;
    case_require(i < CACHE_ENTRIES && size <= CACHE_BYTES, "the cache of the test is too small");
    snprintf(entries[i].key, sizeof entries[i].key, "%s", key);
    memcpy(entries[i].blob, blob, size);
    entries[i].size = size;
}

static void cache_clear(void) {
    for (int i = 0; i < CACHE_ENTRIES; i++)
        entries[i].size = 0, entries[i].key[0] = '\0';
}

static const struct clmoe_cache test_cache = {cache_get, cache_set, NULL};

static const char *step_plan(const struct subject *s, uint64_t n, int flavour) {
    struct sample sample;
    clmoe_plan *plan = (clmoe_plan *)&book;
    if (!s->keep_cache) cache_clear();
    clmoe_context *own = s->warm ? NULL : logged_context(&book, s->cache, plain_caps);
    sample_open(&sample, s->sample, tester()->context, SAMPLE_TOKENS);
    logbook_clear(&book);
    fault->arm(n, flavour);
    const enum clmoe_status status = sample_plan(&sample, s->warm ? s->warm : own, &plan);
    const char *const hit = judge(status, plan);
    if (plan && hit) require_right_result(s->sample, plan);
    sample_close(&sample);
    clmoe_context_destroy(&own);
    clmoe_plan_destroy(&plan);
    return hit;
}

/* Programs are built each time, so that builds fail too, and worse rows stand in. */
START_TEST(plans_that_build) {
    walk("plan that builds", &(struct subject){.sample = _i}, step_plan);
}
END_TEST

START_TEST(plans) {
    struct subject s = {.sample = _i, .warm = logged_context(&book, NULL, no_caps)};
    step_plan(&s, 0, 0);
    walk("plan", &s, step_plan);
    clmoe_context_destroy(&s.warm);
}
END_TEST

START_TEST(plans_that_save) {
    walk("plan that saves", &(struct subject){.sample = _i, .cache = &test_cache}, step_plan);
}
END_TEST

START_TEST(plans_that_load) {
    const struct subject s = {.sample = _i, .cache = &test_cache, .keep_cache = true};
    cache_clear();
    step_plan(&s, 0, 0);
    walk("plan that loads", &s, step_plan);
}
END_TEST

static const char *step_directory(const struct subject *s, uint64_t n, int flavour) {
    char dir[256];
    struct clmoe_cache *disk = (struct clmoe_cache *)&book;
    scratch_make(dir);
    fault->arm(n, flavour);
    enum clmoe_status status = clmoe_cache_dir_create(dir, &disk);
    const char *hit = fault->hit();
    fault->arm(0, 0);
    case_require((status == CLMOE_OK) == (disk != NULL), "%s", clmoe_status_name(status));
    if (disk) {
        struct subject with_disk = *s;
        with_disk.cache = disk;
        with_disk.keep_cache = true;
        if (!hit) hit = step_plan(&with_disk, n, flavour);
        clmoe_cache_dir_destroy(&disk);
    }
    scratch_remove(dir);
    return hit;
}

START_TEST(directories) {
    walk("plan with a directory", &(struct subject){.sample = _i}, step_directory);
}
END_TEST

/* ---- calls of one plan, which stays good ---- */

static const char *step_enqueue(const struct subject *s, uint64_t n, int flavour) {
    struct sample sample;
    cl_event event = (cl_event)&book;
    sample_open(&sample, s->sample, tester()->context, SAMPLE_TOKENS);
    fault->arm(n, flavour);
    const enum clmoe_status status = sample_enqueue(&sample, s->plan, s->queue, 0, NULL, &event);
    const char *const hit = judge(status, event);
    if (event) {
        clWaitForEvents(1, &event);
        case_require(sample_outputs(&sample, s->queue) == sample_result(s->sample), "wrong results");
        clReleaseEvent(event);
    }
    clFinish(s->queue);
    sample_close(&sample);
    return hit;
}

START_TEST(calls) {
    struct sample sample;
    struct subject s = {.sample = _i / 2, .queue = _i % 2 ? tester()->ooo_queue : tester()->queue};
    clmoe_context *ctx = logged_context(&book, NULL, no_caps);
    sample_open(&sample, s.sample, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&sample, ctx, &s.plan));
    sample_close(&sample);
    const int before = positions;
    walk(_i % 2 ? "call on an out-of-order queue" : "call", &s, step_enqueue);
    printf("  %-8s call: %d failures\n", sample_name(s.sample), positions - before);
    require_right_result(s.sample, s.plan);
    clmoe_plan_destroy(&s.plan);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* ---- experts in host memory: an object stays good, too ---- */

static const int32_t ahead[] = {3, 0};

static const char *step_offload(const struct subject *s, uint64_t n, int flavour) {
    const struct clmoe_offload_params params = offload_case_params(s->offload, 2 * s->offload->expert_bytes);
    clmoe_offload *offload = (clmoe_offload *)&book;
    fault->arm(n, flavour);
    const enum clmoe_status status = clmoe_offload_create(s->plan, &params, &offload);
    const char *const hit = judge(status, offload);
    clmoe_offload_destroy(&offload);
    return hit;
}

/* A call that must give the right bits, whatever has failed before. */
static void require_right_bits(const struct subject *s, clmoe_offload *offload) {
    const struct clmoe_moe_args args = offload_case_args(s->offload, offload);
    case_ok(clmoe_moe_enqueue(s->plan, s->queue, &args, 0, NULL, NULL));
    clFinish(s->queue);
    offload_case_compare(s->offload);
}

static const char *step_prefetch(const struct subject *s, uint64_t n, int flavour) {
    clmoe_offload *offload = offload_case_create(s->offload, s->plan, 2 * s->offload->expert_bytes);
    fault->arm(n, flavour);
    const enum clmoe_status status = clmoe_offload_prefetch(offload, 2, ahead);
    const char *const hit = judge(status, status == CLMOE_OK ? offload : NULL);
    require_right_bits(s, offload);
    clmoe_offload_destroy(&offload);
    return hit;
}

static const char *step_offloaded(const struct subject *s, uint64_t n, int flavour) {
    clmoe_offload *offload = offload_case_create(s->offload, s->plan, 2 * s->offload->expert_bytes);
    const struct clmoe_moe_args args = offload_case_args(s->offload, offload);
    cl_event event = (cl_event)&book;
    case_ok(clmoe_offload_prefetch(offload, 2, ahead));
    fault->arm(n, flavour);
    const enum clmoe_status status = clmoe_moe_enqueue(s->plan, s->queue, &args, 0, NULL, &event);
    const char *const hit = judge(status, event);
    if (event) {
        clWaitForEvents(1, &event);
        clReleaseEvent(event);
        clFinish(s->queue);
        offload_case_compare(s->offload);
    }
    require_right_bits(s, offload);
    clmoe_offload_destroy(&offload);
    return hit;
}

START_TEST(offloads) {
    const struct clmoe_moe_params params = {.plan.kernel = "matmul_ref",
                                            .max_tokens = 3,
                                            .experts = 4,
                                            .topk = 2,
                                            .hidden = 16,
                                            .inter = 8,
                                            .glu = CLMOE_GLU_GATE_UP,
                                            .bias1 = 1,
                                            .source = CLMOE_MOE_IDS};
    struct rng rng = rng_for(1);
    clmoe_context *ctx = logged_context(&book, NULL, plain_caps); /* copies in pieces */
    struct subject s = {.queue = _i ? tester()->ooo_queue : tester()->queue,
                        .offload = offload_case_make(&rng, &params, 3)};
    clmoe_plan *resident = offload_case_plan(s.offload, ctx, false);
    for (int i = 0; i < 6; i++)
        s.offload->routing[i] = i % 4; /* all experts, in two turns and more */
    offload_case_put_ids(&rng, s.offload);
    offload_case_solve(s.offload, resident);
    s.plan = offload_case_plan(s.offload, ctx, true);
    if (!_i) walk("offload", &s, step_offload);
    if (!_i) walk("prefetch", &s, step_prefetch);
    const int before = positions;
    walk(_i ? "offloaded call on an out-of-order queue" : "offloaded call", &s, step_offloaded);
    printf("  %-8s call: %d failures\n", "offload", positions - before);
    clmoe_plan_destroy(&s.plan);
    clmoe_plan_destroy(&resident);
    offload_case_free(s.offload);
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(something_failed) {
    printf("%d calls were made to fail\n", positions);
    case_require(positions > 0, "no call was made to fail");
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = sample_count();
    for (int i = 0; i < n; i++)
        sample_result(i);
    tcase_add_test(cases, contexts);
    tcase_add_loop_test(cases, plans, 0, n);
    /* The program store does not know operations: two are enough. */
    tcase_add_loop_test(cases, plans_that_build, 0, 2);
    tcase_add_loop_test(cases, plans_that_save, 0, 2);
    tcase_add_loop_test(cases, plans_that_load, 0, 2);
    tcase_add_loop_test(cases, directories, 0, 1);
    tcase_add_loop_test(cases, calls, 0, 2 * n);
    tcase_add_loop_test(cases, offloads, 0, 2);
    tcase_add_test(cases, something_failed);
}

int walk_main(const struct fault *what) {
    fault = what;
    return harness_main(what->name, "", add_tests);
}
