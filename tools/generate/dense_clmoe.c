/* SPDX-License-Identifier: MIT
 * Dense products by the library's matmul with one expert. Weights keep the dtype of the file. */
#include "dense.h"
#include "place.h"

#include <stdlib.h>

const char *const dense_implementation = "clmoe_matmul";

struct dense {
    const struct device *device;
    struct clmoe_matmul_params params; /* with the weights as in the file */
    clmoe_plan *one, *many;            /* a row alone, as when text is written, and any number */
};

static bool make_plan(struct dense *d, int64_t rows, clmoe_plan **plan, struct io_error *err) {
    struct clmoe_matmul_params p = d->params;
    p.max_tokens = rows;
    p.w_order = place_order(d->device);
    return device_moe_ok(d->device, clmoe_matmul_plan(d->device->ctx, &p, plan), "clmoe_matmul_plan", err);
}

struct dense *dense_create(const struct device *device, int64_t in, int64_t out, int64_t max_rows,
                           enum array_dtype dtype, struct io_error *err) {
    struct dense *d = calloc(1, sizeof *d);
    if (!d) {
        io_error_set(err, "dense_create", "out of memory");
        return NULL;
    }
    d->device = device;
    d->params = (struct clmoe_matmul_params){.topk = 1,
                                             .experts = 1,
                                             .in = in,
                                             .out = out,
                                             .w_dtype = place_dtype(dtype),
                                             .routing = CLMOE_ROUTING_DENSE};
    if (!make_plan(d, 1, &d->one, err) || !make_plan(d, max_rows, &d->many, err)) dense_destroy(&d);
    return d;
}

void dense_destroy(struct dense **dense) {
    if (!*dense) return;
    clmoe_plan_destroy(&(*dense)->one);
    clmoe_plan_destroy(&(*dense)->many);
    free(*dense);
    *dense = NULL;
}

void dense_cleanup(void) {}

bool dense_weights(const struct dense *d, int n, const struct array *arrays, struct clmoe_tensor *tensor,
                   struct io_error *err) {
    return place_weights(d->device, &d->params, n, arrays, tensor, err);
}

bool dense_run(struct dense *d, const struct clmoe_tensor *w, cl_mem x, int64_t first, int64_t rows, cl_mem y,
               struct io_error *err) {
    struct clmoe_matmul_args args = {
        .x = clmoe_tensor_2d(x, CLMOE_F32, rows, d->params.in),
        .w = w,
        .y = clmoe_tensor_2d(y, CLMOE_F32, rows, d->params.out),
    };
    args.x.offset = (uint64_t)(first * d->params.in) * sizeof(float);
    clmoe_plan *const plan = rows == 1 ? d->one : d->many;
    return device_moe_ok(d->device, clmoe_matmul_enqueue(plan, d->device->queue, &args, 0, NULL, NULL),
                         "clmoe_matmul_enqueue", err);
}
