/* SPDX-License-Identifier: MIT
 * clmoe route: router logits to expert ids and weights, by the rule of a model's config.json or GGUF file. */
#include "block.h"
#include "family.h"
#include "files.h"
#include "session.h"

#include <stdio.h>
#include <string.h>

enum { IDS, WEIGHTS, COUNTS, N_OUTPUTS };

struct job {
    struct usage usage;
    const char *device, *path, *config, *options, *bias_path;
    bool bf16;
    int64_t layer;
    struct clmoe_route_params params;
    struct array logits, bias;
    struct result results[N_OUTPUTS];
};

/* Of the checkpoint whose config.json or first file it is. */
static int find_bias(struct job *job, const struct description *d) {
    const char *const slash = strrchr(job->config, '/');
    char folder[4096] = ".";
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - job->config) + 1, job->config);
    struct checkpoint checkpoint = {0};
    struct io_error error;
    const bool ok = checkpoint_open(gguf_is_path(job->config) ? job->config : folder, &checkpoint, &error) &&
                    block_find_select_bias(&checkpoint, d, job->params.experts, &job->bias, &error);
    checkpoint_close(&checkpoint);
    return ok ? -1
              : command_fail(&job->usage, EXIT_USAGE,
                             "--bias is required: %s selects with e_score_correction_bias, and %s", d->name,
                             error.text);
}

static int read_config(struct job *job) {
    struct io_error error;
    struct description d;
    const bool ok = description_open(job->config, job->options, job->layer, &d, &error) &&
                    family_route(&d, &job->params, &error);
    int code = ok ? -1 : command_fail(&job->usage, EXIT_USAGE, "%s", error.text);
    if (ok && job->params.bias && !job->bias_path) code = find_bias(job, &d);
    if (ok && !job->params.bias && job->bias_path)
        code = command_fail(&job->usage, EXIT_USAGE, "--bias: %s has no selection bias", d.name);
    description_close(&d);
    return code;
}

static int read_bias(struct job *job) {
    struct array any;
    struct io_error error;
    int code = read_input(&job->usage, job->bias_path, job->bf16, &any);
    if (code >= 0) return code;
    if (any.ndim == 2 && any.shape[0] == 1) { /* ERNIE's is a row */
        any.ndim = 1;
        any.shape[0] = any.shape[1];
        any.shape[1] = 0;
    }
    if (any.ndim != 1 || any.shape[0] != job->params.experts)
        code = command_fail(&job->usage, EXIT_USAGE, "%s: shape %s, expected (%d,)", job->bias_path,
                            array_shape_text(any.ndim, any.shape).text, (int)job->params.experts);
    else if (!array_to_f32(job->bias_path, &any, &job->bias, &error))
        code = command_fail(&job->usage, EXIT_USAGE, "%s", error.text);
    array_free(&any);
    return code;
}

static int read_logits(struct job *job) {
    const int code = read_rows(&job->usage, job->path, job->bf16, &job->logits);
    if (code >= 0) return code;
    const struct array rows = flat_rows(&job->logits);
    if (rows.shape[1] != job->params.experts)
        return command_fail(&job->usage, EXIT_USAGE, "%s: rows of %lld logits, but %s has %d experts",
                            job->path, (long long)rows.shape[1], job->config, (int)job->params.experts);
    session_dtype(rows.dtype, &job->params.logits_dtype);
    job->params.max_tokens = rows.shape[0];
    return -1;
}

/* How many tokens each expert got. */
static int count(struct session *s, struct job *job, const struct clmoe_tensor *ids) {
    const struct clmoe_permute_params p = {
        .max_tokens = job->params.max_tokens, .topk = job->params.topk, .experts = job->params.experts};
    const int64_t experts = p.experts, ends = experts + 1, pairs = p.max_tokens * p.topk;
    struct clmoe_permute_args args = {.ids = *ids};
    clmoe_plan *plan = NULL;
    int code = session_buffer(s, CLMOE_I32, 1, &experts, &args.counts);
    if (code < 0) code = session_buffer(s, CLMOE_I32, 1, &ends, &args.offsets);
    if (code < 0) code = session_buffer(s, CLMOE_I32, 1, &pairs, &args.order);
    if (code < 0) {
        enum clmoe_status status = clmoe_permute_plan(s->ctx, &p, &plan);
        if (status == CLMOE_OK) status = clmoe_permute_enqueue(plan, s->queue, &args, 0, NULL, NULL);
        code = status == CLMOE_OK ? session_download(s, &args.counts, &job->results[COUNTS].array)
                                  : session_fail(s, status, "permute");
    }
    clmoe_plan_destroy(&plan);
    session_release(&args.counts);
    session_release(&args.offsets);
    session_release(&args.order);
    return code;
}

