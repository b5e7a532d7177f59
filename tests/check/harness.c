/* SPDX-License-Identifier: MIT
 * Device, contexts, the running case, main. */
#include "harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const op_names[] = {"topk",        "scatter", "route",   "permute", "matmul",
                                       "matmul_pack", "combine", "adapter", "quant",   "offload"};

enum { N_OPS = sizeof op_names / sizeof *op_names, MAX_ROWS = 24 };

static struct {
    char text[512], log[2048];
    uint64_t seed;
    int ran[N_OPS][MAX_ROWS];
    int lacking[N_OPS][MAX_ROWS]; /* refused for a feature that the device lacks */
    int other[N_OPS][MAX_ROWS];   /* refused for anything else */
} run;

static void die(const char *message) {
    fprintf(stderr, "check: %s\n", message);
    exit(1);
}

static bool pick_device(struct tester *t, const char *wanted) {
    cl_platform_id platforms[16];
    cl_uint n_platforms = 0;
    if (clGetPlatformIDs(16, platforms, &n_platforms) != CL_SUCCESS) return false;
    for (cl_uint p = 0; p < n_platforms && p < 16; p++) {
        cl_device_id devices[16];
        cl_uint n_devices = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 16, devices, &n_devices) != CL_SUCCESS) continue;
        for (cl_uint d = 0; d < n_devices && d < 16; d++) {
            char platform[250] = "", device[250] = "";
            clGetPlatformInfo(platforms[p], CL_PLATFORM_NAME, sizeof platform, platform, NULL);
            clGetDeviceInfo(devices[d], CL_DEVICE_NAME, sizeof device, device, NULL);
            snprintf(t->name, sizeof t->name, "%s / %s", platform, device);
            t->platform = platforms[p];
            t->device = devices[d];
            if (!wanted || strstr(t->name, wanted)) return true;
        }
    }
    return false;
}

const struct tester *tester(void) {
    static struct tester t;
    if (t.context) return &t;
    if (!pick_device(&t, getenv("CLMOE_TEST_DEVICE"))) die("no OpenCL device (CLMOE_TEST_DEVICE)");
    cl_int err;
    t.context = clCreateContext(NULL, 1, &t.device, NULL, NULL, &err);
    if (err != CL_SUCCESS) die("clCreateContext fails");
    t.queue = clCreateCommandQueue(t.context, t.device, CL_QUEUE_PROFILING_ENABLE, &err);
    if (err != CL_SUCCESS) die("clCreateCommandQueue fails");
    t.ooo_queue = clCreateCommandQueue(t.context, t.device, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, &err);
    if (err != CL_SUCCESS) t.ooo_queue = t.queue;
    const char *const small = getenv("CLMOE_TEST_SMALL");
    t.small = small && *small == '1';
    return &t;
}

static void keep_log(void *priv, enum clmoe_log_level level, const char *message) {
    (void)priv;
    if (level == CLMOE_LOG_ERROR) snprintf(run.log, sizeof run.log, "%s", message);
}

const char *tester_log(void) {
    static char last[sizeof run.log];
    memcpy(last, run.log, sizeof last);
    run.log[0] = '\0';
    return last;
}

clmoe_context *tester_context(enum forced_caps caps) {
    static clmoe_context *contexts[CAPS_END];
    if (contexts[caps]) return contexts[caps];
    const uint32_t plain_off = CLMOE_FEATURES_ALL & ~(uint32_t)CLMOE_FEATURE_GPU;
    struct clmoe_context_params params = {.log = keep_log, .log_level = CLMOE_LOG_ERROR};
    switch (caps) {
    case CAPS_GROUP_64: params.caps.max_work_group = 64; break;
    case CAPS_LOCAL_16K: params.caps.local_mem = 16384; break;
    case CAPS_PLAIN: params.caps.features_off = plain_off; break;
    case CAPS_EMULATED_SMALL:
        params.caps.local_mem = 32768;
        params.caps.emulate = CLMOE_FEATURES_MATRIX;
        break;
    case CAPS_EMULATED_GPU: params.caps.features_off = CLMOE_FEATURE_CPU; /* fall through */
    case CAPS_EMULATED: params.caps.emulate = CLMOE_FEATURES_MATRIX; break;
    case CAPS_ONE_UNIT: params.caps.compute_units = 1; break;
    default: break;
    }
    const char *const plain = getenv("CLMOE_TEST_PLAIN");
    if (plain && *plain == '1') params.caps.features_off = plain_off;
    if (clmoe_context_create(tester()->context, tester()->device, &params, &contexts[caps]) != CLMOE_OK)
        die(run.log);
    return contexts[caps];
}

