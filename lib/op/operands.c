/* SPDX-License-Identifier: MIT */
#include "operands.h"

#include <assert.h>
#include <string.h>

#define MAX_OPERANDS 24

bool product_fits(int64_t a, int64_t b, int64_t limit) {
    return b == 0 || a <= limit / b;
}

enum clmoe_status plan_check_create(const clmoe_context *ctx, const void *params, clmoe_plan **plan) {
    if (!plan) return CLMOE_E_INVALID;
    *plan = NULL;
    if (!ctx) return CLMOE_E_INVALID;
    REQUIRE(&ctx->log, params != NULL, "params is NULL");
    return CLMOE_OK;
}

enum clmoe_status scale_check(const struct log *log, const char *name, const struct clmoe_w_scale *scale) {
    REQUIRE(log, dtype_is_float(scale->dtype) || scale->dtype == CLMOE_U8, "%s.dtype = %d", name,
            (int)scale->dtype);
    REQUIRE(log, scale->rows >= 0, "%s.rows = %lld", name, (long long)scale->rows);
    REQUIRE(log,
            scale->columns == 0 || (scale->columns >= 16 && (scale->columns & (scale->columns - 1)) == 0),
            "%s.columns = %lld", name, (long long)scale->columns);
    return CLMOE_OK;
}

enum clmoe_status operand_rows(const clmoe_plan *plan, const char *name, const struct clmoe_tensor *tensor,
                               int64_t max, int64_t *rows) {
    const struct log *const log = &plan->ctx->log;
    REQUIRE(log, tensor->ndim >= 1 && tensor->ndim <= CLMOE_MAX_DIMS, "%s.ndim = %d", name,
            (int)tensor->ndim);
    *rows = tensor->shape[0];
    REQUIRE(log, *rows >= 0 && *rows <= max, "%s has %lld rows, the plan is for at most %lld", name,
            (long long)*rows, (long long)max);
    return CLMOE_OK;
}

enum clmoe_status operand_axis(const clmoe_plan *plan, const char *name, const struct clmoe_tensor *t,
                               int64_t max, int64_t *outer, int64_t *inner) {
    const struct log *const log = &plan->ctx->log;
    REQUIRE(log, t->ndim == 2 || t->ndim == 3, "%s.ndim = %d, expected 2 or 3", name, (int)t->ndim);
    *outer = t->shape[0];
    *inner = t->ndim == 3 ? t->shape[2] : 1;
    REQUIRE(log, *outer >= 0 && *inner >= 0, "%s.shape = [%lld, .., %lld]", name, (long long)*outer,
            (long long)*inner);
    REQUIRE(log, t->ndim == 3 || *outer <= max, "%s has %lld rows, the plan is for at most %lld", name,
            (long long)*outer, (long long)max);
    REQUIRE(log, product_fits(*outer, *inner, max), "%s has %lld * %lld rows, the plan is for at most %lld",
            name, (long long)*outer, (long long)*inner, (long long)max);
    return CLMOE_OK;
}

struct operand_rule operand_rows_of(const struct clmoe_tensor *like, const char *name,
                                    const struct clmoe_tensor *tensor, struct operand *out, bool wanted,
                                    enum clmoe_dtype dtype, int64_t columns) {
    return (struct operand_rule){.name = name,
                                 .tensor = tensor,
                                 .out = out,
                                 .use = USE_READ,
                                 .wanted = wanted,
                                 .dtype = dtype,
                                 .ndim = like->ndim,
                                 .shape = {like->shape[0], columns, like->ndim == 3 ? like->shape[2] : 0},
                                 .any_step = true};
}

static bool all_zero(const struct clmoe_tensor *t) {
    for (int d = 0; d < t->ndim; d++)
        if (t->stride[d] != 0) return false;
    return true;
}

/* No two elements of an output share memory: in the order of their strides, the smallest first, each
 * dimension must step past all that the ones before it span. */
