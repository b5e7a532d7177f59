/* SPDX-License-Identifier: MIT
 * Reads the tables of tests/data/topk. */
#include "topk_table.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHOICES = 40, MAX_TABLES = 16 };

/* A line with all of its alternatives; texts point into the file's. */
struct line {
    const char *file, *name;
    int number;
    const char *dtypes[MAX_CHOICES], *shapes[MAX_CHOICES], *fills[MAX_CHOICES], *orders[MAX_CHOICES],
        *ties[MAX_CHOICES];
    int n_dtypes, n_shapes, n_fills, n_orders, n_ties;
    int axis, directions; /* axis from the end: -1 is the last; directions: 1 or, with `both`, 2 */
    int64_t stride;
    bool smallest, pad, wide;
    struct topk_list k, x, values, indices, begin, length;
};

static void refuse(const struct line *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s.txt:%d: %s: ", l->file, l->number, l->name ? l->name : "");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static void *room(size_t bytes) {
    void *const p = calloc(1, bytes + 1);
    if (!p) abort();
    return p;
}

/* ---- lists of numbers ---- */

/* "7", "-inf", "n", "2n", "n/2", "n+100", "?" */
static struct topk_number parse_number(const struct line *l, const char *text, const char **end) {
    struct topk_number v = {0, 0, false};
    char *next;
    if (*text == '?') {
        v.any = true;
        *end = text + 1;
        return v;
    }
    const bool is_n = *text == 'n' && text[1] != 'a';
    const double first = is_n ? 1 : strtod(text, &next);
    if (is_n) next = (char *)text;
    if (!is_n && next > text && next[-1] == '.' && *next == '.') next--; /* 0..11 */
    if (!is_n && next == text) refuse(l, "no number: %s", text);
    if (*next != 'n') {
        v.plus = first;
    } else {
        v.n_times = first;
        next++;
        if (*next == '/') v.n_times /= strtod(next + 1, &next);
        if (*next == '+' || *next == '-') v.plus = strtod(next, &next);
    }
    *end = next;
    return v;
}

/* "1,2*3,4..6" is 1 2 2 2 4 5 6; "9..7" is 9 8 7. Counts where `items` is NULL. */
static int64_t parse_list(const struct line *l, const char *text, struct topk_number *items) {
    int64_t count = 0;
    for (const char *p = text; *p;) {
        const struct topk_number v = parse_number(l, p, &p);
        int64_t repeat = 1;
        double step = 0;
        if (p[0] == '.' && p[1] == '.') {
            const double last = parse_number(l, p + 2, &p).plus;
            step = last < v.plus ? -1 : 1;
            repeat = (int64_t)((last - v.plus) * step) + 1;
        } else if (*p == '*') {
            repeat = (int64_t)parse_number(l, p + 1, &p).plus;
        }
        for (int64_t i = 0; i < repeat; i++, count++) {
            if (!items) continue;
            items[count] = v;
            items[count].plus += step * (double)i;
        }
        if (*p == ',')
            p++;
        else if (*p)
            refuse(l, "not a list: %s", p);
    }
    return count;
}

static struct topk_list list_of(const struct line *l, const char *text) {
    struct topk_list list = {parse_list(l, text, NULL), NULL};
    list.items = room((size_t)list.count * sizeof *list.items);
    parse_list(l, text, list.items);
    return list;
}

double topk_number(struct rng *rng, const struct topk_list *list, int64_t i, int64_t n) {
    const struct topk_number v = list->items[i % list->count];
    if (v.any) return (double)(1 + rng_below(rng, n));
    return (double)(int64_t)(v.n_times * (double)n) + v.plus;
}

/* ---- lines ---- */

static int choices(const struct line *l, char *text, const char **items) {
    int count = 0;
    for (char *p = strtok(text, ","); p; p = strtok(NULL, ",")) {
        if (count == MAX_CHOICES) refuse(l, "more than %d alternatives", (int)MAX_CHOICES);
        items[count++] = p;
    }
    return count;
}

