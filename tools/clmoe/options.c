/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int command_fail(const struct usage *usage, int code, const char *fmt, ...) {
    va_list args;
    fprintf(stderr, "clmoe %s: ", usage->name);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

/* As the user types it: "-k", "--order". */
struct label {
    char text[48];
};

static struct label label(const struct option_row *row) {
    struct label l;
    snprintf(l.text, sizeof l.text, "%s%s", row->name[1] ? "--" : "-", row->name);
    return l;
}

/* The value's name stands before two spaces in the help of options that take one. */
static void print_row(const struct option_row *row) {
    const char *const gap = row->kind == OPTION_FLAG || row->choices ? NULL : strstr(row->help, "  ");
    const char *const value = row->choices ? row->choices : gap ? row->help : "";
    const int size = gap ? (int)(gap - row->help) : (int)strlen(value);
    char left[96];
    snprintf(left, sizeof left, "%s%s%.*s", label(row).text, size ? " " : "", size, value);
    printf("  %-26s %s\n", left, gap ? gap + 2 : row->help);
}

static void print_help(const struct usage *usage) {
    printf("usage: clmoe %s%s%s [options]\n%s\n\noptions:\n", usage->name, *usage->operands ? " " : "",
           usage->operands, usage->summary);
    for (int i = 0; i < usage->n_options; i++)
        print_row(&usage->options[i]);
    printf("  %-26s this text\n\nexample:\n  %s\n", "--help", usage->example);
    if (usage->more) usage->more();
}

static const struct option_row *find_row(const struct usage *usage, const char *name, size_t size) {
    for (int i = 0; i < usage->n_options; i++)
        if (strlen(usage->options[i].name) == size && memcmp(usage->options[i].name, name, size) == 0)
            return &usage->options[i];
    return NULL;
}

static bool parse_int(const char *text, int64_t min, int64_t max, int64_t *value) {
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < min || v > max) return false;
    *value = v;
    return true;
}

static bool parse_number(const char *text, bool any, double *value) {
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || (!any && !isfinite(v))) return false;
    *value = v;
    return true;
}

bool parse_choice(const char *text, const char *choices, int *value) {
    int index = 0;
    for (const char *c = choices; *c; index++) {
        const size_t size = strcspn(c, "|");
        if (strlen(text) == size && memcmp(text, c, size) == 0) {
            *value = index;
            return true;
        }
        c += size + (c[size] == '|');
    }
    return false;
}

static int store(const struct usage *usage, const struct option_row *row, const char *text) {
    switch (row->kind) {
    case OPTION_FLAG: *(bool *)row->value = true; return -1;
    case OPTION_INT:
        if (parse_int(text, row->min, row->max, row->value)) return -1;
        return command_fail(usage, EXIT_USAGE, "%s: expected an integer in %lld..%lld, got \"%s\"",
                            label(row).text, (long long)row->min, (long long)row->max, text);
    case OPTION_NUMBER:
        if (parse_number(text, row->max == 1, row->value)) return -1;
        return command_fail(usage, EXIT_USAGE, "%s: expected a number, got \"%s\"", label(row).text, text);
    case OPTION_TEXT: *(const char **)row->value = text; return -1;
    case OPTION_CHOICE:
        if (parse_choice(text, row->choices, row->value)) return -1;
        return command_fail(usage, EXIT_USAGE, "%s: expected one of %s, got \"%s\"", label(row).text,
                            row->choices, text);
    }
    return EXIT_USAGE;
}

/* "--name=value", "--name value", "-k value". *i is moved past a value that is a word of its own. */
static int parse_one(const struct usage *usage, int argc, char **argv, int *i) {
    const char *const word = argv[*i], *const name = word + (word[1] == '-' ? 2 : 1);
    const size_t size = strcspn(name, "=");
    const struct option_row *const row = find_row(usage, name, size);
    if (!row || (word[1] != '-') != (size == 1))
        return command_fail(usage, EXIT_USAGE, "no option \"%s\"; see clmoe %s --help", word, usage->name);
    const char *value = name[size] == '=' ? name + size + 1 : NULL;
    if (row->kind == OPTION_FLAG)
        return value ? command_fail(usage, EXIT_USAGE, "%s takes no value", label(row).text)
                     : store(usage, row, NULL);
    if (!value && *i + 1 >= argc) return command_fail(usage, EXIT_USAGE, "%s needs a value", label(row).text);
    if (!value) value = argv[++*i];
    return store(usage, row, value);
}

int parse_options(const struct usage *usage, int argc, char **argv, const char **operands) {
    int n = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help(usage);
            return EXIT_OK;
        }
        if (argv[i][0] == '-' && argv[i][1]) {
            const int code = parse_one(usage, argc, argv, &i);
            if (code >= 0) return code;
        } else if (n < usage->max_operands) {
            operands[n++] = argv[i];
        } else {
            return command_fail(usage, EXIT_USAGE, "\"%s\" is one operand too many", argv[i]);
        }
    }
    if (n < usage->min_operands)
        return command_fail(usage, EXIT_USAGE, "expected %s; see clmoe %s --help", usage->operands,
                            usage->name);
    return -1;
}

int option_factor(const struct usage *usage, const char *option, double value, float *factor) {
    /* Judged as a float: what is 0 there means "the default" to the library. */
    *factor = 0;
    if (fabs(value) >= FLT_TRUE_MIN && fabs(value) <= FLT_MAX) *factor = (float)value;
    if (*factor != 0) return -1;
    return command_fail(usage, EXIT_USAGE, "%s: expected a factor other than 0 that fits f32, got %g", option,
                        value);
}

float option_float(double value) {
    if (fabs(value) > FLT_MAX) return value > 0 ? INFINITY : -INFINITY;
    return (float)value;
}
