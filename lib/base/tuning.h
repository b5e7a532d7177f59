/* SPDX-License-Identifier: MIT
 * Tuned numbers of kernel rows, as text: what `clmoe tune` writes and what the library ships. Lines of
 *
 *   device NAME | DRIVER | PLATFORM      of the lines below, up to the next such line
 *   ROW CLASS NAME=NUMBER ...            a row of a kernel table, a class of problems
 *   # ...                                nothing, as empty lines
 *
 * In the names of a device ? is any character, and * at the end any rest. CLASS * is any class. */
#ifndef CLMOE_BASE_TUNING_H
#define CLMOE_BASE_TUNING_H

#include "log.h"

#define TUNING_VALUES 8

struct tuning_device {
    const char *name, *driver, *platform;
};

struct tuning_value {
    char name[16];
    int value;
};

struct tuning_entry {
    char row[48], class[32];
    struct tuning_value values[TUNING_VALUES];
    int n_values;
};

/* {0}: nothing is tuned. */
struct tuning {
    struct tuning_entry *entries;
    int n;
    char *text; /* what the entries are from, but for those that the library ships; NULL: nothing */
};

/* Adds what `text` says of a device, behind what is there already. CLMOE_E_INVALID: a line that is none of
 * the above; nothing is added, and the log has a warning with `origin` and the number of the line. */
enum clmoe_status tuning_add(struct tuning *t, const struct log *log, const char *origin, const char *text,
                             const struct tuning_device *dev);
void tuning_free(struct tuning *t);

/* The number that the first entry for the row and the class has for `name`; `fallback` if none has. */
int tuning_find(const struct tuning *t, const char *row, const char *class, const char *name, int fallback);

struct tuning_text {
    const char *path, *text;
};

/* What the library ships (lib/kernel/tuned.txt). Ends with a row of NULL. Generated at build time. */
extern const struct tuning_text tuning_shipped[];

#endif
