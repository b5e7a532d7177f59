/* SPDX-License-Identifier: MIT */
#include "ptx.h"

#include <stdlib.h>
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

/* Where the text ends: the driver counts its terminator. NULL if it is none. */
static const char *end_of(const char *text, size_t size) {
    const char *end = text + size;
    while (end > text && end[-1] == 0)
        end--;
    return is_ptx(text, end) ? end : NULL;
}

bool ptx_set_resident(const unsigned char *binary, size_t size, int groups, struct str *out) {
    const char *const text = (const char *)binary, *const end = end_of(text, size);
    if (!end) return false;
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

int ptx_registers(const char *log) {
    static const char word[] = "Used ";
    int most = 0;
    for (const char *at = log; (at = strstr(at, word)); at += sizeof word - 1) {
        char *end;
        const long n = strtol(at + sizeof word - 1, &end, 10);
        if (n > most && n < 1024 && strncmp(end, " registers", 10) == 0) most = (int)n;
    }
    return most;
}

#define TARGET ".target sm_90"

/* The line that names the target, if that is sm_90 or sm_90a. */
static const char *find_target(const char *text, const char *end) {
    for (const char *line = text; line < end; line = next_line(line, end)) {
        if (!starts_with(line, end, TARGET)) continue;
        const char *const rest = line + strlen(TARGET);
        return rest < end && *rest >= '0' && *rest <= '9' ? NULL : line;
    }
    return NULL;
}

/* Appends what is between, without the marks. */
static void append_shown(struct str *out, const char *from, const char *end) {
    const size_t mark = strlen(PTX_HIDDEN);
    for (const char *at = from; at < end;) {
        const char *const slash = memchr(at, '/', (size_t)(end - at));
        if (slash && starts_with(slash, end, PTX_HIDDEN)) {
            str_append(out, from, (size_t)(slash - from));
            from = at = slash + mark;
        } else {
            at = slash ? slash + 1 : end;
        }
    }
    str_append(out, from, (size_t)(end - from));
}

bool ptx_retarget(const unsigned char *binary, size_t size, struct str *out) {
    const char *const text = (const char *)binary, *const end = end_of(text, size);
    const char *const target = end ? find_target(text, end) : NULL;
    if (!target) return false;
    const char *const rest = target + strlen(TARGET);
    append_shown(out, text, rest);
    str_printf(out, "a");
    append_shown(out, rest < end && *rest == 'a' ? rest + 1 : rest, end);
    return true;
}
