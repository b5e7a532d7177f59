/* SPDX-License-Identifier: MIT
 * Peers of the expert product: one call of a dense library for each expert that has rows, as a program
 * without clmoe would do it. Rows are already gathered, so the peer is spared that. */
#ifndef CLMOE_TOOLS_PEERS_H
#define CLMOE_TOOLS_PEERS_H

#include "experts.h"

/* Times the product of `rows` gathered rows by weights [E, N, K] in f32 with `name` = "clblast" or
 * "openblas". Returns -1, or an exit code after printing an error (a peer that was not built in is bad
 * usage). */
int peer_time(struct bench *b, const char *name, const struct routing *r, int32_t experts, int64_t n,
              int64_t k, struct timing *timing);

#endif
