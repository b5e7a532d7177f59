/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include "check/harness.h"
#include "ref/convert.h"

#include <stdlib.h>
#include <string.h>

#define POISON 0xa5

struct sample_op {
    const char *name;
    void (*open)(struct sample *s, int64_t tokens);
    enum clmoe_status (*plan)(clmoe_context *ctx, const void *params, clmoe_plan **plan);
    enum clmoe_status (*enqueue)(clmoe_plan *plan, cl_command_queue queue, const void *args, cl_uint n_wait,
                                 const cl_event *wait, cl_event *event);
};

enum { EXPERTS = 4, TOPK = 2, WIDTH = 33 };

/* ---- building blocks ---- */

static void add(struct sample *s, const char *name, struct clmoe_tensor *tensor, struct clmoe_tensor view,
                const void *data, bool written) {
    int64_t count = 1;
    for (int d = 0; d < view.ndim; d++)
        count *= view.shape[d];
    const size_t bytes = (size_t)clmoe_dtype_bytes(view.dtype, count) + 64; /* never empty */
    unsigned char *const image = malloc(bytes);
    if (!image || s->n_tensors == SAMPLE_BUFFERS) abort();
    memset(image, POISON, bytes);
    if (data) memcpy(image, data, bytes - 64);
    cl_int err;
    view.mem = clCreateBuffer(s->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, bytes, image, &err);
    free(image);
    if (err != CL_SUCCESS) abort();
    *tensor = view;
    s->tensors[s->n_tensors++] = (struct sample_tensor){name, tensor, view.mem, bytes, written};
}

static struct clmoe_tensor shape2(enum clmoe_dtype dtype, int64_t rows, int64_t n) {
    return clmoe_tensor_2d(NULL, dtype, rows, n);
}

static struct clmoe_tensor shape1(enum clmoe_dtype dtype, int64_t n) {
    return clmoe_tensor_1d(NULL, dtype, n);
}

static int64_t elements(struct clmoe_tensor view) {
    int64_t count = 1;
    for (int d = 0; d < view.ndim; d++)
        count *= view.shape[d];
    return count;
}

/* Values in -1 .. 1 in steps of 1/2: sums and products of a sample are exact, so that every kernel gives the
 * same bits, whatever its order of additions. Activations and scores are chosen to keep it so. */
static void floats(struct sample *s, const char *name, struct clmoe_tensor *tensor,
                   struct clmoe_tensor view) {
    const int64_t count = elements(view);
    char *const data = malloc((size_t)count * 4 + 4);
    if (!data) abort();
    for (int64_t i = 0; i < count; i++)
        ref_store(view.dtype, data, i, (float)((i * 37 + s->n_tensors * 11) % 23 % 5 - 2) / 2.0f);
    add(s, name, tensor, view, data, false);
    free(data);
}

/* `below`: exclusive upper bound; `step` apart. */
static void ints(struct sample *s, const char *name, struct clmoe_tensor *tensor, struct clmoe_tensor view,
                 int step, int below) {
    const int64_t count = elements(view);
    int32_t *const data = malloc((size_t)count * sizeof *data + 4);
    if (!data) abort();
    for (int64_t i = 0; i < count; i++)
        data[i] = (int32_t)(i * step % below);
    add(s, name, tensor, view, data, false);
    free(data);
}

static void output(struct sample *s, const char *name, struct clmoe_tensor *tensor,
                   struct clmoe_tensor view) {
    add(s, name, tensor, view, NULL, true);
}

/* Wrappers, so that the table holds functions of one type. */
#define CALLS(op)                                                                                            \
    static enum clmoe_status op##_plan(clmoe_context *ctx, const void *params, clmoe_plan **plan) {          \
        return clmoe_##op##_plan(ctx, params, plan);                                                         \
    }                                                                                                        \
    static enum clmoe_status op##_enqueue(clmoe_plan *plan, cl_command_queue queue, const void *args,        \
                                          cl_uint n_wait, const cl_event *wait, cl_event *event) {           \
        return clmoe_##op##_enqueue(plan, queue, args, n_wait, wait, event);                                 \
    }

