// SPDX-License-Identifier: MIT
//
// JSON from untrusted files, as cJSON objects.
//
// cJSON alone recurses up to a depth fixed when it was built, spends some 100 bytes on each value, ends a
// string at an escaped NUL and lets the first of two equal keys win. So a scan without recursion or memory
// comes first and refuses what goes beyond the limits, bad UTF-8, control characters and NUL in strings;
// after cJSON has parsed, a key given twice in one object is refused, at any level.
#ifndef CLMOE_TOOLS_IO_JSON_H
#define CLMOE_TOOLS_IO_JSON_H

#include "error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_limits {
    const char *part; // stands before every message, "header: " or ""
    size_t bytes;     // of text
    int depth;        // nested arrays and objects; `[]` has depth 1
    size_t values;    // of any kind, at any level; an upper estimate is compared
};

// Parses exactly one object with optional white space around it. The caller gives it to cJSON_Delete(). NULL
// on failure. `name` stands in the error before a line and column, counted from 1 in bytes, or before the
// limit. `text` needs no NUL at its end and is not kept.
cJSON *json_parse(const char *name, const char *text, size_t size, const struct json_limits *limits,
                  struct io_error *err);

// True when the item is a number without fraction in min..max. Integers from +-2^53 on are refused whatever
// the range, as a double no longer tells them apart. NULL is no number.
bool json_integer(const cJSON *item, int64_t min, int64_t max, int64_t *value);

// True when no object in the tree has a key twice; else the error says which. `part` is json_limits'.
bool json_unique_keys(const char *name, const char *part, const cJSON *parent, struct io_error *err);

// True when the bytes can be a string of a tree: UTF-8 without NUL.
bool json_is_text(const char *text, size_t size);

// A value as an error shows it: `"text"`, `3.5`, `true`, `null`, `a list`, `an object`, `nothing` for NULL.
struct json_text {
    char text[64];
};
struct json_text json_show(const cJSON *item);

#endif
