/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM_UPS 2
#define REPEAT_BUDGET_US 2e6
/* The first calls of a host that was waiting take up to twice as long: of 20 the median is not that of
 * 200. */
#define ENQUEUES 200
#define ENQUEUES_BUDGET_US 1e5
#define FMA_STEPS 4096
#define FMA_FLOPS_PER_STEP 256.0

static int cl_failed(const struct bench *b, cl_int err, const char *call) {
    return command_fail(b->s->usage, EXIT_FAILED, "%s: OpenCL error %d", call, (int)err);
}

static int build(struct bench *b) {
    const char *const text = embedded_bench[0].text;
    cl_int err;
    b->program = clCreateProgramWithSource(b->s->context, 1, (const char **)&text, NULL, &err);
    if (err != CL_SUCCESS) return cl_failed(b, err, "clCreateProgramWithSource");
    char options[96];
    snprintf(options, sizeof options, "-cl-std=CL1.2 -DLOCAL_SIZE=%zu -DREAD_LOCAL=%zu", b->local,
             b->read_local);
    err = clBuildProgram(b->program, 1, &b->s->device, options, NULL, NULL);
    return err == CL_SUCCESS ? -1 : cl_failed(b, err, "clBuildProgram(bench.cl)");
}

/* A run of one of bench.cl's kernels, whose arguments are set. */
struct kernel_call {
    cl_kernel kernel;
    size_t global, local;
};

static enum clmoe_status call_kernel(void *priv, cl_command_queue queue, cl_event *event) {
    const struct kernel_call *const k = priv;
    const cl_int err =
        clEnqueueNDRangeKernel(queue, k->kernel, 1, NULL, &k->global, &k->local, 0, NULL, event);
    return err == CL_SUCCESS ? CLMOE_OK : CLMOE_E_OPENCL;
}

