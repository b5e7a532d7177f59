/* SPDX-License-Identifier: MIT */
#define CL_TARGET_OPENCL_VERSION 300 /* the table of a layer has all entries */
#include "layer.h"

#include <CL/cl_layer.h>

#include <stdatomic.h>
#include <string.h>

static const cl_icd_dispatch *next;
static cl_icd_dispatch dispatch;

static struct {
    atomic_llong references[LAYER_OBJECTS];
    atomic_ullong enqueued, events, blocking, built, set_args, binaries, calls, victim;
    atomic_int flavour;
    _Atomic(const char *) failed;
} state;

/* Every call that may fail passes here; releases do not. */
static int fails(const char *name) {
    const unsigned long long n = atomic_fetch_add(&state.calls, 1) + 1;
    if (n != atomic_load(&state.victim)) return 0;
    atomic_store(&state.failed, name);
    return 1;
}

static cl_int error(cl_int resources, cl_int refusal) {
    return atomic_load(&state.flavour) == LAYER_REFUSAL ? refusal : resources;
}

static void count(enum layer_object type, int change) {
    atomic_fetch_add(&state.references[type], change);
}

/* ---- queries ---- */

#define INFO(call, handle_type, name_type)                                                                   \
    static cl_int CL_API_CALL call##_(handle_type handle, name_type name, size_t size, void *value,          \
                                      size_t *size_ret) {                                                    \
        if (fails(#call)) return error(CL_OUT_OF_HOST_MEMORY, CL_INVALID_VALUE);                             \
        return next->call(handle, name, size, value, size_ret);                                              \
    }
INFO(clGetPlatformInfo, cl_platform_id, cl_platform_info)
INFO(clGetDeviceInfo, cl_device_id, cl_device_info)
INFO(clGetContextInfo, cl_context, cl_context_info)
INFO(clGetCommandQueueInfo, cl_command_queue, cl_command_queue_info)
INFO(clGetMemObjectInfo, cl_mem, cl_mem_info)
INFO(clGetProgramInfo, cl_program, cl_program_info)
INFO(clGetKernelInfo, cl_kernel, cl_kernel_info)
INFO(clGetEventInfo, cl_event, cl_event_info)

#define INFO_OF_DEVICE(call, handle_type, name_type)                                                         \
    static cl_int CL_API_CALL call##_(handle_type handle, cl_device_id device, name_type name, size_t size,  \
                                      void *value, size_t *size_ret) {                                       \
        if (fails(#call)) return error(CL_OUT_OF_HOST_MEMORY, CL_INVALID_VALUE);                             \
        return next->call(handle, device, name, size, value, size_ret);                                      \
    }
INFO_OF_DEVICE(clGetProgramBuildInfo, cl_program, cl_program_build_info)
INFO_OF_DEVICE(clGetKernelWorkGroupInfo, cl_kernel, cl_kernel_work_group_info)

/* ---- references ---- */

#define REFERENCES(object, handle_type, type)                                                                \
    static cl_int CL_API_CALL clRetain##object##_(handle_type handle) {                                      \
        if (fails("clRetain" #object)) return error(CL_OUT_OF_HOST_MEMORY, CL_OUT_OF_RESOURCES);             \
        const cl_int err = next->clRetain##object(handle);                                                   \
        if (err == CL_SUCCESS) count(type, 1);                                                               \
        return err;                                                                                          \
    }                                                                                                        \
    static cl_int CL_API_CALL clRelease##object##_(handle_type handle) {                                     \
        const cl_int err = next->clRelease##object(handle);                                                  \
        if (err == CL_SUCCESS) count(type, -1);                                                              \
        return err;                                                                                          \
    }
REFERENCES(Context, cl_context, LAYER_CONTEXT)
REFERENCES(Device, cl_device_id, LAYER_DEVICE)
REFERENCES(CommandQueue, cl_command_queue, LAYER_QUEUE)
REFERENCES(MemObject, cl_mem, LAYER_MEM)
REFERENCES(Program, cl_program, LAYER_PROGRAM)
REFERENCES(Kernel, cl_kernel, LAYER_KERNEL)
REFERENCES(Event, cl_event, LAYER_EVENT)

/* ---- creation ---- */

/* An object that is not made: NULL, with the error in `err`. */
static void *none(cl_int *err, cl_int resources, cl_int refusal) {
    if (err) *err = error(resources, refusal);
    return NULL;
}

static cl_context CL_API_CALL clCreateContext_(
    const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,
    void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user_data, cl_int *err) {
    if (fails("clCreateContext")) return none(err, CL_OUT_OF_HOST_MEMORY, CL_INVALID_VALUE);
    const cl_context made = next->clCreateContext(properties, n, devices, notify, user_data, err);
    if (made) count(LAYER_CONTEXT, 1);
    return made;
}

static cl_command_queue CL_API_CALL clCreateCommandQueue_(cl_context context, cl_device_id device,
                                                          cl_command_queue_properties properties,
                                                          cl_int *err) {
    if (fails("clCreateCommandQueue")) return none(err, CL_OUT_OF_HOST_MEMORY, CL_INVALID_QUEUE_PROPERTIES);
    const cl_command_queue made = next->clCreateCommandQueue(context, device, properties, err);
    if (made) count(LAYER_QUEUE, 1);
    return made;
}

static cl_mem CL_API_CALL clCreateBuffer_(cl_context context, cl_mem_flags flags, size_t size, void *host,
                                          cl_int *err) {
    if (fails("clCreateBuffer")) return none(err, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_INVALID_BUFFER_SIZE);
    const cl_mem made = next->clCreateBuffer(context, flags, size, host, err);
    if (made) count(LAYER_MEM, 1);
    return made;
}

static cl_mem CL_API_CALL clCreateSubBuffer_(cl_mem mem, cl_mem_flags flags, cl_buffer_create_type type,
                                             const void *info, cl_int *err) {
    if (fails("clCreateSubBuffer"))
        return none(err, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_MISALIGNED_SUB_BUFFER_OFFSET);
    const cl_mem made = next->clCreateSubBuffer(mem, flags, type, info, err);
    if (made) count(LAYER_MEM, 1);
    return made;
}

static cl_program CL_API_CALL clCreateProgramWithSource_(cl_context context, cl_uint n, const char **text,
                                                         const size_t *size, cl_int *err) {
    if (fails("clCreateProgramWithSource")) return none(err, CL_OUT_OF_HOST_MEMORY, CL_INVALID_VALUE);
    const cl_program made = next->clCreateProgramWithSource(context, n, text, size, err);
    if (made) count(LAYER_PROGRAM, 1);
    return made;
}

static cl_program CL_API_CALL clCreateProgramWithBinary_(cl_context context, cl_uint n,
                                                         const cl_device_id *devices, const size_t *size,
                                                         const unsigned char **binary, cl_int *status,
                                                         cl_int *err) {
    if (fails("clCreateProgramWithBinary")) {
        if (status) *status = CL_INVALID_BINARY;
        return none(err, CL_OUT_OF_HOST_MEMORY, CL_INVALID_BINARY);
    }
    atomic_fetch_add(&state.binaries, 1);
    const cl_program made = next->clCreateProgramWithBinary(context, n, devices, size, binary, status, err);
    if (made) count(LAYER_PROGRAM, 1);
    return made;
}

static cl_int CL_API_CALL clBuildProgram_(cl_program program, cl_uint n, const cl_device_id *devices,
                                          const char *options, void(CL_CALLBACK *notify)(cl_program, void *),
                                          void *user_data) {
    if (fails("clBuildProgram")) return error(CL_OUT_OF_HOST_MEMORY, CL_BUILD_PROGRAM_FAILURE);
    atomic_fetch_add(&state.built, 1);
    return next->clBuildProgram(program, n, devices, options, notify, user_data);
}

static cl_kernel CL_API_CALL clCreateKernel_(cl_program program, const char *name, cl_int *err) {
    if (fails("clCreateKernel")) return none(err, CL_OUT_OF_HOST_MEMORY, CL_INVALID_KERNEL_NAME);
    const cl_kernel made = next->clCreateKernel(program, name, err);
    if (made) count(LAYER_KERNEL, 1);
    return made;
}

static cl_event CL_API_CALL clCreateUserEvent_(cl_context context, cl_int *err) {
    const cl_event made = next->clCreateUserEvent(context, err);
    if (made) count(LAYER_EVENT, 1);
    return made;
}

static cl_int CL_API_CALL clSetKernelArg_(cl_kernel kernel, cl_uint index, size_t size, const void *value) {
    if (fails("clSetKernelArg")) return error(CL_OUT_OF_RESOURCES, CL_INVALID_ARG_SIZE);
    atomic_fetch_add(&state.set_args, 1);
    return next->clSetKernelArg(kernel, index, size, value);
}

/* ---- commands ---- */

static cl_int enqueued(cl_int err, cl_event *event, cl_bool blocking) {
    atomic_fetch_add(&state.enqueued, 1);
    if (event) atomic_fetch_add(&state.events, 1);
    if (blocking) atomic_fetch_add(&state.blocking, 1);
    if (err == CL_SUCCESS && event && *event) count(LAYER_EVENT, 1);
    return err;
}
#define CAN_FAIL(call)                                                                                       \
    if (fails(#call)) return error(CL_OUT_OF_RESOURCES, CL_MEM_OBJECT_ALLOCATION_FAILURE)

static cl_int CL_API_CALL clEnqueueNDRangeKernel_(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                                                  const size_t *offset, const size_t *global,
                                                  const size_t *local, cl_uint n, const cl_event *wait,
                                                  cl_event *event) {
    CAN_FAIL(clEnqueueNDRangeKernel);
    return enqueued(next->clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, n, wait, event),
                    event, 0);
}

static cl_int CL_API_CALL clEnqueueMarkerWithWaitList_(cl_command_queue queue, cl_uint n,
                                                       const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueMarkerWithWaitList);
    return enqueued(next->clEnqueueMarkerWithWaitList(queue, n, wait, event), event, 0);
}

static cl_int CL_API_CALL clEnqueueBarrierWithWaitList_(cl_command_queue queue, cl_uint n,
                                                        const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueBarrierWithWaitList);
    return enqueued(next->clEnqueueBarrierWithWaitList(queue, n, wait, event), event, 0);
}

static cl_int CL_API_CALL clEnqueueFillBuffer_(cl_command_queue queue, cl_mem mem, const void *pattern,
                                               size_t pattern_size, size_t offset, size_t size, cl_uint n,
                                               const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueFillBuffer);
    return enqueued(
        next->clEnqueueFillBuffer(queue, mem, pattern, pattern_size, offset, size, n, wait, event), event, 0);
}

static cl_int CL_API_CALL clEnqueueCopyBuffer_(cl_command_queue queue, cl_mem from, cl_mem to,
                                               size_t from_offset, size_t to_offset, size_t size, cl_uint n,
                                               const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueCopyBuffer);
    return enqueued(next->clEnqueueCopyBuffer(queue, from, to, from_offset, to_offset, size, n, wait, event),
                    event, 0);
}

