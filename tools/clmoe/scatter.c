/* SPDX-License-Identifier: MIT
 * clmoe scatter: values and their indices, as clmoe topk writes them, back into dense rows. */
#include "files.h"
#include "session.h"

#include <string.h>

struct job {
    struct usage usage;
    const char *device, *paths[2]; /* values, indices */
    bool bf16;
    int64_t n;
    double fill, scale;
    struct array values, indices;
    struct result result;
};

/* Both arrays of one shape, and no index past the end: the library would skip it without a word, and in a
 * file it is a mistake. Negative ones are skipped by convention. */
static int read_pair(struct job *job) {
    struct io_error error;
    struct array integers = {0};
    int code = read_rows(&job->usage, job->paths[0], job->bf16, &job->values);
    if (code < 0) code = read_input(&job->usage, job->paths[1], false, &integers);
    if (code < 0 && !array_to_i32(job->paths[1], &integers, &job->indices, &error))
        code = command_fail(&job->usage, EXIT_USAGE, "%s", error.text);
    array_free(&integers);
    if (code >= 0) return code;
    const struct array *const v = &job->values, *const i = &job->indices;
    if (v->ndim != i->ndim || memcmp(v->shape, i->shape, sizeof v->shape) != 0)
        return command_fail(&job->usage, EXIT_USAGE, "%s has shape %s, but %s has shape %s", job->paths[0],
                            array_shape_text(v->ndim, v->shape).text, job->paths[1],
                            array_shape_text(i->ndim, i->shape).text);
    const int32_t *const index = i->data;
    for (int64_t e = 0; e < array_count(i); e++)
        if (index[e] >= job->n)
            return command_fail(&job->usage, EXIT_USAGE, "%s: element %lld is %d, but rows get %lld elements",
                                job->paths[1], (long long)e, (int)index[e], (long long)job->n);
    return -1;
}

static int run(struct session *s, struct job *job) {
    const struct array values = flat_rows(&job->values), indices = flat_rows(&job->indices);
    const int64_t shape[] = {values.shape[0], job->n};
    struct clmoe_scatter_params p = {.max_rows = shape[0],
                                     .n = job->n,
                                     .k = values.shape[1],
                                     .mode = CLMOE_SCATTER_SET,
                                     .fill.f = job->fill};
    struct clmoe_scatter_args args = {0};
    clmoe_plan *plan = NULL;
    int code = option_factor(&job->usage, "--scale", job->scale, &p.scale);
    session_dtype(values.dtype, &p.dtype);
    if (code < 0) code = session_upload(s, &values, &args.values);
    if (code < 0) code = session_upload(s, &indices, &args.indices);
    if (code < 0) code = session_buffer(s, p.dtype, 2, shape, &args.y);
    if (code < 0) {
        enum clmoe_status status = clmoe_scatter_plan(s->ctx, &p, &plan);
        if (status == CLMOE_OK) status = clmoe_scatter_enqueue(plan, s->queue, &args, 0, NULL, NULL);
        code = status == CLMOE_OK ? session_download(s, &args.y, &job->result.array)
                                  : session_fail(s, status, "scatter");
    }
    if (code < 0) shape_like(&job->result.array, &job->values);
    clmoe_plan_destroy(&plan);
    session_release(&args.values);
    session_release(&args.indices);
    session_release(&args.y);
    return code;
}

static int work(struct job *job) {
    struct session s;
    int code = read_pair(job);
    if (code < 0) code = check_results(&job->usage, &job->result, 1);
    if (code < 0) code = session_open(&s, &job->usage, job->device);
    if (code >= 0) return code;
    code = run(&s, job);
    session_close(&s);
    return code >= 0 ? code : write_results(&job->usage, &job->result, 1);
}

int command_scatter(int argc, char **argv) {
    struct job job = {.n = -1, .scale = 1, .result = {.option = "--out"}};
    const struct option_row options[] = {
        {"n", OPTION_INT, &job.n, 1, INT32_MAX, NULL, "N  elements of a row to make (required)"},
        {"out", OPTION_TEXT, &job.result.path, 0, 0, NULL, "F  write [..., N] (required)"},
        {"fill", OPTION_NUMBER, &job.fill, 0, 1, NULL, "V  where no index points, default 0"},
        {"scale", OPTION_NUMBER, &job.scale, 0, 0, NULL, "S  factor on the values, default 1"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy values (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "scatter",
        .summary =
            "Puts values [..., k] at their indices [..., k] of rows of N elements. A negative index is "
            "skipped;\nwhen one repeats in a row, the last value stays.",
        .operands = "VALUES.npy INDICES.npy",
        .min_operands = 2,
        .max_operands = 2,
        .example = "clmoe scatter v.npy i.npy -n 128 --fill -inf --out dense.npy",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int code = parse_options(&job.usage, argc, argv, job.paths);
    if (code >= 0) return code;
    if (job.n < 0) return command_fail(&job.usage, EXIT_USAGE, "-n is required; see clmoe scatter --help");
    if (!job.result.path)
        return command_fail(&job.usage, EXIT_USAGE, "--out is required; see clmoe scatter --help");
    code = work(&job);
    array_free(&job.values);
    array_free(&job.indices);
    free_results(&job.result, 1);
    return code >= 0 ? code : EXIT_OK;
}
