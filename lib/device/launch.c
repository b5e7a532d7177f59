/* SPDX-License-Identifier: MIT */
#include "launch.h"

#include "clerr.h"

#include <assert.h>
#include <string.h>

enum clmoe_status launch_begin(struct launch *l, const struct log *log, cl_command_queue queue,
                               cl_uint n_wait, const cl_event *wait, cl_event *event) {
    *l = (struct launch){.log = log, .queue = queue, .n_wait = n_wait, .wait = wait, .event = event};
    cl_command_queue_properties properties = 0;
    TRY_CL(log, clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL));
    l->out_of_order = properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
    return CLMOE_OK;
}

/* What the next command waits for. */
static cl_uint wait_list(const struct launch *l, const cl_event **wait) {
    const bool chained = l->out_of_order && l->previous;
    const cl_uint n = chained ? 1 : l->started ? 0 : l->n_wait;
    *wait = chained ? &l->previous : n ? l->wait : NULL;
    return n;
}

static void follow(struct launch *l, cl_event done) {
    if (l->previous) clReleaseEvent(l->previous);
    l->previous = done;
    l->started = true;
}

enum clmoe_status launch_kernel(struct launch *l, cl_kernel kernel, uint64_t groups, size_t local) {
    if (groups == 0) return CLMOE_OK;
    if (groups > SIZE_MAX / local) return clerr_report(l->log, CL_INVALID_GLOBAL_WORK_SIZE, "launch_kernel");
    const size_t global = (size_t)groups * local;
    const cl_event *wait;
    const cl_uint n_wait = wait_list(l, &wait);
    cl_event done = NULL;
    const bool want_event = (l->event && !l->more) || l->out_of_order;
    TRY_CL(l->log, clEnqueueNDRangeKernel(l->queue, kernel, 1, NULL, &global, &local, n_wait, wait,
                                          want_event ? &done : NULL));
    follow(l, done);
    return CLMOE_OK;
}

enum clmoe_status launch_write(struct launch *l, cl_mem to, uint64_t offset, size_t size, const void *from) {
    const cl_event *wait;
    const cl_uint n_wait = wait_list(l, &wait);
    cl_event done;
    TRY_CL(l->log,
           clEnqueueWriteBuffer(l->queue, to, CL_FALSE, (size_t)offset, size, from, n_wait, wait, &done));
    follow(l, done);
    return CLMOE_OK;
}

enum clmoe_status launch_zero(struct launch *l, cl_mem mem, size_t size) {
    const cl_uint zero = 0;
    const cl_event *wait;
    const cl_uint n_wait = wait_list(l, &wait);
    cl_event done;
    TRY_CL(l->log, clEnqueueFillBuffer(l->queue, mem, &zero, sizeof zero, 0, size, n_wait, wait, &done));
    follow(l, done);
    return CLMOE_OK;
}

enum clmoe_status launch_wait(struct launch *l, cl_event event) {
    /* A marker waits for its list alone, and the next command perhaps for one event alone. */
    cl_event both[2] = {event, NULL};
    TRY(launch_mark(l, &both[1]));
    cl_event joined;
    const cl_int err = clEnqueueMarkerWithWaitList(l->queue, 2, both, &joined);
    clReleaseEvent(both[1]);
    if (err != CL_SUCCESS) return clerr_report(l->log, err, "clEnqueueMarkerWithWaitList");
    follow(l, joined);
    return CLMOE_OK;
}

enum clmoe_status launch_mark(struct launch *l, cl_event *done) {
    if (!l->previous) {
        const cl_event *wait;
        const cl_uint n_wait = wait_list(l, &wait);
        cl_event marker;
        TRY_CL(l->log, clEnqueueMarkerWithWaitList(l->queue, n_wait, wait, &marker));
        follow(l, marker);
    }
    TRY_CL(l->log, clRetainEvent(l->previous));
    *done = l->previous;
    return CLMOE_OK;
}

enum clmoe_status launch_end(struct launch *l, enum clmoe_status status) {
    /* Nothing was launched: a marker stands in. On an in-order queue also for the wait list alone, since what
     * the caller enqueues next expects to run after it. */
    const bool ordered_wait = l->n_wait && !l->out_of_order && !l->started;
    if (status == CLMOE_OK && !l->previous && (l->event || ordered_wait)) {
        const cl_int err =
            clEnqueueMarkerWithWaitList(l->queue, l->n_wait, l->n_wait ? l->wait : NULL, &l->previous);
        if (err != CL_SUCCESS) status = clerr_report(l->log, err, "clEnqueueMarkerWithWaitList");
    }
    if (status == CLMOE_OK && l->event)
        *l->event = l->previous;
    else if (l->previous)
        clReleaseEvent(l->previous);
    l->previous = NULL;
    return status;
}

/* `stays`: while the value is the same, so is what it means. */
static void bind_bytes(struct bind *b, const void *value, size_t size, bool stays) {
    if (b->err != CL_SUCCESS) return;
    struct bound_arg unknown = {0};
    struct bound_arg *const arg = b->index < BOUND_ARGS ? &b->bound->args[b->index] : &unknown;
    if (!stays || arg->size != size || memcmp(arg->value, value, size) != 0) {
        b->err = clSetKernelArg(b->kernel, b->index, size, value);
        arg->size = stays && b->err == CL_SUCCESS ? (unsigned char)size : 0;
        memcpy(arg->value, value, size);
    }
    b->index++;
}

static void bind_number(struct bind *b, const void *value, size_t size) {
    bind_bytes(b, value, size, true);
}

void bind_mem(struct bind *b, cl_mem mem) {
    if (!mem) mem = b->spare;
    bind_bytes(b, &mem, sizeof mem, !mem || mem == b->own[0] || mem == b->own[1]);
}

void bind_view(struct bind *b, cl_mem mem, uint64_t offset) {
    const cl_ulong skip = offset;
    bind_mem(b, mem);
    bind_number(b, &skip, sizeof skip);
}

void bind_i32(struct bind *b, int64_t value) {
    assert(value >= INT32_MIN && value <= INT32_MAX);
    const cl_int v = (cl_int)value;
    bind_number(b, &v, sizeof v);
}

void bind_u32(struct bind *b, int64_t value) {
    assert(value >= 0 && value <= UINT32_MAX);
    const cl_uint v = (cl_uint)value;
    bind_number(b, &v, sizeof v);
}

void bind_i64(struct bind *b, int64_t value) {
    const cl_long v = value;
    bind_number(b, &v, sizeof v);
}

void bind_u64(struct bind *b, uint64_t value) {
    const cl_ulong v = value;
    bind_number(b, &v, sizeof v);
}

void bind_long4(struct bind *b, const int64_t value[4]) {
    const cl_long4 v = {{value[0], value[1], value[2], value[3]}};
    bind_number(b, &v, sizeof v);
}

void bind_f32(struct bind *b, float value) {
    const cl_float v = value;
    bind_number(b, &v, sizeof v);
}

void bind_float4(struct bind *b, const float value[4]) {
    const cl_float4 v = {{value[0], value[1], value[2], value[3]}};
    bind_number(b, &v, sizeof v);
}

enum clmoe_status bind_end(const struct bind *b, const struct log *log) {
    if (b->err == CL_SUCCESS) return CLMOE_OK;
    log_msg(log, CLMOE_LOG_ERROR, "argument %u", (unsigned)b->index - 1);
    return clerr_report(log, b->err, "clSetKernelArg");
}
