/* SPDX-License-Identifier: MIT
 * One context, many threads: each plans and enqueues on a queue of its own, at the same time. */
#define _POSIX_C_SOURCE 200809L
#include "kit.h"
#include "sample.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 6, MAX_SAMPLES = 32 };

/* Everything shared: read by the threads, made before them. */
static struct logbook book;
static clmoe_context *ctx;
static pthread_barrier_t start;
static uint64_t results[MAX_SAMPLES];

struct worker {
    pthread_t thread;
    int number, rounds;
    bool ok;
    char error[256];
};

static bool complain(struct worker *w, const char *what, int op) {
    snprintf(w->error, sizeof w->error, "thread %d: %s of %s", w->number, what, sample_name(op));
    return false;
}

static bool one_call(struct worker *w, int op, cl_command_queue queue) {
    struct sample s;
    clmoe_plan *plan = NULL;
    cl_event done = NULL;
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    bool ok = sample_plan(&s, ctx, &plan) == CLMOE_OK || complain(w, "plan", op);
    ok = ok && (sample_enqueue(&s, plan, queue, 0, NULL, &done) == CLMOE_OK || complain(w, "enqueue", op));
    ok = ok && (clWaitForEvents(1, &done) == CL_SUCCESS || complain(w, "wait", op));
    ok = ok && (sample_outputs(&s, queue) == results[op] || complain(w, "result", op));
    if (done) clReleaseEvent(done);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
    return ok;
}

static void *work(void *arg) {
    struct worker *const w = arg;
    struct clmoe_device_info info;
    cl_int err;
    const cl_command_queue queue = clCreateCommandQueue(tester()->context, tester()->device, 0, &err);
    pthread_barrier_wait(&start);
    w->ok = err == CL_SUCCESS && clmoe_context_device_info(ctx, &info) == CLMOE_OK;
    for (int round = 0; w->ok && round < w->rounds; round++)
        for (int i = 0; w->ok && i < sample_count(); i++)
            w->ok = one_call(w, (i + w->number * (round % 2)) % sample_count(), queue);
    if (queue) clReleaseCommandQueue(queue);
    return NULL;
}

static void run_workers(int rounds) {
    struct worker workers[THREADS] = {0};
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        workers[i].number = i;
        workers[i].rounds = rounds;
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&start);
    for (int i = 0; i < THREADS; i++)
        case_require(workers[i].ok, "%s; %s", workers[i].error, book.text);
}

/* A new context each time, so that all threads miss the cache at once. */
START_TEST(threads_share_a_context) {
    logbook_clear(&book);
    ctx = logged_context(&book, NULL, plain_caps);
    run_workers(ROUNDS);
    ck_assert_int_eq(book.levels[CLMOE_LOG_ERROR], 0);
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(threads_share_a_directory) {
    char dir[256];
    struct clmoe_cache *disk = NULL;
    scratch_make(dir);
    case_ok(clmoe_cache_dir_create(dir, &disk));
    for (int i = 0; i < 2; i++) {
        logbook_clear(&book);
        ctx = logged_context(&book, disk, plain_caps);
        run_workers(1);
        ck_assert_int_eq(book.levels[CLMOE_LOG_WARN], 0);
        ck_assert_int_eq(i && logbook_count(&book, "built "), 0);
        clmoe_context_destroy(&ctx);
    }
    clmoe_cache_dir_destroy(&disk);
    scratch_remove(dir);
}
END_TEST

/* ---- the last reference goes in whichever thread comes last ---- */

static clmoe_plan *last_plans[THREADS];

static void *drop_plan(void *arg) {
    pthread_barrier_wait(&start);
    clmoe_plan_destroy(&last_plans[(size_t)arg]);
    return NULL;
}

START_TEST(plans_die_in_any_thread) {
    const struct layer_counts before = layer_now();
    ctx = logged_context(&book, NULL, plain_caps);
    pthread_t threads[THREADS];
    pthread_barrier_init(&start, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        struct sample s;
        sample_open(&s, (int)i % sample_count(), tester()->context, SAMPLE_TOKENS);
        case_ok(sample_plan(&s, ctx, &last_plans[i]));
        sample_close(&s);
    }
    clmoe_context_destroy(&ctx);
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, drop_plan, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    const struct layer_counts after = layer_now();
    ck_assert_mem_eq(after.references, before.references, sizeof after.references);
}
END_TEST

static void add_tests(TCase *cases) {
    for (int i = 0; i < sample_count(); i++)
        results[i] = sample_result(i);
    tcase_add_loop_test(cases, threads_share_a_context, 0, tester()->small ? 1 : 3);
    tcase_add_test(cases, threads_share_a_directory);
    tcase_add_test(cases, plans_die_in_any_thread);
}

int main(void) {
    return harness_main("threads", "", add_tests);
}
