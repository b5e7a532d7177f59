/* SPDX-License-Identifier: MIT
 * The arrays of a subcommand: inputs that it reads, and outputs that its options ask for.
 *
 * Outputs are checked before the work and written after all of it, so that a failed command leaves every
 * file as it was. */
#ifndef CLMOE_TOOLS_FILES_H
#define CLMOE_TOOLS_FILES_H

#include "command.h"
#include "io/array.h"

/* One output file. */
struct result {
    const char *option; /* "--values", for messages */
    const char *path;   /* NULL: not asked for */
    struct array array; /* filled by the work */
};

/* Reads an input. Returns -1, or EXIT_USAGE after printing why not. */
int read_input(const struct usage *usage, const char *path, bool bf16, struct array *out);

/* The same for rows of f32, f16 or bf16 along the last dimension. */
int read_rows(const struct usage *usage, const char *path, bool bf16, struct array *out);

/* A borrowed view [rows, last dimension] of an array of one dimension or more. */
struct array flat_rows(const struct array *array);

/* Gives `result` [rows, columns] the leading dimensions of `input`: [..., columns]. */
void shape_like(struct array *result, const struct array *input);

/* Before the work: every path has a known ending, can be written, and no two are the same file. Returns -1,
 * or the exit code after printing an error. */
int check_results(const struct usage *usage, const struct result *results, int n);

/* After the work: writes what was asked for. */
int write_results(const struct usage *usage, const struct result *results, int n);

void free_results(struct result *results, int n);

#endif
