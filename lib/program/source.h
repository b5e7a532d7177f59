/* SPDX-License-Identifier: MIT
 * The text of a kernel file with its includes put in, each once, and #line marks so that build logs name file
 * and line. Text comes from the table that tools/embed.py made of cl/, or from disk if the environment has
 * CLMOE_CL_DIR. */
#ifndef CLMOE_PROGRAM_SOURCE_H
#define CLMOE_PROGRAM_SOURCE_H

#include "base/hash.h"
#include "base/str.h"

struct embedded_source {
    const char *path; /* as in "topk/lanes.cl" */
    const char *text;
    const char *digest; /* of the text and of all that it includes: tools/embed.py */
};

/* Ends with a row of NULL. Generated at build time. */
extern const struct embedded_source embedded_sources[];

/* Appends the assembled text of `path` to `out`. CLMOE_E_BUILD if a file is missing; the log says which. */
enum clmoe_status source_assemble(const struct log *log, const char *path, struct str *out);

/* Adds what tells the assembled text of `path` from any other. */
enum clmoe_status source_hash(const struct log *log, const char *path, struct hash *h);

#endif