static void parse_pair(struct line *l, const char *key, char *value) {
    if (strcmp(key, "shape") == 0)
        l->n_shapes = choices(l, value, l->shapes);
    else if (strcmp(key, "fill") == 0)
        l->n_fills = choices(l, value, l->fills);
    else if (strcmp(key, "order") == 0)
        l->n_orders = choices(l, value, l->orders);
    else if (strcmp(key, "ties") == 0)
        l->n_ties = choices(l, value, l->ties);
    else if (strcmp(key, "axis") == 0)
        l->axis = atoi(value);
    else if (strcmp(key, "stride") == 0)
        l->stride = atoi(value);
    else if (strcmp(key, "index") == 0)
        l->wide = strcmp(value, "i64") == 0;
    else if (strcmp(key, "k") == 0)
        l->k = list_of(l, value);
    else if (strcmp(key, "x") == 0)
        l->x = list_of(l, value);
    else if (strcmp(key, "values") == 0)
        l->values = list_of(l, value);
    else if (strcmp(key, "indices") == 0)
        l->indices = list_of(l, value);
    else if (strcmp(key, "begin") == 0)
        l->begin = list_of(l, value);
    else if (strcmp(key, "length") == 0)
        l->length = list_of(l, value);
    else
        refuse(l, "unknown key %s", key);
}

static struct line *parse_line(const char *file, int number, char *text) {
    struct line *const l = room(sizeof *l);
    char *words[64];
    int n = 0;
    l->file = file;
    l->number = number;
    l->axis = -1;
    l->directions = 1;
    l->stride = 1;
    for (char *p = strtok(text, " \t"); p; p = strtok(NULL, " \t")) {
        if (n == 64) refuse(l, "too many words");
        words[n++] = p;
    }
    l->name = n > 0 ? words[0] : NULL;
    if (n < 3) refuse(l, "a case is a name, dtypes, and key=value");
    l->n_dtypes = choices(l, words[1], l->dtypes);
    l->orders[0] = "sorted", l->ties[0] = "lowest", l->fills[0] = NULL;
    l->n_orders = l->n_ties = l->n_fills = 1;
    for (int i = 2; i < n; i++) {
        char *const equals = strchr(words[i], '=');
        if (equals) {
            *equals = '\0';
            parse_pair(l, words[i], equals + 1);
        } else if (strcmp(words[i], "smallest") == 0) {
            l->smallest = true;
        } else if (strcmp(words[i], "both") == 0) {
            l->directions = 2;
        } else if (strcmp(words[i], "pad") == 0) {
            l->pad = true;
        } else {
            refuse(l, "unknown word %s", words[i]);
        }
    }
    if (l->n_shapes == 0 || l->k.count == 0) refuse(l, "no shape or no k");
    if ((l->fills[0] != NULL) == (l->x.count > 0)) refuse(l, "either x or a fill");
    return l;
}

/* ---- entries ---- */

static int index_of(const struct line *l, const char *text, const char *const *names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0) return i;
    refuse(l, "unknown: %s", text);
    return 0;
}

static enum clmoe_dtype dtype_of(const struct line *l, const char *text) {
    for (int i = 0; i < CLMOE_DTYPE_COUNT; i++)
        if (strcmp(text, clmoe_dtype_name((enum clmoe_dtype)i)) == 0) return (enum clmoe_dtype)i;
    refuse(l, "unknown dtype %s", text);
    return CLMOE_F32;
}

/* "2x128x4" along an axis. */
static void shape_of(const struct line *l, const char *text, struct topk_entry *e) {
    int64_t dims[8];
    int count = 0;
    for (char *p = (char *)text; *p && count < 8; p += *p == 'x')
        dims[count++] = strtoll(p, &p, 10);
    const int axis = l->axis < 0 ? count + l->axis : l->axis;
    if (axis < 0 || axis >= count) refuse(l, "no axis %d in %s", l->axis, text);
    e->outer = e->inner = 1;
    for (int i = 0; i < count; i++)
        *(i < axis ? &e->outer : i > axis ? &e->inner : &e->params.n) *= dims[i];
}

/* Takes the digit of one kind of alternative off a number of all of them. */
static int64_t take(int64_t *number, int64_t choices_of_it) {
    const int64_t digit = *number % choices_of_it;
    *number /= choices_of_it;
    return digit;
}

