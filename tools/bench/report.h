/* SPDX-License-Identifier: MIT
 * What a benchmark says: a line for each result, JSON, and CSV of the columns that the peers' script
 * prints. */
#ifndef CLMOE_TOOLS_REPORT_H
#define CLMOE_TOOLS_REPORT_H

#include "problems.h"

#include <cjson/cJSON.h>
#include <stdio.h>

/* Names of settings, as options have them. */
#define REPORT_ORDERS "sorted|index|any"
#define REPORT_MODES "set|mask|add|multiply"
#define REPORT_OUTPUTS "values|masks"

struct report {
    const struct usage *usage;
    struct clmoe_device_info info;
    double read_gbps, peak_tflops; /* for the floor */
    cJSON *list;                   /* NULL: no JSON */
    FILE *csv;                     /* NULL: no CSV */
    int wrong;                     /* results so far whose outputs are not right */
};

/* Opens the files whose paths are not NULL, and begins them. Returns -1 or an exit code. */
int report_open(struct report *r, const struct usage *usage, const struct bench *b, double peak_tflops,
                const char *json, const char *csv);
/* Writes the JSON to `json` if all went well so far (code < 0), ends the CSV. Returns -1 or an exit code,
 * `code` if that is one; EXIT_FAILED if a result was wrong. */
int report_close(struct report *r, int code, const char *json);

/* A result_sink, with a report. The CSV has it on disk at once: a run that is cut short leaves what it
 * has. */
int report_result(void *priv, const struct result *result);

#endif
