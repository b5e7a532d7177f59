/* SPDX-License-Identifier: MIT */
#include "picture.h"

#define WIDE_EXPERTS 16 /* as many have room for a number each */
#define LINE 64         /* experts in one line of the narrow form */

double usage_share(const struct usage_counts *u, int64_t layer, int64_t expert) {
    double sum = 0;
    for (int64_t e = 0; e < u->experts; e++)
        sum += u->counts[layer * u->experts + e];
    return sum > 0 ? u->counts[layer * u->experts + expert] / sum : 0;
}

double usage_largest(const struct usage_counts *u) {
    double largest = 0;
    for (int64_t l = 0; l < u->layers; l++)
        for (int64_t e = 0; e < u->experts; e++) {
            const double share = usage_share(u, l, e);
            if (share > largest) largest = share;
        }
    return largest;
}

/* From dark blue to yellow, and whether black is readable on it. */
static const struct {
    int background, text;
} ramp[] = {{17, 231}, {18, 231}, {19, 231}, {25, 231}, {31, 231},
            {37, 231}, {42, 16},  {77, 16},  {148, 16}, {226, 16}};
#define STEPS ((int)(sizeof ramp / sizeof *ramp))

static int step_of(double share, double largest) {
    const int step = largest > 0 ? (int)(share / largest * STEPS) : 0;
    return step < STEPS ? step : STEPS - 1;
}

static void print_wide(const struct usage_counts *u, double largest, bool colour, FILE *to) {
    fputs("layer   expert", to);
    for (int64_t e = 0; e < u->experts; e++)
        fprintf(to, "%s%2d ", e ? "  " : " ", (int)e);
    fputc('\n', to);
    for (int64_t l = 0; l < u->layers; l++) {
        fprintf(to, "%5d         ", (int)l);
        for (int64_t e = 0; e < u->experts; e++) {
            const double share = usage_share(u, l, e);
            const int step = step_of(share, largest);
            if (colour) fprintf(to, "\033[48;5;%d;38;5;%dm", ramp[step].background, ramp[step].text);
            fprintf(to, "%4.0f ", 100 * share);
            if (colour) fputs("\033[0m", to);
        }
        fputc('\n', to);
    }
}

static void print_narrow(const struct usage_counts *u, double largest, bool colour, FILE *to) {
    for (int64_t l = 0; l < u->layers; l++)
        for (int64_t first = 0; first < u->experts; first += LINE) {
            if (first == 0)
                fprintf(to, "layer %3d  ", (int)l);
            else
                fputs("           ", to);
            for (int64_t e = first; e < u->experts && e < first + LINE; e++) {
                const int step = step_of(usage_share(u, l, e), largest);
                if (colour)
                    fprintf(to, "\033[38;5;%dm\xe2\x96\x88", ramp[step].background);
                else
                    fputc('0' + step, to);
            }
            fputs(colour ? "\033[0m\n" : "\n", to);
        }
}

void picture_print(const struct usage_counts *u, bool colour, FILE *to) {
    const double largest = usage_largest(u);
    fprintf(to, "experts each layer used, %s (an even share is %.3g %%):\n",
            u->experts <= WIDE_EXPERTS ? "in % of its choices" : "from 0, never, to 9, most of all",
            100.0 / (double)u->experts);
    if (u->experts <= WIDE_EXPERTS)
        print_wide(u, largest, colour, to);
    else
        print_narrow(u, largest, colour, to);
}
