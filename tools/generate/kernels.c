/* SPDX-License-Identifier: MIT */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILES 16
#define GPU_LANES 64 /* a wavefront of AMD, two warps of NVIDIA */

static const char *const names[KERNEL_IDS] = {"embed", "norm", "rope", "attention", "surprise", "count"};

static int choose_lanes(const struct device *device) {
    struct clmoe_device_info info;
    if (clmoe_context_device_info(device->ctx, &info) != CLMOE_OK || (info.features & CLMOE_FEATURE_CPU))
        return 1;
    int lanes = GPU_LANES;
    while ((size_t)lanes > info.caps.max_work_group)
        lanes /= 2;
    return lanes;
}

/* The error takes the first line of the build log that names an error. */
static bool build_failed(const struct device *device, cl_program program, cl_int code, struct io_error *err) {
    size_t size = 0;
    clGetProgramBuildInfo(program, device->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
    char *const log = calloc(1, size + 1);
    if (log) clGetProgramBuildInfo(program, device->device, CL_PROGRAM_BUILD_LOG, size, log, NULL);
    const char *const line = log && strstr(log, "error") ? strstr(log, "error") : "";
    io_error_set(err, "clBuildProgram", "OpenCL error %d%s%.*s", (int)code, *line ? ": " : "",
                 (int)strcspn(line, "\n"), line);
    free(log);
    return false;
}

static cl_program build(const struct device *device, int lanes, int64_t head_dim, struct io_error *err) {
    const char *texts[MAX_FILES] = {NULL};
    cl_uint n = 1;
    for (const struct kernel_text *t = kernel_texts; t->path && n < MAX_FILES; t++) {
        if (strcmp(t->path, "lanes.cl") == 0)
            texts[0] = t->text;
        else
            texts[n++] = t->text;
    }
    cl_int code;
    const cl_program program = clCreateProgramWithSource(device->context, n, texts, NULL, &code);
    if (!device_ok(code, "clCreateProgramWithSource", err)) return NULL;
    char options[128];
    snprintf(options, sizeof options, "-cl-std=CL1.2 -DLANES=%d -DVEC=%d -DHEAD_DIM=%d", lanes,
             lanes == 1 ? 16 : 1, (int)head_dim);
    code = clBuildProgram(program, 1, &device->device, options, NULL, NULL);
    if (code == CL_SUCCESS) return program;
    build_failed(device, program, code, err);
    clReleaseProgram(program);
    return NULL;
}

bool kernels_create(const struct device *device, int64_t head_dim, struct kernels *k, struct io_error *err) {
    *k = (struct kernels){.device = device, .lanes = choose_lanes(device)};
    const cl_program program = build(device, k->lanes, head_dim, err);
    cl_int code = CL_SUCCESS;
    for (int i = 0; program && i < KERNEL_IDS && code == CL_SUCCESS; i++)
        k->kernel[i] = clCreateKernel(program, names[i], &code);
    if (program) clReleaseProgram(program);
    return program && device_ok(code, "clCreateKernel", err);
}

void kernels_destroy(struct kernels *k) {
    for (int i = 0; i < KERNEL_IDS; i++)
        if (k->kernel[i]) clReleaseKernel(k->kernel[i]);
    *k = (struct kernels){0};
}

bool kernels_run(struct kernels *k, enum kernel_id id, bool by_lanes, const size_t global[3], int n_args,
                 const struct kernel_arg *args, struct io_error *err) {
    cl_int code = CL_SUCCESS;
    for (int i = 0; i < n_args && code == CL_SUCCESS; i++)
        code = clSetKernelArg(k->kernel[id], (cl_uint)i, args[i].size, args[i].value);
    const size_t local[3] = {(size_t)k->lanes, 1, 1};
    const size_t size[3] = {global[0] * (by_lanes ? local[0] : 1), global[1], global[2]};
    if (code == CL_SUCCESS)
        code = clEnqueueNDRangeKernel(k->device->queue, k->kernel[id], 3, NULL, size, by_lanes ? local : NULL,
                                      0, NULL, NULL);
    return device_ok(code, names[id], err);
}
