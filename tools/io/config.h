// SPDX-License-Identifier: MIT
//
// A model's config.json: typed, range-checked values with errors that name the key.
//     config.json: num_experts_per_tok: expected an integer in 1..64, got "x"
//     config.json: hidden_size: missing, expected an integer in 1..1048576
//
// A key may be a path through objects, "rope_scaling.factor", and may list alternatives, because models
// disagree on names: "num_experts|n_routed_experts|num_local_experts". The first alternative that is there,
// and not null, counts. null is the same as absent, as in Hugging Face's files. A key that itself holds '.'
// or '|' cannot be reached.
//
// Limits: 8 MiB of text, 32 levels, 400,000 values; what json.h refuses is refused.
#ifndef CLMOE_TOOLS_IO_CONFIG_H
#define CLMOE_TOOLS_IO_CONFIG_H

#include "error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// `{0}` is a valid, closed one.
// Thread-safety: reading is safe from every thread; opening and closing belong to one.
struct config {
    char *name;  // the path, for messages
    cJSON *root; // an object
};

// Reads `size` bytes, which are not kept. `name` stands in errors.
bool config_parse(const char *name, const void *bytes, size_t size, struct config *out, struct io_error *err);

// Reads a file.
bool config_open(const char *path, struct config *out, struct io_error *err);

// Valid on `{0}` and NULL. Strings and items end here.
void config_close(struct config *c);

// The item itself, for what the getters below do not cover. NULL when absent or null.
const cJSON *config_find(const struct config *c, const char *key);

// The same for a key without alternatives, and null is an item like any other.
const cJSON *config_item(const struct config *c, const char *key);

// A value and where it was found. `item` is NULL when there is none; then `key` is all of the key.
struct config_value {
    const cJSON *item;
    const char *file; // the config's name
    const char *key;  // `key_length` bytes of the caller's key: the alternative
    int key_length;
};
struct config_value config_value(const struct config *c, const char *key);

// "FILE: KEY: expected WHAT, got ...", or missing; false.
bool config_refuse(const struct config_value *v, const char *expected, struct io_error *err);

// The getters below for a value that is there already.
bool config_value_int(const struct config_value *v, int64_t min, int64_t max, int64_t *value,
                      struct io_error *err);
bool config_value_number(const struct config_value *v, double min, double max, double *value,
                         struct io_error *err);
bool config_value_choice(const struct config_value *v, const char *const *choices, int *value,
                         struct io_error *err);

// Required values. `*value` is written on success only.
bool config_int(const struct config *c, const char *key, int64_t min, int64_t max, int64_t *value,
                struct io_error *err);
bool config_number(const struct config *c, const char *key, double min, double max, double *value,
                   struct io_error *err);
bool config_bool(const struct config *c, const char *key, bool *value, struct io_error *err);
bool config_string(const struct config *c, const char *key, const char **value, struct io_error *err);

// A string out of a NULL-terminated list; `*value` is its place in it.
//     config.json: scoring_func: expected one of softmax, sigmoid, got "tanh"
bool config_choice(const struct config *c, const char *key, const char *const *choices, int *value,
                   struct io_error *err);

// A list of integers, each in min..max, of at most `room` of them; `*count` is how many.
bool config_ints(const struct config *c, const char *key, int64_t min, int64_t max, size_t room,
                 int64_t *values, size_t *count, struct io_error *err);

// The same with a value for an absent key. A key that is there with a wrong value is an error all the same.
bool config_int_or(const struct config *c, const char *key, int64_t min, int64_t max, int64_t fallback,
                   int64_t *value, struct io_error *err);
bool config_number_or(const struct config *c, const char *key, double min, double max, double fallback,
                      double *value, struct io_error *err);
bool config_bool_or(const struct config *c, const char *key, bool fallback, bool *value,
                    struct io_error *err);
bool config_choice_or(const struct config *c, const char *key, const char *const *choices, int fallback,
                      int *value, struct io_error *err);

#endif