/* ---- operations ---- */

CALLS(combine)
static void combine_open(struct sample *s, int64_t t) {
    struct clmoe_combine_args *const a = &s->args.combine;
    s->params.combine = (struct clmoe_combine_params){
        .max_tokens = SAMPLE_TOKENS,
        .topk = TOPK,
        .experts = EXPERTS,
        .hidden = WIDTH,
        .x_rows = CLMOE_ROWS_SORTED,
        .ids = 1,
        .gamma = 1,
        .residual = 1,
        .shared = 1,
    };
    s->options = &s->params.combine.plan;
    floats(s, "x", &a->x, shape2(CLMOE_F32, t * TOPK, WIDTH));
    ints(s, "ids", &a->ids, shape2(CLMOE_I32, t, TOPK), 1, EXPERTS);
    ints(s, "inverse", &a->inverse, shape1(CLMOE_I32, t * TOPK), 1, SAMPLE_TOKENS * TOPK);
    floats(s, "gamma", &a->gamma, shape2(CLMOE_F32, t, TOPK));
    floats(s, "residual", &a->residual, shape2(CLMOE_F32, t, WIDTH));
    floats(s, "shared", &a->shared, shape2(CLMOE_F32, t, WIDTH));
    output(s, "y", &a->y, shape2(CLMOE_F32, t, WIDTH));
}

CALLS(scatter)
static void scatter_open(struct sample *s, int64_t rows) {
    struct clmoe_scatter_args *const a = &s->args.scatter;
    s->params.scatter = (struct clmoe_scatter_params){
        .max_rows = SAMPLE_TOKENS, .n = WIDTH, .k = TOPK, .slot_scale = 1, .column_scale = 1};
    s->options = &s->params.scatter.plan;
    ints(s, "indices", &a->indices, shape2(CLMOE_I32, rows, TOPK), 5, WIDTH);
    floats(s, "values", &a->values, shape2(CLMOE_F32, rows, TOPK));
    floats(s, "slot_scale", &a->slot_scale, shape2(CLMOE_F32, rows, TOPK));
    floats(s, "column_scale", &a->column_scale, shape1(CLMOE_F32, WIDTH));
    output(s, "y", &a->y, shape2(CLMOE_F32, rows, WIDTH));
}

CALLS(permute)
static void permute_open(struct sample *s, int64_t t) {
    struct clmoe_permute_args *const a = &s->args.permute;
    s->params.permute =
        (struct clmoe_permute_params){.max_tokens = SAMPLE_TOKENS, .topk = TOPK, .experts = EXPERTS};
    s->options = &s->params.permute.plan;
    ints(s, "ids", &a->ids, shape2(CLMOE_I32, t, TOPK), 7, EXPERTS);
    output(s, "counts", &a->counts, shape1(CLMOE_I32, EXPERTS));
    output(s, "offsets", &a->offsets, shape1(CLMOE_I32, EXPERTS + 1));
    output(s, "order", &a->order, shape1(CLMOE_I32, t * TOPK));
    output(s, "inverse", &a->inverse, shape1(CLMOE_I32, t * TOPK));
}

CALLS(route)
static void route_open(struct sample *s, int64_t t) {
    enum { E = 6, Z = 2 };
    struct clmoe_route_args *const a = &s->args.route;
    s->params.route = (struct clmoe_route_params){
        .max_tokens = SAMPLE_TOKENS,
        .experts = E,
        .topk = TOPK,
        .score = CLMOE_SCORE_IDENTITY,
        .bias = 1,
        .n_group = 4,
        .topk_group = 2,
        .group_score = CLMOE_GROUP_TOP2_SUM,
        .scale = 0.5f,
        .zero_experts = Z,
        .shared_slots = 1,
        .expert_scale = 1,
        .expert_map = 1,
        .capacity = 2,
    };
    s->options = &s->params.route.plan;
    floats(s, "logits", &a->logits, shape2(CLMOE_F32, t, E + Z));
    floats(s, "bias", &a->bias, shape1(CLMOE_F32, E + Z));
    floats(s, "expert_scale", &a->expert_scale, shape1(CLMOE_F32, E));
    ints(s, "expert_map", &a->expert_map, shape1(CLMOE_I32, E + 1), 5, EXPERTS);
    output(s, "ids", &a->ids, shape2(CLMOE_I32, t, TOPK + 1));
    output(s, "gamma", &a->gamma, shape2(CLMOE_F32, t, TOPK + 1));
    output(s, "identity_gamma", &a->identity_gamma, shape1(CLMOE_F32, t));
}