static enum clmoe_status check_apart(const struct log *log, const struct operand_rule *r,
                                     const struct operand *out) {
    bool done[CLMOE_MAX_DIMS] = {false};
    int64_t spanned = 0; /* by the dimensions that are done: the last element, the first being 0 */
    for (int i = 0; i < r->ndim; i++) {
        int next = -1;
        for (int d = 0; d < r->ndim; d++)
            if (!done[d] && (next < 0 || out->stride[d] <= out->stride[next])) next = d;
        done[next] = true;
        if (out->shape[next] <= 1) continue;
        REQUIRE(log, out->stride[next] > spanned, "%s.stride[%d] = %lld: rows of an output overlap", r->name,
                next, (long long)out->stride[next]);
        /* What does not fit does not fit into any buffer either, which is found next. */
        if (!product_fits(out->shape[next] - 1, out->stride[next], INT64_MAX / 64 - spanned)) return CLMOE_OK;
        spanned += (out->shape[next] - 1) * out->stride[next];
    }
    return CLMOE_OK;
}

/* Shape and strides; fills out->shape and out->stride. */
static enum clmoe_status check_layout(const struct log *log, const struct operand_rule *r,
                                      struct operand *out, int64_t *elements) {
    const struct clmoe_tensor *const t = r->tensor;
    const int block = dtype_info(r->dtype)->block;
    REQUIRE(log, t->dtype == r->dtype, "%s.dtype is %d (%s), expected %s", r->name, (int)t->dtype,
            dtype_info(t->dtype) ? dtype_info(t->dtype)->name : "unknown", dtype_info(r->dtype)->name);
    REQUIRE(log, t->ndim == r->ndim, "%s.ndim = %d, expected %d", r->name, (int)t->ndim, r->ndim);
    const bool dense = all_zero(t);
    int64_t contiguous = 1;
    *elements = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        REQUIRE(log, t->shape[d] == r->shape[d], "%s.shape[%d] = %lld, expected %lld", r->name, d,
                (long long)t->shape[d], (long long)r->shape[d]);
        REQUIRE(log, product_fits(*elements, t->shape[d], INT64_MAX / 64),
                "%s: the number of elements overflows", r->name);
        *elements *= t->shape[d];
        const int64_t stride = dense ? contiguous : t->stride[d];
        REQUIRE(log, stride >= 0, "%s.stride[%d] = %lld", r->name, d, (long long)stride);
        if (d == t->ndim - 1)
            REQUIRE(log, r->any_step || stride == 1 || t->shape[d] <= 1,
                    "%s.stride[%d] = %lld, the last must be 1", r->name, d, (long long)stride);
        else
            REQUIRE(log, stride % block == 0, "%s.stride[%d] = %lld is no multiple of the block of %d",
                    r->name, d, (long long)stride, block);
        if (r->contiguous)
            REQUIRE(log, stride == contiguous || t->shape[d] <= 1,
                    "%s.stride[%d] = %lld, must be contiguous (%lld)", r->name, d, (long long)stride,
                    (long long)contiguous);
        out->shape[d] = t->shape[d];
        /* Of a single column any stride is given. */
        out->stride[d] = d == t->ndim - 1 && !r->any_step ? 1 : stride;
        contiguous *= t->shape[d];
    }
    return r->use == USE_WRITE && *elements ? check_apart(log, r, out) : CLMOE_OK;
}

