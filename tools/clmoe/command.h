/* SPDX-License-Identifier: MIT
 * What the subcommands share: their entry points, exit codes, and a table-driven parser of options.
 *
 * Every subcommand is `int command_X(int argc, char **argv)`, argv[0] being its name. It returns
 *   EXIT_OK (0)     done
 *   EXIT_FAILED (1) the work failed: a device, an OpenCL call, a file that could not be written
 *   EXIT_USAGE (2)  bad usage or bad input: one line on stderr says what and where
 */
#ifndef CLMOE_TOOLS_COMMAND_H
#define CLMOE_TOOLS_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int command_info(int argc, char **argv);
int command_topk(int argc, char **argv);
int command_scatter(int argc, char **argv);
int command_route(int argc, char **argv);
int command_moe(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_tune(int argc, char **argv);
int command_generate(int argc, char **argv);

enum option_kind {
    OPTION_FLAG,   /* bool *: --name */
    OPTION_INT,    /* int64_t *: --name N with min <= N <= max */
    OPTION_NUMBER, /* double *: --name X, a finite number; if max is 1 also inf, -inf, nan */
    OPTION_TEXT,   /* const char ** */
    OPTION_CHOICE, /* int *: index of the value in `choices` ("sorted|index|any") */
};

struct option_row {
    const char *name; /* without the dashes; one letter means -x, more mean --xxx */
    enum option_kind kind;
    void *value; /* keeps what it holds if the option is not given */
    int64_t min, max;
    const char *choices;
    const char *help; /* one line; INT, NUMBER and TEXT: the value's name first, as in "K  how many a row" */
};

struct usage {
    const char *name;     /* "topk" */
    const char *summary;  /* one line */
    const char *operands; /* as in "X.npy"; "" for none */
    int min_operands, max_operands;
    const char *example;
    const struct option_row *options;
    int n_options;
    void (*more)(void); /* prints the rest of the help; NULL: there is none */
};

/* Parses argv by the table. Operands (what is no option) are stored in `operands` in order. Returns -1 to go
 * on, or the exit code to return: EXIT_OK after --help, EXIT_USAGE after an error, which was printed. */
int parse_options(const struct usage *usage, int argc, char **argv, const char **operands);

/* Whether `text` is one of `choices` ("a|b|c"); *value is its place among them. */
bool parse_choice(const char *text, const char *choices, int *value);

/* A factor as the library takes it, where 0 would mean 1: refuses 0 and what a float cannot hold. Returns -1,
 * or the exit code after printing an error. */
int option_factor(const struct usage *usage, const char *option, double value, float *factor);

/* The nearest float, infinite beyond its range. */
float option_float(double value);

/* Prints "clmoe NAME: ..." as one line on stderr; returns `code`. */
int command_fail(const struct usage *usage, int code, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

#endif
