// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L
#include "checkpoint.h"
#include "checkpoint_gguf.h"
#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"

static const struct json_limits index_limits = {"", 100000000, 8, 4000000};

static char *join(const char *folder, const char *file) {
    const size_t length = strlen(folder);
    const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
    const size_t bytes = length + strlen(file) + 2;
    char *path = malloc(bytes);
    if (path) (void)snprintf(path, bytes, "%s%s%s", folder, slash, file);
    return path;
}

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 || errno != ENOENT; // another error shows when it is opened
}

int checkpoint_by_name(const void *a, const void *b) {
    const struct checkpoint_weight *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static bool open_shard(struct checkpoint *c, const char *folder, const char *file, struct io_error *err) {
    char *path = join(folder, file);
    if (!path) return io_fail(err, folder, "out of memory");
    const bool ok = safetensors_open(path, &c->shards[c->shard_count], err);
    free(path);
    if (ok) ++c->shard_count;
    return ok;
}

static bool open_single(struct checkpoint *c, const char *folder, struct io_error *err) {
    c->shards = calloc(1, sizeof(*c->shards));
    if (!c->shards) return io_fail(err, folder, "out of memory");
    if (!open_shard(c, folder, SINGLE_FILE, err)) return false;
    const struct safetensors *shard = &c->shards[0];
    c->weights = calloc(shard->count + 1, sizeof(*c->weights));
    if (!c->weights) return io_fail(err, folder, "out of memory for %zu tensors", shard->count);
    for (size_t i = 0; i < shard->count; ++i) {
        const struct file_tensor *t = &shard->tensors[i];
        c->weights[c->count++] = (struct checkpoint_weight){t->name, shard->name, t}; // sorted already
    }
    return true;
}

// One line of `weight_map`.
struct place {
    const char *tensor;
    const char *file;
};

static int compare_files(const void *a, const void *b) {
    const struct place *left = a, *right = b;
    return strcmp(left->file, right->file);
}

static bool check_place(const char *path, const cJSON *item, struct io_error *err) {
    if (!cJSON_IsString(item)) {
        return io_fail(err, path, "weight_map: \"%.100s\": expected a file name, got %s", item->string,
                       json_show(item).text);
    }
    const char *file = item->valuestring;
    if (!*file || strcmp(file, ".") == 0 || strpbrk(file, "/\\") || strstr(file, "..")) {
        return io_fail(err, path, "weight_map: \"%.100s\": expected a file name without '/' and '..', got %s",
                       item->string, json_show(item).text);
    }
    return true;
}

// The lines of `weight_map`, sorted by file. NULL on failure.
static struct place *read_places(const char *path, const cJSON *map, size_t *count, struct io_error *err) {
    if (!cJSON_IsObject(map)) {
        io_error_set(err, path, "weight_map: expected an object, got %s", json_show(map).text);
        return NULL;
    }
    size_t n = 0;
    for (const cJSON *item = map->child; item; item = item->next, ++n) {
        if (!check_place(path, item, err)) return NULL;
    }
    struct place *places = calloc(n + 1, sizeof(*places));
    if (!places) {
        io_error_set(err, path, "out of memory for %zu tensors", n);
        return NULL;
    }
    n = 0;
    for (const cJSON *item = map->child; item; item = item->next) {
        places[n++] = (struct place){item->string, item->valuestring};
    }
    qsort(places, n, sizeof(*places), compare_files);
    *count = n;
    return places;
}

static bool open_places(struct checkpoint *c, const char *folder, const char *path,
                        const struct place *places, size_t count, struct io_error *err) {
    size_t files = 0;
    for (size_t i = 0; i < count; ++i)
        files += i == 0 || strcmp(places[i - 1].file, places[i].file) != 0;
    if (files > CHECKPOINT_MAX_SHARDS) {
        return io_fail(err, path, "weight_map names %zu files, expected at most %d", files,
                       CHECKPOINT_MAX_SHARDS);
    }
    // Weights point into the array of shards, so it is made once.
    c->shards = calloc(files + 1, sizeof(*c->shards));
    c->weights = calloc(count + 1, sizeof(*c->weights));
    if (!c->shards || !c->weights) return io_fail(err, path, "out of memory for %zu tensors", count);

    for (size_t i = 0; i < count; ++i) {
        const bool first = i == 0 || strcmp(places[i - 1].file, places[i].file) != 0;
        if (first && !open_shard(c, folder, places[i].file, err)) return false;
        const struct safetensors *shard = &c->shards[c->shard_count - 1];
        const struct file_tensor *t = safetensors_find(shard, places[i].tensor);
        if (!t) {
            return io_fail(err, path, "weight_map: \"%.100s\" is not in \"%.100s\"", places[i].tensor,
                           places[i].file);
        }
        c->weights[c->count++] = (struct checkpoint_weight){t->name, shard->name, t};
    }
    qsort(c->weights, c->count, sizeof(*c->weights), checkpoint_by_name);
    return true;
}

static bool open_index(struct checkpoint *c, const char *folder, const char *path, struct io_error *err) {
    struct file_map map;
    if (!file_map_open(path, &map, err)) return false;
    cJSON *root = json_parse(path, map.data, map.size, &index_limits, err);
    file_map_close(&map);
    if (!root) return false;

    size_t count = 0;
    struct place *places =
        read_places(path, cJSON_GetObjectItemCaseSensitive(root, "weight_map"), &count, err);
    const bool ok = places && open_places(c, folder, path, places, count, err);
    free(places);
    cJSON_Delete(root);
    return ok;
}

static bool open_folder(struct checkpoint *c, const char *folder, const char *single, const char *index,
                        struct io_error *err) {
    if (exists(single)) return open_single(c, folder, err);
    if (exists(index)) return open_index(c, folder, index, err);
    struct stat info;
    if (stat(folder, &info) != 0) return io_fail(err, folder, "cannot open: %s", strerror(errno));
    if (!S_ISDIR(info.st_mode)) return io_fail(err, folder, "is not a folder");
    return io_fail(err, folder, "holds neither " SINGLE_FILE " nor " INDEX_FILE);
}

static bool open_files(struct checkpoint *c, const char *folder, struct io_error *err) {
    char *single = join(folder, SINGLE_FILE);
    char *index = join(folder, INDEX_FILE);
    const bool ok =
        single && index ? open_folder(c, folder, single, index, err) : io_fail(err, folder, "out of memory");
    free(single);
    free(index);
    return ok;
}

bool checkpoint_open(const char *path, struct checkpoint *out, struct io_error *err) {
    *out = (struct checkpoint){.name = strdup(path)};
    if (!out->name) return io_fail(err, path, "out of memory");
    const bool ok = gguf_is_path(path) ? checkpoint_open_gguf(out, path, err) : open_files(out, path, err);
    if (!ok) checkpoint_close(out);
    return ok;
}

void checkpoint_close(struct checkpoint *c) {
    if (!c) return;
    for (size_t i = 0; i < c->shard_count; ++i)
        safetensors_close(&c->shards[i]);
    for (size_t i = 0; i < c->gguf_count; ++i)
        gguf_close(&c->ggufs[i]);
    free(c->shards);
    free(c->ggufs);
    free(c->weights);
    free(c->name);
    *c = (struct checkpoint){0};
}

const struct checkpoint_weight *checkpoint_find(const struct checkpoint *c, const char *name) {
    if (c->count == 0) return NULL;
    const struct checkpoint_weight key = {.name = name};
    return bsearch(&key, c->weights, c->count, sizeof(*c->weights), checkpoint_by_name);
}

bool checkpoint_array(const struct checkpoint *c, const char *name, struct array *out, struct io_error *err) {
    *out = (struct array){0};
    const struct checkpoint_weight *weight = checkpoint_find(c, name);
    if (!weight) return io_fail(err, c->name, "no tensor \"%.100s\" among %zu", name, c->count);
    return file_tensor_array(weight->file, weight->tensor, out, err);
}
