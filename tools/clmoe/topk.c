/* SPDX-License-Identifier: MIT
 * clmoe topk: the k largest of each row of an array, in any of the forms that the library makes. */
#include "files.h"
#include "session.h"

#include <stdio.h>

/* In the order of the bits of enum clmoe_topk_output. */
enum { VALUES, INDICES, MASK, BITMASK, DENSE, N_OUTPUTS };

#define SHOWN_ROWS 10
#define SHOWN_SLOTS 6

struct job {
    struct usage usage;
    const char *device, *path;
    bool bf16, smallest;
    int64_t k;
    int order, nan;
    double fill, scale;
    struct array x;
    struct result results[N_OUTPUTS];
};

static int64_t output_columns(int output, const struct clmoe_topk_params *p) {
    if (output == BITMASK) return (p->n + 31) / 32;
    return output == MASK || output == DENSE ? p->n : p->k;
}

static enum clmoe_dtype output_dtype(int output, const struct clmoe_topk_params *p) {
    switch (output) {
    case INDICES: return CLMOE_I32;
    case MASK: return CLMOE_U8;
    case BITMASK: return CLMOE_U32;
    default: return p->dtype;
    }
}

static int prepare(struct job *job, struct clmoe_topk_params *p) {
    const struct array rows = flat_rows(&job->x);
    if (job->k > rows.shape[1])
        return command_fail(&job->usage, EXIT_USAGE, "%s: k = %lld, but rows have %lld elements", job->path,
                            (long long)job->k, (long long)rows.shape[1]);
    if (rows.shape[1] < 1 || rows.shape[1] > INT32_MAX)
        return command_fail(&job->usage, EXIT_USAGE, "%s: rows of %lld elements, expected 1..%d", job->path,
                            (long long)rows.shape[1], INT32_MAX);
    if (!job->results[DENSE].path && (job->fill != 0 || job->scale != 1))
        return command_fail(&job->usage, EXIT_USAGE,
                            "--fill and --scale belong to --dense, which is not given");
    *p = (struct clmoe_topk_params){
        .max_rows = rows.shape[0],
        .n = rows.shape[1],
        .k = job->k,
        .smallest = job->smallest,
        .order = (enum clmoe_topk_order)job->order,
        .nan = (enum clmoe_nan)job->nan,
        .dense_fill.f = job->fill,
    };
    session_dtype(job->x.dtype, &p->dtype);
    for (int i = 0; i < N_OUTPUTS; i++)
        if (job->results[i].path) p->outputs |= 1u << i;
    if (!p->outputs) p->outputs = CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES;
    return option_factor(&job->usage, "--scale", job->scale, &p->dense_scale);
}

static int download(struct session *s, struct job *job, const struct clmoe_topk_params *p,
                    struct clmoe_tensor *const *tensors) {
    for (int i = 0; i < N_OUTPUTS; i++) {
        if (!(p->outputs & 1u << i)) continue;
        struct array *const array = &job->results[i].array;
        const int code = session_download(s, tensors[i], array);
        if (code >= 0) return code;
        shape_like(array, &job->x);
        /* So that numpy takes it as a mask and not as a list of the rows 0 and 1. */
        if (i == MASK) array->dtype = ARRAY_BOOL;
    }
    return -1;
}

static int run(struct session *s, struct job *job, const struct clmoe_topk_params *p) {
    struct clmoe_topk_args args = {0};
    struct clmoe_tensor *const tensors[] = {&args.values, &args.indices, &args.mask, &args.bitmask,
                                            &args.dense};
    const struct array rows = flat_rows(&job->x);
    clmoe_plan *plan = NULL;
    int code = session_upload(s, &rows, &args.x);
    for (int i = 0; i < N_OUTPUTS && code < 0; i++) {
        const int64_t shape[] = {p->max_rows, output_columns(i, p)};
        if (p->outputs & 1u << i) code = session_buffer(s, output_dtype(i, p), 2, shape, tensors[i]);
    }
    if (code < 0) {
        enum clmoe_status status = clmoe_topk_plan(s->ctx, p, &plan);
        if (status == CLMOE_OK) status = clmoe_topk_enqueue(plan, s->queue, &args, 0, NULL, NULL);
        code = status == CLMOE_OK ? download(s, job, p, tensors) : session_fail(s, status, "topk");
    }
    clmoe_plan_destroy(&plan);
    session_release(&args.x);
    for (int i = 0; i < N_OUTPUTS; i++)
        session_release(tensors[i]);
    return code;
}

/* "[2,0]": the leading indices of a row. */
static void print_row_name(const struct array *x, int64_t row) {
    int64_t index[ARRAY_MAX_DIMS] = {0};
    char name[128] = "[";
    size_t used = 1;
    for (int d = x->ndim - 2; d >= 0; d--) {
        index[d] = row % x->shape[d];
        row /= x->shape[d];
    }
    for (int d = 0; d < x->ndim - 1; d++)
        used +=
            (size_t)snprintf(name + used, sizeof name - used, "%s%lld", d ? "," : "", (long long)index[d]);
    printf("%s]", name);
}

