/* SPDX-License-Identifier: MIT */
#include "str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct str *s, size_t more) {
    if (s->failed) return false;
    const size_t need = s->size + more + 1;
    if (need <= s->capacity) return true;
    const size_t capacity = need > 2 * s->capacity ? need : 2 * s->capacity;
    char *const text = realloc(s->text, capacity);
    if (!text) {
        s->failed = true;
        return false;
    }
    s->text = text;
    s->capacity = capacity;
    return true;
}

void str_append(struct str *s, const char *text, size_t size) {
    if (!reserve(s, size)) return;
    memcpy(s->text + s->size, text, size);
    s->size += size;
    s->text[s->size] = '\0';
}

void str_printf(struct str *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    const int size = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (size < 0) s->failed = true;
    if (size < 0 || !reserve(s, (size_t)size)) return;
    va_start(args, fmt);
    vsnprintf(s->text + s->size, (size_t)size + 1, fmt, args);
    va_end(args);
    s->size += (size_t)size;
}

void str_free(struct str *s) {
    free(s->text);
    *s = (struct str){0};
}
