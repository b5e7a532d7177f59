/* SPDX-License-Identifier: MIT */
#include "offloaded.h"
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>

/* Of each matrix: its elements, scales and zeros; then the biases. */
enum { ELEMENTS, SCALES, ZEROS, KINDS };
enum { BIAS1 = KINDS * N_MATRICES, BIAS1_UP, BIAS2 };

static const void **new_list(struct session *s, int32_t experts, int *code) {
    const void **const list = calloc((size_t)experts, sizeof *list);
    if (!list) *code = command_fail(s->usage, EXIT_FAILED, "out of memory");
    return list;
}

static int list_matrix(struct session *s, const struct block *b, int which, enum clmoe_w_order order,
                       struct offloaded *o) {
    const struct matrix *const m = &b->matrices[which];
    const void ***const lists = &o->lists[KINDS * which];
    int code = -1;
    lists[ELEMENTS] = new_list(s, b->experts, &code);
    if (m->scale_bytes) lists[SCALES] = new_list(s, b->experts, &code);
    if (m->zero_bytes) lists[ZEROS] = new_list(s, b->experts, &code);
    if (!matrix_is_there(m, order)) {
        o->rooms[which] = malloc((size_t)b->experts * m->bytes);
        if (!o->rooms[which]) code = command_fail(s->usage, EXIT_FAILED, "out of memory");
    }
    for (int32_t e = 0; e < b->experts && code < 0; e++) {
        char *const room = o->rooms[which];
        lists[ELEMENTS][e] = matrix_expert(m, e, order, room ? room + (size_t)e * m->bytes : NULL);
        if (lists[SCALES]) lists[SCALES][e] = matrix_scales(m, e);
        if (lists[ZEROS]) lists[ZEROS][e] = matrix_zeros(m, e);
        if (room) progress("converting experts", e + 1, b->experts);
    }
    return code;
}

/* From column `first` on of each row. */
static int list_bias(struct session *s, const struct array *bias, int64_t first, const void ***list) {
    int code = -1;
    if (!bias->data) return code;
    const int32_t experts = (int32_t)bias->shape[0];
    *list = new_list(s, experts, &code);
    for (int32_t e = 0; e < experts && code < 0; e++)
        (*list)[e] = (const float *)bias->data + e * bias->shape[1] + first;
    return code;
}

int offloaded_open(struct session *s, const struct block *b, const struct weights *w, const clmoe_plan *plan,
                   int64_t budget, struct offloaded *o) {
    int code = -1;
    *o = (struct offloaded){0};
    for (int m = 0; m < N_MATRICES && code < 0; m++)
        if (b->matrices[m].n_sources) code = list_matrix(s, b, m, w->order, o);
    /* The bias of gate and up lies as if they were one matrix. */
    if (code < 0) code = list_bias(s, &b->bias1, 0, &o->lists[BIAS1]);
    if (code < 0 && w->glu == CLMOE_GLU_APART)
        code = list_bias(s, &b->bias1, b->bias1.shape[1] / 2, &o->lists[BIAS1_UP]);
    if (code < 0) code = list_bias(s, &b->bias2, 0, &o->lists[BIAS2]);
    if (code >= 0) return code;
    const struct clmoe_offload_params params = {
        .budget = (uint64_t)budget,
        .w1 = o->lists[KINDS * W1 + ELEMENTS],
        .w1_up = o->lists[KINDS * W1_UP + ELEMENTS],
        .w2 = o->lists[KINDS * W2 + ELEMENTS],
        .w1_scale = o->lists[KINDS * W1 + SCALES],
        .w1_scale_up = o->lists[KINDS * W1_UP + SCALES],
        .w2_scale = o->lists[KINDS * W2 + SCALES],
        .w1_zero = o->lists[KINDS * W1 + ZEROS],
        .w1_zero_up = o->lists[KINDS * W1_UP + ZEROS],
        .w2_zero = o->lists[KINDS * W2 + ZEROS],
        .bias1 = o->lists[BIAS1],
        .bias1_up = o->lists[BIAS1_UP],
        .bias2 = o->lists[BIAS2],
    };
    const enum clmoe_status status = clmoe_offload_create(plan, &params, &o->object);
    return status == CLMOE_OK ? -1 : session_fail(s, status, "clmoe_offload_create");
}

void offloaded_report(const struct offloaded *o) {
    struct clmoe_offload_stats s;
    if (clmoe_offload_stats(o->object, &s) != CLMOE_OK) return;
    const uint64_t wanted = s.hits + s.misses;
    printf("room for %d experts of %.3g MB: %llu of %llu wanted were there, %.3g MB copied\n", (int)s.slots,
           (double)s.expert_bytes * 1e-6, (unsigned long long)s.hits, (unsigned long long)wanted,
           (double)s.bytes * 1e-6);
}

void offloaded_close(struct offloaded *o) {
    clmoe_offload_destroy(&o->object);
    for (int i = 0; i < OFFLOADED_LISTS; i++)
        free((void *)o->lists[i]);
    for (int m = 0; m < N_MATRICES; m++)
        free(o->rooms[m]);
    *o = (struct offloaded){0};
}
