/* SPDX-License-Identifier: MIT */
#include "buffer.h"

#include "clerr.h"

enum clmoe_status buffer_read(const struct log *log, cl_mem mem, struct buffer *b) {
    *b = (struct buffer){.type = 0};
    TRY_CL(log, clGetMemObjectInfo(mem, CL_MEM_TYPE, sizeof b->type, &b->type, NULL));
    TRY_CL(log, clGetMemObjectInfo(mem, CL_MEM_FLAGS, sizeof b->flags, &b->flags, NULL));
    TRY_CL(log, clGetMemObjectInfo(mem, CL_MEM_CONTEXT, sizeof b->context, &b->context, NULL));
    TRY_CL(log, clGetMemObjectInfo(mem, CL_MEM_SIZE, sizeof b->size, &b->size, NULL));
    TRY_CL(log, clGetMemObjectInfo(mem, CL_MEM_ASSOCIATED_MEMOBJECT, sizeof b->parent, &b->parent, NULL));
    if (b->parent)
        TRY_CL(log, clGetMemObjectInfo(mem, CL_MEM_OFFSET, sizeof b->origin, &b->origin, NULL));
    else
        b->parent = mem;
    return CLMOE_OK;
}
