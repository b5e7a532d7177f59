/* SPDX-License-Identifier: MIT */
#include "matmul_parts.h"

/* Strides of a checked tensor; all zero means contiguous. */
static void tensor_strides(const struct clmoe_tensor *t, int64_t stride[CLMOE_MAX_DIMS]) {
    bool dense = true;
    for (int d = 0; d < t->ndim; d++)
        dense &= t->stride[d] == 0;
    int64_t contiguous = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        stride[d] = dense ? contiguous : t->stride[d];
        contiguous *= t->shape[d];
    }
}

/* Elements (whole blocks of them) as the units that pointers in kernels count in. */
static uint64_t units(const struct dtype_info *info, int64_t elements) {
    return (uint64_t)(elements / info->block * (info->bytes / info->unit));
}

/* Splits rows that lie `row` apart into gate and up; for one tensor that holds both. */
static void split_rows(const struct matmul_problem *p, const struct dtype_info *info, int64_t row,
                       struct columns *gate, struct columns *up) {
    gate->column = row;
    if (p->glu == CLMOE_GLU_NONE || p->glu == CLMOE_GLU_APART) return;
    const bool interleaved = p->glu == CLMOE_GLU_INTERLEAVED;
    const uint64_t second = units(info, interleaved ? row : p->out * row);
    gate->column = interleaved ? 2 * row : row;
    *up = *gate;
    *(p->glu == CLMOE_GLU_UP_GATE ? &gate->skip : &up->skip) += second;
}

static struct columns tensor_columns(const struct matmul_problem *p, const struct clmoe_tensor *t,
                                     int64_t *row) {
    int64_t stride[CLMOE_MAX_DIMS];
    tensor_strides(t, stride);
    const bool by_column = p->w_order == CLMOE_W_EKN;
    *row = stride[by_column ? 2 : 1];
    if (by_column) *row = 1; /* also where the only column leaves the stride open */
    return (struct columns){
        .mem = t->mem,
        .skip = t->offset / (uint64_t)dtype_info(t->dtype)->unit,
        .expert = stride[0],
        .column = *row,
        .depth = by_column ? stride[1] : 1,
    };
}

/* Strides in numbers of 4 bits; depth is that of 8 steps of K in the order GPTQ. */
static struct columns word_columns(const struct matmul_problem *p, const struct clmoe_tensor *t) {
    int64_t stride[CLMOE_MAX_DIMS];
    tensor_strides(t, stride);
    return (struct columns){
        .mem = t->mem,
        .skip = t->offset / (uint64_t)dtype_info(t->dtype)->unit,
        .expert = stride[0] * MATMUL_IN_WORD,
        .column = p->w_order == CLMOE_W_AWQ ? 1 : MATMUL_IN_WORD,
        .depth = stride[1] * MATMUL_IN_WORD,
    };
}

struct matmul_part matmul_part_at(const struct matmul_problem *p, const struct clmoe_tensor *w,
                                  const struct clmoe_tensor *w_up, int32_t index, int32_t first) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    struct matmul_part part = {.first = first, .count = (int32_t)w[index].shape[0]};
    if (p->w_order == CLMOE_W_PACKED) {
        const int64_t panel = p->in * MATMUL_PANEL;
        part.gate = (struct columns){
            .mem = w[index].mem,
            .skip = w[index].offset / (uint64_t)info->unit,
            .expert = matmul_panels(p) * panel,
            .column = panel,
            .depth = MATMUL_PANEL,
        };
        if (p->glu == CLMOE_GLU_NONE) return part;
        part.up = part.gate;
        /* Half a line of K, or what is half a row of bytes in a tile. */
        part.up.skip += dtype_is_block(p->w_dtype) ? 16 / info->unit : MATMUL_PANEL / 2;
        return part;
    }
    if (matmul_in_words(p->w_order)) {
        part.gate = word_columns(p, &w[index]);
        if (p->glu == CLMOE_GLU_APART) part.up = word_columns(p, &w_up[index]);
        if (p->glu == CLMOE_GLU_NONE || p->glu == CLMOE_GLU_APART) return part;
        part.up = part.gate;
        *(p->glu == CLMOE_GLU_UP_GATE ? &part.gate.skip : &part.up.skip) +=
            (uint64_t)(p->w_order == CLMOE_W_AWQ ? p->out / MATMUL_IN_WORD : p->out);
        return part;
    }
    int64_t row;
    part.gate = tensor_columns(p, &w[index], &row);
    split_rows(p, info, row, &part.gate, &part.up);
    if (p->glu == CLMOE_GLU_APART) part.up = tensor_columns(p, &w_up[index], &row);
    return part;
}

static struct scales tensor_scales(const struct matmul_problem *p, const struct clmoe_tensor *t,
                                   int64_t first) {
    const bool words = matmul_in_words(p->w_order);
    int64_t stride[CLMOE_MAX_DIMS];
    tensor_strides(t, stride);
    return (struct scales){
        .mem = t->mem,
        .skip = t->offset / (uint64_t)dtype_info(t->dtype)->unit,
        .expert = stride[0],
        .row = words ? 1 : stride[1],
        .group = words ? stride[1] : 1,
        .first = first,
    };
}

static struct zeros tensor_zeros(const struct clmoe_tensor *t) {
    int64_t stride[CLMOE_MAX_DIMS];
    tensor_strides(t, stride);
    return (struct zeros){t->mem, t->offset / (uint64_t)dtype_info(t->dtype)->unit,
                          stride[0] * MATMUL_IN_WORD, stride[1] * MATMUL_IN_WORD};
}

void matmul_part_scales(const struct matmul_problem *p, const struct matmul_call *c, int32_t index,
                        struct matmul_part *part) {
    if (!c->w_scale) return;
    const bool apart = p->glu == CLMOE_GLU_APART, up_first = p->glu == CLMOE_GLU_UP_GATE;
    const int64_t second = p->glu == CLMOE_GLU_INTERLEAVED ? 1 : p->out;
    part->gate_scales = tensor_scales(p, &c->w_scale[index], up_first ? second : 0);
    if (c->w_zero) part->gate_zeros = tensor_zeros(&c->w_zero[index]);
    if (p->glu == CLMOE_GLU_NONE) return;
    part->up_scales = apart ? tensor_scales(p, &c->w_scale_up[index], 0)
                            : tensor_scales(p, &c->w_scale[index], up_first ? 0 : second);
    if (c->w_zero) part->up_zeros = tensor_zeros(apart ? &c->w_zero_up[index] : &c->w_zero[index]);
}

void matmul_bias_columns(const struct matmul_problem *p, const struct matmul_call *c, struct columns *gate,
                         struct columns *up) {
    *gate = *up = (struct columns){0};
    if (!p->bias) return;
    *gate = (struct columns){.mem = c->bias.mem, .skip = c->bias.offset, .expert = c->bias.stride[0]};
    split_rows(p, dtype_info(p->bias_dtype), 1, gate, up);
    if (p->glu == CLMOE_GLU_APART)
        *up = (struct columns){
            .mem = c->bias_up.mem, .skip = c->bias_up.offset, .expert = c->bias_up.stride[0], .column = 1};
}
