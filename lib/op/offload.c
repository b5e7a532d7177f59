/* SPDX-License-Identifier: MIT
 * Making and destroying offloaded experts, and what else is public of them. */
#include "offload.h"

#include "device/clerr.h"
#include "kernel/matmul_parts.h"
#include "layer_stages.h"

#include <stdlib.h>
#include <string.h>

static const char *const array_names[OFFLOAD_ARRAYS] = {
    [MATMUL_W] = "w1",
    [MATMUL_W_UP] = "w1_up",
    [MATMUL_SCALE] = "w1_scale",
    [MATMUL_SCALE_UP] = "w1_scale_up",
    [MATMUL_ZERO] = "w1_zero",
    [MATMUL_ZERO_UP] = "w1_zero_up",
    [OFFLOAD_SECOND + MATMUL_W] = "w2",
    [OFFLOAD_SECOND + MATMUL_W_UP] = "w2_up",
    [OFFLOAD_SECOND + MATMUL_SCALE] = "w2_scale",
    [OFFLOAD_SECOND + MATMUL_SCALE_UP] = "w2_scale_up",
    [OFFLOAD_SECOND + MATMUL_ZERO] = "w2_zero",
    [OFFLOAD_SECOND + MATMUL_ZERO_UP] = "w2_zero_up",
    [OFFLOAD_BIAS1] = "bias1",
    [OFFLOAD_BIAS1_UP] = "bias1_up",
    [OFFLOAD_BIAS2] = "bias2",
};

/* What the caller has given, in the order of the arrays. */
static void given_arrays(const struct clmoe_offload_params *p, const void *const *given[OFFLOAD_ARRAYS]) {
    memset(given, 0, OFFLOAD_ARRAYS * sizeof *given);
    given[MATMUL_W] = p->w1;
    given[MATMUL_W_UP] = p->w1_up;
    given[MATMUL_SCALE] = p->w1_scale;
    given[MATMUL_SCALE_UP] = p->w1_scale_up;
    given[MATMUL_ZERO] = p->w1_zero;
    given[MATMUL_ZERO_UP] = p->w1_zero_up;
    given[OFFLOAD_SECOND + MATMUL_W] = p->w2;
    given[OFFLOAD_SECOND + MATMUL_SCALE] = p->w2_scale;
    given[OFFLOAD_SECOND + MATMUL_ZERO] = p->w2_zero;
    given[OFFLOAD_BIAS1] = p->bias1;
    given[OFFLOAD_BIAS1_UP] = p->bias1_up;
    given[OFFLOAD_BIAS2] = p->bias2;
}

/* One expert of array `a` of the layer: [1, ...], of no dimensions if the layer has no such array. */
static struct clmoe_tensor one_expert(const struct layer_problem *l, int a) {
    const struct path *const path = l->many.first ? &l->many : &l->few;
    const bool of_second = (a >= OFFLOAD_SECOND && a < OFFLOAD_BIAS1) || a == OFFLOAD_BIAS2;
    const struct matmul_problem *const p = (of_second ? path->second : path->first)->problem;
    struct clmoe_tensor t = {.shape = {1}};
    if (a < OFFLOAD_BIAS1) {
        const enum matmul_array array = (enum matmul_array)(a % MATMUL_ARRAYS);
        if (!matmul_has_array(p, array)) return t;
        const struct operand_rule rule = matmul_array_rule(p, array, array_names[a], &t, NULL);
        t.dtype = rule.dtype;
        t.ndim = rule.ndim;
        memcpy(t.shape, rule.shape, sizeof t.shape);
    } else if (p->bias && (a != OFFLOAD_BIAS1_UP || p->glu == CLMOE_GLU_APART)) {
        t.dtype = p->bias_dtype;
        t.ndim = 2;
        t.shape[1] = a == OFFLOAD_BIAS1_UP ? p->out : matmul_w_rows(p);
    }
    return t;
}

