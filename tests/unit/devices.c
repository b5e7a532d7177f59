/* SPDX-License-Identifier: MIT
 * Two devices in one OpenCL context, which PoCL has with POCL_DEVICES="pthread pthread": a context of the
 * library is for one of them. Exit status 77 (skipped) where the platform has one device. */
#include "kit.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct logbook book;
static cl_device_id devices[2];
static cl_context both;
static cl_command_queue queues[2];

static clmoe_context *context_for(int device, const struct clmoe_cache *cache) {
    const struct clmoe_context_params params = {
        .log = logbook_keep, .log_priv = &book, .log_level = CLMOE_LOG_INFO, .cache = cache};
    clmoe_context *ctx = NULL;
    logbook_clear(&book);
    case_ok(clmoe_context_create(both, devices[device], &params, &ctx));
    return ctx;
}

/* Plans and runs sample `i` on a device. */
static void run_on(int device, clmoe_context *ctx, int i) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, i, both, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    case_ok(sample_enqueue(&s, plan, queues[device], 0, NULL, NULL));
    ck_assert_uint_eq(sample_outputs(&s, queues[device]), sample_result(i));
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}

START_TEST(each_device_works) {
    for (int device = 0; device < 2; device++) {
        clmoe_context *ctx = context_for(device, NULL);
        run_on(device, ctx, _i);
        clmoe_context_destroy(&ctx);
    }
}
END_TEST

START_TEST(a_queue_of_the_other_device) {
    clmoe_context *ctx = context_for(1, NULL);
    struct sample s;
    clmoe_plan *plan = NULL;
    cl_event event = (cl_event)&s;
    sample_open(&s, _i, both, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    const uint64_t enqueued = layer_now().enqueued;
    ck_assert_int_eq(sample_enqueue(&s, plan, queues[0], 0, NULL, &event), CLMOE_E_INVALID);
    ck_assert_ptr_null(event);
    ck_assert_uint_eq(layer_now().enqueued, enqueued);
    ck_assert_int_eq(logbook_count(&book, "the queue belongs to another device"), 1);
    ck_assert_uint_eq(sample_outputs(&s, queues[1]), sample_poison(_i));
    clmoe_plan_destroy(&plan);
    sample_close(&s);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* A program has a binary for each device of the context: ours must be the one that is kept. */
START_TEST(a_cache_among_two_devices) {
    char dir[256];
    struct clmoe_cache *disk = NULL;
    scratch_make(dir);
    case_ok(clmoe_cache_dir_create(dir, &disk));
    for (int round = 0; round < 2; round++) {
        for (int device = 1; device >= 0; device--) {
            clmoe_context *ctx = context_for(device, disk);
            run_on(device, ctx, 0);
            ck_assert_int_eq(book.levels[CLMOE_LOG_WARN], 0);
            if (round) ck_assert_int_eq(logbook_count(&book, "built "), 0);
            clmoe_context_destroy(&ctx);
        }
    }
    clmoe_cache_dir_destroy(&disk);
    scratch_remove(dir);
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = sample_count();
    for (int i = 0; i < n; i++)
        sample_result(i);
    tcase_add_loop_test(cases, each_device_works, 0, n);
    tcase_add_loop_test(cases, a_queue_of_the_other_device, 0, n);
    tcase_add_test(cases, a_cache_among_two_devices);
}

int main(void) {
    cl_uint n = 0;
    cl_int err;
    if (clGetDeviceIDs(tester()->platform, CL_DEVICE_TYPE_ALL, 2, devices, &n) != CL_SUCCESS || n < 2) {
        printf("SKIPPED: %s has one device\n", tester()->name);
        return 77;
    }
    both = clCreateContext(NULL, 2, devices, NULL, NULL, &err);
    for (int i = 0; i < 2; i++)
        queues[i] = clCreateCommandQueue(both, devices[i], 0, &err);
    const int result = harness_main("devices", "", add_tests);
    for (int i = 0; i < 2; i++)
        clReleaseCommandQueue(queues[i]);
    clReleaseContext(both);
    return result;
}
