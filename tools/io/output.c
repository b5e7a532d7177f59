// SPDX-License-Identifier: MIT
#define _XOPEN_SOURCE 700
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMP_TRIES 1000
#define TEMP_NAME_BYTES 64
#define WRITE_CHUNK ((size_t)1 << 30) // Linux moves at most 0x7ffff000 bytes in one call

static void release(struct output *out) {
    if (out->fd >= 0) (void)close(out->fd);
    free(out->name);
    free(out->target);
    free(out->temp);
    *out = (struct output){.fd = -1};
}

static bool open_in_place(struct output *out, const char *path, struct io_error *err) {
    // O_NONBLOCK only for the open: a FIFO without a reader then fails (ENXIO) and does not hang.
    out->fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (out->fd < 0) return io_fail(err, path, "cannot open for writing: %s", strerror(errno));
    const int flags = fcntl(out->fd, F_GETFL);
    if (flags < 0 || fcntl(out->fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        return io_fail(err, path, "cannot prepare for writing: %s", strerror(errno));
    }
    return true;
}

// A short name of its own, so that a target whose name is as long as the file system allows works too.
static bool create_temp(struct output *out, const char *path, struct io_error *err) {
    const char *slash = strrchr(out->target, '/');
    const size_t folder = slash ? (size_t)(slash - out->target) + 1 : 0;
    out->temp = malloc(folder + TEMP_NAME_BYTES);
    if (!out->temp) return io_fail(err, path, "out of memory");
    memcpy(out->temp, out->target, folder);

    for (int i = 0; i < TEMP_TRIES; ++i) {
        (void)snprintf(out->temp + folder, TEMP_NAME_BYTES, ".clmoe-%ld-%d.tmp", (long)getpid(), i);
        out->fd = open(out->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (out->fd >= 0) return true;
        if (errno != EEXIST) break;
    }
    const int cause = errno;
    free(out->temp); // it is not ours to remove
    out->temp = NULL;
    return io_fail(err, path, "cannot create a temporary file beside it: %s", strerror(cause));
}

static bool open_target(struct output *out, const char *path, struct io_error *err) {
    struct stat info;
    const bool exists = stat(path, &info) == 0;
    if (!exists && errno != ENOENT) return io_fail(err, path, "cannot write: %s", strerror(errno));
    if (exists && (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode))) return open_in_place(out, path, err);
    if (exists && S_ISDIR(info.st_mode)) return io_fail(err, path, "is a directory, cannot write to it");
    if (exists && !S_ISREG(info.st_mode))
        return io_fail(err, path, "is not a regular file, cannot write to it");
    if (exists && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0)
        return io_fail(err, path, "cannot write: %s", strerror(errno));

    out->target = exists ? realpath(path, NULL) : strdup(path);
    if (!out->target) return io_fail(err, path, "cannot write: %s", strerror(errno));
    if (!create_temp(out, path, err)) return false;
    if (exists && fchmod(out->fd, info.st_mode & 0777) != 0) {
        return io_fail(err, path, "cannot keep its mode: %s", strerror(errno));
    }
    return true;
}

bool output_open(const char *path, struct output *out, struct io_error *err) {
    *out = (struct output){.fd = -1};
    if (!*path) return io_fail(err, "output", "the file name is empty");
    out->name = strdup(path);
    if (!out->name) return io_fail(err, path, "out of memory");
    if (open_target(out, path, err)) return true;
    return output_commit(out, false, err);
}

bool output_check(const char *path, struct io_error *err) {
    struct stat info;
    struct output out;
    if (stat(path, &info) == 0 && (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode))) return true;
    if (!output_open(path, &out, err)) return false;
    (void)output_commit(&out, false, err);
    return true;
}

bool output_write(struct output *out, const void *data, size_t size, struct io_error *err) {
    const char *at = data;
    while (size > 0) {
        const ssize_t n = write(out->fd, at, size < WRITE_CHUNK ? size : WRITE_CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return io_fail(err, out->name, "cannot write: %s", n < 0 ? strerror(errno) : "no progress");
        at += n;
        size -= (size_t)n;
    }
    return true;
}

bool output_commit(struct output *out, bool ok, struct io_error *err) {
    // A device or a pipe has nothing to flush.
    if (ok && out->temp && fsync(out->fd) != 0) {
        ok = io_fail(err, out->name, "cannot flush: %s", strerror(errno));
    }
    if (out->fd >= 0) {
        const int closed = close(out->fd);
        out->fd = -1;
        if (ok && closed != 0) ok = io_fail(err, out->name, "cannot close: %s", strerror(errno));
    }
    if (ok && out->temp && rename(out->temp, out->target) != 0) {
        ok = io_fail(err, out->name, "cannot rename the temporary file: %s", strerror(errno));
    }
    if (!ok && out->temp) (void)unlink(out->temp);
    release(out);
    return ok;
}
