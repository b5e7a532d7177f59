/* SPDX-License-Identifier: MIT */
#include "source.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILES 32 /* files of one program */

struct assembly {
    const struct log *log;
    struct str *out;
    char names[MAX_FILES][64];
    int n_seen;
};

static enum clmoe_status read_file(const struct log *log, const char *dir, const char *path,
                                   struct str *text) {
    struct str name = {0};
    str_printf(&name, "%s/%s", dir, path);
    FILE *const f = name.failed ? NULL : fopen(name.text, "rb");
    str_free(&name);
    if (!f) {
        log_msg(log, CLMOE_LOG_ERROR, "cannot read \"%s\" in CLMOE_CL_DIR = \"%s\"", path, dir);
        return CLMOE_E_BUILD;
    }
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;)
        str_append(text, buffer, n);
    const bool unreadable = ferror(f);
    fclose(f);
    if (!unreadable) return text->failed ? CLMOE_E_NO_MEMORY : CLMOE_OK;
    log_msg(log, CLMOE_LOG_ERROR, "cannot read \"%s\" in CLMOE_CL_DIR = \"%s\"", path, dir);
    return CLMOE_E_BUILD;
}

/* NULL: they are in the library. */
static const char *sources_dir(void) {
    const char *const dir = getenv("CLMOE_CL_DIR");
    return dir && *dir ? dir : NULL;
}

static const struct embedded_source *find_embedded(const struct log *log, const char *path) {
    const struct embedded_source *s = embedded_sources;
    while (s->path && strcmp(s->path, path) != 0)
        s++;
    if (s->path) return s;
    log_msg(log, CLMOE_LOG_ERROR, "no kernel file \"%s\"", path);
    return NULL;
}

static enum clmoe_status load_text(const struct log *log, const char *path, struct str *text) {
    const char *const dir = sources_dir();
    if (dir) return read_file(log, dir, path, text);
    const struct embedded_source *const s = find_embedded(log, path);
    if (!s) return CLMOE_E_BUILD;
    str_append(text, s->text, strlen(s->text));
    return text->failed ? CLMOE_E_NO_MEMORY : CLMOE_OK;
}

static bool visited(const struct assembly *a, const char *path) {
    for (int i = 0; i < a->n_seen; i++)
        if (strcmp(a->names[i], path) == 0) return true;
    return false;
}

/* `#include "path"` at the start of a line, path relative to cl/: copies the path out. */
static bool parse_include(const char *line, size_t size, char path[64]) {
    static const char word[] = "#include \"";
    const size_t head = sizeof word - 1;
    if (size <= head || memcmp(line, word, head) != 0) return false;
    const char *const end = memchr(line + head, '"', size - head);
    if (!end || (size_t)(end - line) - head >= 64) return false;
    memcpy(path, line + head, (size_t)(end - line) - head);
    path[end - line - (ptrdiff_t)head] = '\0';
    return true;
}

static enum clmoe_status add_file(struct assembly *a, const char *path) {
    if (visited(a, path)) return CLMOE_OK;
    if (a->n_seen == MAX_FILES || strlen(path) >= sizeof a->names[0]) {
        log_msg(a->log, CLMOE_LOG_ERROR, "\"%s\": a program has at most %d files with names below %zu bytes",
                path, MAX_FILES, sizeof a->names[0]);
        return CLMOE_E_BUILD;
    }
    strcpy(a->names[a->n_seen++], path);
    struct str text = {0};
    enum clmoe_status status = load_text(a->log, path, &text);
    str_printf(a->out, "#line 1 \"%s\"\n", path);
    int number = 1;
    for (const char *p = text.text; status == CLMOE_OK && p && *p; number++) {
        const char *const newline = strchr(p, '\n');
        const size_t size = newline ? (size_t)(newline - p) : strlen(p);
        char inner[64];
        if (parse_include(p, size, inner)) {
            status = add_file(a, inner);
            str_printf(a->out, "#line %d \"%s\"\n", number + 1, path);
        } else {
            str_append(a->out, p, size);
            str_append(a->out, "\n", 1);
        }
        p += size + (newline != NULL);
    }
    str_free(&text);
    return status;
}

enum clmoe_status source_assemble(const struct log *log, const char *path, struct str *out) {
    struct assembly a = {.log = log, .out = out};
    TRY(add_file(&a, path));
    return out->failed ? CLMOE_E_NO_MEMORY : CLMOE_OK;
}

enum clmoe_status source_hash(const struct log *log, const char *path, struct hash *h) {
    if (!sources_dir()) {
        const struct embedded_source *const s = find_embedded(log, path);
        if (s) hash_add_str(h, s->digest);
        return s ? CLMOE_OK : CLMOE_E_BUILD;
    }
    struct str text = {0};
    const enum clmoe_status status = source_assemble(log, path, &text);
    if (status == CLMOE_OK) hash_add_str(h, text.text);
    str_free(&text);
    return status;
}
