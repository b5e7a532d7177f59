/* SPDX-License-Identifier: MIT
 * Brings the weights of one clmoe_matmul to the device, packed where the device wants that. */
#ifndef CLMOE_GENERATE_PLACE_H
#define CLMOE_GENERATE_PLACE_H

#include "device.h"
#include "io/array.h"

/* The library's name of F32, F16 or BF16. */
enum clmoe_dtype place_dtype(enum array_dtype dtype);

/* The order in which weights lie after place_weights(): PACKED or ENK. */
enum clmoe_w_order place_order(const struct device *device);

/* `n` arrays [r_i, in] of the params' w_dtype, one under the other, become the weights of all experts;
 * `params` are the product's with w_order ENK. They are read until this returns. The caller releases
 * tensor->mem. */
bool place_weights(const struct device *device, const struct clmoe_matmul_params *params, int64_t n,
                   const struct array *arrays, struct clmoe_tensor *tensor, struct io_error *err);

/* The same, but in the order ENK on every device. */
bool place_rows(const struct device *device, const struct clmoe_matmul_params *params, int64_t n,
                const struct array *arrays, struct clmoe_tensor *tensor, struct io_error *err);

#endif
