/* SPDX-License-Identifier: MIT
 * What clmoe is timed beside. */
#ifndef CLMOE_TOOLS_PEERS_H
#define CLMOE_TOOLS_PEERS_H

#include "pairs.h"

/* The expert product as a program without clmoe would do it: one call of a dense library for each expert
 * that has rows. Times the product of `rows` gathered rows (the peer is spared the gathering) by weights
 * [E, N, K] in f32 with `name` = "clblast" or "openblas". Returns -1, or an exit code after printing an error
 * (a peer that was not built in is bad usage). */
int peer_time(struct bench *b, const char *name, const struct pairs *r, int32_t experts, int64_t n, int64_t k,
              struct timing *timing);

/* What merely moves as many bytes as an operation reads and writes: a copy of half of them. */
int peer_copy_time(struct bench *b, double bytes, struct timing *timing);

#endif
