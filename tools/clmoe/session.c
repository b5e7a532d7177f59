/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700
#include "session.h"

#include "files.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static void add_device(struct device_entry *e, cl_platform_id platform, cl_device_id device) {
    cl_uint units = 0, mhz = 0;
    *e = (struct device_entry){.platform = platform, .device = device};
    clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof e->type, &e->type, NULL);
    clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof e->name - 1, e->name, NULL);
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof e->platform_name - 1, e->platform_name, NULL);
    clGetDeviceInfo(device, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    clGetDeviceInfo(device, CL_DEVICE_MAX_CLOCK_FREQUENCY, sizeof mhz, &mhz, NULL);
    e->speed = (double)units * mhz;
}

int list_devices(struct device_entry *entries, int max) {
    cl_platform_id platforms[16];
    cl_uint n_platforms = 0;
    int n = 0;
    if (clGetPlatformIDs(16, platforms, &n_platforms) != CL_SUCCESS) return 0;
    for (cl_uint p = 0; p < n_platforms && p < 16; p++) {
        cl_device_id devices[16];
        cl_uint n_devices = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 16, devices, &n_devices) != CL_SUCCESS) continue;
        for (cl_uint d = 0; d < n_devices && d < 16 && n < max; d++)
            add_device(&entries[n++], platforms[p], devices[d]);
    }
    return n;
}

static bool contains(const char *text, const char *part) {
    const size_t size = strlen(part);
    for (; *text; text++)
        if (strncasecmp(text, part, size) == 0) return true;
    return size == 0;
}

static int fastest(const struct device_entry *e, int n, cl_device_type type) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if ((e[i].type & type) && (best < 0 || e[i].speed > e[best].speed)) best = i;
    return best;
}

int choose_device(const struct device_entry *e, int n, const char *wanted) {
    if (!wanted) {
        const int gpu = fastest(e, n, CL_DEVICE_TYPE_GPU), cpu = fastest(e, n, CL_DEVICE_TYPE_CPU);
        return gpu >= 0 ? gpu : cpu >= 0 ? cpu : 0;
    }
    if (strcasecmp(wanted, "gpu") == 0) return fastest(e, n, CL_DEVICE_TYPE_GPU);
    if (strcasecmp(wanted, "cpu") == 0) return fastest(e, n, CL_DEVICE_TYPE_CPU);
    if (*wanted && strspn(wanted, "0123456789") == strlen(wanted)) {
        const long index = strtol(wanted, NULL, 10);
        return index < n ? (int)index : -1;
    }
    for (int i = 0; i < n && *wanted; i++)
        if (contains(e[i].name, wanted) || contains(e[i].platform_name, wanted)) return i;
    return -1;
}

/* The last error is for session_fail(); a warning stands for itself. */
static void keep_log(void *priv, enum clmoe_log_level level, const char *message) {
    struct session *const s = priv;
    if (level == CLMOE_LOG_ERROR) snprintf(s->log, sizeof s->log, "%s", message);
    if (level == CLMOE_LOG_WARN && !s->quiet) command_fail(s->usage, EXIT_OK, "warning: %s", message);
}

/* Creates the last folder of a path whose parent may be missing too, as ~/.cache is on a fresh account. */
static void open_cache(struct session *s) {
    const char *const own = getenv("CLMOE_CACHE_DIR"), *const xdg = getenv("XDG_CACHE_HOME");
    const char *const home = getenv("HOME");
    char path[1024], parent[1024];
    if (own && *own)
        snprintf(path, sizeof path, "%s", own);
    else if (xdg && *xdg)
        snprintf(path, sizeof path, "%s/clmoe", xdg);
    else if (home && *home)
        snprintf(path, sizeof path, "%s/.cache/clmoe", home);
    else
        return;
    snprintf(parent, sizeof parent, "%s", path);
    char *const slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = '\0';
        mkdir(parent, 0700); /* there already, or clmoe_cache_dir_create says no */
    }
    if (clmoe_cache_dir_create(path, &s->cache) != CLMOE_OK) s->cache = NULL;
}

