/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

#define MESSAGE_MAX 1024

bool log_wants(const struct log *log, enum clmoe_log_level level) {
    return log && log->fn && level <= log->level;
}

void log_text(const struct log *log, enum clmoe_log_level level, const char *text) {
    if (log_wants(log, level)) log->fn(log->priv, level, text);
}

void log_msg(const struct log *log, enum clmoe_log_level level, const char *fmt, ...) {
    if (!log_wants(log, level)) return;
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    log->fn(log->priv, level, text);
}

void log_require(const struct log *log, const char *where, const char *condition, const char *fmt, ...) {
    if (!log_wants(log, CLMOE_LOG_ERROR)) return;
    char text[MESSAGE_MAX];
    const int head = snprintf(text, sizeof text, "%s: does not hold: %s: ", where, condition);
    if (head > 0 && (size_t)head < sizeof text) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(text + head, sizeof text - (size_t)head, fmt, args);
        va_end(args);
    }
    log->fn(log->priv, CLMOE_LOG_ERROR, text);
}