static cl_int CL_API_CALL clEnqueueReadBuffer_(cl_command_queue queue, cl_mem mem, cl_bool blocking,
                                               size_t offset, size_t size, void *to, cl_uint n,
                                               const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueReadBuffer);
    return enqueued(next->clEnqueueReadBuffer(queue, mem, blocking, offset, size, to, n, wait, event), event,
                    blocking);
}

static cl_int CL_API_CALL clEnqueueWriteBuffer_(cl_command_queue queue, cl_mem mem, cl_bool blocking,
                                                size_t offset, size_t size, const void *from, cl_uint n,
                                                const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueWriteBuffer);
    return enqueued(next->clEnqueueWriteBuffer(queue, mem, blocking, offset, size, from, n, wait, event),
                    event, blocking);
}

static cl_int CL_API_CALL clEnqueueReadBufferRect_(cl_command_queue queue, cl_mem mem, cl_bool blocking,
                                                   const size_t *origin, const size_t *host_origin,
                                                   const size_t *region, size_t row, size_t slice,
                                                   size_t host_row, size_t host_slice, void *to, cl_uint n,
                                                   const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueReadBufferRect);
    return enqueued(next->clEnqueueReadBufferRect(queue, mem, blocking, origin, host_origin, region, row,
                                                  slice, host_row, host_slice, to, n, wait, event),
                    event, blocking);
}

