/* SPDX-License-Identifier: MIT
 * clmoe moe: the expert block of one layer of a model, from its checkpoint as it lies on the Hugging Face
 * hub: a folder, or a GGUF file. */
#include "files.h"
#include "io/gguf.h"
#include "layer.h"

#include <stdio.h>

enum { OUTPUT, IDS, WEIGHTS, N_OUTPUTS };

struct job {
    struct usage usage;
    const char *device, *model, *path, *options;
    bool bf16;
    int64_t layer;
    struct placement placement;
    struct description description;
    struct family family;
    struct array x;
    struct checkpoint checkpoint;
    struct block block;
    struct result results[N_OUTPUTS];
};

static int read_family(struct job *job) {
    char path[4096];
    struct io_error error;
    const char *const file = gguf_is_path(job->model) ? "" : "/config.json";
    const int length = snprintf(path, sizeof path, "%s%s", job->model, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return command_fail(&job->usage, EXIT_USAGE, "--model: the path is too long");
    if (description_open(path, job->options, job->layer, &job->description, &error) &&
        family_read(&job->description, &job->family, &error))
        return -1;
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

static int run(struct session *s, struct job *job) {
    const struct array x = flat_rows(&job->x);
    const bool routing = job->results[IDS].path || job->results[WEIGHTS].path;
    struct layer_results results;
    int code = layer_run(s, &job->family, &job->block, &job->placement, &x, routing, &results);
    job->results[OUTPUT].array = results.y;
    job->results[IDS].array = results.ids;
    job->results[WEIGHTS].array = results.weights;
    for (int i = 0; i < (routing ? N_OUTPUTS : 1) && code < 0; i++)
        shape_like(&job->results[i].array, &job->x);
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
        {"model", OPTION_TEXT, &job.model, 0, 0, NULL,
         "DIR|FILE.gguf  DIR has config.json and safetensors (required)"},
        {"layer", OPTION_INT, &job.layer, 0, INT32_MAX, NULL, "L  which layer, from 0 (required)"},
        {"input", OPTION_TEXT, &job.path, 0, 0, NULL, "F  [T, H] or [B, T, H], f32, f16 or bf16 (required)"},
        {"output", OPTION_TEXT, &job.results[OUTPUT].path, 0, 0, NULL, "F  write the same shape (required)"},
        {"ids", OPTION_TEXT, &job.results[IDS].path, 0, 0, NULL, "F  write [..., k] i32: the experts"},
        {"weights", OPTION_TEXT, &job.results[WEIGHTS].path, 0, 0, NULL,
         "F  write [..., k] f32: their weights"},
        {"experts-per-buffer", OPTION_INT, &job.placement.per_buffer, 1, 4096, NULL,
         "N  at most; default: as many as the device allows"},
        {"device-budget", OPTION_INT, &job.placement.budget, 1, INT64_MAX, NULL,
         "BYTES  for the experts on the device, which take turns there; default: all of them at once"},
        {"options", OPTION_TEXT, &job.options, 0, 0, NULL, "FILE  describes the model's family, see below"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy elements (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "moe",
        .summary =
            "Runs the expert block of one layer: router, experts, shared experts, weighted sum; "
            "without norm and residual.\n"
            "The input's type is that of the activations. Weights stay in theirs: floats, blocks of GGUF "
            "files,\nMXFP4, fp8 and four bits of AWQ and GPTQ with scales. GPTQ's act-order becomes f16.",
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
    if (job.placement.per_buffer && job.placement.budget)
        return command_fail(&job.usage, EXIT_USAGE,
                            "--experts-per-buffer and --device-budget cannot both be given");
    code = work(&job);
    block_free(&job.block);
    checkpoint_close(&job.checkpoint);
    description_close(&job.description);
    array_free(&job.x);
    free_results(job.results, N_OUTPUTS);
    return code >= 0 ? code : EXIT_OK;
}
