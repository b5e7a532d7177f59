// SPDX-License-Identifier: MIT
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_INTEGER ((INT64_C(1) << 53) - 1) // 2^53 is also what 2^53 + 1 reads as

// A scan over the text: what is wrong with the byte at `at`.
struct scan {
    const char *name;
    const char *part;
    const char *text;
    size_t size;
    size_t at;
    struct io_error *err;
};

static bool fail_at(const struct scan *s, const char *what) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < s->at; ++i) {
        column = s->text[i] == '\n' ? 1 : column + 1;
        line += s->text[i] == '\n';
    }
    return io_fail(s->err, s->name, "%sline %zu column %zu: %s", s->part, line, column, what);
}

// The bytes of the UTF-8 sequence at the front of `c`, 0 when it is none (overlong, surrogate, above
// U+10FFFF).
static size_t utf8_length(const unsigned char *c, size_t left) {
    const size_t length = c[0] < 0x80   ? 1
                          : c[0] < 0xc2 ? 0
                          : c[0] < 0xe0 ? 2
                          : c[0] < 0xf0 ? 3
                          : c[0] < 0xf5 ? 4
                                        : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; ++i) {
        if ((c[i] & 0xc0u) != 0x80u) return 0;
    }
    if (c[0] == 0xe0 && c[1] < 0xa0) return 0;
    if (c[0] == 0xed && c[1] > 0x9f) return 0;
    if (c[0] == 0xf0 && c[1] < 0x90) return 0;
    if (c[0] == 0xf4 && c[1] > 0x8f) return 0;
    return length;
}

bool json_is_text(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        const size_t length = text[at] ? utf8_length((const unsigned char *)text + at, size - at) : 0;
        if (length == 0) return false;
        at += length;
    }
    return true;
}

// From the opening quote to behind the closing one.
static bool scan_string(struct scan *s) {
    const size_t start = s->at++;
    while (s->at < s->size) {
        const unsigned char *c = (const unsigned char *)s->text + s->at;
        const size_t left = s->size - s->at;
        if (*c == '"') {
            ++s->at;
            return true;
        }
        if (*c < 0x20) return fail_at(s, "control character in a string");
        if (*c == '\\') {
            if (left >= 6 && memcmp(c + 1, "u0000", 5) == 0) return fail_at(s, "NUL character in a string");
            s->at += left >= 2 ? 2 : 1; // cJSON judges the escape; here only a quote must not end the string
            continue;
        }
        const size_t length = utf8_length(c, left);
        if (length == 0) return fail_at(s, "not valid UTF-8");
        s->at += length;
    }
    s->at = start;
    return fail_at(s, "string without an end");
}

static bool scan_text(struct scan *s, const struct json_limits *limits) {
    int depth = 0;
    size_t values = 1;
    while (s->at < s->size) {
        const unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            if (!scan_string(s)) return false;
            continue;
        }
        if (c < 0x20 && c != '\t' && c != '\n' && c != '\r') return fail_at(s, "control character");
        if (c >= 0x7f) return fail_at(s, "character outside a string");
        if ((c == '{' || c == '[') && ++depth > limits->depth) {
            return io_fail(s->err, s->name, "%snested deeper than %d levels", s->part, limits->depth);
        }
        if ((c == '}' || c == ']') && --depth < 0)
            return fail_at(s, "closing bracket without an opening one");
        if ((c == ',' || c == '{' || c == '[') && ++values > limits->values) {
            return io_fail(s->err, s->name, "%smore than %zu values", s->part, limits->values);
        }
        ++s->at;
    }
    return depth == 0 || fail_at(s, "ends inside an object or list");
}

static int compare_keys(const void *a, const void *b) {
    const char *const *left = a, *const *right = b;
    return strcmp(*left, *right);
}