int session_open(struct session *s, const struct usage *usage, const char *wanted) {
    struct device_entry entries[MAX_DEVICES];
    *s = (struct session){.usage = usage};
    const int n = list_devices(entries, MAX_DEVICES);
    if (n == 0)
        return command_fail(usage, EXIT_FAILED, "no OpenCL device: install a driver, or PoCL for the CPU");
    const int chosen = choose_device(entries, n, wanted);
    if (chosen < 0)
        return command_fail(usage, EXIT_USAGE, "no device matches \"%s\"; see clmoe info", wanted);
    s->device = entries[chosen].device;
    cl_int err;
    s->context = clCreateContext(NULL, 1, &s->device, NULL, NULL, &err);
    if (err == CL_SUCCESS)
        s->queue = clCreateCommandQueue(s->context, s->device, CL_QUEUE_PROFILING_ENABLE, &err);
    if (err != CL_SUCCESS) {
        session_close(s);
        return command_fail(usage, EXIT_FAILED, "%s: OpenCL error %d", entries[chosen].name, (int)err);
    }
    open_cache(s);
    const struct clmoe_context_params params = {
        .log = keep_log, .log_priv = s, .log_level = CLMOE_LOG_WARN, .cache = s->cache};
    const enum clmoe_status status = clmoe_context_create(s->context, s->device, &params, &s->ctx);
    if (status == CLMOE_OK) return -1;
    const int code = session_fail(s, status, "clmoe_context_create");
    session_close(s);
    return code;
}

void session_close(struct session *s) {
    clmoe_context_destroy(&s->ctx);
    clmoe_cache_dir_destroy(&s->cache);
    if (s->queue) clReleaseCommandQueue(s->queue);
    if (s->context) clReleaseContext(s->context);
    *s = (struct session){.usage = s->usage};
}

int session_fail(const struct session *s, enum clmoe_status status, const char *call) {
    const int line = (int)strcspn(s->log, "\n"); /* a build log goes on with the source */
    return command_fail(s->usage, status == CLMOE_E_INVALID ? EXIT_USAGE : EXIT_FAILED, "%s: %s%s%.*s", call,
                        clmoe_status_name(status), line ? ": " : "", line, s->log);
}

static const struct {
    enum array_dtype array;
    enum clmoe_dtype tensor;
} dtypes[] = {
    {ARRAY_F32, CLMOE_F32}, {ARRAY_F16, CLMOE_F16}, {ARRAY_BF16, CLMOE_BF16}, {ARRAY_F64, CLMOE_F64},
    {ARRAY_I8, CLMOE_I8},   {ARRAY_U8, CLMOE_U8},   {ARRAY_I16, CLMOE_I16},   {ARRAY_U16, CLMOE_U16},
    {ARRAY_I32, CLMOE_I32}, {ARRAY_U32, CLMOE_U32}, {ARRAY_I64, CLMOE_I64},   {ARRAY_U64, CLMOE_U64},
};

bool session_dtype(enum array_dtype dtype, enum clmoe_dtype *out) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].array != dtype) continue;
        *out = dtypes[i].tensor;
        return true;
    }
    return false;
}

int session_read_rows(const struct usage *usage, const char *path, bool bf16, struct array *out) {
    enum clmoe_dtype ignored;
    int code = read_input(usage, path, bf16, out);
    if (code >= 0) return code;
    if (!session_dtype(out->dtype, &ignored))
        code = command_fail(usage, EXIT_USAGE, "%s: holds %s, which has no dtype on the device", path,
                            array_dtype_name(out->dtype));
    else if (out->ndim == 0)
        code = command_fail(usage, EXIT_USAGE, "%s: a single number, expected rows", path);
    return code;
}

