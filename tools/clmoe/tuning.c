/* SPDX-License-Identifier: MIT */
#include "tuning.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Appends a name that matches only itself: '|' and a star would not, nor would blanks at its ends. */
static void add_name(char *line, size_t room, const char *name) {
    size_t used = strlen(line);
    const size_t size = strlen(name);
    for (size_t i = 0; i < size && used + 2 < room; i++) {
        const bool end = i == 0 || i + 1 == size, special = strchr("|*\n\r\t", name[i]) != NULL;
        line[used++] = special || (end && name[i] == ' ') ? '?' : name[i];
    }
    if (size == 0 && used + 2 < room) line[used++] = '*';
    line[used] = '\0';
}

static void add(char *line, size_t room, const char *text) {
    if (strlen(line) + strlen(text) < room) strcat(line, text);
}

void tuning_device_line(const struct clmoe_device_info *info, char *line, size_t room) {
    snprintf(line, room, "device ");
    add_name(line, room, info->name);
    add(line, room, " | ");
    add_name(line, room, info->driver);
    add(line, room, " | ");
    add_name(line, room, info->platform);
    add(line, room, "\n");
}

/* Bytes of the first two words of a line: the row and the class. */
static size_t subject(const char *line) {
    const size_t row = strcspn(line, " \n");
    return line[row] == ' ' ? row + 1 + strcspn(line + row + 1, " \n") : row;
}

static bool replaced(const char *line, const char *lines) {
    const size_t size = subject(line);
    for (const char *l = lines; *l; l += strcspn(l, "\n") + 1)
        if (subject(l) == size && memcmp(l, line, size) == 0) return true;
    return false;
}

char *tuning_merge(const char *device_line, const char *lines, const char *old) {
    const size_t room = strlen(device_line) + strlen(lines) + strlen(old) + 2, head = strlen(device_line);
    char *const text = malloc(room), *const others = calloc(room, 1);
    bool ours = false;
    if (text) snprintf(text, room, "%s%s", device_line, lines);
    for (const char *line = old; text && others && *line;) {
        const size_t size = strcspn(line, "\n"), whole = size + (line[size] != '\0');
        const bool device = strncmp(line, "device", 6) == 0;
        if (device) ours = size + 1 == head && memcmp(line, device_line, size) == 0;
        if (!ours)
            strncat(others, line, whole);
        else if (!device && !replaced(line, lines))
            strncat(text, line, whole);
        line += whole;
    }
    const size_t used = text ? strlen(text) : 0;
    if (used && others)
        snprintf(text + used, room - used, "%s%s", text[used - 1] == '\n' ? "" : "\n", others);
    if (!others) free(text);
    char *const merged = others ? text : NULL;
    free(others);
    return merged;
}
