// SPDX-License-Identifier: MIT
//
// A GGUF file and the other parts of its model, if it was split: PREFIX-00001-of-0000N.gguf and so on.
#define _POSIX_C_SOURCE 200809L
#include "checkpoint_gguf.h"
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_BYTES 20 // of "-00001-of-00003.gguf"

// What a name says: without such an end, part 1 of 1.
struct part {
    size_t prefix; // bytes before that end
    int64_t number, count;
};

static bool five_digits(const char *text, int64_t *value) {
    *value = 0;
    for (int i = 0; i < 5; ++i) {
        if (text[i] < '0' || text[i] > '9') return false;
        *value = 10 * *value + (text[i] - '0');
    }
    return true;
}

static struct part read_part(const char *path) {
    const size_t length = strlen(path);
    const char *const end = length > PART_BYTES ? path + length - PART_BYTES : "";
    struct part p = {.prefix = length - (length > PART_BYTES ? PART_BYTES : 0)};
    const bool is_part = end[0] == '-' && five_digits(end + 1, &p.number) &&
                         strncmp(end + 6, "-of-", 4) == 0 && five_digits(end + 10, &p.count) &&
                         strcmp(end + 15, ".gguf") == 0;
    return is_part ? p : (struct part){length, 1, 1};
}

// A number of the metadata, or the fallback where there is none.
static bool read_number(const struct gguf *file, const char *key, int64_t fallback, int64_t *value,
                        struct io_error *err) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(file->metadata, key);
    *value = fallback;
    return !item || json_integer(item, 0, INT32_MAX, value) ||
           io_fail(err, file->name, "%s: expected an integer, got %s", key, json_show(item).text);
}

// The file must be the part that its name says.
static bool check_part(const struct gguf *file, int64_t number, int64_t count, struct io_error *err) {
    int64_t no, of;
    if (!read_number(file, "split.no", 0, &no, err) || !read_number(file, "split.count", 1, &of, err))
        return false;
    if (of < 1) of = 1;
    return (no == number - 1 && of == count) ||
           io_fail(err, file->name,
                   "is part %lld of %lld by split.no and split.count, part %lld of %lld by its name",
                   (long long)no + 1, (long long)of, (long long)number, (long long)count);
}

static bool open_part(struct checkpoint *c, const char *path, const struct part *p, int64_t number,
                      struct io_error *err) {
    const size_t bytes = p->prefix + PART_BYTES + 16;
    char *const name = malloc(bytes);
    if (!name) return io_fail(err, path, "out of memory");
    if (p->count > 1)
        (void)snprintf(name, bytes, "%.*s-%05lld-of-%05lld.gguf", (int)p->prefix, path, (long long)number,
                       (long long)p->count);
    else
        (void)snprintf(name, bytes, "%s", path);
    bool ok = gguf_open(name, &c->ggufs[c->gguf_count], err);
    free(name);
    if (!ok) return false;
    const struct gguf *const file = &c->ggufs[c->gguf_count++];
    return check_part(file, number, p->count, err);
}

static bool add_weights(struct checkpoint *c, const char *path, struct io_error *err) {
    size_t total = 0;
    for (size_t f = 0; f < c->gguf_count; ++f)
        total += c->ggufs[f].count;
    c->weights = calloc(total + 1, sizeof(*c->weights));
    if (!c->weights) return io_fail(err, path, "out of memory for %zu tensors", total);
    for (size_t f = 0; f < c->gguf_count; ++f) {
        const struct gguf *const file = &c->ggufs[f];
        for (size_t i = 0; i < file->count; ++i)
            c->weights[c->count++] =
                (struct checkpoint_weight){file->tensors[i].name, file->name, &file->tensors[i]};
    }
    qsort(c->weights, c->count, sizeof(*c->weights), checkpoint_by_name);
    for (size_t i = 1; i < c->count; ++i)
        if (strcmp(c->weights[i - 1].name, c->weights[i].name) == 0)
            return io_fail(err, c->weights[i].file, "tensor \"%.100s\" is also in \"%.300s\"",
                           c->weights[i].name, c->weights[i - 1].file);
    return true;
}

bool checkpoint_open_gguf(struct checkpoint *c, const char *path, struct io_error *err) {
    const struct part p = read_part(path);
    if (p.count < 1 || p.count > CHECKPOINT_MAX_SHARDS)
        return io_fail(err, path, "%lld parts, expected 1..%d", (long long)p.count, CHECKPOINT_MAX_SHARDS);
    if (p.number != 1)
        return io_fail(err, path, "is part %lld of %lld: expected the first, which has the options",
                       (long long)p.number, (long long)p.count);
    c->ggufs = calloc((size_t)p.count, sizeof(*c->ggufs));
    if (!c->ggufs) return io_fail(err, path, "out of memory for %lld parts", (long long)p.count);
    for (int64_t number = 1; number <= p.count; ++number)
        if (!open_part(c, path, &p, number, err)) return false;
    int64_t wanted, total = 0;
    for (size_t f = 0; f < c->gguf_count; ++f)
        total += (int64_t)c->ggufs[f].count;
    if (!read_number(&c->ggufs[0], "split.tensors.count", total, &wanted, err)) return false;
    if (wanted != total)
        return io_fail(err, path, "%lld tensors in all parts, expected %lld by split.tensors.count",
                       (long long)total, (long long)wanted);
    return add_weights(c, path, err);
}
