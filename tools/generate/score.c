/* SPDX-License-Identifier: MIT */
#include "score.h"

static bool score_windows(struct forward *f, const uint8_t *text, int64_t windows, int64_t length,
                          struct score *score, struct io_error *err) {
    float bits[SCORE_SEQUENCES * SCORE_WINDOW];
    if (!forward_surprise(f, text, windows, length, bits, err)) return false;
    for (int64_t i = 0; i < windows * length; i++)
        score->bits += bits[i];
    score->bytes += windows * (length - 1);
    return true;
}

bool score_text(struct forward *f, const uint8_t *text, int64_t n, void (*progress)(int64_t done, int64_t n),
                struct score *score, struct io_error *err) {
    *score = (struct score){0};
    for (int64_t at = 0; n - at >= 2;) {
        const int64_t whole = (n - at) / SCORE_WINDOW;
        const int64_t windows = whole > SCORE_SEQUENCES ? SCORE_SEQUENCES : whole ? whole : 1;
        const int64_t length = whole ? SCORE_WINDOW : n - at;
        if (!score_windows(f, text + at, windows, length, score, err)) return false;
        at += windows * length;
        if (progress) progress(at, n);
    }
    return true;
}
