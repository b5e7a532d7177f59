/* SPDX-License-Identifier: MIT
 * A chain of kernel launches on the caller's queue: each kernel runs after the one before it. On an in-order
 * queue the queue sees to that; on an out-of-order one, events do. The first kernel waits for the caller's
 * events, the last one's event is the caller's. */
#ifndef CLMOE_DEVICE_LAUNCH_H
#define CLMOE_DEVICE_LAUNCH_H

#include "base/log.h"

struct launch {
    const struct log *log;
    cl_command_queue queue;
    cl_uint n_wait;
    const cl_event *wait;
    cl_event *event; /* the caller's; may be NULL */
    bool out_of_order;
    bool more; /* set while what is launched is surely not the last: in order, it needs no event then */
    cl_event previous; /* event of the last kernel, if somebody needs it */
    bool started;
};

enum clmoe_status launch_begin(struct launch *l, const struct log *log, cl_command_queue queue,
                               cl_uint n_wait, const cl_event *wait, cl_event *event);

/* `groups` work-groups of `local` work-items each, one-dimensional. No groups: nothing is launched. */
enum clmoe_status launch_kernel(struct launch *l, cl_kernel kernel, uint64_t groups, size_t local);

/* `size` bytes of a buffer, from host memory that stays as it is until they are written. */
enum clmoe_status launch_write(struct launch *l, cl_mem to, uint64_t offset, size_t size, const void *from);

/* Makes the first `size` bytes of a buffer 0; a multiple of 4. */
enum clmoe_status launch_zero(struct launch *l, cl_mem mem, size_t size);

/* What comes next in the chain waits for this event as well. */
enum clmoe_status launch_wait(struct launch *l, cl_event event);

/* An event that completes when the chain has come this far; the caller releases it. */
enum clmoe_status launch_mark(struct launch *l, cl_event *done);

/* Hands the last event to the caller and releases the rest; on failure the caller's event is NULL. Returns
 * `status`, or the failure of the marker that stands in when nothing was launched. */
enum clmoe_status launch_end(struct launch *l, enum clmoe_status status);

/* What arguments of a kernel are known to be since an earlier call, so that they are not set again: with
 * NVIDIA's driver that is half of the host's time for a layer. {0}: nothing is known. */
#define BOUND_ARGS 64
struct bound {
    struct bound_arg {
        unsigned char size; /* 0: unknown */
        unsigned char value[sizeof(cl_long4)];
    } args[BOUND_ARGS];
};

/* Binds the arguments of a kernel in order. The first error is kept, and bind_end reports it. A buffer that
 * is NULL (an operand this variant does not use) is replaced by `spare`, which may be NULL too where the
 * driver takes that.
 *
 * Numbers that are as in `bound` stay. Buffers do if they are NULL or among `own`: they must live as long as
 * `bound` is in use. Under the handle of any other there may be another buffer by now. */
struct bind {
    cl_kernel kernel;
    cl_mem spare;
    struct bound *bound;
    cl_mem own[2];
    cl_uint index;
    cl_int err;
};

void bind_mem(struct bind *b, cl_mem mem);
void bind_view(struct bind *b, cl_mem mem, uint64_t offset); /* a buffer and a ulong: elements to skip */
void bind_i32(struct bind *b, int64_t value);                /* must fit */
void bind_u32(struct bind *b, int64_t value);                /* must fit */
void bind_i64(struct bind *b, int64_t value);
void bind_u64(struct bind *b, uint64_t value);
void bind_long4(struct bind *b, const int64_t value[4]);
void bind_f32(struct bind *b, float value);
void bind_float4(struct bind *b, const float value[4]);
enum clmoe_status bind_end(const struct bind *b, const struct log *log);

#endif
