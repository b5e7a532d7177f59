/* SPDX-License-Identifier: MIT
 * clmoe topk: the k largest of each row of an array, in any of the forms that the library makes. */
#include "files.h"
#include "session.h"

#include <stdio.h>
#include <string.h>

/* The first seven in the order of the bits of enum clmoe_topk_output; cut belongs to threshold. */
enum { VALUES, INDICES, MASK, BITMASK, DENSE, THRESHOLD, COUNTS, CUT, N_OUTPUTS };

#define SHOWN_ROWS 10
#define SHOWN_SLOTS 6

struct job {
    struct usage usage;
    const char *device, *path;
    bool bf16, smallest, pad;
    int64_t k, axis;
    int order, nan, ties, wide;
    double fill, scale, pad_value;
    struct array x;
    int64_t outer, inner; /* x is [outer, n, inner] */
    struct result results[N_OUTPUTS];
};

static int output_dims(int output, const struct job *job, const struct clmoe_topk_params *p, int64_t *shape) {
    const bool of_rows = output == THRESHOLD || output == CUT;
    const int64_t n = p->n, columns[] = {p->k, p->k, n, (n + 31) / 32, n};
    shape[0] = of_rows ? p->max_rows : output == COUNTS ? n : job->outer;
    shape[1] = of_rows || output == COUNTS ? 0 : columns[output];
    shape[2] = of_rows || output == COUNTS ? 0 : job->inner;
    return of_rows || output == COUNTS ? 1 : 3;
}

static enum clmoe_dtype output_dtype(int output, const struct clmoe_topk_params *p) {
    switch (output) {
    case INDICES:
    case CUT: return p->index_dtype;
    case MASK: return CLMOE_U8;
    case BITMASK:
    case COUNTS: return CLMOE_U32;
    default: return p->dtype;
    }
}

/* Finds the axis and what lies around it. */
static int split_dims(struct job *job, int64_t *n) {
    const struct array *const x = &job->x;
    if (job->axis >= x->ndim || job->axis < -x->ndim)
        return command_fail(&job->usage, EXIT_USAGE, "%s: no axis %lld in %d dimensions", job->path,
                            (long long)job->axis, x->ndim);
    if (job->axis < 0) job->axis += x->ndim;
    *n = x->shape[job->axis];
    array_shape_count((int)job->axis, x->shape, &job->outer);
    array_shape_count(x->ndim - 1 - (int)job->axis, x->shape + job->axis + 1, &job->inner);
    if (*n < 1 || *n > (int64_t)1 << 31)
        return command_fail(&job->usage, EXIT_USAGE, "%s: rows of %lld elements, expected 1..2147483648",
                            job->path, (long long)*n);
    if (job->k > *n && !job->pad)
        return command_fail(&job->usage, EXIT_USAGE,
                            "%s: k = %lld, but rows have %lld elements; --pad allows it", job->path,
                            (long long)job->k, (long long)*n);
    return -1;
}

static int check_options(const struct job *job) {
    if (!job->results[DENSE].path && (job->fill != 0 || job->scale != 1))
        return command_fail(&job->usage, EXIT_USAGE,
                            "--fill and --scale belong to --dense, which is not given");
    if (!job->pad && job->pad_value != 0)
        return command_fail(&job->usage, EXIT_USAGE, "--pad-value belongs to --pad, which is not given");
    if (job->scale != 1 && (array_dtype_is_integer(job->x.dtype) || job->x.dtype == ARRAY_F64))
        return command_fail(&job->usage, EXIT_USAGE, "--scale: %s is not scaled, only f32, f16 and bf16",
                            array_dtype_name(job->x.dtype));
    return -1;
}

static int prepare(struct job *job, struct clmoe_topk_params *p) {
    int64_t n = 0;
    int code = split_dims(job, &n);
    if (code < 0) code = check_options(job);
    if (code >= 0) return code;
    *p = (struct clmoe_topk_params){
        .max_rows = job->outer * job->inner,
        .n = n,
        .k = job->k,
        .smallest = job->smallest,
        .order = (enum clmoe_topk_order)job->order,
        .nan = (enum clmoe_nan)job->nan,
        .ties = (enum clmoe_ties)job->ties,
        .index_dtype = job->wide ? CLMOE_I64 : CLMOE_I32,
        .pad = job->pad,
    };
    session_dtype(job->x.dtype, &p->dtype);
    for (int i = 0; i <= COUNTS; i++)
        if (job->results[i].path) p->outputs |= 1u << i;
    if (job->results[CUT].path) p->outputs |= CLMOE_TOPK_THRESHOLD;
    if (!p->outputs) p->outputs = CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES;
    code = session_scalar(&job->usage, "--fill", job->x.dtype, job->fill, &p->dense_fill);
    if (code < 0)
        code = session_scalar(&job->usage, "--pad-value", job->x.dtype, job->pad_value, &p->pad_value);
    return code >= 0 ? code : option_factor(&job->usage, "--scale", job->scale, &p->dense_scale);
}

