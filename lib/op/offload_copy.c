/* SPDX-License-Identifier: MIT
 * The copies of offloaded experts, and the events between their queue and the layers'. */
#include "offload.h"

#include "device/clerr.h"

#include <string.h>

static void forget_event(cl_event *event) {
    if (*event) clReleaseEvent(*event);
    *event = NULL;
}

void offload_forget_events(struct clmoe_offload *o) {
    for (int32_t i = 0; o->events && i < o->slots.slots; i++) {
        forget_event(&o->events[i].filled);
        forget_event(&o->events[i].used);
    }
    for (int i = 0; i < OFFLOAD_PIECES; i++)
        forget_event(&o->pieces[i].sent);
}

/* `bytes` of a buffer from `at` on, after `after`, which may be NULL. */
static enum clmoe_status copy_straight(struct clmoe_offload *o, cl_mem to, size_t at, const void *from,
                                       size_t bytes, cl_event after) {
    TRY_CL(&o->ctx->log, clEnqueueWriteBuffer(o->queue, to, CL_FALSE, at, bytes, from, after != NULL,
                                              after ? &after : NULL, NULL));
    return CLMOE_OK;
}

/* The same through pinned memory: while the device takes one piece the next is filled. */
static enum clmoe_status copy_in_pieces(struct clmoe_offload *o, cl_mem to, size_t at, const void *from,
                                        size_t bytes, cl_event after) {
    const struct log *const log = &o->ctx->log;
    for (size_t done = 0; done < bytes;) {
        struct offload_piece *const piece = &o->pieces[o->piece];
        const size_t n = bytes - done < OFFLOAD_PIECE_BYTES ? bytes - done : OFFLOAD_PIECE_BYTES;
        if (piece->sent) TRY_CL(log, clWaitForEvents(1, &piece->sent));
        forget_event(&piece->sent);
        memcpy(piece->at, (const char *)from + done, n);
        TRY_CL(log, clEnqueueWriteBuffer(o->queue, to, CL_FALSE, at + done, n, piece->at, after != NULL,
                                         after ? &after : NULL, &piece->sent));
        TRY_CL(log, clFlush(o->queue));
        o->piece = (o->piece + 1) % OFFLOAD_PIECES;
        done += n;
    }
    return CLMOE_OK;
}

static enum clmoe_status copy_expert(struct clmoe_offload *o, int32_t expert, int32_t slot) {
    const bool straight = !o->pieces[0].mem;
    for (int a = 0; a < OFFLOAD_ARRAYS; a++) {
        const struct offload_array *const array = &o->arrays[a];
        if (!array->from) continue;
        TRY((straight ? copy_straight : copy_in_pieces)(o, array->slots.mem, (size_t)slot * array->bytes,
                                                        array->from[expert], array->bytes,
                                                        o->events[slot].used));
        o->stats.bytes += array->bytes;
    }
    return CLMOE_OK;
}

enum clmoe_status offload_fill(struct clmoe_offload *o, int32_t turn) {
    const struct log *const log = &o->ctx->log;
    const struct slots *const s = &o->slots;
    int32_t begin = 0, end = 0;
    while (begin < s->n_loads && s->loads[begin].turn < turn)
        begin++;
    for (end = begin; end < s->n_loads && s->loads[end].turn == turn; end++)
        TRY(copy_expert(o, s->loads[end].expert, s->loads[end].slot));
    if (begin == end) return CLMOE_OK;
    cl_event filled;
    TRY_CL(log, clEnqueueMarkerWithWaitList(o->queue, 0, NULL, &filled));
    o->fills++;
    cl_int err = CL_SUCCESS;
    for (int32_t i = begin; i < end && err == CL_SUCCESS; i++) {
        struct slot_events *const e = &o->events[s->loads[i].slot];
        err = clRetainEvent(filled);
        if (err != CL_SUCCESS) break;
        forget_event(&e->filled);
        e->filled = filled;
        e->fill = o->fills;
    }
    clReleaseEvent(filled);
    TRY_CL(log, err);
    TRY_CL(log, clFlush(o->queue));
    return CLMOE_OK;
}

/* The slot of an expert in a turn of the current call, -1 if it is not in it. */
static int32_t slot_in(const struct slots *s, int32_t expert, int32_t turn) {
    const int32_t slot = s->of_expert[expert].number - turn * s->slots;
    return s->of_expert[expert].number >= 0 && slot >= 0 && slot < s->slots ? slot : -1;
}

cl_event offload_filled(const struct clmoe_offload *o, int32_t turn) {
    cl_event last = NULL;
    uint64_t fill = 0;
    for (int32_t e = 0; e < o->slots.experts; e++) {
        const int32_t slot = slot_in(&o->slots, e, turn);
        if (slot < 0 || !o->events[slot].filled || o->events[slot].fill < fill) continue;
        last = o->events[slot].filled;
        fill = o->events[slot].fill;
    }
    return last;
}

enum clmoe_status offload_use(struct clmoe_offload *o, int32_t turn, cl_event used) {
    for (int32_t e = 0; e < o->slots.experts; e++) {
        const int32_t slot = slot_in(&o->slots, e, turn);
        if (slot < 0) continue;
        forget_event(&o->events[slot].filled);
        TRY_CL(&o->ctx->log, clRetainEvent(used));
        forget_event(&o->events[slot].used);
        o->events[slot].used = used;
    }
    return CLMOE_OK;
}

void offload_abandon(struct clmoe_offload *o, cl_command_queue queue) {
    if (queue) clFinish(queue);
    clFinish(o->queue);
    offload_forget_events(o);
    slots_forget_loads(&o->slots);
}

void offload_operands(const struct clmoe_offload *o, struct clmoe_matmul_args *first,
                      struct clmoe_matmul_args *second) {
    const struct clmoe_tensor *t[OFFLOAD_ARRAYS];
    for (int a = 0; a < OFFLOAD_ARRAYS; a++)
        t[a] = o->arrays[a].from ? &o->arrays[a].slots : NULL;
    struct clmoe_matmul_args *const args[] = {first, second};
    for (int i = 0; i < 2; i++) {
        const struct clmoe_tensor *const *const of = t + i * OFFLOAD_SECOND;
        args[i]->w = of[MATMUL_W];
        args[i]->w_up = of[MATMUL_W_UP];
        args[i]->w_scale = of[MATMUL_SCALE];
        args[i]->w_scale_up = of[MATMUL_SCALE_UP];
        args[i]->w_zero = of[MATMUL_ZERO];
        args[i]->w_zero_up = of[MATMUL_ZERO_UP];
        args[i]->n_w = 1;
    }
    first->bias = o->arrays[OFFLOAD_BIAS1].slots;
    first->bias_up = o->arrays[OFFLOAD_BIAS1_UP].slots;
    second->bias = o->arrays[OFFLOAD_BIAS2].slots;
}