/* Index of the last element plus one, in elements. */
static enum clmoe_status span(const struct log *log, const struct operand_rule *r, const struct operand *out,
                              int64_t *count) {
    int64_t last = 0;
    for (int d = 0; d < r->ndim; d++) {
        REQUIRE(log, product_fits(out->shape[d] - 1, out->stride[d], INT64_MAX / 64 - last),
                "%s: strides overflow 64 bits", r->name);
        last += (out->shape[d] - 1) * out->stride[d];
    }
    *count = last + 1;
    return CLMOE_OK;
}

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static enum clmoe_status check_buffer(const clmoe_plan *plan, const struct operand_rule *r,
                                      struct operand *out, struct extent *extent) {
    const struct log *const log = &plan->ctx->log;
    const struct clmoe_tensor *const t = r->tensor;
    const struct dtype_info *const info = dtype_info(r->dtype);
    REQUIRE(log, t->mem != NULL, "%s.mem is NULL", r->name);
    /* A layer's stages hand each other views of the workspace, of which all is known. */
    struct buffer b = plan->workspace_is;
    if (t->mem != plan->workspace) TRY(buffer_read(log, t->mem, &b));
    REQUIRE(log, b.context == plan->ctx->dev.context, "%s is a buffer of another context", r->name);
    REQUIRE(log, b.type == CL_MEM_OBJECT_BUFFER, "%s is no buffer but an object of type 0x%x", r->name,
            (unsigned)b.type);
    REQUIRE(log, !(b.flags & (r->use == USE_WRITE ? CL_MEM_READ_ONLY : CL_MEM_WRITE_ONLY)),
            "%s is %s, its buffer has flags 0x%llx", r->name, r->use == USE_WRITE ? "written" : "read",
            (unsigned long long)b.flags);
    REQUIRE(log, t->offset % (uint64_t)info->unit == 0, "%s.offset = %llu is no multiple of %d", r->name,
            (unsigned long long)t->offset, info->unit);
    int64_t count = 0;
    TRY(span(log, r, out, &count));
    const uint64_t bytes = (uint64_t)ceil_div(count, info->block) * (uint64_t)info->bytes;
    REQUIRE(log, t->offset <= b.size && bytes <= b.size - t->offset,
            "%s needs %llu bytes from offset %llu on, its buffer has %zu", r->name, (unsigned long long)bytes,
            (unsigned long long)t->offset, b.size);
    extent->parent = b.parent; /* a sub-buffer is a window of it: overlap is decided there */
    extent->begin = b.origin + t->offset;
    extent->end = extent->begin + bytes;
    /* The stride of a single row may be any number. */
    if (r->ndim == 2 && info->block == 1 && product_fits(out->stride[0], info->bytes, INT64_MAX)) {
        extent->pitch = out->stride[0] * info->bytes;
        extent->width = ((out->shape[1] - 1) * out->stride[1] + 1) * info->bytes;
    }
    if (info->block == 1) {
        for (int d = 0; d < r->ndim; d++)
            if (out->shape[d] > 1) extent->grain = common_divisor(extent->grain, out->stride[d]);
        extent->grain *= info->bytes;
        extent->cell = info->bytes;
    }
    out->mem = t->mem;
    out->offset = t->offset / (uint64_t)info->unit;
    return CLMOE_OK;
}

/* Two views of columns of one matrix interleave without touching. */
static bool columns_apart(const struct extent *a, const struct extent *b) {
    if (a->pitch <= 0 || a->pitch != b->pitch) return false;
    const struct extent *const low = a->begin <= b->begin ? a : b, *const high = low == a ? b : a;
    const int64_t gap = (int64_t)((high->begin - low->begin) % (uint64_t)a->pitch);
    return gap >= low->width && gap + high->width <= a->pitch;
}

/* So do the elements of views with steps. */
static bool cells_apart(const struct extent *a, const struct extent *b) {
    const int64_t grain = common_divisor(a->grain, b->grain);
    if (grain == 0 || !a->cell || !b->cell) return false;
    const struct extent *const low = a->begin <= b->begin ? a : b, *const high = low == a ? b : a;
    const int64_t gap = (int64_t)((high->begin - low->begin) % (uint64_t)grain);
    return gap >= low->cell && gap + high->cell <= grain;
}

