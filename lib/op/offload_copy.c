/* SPDX-License-Identifier: MIT
 * The copies of offloaded experts, and the events between their queue and the layers'. Copies write to slots
 * of buffers whose other slots are being read: to disjoint bytes, which devices keep apart, though OpenCL
 * promises that only for sub-buffers. */
#include "offload.h"

#include "device/clerr.h"

#include <string.h>

static void forget_event(cl_event *event) {
    if (*event) clReleaseEvent(*event);
    *event = NULL;
}

void offload_forget_events(struct clmoe_offload *o) {
    for (int32_t i = 0; o->used && i < o->slots.slots; i++)
        forget_event(&o->used[i]);
    for (int i = 0; i < OFFLOAD_PIECES; i++)
        forget_event(&o->pieces[i].sent);
    forget_event(&o->prefetched);
}

/* `bytes` of a buffer from `at` on, after `after`, which may be NULL. */
static enum clmoe_status copy_straight(struct clmoe_offload *o, cl_mem to, size_t at, const void *from,
                                       size_t bytes, cl_event after) {
    TRY_CL(&o->ctx->log, clEnqueueWriteBuffer(o->copies, to, CL_FALSE, at, bytes, from, after != NULL,
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
        TRY_CL(log, clEnqueueWriteBuffer(o->copies, to, CL_FALSE, at + done, n, piece->at, after != NULL,
                                         after ? &after : NULL, &piece->sent));
        TRY_CL(log, clFlush(o->copies));
        o->piece = (o->piece + 1) % OFFLOAD_PIECES;
        done += n;
    }
    return CLMOE_OK;
}

enum clmoe_status offload_load(struct clmoe_offload *o, int32_t i, cl_event *filled) {
    const struct slot_load *const l = &o->slots.loads[i];
    const bool straight = !o->pieces[0].mem;
    for (int a = 0; a < OFFLOAD_ARRAYS; a++) {
        const struct offload_array *const array = &o->arrays[a];
        if (!array->from) continue;
        TRY((straight ? copy_straight : copy_in_pieces)(o, array->slots.mem, (size_t)l->slot * array->bytes,
                                                        array->from[l->expert], array->bytes,
                                                        o->used[l->slot]));
        o->stats.bytes += array->bytes;
    }
    TRY_CL(&o->ctx->log, clEnqueueMarkerWithWaitList(o->copies, 0, NULL, filled));
    const cl_int err = clFlush(o->copies);
    if (err == CL_SUCCESS) return CLMOE_OK;
    forget_event(filled);
    return clerr_report(&o->ctx->log, err, "clFlush");
}

enum clmoe_status offload_begin(struct clmoe_offload *o, struct launch *launch) {
    if (!o->map_sent)
        TRY(launch_write(launch, o->map, 0, (size_t)o->slots.experts * sizeof *o->slots.map, o->slots.map));
    o->map_sent = true;
    if (!o->prefetched) return CLMOE_OK;
    TRY(launch_wait(launch, o->prefetched));
    forget_event(&o->prefetched);
    return CLMOE_OK;
}

enum clmoe_status offload_read(struct clmoe_offload *o, const struct offload_rows *r, cl_event after,
                               void *to) {
    const size_t from[3] = {(size_t)r->offset, 0, 0}, at[3] = {0, 0, 0}, region[3] = {r->width, r->rows, 1};
    TRY_CL(&o->ctx->log, clEnqueueReadBufferRect(o->reads, r->mem, CL_TRUE, from, at, region, r->pitch, 0,
                                                 r->width, 0, to, 1, &after, NULL));
    return CLMOE_OK;
}

static enum clmoe_status use(struct clmoe_offload *o, int32_t slot, cl_event used) {
    TRY_CL(&o->ctx->log, clRetainEvent(used));
    forget_event(&o->used[slot]);
    o->used[slot] = used;
    return CLMOE_OK;
}

enum clmoe_status offload_use_hits(struct clmoe_offload *o, cl_event used) {
    for (int32_t i = 0; i < o->slots.n_hits; i++)
        TRY(use(o, o->slots.hits[i], used));
    return CLMOE_OK;
}

enum clmoe_status offload_use_load(struct clmoe_offload *o, int32_t i, cl_event used) {
    return use(o, o->slots.loads[i].slot, used);
}

void offload_abandon(struct clmoe_offload *o, cl_command_queue queue) {
    if (queue) clFinish(queue);
    clFinish(o->copies);
    offload_forget_events(o);
    slots_forget_loads(&o->slots);
    o->map_sent = false;
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

/* Biases count from number 0 on, and wrap around below it. */
static void turn_bias(struct operand *bias, int32_t slot, int32_t number) {
    bias->offset += (uint64_t)((slot - number) * bias->stride[0]);
}

void offload_turn(const struct clmoe_offload *o, int32_t slot, int32_t number,
                  struct clmoe_tensor views[OFFLOAD_ARRAYS], struct matmul_call *first,
                  struct matmul_call *second) {
    struct matmul_call *const calls[] = {first, second};
    for (int i = 0; i < 2; i++) {
        struct matmul_call *const c = calls[i];
        const struct clmoe_tensor **const arrays[MATMUL_ARRAYS] = {
            [MATMUL_W] = &c->w,           [MATMUL_W_UP] = &c->w_up,
            [MATMUL_SCALE] = &c->w_scale, [MATMUL_SCALE_UP] = &c->w_scale_up,
            [MATMUL_ZERO] = &c->w_zero,   [MATMUL_ZERO_UP] = &c->w_zero_up};
        for (int a = 0; a < MATMUL_ARRAYS; a++) {
            const struct offload_array *const array = &o->arrays[i * OFFLOAD_SECOND + a];
            if (!array->from) continue;
            struct clmoe_tensor *const view = &views[i * OFFLOAD_SECOND + a];
            *view = array->slots;
            view->shape[0] = 1;
            view->offset = (uint64_t)slot * array->bytes;
            *arrays[a] = view;
        }
        c->first = number;
        turn_bias(&c->bias, slot, number);
        turn_bias(&c->bias_up, slot, number);
    }
}
