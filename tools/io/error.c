// SPDX-License-Identifier: MIT
#include "error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 300

// C0, DEL and the C1 controls (C2 80 .. C2 9F in UTF-8) would let a file drive the user's terminal.
static void hide_controls(char *text) {
    for (unsigned char *c = (unsigned char *)text; *c; ++c) {
        if (*c < 0x20 || *c == 0x7f) {
            *c = '?';
        } else if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) {
            c[0] = '?';
            c[1] = '?';
        }
    }
}

void io_error_set(struct io_error *err, const char *name, const char *format, ...) {
    if (!err) return;

    const size_t length = strlen(name);
    const bool cut = length > NAME_BYTES;
    const size_t room = sizeof(err->text);
    const int prefix =
        snprintf(err->text, room, "%s%s: ", cut ? "..." : "", cut ? name + length - NAME_BYTES : name);
    const size_t used = prefix < 0 ? 0 : (size_t)prefix;

    va_list args;
    va_start(args, format);
    const int body = vsnprintf(err->text + used, room - used, format, args);
    va_end(args);
    if (body < 0) {
        (void)snprintf(err->text + used, room - used, "error");
    } else if ((size_t)body >= room - used) {
        memcpy(err->text + room - 4, "...", 4);
    }

    hide_controls(err->text);
}
