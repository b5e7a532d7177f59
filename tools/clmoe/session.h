/* SPDX-License-Identifier: MIT
 * The command's OpenCL world: one device, one context, one in-order queue, and a clmoe context that keeps its
 * programs in the user's cache directory ($CLMOE_CACHE_DIR, else $XDG_CACHE_HOME/clmoe, else ~/.cache/clmoe;
 * without any of them, in memory only). */
#ifndef CLMOE_TOOLS_SESSION_H
#define CLMOE_TOOLS_SESSION_H

#include "clmoe/clmoe.h"
#include "command.h"
#include "io/array.h"

struct session {
    const struct usage *usage; /* for messages */
    cl_device_id device;
    cl_context context;
    cl_command_queue queue; /* with profiling */
    clmoe_context *ctx;
    struct clmoe_cache *cache;
    char log[4096]; /* the last error of the library */
    bool quiet;     /* its warnings are not printed */
};

/* Every subcommand has this row in its options, with a `const char *device = NULL`. */
#define DEVICE_OPTION(variable)                                                                              \
    {                                                                                                        \
        "device", OPTION_TEXT, &(variable), 0, 0, NULL,                                                      \
            "D  cpu, gpu, an index or a part of a name (clmoe info)"                                         \
    }

#define MAX_DEVICES 64

struct device_entry {
    cl_platform_id platform;
    cl_device_id device;
    cl_device_type type;
    char name[256], platform_name[256];
    double speed; /* compute units x MHz: ranks GPUs among themselves */
};

/* Lists all devices of all platforms, in order; returns how many were stored. */
int list_devices(struct device_entry *entries, int max);

/* The index that `wanted` means (see session_open), -1 for none. */
int choose_device(const struct device_entry *entries, int n, const char *wanted);

/* Opens the device that `wanted` names; NULL: the fastest GPU, else the first CPU, else the first device.
 * Returns -1, or the exit code after printing an error. */
int session_open(struct session *s, const struct usage *usage, const char *wanted);
void session_close(struct session *s);

/* Prints the failed call, the status and what the library logged; returns EXIT_FAILED, or EXIT_USAGE for
 * CLMOE_E_INVALID, since arguments come from the user. */
int session_fail(const struct session *s, enum clmoe_status status, const char *call);

/* dtype of the library for an array's, false if it has none. */
bool session_dtype(enum array_dtype dtype, enum clmoe_dtype *out);

/* Reads rows, along the last dimension or any, of a dtype that the library has. Returns -1, or EXIT_USAGE
 * after printing why not. */
int session_read_rows(const struct usage *usage, const char *path, bool bf16, struct array *out);

/* The value of an option as one element, which must be a number that the dtype has. Returns -1, or EXIT_USAGE
 * after printing why not. */
int session_scalar(const struct usage *usage, const char *option, enum array_dtype dtype, double value,
                   union clmoe_scalar *scalar);

/* A device buffer that holds the array, as a tensor [d0, ..., n-1] of the array's dims (at most 4; 0-d
 * becomes [1]). Returns -1, or an exit code. The caller releases tensor->mem. */
int session_upload(struct session *s, const struct array *array, struct clmoe_tensor *tensor);

/* Writes `bytes` of host memory to a buffer, from its byte `at` on. Returns -1, or an exit code. */
int session_write(struct session *s, const void *data, size_t bytes, size_t at,
                  const struct clmoe_tensor *tensor);

/* An uninitialised device buffer. */
int session_buffer(struct session *s, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                   struct clmoe_tensor *tensor);

/* Waits, reads a contiguous tensor into a new array. */
int session_download(struct session *s, const struct clmoe_tensor *tensor, struct array *array);

void session_release(struct clmoe_tensor *tensor);

#endif
