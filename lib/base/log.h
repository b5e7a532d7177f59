/* SPDX-License-Identifier: MIT
 * The caller's log callback, and the three macros by which every function of lib/ reports an error. */
#ifndef CLMOE_BASE_LOG_H
#define CLMOE_BASE_LOG_H

#include "clmoe/common.h"

#include <stdbool.h>

struct log {
    clmoe_log_fn fn;
    void *priv;
    enum clmoe_log_level level;
};

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PRINTF_LIKE(fmt, args)
#endif

/* Formats into a buffer on the stack (longer messages are cut) and passes it on. */
void log_msg(const struct log *log, enum clmoe_log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Passes a message of any length on as it is. */
void log_text(const struct log *log, enum clmoe_log_level level, const char *text);

bool log_wants(const struct log *log, enum clmoe_log_level level);

/* "where: condition does not hold: values" */
void log_require(const struct log *log, const char *where, const char *condition, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* The caller broke a rule: logs the condition's text and the values, returns CLMOE_E_INVALID. */
#define REQUIRE(log, cond, ...)                                                                              \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            log_require((log), __func__, #cond, __VA_ARGS__);                                                \
            return CLMOE_E_INVALID;                                                                          \
        }                                                                                                    \
    } while (0)

/* Passes a failure of one of our own functions up. */
#define TRY(expr)                                                                                            \
    do {                                                                                                     \
        const enum clmoe_status try_status_ = (expr);                                                        \
        if (try_status_ != CLMOE_OK) return try_status_;                                                     \
    } while (0)

/* Turns a failed OpenCL call into CLMOE_E_OPENCL, with its name in the log. Needs device/clerr.h. */
#define TRY_CL(log, expr)                                                                                    \
    do {                                                                                                     \
        const cl_int try_err_ = (expr);                                                                      \
        if (try_err_ != CL_SUCCESS) return clerr_report((log), try_err_, #expr);                             \
    } while (0)

#endif
