/* SPDX-License-Identifier: MIT */
#include "place.h"

enum clmoe_dtype place_dtype(enum array_dtype dtype) {
    return dtype == ARRAY_F32 ? CLMOE_F32 : dtype == ARRAY_F16 ? CLMOE_F16 : CLMOE_BF16;
}

enum clmoe_w_order place_order(const struct device *device) {
    return clmoe_matmul_wants_packing(device->ctx) ? CLMOE_W_PACKED : CLMOE_W_ENK;
}

/* In one buffer: no copy on the host. */
bool place_rows(const struct device *device, const struct clmoe_matmul_params *p, int64_t n,
                const struct array *arrays, struct clmoe_tensor *tensor, struct io_error *err) {
    *tensor = clmoe_tensor_3d(NULL, p->w_dtype, p->experts, p->out * (p->glu ? 2 : 1), p->in);
    size_t bytes = 0, offset = 0;
    for (int64_t i = 0; i < n; i++)
        bytes += arrays[i].bytes;
    tensor->mem = device_buffer(device, bytes, NULL, err);
    cl_int code = CL_SUCCESS;
    for (int64_t i = 0; i < n && tensor->mem && code == CL_SUCCESS; i++) {
        code = clEnqueueWriteBuffer(device->queue, tensor->mem, CL_FALSE, offset, arrays[i].bytes,
                                    arrays[i].data, 0, NULL, NULL);
        offset += arrays[i].bytes;
    }
    const cl_int finished = clFinish(device->queue);
    return tensor->mem && device_ok(code, "clEnqueueWriteBuffer", err) &&
           device_ok(finished, "clFinish", err);
}

static bool pack(const struct device *device, const struct clmoe_matmul_params *p,
                 const struct clmoe_tensor *w, struct clmoe_tensor *packed, struct io_error *err) {
    *packed = (struct clmoe_tensor){.dtype = p->w_dtype, .ndim = 4};
    enum clmoe_status status = clmoe_matmul_packed_shape(p, packed->shape);
    if (!device_moe_ok(device, status, "clmoe_matmul_packed_shape", err)) return false;
    int64_t bytes = clmoe_dtype_bytes(p->w_dtype, 1);
    for (int d = 0; d < 4; d++)
        bytes *= packed->shape[d];
    packed->mem = device_buffer(device, (size_t)bytes, NULL, err);
    if (!packed->mem) return false;
    clmoe_plan *plan;
    status = clmoe_matmul_pack_plan(device->ctx, p, &plan);
    if (!device_moe_ok(device, status, "clmoe_matmul_pack_plan", err)) return false;
    const struct clmoe_matmul_pack_args args = {.w = w, .packed = packed};
    status = clmoe_matmul_pack_enqueue(plan, device->queue, &args, 0, NULL, NULL);
    clmoe_plan_destroy(&plan);
    return device_moe_ok(device, status, "clmoe_matmul_pack_enqueue", err);
}

bool place_weights(const struct device *device, const struct clmoe_matmul_params *params, int64_t n,
                   const struct array *arrays, struct clmoe_tensor *tensor, struct io_error *err) {
    struct clmoe_tensor plain;
    bool ok = place_rows(device, params, n, arrays, &plain, err);
    if (ok && place_order(device) == CLMOE_W_ENK) {
        *tensor = plain;
        return true;
    }
    *tensor = (struct clmoe_tensor){0};
    if (ok) ok = pack(device, params, &plain, tensor, err);
    device_release(&plain.mem);
    if (!ok) device_release(&tensor->mem);
    return ok;
}