static void *CL_API_CALL clEnqueueMapBuffer_(cl_command_queue queue, cl_mem mem, cl_bool blocking,
                                             cl_map_flags flags, size_t offset, size_t size, cl_uint n,
                                             const cl_event *wait, cl_event *event, cl_int *err) {
    if (fails("clEnqueueMapBuffer")) return none(err, CL_MAP_FAILURE, CL_MAP_FAILURE);
    void *const at = next->clEnqueueMapBuffer(queue, mem, blocking, flags, offset, size, n, wait, event, err);
    enqueued(at ? CL_SUCCESS : CL_MAP_FAILURE, event, blocking);
    return at;
}

static cl_int CL_API_CALL clEnqueueUnmapMemObject_(cl_command_queue queue, cl_mem mem, void *at, cl_uint n,
                                                   const cl_event *wait, cl_event *event) {
    CAN_FAIL(clEnqueueUnmapMemObject);
    return enqueued(next->clEnqueueUnmapMemObject(queue, mem, at, n, wait, event), event, 0);
}

static cl_int CL_API_CALL clFlush_(cl_command_queue queue) {
    CAN_FAIL(clFlush);
    return next->clFlush(queue);
}

static cl_int CL_API_CALL clFinish_(cl_command_queue queue) {
    atomic_fetch_add(&state.blocking, 1);
    return next->clFinish(queue);
}

