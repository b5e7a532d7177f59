/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <stdio.h>
#include <string.h>

bool device_ok(cl_int code, const char *call, struct io_error *err) {
    if (code == CL_SUCCESS) return true;
    return io_fail(err, call, "OpenCL error %d", (int)code);
}

bool device_moe_ok(const struct device *device, enum clmoe_status status, const char *call,
                   struct io_error *err) {
    if (status == CLMOE_OK) return true;
    const char *const log = device->log ? device->log : "";
    return io_fail(err, call, "%s%s%.*s", clmoe_status_name(status), *log ? ": " : "",
                   (int)strcspn(log, "\n"), log);
}

cl_mem device_buffer(const struct device *device, size_t bytes, const void *data, struct io_error *err) {
    cl_int code;
    const cl_mem mem = clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (code == CL_SUCCESS && data)
        code = clEnqueueWriteBuffer(device->queue, mem, CL_TRUE, 0, bytes, data, 0, NULL, NULL);
    if (code == CL_SUCCESS) return mem;
    if (mem) clReleaseMemObject(mem);
    char call[64];
    snprintf(call, sizeof call, "a buffer of %zu bytes", bytes);
    device_ok(code, call, err);
    return NULL;
}

void device_release(cl_mem *mem) {
    if (*mem) clReleaseMemObject(*mem);
    *mem = NULL;
}
