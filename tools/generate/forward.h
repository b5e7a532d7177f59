/* SPDX-License-Identifier: MIT
 * The forward pass: bytes in, logits out, with a cache of keys and values. For each layer
 *
 *   x += attention(norm(x)) o^T        CLBlast or clmoe_matmul, and tools/generate kernels
 *   x += moe(norm(x))                  one clmoe_moe, which adds x itself
 *
 * A pass only enqueues; the calls that return numbers wait for them. */
#ifndef CLMOE_GENERATE_FORWARD_H
#define CLMOE_GENERATE_FORWARD_H

#include "kernels.h"
#include "model.h"
#include "quantise.h"

/* Thread-safety: one thread at a time. */
struct forward;

/* Holds up to `sequences` texts of the model's context side by side, with the experts' weights in `format`,
 * which the model fits, or as they are with NULL. `device` and `model` must outlive it. `*f` is NULL on
 * failure. */
bool forward_create(const struct device *device, const struct model *model, const struct quant_format *format,
                    int64_t sequences, struct forward **f, struct io_error *err);
void forward_destroy(struct forward **f);

/* Reads `n` bytes as positions start..start+n-1 of the text whose positions 0..start-1 were read before, and
 * gives the logits of the byte that follows. start + n is at most the context. */
bool forward_next(struct forward *f, const uint8_t *text, int64_t n, int64_t start, float logits[MODEL_VOCAB],
                  struct io_error *err);

/* Reads `sequences` texts of `length` bytes each, one after the other in `text`, from position 0 on, and
 * gives -log2 of the probability of each byte but the first of its text, given those before: bits[i] belongs
 * to text[i + 1], and is 0 for the last of a text. */
bool forward_surprise(struct forward *f, const uint8_t *text, int64_t sequences, int64_t length, float *bits,
                      struct io_error *err);

/* The experts of one row of the last pass, best first, and their weights. */
bool forward_routing(struct forward *f, int64_t layer, int64_t row, int32_t *ids, float *gamma,
                     struct io_error *err);

/* Bits of a weight of the experts, with its share of scales. */
double forward_expert_bits(const struct forward *f);

/* How often each expert ran since the start: counts[layer * experts + expert]. */
bool forward_counts(struct forward *f, uint32_t *counts, struct io_error *err);

/* Sets these counts to 0. */
bool forward_forget_counts(struct forward *f, struct io_error *err);

#endif