static int finish(struct session *s, struct job *job, const struct clmoe_route_args *args) {
    int code = session_download(s, &args->ids, &job->results[IDS].array);
    if (code < 0) code = session_download(s, &args->gamma, &job->results[WEIGHTS].array);
    if (code < 0) {
        shape_like(&job->results[IDS].array, &job->logits);
        shape_like(&job->results[WEIGHTS].array, &job->logits);
    }
    return code < 0 && job->results[COUNTS].path ? count(s, job, &args->ids) : code;
}

static int run(struct session *s, struct job *job) {
    const struct array logits = flat_rows(&job->logits);
    const int64_t shape[] = {logits.shape[0], job->params.topk};
    struct clmoe_route_args args = {0};
    clmoe_plan *plan = NULL;
    int code = session_upload(s, &logits, &args.logits);
    if (code < 0 && job->params.bias) code = session_upload(s, &job->bias, &args.bias);
    if (code < 0) code = session_buffer(s, CLMOE_I32, 2, shape, &args.ids);
    if (code < 0) code = session_buffer(s, CLMOE_F32, 2, shape, &args.gamma);
    if (code < 0) {
        enum clmoe_status status = clmoe_route_plan(s->ctx, &job->params, &plan);
        if (status == CLMOE_OK) status = clmoe_route_enqueue(plan, s->queue, &args, 0, NULL, NULL);
        code = status == CLMOE_OK ? finish(s, job, &args) : session_fail(s, status, "route");
    }
    clmoe_plan_destroy(&plan);
    session_release(&args.logits);
    session_release(&args.bias);
    session_release(&args.ids);
    session_release(&args.gamma);
    return code;
}

static int work(struct job *job) {
    struct session s;
    int code = read_config(job);
    if (code < 0) code = read_logits(job);
    if (code < 0 && job->bias_path) code = read_bias(job);
    if (code < 0) code = check_results(&job->usage, job->results, N_OUTPUTS);
    if (code < 0) code = session_open(&s, &job->usage, job->device);
    if (code >= 0) return code;
    code = run(&s, job);
    session_close(&s);
    return code >= 0 ? code : write_results(&job->usage, job->results, N_OUTPUTS);
}

int command_route(int argc, char **argv) {
    struct job job = {.results = {{.option = "--ids"}, {.option = "--weights"}, {.option = "--counts"}}};
    const struct option_row options[] = {
        {"config", OPTION_TEXT, &job.config, 0, 0, NULL,
         "FILE  the model's config.json or FILE.gguf (required)"},
        {"options", OPTION_TEXT, &job.options, 0, 0, NULL,
         "FILE  describes the model's family, as JSON; see clmoe moe --help"},
        {"layer", OPTION_INT, &job.layer, 0, INT32_MAX, NULL,
         "L  whose bias it is, and which value of lists in FILE counts; default: 0"},
        {"bias", OPTION_TEXT, &job.bias_path, 0, 0, NULL,
         "F  [E] e_score_correction_bias, where the model has one; default: that of the weights beside FILE, "
         "or "
         "in it"},
        {"ids", OPTION_TEXT, &job.results[IDS].path, 0, 0, NULL, "F  write [..., k] i32 (required)"},
        {"weights", OPTION_TEXT, &job.results[WEIGHTS].path, 0, 0, NULL, "F  write [..., k] f32 (required)"},
        {"counts", OPTION_TEXT, &job.results[COUNTS].path, 0, 0, NULL, "F  write [E] i32: tokens an expert"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy elements (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "route",
        .summary = "Chooses the experts of each token from its logits [..., E] and weighs them, as the model "
                   "of a\nHugging Face config.json or of a GGUF file does.",
        .operands = "LOGITS.npy",
        .min_operands = 1,
        .max_operands = 1,
        .example = "clmoe route logits.npy --config config.json --ids ids.npy --weights w.npy",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int code = parse_options(&job.usage, argc, argv, &job.path);
    if (code >= 0) return code;
    if (!job.config || !job.results[IDS].path || !job.results[WEIGHTS].path)
        return command_fail(&job.usage, EXIT_USAGE,
                            "--config, --ids and --weights are required; see clmoe route --help");
    code = work(&job);
    array_free(&job.logits);
    array_free(&job.bias);
    free_results(job.results, N_OUTPUTS);
    return code >= 0 ? code : EXIT_OK;
}