CALLS(matmul)
static struct clmoe_matmul_params matmul_params(void) {
    return (struct clmoe_matmul_params){
        .max_tokens = SAMPLE_TOKENS,
        .topk = TOPK,
        .experts = EXPERTS,
        .in = WIDTH,
        .out = 9,
        .act = {CLMOE_ACT_RELU},
        .x_rows = CLMOE_ROWS_TOKEN,
        .gamma = CLMOE_GAMMA_OUTPUT,
        .bias = 1,
        .expert_scale = 1,
    };
}

/* Routing by ids; gate and up apart. */
static void matmul_open(struct sample *s, int64_t t) {
    struct clmoe_matmul_args *const a = &s->args.matmul;
    s->params.matmul = matmul_params();
    s->params.matmul.glu = CLMOE_GLU_APART;
    s->options = &s->params.matmul.plan;
    floats(s, "x", &a->x, shape2(CLMOE_F32, t, WIDTH));
    floats(s, "w[0]", &s->parts[0], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 9, WIDTH));
    floats(s, "w_up[0]", &s->parts[1], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 9, WIDTH));
    a->w = &s->parts[0];
    a->w_up = &s->parts[1];
    floats(s, "bias", &a->bias, shape2(CLMOE_F32, EXPERTS, 9));
    floats(s, "bias_up", &a->bias_up, shape2(CLMOE_F32, EXPERTS, 9));
    floats(s, "gamma", &a->gamma, shape2(CLMOE_F32, t, TOPK));
    floats(s, "expert_scale", &a->expert_scale, shape1(CLMOE_F32, EXPERTS));
    ints(s, "ids", &a->ids, shape2(CLMOE_I32, t, TOPK), 7, EXPERTS);
    output(s, "y", &a->y, shape2(CLMOE_F32, t * TOPK, 9));
}

/* Sorted routing; two parts of weights with gate and up rows together. */
static void matmul_sorted_open(struct sample *s, int64_t t) {
    struct clmoe_matmul_args *const a = &s->args.matmul;
    s->params.matmul = matmul_params();
    s->params.matmul.glu = CLMOE_GLU_GATE_UP;
    s->params.matmul.routing = CLMOE_ROUTING_SORTED;
    s->params.matmul.y_rows = CLMOE_ROWS_SORTED;
    s->options = &s->params.matmul.plan;
    int32_t offsets[EXPERTS + 1] = {0}, order[SAMPLE_TOKENS * TOPK], next = 0;
    for (int32_t e = 0; e < EXPERTS; e++) {
        for (int32_t p = 0; p < t * TOPK; p++)
            if (p * 7 % EXPERTS == e) order[next++] = p;
        offsets[e + 1] = next;
    }
    floats(s, "x", &a->x, shape2(CLMOE_F32, t, WIDTH));
    floats(s, "w[0]", &s->parts[0], clmoe_tensor_3d(NULL, CLMOE_F32, 2, 18, WIDTH));
    floats(s, "w[1]", &s->parts[1], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS - 2, 18, WIDTH));
    a->w = s->parts;
    a->n_w = 2;
    floats(s, "bias", &a->bias, shape2(CLMOE_F32, EXPERTS, 18));
    floats(s, "gamma", &a->gamma, shape2(CLMOE_F32, t, TOPK));
    floats(s, "expert_scale", &a->expert_scale, shape1(CLMOE_F32, EXPERTS));
    ints(s, "ids", &a->ids, shape2(CLMOE_I32, t, TOPK), 7, EXPERTS);
    add(s, "offsets", &a->offsets, shape1(CLMOE_I32, EXPERTS + 1), offsets, false);
    add(s, "order", &a->order, shape1(CLMOE_I32, t * TOPK), order, false);
    output(s, "y", &a->y, shape2(CLMOE_F32, t * TOPK, 9));
}