/* Whether the plan is made for it. */
static bool wanted(int output, const struct clmoe_topk_params *p) {
    return p->outputs & (output == CUT ? CLMOE_TOPK_THRESHOLD : 1u << output);
}

/* The dimensions of x, that of the axis as in the result, or without it. */
static void restore_dims(struct array *result, const struct job *job) {
    const int64_t columns = result->shape[1];
    const bool of_rows = result->ndim == 1;
    memcpy(result->shape, job->x.shape, sizeof result->shape);
    result->ndim = job->x.ndim - of_rows;
    if (of_rows)
        memmove(result->shape + job->axis, result->shape + job->axis + 1,
                (size_t)(ARRAY_MAX_DIMS - 1 - job->axis) * sizeof *result->shape);
    else
        result->shape[job->axis] = columns;
}

static int download(struct session *s, struct job *job, const struct clmoe_topk_params *p,
                    struct clmoe_tensor *const *tensors) {
    for (int i = 0; i < N_OUTPUTS; i++) {
        if (!wanted(i, p)) continue;
        struct array *const array = &job->results[i].array;
        const int code = session_download(s, tensors[i], array);
        if (code >= 0) return code;
        if (i != COUNTS) restore_dims(array, job);
        /* So that numpy takes it as a mask and not as a list of the rows 0 and 1. */
        if (i == MASK) array->dtype = ARRAY_BOOL;
    }
    return -1;
}

