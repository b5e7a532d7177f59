/* SPDX-License-Identifier: MIT */
#include "clmoe/context.h"

#include "device/clerr.h"
#include "plan/context.h"
#include "program/tuned.h"

#include <stdlib.h>

static enum clmoe_status require_member(const struct log *log, cl_context context, cl_device_id device) {
    cl_uint n = 0;
    TRY_CL(log, clGetContextInfo(context, CL_CONTEXT_NUM_DEVICES, sizeof n, &n, NULL));
    cl_device_id *const ids = calloc(n + 1, sizeof *ids);
    if (!ids) return CLMOE_E_NO_MEMORY;
    const cl_int err = clGetContextInfo(context, CL_CONTEXT_DEVICES, n * sizeof *ids, ids, NULL);
    bool member = false;
    for (cl_uint i = 0; i < n; i++)
        member |= ids[i] == device;
    free(ids);
    if (err != CL_SUCCESS) return clerr_report(log, err, "clGetContextInfo");
    REQUIRE(log, member, "the device is not one of the %u of the context", (unsigned)n);
    return CLMOE_OK;
}

static enum clmoe_status init(struct clmoe_context *ctx, cl_context context, cl_device_id device,
                              const struct clmoe_context_params *params) {
    TRY(require_member(&ctx->log, context, device));
    REQUIRE(&ctx->log, !params->cache || (params->cache->get && params->cache->set),
            "a cache without get or set");
    TRY(device_init(&ctx->dev, &ctx->log, context, device, &params->caps));
    ctx->dev.tuning = &ctx->tuning;
    return tuned_load(&ctx->tuning, &ctx->log, &ctx->dev, params->cache);
}

enum clmoe_status clmoe_context_create(cl_context context, cl_device_id device,
                                       const struct clmoe_context_params *params, clmoe_context **out) {
    static const struct clmoe_context_params defaults;
    if (!params) params = &defaults;
    if (!out) return CLMOE_E_INVALID;
    *out = NULL;
    const struct log log = {params->log, params->log_priv,
                            params->log_level ? params->log_level : CLMOE_LOG_WARN};
    REQUIRE(&log, context != NULL, "context is NULL");
    REQUIRE(&log, device != NULL, "device is NULL");
    struct clmoe_context *const ctx = calloc(1, sizeof *ctx);
    if (!ctx) return CLMOE_E_NO_MEMORY;
    ctx->log = log;
    atomic_init(&ctx->references, 1);
    enum clmoe_status status = init(ctx, context, device, params);
    if (status == CLMOE_OK) {
        cl_int err = clRetainContext(context);
        if (err == CL_SUCCESS) {
            err = clRetainDevice(device);
            if (err != CL_SUCCESS) clReleaseContext(context);
        }
        if (err != CL_SUCCESS) status = clerr_report(&log, err, "clRetainContext, clRetainDevice");
    }
    if (status != CLMOE_OK) {
        tuning_free(&ctx->tuning);
        free(ctx);
        return status;
    }
    store_init(&ctx->store, params->cache);
    *out = ctx;
    return CLMOE_OK;
}

void clmoe_context_destroy(clmoe_context **ctx) {
    if (!ctx || !*ctx) return;
    context_release(*ctx);
    *ctx = NULL;
}

enum clmoe_status clmoe_context_set_tuning(clmoe_context *ctx, const char *text, int keep) {
    if (!ctx) return CLMOE_E_INVALID;
    struct tuning tuning = {.n = 0};
    const enum clmoe_status status = tuned_set(&tuning, &ctx->log, &ctx->dev, text);
    if (status != CLMOE_OK) {
        tuning_free(&tuning);
        return status;
    }
    tuning_free(&ctx->tuning);
    ctx->tuning = tuning;
    if (keep && ctx->store.cache) tuned_keep(&ctx->dev, ctx->store.cache, text && *text ? text : "\n");
    return CLMOE_OK;
}

const char *clmoe_context_tuning(const clmoe_context *ctx) {
    return ctx && ctx->tuning.text ? ctx->tuning.text : "";
}

enum clmoe_status clmoe_context_device_info(const clmoe_context *ctx, struct clmoe_device_info *info) {
    if (!ctx || !info) return CLMOE_E_INVALID;
    const struct device *const dev = &ctx->dev;
    *info = (struct clmoe_device_info){
        .name = dev->name,
        .vendor = dev->vendor,
        .driver = dev->driver,
        .platform = dev->platform,
        .caps = dev->caps,
        .features = dev->features & CLMOE_FEATURES_ALL,
    };
    return CLMOE_OK;
}

const char *clmoe_feature_name(enum clmoe_feature feature) {
    switch (feature) {
    case CLMOE_FEATURE_CPU: return "cpu";
    case CLMOE_FEATURE_FP16: return "fp16";
    case CLMOE_FEATURE_FP64: return "fp64";
    case CLMOE_FEATURE_INT64_ATOMICS: return "int64_atomics";
    case CLMOE_FEATURE_SUBGROUPS: return "subgroups";
    case CLMOE_FEATURE_NV_PTX: return "nv_ptx";
    case CLMOE_FEATURE_GPU: return "gpu";
    case CLMOE_FEATURE_AMD_MFMA: return "amd_mfma";
    case CLMOE_FEATURE_AMD_WMMA_11: return "amd_wmma_11";
    case CLMOE_FEATURE_AMD_WMMA_12: return "amd_wmma_12";
    case CLMOE_FEATURE_INTEL_DPAS_8: return "intel_dpas_8";
    case CLMOE_FEATURE_INTEL_DPAS_16: return "intel_dpas_16";
    case CLMOE_FEATURE_NV_MMA: return "nv_mma";
    case CLMOE_FEATURE_NV_WGMMA: return "nv_wgmma";
    }
    return NULL;
}
