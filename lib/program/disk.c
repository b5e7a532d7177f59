/* SPDX-License-Identifier: MIT
 *
 * The directory cache: one file per program. The only file of lib/ that goes beyond ISO C: creating a
 * directory and naming a temporary file for this process differ between POSIX and Windows. */
#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#endif
#include "base/str.h"
#include "clmoe/context.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <direct.h>
#include <process.h>
#define make_dir(path) _mkdir(path)
#define process_id() ((long)_getpid())
/* rename() does not replace there: a reader in between sees a miss. */
#define replace_file(from, to) (remove(to), rename(from, to))
#else
#include <sys/stat.h>
#include <unistd.h>
#define make_dir(path) mkdir(path, 0700)
#define process_id() ((long)getpid())
#define replace_file(from, to) rename(from, to)
#endif

struct disk {
    struct clmoe_cache cache;
    char *dir;
};

static size_t disk_get(void *priv, const char *key, void *blob, size_t capacity) {
    const struct disk *const disk = priv;
    struct str name = {0};
    str_printf(&name, "%s/%s.bin", disk->dir, key);
    FILE *const f = name.failed ? NULL : fopen(name.text, "rb");
    str_free(&name);
    if (!f) return 0;
    size_t size = 0;
    if (fseek(f, 0, SEEK_END) == 0) {
        const long end = ftell(f);
        if (end > 0) size = (size_t)end;
    }
    rewind(f);
    /* A directory can be opened and has an absurd size, but not a byte to read. */
    if (size && fgetc(f) == EOF) size = 0;
    rewind(f);
    if (size && size <= capacity && fread(blob, 1, size, f) != size) size = 0;
    fclose(f);
    return size;
}

static bool write_file(const char *name, const void *data, size_t size) {
    FILE *const f = fopen(name, "wb");
    if (!f) return false;
    const bool written = fwrite(data, 1, size, f) == size;
    return fclose(f) == 0 && written;
}

static void disk_set(void *priv, const char *key, const void *blob, size_t size) {
    static atomic_uint serial;
    const struct disk *const disk = priv;
    struct str name = {0}, temporary = {0};
    str_printf(&name, "%s/%s.bin", disk->dir, key);
    str_printf(&temporary, "%s/%s.%ld.%u.tmp", disk->dir, key, process_id(), atomic_fetch_add(&serial, 1));
    if (!name.failed && !temporary.failed) {
        if (!write_file(temporary.text, blob, size) || replace_file(temporary.text, name.text) != 0)
            remove(temporary.text);
    }
    str_free(&name);
    str_free(&temporary);
}

static bool writable(const char *dir) {
    struct str name = {0};
    str_printf(&name, "%s/probe.%ld.tmp", dir, process_id());
    const bool ok = !name.failed && write_file(name.text, "", 0);
    if (ok) remove(name.text);
    str_free(&name);
    return ok;
}

enum clmoe_status clmoe_cache_dir_create(const char *path, struct clmoe_cache **cache) {
    if (!cache) return CLMOE_E_INVALID;
    *cache = NULL;
    if (!path || !*path) return CLMOE_E_INVALID;
    make_dir(path); /* that it exists already is fine: what counts is whether a file can be made in it */
    if (!writable(path)) return CLMOE_E_INVALID;
    struct disk *const disk = calloc(1, sizeof *disk);
    char *const dir = malloc(strlen(path) + 1);
    if (!disk || !dir) {
        free(disk);
        free(dir);
        return CLMOE_E_NO_MEMORY;
    }
    disk->dir = strcpy(dir, path);
    disk->cache = (struct clmoe_cache){disk_get, disk_set, disk};
    *cache = &disk->cache;
    return CLMOE_OK;
}

void clmoe_cache_dir_destroy(struct clmoe_cache **cache) {
    if (!cache || !*cache) return;
    struct disk *const disk = (*cache)->priv;
    free(disk->dir);
    free(disk);
    *cache = NULL;
}