const char *caps_name(enum forced_caps caps) {
    static const char *const names[CAPS_END] = {"own",      "group64",     "local16k",     "plain",
                                                "emulated", "emulated32k", "emulated_gpu", "one_unit"};
    return names[caps];
}

uint64_t rng_seed(void) {
    if (run.seed) return run.seed;
    const char *const text = getenv("CLMOE_TEST_SEED");
    run.seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    if (run.seed == 0) run.seed = 1;
    return run.seed;
}

void case_begin(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(run.text, sizeof run.text, fmt, args);
    va_end(args);
    run.log[0] = '\0';
}

const char *case_text(void) {
    return run.text;
}

void case_fail_at(const char *file, int line, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ck_abort_msg("%s:%d: case {%s}, CLMOE_TEST_SEED=%llu: %s", file, line, run.text,
                 (unsigned long long)rng_seed(), text);
}

static int op_index(const char *op) {
    for (int i = 0; i < N_OPS; i++)
        if (strcmp(op_names[i], op) == 0) return i;
    die("unknown operation");
    return 0;
}

bool row_fits(const char *op, int row, enum clmoe_status status) {
    const int o = op_index(op);
    if (row >= MAX_ROWS) die("more rows than the harness counts");
    if (status == CLMOE_E_UNSUPPORTED) {
        (strstr(run.log, "the device lacks") ? run.lacking : run.other)[o][row]++;
        return false;
    }
    case_require(status == CLMOE_OK, "%s: %s: %s", clmoe_kernel_name(op, row), clmoe_status_name(status),
                 tester_log());
    run.ran[o][row]++;
    return true;
}

void row_require_ran(const char *op, int row) {
    const int o = op_index(op), refused = run.lacking[o][row] + run.other[o][row];
    case_begin("%s", clmoe_kernel_name(op, row));
    printf("  %-28s ran %d times\n", case_text(), run.ran[o][row]);
    case_require(run.ran[o][row] > 0 || (!refused && getenv("CLMOE_TEST_SLICE")), "it ran in no case");
}

/* A row that no case reached was not tested: that is a failure of the suite, unless the row is for devices of
 * another kind, which it said each time. */
START_TEST(every_row_ran) {
    const char *const ops = case_text();
    char idle[512] = "";
    for (int i = 0; i < N_OPS; i++) {
        if (!strstr(ops, op_names[i])) continue;
        const char *name;
        for (int row = 0; row < MAX_ROWS && (name = clmoe_kernel_name(op_names[i], row)); row++) {
            const bool foreign = run.ran[i][row] == 0 && run.lacking[i][row] > 0 && run.other[i][row] == 0;
            printf("  %-28s ran %d times%s\n", name, run.ran[i][row], foreign ? ": not for this device" : "");
            if (run.ran[i][row] == 0 && !foreign)
                snprintf(idle + strlen(idle), sizeof idle - strlen(idle), " %s", name);
        }
    }
    ck_assert_msg(!idle[0], "rows that never ran:%s", idle);
}
END_TEST

static const char *suite_ops;
static void restore_ops(void) {
    case_begin("%s", suite_ops);
}

int slice_at(int first, int end, int further) {
    const char *const text = getenv("CLMOE_TEST_SLICE");
    int slice = 0, slices = 1;
    if (text && (sscanf(text, "%d/%d", &slice, &slices) != 2 || slice < 0 || slice >= slices))
        die("CLMOE_TEST_SLICE: i/n with 0 <= i < n");
    return first + (int)((int64_t)(end - first) * (slice + further) / slices);
}

int harness_main(const char *suite, const char *ops, void (*add_tests)(TCase *)) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%s on %s, CLMOE_TEST_SEED=%llu\n", suite, tester()->name, (unsigned long long)rng_seed());
    Suite *const s = suite_create(suite);
    TCase *const cases = tcase_create(suite);
    tcase_set_timeout(cases, 0);
    add_tests(cases);
    suite_add_tcase(s, cases);
    if (*ops && !getenv("CK_RUN_CASE") && !getenv("CLMOE_TEST_SLICE")) {
        TCase *const last = tcase_create("rows");
        suite_ops = ops;
        tcase_add_checked_fixture(last, restore_ops, NULL);
        tcase_add_test(last, every_row_ran);
        suite_add_tcase(s, last);
    }
    SRunner *const runner = srunner_create(s);
    srunner_set_fork_status(runner, CK_NOFORK); /* one OpenCL platform for all tests */
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
    srunner_free(runner);
    if (ran == 0) fprintf(stderr, "%s: nothing ran\n", suite);
    return failed != 0 || ran == 0;
}