static cl_int CL_API_CALL clWaitForEvents_(cl_uint n, const cl_event *events) {
    atomic_fetch_add(&state.blocking, 1);
    return next->clWaitForEvents(n, events);
}

/* ---- what the loader and the tests call ---- */

static void install(void) {
#define PUT(call) dispatch.call = call##_
    PUT(clGetPlatformInfo), PUT(clGetDeviceInfo), PUT(clGetContextInfo), PUT(clGetCommandQueueInfo);
    PUT(clGetMemObjectInfo), PUT(clGetProgramInfo), PUT(clGetKernelInfo), PUT(clGetEventInfo);
    PUT(clGetProgramBuildInfo), PUT(clGetKernelWorkGroupInfo);
    PUT(clRetainContext), PUT(clRetainDevice), PUT(clRetainCommandQueue), PUT(clRetainMemObject);
    PUT(clRetainProgram), PUT(clRetainKernel), PUT(clRetainEvent);
    PUT(clReleaseContext), PUT(clReleaseDevice), PUT(clReleaseCommandQueue), PUT(clReleaseMemObject);
    PUT(clReleaseProgram), PUT(clReleaseKernel), PUT(clReleaseEvent);
    PUT(clCreateContext), PUT(clCreateCommandQueue), PUT(clCreateBuffer), PUT(clCreateSubBuffer);
    PUT(clCreateProgramWithSource), PUT(clCreateProgramWithBinary), PUT(clBuildProgram);
    PUT(clCreateKernel), PUT(clCreateUserEvent), PUT(clSetKernelArg);
    PUT(clEnqueueNDRangeKernel), PUT(clEnqueueMarkerWithWaitList), PUT(clEnqueueBarrierWithWaitList);
    PUT(clEnqueueFillBuffer), PUT(clEnqueueCopyBuffer), PUT(clEnqueueReadBuffer);
    PUT(clEnqueueReadBufferRect), PUT(clEnqueueWriteBuffer);
    PUT(clEnqueueMapBuffer), PUT(clEnqueueUnmapMemObject);
    PUT(clFlush), PUT(clFinish), PUT(clWaitForEvents);
#undef PUT
}

cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_ret) {
    static const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    static const char title[] = "clmoe test layer";
    const void *const from = name == CL_LAYER_API_VERSION ? (const void *)&version : title;
    const size_t need = name == CL_LAYER_API_VERSION ? sizeof version : sizeof title;
    if (name != CL_LAYER_API_VERSION && name != CL_LAYER_NAME) return CL_INVALID_VALUE;
    if (value && size < need) return CL_INVALID_VALUE;
    if (value) memcpy(value, from, need);
    if (size_ret) *size_ret = need;
    return CL_SUCCESS;
}

cl_int CL_API_CALL clInitLayer(cl_uint n, const cl_icd_dispatch *target, cl_uint *n_ret,
                               const cl_icd_dispatch **layer_ret) {
    if (!target || !layer_ret || !n_ret || n < sizeof dispatch / sizeof dispatch.clGetPlatformIDs)
        return CL_INVALID_VALUE;
    next = target;
    dispatch = *target;
    install();
    *layer_ret = &dispatch;
    *n_ret = sizeof dispatch / sizeof dispatch.clGetPlatformIDs;
    return CL_SUCCESS;
}

static void layer_fail(uint64_t n, enum layer_flavour flavour) {
    atomic_store(&state.flavour, (int)flavour);
    atomic_store(&state.failed, NULL);
    atomic_store(&state.calls, 0);
    atomic_store(&state.victim, n);
}

static const char *layer_failed(void) {
    return atomic_load(&state.failed);
}

static void layer_counts(struct layer_counts *counts) {
    for (int i = 0; i < LAYER_OBJECTS; i++)
        counts->references[i] = atomic_load(&state.references[i]);
    counts->enqueued = atomic_load(&state.enqueued);
    counts->events = atomic_load(&state.events);
    counts->blocking = atomic_load(&state.blocking);
    counts->binaries = atomic_load(&state.binaries);
    counts->built = atomic_load(&state.built);
    counts->set_args = atomic_load(&state.set_args);
    counts->calls = atomic_load(&state.calls);
}

const struct layer_api *clmoe_test_layer(void) {
    static const struct layer_api api = {layer_fail, layer_failed, layer_counts};
    return &api;
}
