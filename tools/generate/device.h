/* SPDX-License-Identifier: MIT
 * The OpenCL world that a forward pass runs in: one context, one in-order queue, the library's context in it,
 * all the caller's. Everything enqueued here runs in the order of the calls. */
#ifndef CLMOE_GENERATE_DEVICE_H
#define CLMOE_GENERATE_DEVICE_H

#include "clmoe/clmoe.h"
#include "io/error.h"

struct device {
    cl_context context;
    cl_device_id device;
    cl_command_queue queue;
    clmoe_context *ctx;
    const char *log; /* where the library's last error stands, or NULL */
};

/* True if the call succeeded, else an error "CALL: what happened". */
bool device_ok(cl_int code, const char *call, struct io_error *err);
bool device_moe_ok(const struct device *device, enum clmoe_status status, const char *call,
                   struct io_error *err);

/* A buffer, from `data` unless that is NULL. NULL on failure, which also says how large it was. */
cl_mem device_buffer(const struct device *device, size_t bytes, const void *data, struct io_error *err);

/* Releases and clears. */
void device_release(cl_mem *mem);

#endif