/* Shapes and bytes of one expert, and the pointers to all of them. */
static enum clmoe_status take_arrays(struct clmoe_offload *o, const struct layer_problem *l,
                                     const struct clmoe_offload_params *params) {
    const struct log *const log = &o->ctx->log;
    const int32_t experts = l->p.experts;
    const void *const *given[OFFLOAD_ARRAYS];
    given_arrays(params, given);
    for (int a = 0; a < OFFLOAD_ARRAYS; a++) {
        struct offload_array *const array = &o->arrays[a];
        const struct clmoe_tensor one = one_expert(l, a);
        REQUIRE(log, (one.ndim > 0) == (given[a] != NULL), "%s = %p, the plan has %s", array_names[a],
                (const void *)given[a], one.ndim ? "such an array" : "no such array");
        if (!given[a]) continue;
        for (int32_t e = 0; e < experts; e++)
            REQUIRE(log, given[a][e] != NULL, "%s[%d] is NULL", array_names[a], (int)e);
        int64_t elements = 1;
        for (int d = 1; d < one.ndim; d++) {
            REQUIRE(log, product_fits(elements, one.shape[d], INT64_MAX),
                    "%s: elements of an expert overflow", array_names[a]);
            elements *= one.shape[d];
        }
        const int64_t bytes = clmoe_dtype_bytes(one.dtype, elements);
        REQUIRE(log, bytes > 0 && (uint64_t)bytes <= SIZE_MAX - (size_t)o->stats.expert_bytes,
                "%s: %lld elements of an expert", array_names[a], (long long)elements);
        array->slots = one;
        array->bytes = (size_t)bytes;
        o->stats.expert_bytes += array->bytes;
        array->from = malloc((size_t)experts * sizeof *array->from);
        if (!array->from) return CLMOE_E_NO_MEMORY;
        memcpy(array->from, given[a], (size_t)experts * sizeof *array->from);
    }
    return CLMOE_OK;
}

/* As many slots as the budget and the largest buffer have room for. */
static enum clmoe_status count_slots(const struct clmoe_offload *o, int32_t experts, uint64_t budget,
                                     int32_t *slots) {
    const struct log *const log = &o->ctx->log;
    const uint64_t max_alloc = o->ctx->dev.caps.max_alloc;
    uint64_t n = budget / o->stats.expert_bytes;
    REQUIRE(log, n >= 1, "budget = %llu, an expert has %llu bytes", (unsigned long long)budget,
            (unsigned long long)o->stats.expert_bytes);
    if (n > (uint64_t)experts) n = (uint64_t)experts;
    for (int a = 0; a < OFFLOAD_ARRAYS; a++)
        if (o->arrays[a].from && n > max_alloc / o->arrays[a].bytes) n = max_alloc / o->arrays[a].bytes;
    *slots = (int32_t)n;
    if (n >= 1) return CLMOE_OK;
    log_msg(log, CLMOE_LOG_ERROR, "an array of an expert is larger than the %llu bytes of a buffer",
            (unsigned long long)max_alloc);
    return CLMOE_E_UNSUPPORTED;
}

static enum clmoe_status make_slots(struct clmoe_offload *o, int32_t experts, int32_t slots) {
    if (!slots_init(&o->slots, experts, slots)) return CLMOE_E_NO_MEMORY;
    o->used = calloc((size_t)slots, sizeof(cl_event));
    if (!o->used) return CLMOE_E_NO_MEMORY;
    o->stats.slots = slots;
    for (int a = 0; a < OFFLOAD_ARRAYS; a++) {
        struct offload_array *const array = &o->arrays[a];
        if (!array->from) continue;
        cl_int err;
        array->slots.shape[0] = slots;
        array->slots.mem =
            clCreateBuffer(o->ctx->dev.context, CL_MEM_READ_ONLY, (size_t)slots * array->bytes, NULL, &err);
        if (err != CL_SUCCESS) return clerr_report(&o->ctx->log, err, "clCreateBuffer(slots)");
    }
    cl_int err;
    o->map = clCreateBuffer(o->ctx->dev.context, CL_MEM_READ_ONLY, (size_t)experts * sizeof *o->slots.map,
                            NULL, &err);
    return err == CL_SUCCESS ? CLMOE_OK : clerr_report(&o->ctx->log, err, "clCreateBuffer(map)");
}

static enum clmoe_status make_queue(const struct clmoe_offload *o, cl_command_queue *queue) {
    cl_int err;
    *queue = clCreateCommandQueue(o->ctx->dev.context, o->ctx->dev.id, 0, &err);
    return err == CL_SUCCESS ? CLMOE_OK : clerr_report(&o->ctx->log, err, "clCreateCommandQueue");
}

static enum clmoe_status make_pieces(struct clmoe_offload *o) {
    size_t bytes = 0;
    for (int a = 0; a < OFFLOAD_ARRAYS; a++)
        if (o->arrays[a].from && o->arrays[a].bytes > bytes) bytes = o->arrays[a].bytes;
    if (bytes > OFFLOAD_PIECE_BYTES) bytes = OFFLOAD_PIECE_BYTES;
    for (int i = 0; i < OFFLOAD_PIECES; i++) {
        struct offload_piece *const piece = &o->pieces[i];
        cl_int err;
        piece->mem =
            clCreateBuffer(o->ctx->dev.context, CL_MEM_READ_ONLY | CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &err);
        if (err != CL_SUCCESS) return clerr_report(&o->ctx->log, err, "clCreateBuffer(pinned)");
        piece->at =
            clEnqueueMapBuffer(o->copies, piece->mem, CL_TRUE, CL_MAP_WRITE, 0, bytes, 0, NULL, NULL, &err);
        if (err != CL_SUCCESS) {
            piece->at = NULL;
            return clerr_report(&o->ctx->log, err, "clEnqueueMapBuffer");
        }
    }
    return CLMOE_OK;
}