static size_t many_items(const struct bench *b, size_t local) {
    cl_uint units = 1;
    clGetDeviceInfo(b->s->device, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    return (size_t)units * 16 * local;
}

static cl_kernel read_kernel(const struct bench *b, cl_int *err) {
    const cl_kernel kernel = clCreateKernel(b->program, "read_all", err);
    const cl_ulong n = b->flush_bytes / (b->read_local == 1 ? sizeof(cl_float16) : sizeof(cl_float4));
    const cl_float keep = NAN;
    if (*err != CL_SUCCESS) return NULL;
    *err = clSetKernelArg(kernel, 0, sizeof b->flush, &b->flush);
    *err |= clSetKernelArg(kernel, 1, sizeof n, &n);
    *err |= clSetKernelArg(kernel, 2, sizeof b->flush, &b->flush);
    *err |= clSetKernelArg(kernel, 3, sizeof keep, &keep);
    return kernel;
}

static int measure_read(struct bench *b) {
    cl_int err;
    struct kernel_call call = {read_kernel(b, &err), many_items(b, b->read_local), b->read_local};
    struct timing t;
    const int code =
        err == CL_SUCCESS ? bench_time(b, call_kernel, &call, &t) : cl_failed(b, err, "read_all");
    if (code < 0) b->read_gbps = (double)b->flush_bytes / t.median_us * 1e-3;
    if (call.kernel) clReleaseKernel(call.kernel);
    return code;
}

static int measure_fma(struct bench *b) {
    cl_int err;
    struct kernel_call call = {clCreateKernel(b->program, "fma_chains", &err), many_items(b, b->local),
                               b->local};
    if (err != CL_SUCCESS) return cl_failed(b, err, "fma_chains");
    const cl_int steps = FMA_STEPS;
    const cl_float a = 0.999f, c = 0.001f, keep = NAN;
    err = clSetKernelArg(call.kernel, 0, sizeof b->flush, &b->flush);
    err |= clSetKernelArg(call.kernel, 1, sizeof steps, &steps);
    err |= clSetKernelArg(call.kernel, 2, sizeof a, &a);
    err |= clSetKernelArg(call.kernel, 3, sizeof c, &c);
    err |= clSetKernelArg(call.kernel, 4, sizeof keep, &keep);
    struct timing t;
    const int code =
        err == CL_SUCCESS ? bench_time(b, call_kernel, &call, &t) : cl_failed(b, err, "fma_chains");
    if (code < 0) b->fma_tflops = (double)call.global * FMA_STEPS * FMA_FLOPS_PER_STEP / t.median_us * 1e-6;
    clReleaseKernel(call.kernel);
    return code;
}

static cl_int write_flush(const struct bench *b, cl_event *event) {
    const cl_float one = 1;
    return clEnqueueFillBuffer(b->s->queue, b->flush, &one, sizeof one, 0, b->flush_bytes, 0, NULL, event);
}

int bench_open(struct bench *b, struct session *s, int repeats) {
    struct clmoe_device_info info;
    clmoe_context_device_info(s->ctx, &info);
    const bool cpu = info.features & CLMOE_FEATURE_CPU;
    *b = (struct bench){.s = s, .local = info.caps.max_work_group >= 256 ? 256 : 64, .repeats = repeats};
    b->read_local = cpu ? 1 : b->local;
    /* Past the last-level cache of every device met: 1 GiB on a GPU, 256 MiB where memory is slow. */
    b->flush_bytes = cpu ? (size_t)256 << 20 : (size_t)1 << 30;
    while (b->flush_bytes > info.caps.max_alloc / 2)
        b->flush_bytes /= 2;
    cl_int err;
    b->flush = clCreateBuffer(s->context, CL_MEM_READ_WRITE, b->flush_bytes, NULL, &err);
    if (err != CL_SUCCESS) return cl_failed(b, err, "clCreateBuffer");
    int code = build(b);
    if (code < 0) err = write_flush(b, NULL);
    if (code < 0 && err != CL_SUCCESS) code = cl_failed(b, err, "clEnqueueFillBuffer");
    if (code < 0) code = measure_read(b);
    if (code < 0) code = measure_fma(b);
    return code;
}

void bench_close(struct bench *b) {
    if (b->flush) clReleaseMemObject(b->flush);
    if (b->program) clReleaseProgram(b->program);
    *b = (struct bench){0};
}

/* Sets the argument that comes next. */
static void next_arg(cl_kernel kernel, cl_uint *index, size_t size, const void *value, cl_int *err) {
    *err |= clSetKernelArg(kernel, (*index)++, size, value);
}

/* One of bench.cl's fills: the buffer, the number of elements, then what `rest` sets. */
static int run_fill(struct bench *b, const struct clmoe_tensor *t, const char *name,
                    void (*rest)(cl_kernel, cl_uint *, const void *, cl_int *), const void *priv) {
    cl_ulong n = 1;
    for (int d = 0; d < t->ndim; d++)
        n *= (cl_ulong)t->shape[d];
    cl_int err;
    const cl_kernel kernel = clCreateKernel(b->program, name, &err);
    if (err != CL_SUCCESS) return cl_failed(b, err, "clCreateKernel(fill)");
    cl_uint index = 0;
    next_arg(kernel, &index, sizeof t->mem, &t->mem, &err);
    next_arg(kernel, &index, sizeof n, &n, &err);
    rest(kernel, &index, priv, &err);
    const size_t global = many_items(b, b->local);
    if (err == CL_SUCCESS)
        err = clEnqueueNDRangeKernel(b->s->queue, kernel, 1, NULL, &global, &b->local, 0, NULL, NULL);
    clReleaseKernel(kernel);
    return err == CL_SUCCESS ? -1 : cl_failed(b, err, "fill");
}

struct normal_fill {
    cl_uint seed;
    cl_float deviation;
};

static void normal_args(cl_kernel kernel, cl_uint *index, const void *priv, cl_int *err) {
    const struct normal_fill *const f = priv;
    next_arg(kernel, index, sizeof f->seed, &f->seed, err);
    next_arg(kernel, index, sizeof f->deviation, &f->deviation, err);
}

/* Block formats and codes: how large random codes are (the scale that makes numbers of deviation 1 of them is
 * about 1 / deviation), and at which bytes of a block the scales are. */
static const struct block_format {
    enum clmoe_dtype dtype;
    cl_uint elements, size, d, m; /* `size` for what there is none of */
    float deviation;
} block_formats[] = {
    {CLMOE_Q8_0, 32, 34, 0, 34, 73.0f},
    {CLMOE_Q4_0, 32, 18, 0, 18, 4.6f},
    {CLMOE_Q5_0, 32, 22, 0, 22, 9.2f},
    {CLMOE_MXFP4, 32, 17, 0, 17, 2.9f},
    {CLMOE_Q4_K, 256, 144, 0, 2, 300.0f},
    {CLMOE_Q5_K, 256, 176, 0, 2, 600.0f},
    {CLMOE_Q6_K, 256, 210, 208, 210, 1360.0f},
    {CLMOE_F4_E2M1, 2, 1, 1, 1, 2.9f},
    {CLMOE_U8, 1, 1, 0, 1, 2.9f}, /* the scales beside it */
    {CLMOE_I8, 1, 1, 1, 1, 73.0f},
    {CLMOE_I32, 1, 4, 4, 4, 4.6f}, /* words of 4-bit codes */
};

struct block_fill {
    struct normal_fill normal;
    const struct block_format *format;
};

static void block_args(cl_kernel kernel, cl_uint *index, const void *priv, cl_int *err) {
    const struct block_fill *const f = priv;
    const cl_int e8m0 = f->format->dtype == CLMOE_MXFP4 || f->format->dtype == CLMOE_U8;
    normal_args(kernel, index, &f->normal, err);
    next_arg(kernel, index, sizeof f->format->elements, &f->format->elements, err);
    next_arg(kernel, index, sizeof f->format->size, &f->format->size, err);
    next_arg(kernel, index, sizeof f->format->d, &f->format->d, err);
    next_arg(kernel, index, sizeof f->format->m, &f->format->m, err);
    next_arg(kernel, index, sizeof e8m0, &e8m0, err);
}

int bench_fill(struct bench *b, const struct clmoe_tensor *t, uint32_t seed, float scale) {
    static const char *const names[CLMOE_DTYPE_COUNT] = {[CLMOE_F32] = "fill_f32",
                                                         [CLMOE_F16] = "fill_f16",
                                                         [CLMOE_BF16] = "fill_bf16",
                                                         [CLMOE_F8_E4M3] = "fill_f8_e4m3"};
    const struct normal_fill fill = {seed * 0x9e3779b9u, scale};
    for (size_t i = 0; i < sizeof block_formats / sizeof *block_formats; i++) {
        const struct block_format *const f = &block_formats[i];
        const struct block_fill blocks = {{fill.seed, scale / f->deviation}, f};
        if (f->dtype == t->dtype) return run_fill(b, t, "fill_blocks", block_args, &blocks);
    }
    return run_fill(b, t, names[t->dtype], normal_args, &fill);
}

struct row_fill {
    cl_ulong row;
    cl_int pattern;
    cl_uint seed;
};

static void row_args(cl_kernel kernel, cl_uint *index, const void *priv, cl_int *err) {
    const struct row_fill *const f = priv;
    next_arg(kernel, index, sizeof f->row, &f->row, err);
    next_arg(kernel, index, sizeof f->pattern, &f->pattern, err);
    next_arg(kernel, index, sizeof f->seed, &f->seed, err);
}

int bench_fill_rows(struct bench *b, const struct clmoe_tensor *t, uint32_t seed,
                    enum bench_pattern pattern) {
    const struct row_fill fill = {(cl_ulong)t->shape[1], (cl_int)pattern, seed * 0x9e3779b9u};
    const char *const name = t->dtype == CLMOE_F32   ? "pattern_f32"
                             : t->dtype == CLMOE_F16 ? "pattern_f16"
                                                     : "pattern_bf16";
    return run_fill(b, t, name, row_args, &fill);
}

struct id_fill {
    cl_uint limit, seed;
};

static void id_args(cl_kernel kernel, cl_uint *index, const void *priv, cl_int *err) {
    const struct id_fill *const f = priv;
    next_arg(kernel, index, sizeof f->limit, &f->limit, err);
    next_arg(kernel, index, sizeof f->seed, &f->seed, err);
}

int bench_fill_ids(struct bench *b, const struct clmoe_tensor *t, uint32_t seed, int64_t limit) {
    const struct id_fill fill = {(cl_uint)limit, seed * 0x9e3779b9u};
    return run_fill(b, t, "fill_ids", id_args, &fill);
}

int bench_tensor(struct bench *b, enum clmoe_dtype dtype, int ndim, const int64_t *shape, uint32_t seed,
                 float scale, struct clmoe_tensor *t) {
    const int code = session_buffer(b->s, dtype, ndim, shape, t);
    return code >= 0 ? code : bench_fill(b, t, seed, scale);
}

/* Elements `stride` apart, brought together on the device: drivers copy single ones slowly. */
struct gather {
    cl_mem from;
    cl_ulong first, stride;
};

static void widen(enum clmoe_dtype dtype, const void *raw, int64_t count, float *out) {
    const uint16_t *const bits = raw;
    const uint8_t *const codes = raw;
    if (dtype == CLMOE_F32) memcpy(out, raw, (size_t)count * sizeof *out);
    for (int64_t i = 0; i < count && dtype != CLMOE_F32; i++)
        out[i] = dtype == CLMOE_F16       ? array_f16_to_f32(bits[i])
                 : dtype == CLMOE_F8_E4M3 ? array_f8_e4m3_to_f32(codes[i])
                 : dtype == CLMOE_I8      ? (float)(int8_t)codes[i]
                                          : array_bf16_to_f32(bits[i]);
}

int bench_read(struct bench *b, const struct clmoe_tensor *t, int64_t first, int64_t stride, int64_t count,
               float *out) {
    const size_t size = (size_t)clmoe_dtype_bytes(t->dtype, 1), pitch = (size_t)stride * size;
    const size_t at = t->offset + (size_t)first * size, from[3] = {at % pitch, at / pitch, 0}, to[3] = {0};
    const size_t each[3] = {size, (size_t)count, 1}, bytes = (size_t)count * size;
    void *const raw = malloc(bytes);
    if (!raw) return command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    const cl_int err = stride == 1
                           ? clEnqueueReadBuffer(b->s->queue, t->mem, CL_TRUE, at, bytes, raw, 0, NULL, NULL)
                           : clEnqueueReadBufferRect(b->s->queue, t->mem, CL_TRUE, from, to, each, pitch, 0,
                                                     size, 0, raw, 0, NULL, NULL);
    if (err == CL_SUCCESS) widen(t->dtype, raw, count, out);
    free(raw);
    return err == CL_SUCCESS ? -1 : cl_failed(b, err, "reading back");
}

static void gather_args(cl_kernel kernel, cl_uint *index, const void *priv, cl_int *err) {
    const struct gather *const g = priv;
    next_arg(kernel, index, sizeof g->from, &g->from, err);
    next_arg(kernel, index, sizeof g->first, &g->first, err);
    next_arg(kernel, index, sizeof g->stride, &g->stride, err);
}

int bench_read_words(struct bench *b, const struct clmoe_tensor *t, int64_t first, int64_t stride,
                     int64_t count, uint32_t *out) {
    const struct gather gather = {t->mem, t->offset / sizeof *out + (cl_ulong)first, (cl_ulong)stride};
    struct clmoe_tensor together;
    int code = session_buffer(b->s, CLMOE_I32, 1, &count, &together);
    if (code < 0) code = run_fill(b, &together, "gather", gather_args, &gather);
    if (code < 0) {
        const cl_int err = clEnqueueReadBuffer(b->s->queue, together.mem, CL_TRUE, together.offset,
                                               (size_t)count * sizeof *out, out, 0, NULL, NULL);
        if (err != CL_SUCCESS) code = cl_failed(b, err, "reading back");
    }
    session_release(&together);
    return code;
}

double bench_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static cl_int read_flush(const struct bench *b, cl_kernel kernel, cl_event *event) {
    const size_t local = b->read_local, global = many_items(b, local);
    return clEnqueueNDRangeKernel(b->s->queue, kernel, 1, NULL, &global, &local, 0, NULL, event);
}

/* One repetition behind a flush: how long the device takes. */
static int repeat(struct bench *b, cl_kernel flush, timed_call call, void *priv, double *us) {
    cl_event begin = NULL, end = NULL;
    cl_ulong from = 0, to = 0;
    cl_int err = b->flush_by_writing ? write_flush(b, &begin) : read_flush(b, flush, &begin);
    if (err != CL_SUCCESS) return cl_failed(b, err, "flush");
    const enum clmoe_status status = call(priv, b->s->queue, &end);
    if (status != CLMOE_OK) {
        clReleaseEvent(begin);
        return session_fail(b->s, status, "enqueue");
    }
    err = clWaitForEvents(1, &end);
    if (err == CL_SUCCESS)
        err = clGetEventProfilingInfo(begin, CL_PROFILING_COMMAND_END, sizeof from, &from, NULL);
    if (err == CL_SUCCESS) err = clGetEventProfilingInfo(end, CL_PROFILING_COMMAND_END, sizeof to, &to, NULL);
    clReleaseEvent(begin);
    clReleaseEvent(end);
    *us = to > from ? (double)(to - from) * 1e-3 : 0;
    return err == CL_SUCCESS ? -1 : cl_failed(b, err, "profiling");
}

/* How long the host takes to enqueue it, on an idle queue without profiling, which costs as much as the
 * rest. */
static int time_enqueue(struct bench *b, timed_call call, void *priv, double *median_us) {
    double us[ENQUEUES];
    cl_int err;
    int n = 0;
    enum clmoe_status status = CLMOE_OK;
    const cl_command_queue queue = clCreateCommandQueue(b->s->context, b->s->device, 0, &err);
    if (err != CL_SUCCESS) return cl_failed(b, err, "a queue");
    const double begin = bench_now_us();
    while (n < ENQUEUES && status == CLMOE_OK && err == CL_SUCCESS &&
           (n == 0 || bench_now_us() - begin < ENQUEUES_BUDGET_US)) {
        cl_event end = NULL;
        const double before = bench_now_us();
        status = call(priv, queue, &end);
        us[n++] = bench_now_us() - before;
        err = clFinish(queue);
        if (end) clReleaseEvent(end);
    }
    clReleaseCommandQueue(queue);
    if (status != CLMOE_OK) return session_fail(b->s, status, "enqueue");
    if (err != CL_SUCCESS) return cl_failed(b, err, "clFinish");
    qsort(us, (size_t)n, sizeof *us, by_value);
    *median_us = us[n / 2];
    return -1;
}

int bench_time(struct bench *b, timed_call call, void *priv, struct timing *timing) {
    double us[BENCH_MAX_REPEATS], sum = 0, enqueue_us = 0;
    cl_int err;
    const cl_kernel flush = read_kernel(b, &err);
    int code = err == CL_SUCCESS ? -1 : cl_failed(b, err, "read_all"), n = 0;
    const int most = 3 * b->repeats < BENCH_MAX_REPEATS ? 3 * b->repeats : BENCH_MAX_REPEATS;
    for (int i = 0; i < WARM_UPS && code < 0; i++)
        code = repeat(b, flush, call, priv, us);
    while (code < 0 && n < most && (n < b->repeats || sum < REPEAT_BUDGET_US)) {
        code = repeat(b, flush, call, priv, &us[n]);
        sum += us[n++];
    }
    if (flush) clReleaseKernel(flush);
    if (code < 0) code = time_enqueue(b, call, priv, &enqueue_us);
    if (code >= 0) return code;
    qsort(us, (size_t)n, sizeof *us, by_value);
    *timing = (struct timing){us[n / 2], us[n / 10], us[n - 1 - n / 10], enqueue_us, n};
    return -1;
}
