/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include "binary.h"
#include "clerr.h"
#include "probe_matrix.h"
#include "ptx.h"

#include <stdlib.h>
#include <string.h>

enum { PROBE_ITEMS = 32, PROBE_MOST = 128 };

/* One probe: the work-items of one work-group write one uint each; item i must have written i * step + first.
 * It is tried only where the extension is announced, because the compilers of some drivers crash on what they
 * do not know. */
struct probe {
    uint32_t feature;
    const char *extension;
    const char *options;
    const char *source;
    uint32_t first, step;
    uint32_t after;  /* a feature without which this one is not tried: it may well be absent then */
    uint32_t unless; /* a feature with which this one is not tried */
    uint32_t items;  /* 0: PROBE_ITEMS */
    bool rare;       /* most devices that announce the extension lack it */
    bool hidden;     /* the source has hidden PTX: ptx.h */
};

#define SUBGROUP_SUM                                                                                         \
    "kernel void probe(global uint *out) {\n"                                                                \
    "    uint i = (uint)get_global_id(0);\n"                                                                 \
    "    uint n = sub_group_reduce_add(1u);\n"                                                               \
    "    out[i] = n == get_sub_group_size() ? i : 1000u;\n"                                                  \
    "}\n"

#define AMD "cl_amd_device_attribute_query"
#define DPAS "cl_intel_subgroup_matrix_multiply_accumulate"

static const struct probe probes[] = {
    {CLMOE_FEATURE_FP16, "cl_khr_fp16", "-cl-std=CL1.2",
     "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n"
     "kernel void probe(global uint *out) {\n"
     "    uint i = (uint)get_global_id(0);\n"
     "    half h = (half)i;\n"
     "    out[i] = (uint)(h * (half)0.5f + (half)1.0f + h * (half)0.5f);\n"
     "}\n",
     1, 1},
    {CLMOE_FEATURE_FP64, "cl_khr_fp64", "-cl-std=CL1.2",
     "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n"
     "kernel void probe(global uint *out) {\n"
     "    uint i = (uint)get_global_id(0);\n"
     "    double d = (double)i + 4503599627370496.0;\n"
     "    out[i] = (uint)(d - 4503599627370490.0);\n"
     "}\n",
     6, 1},
    {CLMOE_FEATURE_INT64_ATOMICS, "cl_khr_int64_base_atomics", "-cl-std=CL1.2",
     "#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable\n"
     "kernel void probe(global uint *out) {\n"
     "    uint i = (uint)get_global_id(0);\n"
     "    local ulong sum;\n"
     "    if (i == 0) sum = 0;\n"
     "    barrier(CLK_LOCAL_MEM_FENCE);\n"
     "    atom_add(&sum, 0x100000000UL);\n"
     "    barrier(CLK_LOCAL_MEM_FENCE);\n"
     "    out[i] = (uint)(sum >> 32) + i;\n"
     "}\n",
     32, 1},
    {CLMOE_FEATURE_SUBGROUPS, "cl_khr_subgroups", "-cl-std=CL3.0",
     "#pragma OPENCL EXTENSION cl_khr_subgroups : enable\n" SUBGROUP_SUM, 0, 1},
    {CLMOE_FEATURE_SUBGROUPS, "cl_intel_subgroups", "-cl-std=CL1.2", SUBGROUP_SUM, 0, 1},
    {CLMOE_FEATURE_NV_PTX, "cl_nv_device_attribute_query", "-cl-std=CL1.2",
     "kernel void probe(global uint *out) {\n"
     "    uint i = (uint)get_global_id(0), other;\n"
     "    asm volatile(\"shfl.sync.bfly.b32 %0, %1, 31, 31, -1;\" : \"=r\"(other) : \"r\"(i));\n"
     "    out[i] = 31u - other;\n"
     "}\n",
     0, 1},
    {DEVICE_PTX_SM80, "cl_nv_device_attribute_query", "-cl-std=CL1.2",
     "kernel void probe(global uint *out) {\n"
     "    uint i = (uint)get_global_id(0), r, other = i & 1u ? 0u : 0x7fc00000u;\n"
     "    asm(\"max.NaN.f32 %0, %1, %2;\" : \"=r\"(r) : \"r\"(as_uint((float)i)), \"r\"(other));\n"
     "    out[i] = i & 1u ? (uint)as_float(r) : r > 0x7f800000u ? i : 1000u;\n"
     "}\n",
     0, 1, CLMOE_FEATURE_NV_PTX},
    {CLMOE_FEATURE_NV_MMA, "cl_nv_device_attribute_query", "-cl-std=CL1.2", PROBE_MMA, 0, 1, DEVICE_PTX_SM80},
    {CLMOE_FEATURE_NV_WGMMA, "cl_nv_device_attribute_query", "-cl-std=CL1.2",
     "kernel void probe(global uint *out) {\n"
     "    uint i = (uint)get_global_id(0), r = 1000u;\n"
     "    asm volatile(\"" PTX_HIDDEN "wgmma.fence.sync.aligned; mov.u32 %0, %1;\" : \"+r\"(r) : \"r\"(i));\n"
     "    out[i] = r;\n"
     "}\n",
     0, 1, CLMOE_FEATURE_NV_PTX, .items = 128, .hidden = true},
    {CLMOE_FEATURE_AMD_MFMA, AMD, "-cl-std=CL1.2", PROBE_MFMA, 0, 1, .items = 64, .rare = true},
    {CLMOE_FEATURE_AMD_WMMA_11, AMD, "-cl-std=CL1.2", PROBE_WMMA_11, 0, 1, .rare = true},
    {CLMOE_FEATURE_AMD_WMMA_12, AMD, "-cl-std=CL1.2", PROBE_WMMA_12, 0, 1, .rare = true},
    {CLMOE_FEATURE_INTEL_DPAS_8, DPAS, "-cl-std=CL1.2", PROBE_DPAS_8, 0, 1, .rare = true},
    /* Where 8 is right, IGC takes 16 too, and makes something else of it. */
    {CLMOE_FEATURE_INTEL_DPAS_16, DPAS, "-cl-std=CL1.2", PROBE_DPAS_16, 0, 1,
     .unless = CLMOE_FEATURE_INTEL_DPAS_8, .rare = true},
};

