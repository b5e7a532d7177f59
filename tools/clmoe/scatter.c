/* SPDX-License-Identifier: MIT
 * clmoe scatter: values and their indices, as clmoe topk writes them, back into dense rows, or what they make
 * of the rows of another array. */
#include "files.h"
#include "session.h"

#include <string.h>

struct job {
    struct usage usage;
    const char *device, *x_path;
    const char *paths[2]; /* values (NULL: none), indices */
    bool bf16;
    int64_t n; /* -1: not given */
    int mode;  /* enum clmoe_scatter_mode */
    double fill, scale;
    struct array values, indices, x;
    struct result result;
};

static bool folds(const struct job *job) {
    return job->mode == CLMOE_SCATTER_ADD || job->mode == CLMOE_SCATTER_MULTIPLY;
}

/* ---- input ---- */

/* Indices of 64 bits stay so, others become i32. None may be past the end: the library would skip it without
 * a word, and in a file it is a mistake. Negative ones are skipped by convention. */
static int read_indices(struct job *job) {
    struct io_error error;
    struct array integers = {0};
    const char *const path = job->paths[1];
    int code = read_input(&job->usage, path, false, &integers);
    if (code < 0 && integers.dtype == ARRAY_I64) {
        job->indices = integers;
        integers = (struct array){0};
    } else if (code < 0 && !array_to_i32(path, &integers, &job->indices, &error)) {
        code = command_fail(&job->usage, EXIT_USAGE, "%s", error.text);
    }
    array_free(&integers);
    if (code < 0 && job->indices.ndim == 0)
        code = command_fail(&job->usage, EXIT_USAGE, "%s: a single number, expected rows", path);
    return code;
}

static int check_range(const struct job *job) {
    const struct array *const a = &job->indices;
    for (int64_t e = 0; e < array_count(a); e++) {
        const int64_t index =
            a->dtype == ARRAY_I64 ? ((const int64_t *)a->data)[e] : ((const int32_t *)a->data)[e];
        if (index >= job->n)
            return command_fail(&job->usage, EXIT_USAGE,
                                "%s: element %lld is %lld, but rows get %lld elements", job->paths[1],
                                (long long)e, (long long)index, (long long)job->n);
    }
    return -1;
}

/* The same shape, but for the last dimension if `rows_only`. */
static int check_shapes(const struct job *job, const char *path, const struct array *a, bool rows_only) {
    const struct array *const i = &job->indices;
    bool same = a->ndim == i->ndim;
    for (int d = 0; same && d < a->ndim - rows_only; d++)
        same = a->shape[d] == i->shape[d];
    if (same) return -1;
    return command_fail(&job->usage, EXIT_USAGE, "%s has shape %s, but %s has shape %s", path,
                        array_shape_text(a->ndim, a->shape).text, job->paths[1],
                        array_shape_text(i->ndim, i->shape).text);
}

static int read_all(struct job *job) {
    int code = read_indices(job);
    if (code < 0 && job->paths[0])
        code = session_read_rows(&job->usage, job->paths[0], job->bf16, &job->values);
    if (code < 0 && job->paths[0]) code = check_shapes(job, job->paths[0], &job->values, false);
    if (code < 0 && job->x_path) code = session_read_rows(&job->usage, job->x_path, job->bf16, &job->x);
    if (code < 0 && job->x_path) code = check_shapes(job, job->x_path, &job->x, true);
    if (code >= 0) return code;
    if (job->x_path) job->n = job->x.shape[job->x.ndim - 1];
    if (job->n < 1) return command_fail(&job->usage, EXIT_USAGE, "%s: rows of 0 elements", job->x_path);
    if (job->x_path && job->paths[0] && job->x.dtype != job->values.dtype)
        return command_fail(&job->usage, EXIT_USAGE, "%s holds %s, but %s holds %s", job->x_path,
                            array_dtype_name(job->x.dtype), job->paths[0],
                            array_dtype_name(job->values.dtype));
    return check_range(job);
}

/* ---- work ---- */

static int set_params(const struct job *job, struct clmoe_scatter_params *p) {
    const struct array *const like = job->x_path ? &job->x : &job->values;
    const struct array indices = flat_rows(&job->indices);
    *p = (struct clmoe_scatter_params){.max_rows = indices.shape[0],
                                       .n = job->n,
                                       .k = indices.shape[1],
                                       .mode = (enum clmoe_scatter_mode)job->mode,
                                       .from_x = folds(job),
                                       .no_values = folds(job) && !job->paths[0]};
    session_dtype(like->dtype, &p->dtype);
    session_dtype(indices.dtype, &p->index_dtype);
    const int code =
        folds(job) ? -1 : session_scalar(&job->usage, "--fill", like->dtype, job->fill, &p->fill);
    return code < 0 ? option_factor(&job->usage, "--scale", job->scale, &p->scale) : code;
}

static int upload(struct session *s, const struct array *array, struct clmoe_tensor *tensor) {
    const struct array rows = flat_rows(array);
    return session_upload(s, &rows, tensor);
}

