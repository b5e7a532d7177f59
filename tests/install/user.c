/* SPDX-License-Identifier: MIT
 * A program that uses an installed clmoe: scatters two values into a row of eight. Also valid C++. */
#include <clmoe/clmoe.h>

#include <stdio.h>
#include <string.h>

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond)) return fprintf(stderr, "does not hold: %s\n", #cond), 1;                                \
    } while (0)

static cl_mem buffer(cl_context context, size_t size, const void *data) {
    return clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, size, (void *)(size_t)data,
                          NULL);
}

int main(void) {
    const float values[2] = {1.5f, -2.0f}, want[8] = {0, 0, -2.0f, 0, 0, 1.5f, 0, 0};
    const int32_t indices[2] = {5, 2};
    float y[8], zeros[8] = {0};
    cl_platform_id platform;
    cl_device_id device;
    CHECK(clGetPlatformIDs(1, &platform, NULL) == CL_SUCCESS);
    CHECK(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) == CL_SUCCESS);
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, NULL);
    clmoe_context *ctx = NULL;
    CHECK(clmoe_context_create(context, device, NULL, &ctx) == CLMOE_OK);
    struct clmoe_scatter_params params;
    memset(&params, 0, sizeof params);
    params.max_rows = 1, params.n = 8, params.k = 2;
    clmoe_plan *plan = NULL;
    CHECK(clmoe_scatter_plan(ctx, &params, &plan) == CLMOE_OK);
    struct clmoe_scatter_args args;
    memset(&args, 0, sizeof args);
    args.indices = clmoe_tensor_2d(buffer(context, sizeof indices, indices), CLMOE_I32, 1, 2);
    args.values = clmoe_tensor_2d(buffer(context, sizeof values, values), CLMOE_F32, 1, 2);
    args.y = clmoe_tensor_2d(buffer(context, sizeof zeros, zeros), CLMOE_F32, 1, 8);
    CHECK(clmoe_scatter_enqueue(plan, queue, &args, 0, NULL, NULL) == CLMOE_OK);
    CHECK(clEnqueueReadBuffer(queue, args.y.mem, CL_TRUE, 0, sizeof y, y, 0, NULL, NULL) == CL_SUCCESS);
    CHECK(memcmp(y, want, sizeof y) == 0);
    clmoe_plan_destroy(&plan);
    clmoe_context_destroy(&ctx);
    clReleaseMemObject(args.indices.mem), clReleaseMemObject(args.values.mem), clReleaseMemObject(args.y.mem);
    clReleaseCommandQueue(queue), clReleaseContext(context);
    printf("clmoe %d scatters\n", clmoe_version());
    return 0;
}
