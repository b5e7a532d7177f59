/* SPDX-License-Identifier: MIT
 * Contexts: creation and its errors, device information, forced limits, probes, references. */
#include "device/probe.h"
#include "kit.h"
#include "plan/context.h"

#include <stdlib.h>
#include <string.h>

static struct logbook book;

/* Expects failure, a NULL handle and `message` in the log. */
static void refuse_context(cl_context context, cl_device_id device, struct clmoe_context_params params,
                           const char *message) {
    logbook_clear(&book);
    params.log = logbook_keep;
    params.log_priv = &book;
    clmoe_context *ctx = (clmoe_context *)&book;
    ck_assert_int_eq(clmoe_context_create(context, device, &params, &ctx), CLMOE_E_INVALID);
    ck_assert_ptr_null(ctx);
    case_require(logbook_count(&book, message) == 1, "\"%s\" is not in \"%s\"", message, book.text);
}

START_TEST(null_arguments) {
    const cl_context context = tester()->context;
    const cl_device_id device = tester()->device;
    const struct clmoe_context_params none = {0};
    refuse_context(NULL, device, none, "context is NULL");
    refuse_context(context, NULL, none, "device is NULL");
    ck_assert_int_eq(clmoe_context_create(context, device, NULL, NULL), CLMOE_E_INVALID);
    ck_assert_int_eq(clmoe_context_create(NULL, NULL, NULL, NULL), CLMOE_E_INVALID);
    clmoe_context *ctx = (clmoe_context *)&book;
    ck_assert_int_eq(clmoe_context_create(NULL, device, NULL, &ctx), CLMOE_E_INVALID);
    ck_assert_ptr_null(ctx);
    clmoe_context_destroy(NULL);
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(params_may_be_null) {
    clmoe_context *ctx = NULL;
    case_ok(clmoe_context_create(tester()->context, tester()->device, NULL, &ctx));
    ck_assert_ptr_nonnull(ctx);
    clmoe_context_destroy(&ctx);
    ck_assert_ptr_null(ctx);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* A device of the platform that is not in the context: another device, or else a sub-device. */
START_TEST(a_foreign_device) {
    const cl_device_partition_property by_one[] = {CL_DEVICE_PARTITION_EQUALLY, 1, 0};
    cl_device_id others[64] = {NULL};
    cl_uint n = 0;
    clGetDeviceIDs(tester()->platform, CL_DEVICE_TYPE_ALL, 64, others, &n);
    cl_device_id foreign = NULL;
    for (cl_uint i = 0; i < n && i < 64; i++)
        if (others[i] != tester()->device) foreign = others[i];
    if (!foreign && clCreateSubDevices(tester()->device, by_one, 64, others, &n) == CL_SUCCESS) {
        foreign = others[0];
        for (cl_uint i = 1; i < n && i < 64; i++)
            clReleaseDevice(others[i]);
    }
    if (!foreign) foreign = (cl_device_id)&book; /* only ever compared */
    refuse_context(tester()->context, foreign, (struct clmoe_context_params){0},
                   "not one of the 1 of the context");
}
END_TEST

START_TEST(unknown_feature_bits) {
    refuse_context(tester()->context, tester()->device,
                   (struct clmoe_context_params){.caps.features_off = CLMOE_FEATURES_ALL + 1},
                   "features_off = 0x4000");
    refuse_context(tester()->context, tester()->device,
                   (struct clmoe_context_params){.caps.emulate = CLMOE_FEATURE_AMD_MFMA | CLMOE_FEATURE_FP16},
                   "emulate = 0x82");
}
END_TEST

static size_t get_nothing(void *priv, const char *key, void *blob, size_t capacity) {
    (void)priv, (void)key, (void)blob, (void)capacity;
    return 0;
}

static void set_nothing(void *priv, const char *key, const void *blob, size_t size) {
    (void)priv, (void)key, (void)blob, (void)size;
}

START_TEST(a_cache_needs_both_functions) {
    const struct clmoe_cache no_set = {.get = get_nothing}, no_get = {.set = set_nothing}, neither = {0};
    const struct clmoe_cache *const caches[] = {&no_set, &no_get, &neither};
    for (int i = 0; i < 3; i++)
        refuse_context(tester()->context, tester()->device, (struct clmoe_context_params){.cache = caches[i]},
                       "a cache without get or set");
}
END_TEST

START_TEST(the_default_log_level_is_warn) {
    const struct clmoe_context_params params = {.log = logbook_keep, .log_priv = &book};
    clmoe_context *ctx = NULL;
    logbook_clear(&book);
    case_ok(clmoe_context_create(tester()->context, tester()->device, &params, &ctx));
    ck_assert_int_eq(ctx->log.level, CLMOE_LOG_WARN);
    clmoe_context_destroy(&ctx);
    ck_assert_int_eq(book.levels[CLMOE_LOG_INFO], 0);
    ck_assert_int_eq(book.levels[CLMOE_LOG_ERROR], 0);
}
END_TEST

/* ---- device information ---- */

static struct clmoe_device_info info_with(struct clmoe_caps caps, clmoe_context **ctx) {
    struct clmoe_device_info info;
    *ctx = logged_context(&book, NULL, caps);
    case_ok(clmoe_context_device_info(*ctx, &info));
    return info;
}

START_TEST(device_info) {
    clmoe_context *ctx;
    const struct clmoe_device_info info = info_with(no_caps, &ctx);
    char name[256] = "", vendor[256] = "", driver[256] = "";
    size_t group = 0;
    cl_ulong local = 0, alloc = 0;
    cl_uint units = 0;
    cl_device_type type = 0;
    const cl_device_id id = tester()->device;
    clGetDeviceInfo(id, CL_DEVICE_NAME, sizeof name, name, NULL);
    clGetDeviceInfo(id, CL_DEVICE_VENDOR, sizeof vendor, vendor, NULL);
    clGetDeviceInfo(id, CL_DRIVER_VERSION, sizeof driver, driver, NULL);
    clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, NULL);
    clGetDeviceInfo(id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
    clGetDeviceInfo(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof alloc, &alloc, NULL);
    clGetDeviceInfo(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    ck_assert_str_eq(info.name, name);
    ck_assert_str_eq(info.vendor, vendor);
    ck_assert_str_eq(info.driver, driver);
    ck_assert(strncmp(info.platform, "OpenCL ", 7) == 0);
    ck_assert_uint_gt(info.caps.max_work_group, 0);
    ck_assert_uint_le(info.caps.max_work_group, group);
    ck_assert_uint_eq(info.caps.local_mem, local);
    ck_assert_uint_eq(info.caps.max_alloc, alloc);
    ck_assert_uint_eq(info.caps.compute_units, units);
    ck_assert_uint_eq(info.caps.features_off, 0);
    ck_assert_uint_eq(info.features & ~CLMOE_FEATURES_ALL, 0);
    ck_assert_int_eq(!!(info.features & CLMOE_FEATURE_CPU), !!(type & CL_DEVICE_TYPE_CPU));
    ck_assert_int_eq(clmoe_context_device_info(ctx, NULL), CLMOE_E_INVALID);
    ck_assert_int_eq(clmoe_context_device_info(NULL, &(struct clmoe_device_info){0}), CLMOE_E_INVALID);
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(limits_only_go_down) {
    clmoe_context *own, *low, *high;
    const struct clmoe_device_info is = info_with(no_caps, &own);
    const struct clmoe_device_info down = info_with(
        (struct clmoe_caps){.max_work_group = 16, .local_mem = 1000, .max_alloc = 4096, .compute_units = 1},
        &low);
    ck_assert_uint_eq(down.caps.max_work_group, 16);
    ck_assert_uint_eq(down.caps.local_mem, 1000);
    ck_assert_uint_eq(down.caps.max_alloc, 4096);
    ck_assert_uint_eq(down.caps.compute_units, 1);
    const struct clmoe_device_info up = info_with((struct clmoe_caps){.max_work_group = SIZE_MAX,
                                                                      .local_mem = UINT64_MAX,
                                                                      .max_alloc = UINT64_MAX,
                                                                      .compute_units = UINT32_MAX},
                                                  &high);
    ck_assert_mem_eq(&up.caps, &is.caps, sizeof is.caps);
    clmoe_context_destroy(&own), clmoe_context_destroy(&low), clmoe_context_destroy(&high);
}
END_TEST

START_TEST(features_can_be_masked) {
    clmoe_context *own, *masked;
    const uint32_t all = info_with(no_caps, &own).features;
    for (int bit = 0; bit < 6; bit++) {
        const uint32_t off = (uint32_t)1 << bit;
        ck_assert_uint_eq(info_with((struct clmoe_caps){.features_off = off}, &masked).features, all & ~off);
        clmoe_context_destroy(&masked);
    }
    ck_assert_uint_eq(info_with(plain_caps, &masked).features, 0);
    clmoe_context_destroy(&masked), clmoe_context_destroy(&own);
}
END_TEST

/* What is emulated is among the features, unless it is masked off as well. */
START_TEST(features_can_be_emulated) {
    clmoe_context *own, *more;
    const uint32_t all = info_with(no_caps, &own).features, off = CLMOE_FEATURE_INTEL_DPAS_8;
    const struct clmoe_caps caps = {.emulate = CLMOE_FEATURES_MATRIX, .features_off = off};
    const struct clmoe_device_info info = info_with(caps, &more);
    ck_assert_uint_eq(info.features, (all | CLMOE_FEATURES_MATRIX) & ~off);
    ck_assert_uint_eq(info.caps.emulate, 0);
    clmoe_context_destroy(&own), clmoe_context_destroy(&more);
}
END_TEST

/* A probe that is not wanted compiles nothing; a bit is set only where the extension is announced. */
START_TEST(probes) {
    struct device dev = {.context = tester()->context, .id = tester()->device};
    uint32_t features = 77;
    const uint64_t built = layer_now().built;
    case_ok(probe_features(&dev, NULL, 0, &features));
    ck_assert_uint_eq(features, 0);
    ck_assert_uint_eq(layer_now().built, built);
    case_ok(probe_features(&dev, NULL, CLMOE_FEATURES_ALL, &features));
    static char extensions[16384];
    clGetDeviceInfo(dev.id, CL_DEVICE_EXTENSIONS, sizeof extensions - 1, extensions, NULL);
    if (!strstr(extensions, "cl_khr_fp16")) ck_assert(!(features & CLMOE_FEATURE_FP16));
    if (!strstr(extensions, "subgroups")) ck_assert(!(features & CLMOE_FEATURE_SUBGROUPS));
    if (!strstr(extensions, "cl_nv_")) ck_assert(!(features & CLMOE_FEATURE_NV_PTX));
    if (!strstr(extensions, "cl_amd_") && !strstr(extensions, "multiply_accumulate"))
        ck_assert(!(features & CLMOE_FEATURES_MATRIX));
}
END_TEST

/* The caller's objects are retained while the context lives, and no longer. */
START_TEST(references_balance) {
    for (int i = 0; i < 2; i++) {
        const struct layer_counts before = layer_now();
        clmoe_context *ctx = logged_context(&book, NULL, i ? plain_caps : no_caps);
        const struct layer_counts during = layer_now();
        ck_assert_int_eq(during.references[LAYER_CONTEXT], before.references[LAYER_CONTEXT] + 1);
        ck_assert_int_eq(during.references[LAYER_DEVICE], before.references[LAYER_DEVICE] + 1);
        clmoe_context_destroy(&ctx);
        const struct layer_counts after = layer_now();
        ck_assert_mem_eq(after.references, before.references, sizeof after.references);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, null_arguments);
    tcase_add_test(cases, params_may_be_null);
    tcase_add_test(cases, a_foreign_device);
    tcase_add_test(cases, unknown_feature_bits);
    tcase_add_test(cases, a_cache_needs_both_functions);
    tcase_add_test(cases, the_default_log_level_is_warn);
    tcase_add_test(cases, device_info);
    tcase_add_test(cases, limits_only_go_down);
    tcase_add_test(cases, features_can_be_masked);
    tcase_add_test(cases, features_can_be_emulated);
    tcase_add_test(cases, probes);
    tcase_add_test(cases, references_balance);
}

int main(void) {
    return harness_main("context", "", add_tests);
}