static int run(struct session *s, struct job *job) {
    struct clmoe_scatter_params p;
    struct clmoe_scatter_args args = {0};
    clmoe_plan *plan = NULL;
    int code = set_params(job, &p);
    const int64_t shape[] = {p.max_rows, p.n};
    if (code < 0) code = upload(s, &job->indices, &args.indices);
    if (code < 0 && job->paths[0]) code = upload(s, &job->values, &args.values);
    if (code < 0 && job->x_path) code = upload(s, &job->x, &args.x);
    if (code < 0) code = session_buffer(s, p.dtype, 2, shape, &args.y);
    if (code < 0) {
        enum clmoe_status status = clmoe_scatter_plan(s->ctx, &p, &plan);
        if (status == CLMOE_OK) status = clmoe_scatter_enqueue(plan, s->queue, &args, 0, NULL, NULL);
        code = status == CLMOE_OK ? session_download(s, &args.y, &job->result.array)
                                  : session_fail(s, status, "scatter");
    }
    if (code < 0) shape_like(&job->result.array, &job->indices);
    clmoe_plan_destroy(&plan);
    session_release(&args.values);
    session_release(&args.indices);
    session_release(&args.x);
    session_release(&args.y);
    return code;
}

static int work(struct job *job) {
    struct session s;
    int code = read_all(job);
    if (code < 0) code = check_results(&job->usage, &job->result, 1);
    if (code < 0) code = session_open(&s, &job->usage, job->device);
    if (code >= 0) return code;
    code = run(&s, job);
    session_close(&s);
    return code >= 0 ? code : write_results(&job->usage, &job->result, 1);
}

/* ---- options ---- */

/* Which operands and options belong to the mode. A single operand is the indices. */
static int check_usage(struct job *job, bool fill_given) {
    const struct usage *const u = &job->usage;
    const bool set = job->mode == CLMOE_SCATTER_SET, mask = job->mode == CLMOE_SCATTER_MASK;
    if (!job->paths[1]) {
        job->paths[1] = job->paths[0];
        job->paths[0] = NULL;
    }
    if (set && !job->paths[0])
        return command_fail(u, EXIT_USAGE, "expected VALUES.npy INDICES.npy; see clmoe scatter --help");
    if (mask && job->paths[0])
        return command_fail(u, EXIT_USAGE, "--mode mask takes INDICES.npy alone: what it keeps is in -x");
    if (set && job->n < 0) return command_fail(u, EXIT_USAGE, "-n is required; see clmoe scatter --help");
    if (!set && job->n >= 0) return command_fail(u, EXIT_USAGE, "-n belongs to --mode set; -x has its own");
    if (set && job->x_path) return command_fail(u, EXIT_USAGE, "-x belongs to --mode mask, add and multiply");
    if (!set && !job->x_path) return command_fail(u, EXIT_USAGE, "-x is required; see clmoe scatter --help");
    if (folds(job) && fill_given) return command_fail(u, EXIT_USAGE, "--fill belongs to --mode set and mask");
    if (!job->result.path) return command_fail(u, EXIT_USAGE, "--out is required; see clmoe scatter --help");
    return -1;
}

int command_scatter(int argc, char **argv) {
    struct job job = {.n = -1, .scale = 1, .result = {.option = "--out"}};
    const struct option_row options[] = {
        {"mode", OPTION_CHOICE, &job.mode, 0, 0, "set|mask|add|multiply", "set by default"},
        {"n", OPTION_INT, &job.n, 1, INT32_MAX, NULL, "N  set: elements of a row to make (required)"},
        {"x", OPTION_TEXT, &job.x_path, 0, 0, NULL, "F  mask, add, multiply: the rows [..., N] (required)"},
        {"out", OPTION_TEXT, &job.result.path, 0, 0, NULL, "F  write [..., N] (required)"},
        {"fill", OPTION_NUMBER, &job.fill, 0, 1, NULL, "V  set, mask: where no index points, default 0"},
        {"scale", OPTION_NUMBER, &job.scale, 0, 0, NULL, "S  factor on the values, default 1"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy values (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "scatter",
        .summary =
            "Puts values [..., k] at their indices [..., k] of rows of N elements: set them on a row of V; "
            "or add them\nto x, or multiply x by them (1 without VALUES). mask keeps what the indices name "
            "of x, with V for the rest.\nA negative index is skipped; when one repeats in a row, set and "
            "mask "
            "take the last, add and multiply all.",
        .operands = "[VALUES.npy] INDICES.npy",
        .min_operands = 1,
        .max_operands = 2,
        .example = "clmoe scatter v.npy i.npy -n 128 --fill -inf --out dense.npy",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int code = parse_options(&job.usage, argc, argv, job.paths);
    if (code < 0) code = check_usage(&job, job.fill != 0);
    if (code >= 0) return code;
    code = work(&job);
    array_free(&job.values);
    array_free(&job.indices);
    array_free(&job.x);
    free_results(&job.result, 1);
    return code >= 0 ? code : EXIT_OK;
}
