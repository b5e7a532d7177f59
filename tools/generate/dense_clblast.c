/* SPDX-License-Identifier: MIT
 * Dense products by CLBlast, which knows no bf16: weights are fp32 on the device. */
#include "dense.h"

#include <clblast_c.h>
#include <stdlib.h>

const char *const dense_implementation = "CLBlast";

struct dense {
    const struct device *device;
    size_t in, out;
};

struct dense *dense_create(const struct device *device, int64_t in, int64_t out, int64_t max_rows,
                           enum array_dtype dtype, struct io_error *err) {
    (void)max_rows;
    (void)dtype;
    struct dense *const d = malloc(sizeof *d);
    if (d)
        *d = (struct dense){device, (size_t)in, (size_t)out};
    else
        io_error_set(err, "dense_create", "out of memory");
    return d;
}

void dense_destroy(struct dense **dense) {
    free(*dense);
    *dense = NULL;
}

void dense_cleanup(void) {
    CLBlastClearCache();
}

static bool upload(const struct dense *d, cl_mem w, size_t *offset, const struct array *array,
                   struct io_error *err) {
    struct array wide;
    if (!array_to_f32("weights", array, &wide, err)) return false;
    const cl_int code =
        clEnqueueWriteBuffer(d->device->queue, w, CL_TRUE, *offset, wide.bytes, wide.data, 0, NULL, NULL);
    *offset += wide.bytes;
    array_free(&wide);
    return device_ok(code, "clEnqueueWriteBuffer", err);
}

bool dense_weights(const struct dense *d, int n, const struct array *arrays, struct clmoe_tensor *tensor,
                   struct io_error *err) {
    *tensor = clmoe_tensor_2d(device_buffer(d->device, d->in * d->out * sizeof(float), NULL, err), CLMOE_F32,
                              (int64_t)d->out, (int64_t)d->in);
    size_t offset = 0;
    for (int i = 0; i < n && tensor->mem; i++)
        if (!upload(d, tensor->mem, &offset, &arrays[i], err)) device_release(&tensor->mem);
    return tensor->mem != NULL;
}

bool dense_run(struct dense *d, const struct clmoe_tensor *w, cl_mem x, int64_t first, int64_t rows, cl_mem y,
               struct io_error *err) {
    cl_command_queue queue = d->device->queue;
    const size_t m = (size_t)rows, n = d->out, k = d->in, from = (size_t)first * k;
    const CLBlastStatusCode code =
        rows == 1 ? CLBlastSgemv(CLBlastLayoutRowMajor, CLBlastTransposeNo, n, k, 1, w->mem, 0, k, x, from, 1,
                                 0, y, 0, 1, &queue, NULL)
                  : CLBlastSgemm(CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, m, n, k, 1,
                                 x, from, k, w->mem, 0, k, 0, y, 0, n, &queue, NULL);
    return code == CLBlastSuccess ||
           io_fail(err, rows == 1 ? "CLBlastSgemv" : "CLBlastSgemm", "CLBlast error %d", (int)code);
}