CALLS(matmul_pack)
static void matmul_pack_open(struct sample *s, int64_t t) {
    struct clmoe_matmul_pack_args *const a = &s->args.matmul_pack;
    (void)t;
    s->params.matmul_pack = matmul_params();
    s->params.matmul_pack.glu = CLMOE_GLU_APART;
    s->options = &s->params.matmul_pack.plan;
    int64_t packed[4];
    case_ok(clmoe_matmul_packed_shape(&s->params.matmul_pack, packed));
    floats(s, "w[0]", &s->parts[0], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 9, WIDTH));
    floats(s, "w_up[0]", &s->parts[1], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 9, WIDTH));
    output(s, "packed[0]", &s->parts[2],
           (struct clmoe_tensor){.ndim = 4, .shape = {packed[0], packed[1], packed[2], packed[3]}});
    a->w = &s->parts[0];
    a->w_up = &s->parts[1];
    a->packed = &s->parts[2];
}

CALLS(quant)
static void quant_open(struct sample *s, int64_t rows) {
    struct clmoe_quant_args *const a = &s->args.quant;
    s->params.quant = (struct clmoe_quant_params){.max_rows = SAMPLE_TOKENS, .n = 64, .block = CLMOE_Q8_0};
    s->options = &s->params.quant.plan;
    floats(s, "x", &a->x, shape2(CLMOE_F32, rows, 64));
    output(s, "q", &a->q, shape2(CLMOE_Q8_0, rows, 64));
}

CALLS(moe)
static void moe_open(struct sample *s, int64_t t) {
    struct clmoe_moe_args *const a = &s->args.moe;
    s->params.moe = (struct clmoe_moe_params){
        .max_tokens = SAMPLE_TOKENS,
        .experts = EXPERTS,
        .topk = TOPK,
        .hidden = WIDTH,
        .inter = 9,
        .route = {.score = CLMOE_SCORE_IDENTITY, .bias = 1},
        .glu = CLMOE_GLU_GATE_UP,
        .act = {CLMOE_ACT_RELU},
        .adapters = {.count = 2, .rank = 3, .glu = CLMOE_GLU_GATE_UP, .scale = 1},
        .bias1 = 1,
        .bias2 = 1,
        .router_bias = 1,
        .residual = 1,
        .shared = 1,
    };
    s->options = &s->params.moe.plan;
    floats(s, "x", &a->x, shape2(CLMOE_F32, t, WIDTH));
    floats(s, "router", &a->router, shape2(CLMOE_F32, EXPERTS, WIDTH));
    floats(s, "router_bias", &a->router_bias, shape1(CLMOE_F32, EXPERTS));
    floats(s, "select_bias", &a->select_bias, shape1(CLMOE_F32, EXPERTS));
    floats(s, "w1[0]", &s->parts[0], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 18, WIDTH));
    floats(s, "w2[0]", &s->parts[1], clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, WIDTH, 9));
    a->w1 = &s->parts[0];
    a->w2 = &s->parts[1];
    floats(s, "bias1", &a->bias1, shape2(CLMOE_F32, EXPERTS, 18));
    floats(s, "bias2", &a->bias2, shape2(CLMOE_F32, EXPERTS, WIDTH));
    ints(s, "adapter_ids", &a->adapter_ids, shape1(CLMOE_I32, t), 1, 3);
    floats(s, "adapter_scale", &a->adapter_scale, shape1(CLMOE_F32, 2));
    floats(s, "a1", &a->a1, clmoe_tensor_3d(NULL, CLMOE_F32, 2 * EXPERTS, 3, WIDTH));
    floats(s, "b1", &a->b1, clmoe_tensor_3d(NULL, CLMOE_F32, 2 * EXPERTS, 18, 3));
    floats(s, "a2", &a->a2, clmoe_tensor_3d(NULL, CLMOE_F32, 2 * EXPERTS, 3, 9));
    floats(s, "b2", &a->b2, clmoe_tensor_3d(NULL, CLMOE_F32, 2 * EXPERTS, WIDTH, 3));
    floats(s, "residual", &a->residual, shape2(CLMOE_F32, t, WIDTH));
    floats(s, "shared", &a->shared, shape2(CLMOE_F32, t, WIDTH));
    output(s, "y", &a->y, shape2(CLMOE_F32, t, WIDTH));
    output(s, "out_ids", &a->out_ids, shape2(CLMOE_I32, t, TOPK));
    output(s, "out_gamma", &a->out_gamma, shape2(CLMOE_F32, t, TOPK));
}