int session_scalar(const struct usage *usage, const char *option, enum array_dtype dtype, double value,
                   union clmoe_scalar *scalar) {
    const bool is_signed =
        dtype == ARRAY_I8 || dtype == ARRAY_I16 || dtype == ARRAY_I32 || dtype == ARRAY_I64;
    if (!array_dtype_is_integer(dtype)) {
        scalar->f = value;
        return -1;
    }
    const double end = ldexp(1, 8 * (int)array_dtype_size(dtype) - is_signed), begin = is_signed ? -end : 0;
    if (!(value >= begin && value < end) || value != floor(value))
        return command_fail(usage, EXIT_USAGE, "%s: expected one of the numbers of %s, got %g", option,
                            array_dtype_name(dtype), value);
    if (is_signed)
        scalar->i = (int64_t)value;
    else
        scalar->u = (uint64_t)value;
    return -1;
}

int session_buffer(struct session *s, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                   struct clmoe_tensor *tensor) {
    int64_t count;
    *tensor = (struct clmoe_tensor){.dtype = dtype, .ndim = ndim};
    for (int d = 0; d < ndim; d++)
        tensor->shape[d] = shape[d];
    const int64_t bytes = array_shape_count(ndim, shape, &count) ? clmoe_dtype_bytes(dtype, count) : -1;
    if (bytes < 0) return command_fail(s->usage, EXIT_USAGE, "a tensor too large to count");
    cl_int err;
    tensor->mem = clCreateBuffer(s->context, CL_MEM_READ_WRITE, bytes ? (size_t)bytes : 1, NULL, &err);
    if (err == CL_SUCCESS) return -1;
    tensor->mem = NULL;
    return command_fail(s->usage, EXIT_FAILED, "a buffer of %lld bytes: OpenCL error %d", (long long)bytes,
                        (int)err);
}

int session_upload(struct session *s, const struct array *array, struct clmoe_tensor *tensor) {
    enum clmoe_dtype dtype;
    *tensor = (struct clmoe_tensor){0};
    if (!session_dtype(array->dtype, &dtype) || array->ndim > CLMOE_MAX_DIMS)
        return command_fail(s->usage, EXIT_USAGE, "an array of %s with %d dimensions cannot go to the device",
                            array_dtype_name(array->dtype), array->ndim);
    const int64_t one = 1;
    int code =
        session_buffer(s, dtype, array->ndim ? array->ndim : 1, array->ndim ? array->shape : &one, tensor);
    if (code >= 0 || array->bytes == 0) return code;
    code = session_write(s, array->data, array->bytes, 0, tensor);
    if (code >= 0) session_release(tensor);
    return code;
}

int session_write(struct session *s, const void *data, size_t bytes, size_t at,
                  const struct clmoe_tensor *tensor) {
    const cl_int err = clEnqueueWriteBuffer(s->queue, tensor->mem, CL_TRUE, at, bytes, data, 0, NULL, NULL);
    return err == CL_SUCCESS
               ? -1
               : command_fail(s->usage, EXIT_FAILED, "clEnqueueWriteBuffer: OpenCL error %d", (int)err);
}

int session_download(struct session *s, const struct clmoe_tensor *tensor, struct array *array) {
    struct io_error error;
    enum array_dtype dtype = ARRAY_F32;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].tensor == tensor->dtype) dtype = dtypes[i].array;
    if (!array_alloc("result", dtype, tensor->ndim, tensor->shape, array, &error))
        return command_fail(s->usage, EXIT_FAILED, "%s", error.text);
    if (array->bytes == 0) return -1;
    const cl_int err = clEnqueueReadBuffer(s->queue, tensor->mem, CL_TRUE, tensor->offset, array->bytes,
                                           array->data, 0, NULL, NULL);
    if (err == CL_SUCCESS) return -1;
    array_free(array);
    return command_fail(s->usage, EXIT_FAILED, "clEnqueueReadBuffer: OpenCL error %d", (int)err);
}

void session_release(struct clmoe_tensor *tensor) {
    if (tensor->mem) clReleaseMemObject(tensor->mem);
    *tensor = (struct clmoe_tensor){0};
}
