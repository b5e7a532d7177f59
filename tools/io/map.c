// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool map_descriptor(int fd, const char *path, struct file_map *out, struct io_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) return io_fail(err, path, "cannot stat: %s", strerror(errno));
    if (S_ISDIR(info.st_mode)) return io_fail(err, path, "is a directory, expected a file");
    if (!S_ISREG(info.st_mode)) return io_fail(err, path, "is not a regular file");
    if (info.st_size == 0) return true;

    const uintmax_t size = (uintmax_t)info.st_size;
    if (info.st_size < 0 || size > (uintmax_t)PTRDIFF_MAX) {
        return io_fail(err, path, "%ju bytes are too many to map", size);
    }
    void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return io_fail(err, path, "cannot map %ju bytes: %s", size, strerror(errno));
    *out = (struct file_map){data, (size_t)size};
    return true;
}

bool file_map_open(const char *path, struct file_map *out, struct io_error *err) {
    *out = (struct file_map){0};
    // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return io_fail(err, path, "cannot open: %s", strerror(errno));
    const bool ok = map_descriptor(fd, path, out, err);
    (void)close(fd);
    return ok;
}

void file_map_close(struct file_map *map) {
    // POSIX takes void * for what it only unmaps.
    if (map->data) (void)munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct file_map){0};
}
