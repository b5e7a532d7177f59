// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L
#include "config.h"
#include "json.h"
#include "map.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECTED_BYTES 256

static const struct json_limits limits = {"", 8 << 20, 32, 400000};

bool config_parse(const char *name, const void *bytes, size_t size, struct config *out,
                  struct io_error *err) {
    *out = (struct config){0};
    out->name = strdup(name);
    if (!out->name) return io_fail(err, name, "out of memory");
    out->root = json_parse(name, bytes, size, &limits, err);
    if (!out->root) config_close(out);
    return out->root != NULL;
}

bool config_open(const char *path, struct config *out, struct io_error *err) {
    *out = (struct config){0};
    struct file_map map;
    if (!file_map_open(path, &map, err)) return false;
    const bool ok = config_parse(path, map.data, map.size, out, err);
    file_map_close(&map);
    return ok;
}

void config_close(struct config *c) {
    if (!c) return;
    free(c->name);
    cJSON_Delete(c->root);
    *c = (struct config){0};
}

static bool same_key(const char *key, const char *part, size_t length) {
    return strncmp(key, part, length) == 0 && key[length] == '\0';
}

// One alternative, `length` bytes of "a.b.c".
static const cJSON *find_path(const cJSON *item, const char *path, size_t length) {
    while (cJSON_IsObject(item)) {
        const char *dot = memchr(path, '.', length);
        const size_t part = dot ? (size_t)(dot - path) : length;
        item = item->child;
        while (item && !same_key(item->string, path, part))
            item = item->next;
        if (!dot) return item;
        path += part + 1;
        length -= part + 1;
    }
    return NULL;
}

struct config_value config_value(const struct config *c, const char *key) {
    struct config_value value = {NULL, c->name, key, (int)strlen(key)};
    for (const char *at = key; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        const size_t length = strcspn(at, "|");
        const cJSON *item = find_path(c->root, at, length);
        if (!item || cJSON_IsNull(item)) continue;
        return (struct config_value){item, c->name, at, (int)length};
    }
    return value;
}

const cJSON *config_find(const struct config *c, const char *key) {
    return config_value(c, key).item;
}

const cJSON *config_item(const struct config *c, const char *key) {
    return find_path(c->root, key, strlen(key));
}

bool config_refuse(const struct config_value *v, const char *expected, struct io_error *err) {
    if (!v->item) return io_fail(err, v->file, "%.*s: missing, expected %s", v->key_length, v->key, expected);
    return io_fail(err, v->file, "%.*s: expected %s, got %s", v->key_length, v->key, expected,
                   json_show(v->item).text);
}

bool config_value_int(const struct config_value *v, int64_t min, int64_t max, int64_t *value,
                      struct io_error *err) {
    if (json_integer(v->item, min, max, value)) return true;
    char expected[EXPECTED_BYTES];
    (void)snprintf(expected, sizeof(expected), "an integer in %" PRId64 "..%" PRId64, min, max);
    return config_refuse(v, expected, err);
}

bool config_value_number(const struct config_value *v, double min, double max, double *value,
                         struct io_error *err) {
    const cJSON *item = v->item;
    if (cJSON_IsNumber(item) && isfinite(item->valuedouble) && item->valuedouble >= min &&
        item->valuedouble <= max) {
        *value = item->valuedouble;
        return true;
    }
    char expected[EXPECTED_BYTES];
    (void)snprintf(expected, sizeof(expected), "a number in %.9g..%.9g", min, max);
    return config_refuse(v, expected, err);
}

bool config_value_choice(const struct config_value *v, const char *const *choices, int *value,
                         struct io_error *err) {
    char expected[EXPECTED_BYTES] = "one of ";
    size_t used = strlen(expected);
    for (int i = 0; choices[i]; ++i) {
        if (cJSON_IsString(v->item) && strcmp(choices[i], v->item->valuestring) == 0) {
            *value = i;
            return true;
        }
        const int n = snprintf(expected + used, sizeof(expected) - used, "%s%s", i ? ", " : "", choices[i]);
        if (n > 0) used += (size_t)n < sizeof(expected) - used ? (size_t)n : sizeof(expected) - used - 1;
    }
    return config_refuse(v, expected, err);
}

bool config_int(const struct config *c, const char *key, int64_t min, int64_t max, int64_t *value,
                struct io_error *err) {
    const struct config_value v = config_value(c, key);
    return config_value_int(&v, min, max, value, err);
}

bool config_number(const struct config *c, const char *key, double min, double max, double *value,
                   struct io_error *err) {
    const struct config_value v = config_value(c, key);
    return config_value_number(&v, min, max, value, err);
}

bool config_bool(const struct config *c, const char *key, bool *value, struct io_error *err) {
    const struct config_value v = config_value(c, key);
    if (!cJSON_IsBool(v.item)) return config_refuse(&v, "true or false", err);
    *value = cJSON_IsTrue(v.item);
    return true;
}

bool config_string(const struct config *c, const char *key, const char **value, struct io_error *err) {
    const struct config_value v = config_value(c, key);
    if (!cJSON_IsString(v.item)) return config_refuse(&v, "a string", err);
    *value = v.item->valuestring;
    return true;
}

bool config_choice(const struct config *c, const char *key, const char *const *choices, int *value,
                   struct io_error *err) {
    const struct config_value v = config_value(c, key);
    return config_value_choice(&v, choices, value, err);
}

bool config_ints(const struct config *c, const char *key, int64_t min, int64_t max, size_t room,
                 int64_t *values, size_t *count, struct io_error *err) {
    const struct config_value v = config_value(c, key);
    char expected[EXPECTED_BYTES];
    (void)snprintf(expected, sizeof(expected), "a list of at most %zu integers in %" PRId64 "..%" PRId64,
                   room, min, max);
    if (!cJSON_IsArray(v.item)) return config_refuse(&v, expected, err);
    size_t n = 0;
    for (const cJSON *element = v.item->child; element; element = element->next, ++n) {
        int64_t value;
        if (n == room) return io_fail(err, c->name, "%s: expected %s, got more", key, expected);
        if (!json_integer(element, min, max, &value)) {
            return io_fail(err, c->name, "%s: expected %s, got %s at place %zu", key, expected,
                           json_show(element).text, n);
        }
        values[n] = value;
    }
    *count = n;
    return true;
}

bool config_int_or(const struct config *c, const char *key, int64_t min, int64_t max, int64_t fallback,
                   int64_t *value, struct io_error *err) {
    if (config_find(c, key)) return config_int(c, key, min, max, value, err);
    *value = fallback;
    return true;
}

bool config_number_or(const struct config *c, const char *key, double min, double max, double fallback,
                      double *value, struct io_error *err) {
    if (config_find(c, key)) return config_number(c, key, min, max, value, err);
    *value = fallback;
    return true;
}

bool config_bool_or(const struct config *c, const char *key, bool fallback, bool *value,
                    struct io_error *err) {
    if (config_find(c, key)) return config_bool(c, key, value, err);
    *value = fallback;
    return true;
}

bool config_choice_or(const struct config *c, const char *key, const char *const *choices, int fallback,
                      int *value, struct io_error *err) {
    if (config_find(c, key)) return config_choice(c, key, choices, value, err);
    *value = fallback;
    return true;
}
