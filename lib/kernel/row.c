/* SPDX-License-Identifier: MIT */
#include "row.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool refuse(struct reason *why, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, args);
    va_end(args);
    return false;
}

struct kernel_spec *recipe_add(struct recipe *recipe, const char *file, const char *entry, size_t local) {
    assert(recipe->n_kernels < RECIPE_KERNELS);
    struct kernel_spec *const spec = &recipe->kernels[recipe->n_kernels++];
    *spec = (struct kernel_spec){.file = file, .entry = entry, .local = local};
    spec_define(spec, "LOCAL_SIZE", "%zu", local);
    return spec;
}

static bool is_legal(const struct tunable *t, int value) {
    const int *v = t->values;
    while (*v && *v != value)
        v++;
    return *v;
}

bool tune_params(const struct device *dev, const char *row, const char *class, const struct tunable *tunables,
                 int params[ROW_PARAMS]) {
    bool changed = false;
    for (int i = 0; dev->tuning && tunables[i].name; i++) {
        const int value = tuning_find(dev->tuning, row, class, tunables[i].name, params[i]);
        if (value == params[i] || !is_legal(&tunables[i], value)) continue;
        params[i] = value;
        changed = true;
    }
    return changed;
}

void spec_define(struct kernel_spec *spec, const char *name, const char *fmt, ...) {
    const size_t used = strlen(spec->options);
    char *const at = spec->options + used;
    const size_t room = sizeof spec->options - used;
    const int head = snprintf(at, room, "%s-D%s=", used ? " " : "", name);
    assert(head > 0 && (size_t)head < room);
    va_list args;
    va_start(args, fmt);
    const int tail = vsnprintf(at + head, room - (size_t)head, fmt, args);
    va_end(args);
    assert(tail >= 0 && (size_t)(head + tail) < room);
    (void)tail;
}