CALLS(lora)
static void lora_open(struct sample *s, int64_t t) {
    struct clmoe_lora_args *const a = &s->args.lora;
    s->params.lora = (struct clmoe_lora_params){
        .max_tokens = SAMPLE_TOKENS,
        .adapters = EXPERTS,
        .topk = TOPK,
        .rank = 3,
        .in = WIDTH,
        .out = 9,
        .weights = 1,
        .adapter_scale = 1,
        .base = 1,
    };
    s->options = &s->params.lora.plan;
    floats(s, "x", &a->x, shape2(CLMOE_F32, t, WIDTH));
    floats(s, "a", &a->a, clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 3, WIDTH));
    floats(s, "b", &a->b, clmoe_tensor_3d(NULL, CLMOE_F32, EXPERTS, 9, 3));
    floats(s, "adapter_scale", &a->adapter_scale, shape1(CLMOE_F32, EXPERTS));
    ints(s, "ids", &a->ids, shape2(CLMOE_I32, t, TOPK), 7, EXPERTS);
    floats(s, "weights", &a->weights, shape2(CLMOE_F32, t, TOPK));
    floats(s, "base", &a->base, shape2(CLMOE_F32, t, 9));
    output(s, "y", &a->y, shape2(CLMOE_F32, t, 9));
}

CALLS(topk)
static void topk_open(struct sample *s, int64_t rows) {
    struct clmoe_topk_args *const a = &s->args.topk;
    s->params.topk = (struct clmoe_topk_params){
        .max_rows = SAMPLE_TOKENS,
        .n = WIDTH,
        .k = TOPK,
        .outputs = CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES | CLMOE_TOPK_MASK | CLMOE_TOPK_BITMASK,
    };
    s->options = &s->params.topk.plan;
    floats(s, "x", &a->x, shape2(CLMOE_F32, rows, WIDTH));
    output(s, "values", &a->values, shape2(CLMOE_F32, rows, TOPK));
    output(s, "indices", &a->indices, shape2(CLMOE_I32, rows, TOPK));
    output(s, "mask", &a->mask, shape2(CLMOE_U8, rows, WIDTH));
    output(s, "bitmask", &a->bitmask, shape2(CLMOE_U32, rows, (WIDTH + 31) / 32));
}

static const struct sample_op ops[] = {
    {"combine", combine_open, combine_plan, combine_enqueue},
    {"scatter", scatter_open, scatter_plan, scatter_enqueue},
    {"permute", permute_open, permute_plan, permute_enqueue},
    {"route", route_open, route_plan, route_enqueue},
    {"matmul", matmul_open, matmul_plan, matmul_enqueue},
    {"matmul", matmul_sorted_open, matmul_plan, matmul_enqueue},
    {"matmul_pack", matmul_pack_open, matmul_pack_plan, matmul_pack_enqueue},
    {"quant", quant_open, quant_plan, quant_enqueue},
    {"topk", topk_open, topk_plan, topk_enqueue},
    {"moe", moe_open, moe_plan, moe_enqueue},
    {"lora", lora_open, lora_plan, lora_enqueue},
};

/* ---- interface ---- */

int sample_count(void) {
    return sizeof ops / sizeof *ops;
}

const char *sample_name(int index) {
    return ops[index].name;
}

