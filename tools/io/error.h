// SPDX-License-Identifier: MIT
//
// Errors of the file readers and writers.
//
// Every fallible function of tools/io returns bool. On false it has written one line into the caller's
// `struct io_error`: the file, the thing in it, the numbers, for example
//     x.npy: shape (3, -2): negative dimension
// The line has no newline at its end and never contains a control character, whatever the file contained, so
// that it can be printed as it is. Nothing here prints, exits or aborts. On true the error is left alone.
//
// A NULL `struct io_error *` is valid everywhere and means "only tell me that it failed".
#ifndef CLMOE_TOOLS_IO_ERROR_H
#define CLMOE_TOOLS_IO_ERROR_H

#include <stdbool.h>

#define IO_ERROR_BYTES 1024

// Thread-safety: one thread at a time per object.
struct io_error {
    char text[IO_ERROR_BYTES]; // always NUL-terminated once a function has failed; cut with "..." when too
                               // long
};

#if defined(__GNUC__)
#define IO_PRINTF(message, first) __attribute__((format(printf, message, first)))
#else
#define IO_PRINTF(message, first)
#endif

// Writes "NAME: MESSAGE". A name of more than 300 bytes keeps its end. Strings out of files go in as
// "%.100s".
void io_error_set(struct io_error *err, const char *name, const char *format, ...) IO_PRINTF(3, 4);

// The same as an expression that is false, so that a check reads `return io_fail(...)`. A macro, so that the
// compiler sees the value.
#define io_fail(err, name, ...) (io_error_set((err), (name), __VA_ARGS__), false)

#endif
