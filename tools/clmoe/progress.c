/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define ERASE_LINE "\r\033[K"

void progress(const char *what, int64_t done, int64_t total) {
    if (!isatty(STDERR_FILENO)) return;
    if (done < total)
        fprintf(stderr, ERASE_LINE "%s %" PRId64 "/%" PRId64, what, done, total);
    else
        fputs(ERASE_LINE, stderr);
}
