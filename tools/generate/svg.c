/* SPDX-License-Identifier: MIT */
#include "svg.h"
#include "io/output.h"

#include <stdarg.h>
#include <string.h>

enum {
    LEFT = 76,
    TOP = 108,
    ROW = 30,
    BELOW = 84,
    RIGHT = 24,
    MIN_WIDTH = 460,
    CHARACTER = 7, /* about its width, at font size 12 */
    LEGEND = 240,
    LEGEND_STEPS = 40
};

struct drawing {
    struct output out;
    struct io_error *err;
    bool ok;
    const struct usage_counts *u;
    double largest;
    int cell; /* width of a column */
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
put(struct drawing *d, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    const int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (d->ok)
        d->ok = size >= 0 && (size_t)size < sizeof line && output_write(&d->out, line, (size_t)size, d->err);
}

/* A text with the characters that XML keeps for itself written as entities, others than printable ASCII as
 * "?". */
static void put_escaped(struct drawing *d, const char *text) {
    for (; *text; text++) {
        const char c = *text;
        if (c == '&' || c == '<' || c == '>' || c == '"')
            put(d, "&#%d;", c);
        else
            put(d, "%c", c >= ' ' && c <= '~' ? c : '?');
    }
}

/* From nearly white over blue to nearly black, `at` in 0..1. */
static void put_colour(struct drawing *d, double at) {
    static const double stops[3][3] = {{241, 245, 251}, {84, 148, 212}, {8, 40, 92}};
    const int from = at < 0.5 ? 0 : 1;
    const double part = at * 2 - from;
    int rgb[3];
    for (int i = 0; i < 3; i++)
        rgb[i] = (int)(stops[from][i] + part * (stops[from + 1][i] - stops[from][i]) + 0.5);
    put(d, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

static void put_cell(struct drawing *d, int64_t layer, int64_t expert) {
    const double share = usage_share(d->u, layer, expert), at = d->largest > 0 ? share / d->largest : 0;
    const int x = LEFT + (int)expert * d->cell, y = TOP + (int)layer * ROW;
    put(d, "<g><title>layer %d, expert %d: %u choices, %.1f %%</title>", (int)layer, (int)expert,
        (unsigned)d->u->counts[layer * d->u->experts + expert], 100 * share);
    put(d, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"", x, y, d->cell - 1, ROW - 1);
    put_colour(d, at);
    put(d, "\"/>");
    if (d->cell >= 28)
        put(d, "<text x=\"%d\" y=\"%d\" fill=\"%s\" text-anchor=\"middle\">%.0f</text>", x + d->cell / 2,
            y + 19, at > 0.5 ? "#ffffff" : "#1c1c1c", 100 * share);
    put(d, "</g>\n");
}

static void put_map(struct drawing *d) {
    const int width = (int)d->u->experts * d->cell;
    /* Column numbers as they fit: a number needs some 26 pixels. */
    const int every = (26 + d->cell - 1) / d->cell;
    put(d, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">expert</text>\n", LEFT + width / 2, TOP - 22);
    for (int e = 0; e < d->u->experts; e += every)
        put(d, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", LEFT + e * d->cell + d->cell / 2,
            TOP - 6, e);
    for (int64_t l = 0; l < d->u->layers; l++) {
        put(d, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">layer %d</text>\n", LEFT - 8,
            TOP + (int)l * ROW + 19, (int)l);
        for (int64_t e = 0; e < d->u->experts; e++)
            put_cell(d, l, e);
    }
}

static void put_legend(struct drawing *d, int y) {
    const double even = 1.0 / (double)d->u->experts;
    const double step = (double)LEGEND / LEGEND_STEPS;
    put(d, "<text x=\"%d\" y=\"%d\">share of the layer's choices, in %%</text>\n", LEFT, y - 8);
    for (int i = 0; i < LEGEND_STEPS; i++) {
        put(d, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"12\" fill=\"", LEFT + i * step, y,
            step + 0.5);
        put_colour(d, (double)i / (LEGEND_STEPS - 1));
        put(d, "\"/>\n");
    }
    put(d, "<text x=\"%d\" y=\"%d\">0</text>\n", LEFT, y + 26);
    put(d, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.1f</text>\n", LEFT + LEGEND, y + 26,
        100 * d->largest);
    if (d->largest <= 0) return;
    const double x = LEFT + LEGEND * even / d->largest;
    put(d, "<path d=\"M%.1f %d v18\" stroke=\"#c2410c\" stroke-width=\"2\"/>\n", x, y - 3);
    put(d, "<text x=\"%d\" y=\"%d\" fill=\"#c2410c\">%.1f would be even</text>\n", LEFT + LEGEND + 12, y + 11,
        100 * even);
}

static void put_line(struct drawing *d, int y, const char *text) {
    put(d, "<text x=\"16\" y=\"%d\" fill=\"#666666\">", y);
    put_escaped(d, text);
    put(d, "</text>\n");
}

static int longest(int a, int b) {
    return a > b ? a : b;
}

bool svg_write(const char *path, const struct usage_counts *u, const char *what, const char *where,
               struct io_error *err) {
    const int fitting = (int)(900 / u->experts);
    struct drawing d = {.err = err, .ok = true, .u = u, .largest = usage_largest(u)};
    d.cell = fitting > 44 ? 44 : fitting < 4 ? 4 : fitting;
    const int map = LEFT + RIGHT + (int)u->experts * d.cell, height = TOP + (int)u->layers * ROW + BELOW;
    const int lines = 32 + CHARACTER * longest((int)strlen(what), (int)strlen(where));
    const int width = longest(longest(map, lines), MIN_WIDTH);
    if (!output_open(path, &d.out, err)) return false;
    put(&d,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#333333\">\n",
        width, height, width, height);
    put(&d, "<title>Experts each layer used</title>\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"#ffffff\"/>\n");
    put(&d, "<text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Experts each layer used</text>\n");
    put_line(&d, 46, what);
    put_line(&d, 63, where);
    put_map(&d);
    put_legend(&d, TOP + (int)u->layers * ROW + 40);
    put(&d, "</svg>\n");
    return output_commit(&d.out, d.ok, err);
}
