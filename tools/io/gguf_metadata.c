// SPDX-License-Identifier: MIT
//
// Keys and values, to the items that config.h looks up.
#define _POSIX_C_SOURCE 200809L
#include "gguf.h"
#include "gguf_cursor.h"
#include "json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, LIST, U64, I64, F64, N_TYPES };

#define LEAST_STRING 8 // its length
#define LEAST_LIST 12  // its type and its length
#define LEAST_ENTRY 14 // a key of one letter, a type, a byte

// Of strings and lists the least that they take.
static const size_t sizes[N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, LEAST_STRING, LEAST_LIST, 8, 8, 8};

#define MAX_KEY 65535

struct reader {
    struct gguf_cursor *c;
    const char *key; // of the value that is read
    size_t values;   // that are kept
};

bool gguf_skip(struct gguf_cursor *c, uint64_t count, size_t size) {
    if (count > (c->size - c->at) / size)
        return io_fail(c->err, c->name, "ends at byte %zu, inside its %s: truncated?", c->size, c->part);
    c->at += (size_t)count * size;
    return true;
}

bool gguf_u32(struct gguf_cursor *c, uint32_t *value) {
    if (!gguf_skip(c, 1, sizeof(*value))) return false;
    memcpy(value, c->bytes + c->at - sizeof(*value), sizeof(*value));
    return true;
}

bool gguf_u64(struct gguf_cursor *c, uint64_t *value) {
    if (!gguf_skip(c, 1, sizeof(*value))) return false;
    memcpy(value, c->bytes + c->at - sizeof(*value), sizeof(*value));
    return true;
}

bool gguf_string(struct gguf_cursor *c, struct gguf_string *value) {
    uint64_t length;
    if (!gguf_u64(c, &length) || !gguf_skip(c, length, 1)) return false;
    *value = (struct gguf_string){(const char *)c->bytes + c->at - (size_t)length, (size_t)length};
    return true;
}

bool gguf_count(struct gguf_cursor *c, const char *what, size_t least, uint64_t *value) {
    if (!gguf_u64(c, value)) return false;
    return *value <= (c->size - c->at) / least ||
           io_fail(c->err, c->name, "%" PRIu64 " %s, but only %zu bytes follow", *value, what,
                   c->size - c->at);
}

#define NUMBER(type)                                                                                         \
    do {                                                                                                     \
        type x;                                                                                              \
        memcpy(&x, at, sizeof(x));                                                                           \
        return (double)x;                                                                                    \
    } while (0)

static double number(uint32_t type, const uint8_t *at) {
    switch (type) {
    case U8: NUMBER(uint8_t);
    case I8: NUMBER(int8_t);
    case U16: NUMBER(uint16_t);
    case I16: NUMBER(int16_t);
    case U32: NUMBER(uint32_t);
    case I32: NUMBER(int32_t);
    case U64: NUMBER(uint64_t);
    case I64: NUMBER(int64_t);
    case F64: NUMBER(double);
    default: NUMBER(float);
    }
}

static bool check_type(const struct reader *r, uint32_t type) {
    return type < N_TYPES ||
           io_fail(r->c->err, r->c->name, "%.100s: type %" PRIu32 " is no type of a value", r->key, type);
}

static cJSON *make_text(const struct gguf_string *s) {
    if (!json_is_text(s->text, s->length)) return cJSON_CreateNull();
    char *const copy = strndup(s->text, s->length);
    cJSON *const item = copy ? cJSON_CreateString(copy) : NULL;
    free(copy);
    return item;
}

// One that is no list. `*item` is NULL when memory ran out.
static bool read_scalar(struct reader *r, uint32_t type, cJSON **item) {
    struct gguf_cursor *const c = r->c;
    struct gguf_string text;
    if (type == STRING) {
        if (!gguf_string(c, &text)) return false;
        *item = make_text(&text);
        return true;
    }
    const uint8_t *const at = c->bytes + c->at;
    if (!gguf_skip(c, 1, sizes[type])) return false;
    if (type == BOOL && *at > 1)
        return io_fail(c->err, c->name, "%.100s: a bool is %d, expected 0 or 1", r->key, *at);
    *item = type == BOOL ? cJSON_CreateBool(*at) : cJSON_CreateNumber(number(type, at));
    return true;
}

static bool skip_list(struct reader *r, uint32_t type, uint64_t count, int depth);

// The head of a list: the type of its values and how many there are.
static bool read_head(struct reader *r, int depth, uint32_t *type, uint64_t *count) {
    if (depth == GGUF_MAX_DEPTH)
        return io_fail(r->c->err, r->c->name, "%.100s: lists are nested deeper than %d levels", r->key,
                       GGUF_MAX_DEPTH);
    return gguf_u32(r->c, type) && check_type(r, *type) &&
           gguf_count(r->c, "values of a list", sizes[*type], count);
}