static int run(struct session *s, struct job *job, const struct clmoe_topk_params *p) {
    struct clmoe_topk_args args = {0};
    struct clmoe_tensor *const tensors[] = {&args.values, &args.indices,   &args.mask,   &args.bitmask,
                                            &args.dense,  &args.threshold, &args.counts, &args.cut};
    struct array rows = job->x;
    rows.memory = ARRAY_BORROWED;
    rows.ndim = 3;
    rows.shape[0] = job->outer, rows.shape[1] = p->n, rows.shape[2] = job->inner;
    clmoe_plan *plan = NULL;
    int code = session_upload(s, &rows, &args.x);
    for (int i = 0; i < N_OUTPUTS && code < 0; i++) {
        int64_t shape[3];
        const int ndim = output_dims(i, job, p, shape);
        if (wanted(i, p)) code = session_buffer(s, output_dtype(i, p), ndim, shape, tensors[i]);
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

/* "[2,:,0]": the indices of a row; along the last axis "[2,0]". */
static void print_row_name(const struct job *job, int64_t row) {
    const struct array *const x = &job->x;
    int64_t index[ARRAY_MAX_DIMS] = {0};
    for (int d = x->ndim - 1; d >= 0; d--) {
        if (d == job->axis) continue;
        index[d] = row % x->shape[d];
        row /= x->shape[d];
    }
    const int shown = job->axis == x->ndim - 1 ? x->ndim - 1 : x->ndim;
    printf("[");
    for (int d = 0; d < shown; d++) {
        if (d == job->axis)
            printf("%s:", d ? "," : "");
        else
            printf("%s%lld", d ? "," : "", (long long)index[d]);
    }
    printf("]");
}

static void print_value(const struct array *values, const float *floats, int64_t i) {
    switch (values->dtype) {
    case ARRAY_F64: printf("  %.6g", ((const double *)values->data)[i]); break;
    case ARRAY_I32: printf("  %lld", (long long)((const int32_t *)values->data)[i]); break;
    case ARRAY_U32: printf("  %llu", (unsigned long long)((const uint32_t *)values->data)[i]); break;
    case ARRAY_I64: printf("  %lld", (long long)((const int64_t *)values->data)[i]); break;
    case ARRAY_U64: printf("  %llu", (unsigned long long)((const uint64_t *)values->data)[i]); break;
    default: printf("  %.6g", (double)floats[i]); break;
    }
}

/* One line a row: "[0] 3.5 @17  2.25 @4": values and where they are. */
static int print_table(const struct job *job) {
    const struct array *const values = &job->results[VALUES].array, *const ids = &job->results[INDICES].array;
    struct array floats;
    struct io_error error;
    if (!array_to_f32(job->path, values, &floats, &error))
        return command_fail(&job->usage, EXIT_FAILED, "%s", error.text);
    const int64_t rows = job->outer * job->inner;
    printf("%s %s %s: the %lld %s of each row, value @index\n", job->path, array_dtype_name(job->x.dtype),
           array_shape_text(job->x.ndim, job->x.shape).text, (long long)job->k,
           job->smallest ? "smallest" : "largest");
    for (int64_t r = 0; r < rows && r < SHOWN_ROWS; r++) {
        print_row_name(job, r);
        for (int64_t j = 0; j < job->k && j < SHOWN_SLOTS; j++) {
            const int64_t at = (r / job->inner * job->k + j) * job->inner + r % job->inner;
            print_value(values, floats.data, at);
            printf(" @%lld", (long long)(job->wide ? ((const int64_t *)ids->data)[at]
                                                   : ((const int32_t *)ids->data)[at]));
        }
        printf(job->k > SHOWN_SLOTS ? "  ... %lld more\n" : "\n", (long long)job->k - SHOWN_SLOTS);
    }
    if (rows > SHOWN_ROWS) printf("... %lld more rows\n", (long long)(rows - SHOWN_ROWS));
    array_free(&floats);
    return -1;
}

static int work(struct job *job) {
    struct clmoe_topk_params params;
    struct session s;
    bool to_file = false;
    for (int i = 0; i < N_OUTPUTS; i++)
        to_file |= job->results[i].path != NULL;
    int code = session_read_rows(&job->usage, job->path, job->bf16, &job->x);
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
        .axis = -1,
        .scale = 1,
        .results = {{.option = "--values"},
                    {.option = "--indices"},
                    {.option = "--mask"},
                    {.option = "--bitmask"},
                    {.option = "--dense"},
                    {.option = "--threshold"},
                    {.option = "--counts"},
                    {.option = "--cut"}},
    };
    const struct option_row options[] = {
        {"k", OPTION_INT, &job.k, 0, (int64_t)1 << 31, NULL, "K  how many of each row (required)"},
        {"axis", OPTION_INT, &job.axis, -ARRAY_MAX_DIMS, ARRAY_MAX_DIMS - 1, NULL,
         "A  along which rows lie; -1 (default) is the last"},
        {"smallest", OPTION_FLAG, &job.smallest, 0, 0, NULL, "the smallest, not the largest"},
        {"order", OPTION_CHOICE, &job.order, 0, 0, "sorted|index|any", "sorted: best first (default)"},
        {"nan", OPTION_CHOICE, &job.nan, 0, 0, "greatest|lowest|total",
         "where NaN ranks (default: greatest); total: the order of IEEE 754, -0 < +0"},
        {"ties", OPTION_CHOICE, &job.ties, 0, 0, "lowest|highest",
         "which index of equal ones wins (default: lowest)"},
        {"pad", OPTION_FLAG, &job.pad, 0, 0, NULL,
         "K may be larger than rows: index -1 in slots that stay free"},
        {"pad-value", OPTION_NUMBER, &job.pad_value, 0, 1, NULL, "V  value of these, default 0"},
        {"index-dtype", OPTION_CHOICE, &job.wide, 0, 0, "i32|i64", "of --indices and --cut"},
        {"values", OPTION_TEXT, &job.results[VALUES].path, 0, 0, NULL,
         "F  write [..., k]: k where the axis was"},
        {"indices", OPTION_TEXT, &job.results[INDICES].path, 0, 0, NULL, "F  write [..., k]"},
        {"mask", OPTION_TEXT, &job.results[MASK].path, 0, 0, NULL, "F  write [..., n] bool"},
        {"bitmask", OPTION_TEXT, &job.results[BITMASK].path, 0, 0, NULL,
         "F  write [..., n/32] u32, element i is bit i%32 of word i/32"},
        {"dense", OPTION_TEXT, &job.results[DENSE].path, 0, 0, NULL,
         "F  write [..., n]: x where selected, else the fill"},
        {"threshold", OPTION_TEXT, &job.results[THRESHOLD].path, 0, 0, NULL,
         "F  write [...]: of each row the last value selected"},
        {"cut", OPTION_TEXT, &job.results[CUT].path, 0, 0, NULL, "F  write [...]: its index"},
        {"counts", OPTION_TEXT, &job.results[COUNTS].path, 0, 0, NULL,
         "F  write [n] u32: how many rows select each element"},
        {"fill", OPTION_NUMBER, &job.fill, 0, 1, NULL, "V  of --dense, default 0"},
        {"scale", OPTION_NUMBER, &job.scale, 0, 0, NULL, "S  of the selected in --dense, default 1"},
        {"bf16", OPTION_FLAG, &job.bf16, 0, 0, NULL, "two-byte npy elements (<V2, <u2) are bf16"},
        DEVICE_OPTION(job.device),
    };
    job.usage = (struct usage){
        .name = "topk",
        .summary =
            "Finds the k largest elements of each row (along the last dimension, or --axis) of an array "
            "of\nfloats or integers. Equal ones: the lowest index wins. Without an output it prints the "
            "first rows.",
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