/* One line a row: "[0] 3.5 @17  2.25 @4": values and where they are. */
static int print_table(const struct job *job) {
    struct array values;
    struct io_error error;
    if (!array_to_f32(job->path, &job->results[VALUES].array, &values, &error))
        return command_fail(&job->usage, EXIT_FAILED, "%s", error.text);
    const struct array rows = flat_rows(&job->x);
    const int32_t *const indices = job->results[INDICES].array.data;
    printf("%s %s %s: the %lld %s of each row, value @index\n", job->path, array_dtype_name(job->x.dtype),
           array_shape_text(job->x.ndim, job->x.shape).text, (long long)job->k,
           job->smallest ? "smallest" : "largest");
    for (int64_t r = 0; r < rows.shape[0] && r < SHOWN_ROWS; r++) {
        print_row_name(&job->x, r);
        for (int64_t j = 0; j < job->k && j < SHOWN_SLOTS; j++)
            printf("  %.6g @%d", (double)((const float *)values.data)[r * job->k + j],
                   (int)indices[r * job->k + j]);
        printf(job->k > SHOWN_SLOTS ? "  ... %lld more\n" : "\n", (long long)job->k - SHOWN_SLOTS);
    }
    if (rows.shape[0] > SHOWN_ROWS) printf("... %lld more rows\n", (long long)(rows.shape[0] - SHOWN_ROWS));
    array_free(&values);
    return -1;
}

static int work(struct job *job) {
    struct clmoe_topk_params params;
    struct session s;
    bool to_file = false;
    for (int i = 0; i < N_OUTPUTS; i++)
        to_file |= job->results[i].path != NULL;
    int code = read_rows(&job->usage, job->path, job->bf16, &job->x);
    if (code < 0) code = prepare(job, &params);
    if (code < 0) code = check_results(&job->usage, job->results, N_OUTPUTS);
    if (code < 0) code = session_open(&s, &job->usage, job->device);
    if (code >= 0) return code;
    code = run(&s, job, &params);
    session_close(&s);
    if (code >= 0) return code;
    return to_file ? write_results(&job->usage, job->results, N_OUTPUTS) : print_table(job);
}

int command_topk(int argc, char **argv) {
    struct job job = {
        .k = -1,
        .scale = 1,
        .results = {{.option = "--values"},
                    {.option = "--indices"},
                    {.option = "--mask"},
                    {.option = "--bitmask"},
                    {.option = "--dense"}},
    };
    const struct option_row options[] = {
        {"k", OPTION_INT, &job.k, 0, INT32_MAX, NULL, "K  how many of each row (required)"},
        {"smallest", OPTION_FLAG, &job.smallest, 0, 0, NULL, "the smallest, not the largest"},
        {"order", OPTION_CHOICE, &job.order, 0, 0, "sorted|index|any", "sorted: best first (default)"},
        {"nan", OPTION_CHOICE, &job.nan, 0, 0, "greatest|lowest", "where NaN ranks (default: greatest)"},
        {"values", OPTION_TEXT, &job.results[VALUES].path, 0, 0, NULL, "F  write [..., k]"},
        {"indices", OPTION_TEXT, &job.results[INDICES].path, 0, 0, NULL, "F  write [..., k] i32"},
        {"mask", OPTION_TEXT, &job.results[MASK].path, 0, 0, NULL, "F  write [..., n] bool"},
        {"bitmask", OPTION_TEXT, &job.results[BITMASK].path, 0, 0, NULL,
         "F  write [..., n/32] u32, element i is bit i%32 of word i/32"},
        {"dense", OPTION_TEXT, &job.results[DENSE].path, 0, 0, NULL,
         "F  write [..., n]: x where selected, else the fill"},
        {"fill", OPTION_NUMBER, &job.fill, 0, 1, NULL, "V  of --dense, default 0"},
        {"scale", OPTION_NUMBER, &job.scale, 0, 0, NULL, "S  of the selected in --dense, default 1"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy elements (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "topk",
        .summary = "Finds the k largest elements of each row (along the last dimension) of an f32, f16 or "
                   "bf16 array.\nEqual ones: the lowest index wins. Without an output it prints the first "
                   "rows.",
        .operands = "X.npy",
        .min_operands = 1,
        .max_operands = 1,
        .example = "clmoe topk logits.npy -k 8 --values v.npy --indices i.npy",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int code = parse_options(&job.usage, argc, argv, &job.path);
    if (code >= 0) return code;
    if (job.k < 0) return command_fail(&job.usage, EXIT_USAGE, "-k is required; see clmoe topk --help");
    code = work(&job);
    free_results(job.results, N_OUTPUTS);
    array_free(&job.x);
    return code >= 0 ? code : EXIT_OK;
}