static bool skip_value(struct reader *r, uint32_t type, int depth) {
    struct gguf_string text;
    uint64_t count;
    if (type == STRING) return gguf_string(r->c, &text);
    return read_head(r, depth, &type, &count) && skip_list(r, type, count, depth + 1);
}

static bool skip_list(struct reader *r, uint32_t type, uint64_t count, int depth) {
    if (type != STRING && type != LIST) return gguf_skip(r->c, count, sizes[type]);
    for (uint64_t i = 0; i < count; ++i)
        if (!skip_value(r, type, depth)) return false;
    return true;
}

// Adds to a list, or to an object under the reader's key.
static bool read_value(struct reader *r, uint32_t type, int depth, cJSON *parent) {
    struct gguf_cursor *const c = r->c;
    cJSON *item = NULL;
    uint64_t count = 0;
    uint32_t of = 0;
    if (++r->values > GGUF_MAX_VALUES)
        return io_fail(c->err, c->name, "%s: more than %d values", c->part, GGUF_MAX_VALUES);
    if (type != LIST && !read_scalar(r, type, &item)) return false;
    if (type == LIST) {
        if (!read_head(r, depth, &of, &count)) return false;
        item = count > GGUF_MAX_LIST ? cJSON_CreateNull() : cJSON_CreateArray();
    }
    const bool added = item && (cJSON_IsObject(parent) ? cJSON_AddItemToObject(parent, r->key, item)
                                                       : cJSON_AddItemToArray(parent, item));
    if (!added) {
        cJSON_Delete(item);
        return io_fail(c->err, c->name, "%s: out of memory", c->part);
    }
    if (!cJSON_IsArray(item)) return skip_list(r, of, count, depth + 1);
    for (uint64_t i = 0; i < count; ++i)
        if (!read_value(r, of, depth + 1, item)) return false;
    return true;
}

static bool read_entry(struct reader *r, cJSON *metadata) {
    struct gguf_cursor *const c = r->c;
    struct gguf_string key;
    uint32_t type;
    if (!gguf_string(c, &key)) return false;
    if (key.length == 0 || key.length > MAX_KEY || !json_is_text(key.text, key.length))
        return io_fail(c->err, c->name,
                       "%s: a key of %zu bytes at byte %zu, expected 1..%d of UTF-8 without NUL", c->part,
                       key.length, c->at - key.length, MAX_KEY);
    char *const copy = strndup(key.text, key.length);
    if (!copy) return io_fail(c->err, c->name, "%s: out of memory", c->part);
    r->key = copy;
    const bool ok = gguf_u32(c, &type) && check_type(r, type) && read_value(r, type, 0, metadata);
    free(copy);
    return ok;
}

cJSON *gguf_metadata(struct gguf_cursor *c, uint64_t count) {
    struct reader r = {.c = c};
    cJSON *const metadata = cJSON_CreateObject();
    bool ok = metadata || io_fail(c->err, c->name, "%s: out of memory", c->part);
    if (ok && count > (c->size - c->at) / LEAST_ENTRY)
        ok = io_fail(c->err, c->name, "%" PRIu64 " keys, but only %zu bytes follow", count, c->size - c->at);
    for (uint64_t i = 0; i < count && ok; ++i)
        ok = read_entry(&r, metadata);
    if (ok && json_unique_keys(c->name, "metadata: ", metadata, c->err)) return metadata;
    cJSON_Delete(metadata);
    return NULL;
}

// Moves nothing: the file keeps its items.
static bool add_section(const struct gguf *file, const char *section, cJSON *root) {
    const size_t length = strlen(section);
    cJSON *const object = cJSON_AddObjectToObject(root, section);
    for (const cJSON *item = file->metadata->child; item && object; item = item->next) {
        if (strncmp(item->string, section, length) != 0 || item->string[length] != '.') continue;
        cJSON *const copy = cJSON_Duplicate(item, true);
        if (!copy || !cJSON_AddItemToObject(object, item->string + length + 1, copy)) {
            cJSON_Delete(copy);
            return false;
        }
    }
    return object != NULL;
}

bool gguf_config(const struct gguf *file, struct config *out, struct io_error *err) {
    const char *const architecture =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file->metadata, "general.architecture"));
    *out = (struct config){strdup(file->name), cJSON_CreateObject()};
    if (out->name && out->root && add_section(file, "general", out->root) &&
        (!architecture || strcmp(architecture, "general") == 0 || add_section(file, architecture, out->root)))
        return true;
    config_close(out);
    return io_fail(err, file->name, "out of memory");
}
