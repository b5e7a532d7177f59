/* SPDX-License-Identifier: MIT
 * clmoe moe: the expert block of one layer of a model, from its checkpoint as it lies on the Hugging Face
 * hub. */
#include "files.h"
#include "progress.h"
#include "weights.h"

#include <stdio.h>

enum { OUTPUT, IDS, WEIGHTS, N_OUTPUTS };

/* Tokens of one call: bounds the workspace, which holds every pair's rows. */
#define MAX_TOKENS 8192

/* Packing reads and writes all experts once; from so many rows an expert on it is worth that. */
#define PACK_ROWS 8

struct job {
    struct usage usage;
    const char *device, *model, *path, *options;
    bool bf16;
    int64_t layer, per_buffer;
    struct config config;
    struct description description;
    struct family family;
    struct array x;
    struct checkpoint checkpoint;
    struct block block;
    struct result results[N_OUTPUTS];
};

static bool read_config(struct job *job, const struct config *config, struct io_error *error) {
    if (!description_open(config, job->options, job->layer, &job->description, error) ||
        !family_read(&job->description, &job->family, error))
        return false;
    return !job->family.shared ||
           io_fail(error, config->name, "blocks of %s are not run: they have shared experts",
                   job->description.name);
}

static int read_family(struct job *job) {
    char path[4096];
    struct io_error error;
    const int length = snprintf(path, sizeof path, "%s/config.json", job->model);
    if (length < 0 || (size_t)length >= sizeof path)
        return command_fail(&job->usage, EXIT_USAGE, "--model: the path is too long");
    if (config_open(path, &job->config, &error) && read_config(job, &job->config, &error)) return -1;
    return command_fail(&job->usage, EXIT_USAGE, "%s", error.text);
}

static int read_x(struct job *job) {
    const int code = read_rows(&job->usage, job->path, job->bf16, &job->x);
    if (code >= 0) return code;
    const int ndim = job->x.ndim;
    if ((ndim == 2 || ndim == 3) && job->x.shape[ndim - 1] == job->family.hidden) return -1;
    return command_fail(&job->usage, EXIT_USAGE, "%s: shape %s, expected (T, %lld) or (B, T, %lld)",
                        job->path, array_shape_text(ndim, job->x.shape).text, (long long)job->family.hidden,
                        (long long)job->family.hidden);
}

static int read_all(struct job *job) {
    struct io_error error;
    int code = read_family(job);
    if (code < 0) code = read_x(job);
    if (code >= 0) return code;
    if (!checkpoint_open(job->model, &job->checkpoint, &error) ||
        !block_find(&job->checkpoint, &job->description, &job->family, &job->block, &error))
        return command_fail(&job->usage, EXIT_USAGE, "%s", error.text);
    return -1;
}

static int64_t call_tokens(int64_t tokens) {
    return tokens < MAX_TOKENS ? tokens : MAX_TOKENS;
}

static struct clmoe_moe_params layer_params(const struct job *job, int64_t tokens,
                                            const struct weights *weights) {
    struct clmoe_moe_params p = {
        .max_tokens = call_tokens(tokens),
        .experts = job->family.route.experts,
        .topk = job->family.route.topk,
        .hidden = job->family.hidden,
        .inter = job->family.inter,
        .w_dtype = weights->dtype,
        .mid_dtype = CLMOE_F32,
        .source = CLMOE_MOE_ROUTER,
        .route = job->family.route,
        .w_order = weights->order,
        .glu = weights->glu,
        .act = job->family.act,
        .gamma_on_input = job->family.gamma_on_input,
        .bias1 = job->block.bias1.data != NULL,
        .bias2 = job->block.bias2.data != NULL,
        .router_bias = job->block.router_bias.data != NULL,
    };
    p.route.experts = p.route.topk = 0; /* the layer's own */
    session_dtype(job->x.dtype, &p.x_dtype);
    return p;
}

/* Rows first..first+n-1 of a contiguous matrix. */
static struct clmoe_tensor some_rows(const struct clmoe_tensor *all, int64_t first, int64_t n) {
    struct clmoe_tensor part = *all;
    part.offset += (uint64_t)clmoe_dtype_bytes(all->dtype, first * all->shape[1]);
    part.shape[0] = n;
    return part;
}

/* The layer in calls of at most MAX_TOKENS. `all` has x, y and the routing of all tokens. */
static int run_calls(struct session *s, clmoe_plan *plan, const struct clmoe_moe_args *all, bool routing) {
    const int64_t tokens = all->x.shape[0];
    for (int64_t first = 0; first < tokens; first += MAX_TOKENS) {
        const int64_t n = call_tokens(tokens - first);
        struct clmoe_moe_args args = *all;
        args.x = some_rows(&all->x, first, n);
        args.y = some_rows(&all->y, first, n);
        if (routing) {
            args.out_ids = some_rows(&all->out_ids, first, n);
            args.out_gamma = some_rows(&all->out_gamma, first, n);
        }
        enum clmoe_status status = clmoe_moe_enqueue(plan, s->queue, &args, 0, NULL, NULL);
        if (status == CLMOE_OK && clFinish(s->queue) != CL_SUCCESS) status = CLMOE_E_OPENCL;
        if (status != CLMOE_OK) return session_fail(s, status, "moe");
        progress("tokens", first + n, tokens);
    }
    return -1;
}

