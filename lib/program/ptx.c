/* SPDX-License-Identifier: MIT */
#include "ptx.h"

#include <string.h>

static bool starts_with(const char *line, const char *end, const char *word) {
    const size_t size = strlen(word);
    return (size_t)(end - line) >= size && memcmp(line, word, size) == 0;
}

/* Past the end of the line, its newline included. */
static const char *next_line(const char *line, const char *end) {
    const char *const newline = memchr(line, '\n', (size_t)(end - line));
    return newline ? newline + 1 : end;
}

static bool is_ptx(const char *text, const char *end) {
    if (memchr(text, 0, (size_t)(end - text))) return false;
    for (; text < end; text = next_line(text, end))
        if (starts_with(text, end, ".version")) return true;
    return false;
}

bool ptx_set_resident(const unsigned char *binary, size_t size, int groups, struct str *out) {
    const char *const text = (const char *)binary, *end = text + size;
    while (end > text && end[-1] == 0) /* the driver counts the terminator */
        end--;
    if (!is_ptx(text, end)) return false;
    bool found = false;
    const char *copied = text;
    for (const char *line = text, *next; line < end; line = next) {
        next = next_line(line, end);
        if (!starts_with(line, end, ".reqntid")) continue;
        str_append(out, copied, (size_t)(line - copied));
        str_printf(out, ".minnctapersm %d\n", groups);
        copied = line;
        found = true;
    }
    if (found) str_append(out, copied, (size_t)(end - copied));
    return found;
}