static enum clmoe_status make(struct clmoe_offload *o, const clmoe_plan *plan,
                              const struct clmoe_offload_params *params) {
    const struct layer_problem *const l = plan->problem;
    int32_t slots;
    TRY(take_arrays(o, l, params));
    TRY(count_slots(o, l->p.experts, params->budget, &slots));
    TRY(make_slots(o, l->p.experts, slots));
    TRY(make_queue(o, &o->copies));
    TRY(make_queue(o, &o->reads));
    return params->pinned || (o->ctx->dev.features & CLMOE_FEATURE_CPU) ? CLMOE_OK : make_pieces(o);
}

enum clmoe_status clmoe_offload_create(const clmoe_plan *plan, const struct clmoe_offload_params *params,
                                       clmoe_offload **out) {
    if (!out) return CLMOE_E_INVALID;
    *out = NULL;
    if (!plan) return CLMOE_E_INVALID;
    const struct log *const log = &plan->ctx->log;
    REQUIRE(log, params != NULL, "params is NULL");
    REQUIRE(log, strcmp(plan->op, "moe") == 0, "the plan is for %s, not moe", plan->op);
    REQUIRE(log, ((const struct layer_problem *)plan->problem)->p.offload,
            "the plan was made without offload");
    clmoe_offload *o = calloc(1, sizeof *o);
    if (!o) return CLMOE_E_NO_MEMORY;
    o->ctx = plan->ctx;
    context_retain(o->ctx);
    const enum clmoe_status status = make(o, plan, params);
    if (status != CLMOE_OK) clmoe_offload_destroy(&o);
    *out = o;
    return status;
}

void clmoe_offload_destroy(clmoe_offload **handle) {
    if (!handle || !*handle) return;
    clmoe_offload *const o = *handle;
    if (o->copies) clFinish(o->copies);
    offload_forget_events(o);
    for (int i = 0; i < OFFLOAD_PIECES; i++) {
        struct offload_piece *const piece = &o->pieces[i];
        if (piece->at) clEnqueueUnmapMemObject(o->copies, piece->mem, piece->at, 0, NULL, NULL);
        if (piece->mem) clReleaseMemObject(piece->mem);
    }
    if (o->copies) clReleaseCommandQueue(o->copies);
    if (o->reads) clReleaseCommandQueue(o->reads);
    if (o->map) clReleaseMemObject(o->map);
    for (int a = 0; a < OFFLOAD_ARRAYS; a++) {
        if (o->arrays[a].slots.mem) clReleaseMemObject(o->arrays[a].slots.mem);
        free(o->arrays[a].from);
    }
    slots_destroy(&o->slots);
    free(o->used);
    context_release(o->ctx);
    free(o);
    *handle = NULL;
}

/* ---- the rest of the public side ---- */

enum clmoe_status clmoe_offload_prefetch(clmoe_offload *o, int32_t n, const int32_t *experts) {
    if (!o) return CLMOE_E_INVALID;
    const struct log *const log = &o->ctx->log;
    REQUIRE(log, n >= 0, "n = %d", (int)n);
    REQUIRE(log, experts != NULL || n == 0, "experts is NULL, n = %d", (int)n);
    for (int32_t i = 0; i < n; i++)
        REQUIRE(log, experts[i] >= 0 && experts[i] < o->slots.experts, "experts[%d] = %d of %d", (int)i,
                (int)experts[i], (int)o->slots.experts);
    slots_prefetch(&o->slots, n, experts);
    enum clmoe_status status = CLMOE_OK;
    for (int32_t i = 0; i < o->slots.n_loads && status == CLMOE_OK; i++) {
        if (o->prefetched) clReleaseEvent(o->prefetched);
        o->prefetched = NULL;
        status = offload_load(o, i, &o->prefetched);
    }
    if (o->slots.n_loads) o->map_sent = false;
    if (status == CLMOE_OK)
        o->stats.prefetched += (uint64_t)o->slots.n_loads;
    else
        offload_abandon(o, NULL);
    return status;
}

enum clmoe_status clmoe_offload_stats(const clmoe_offload *o, struct clmoe_offload_stats *stats) {
    if (!o || !stats) return CLMOE_E_INVALID;
    *stats = o->stats;
    return CLMOE_OK;
}

void clmoe_offload_clear_stats(clmoe_offload *o) {
    if (!o) return;
    o->stats = (struct clmoe_offload_stats){.slots = o->stats.slots, .expert_bytes = o->stats.expert_bytes};
}