static int download(struct session *s, struct job *job, const struct clmoe_moe_args *args, bool routing) {
    const struct clmoe_tensor *const tensors[] = {&args->y, &args->out_ids, &args->out_gamma};
    int code = -1;
    for (int i = 0; i < (routing ? N_OUTPUTS : 1) && code < 0; i++) {
        code = session_download(s, tensors[i], &job->results[i].array);
        if (code < 0) shape_like(&job->results[i].array, &job->x);
    }
    return code;
}

static int run_layer(struct session *s, struct job *job, const struct weights *weights) {
    const struct array x = flat_rows(&job->x);
    const bool routing = job->results[IDS].path || job->results[WEIGHTS].path;
    const struct clmoe_moe_params p = layer_params(job, x.shape[0], weights);
    const int64_t chosen[] = {x.shape[0], p.topk};
    struct clmoe_moe_args args = {.router = weights->router,
                                  .router_bias = weights->router_bias,
                                  .select_bias = weights->select_bias,
                                  .bias1 = weights->bias1,
                                  .bias2 = weights->bias2,
                                  .w1 = weights->parts[W1],
                                  .w1_up = weights->parts[W1_UP],
                                  .w2 = weights->parts[W2],
                                  .n_w = weights->n_parts};
    clmoe_plan *plan = NULL;
    int code = session_upload(s, &x, &args.x);
    if (code < 0) code = session_buffer(s, p.x_dtype, 2, x.shape, &args.y);
    if (code < 0 && routing) code = session_buffer(s, CLMOE_I32, 2, chosen, &args.out_ids);
    if (code < 0 && routing) code = session_buffer(s, CLMOE_F32, 2, chosen, &args.out_gamma);
    if (code < 0) {
        const enum clmoe_status status = clmoe_moe_plan(s->ctx, &p, &plan);
        code = status == CLMOE_OK ? run_calls(s, plan, &args, routing) : session_fail(s, status, "moe");
    }
    if (code < 0) code = download(s, job, &args, routing);
    clmoe_plan_destroy(&plan);
    session_release(&args.x);
    session_release(&args.y);
    session_release(&args.out_ids);
    session_release(&args.out_gamma);
    return code;
}

static int run(struct session *s, struct job *job) {
    const int64_t tokens = flat_rows(&job->x).shape[0];
    struct weights weights;
    const struct weights_options options = {
        .activations = job->x.dtype,
        .per_buffer = job->per_buffer,
        .pack = clmoe_matmul_wants_packing(s->ctx) &&
                tokens * job->family.route.topk >= (int64_t)PACK_ROWS * job->family.route.experts,
    };
    int code = weights_upload(s, &job->block, &options, &weights);
    if (code < 0) code = run_layer(s, job, &weights);
    weights_release(&weights);
    return code;
}

static int work(struct job *job) {
    struct session s;
    int code = read_all(job);
    if (code < 0) code = check_results(&job->usage, job->results, N_OUTPUTS);
    if (code < 0) code = session_open(&s, &job->usage, job->device);
    if (code >= 0) return code;
    code = run(&s, job);
    session_close(&s);
    return code >= 0 ? code : write_results(&job->usage, job->results, N_OUTPUTS);
}

int command_moe(int argc, char **argv) {
    struct job job = {.layer = -1,
                      .results = {{.option = "--output"}, {.option = "--ids"}, {.option = "--weights"}}};
    const struct option_row options[] = {
        {"model", OPTION_TEXT, &job.model, 0, 0, NULL, "DIR  with config.json and safetensors (required)"},
        {"layer", OPTION_INT, &job.layer, 0, INT32_MAX, NULL, "L  which layer, from 0 (required)"},
        {"input", OPTION_TEXT, &job.path, 0, 0, NULL, "F  [T, H] or [B, T, H], f32, f16 or bf16 (required)"},
        {"output", OPTION_TEXT, &job.results[OUTPUT].path, 0, 0, NULL, "F  write the same shape (required)"},
        {"ids", OPTION_TEXT, &job.results[IDS].path, 0, 0, NULL, "F  write [..., k] i32: the experts"},
        {"weights", OPTION_TEXT, &job.results[WEIGHTS].path, 0, 0, NULL,
         "F  write [..., k] f32: their weights"},
        {"experts-per-buffer", OPTION_INT, &job.per_buffer, 1, 4096, NULL,
         "N  at most; default: as many as the device allows"},
        {"options", OPTION_TEXT, &job.options, 0, 0, NULL, "FILE  describes the model's family, see below"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy elements (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "moe",
        .summary = "Runs the expert block of one layer: router, experts, weighted sum; without norm and "
                   "residual.\nThe input's type is that of the activations, weights stay in theirs.",
        .operands = "",
        .example = "clmoe moe --model Mixtral-8x7B-v0.1 --layer 0 --input x.npy --output y.npy",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .more = description_help,
    };
    int code = parse_options(&job.usage, argc, argv, NULL);
    if (code >= 0) return code;
    if (!job.model || job.layer < 0 || !job.path || !job.results[OUTPUT].path)
        return command_fail(&job.usage, EXIT_USAGE,
                            "--model, --layer, --input and --output are required; see clmoe moe --help");
    code = work(&job);
    block_free(&job.block);
    checkpoint_close(&job.checkpoint);
    description_close(&job.description);
    config_close(&job.config);
    array_free(&job.x);
    free_results(job.results, N_OUTPUTS);
    return code >= 0 ? code : EXIT_OK;
}
