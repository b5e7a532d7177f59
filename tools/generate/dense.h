/* SPDX-License-Identifier: MIT
 * Dense products y = x w^T of fp32 rows: x [rows, in], w [out, in], y [rows, out], contiguous. Two
 * implementations, one of them built in: CLBlast (dense_clblast.c), and where that is missing the library's
 * own matmul with one expert (dense_clmoe.c). */
#ifndef CLMOE_GENERATE_DENSE_H
#define CLMOE_GENERATE_DENSE_H

#include "device.h"
#include "io/array.h"

/* "CLBlast" or "clmoe_matmul". */
extern const char *const dense_implementation;

/* A product of fixed sizes. */
struct dense;

/* For up to `max_rows` rows and weights that lie in files as `dtype` (F32, F16 or BF16). NULL on failure. */
struct dense *dense_create(const struct device *device, int64_t in, int64_t out, int64_t max_rows,
                           enum array_dtype dtype, struct io_error *err);
void dense_destroy(struct dense **dense);

/* Brings weights to the device in the form that the product wants: `n` arrays [out_i, in] of the dtype, one
 * under the other, with all out_i adding up to out. The caller releases tensor->mem. */
bool dense_weights(const struct dense *dense, int n, const struct array *arrays, struct clmoe_tensor *tensor,
                   struct io_error *err);

/* Enqueues the product of `rows` rows of x from row `first` on; y is written from its first row. What y holds
 * before must be finite numbers: CLBlast's gemv adds 0 times them. */
bool dense_run(struct dense *dense, const struct clmoe_tensor *w, cl_mem x, int64_t first, int64_t rows,
               cl_mem y, struct io_error *err);

/* Lets go of what the implementation keeps for OpenCL contexts beyond its products. */
void dense_cleanup(void);

#endif
