/* SPDX-License-Identifier: MIT
 * What the driver says of a buffer. */
#ifndef CLMOE_DEVICE_BUFFER_H
#define CLMOE_DEVICE_BUFFER_H

#include "base/log.h"

struct buffer {
    cl_context context;
    cl_mem_object_type type;
    cl_mem_flags flags;
    size_t size;
    cl_mem parent; /* whose memory it is: of a sub-buffer another's, from `origin` on */
    size_t origin;
};

enum clmoe_status buffer_read(const struct log *log, cl_mem mem, struct buffer *buffer);

#endif