static bool announced(const char *extensions, const char *name) {
    const size_t length = strlen(name);
    for (const char *p = extensions; (p = strstr(p, name)); p += length)
        if ((p == extensions || p[-1] == ' ') && (p[length] == ' ' || p[length] == '\0')) return true;
    return false;
}

static uint32_t items_of(const struct probe *probe) {
    return probe->items ? probe->items : PROBE_ITEMS;
}

static bool right(const struct probe *probe, const cl_uint *out) {
    for (uint32_t i = 0; i < items_of(probe); i++)
        if (out[i] != probe->first + i * probe->step) return false;
    return true;
}

/* The same program with what its PTX hides; false if the driver does not take that. */
static bool show_hidden(const struct probe *probe, const struct device *dev, cl_program *program) {
    size_t size;
    unsigned char *const binary = binary_of(*program, dev->id, &size);
    struct str text = {0};
    cl_program shown = NULL;
    const bool ok = binary && ptx_retarget(binary, size, &text) && !text.failed &&
                    binary_build(dev->context, dev->id, probe->options, (const unsigned char *)text.text,
                                 text.size, NULL, &shown);
    if (ok) clReleaseProgram(*program);
    if (ok) *program = shown;
    str_free(&text);
    free(binary);
    return ok;
}

static bool run_probe(const struct probe *probe, const struct device *dev, cl_command_queue queue,
                      cl_mem buffer) {
    cl_int err;
    bool ok = false;
    cl_kernel kernel = NULL;
    cl_program program =
        clCreateProgramWithSource(dev->context, 1, (const char **)&probe->source, NULL, &err);
    if (err != CL_SUCCESS) return false;
    if (clBuildProgram(program, 1, &dev->id, probe->options, NULL, NULL) != CL_SUCCESS) goto done;
    if (probe->hidden && !show_hidden(probe, dev, &program)) goto done;
    kernel = clCreateKernel(program, "probe", &err);
    if (err != CL_SUCCESS) goto done;
    if (clSetKernelArg(kernel, 0, sizeof buffer, &buffer) != CL_SUCCESS) goto done;
    const size_t size = items_of(probe);
    cl_uint out[PROBE_MOST];
    memset(out, 0xff, sizeof out);
    if (clEnqueueWriteBuffer(queue, buffer, CL_TRUE, 0, sizeof out, out, 0, NULL, NULL) != CL_SUCCESS)
        goto done;
    if (clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &size, &size, 0, NULL, NULL) != CL_SUCCESS) goto done;
    if (clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof out, out, 0, NULL, NULL) != CL_SUCCESS)
        goto done;
    ok = right(probe, out);
done:
    if (kernel) clReleaseKernel(kernel);
    clReleaseProgram(program);
    return ok;
}

static enum clmoe_status run_all(const struct device *dev, const struct log *log, uint32_t wanted,
                                 const char *extensions, uint32_t *features) {
    cl_int err;
    const cl_mem buffer =
        clCreateBuffer(dev->context, CL_MEM_READ_WRITE, PROBE_MOST * sizeof(cl_uint), NULL, &err);
    if (err != CL_SUCCESS) return clerr_report(log, err, "clCreateBuffer");
    const cl_command_queue queue = clCreateCommandQueue(dev->context, dev->id, 0, &err);
    if (err != CL_SUCCESS) {
        clReleaseMemObject(buffer);
        return clerr_report(log, err, "clCreateCommandQueue");
    }
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        const struct probe *const p = &probes[i];
        if (!(wanted & p->feature) || (*features & p->feature) || !announced(extensions, p->extension) ||
            (*features & p->after) != p->after || (*features & p->unless))
            continue;
        if (run_probe(p, dev, queue, buffer))
            *features |= p->feature;
        else if (!p->after && !p->rare)
            log_msg(log, CLMOE_LOG_WARN, "device \"%s\" announces %s, but its probe fails", dev->name,
                    p->extension);
    }
    clReleaseCommandQueue(queue);
    clReleaseMemObject(buffer);
    return CLMOE_OK;
}

enum clmoe_status probe_features(const struct device *dev, const struct log *log, uint32_t wanted,
                                 uint32_t *features) {
    *features = 0;
    cl_device_type type = 0;
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_TYPE, sizeof type, &type, NULL));
    if (type & CL_DEVICE_TYPE_CPU) *features |= CLMOE_FEATURE_CPU & wanted;
    if (type & CL_DEVICE_TYPE_GPU) *features |= CLMOE_FEATURE_GPU & wanted;
    size_t size = 0;
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_EXTENSIONS, 0, NULL, &size));
    char *const extensions = calloc(size + 1, 1);
    if (!extensions) return CLMOE_E_NO_MEMORY;
    const cl_int err = clGetDeviceInfo(dev->id, CL_DEVICE_EXTENSIONS, size, extensions, NULL);
    const enum clmoe_status status = err == CL_SUCCESS
                                         ? run_all(dev, log, wanted, extensions, features)
                                         : clerr_report(log, err, "clGetDeviceInfo(CL_DEVICE_EXTENSIONS)");
    free(extensions);
    return status;
}
