/* SPDX-License-Identifier: MIT */
#include "tuning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_VALUE 1000000

/* A piece of a line, without the blanks around it. */
struct piece {
    const char *text;
    size_t size;
};

static bool blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static struct piece trimmed(const char *text, size_t size) {
    while (size && blank(*text))
        text++, size--;
    while (size && blank(text[size - 1]))
        size--;
    return (struct piece){text, size};
}

/* Takes what stands before the first `end` off the front of *rest. */
static struct piece take(struct piece *rest, char end) {
    const char *const at = rest->size ? memchr(rest->text, end, rest->size) : NULL;
    const size_t size = at ? (size_t)(at - rest->text) : rest->size;
    const struct piece first = trimmed(rest->text, size);
    *rest = at ? trimmed(at + 1, rest->size - size - 1) : (struct piece){rest->text, 0};
    return first;
}

static bool matches(struct piece pattern, const char *name) {
    for (size_t i = 0; i < pattern.size; i++) {
        if (pattern.text[i] == '*' && i + 1 == pattern.size) return true;
        if (!name[i] || (pattern.text[i] != '?' && pattern.text[i] != name[i])) return false;
    }
    return !name[pattern.size];
}

static bool copy(char *to, size_t room, struct piece from) {
    if (from.size == 0 || from.size >= room || memchr(from.text, 0, from.size)) return false;
    memcpy(to, from.text, from.size);
    to[from.size] = '\0';
    return true;
}

/* NAME=NUMBER */
static bool parse_value(struct piece word, struct tuning_value *v) {
    const struct piece name = take(&word, '=');
    if (!copy(v->name, sizeof v->name, name) || word.size == 0) return false;
    v->value = 0;
    for (size_t i = 0; i < word.size; i++) {
        if (word.text[i] < '0' || word.text[i] > '9') return false;
        v->value = 10 * v->value + (word.text[i] - '0');
        if (v->value > MOST_VALUE) return false;
    }
    return true;
}

static bool parse_entry(struct piece line, struct tuning_entry *e) {
    *e = (struct tuning_entry){.n_values = 0};
    if (!copy(e->row, sizeof e->row, take(&line, ' ')) || !copy(e->class, sizeof e->class, take(&line, ' ')))
        return false;
    while (line.size)
        if (e->n_values == TUNING_VALUES || !parse_value(take(&line, ' '), &e->values[e->n_values++]))
            return false;
    return e->n_values > 0;
}

static enum clmoe_status append(struct tuning *t, const struct tuning_entry *e) {
    struct tuning_entry *const more = realloc(t->entries, ((size_t)t->n + 1) * sizeof *more);
    if (!more) return CLMOE_E_NO_MEMORY;
    t->entries = more;
    more[t->n++] = *e;
    return CLMOE_OK;
}

/* Where the lines belong that follow. */
enum section { NOWHERE, OTHER_DEVICE, THIS_DEVICE };

static enum clmoe_status parse_line(struct tuning *t, struct piece line, const struct tuning_device *dev,
                                    enum section *section) {
    struct tuning_entry entry;
    struct piece rest = line;
    if (line.size == 0 || line.text[0] == '#') return CLMOE_OK;
    const struct piece word = take(&rest, ' ');
    if (word.size == 6 && memcmp(word.text, "device", 6) == 0) {
        const struct piece name = take(&rest, '|'), driver = take(&rest, '|'), platform = rest;
        if (!name.size || !driver.size || !platform.size) return CLMOE_E_INVALID;
        *section =
            matches(name, dev->name) && matches(driver, dev->driver) && matches(platform, dev->platform)
                ? THIS_DEVICE
                : OTHER_DEVICE;
        return CLMOE_OK;
    }
    if (*section == NOWHERE || !parse_entry(line, &entry)) return CLMOE_E_INVALID;
    return *section == THIS_DEVICE ? append(t, &entry) : CLMOE_OK;
}

enum clmoe_status tuning_add(struct tuning *t, const struct log *log, const char *origin, const char *text,
                             const struct tuning_device *dev) {
    const int before = t->n;
    enum section section = NOWHERE;
    enum clmoe_status status = CLMOE_OK;
    int number = 0;
    for (const char *line = text; status == CLMOE_OK && *line; number++) {
        const size_t size = strcspn(line, "\n");
        status = parse_line(t, trimmed(line, size), dev, &section);
        line += size + (line[size] != '\0');
    }
    if (status == CLMOE_OK) return CLMOE_OK;
    t->n = before;
    if (status == CLMOE_E_INVALID)
        log_msg(log, CLMOE_LOG_WARN, "%s, line %d: neither a device nor ROW CLASS NAME=NUMBER...: ignored",
                origin, number);
    return status;
}

void tuning_free(struct tuning *t) {
    free(t->entries);
    free(t->text);
    *t = (struct tuning){.n = 0};
}

int tuning_find(const struct tuning *t, const char *row, const char *class, const char *name, int fallback) {
    for (int i = 0; i < t->n; i++) {
        const struct tuning_entry *const e = &t->entries[i];
        if (strcmp(e->row, row) != 0 || (strcmp(e->class, "*") != 0 && strcmp(e->class, class) != 0))
            continue;
        for (int v = 0; v < e->n_values; v++)
            if (strcmp(e->values[v].name, name) == 0) return e->values[v].value;
    }
    return fallback;
}
