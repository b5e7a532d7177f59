/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "kit.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct clmoe_caps no_caps = {0}, plain_caps = {.features_off = CLMOE_FEATURES_ALL};

static pthread_mutex_t book_lock = PTHREAD_MUTEX_INITIALIZER;

void logbook_keep(void *priv, enum clmoe_log_level level, const char *message) {
    struct logbook *const book = priv;
    pthread_mutex_lock(&book_lock);
    book->levels[level]++;
    const int n = snprintf(book->text + book->size, sizeof book->text - book->size, "%s\n", message);
    book->size += (size_t)n;
    if (book->size >= sizeof book->text) book->size = sizeof book->text - 1;
    pthread_mutex_unlock(&book_lock);
}

void logbook_clear(struct logbook *book) {
    memset(book->levels, 0, sizeof book->levels);
    book->size = 0;
    book->text[0] = '\0';
}

int logbook_count(const struct logbook *book, const char *part) {
    int n = 0;
    for (const char *p = book->text; (p = strstr(p, part)); p += strlen(part))
        n++;
    return n;
}

clmoe_context *logged_context(struct logbook *book, const struct clmoe_cache *cache, struct clmoe_caps caps) {
    const char *const plain = getenv("CLMOE_TEST_PLAIN");
    if (plain && *plain == '1') caps.features_off = CLMOE_FEATURES_ALL;
    const struct clmoe_context_params params = {.log = book ? logbook_keep : NULL,
                                                .log_priv = book,
                                                .log_level = CLMOE_LOG_INFO,
                                                .cache = cache,
                                                .caps = caps};
    clmoe_context *ctx = NULL;
    const enum clmoe_status status = clmoe_context_create(tester()->context, tester()->device, &params, &ctx);
    case_require(status == CLMOE_OK, "clmoe_context_create: %s: %s", clmoe_status_name(status),
                 book ? book->text : "");
    return ctx;
}

void scratch_make(char path[256]) {
    snprintf(path, 256, "scratch-%ld-XXXXXX", (long)getpid());
    case_require(mkdtemp(path) != NULL, "mkdtemp(%s)", path);
}

void scratch_remove(const char *path) {
    DIR *const dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        char name[600];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0) scratch_remove(name);
    }
    closedir(dir);
    rmdir(path);
}

void write_bytes(const char *path, const void *data, size_t size) {
    FILE *const f = fopen(path, "wb");
    case_require(f && fwrite(data, 1, size, f) == size, "cannot write %s", path);
    fclose(f);
}

void *read_bytes(const char *path, size_t *size) {
    FILE *const f = fopen(path, "rb");
    case_require(f != NULL, "cannot read %s", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *const data = malloc(*size + 1);
    case_require(data && fread(data, 1, *size, f) == *size, "cannot read %s", path);
    data[*size] = '\0';
    fclose(f);
    return data;
}

const struct layer_api *layer(void) {
    static const struct layer_api *api;
    if (api) return api;
    const char *const path = getenv("OPENCL_LAYERS");
    void *const handle = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    const struct layer_api *(*get)(void) = NULL;
    if (handle) *(void **)&get = dlsym(handle, "clmoe_test_layer");
    if (get) api = get();
    if (!api) {
        fprintf(stderr, "the ICD loader did not load the layer: OPENCL_LAYERS = \"%s\"\n", path ? path : "");
        exit(1);
    }
    return api;
}

struct layer_counts layer_now(void) {
    tester(); /* the first OpenCL call loads the layers */
    struct layer_counts counts;
    layer()->counts(&counts);
    return counts;
}