void sample_open(struct sample *s, int index, cl_context context, int64_t tokens) {
    memset(s, 0, sizeof *s);
    s->op = &ops[index];
    s->context = context;
    s->op->open(s, tokens);
}

void sample_close(struct sample *s) {
    for (int i = 0; i < s->n_tensors; i++)
        clReleaseMemObject(s->tensors[i].mem);
    memset(s, 0, sizeof *s);
}

enum clmoe_status sample_plan_raw(int index, clmoe_context *ctx, const void *params, clmoe_plan **plan) {
    return ops[index].plan(ctx, params, plan);
}

enum clmoe_status sample_enqueue_raw(int index, clmoe_plan *plan, cl_command_queue queue, const void *args,
                                     cl_uint n_wait, const cl_event *wait, cl_event *event) {
    return ops[index].enqueue(plan, queue, args, n_wait, wait, event);
}

enum clmoe_status sample_plan(const struct sample *s, clmoe_context *ctx, clmoe_plan **plan) {
    return s->op->plan(ctx, &s->params, plan);
}

enum clmoe_status sample_enqueue(const struct sample *s, clmoe_plan *plan, cl_command_queue queue,
                                 cl_uint n_wait, const cl_event *wait, cl_event *event) {
    return s->op->enqueue(plan, queue, &s->args, n_wait, wait, event);
}

cl_mem sample_workspace(clmoe_plan *plan) {
    const size_t size = (size_t)clmoe_plan_workspace_size(plan) + 1; /* never empty */
    unsigned char *const rubbish = malloc(size);
    cl_int err;
    if (!rubbish) abort();
    memset(rubbish, 0x5a, size);
    const cl_mem mem =
        clCreateBuffer(tester()->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, size, rubbish, &err);
    free(rubbish);
    if (err != CL_SUCCESS) abort();
    case_ok(clmoe_plan_set_workspace(plan, mem, 0));
    return mem;
}

/* FNV-1a */
static uint64_t mix(uint64_t hash, const unsigned char *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * 0x100000001b3u;
    return hash;
}

uint64_t sample_outputs(const struct sample *s, cl_command_queue queue) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < s->n_tensors; i++) {
        const struct sample_tensor *const t = &s->tensors[i];
        if (!t->written) continue;
        unsigned char *const data = malloc(t->bytes);
        if (!data || clFinish(queue) != CL_SUCCESS ||
            clEnqueueReadBuffer(queue, t->mem, CL_TRUE, 0, t->bytes, data, 0, NULL, NULL) != CL_SUCCESS)
            abort();
        hash = mix(hash, data, t->bytes);
        free(data);
    }
    return hash;
}

void sample_reset(const struct sample *s, cl_command_queue queue) {
    for (int i = 0; i < s->n_tensors; i++) {
        const struct sample_tensor *const t = &s->tensors[i];
        if (!t->written) continue;
        unsigned char *const data = malloc(t->bytes);
        if (!data) abort();
        memset(data, POISON, t->bytes);
        if (clEnqueueWriteBuffer(queue, t->mem, CL_TRUE, 0, t->bytes, data, 0, NULL, NULL) != CL_SUCCESS)
            abort();
        free(data);
    }
}

uint64_t sample_poison(int index) {
    struct sample s;
    sample_open(&s, index, tester()->context, SAMPLE_TOKENS);
    const uint64_t hash = sample_outputs(&s, tester()->queue);
    sample_close(&s);
    return hash;
}

uint64_t sample_result(int index) {
    static uint64_t results[sizeof ops / sizeof *ops];
    if (results[index]) return results[index];
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, index, tester()->context, SAMPLE_TOKENS);
    s.options->external_workspace = 1;
    case_ok(sample_plan(&s, tester_context(CAPS_OWN), &plan));
    const cl_mem workspace = sample_workspace(plan);
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    const uint64_t hash = sample_outputs(&s, tester()->queue);
    case_require(hash != sample_poison(index), "%s: no output was written", sample_name(index));
    clmoe_plan_destroy(&plan);
    clReleaseMemObject(workspace);
    sample_close(&s);
    return results[index] = hash;
}
