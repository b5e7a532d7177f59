// SPDX-License-Identifier: MIT
//
// A whole regular file, mapped read only.
#ifndef CLMOE_TOOLS_IO_MAP_H
#define CLMOE_TOOLS_IO_MAP_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>

// `{0}` is a valid, closed map. An open map of an empty file has data == NULL and size == 0.
// Thread-safety: reading is safe from every thread; opening and closing belong to one.
struct file_map {
    const void *data; // page aligned
    size_t size;      // bytes; at most PTRDIFF_MAX
};

// Maps `path`. A directory, FIFO, socket or device is refused without blocking on it; so is a file that
// cannot be read. `out` is `{0}` on failure. Symbolic links are followed.
//
// Limit: the mapping shows the file as it is on disk. Another program that shortens the file while it is
// mapped makes the kernel send SIGBUS to the reader; clmoe's own writers rename and so never do.
bool file_map_open(const char *path, struct file_map *out, struct io_error *err);

// Unmaps and clears. Valid on `{0}`.
void file_map_close(struct file_map *map);

#endif
