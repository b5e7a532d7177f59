// SPDX-License-Identifier: MIT
//
// The part of checkpoint.c that reads GGUF.
#ifndef CLMOE_TOOLS_IO_CHECKPOINT_GGUF_H
#define CLMOE_TOOLS_IO_CHECKPOINT_GGUF_H

#include "checkpoint.h"

// Fills a checkpoint that has its name; on failure the caller closes it.
bool checkpoint_open_gguf(struct checkpoint *c, const char *path, struct io_error *err);

// Of weights, for qsort() and bsearch().
int checkpoint_by_name(const void *a, const void *b);

#endif