static int64_t entries_of(const struct line *l) {
    return l->k.count * l->directions * l->n_orders * l->n_ties * l->n_fills * l->n_shapes * l->n_dtypes;
}

static struct topk_entry entry_of(const struct line *l, int64_t number) {
    static const char *const orders[] = {"sorted", "index", "any"}, *const ties[] = {"lowest", "highest"};
    struct topk_entry e = {.file = l->file, .name = l->name, .line = l->number, .stride = l->stride};
    struct rng rng = rng_for((uint64_t)l->number * 100003 + (uint64_t)number);
    const int64_t k = take(&number, l->k.count);
    e.params.smallest = take(&number, l->directions) != (l->smallest ? 1 : 0);
    e.params.order = (enum clmoe_topk_order)index_of(l, l->orders[take(&number, l->n_orders)], orders, 3);
    e.params.ties = (enum clmoe_ties)index_of(l, l->ties[take(&number, l->n_ties)], ties, 2);
    const char *const fill = l->fills[take(&number, l->n_fills)];
    e.params.n = 1;
    e.shape = (int)take(&number, l->n_shapes);
    e.of_dtype = (int)take(&number, l->n_dtypes), e.dtypes = l->n_dtypes;
    shape_of(l, l->shapes[e.shape], &e);
    e.params.dtype = dtype_of(l, l->dtypes[e.of_dtype]);
    e.params.k = (int64_t)topk_number(&rng, &l->k, k, e.params.n);
    e.params.pad = l->pad;
    e.params.index_dtype = l->wide ? CLMOE_I64 : CLMOE_I32;
    e.params.row_begin = l->begin.count > 0;
    e.params.row_length = l->length.count > 0;
    e.literal = !fill;
    if (fill && !pattern_parse(fill, &e.pattern)) refuse(l, "unknown fill %s", fill);
    e.x = &l->x, e.values = &l->values, e.indices = &l->indices, e.begin = &l->begin, e.length = &l->length;
    return e;
}

/* ---- files ---- */

static char *text_of(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.txt", CLMOE_TOPK_TABLES, name);
    FILE *const f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: no such table\n", path);
        exit(1);
    }
    size_t size = 0, got;
    char *text = room(1 << 20);
    while ((got = fread(text + size, 1, (1 << 20) - size, f)) > 0)
        size += got;
    fclose(f);
    return text;
}

/* The next line with its continuations (those that start with a blank) joined, or NULL at the end. A break
 * after a comma joins without a blank. */
static char *next_line(char **rest, int *number, int *next_number) {
    while (**rest == '#' || **rest == '\n') {
        *rest += strcspn(*rest, "\n");
        if (**rest) ++*rest, ++*next_number;
    }
    if (**rest == '\0') return NULL;
    char *const line = *rest, *out = line, *in = line;
    *number = *next_number;
    for (;;) {
        while (*in && *in != '\n')
            *out++ = *in++;
        if (*in == '\n') in++, ++*next_number;
        if (!isblank((unsigned char)*in)) break;
        if (out[-1] != ',')
            *out++ = ' ';
        else
            in += strspn(in, " \t");
    }
    *rest = in;
    *out = '\0';
    return line;
}

static struct topk_table read_table(const char *name) {
    struct topk_table table = {0, NULL};
    char *rest = text_of(name), *text;
    int number = 1, next_number = 1;
    while ((text = next_line(&rest, &number, &next_number))) {
        const struct line *const l = parse_line(name, number, text);
        const int64_t count = entries_of(l);
        table.entries = realloc(table.entries, (size_t)(table.count + count) * sizeof *table.entries);
        if (!table.entries) abort();
        for (int64_t i = 0; i < count; i++) {
            const struct topk_entry e = entry_of(l, i);
            if (e.params.k <= e.params.n || e.params.pad) table.entries[table.count++] = e;
        }
    }
    return table;
}

const struct topk_table *topk_table_named(const char *name) {
    static struct topk_table tables[MAX_TABLES];
    static const char *names[MAX_TABLES];
    int i = 0;
    for (; i < MAX_TABLES && names[i]; i++)
        if (strcmp(names[i], name) == 0) return &tables[i];
    if (i == MAX_TABLES) abort();
    names[i] = name;
    tables[i] = read_table(name);
    return &tables[i];
}