// Depth is limited by whoever made the tree, and with it this recursion.
bool json_unique_keys(const char *name, const char *part, const cJSON *parent, struct io_error *err) {
    size_t count = 0;
    for (const cJSON *item = parent->child; item; item = item->next, ++count) {
        if (item->child && !json_unique_keys(name, part, item, err)) return false;
    }
    if (!cJSON_IsObject(parent) || count < 2) return true;

    const char **keys = malloc(count * sizeof(*keys));
    if (!keys) return io_fail(err, name, "%sout of memory", part);
    size_t n = 0;
    for (const cJSON *item = parent->child; item; item = item->next)
        keys[n++] = item->string;
    qsort(keys, count, sizeof(*keys), compare_keys);
    bool ok = true;
    for (size_t i = 1; i < count && ok; ++i) {
        if (strcmp(keys[i - 1], keys[i]) == 0)
            ok = io_fail(err, name, "%skey \"%.100s\" is given twice", part, keys[i]);
    }
    free(keys);
    return ok;
}

// cJSON reads a byte behind the text in some versions: it gets a copy with a NUL that counts as text.
static cJSON *parse_copy(struct scan *s) {
    char *copy = malloc(s->size + 1);
    if (!copy) {
        io_error_set(s->err, s->name, "%sout of memory for %zu bytes", s->part, s->size);
        return NULL;
    }
    memcpy(copy, s->text, s->size);
    copy[s->size] = '\0';

    const char *end = copy;
    cJSON *root = cJSON_ParseWithLengthOpts(copy, s->size + 1, &end, 0);
    s->at = (size_t)(end - copy) < s->size ? (size_t)(end - copy) : s->size;
    free(copy);
    if (!root) (void)fail_at(s, "not valid JSON");
    return root;
}

static bool check_tree(struct scan *s, const cJSON *root) {
    while (s->at < s->size && strchr(" \t\r\n", s->text[s->at]))
        ++s->at;
    if (s->at < s->size) return fail_at(s, "more text after the end");
    if (!cJSON_IsObject(root)) {
        return io_fail(s->err, s->name, "%sexpected an object, got %s", s->part, json_show(root).text);
    }
    return json_unique_keys(s->name, s->part, root, s->err);
}

cJSON *json_parse(const char *name, const char *text, size_t size, const struct json_limits *limits,
                  struct io_error *err) {
    if (size == 0) {
        io_error_set(err, name, "%sis empty, expected a JSON object", limits->part);
        return NULL;
    }
    if (size > limits->bytes) {
        io_error_set(err, name, "%s%zu bytes of JSON, expected at most %zu", limits->part, size,
                     limits->bytes);
        return NULL;
    }
    struct scan s = {name, limits->part, text, size, 0, err};
    if (!scan_text(&s, limits)) return NULL;
    cJSON *root = parse_copy(&s);
    if (root && !check_tree(&s, root)) {
        cJSON_Delete(root);
        root = NULL;
    }
    return root;
}

bool json_integer(const cJSON *item, int64_t min, int64_t max, int64_t *value) {
    if (!cJSON_IsNumber(item)) return false;
    const double number = item->valuedouble;
    if (!(fabs(number) <= (double)EXACT_INTEGER)) return false;
    const int64_t integer = (int64_t)number;
    if ((double)integer != number || integer < min || integer > max) return false;
    *value = integer;
    return true;
}

struct json_text json_show(const cJSON *item) {
    struct json_text out;
    const size_t room = sizeof(out.text);
    if (!item) {
        (void)snprintf(out.text, room, "nothing");
    } else if (cJSON_IsString(item)) {
        (void)snprintf(out.text, room, "\"%.40s%s\"", item->valuestring,
                       strlen(item->valuestring) > 40 ? "..." : "");
    } else if (cJSON_IsNumber(item)) {
        const bool integer = fabs(item->valuedouble) < 1e17 && floor(item->valuedouble) == item->valuedouble;
        (void)snprintf(out.text, room, integer ? "%.0f" : "%.15g", item->valuedouble);
    } else {
        (void)snprintf(out.text, room, "%s",
                       cJSON_IsArray(item)    ? "a list"
                       : cJSON_IsObject(item) ? "an object"
                       : cJSON_IsTrue(item)   ? "true"
                       : cJSON_IsFalse(item)  ? "false"
                                              : "null");
    }
    return out;
}
