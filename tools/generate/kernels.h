/* SPDX-License-Identifier: MIT
 * The small kernels of the forward pass that are no expert operation: tools/generate/X.cl, built at run time.
 * Each file says what its kernel computes and its global size. */
#ifndef CLMOE_GENERATE_KERNELS_H
#define CLMOE_GENERATE_KERNELS_H

#include "device.h"

struct kernel_text {
    const char *path, *text;
};

/* Ends with a row of NULL. Generated at build time. */
extern const struct kernel_text kernel_texts[];

enum kernel_id {
    KERNEL_EMBED,
    KERNEL_NORM,
    KERNEL_ROPE,
    KERNEL_ATTENTION,
    KERNEL_SURPRISE,
    KERNEL_COUNT,
    KERNEL_IDS, /* how many there are */
};

struct kernels {
    const struct device *device;
    int lanes;
    cl_kernel kernel[KERNEL_IDS];
};

/* `head_dim` is the width of an attention head. `*k` is to be destroyed after a failure too. */
bool kernels_create(const struct device *device, int64_t head_dim, struct kernels *k, struct io_error *err);
void kernels_destroy(struct kernels *k);

struct kernel_arg {
    size_t size;
    const void *value; /* NULL: local memory */
};
#define KERNEL_ARG(variable)                                                                                 \
    { sizeof(variable), &(variable) }

/* Enqueues one kernel. With `by_lanes`, global[0] counts groups of `lanes` work-items. */
bool kernels_run(struct kernels *k, enum kernel_id id, bool by_lanes, const size_t global[3], int n_args,
                 const struct kernel_arg *args, struct io_error *err);

#endif
