// SPDX-License-Identifier: MIT
//
// Writing a file so that a reader sees the whole old file or the whole new one, never half of it.
//
// The bytes go to a hidden temporary file in the same folder (".clmoe-PID-N.tmp"); output_commit() flushes it
// to the disk and renames it over the target. Until then, and after any failure, the old file is untouched
// and the temporary is removed. Only a killed process or a lost machine leaves the temporary behind.
//
//     struct output out;
//     if (!output_open(path, &out, err)) return false;
//     bool ok = output_write(&out, head, head_size, err) && output_write(&out, body, body_size, err);
//     return output_commit(&out, ok, err);
//
// A symbolic link is followed: its target is replaced and the link stays; one that leads nowhere is
// replaced itself. The mode of a replaced file is
// kept. A target that exists and is a character device or a FIFO (/dev/null, /dev/stdout) is written in
// place. A directory, socket or block device is refused, and so is an existing file that the caller may not
// write.
#ifndef CLMOE_TOOLS_IO_OUTPUT_H
#define CLMOE_TOOLS_IO_OUTPUT_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>

// Thread-safety: one thread at a time per object.
struct output {
    int fd;
    char *name;   // as the caller gave it, for messages
    char *target; // after links; NULL when written in place
    char *temp;   // NULL when written in place
};

// Before long work: whether output_open() would succeed. It does, and is undone: nothing else knows all reasons
// why writing may fail. A device or a pipe is left alone, as its reader would see the end of the file.
bool output_check(const char *path, struct io_error *err);

// Creates the temporary. On failure `out` holds nothing and must not be committed.
bool output_open(const char *path, struct output *out, struct io_error *err);

// Appends. May be called any number of times; size 0 is valid with a NULL `data`.
bool output_write(struct output *out, const void *data, size_t size, struct io_error *err);

// Ends the output in any case and frees it. With `ok` false it removes the temporary, leaves `err` alone and
// returns false. With `ok` true it flushes, renames and returns true, or removes the temporary and says why
// not.
bool output_commit(struct output *out, bool ok, struct io_error *err);

#endif
