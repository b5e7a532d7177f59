/* SPDX-License-Identifier: MIT
 *
 * Versions, visibility, status codes and the log callback.
 */
#ifndef CLMOE_COMMON_H
#define CLMOE_COMMON_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#ifdef __APPLE__
#include <OpenCL/cl.h>
#else
#include <CL/cl.h>
#endif

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(CLMOE_SHARED)
#ifdef CLMOE_BUILD
#define CLMOE_API __declspec(dllexport)
#else
#define CLMOE_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define CLMOE_API __attribute__((visibility("default")))
#else
#define CLMOE_API
#endif

/* What a fallible call returns. The log callback gets the details: the condition that failed with its values,
 * the name of the OpenCL error, or the build log with the source text. */
enum clmoe_status {
    CLMOE_OK = 0,
    CLMOE_E_INVALID,     /* an argument breaks a rule of its header; nothing was enqueued */
    CLMOE_E_UNSUPPORTED, /* legal, but no kernel for this problem on this device (see the reasons in the log)
                          */
    CLMOE_E_NO_MEMORY,   /* out of host memory */
    CLMOE_E_OPENCL,      /* an OpenCL call failed, out of device memory included; the log has its name */
    CLMOE_E_BUILD,       /* a kernel did not compile; the log has the build log and the source */
};

/* The name of a status, as in "CLMOE_E_INVALID". Never NULL. Thread-safety: safe. */
CLMOE_API const char *clmoe_status_name(enum clmoe_status status);

enum clmoe_log_level {
    CLMOE_LOG_NONE = 0, /* as a maximum level: log nothing */
    CLMOE_LOG_ERROR,    /* why a call failed */
    CLMOE_LOG_WARN,     /* damaged cache entries, failed probes, kernels left out as they do not build */
    CLMOE_LOG_INFO,     /* which kernel a plan chose, what was compiled */
};

/* Receives one message, without a newline at its end. `message` lives only for the call. May be called from
 * any thread that calls the library, from several at once if several do. */
typedef void (*clmoe_log_fn)(void *priv, enum clmoe_log_level level, const char *message);

/* The library's version at run time: major * 10000 + minor * 100 + patch. The API changelog is a dictionary
 * in meson.build; its length is the API version and the soversion of the shared library. */
CLMOE_API int clmoe_version(void);

#ifdef __cplusplus
}
#endif
#endif
