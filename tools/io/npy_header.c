// SPDX-License-Identifier: MIT
#include "npy_header.h"

#include <inttypes.h>
#include <string.h>

#define KEY_BYTES 16

struct reader {
    const char *name;
    const char *text;
    size_t size;
    size_t at;
    struct io_error *err;
};

static char peek(struct reader *r) {
    while (r->at < r->size && memchr(" \t\r\n", r->text[r->at], 4))
        ++r->at;
    return r->at < r->size ? r->text[r->at] : '\0';
}

static bool take(struct reader *r, char c) {
    if (peek(r) != c) return false;
    ++r->at;
    return true;
}

static bool expected(struct reader *r, const char *what) {
    const char c = peek(r);
    if (r->at >= r->size) return io_fail(r->err, r->name, "header: expected %s, but it ends", what);
    if (c < ' ' || c > '~') {
        return io_fail(r->err, r->name, "header: expected %s at byte %zu, got byte 0x%02x", what, r->at,
                       (unsigned)(unsigned char)c);
    }
    return io_fail(r->err, r->name, "header: expected %s at byte %zu, got '%c'", what, r->at, c);
}

// A quoted string without escapes of less than `room` bytes.
static bool read_string(struct reader *r, const char *what, char *out, size_t room) {
    const char quote = peek(r);
    if (quote != '\'' && quote != '"') return expected(r, what);
    const char *begin = r->text + r->at + 1;
    const size_t left = r->size - r->at - 1;
    const char *end = memchr(begin, quote, left);
    if (!end) return io_fail(r->err, r->name, "header: %s: string without an end", what);
    const size_t length = (size_t)(end - begin);
    if (memchr(begin, '\\', length) || memchr(begin, '\0', length)) {
        return io_fail(r->err, r->name, "header: %s: string with an escape or NUL", what);
    }
    if (length >= room) {
        return io_fail(r->err, r->name, "header: %s '%.*s...' is not one that is known", what, (int)room - 1,
                       begin);
    }
    memcpy(out, begin, length);
    out[length] = '\0';
    r->at += length + 2;
    return true;
}

static bool read_bool(struct reader *r, bool *out) {
    (void)peek(r);
    const char *at = r->text + r->at;
    const size_t left = r->size - r->at;
    if (left >= 4 && memcmp(at, "True", 4) == 0) {
        *out = true;
        r->at += 4;
    } else if (left >= 5 && memcmp(at, "False", 5) == 0) {
        *out = false;
        r->at += 5;
    } else {
        return expected(r, "True or False for fortran_order");
    }
    return true;
}

static bool read_dimension(struct reader *r, int64_t *out) {
    const bool negative = take(r, '-');
    const char first = peek(r);
    if (first < '0' || first > '9') return expected(r, "a dimension");
    const size_t begin = r->at;
    int64_t value = 0;
    for (; r->at < r->size && r->text[r->at] >= '0' && r->text[r->at] <= '9'; ++r->at) {
        const int digit = r->text[r->at] - '0';
        if (value > (INT64_MAX - digit) / 10) {
            return io_fail(r->err, r->name, "header: shape: dimension %.*s... does not fit 64 bits",
                           (int)(r->at - begin), r->text + begin);
        }
        value = value * 10 + digit;
    }
    if (first == '0' && r->at - begin > 1) {
        return io_fail(r->err, r->name, "header: shape: dimension with a leading zero");
    }
    if (r->at < r->size && r->text[r->at] == 'L') ++r->at;
    *out = negative ? -value : value;
    return true;
}

static bool read_shape(struct reader *r, struct npy_header *h) {
    if (!take(r, '(')) return expected(r, "'(' of the shape");
    bool comma = true; // before the first dimension none is needed
    while (!take(r, ')')) {
        if (!comma) return expected(r, "',' or ')' in the shape");
        if (h->ndim == ARRAY_MAX_DIMS) {
            return io_fail(r->err, r->name, "shape has more than %d dimensions", ARRAY_MAX_DIMS);
        }
        if (!read_dimension(r, &h->shape[h->ndim])) return false;
        ++h->ndim;
        comma = take(r, ',');
    }
    if (h->ndim == 1 && !comma) {
        return io_fail(r->err, r->name, "header: shape (%" PRId64 ") is a number, expected (%" PRId64 ",)",
                       h->shape[0], h->shape[0]);
    }
    for (int i = 0; i < h->ndim; ++i) {
        if (h->shape[i] < 0) {
            return io_fail(r->err, r->name, "shape %s: negative dimension",
                           array_shape_text(h->ndim, h->shape).text);
        }
    }
    return true;
}

static bool read_descr(struct reader *r, struct npy_header *h) {
    if (peek(r) == '[' || peek(r) == '(') {
        return io_fail(r->err, r->name, "descr is a structured type: only plain numbers are read");
    }
    return read_string(r, "descr", h->descr, sizeof(h->descr));
}

// One `key: value`; `seen` has a bit for each key.
static bool read_entry(struct reader *r, struct npy_header *h, unsigned *seen) {
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char key[KEY_BYTES];
    if (!read_string(r, "key", key, sizeof(key))) return false;
    unsigned which = 0;
    while (which < 3 && strcmp(keys[which], key) != 0)
        ++which;
    if (which == 3) return io_fail(r->err, r->name, "header: key '%s' is not one that is known", key);
    if (*seen & 1u << which) return io_fail(r->err, r->name, "header: key '%s' is given twice", key);
    *seen |= 1u << which;
    if (!take(r, ':')) return expected(r, "':'");
    return which == 0 ? read_descr(r, h) : which == 1 ? read_bool(r, &h->fortran_order) : read_shape(r, h);
}

bool npy_header_parse(const char *name, const char *text, size_t size, struct npy_header *out,
                      struct io_error *err) {
    *out = (struct npy_header){0};
    struct reader r = {name, text, size, 0, err};
    unsigned seen = 0;
    if (!take(&r, '{')) return expected(&r, "'{'");
    bool comma = true;
    while (!take(&r, '}')) {
        if (!comma) return expected(&r, "',' or '}'");
        if (!read_entry(&r, out, &seen)) return false;
        comma = take(&r, ',');
    }
    if (!(seen & 1u)) return io_fail(err, name, "header: no 'descr'");
    if (!(seen & 2u)) return io_fail(err, name, "header: no 'fortran_order'");
    if (!(seen & 4u)) return io_fail(err, name, "header: no 'shape'");
    (void)peek(&r);
    return r.at == r.size || expected(&r, "only white space after '}'");
}