static bool overlap(const struct extent *a, const struct extent *b) {
    return a->parent == b->parent && a->begin < b->end && b->begin < a->end && !columns_apart(a, b) &&
           !cells_apart(a, b);
}

static bool same_view(const struct operand *a, const struct operand *b) {
    bool same = a->mem == b->mem && a->offset == b->offset;
    for (int d = 0; d < CLMOE_MAX_DIMS; d++)
        same &= a->shape[d] == b->shape[d] && (a->stride[d] == b->stride[d] || a->shape[d] <= 1);
    return same;
}

static bool may_share(const struct operand_rule *r, const char *name) {
    return (r->may_be[0] && strcmp(r->may_be[0], name) == 0) ||
           (r->may_be[1] && strcmp(r->may_be[1], name) == 0);
}

static enum clmoe_status check_overlap(const struct log *log, const struct operand_rule *rules,
                                       const struct operand *operands, const struct extent *extents, int n) {
    for (int i = 0; i < n; i++) {
        if (rules[i].use != USE_WRITE || !extents[i].parent) continue;
        for (int j = 0; j < n; j++) {
            if (i == j || !extents[j].parent) continue;
            const bool shared = may_share(&rules[i], rules[j].name) && same_view(&operands[i], &operands[j]);
            REQUIRE(log, shared || !overlap(&extents[i], &extents[j]), "%s overlaps %s", rules[i].name,
                    rules[j].name);
        }
    }
    return CLMOE_OK;
}

static enum clmoe_status check_rules(const clmoe_plan *plan, const struct operand_rule *rules, int n,
                                     struct extent *extents) {
    const struct log *const log = &plan->ctx->log;
    struct operand operands[MAX_OPERANDS];
    assert(n <= MAX_OPERANDS);
    for (int i = 0; i < n; i++) {
        const struct operand_rule *const r = &rules[i];
        operands[i] = (struct operand){0};
        extents[i] = (struct extent){0};
        if (!r->wanted) {
            REQUIRE(log, r->tensor->mem == NULL, "%s is given, but the plan was made without it", r->name);
            continue;
        }
        int64_t elements = 0;
        /* An operand that is empty by its rule may be left out altogether. */
        bool empty = false;
        for (int d = 0; d < r->ndim; d++)
            empty |= r->shape[d] == 0;
        if (empty && r->tensor->mem == NULL) continue;
        TRY(check_layout(log, r, &operands[i], &elements));
        if (elements) TRY(check_buffer(plan, r, &operands[i], &extents[i]));
    }
    TRY(check_overlap(log, rules, operands, extents, n));
    for (int i = 0; i < n; i++)
        *rules[i].out = operands[i];
    return CLMOE_OK;
}

enum clmoe_status operands_check(const clmoe_plan *plan, const struct operand_rule *rules, int n) {
    struct extent extents[MAX_OPERANDS];
    return check_rules(plan, rules, n, extents);
}

enum clmoe_status operands_check_outputs(const clmoe_plan *plan, const struct operand_rule *rules, int n,
                                         struct written *written) {
    struct extent extents[MAX_OPERANDS];
    TRY(check_rules(plan, rules, n, extents));
    for (int i = 0; i < n; i++) {
        if (rules[i].use != USE_WRITE || !extents[i].parent) continue;
        assert(written->n < MAX_WRITTEN);
        written->names[written->n] = rules[i].name;
        written->extents[written->n++] = extents[i];
    }
    return CLMOE_OK;
}

enum clmoe_status operands_check_inputs(const clmoe_plan *plan, const struct operand_rule *rules, int n,
                                        const struct written *written) {
    struct extent extents[MAX_OPERANDS];
    TRY(check_rules(plan, rules, n, extents));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < written->n; j++)
            REQUIRE(&plan->ctx->log, !extents[i].parent || !overlap(&extents[i], &written->extents[j]),
                    "%s overlaps %s", written->names[j], rules[i].name);
    return CLMOE_OK;
}
