/* SPDX-License-Identifier: MIT */
#include "words.h"

#include <stdlib.h>
#include <string.h>

enum { IN_WORD = 8 };

static uint32_t nibble(uint32_t word, long at) {
    return word >> 4 * at & 15;
}

/* Where AWQ has column `row` % 8 of a word. */
static long awq_place(long row) {
    static const int places[IN_WORD] = {0, 4, 1, 5, 2, 6, 3, 7};
    return places[row % IN_WORD];
}

static long groups_of(const struct words *w) {
    return (w->depth + w->group - 1) / w->group;
}

static void fill(uint32_t *words, long n, uint32_t (*drawn)(uint32_t n)) {
    for (long i = 0; i < n; i++)
        words[i] = drawn(1 << 16) << 16 | drawn(1 << 16);
}

void words_make(struct words w[2], int group, long experts, long depth, long rows,
                void *(*room)(size_t bytes), uint32_t (*drawn)(uint32_t n)) {
    w[0] = (struct words){group < 0, abs(group), experts, depth, rows, NULL, NULL, NULL};
    const long codes = experts * depth * rows / IN_WORD, factors = experts * groups_of(w) * rows;
    w->codes = room(2 * (size_t)codes * sizeof *w->codes);
    w->zeros = room(2 * (size_t)(factors / IN_WORD) * sizeof *w->zeros);
    w->scales = room(2 * (size_t)factors * sizeof *w->scales);
    fill(w->codes, 2 * codes, drawn);
    fill(w->zeros, 2 * (factors / IN_WORD), drawn);
    for (long i = 0; i < 2 * factors; i++)
        w->scales[i] = (float)(1 + drawn(1000)) / 5000.0f * (drawn(16) ? 1.0f : -0.01f);
    w[1] = w[0];
    w[1].codes += codes, w[1].zeros += factors / IN_WORD, w[1].scales += factors;
}

void words_set(struct call *c, const struct words w[2], int apart, long up_first) {
    const struct words *const up = w + apart;
    const long groups_rows = groups_of(w) * w->rows;
    c->gate = (unsigned char *)w->codes;
    c->up = (unsigned char *)(up->codes + (w->gptq ? up_first : up_first / IN_WORD));
    c->scales = w->scales, c->zeros = w->zeros;
    for (int i = 0; i < 2; i++) { /* strides count codes */
        const long step = w->gptq ? IN_WORD * w->rows : w->rows, column = w->gptq ? IN_WORD : 1;
        const long scales = i ? up->scales - w->scales : 0, zeros = i ? up->zeros - w->zeros : 0;
        memcpy(c->numbers[1 + i], (long[4]){0, w->rows * w->depth, column, step}, sizeof c->numbers[0]);
        memcpy(c->numbers[3 + i], (long[4]){scales, groups_rows, 1, w->rows}, sizeof c->numbers[0]);
        memcpy(c->numbers[5 + i], (long[4]){zeros, groups_rows, w->rows, i ? up_first : 0},
               sizeof c->numbers[0]);
    }
    c->numbers[12][3] = 1;
    c->numbers[14][2] = __builtin_ctzl((unsigned long)w->group);
}

double words_weight(const struct words *w, long e, long row, long k) {
    const long group = e * groups_of(w) + k / w->group;
    const long place = w->gptq ? row % IN_WORD : awq_place(row);
    const uint32_t zero = nibble(w->zeros[(group * w->rows + row) / IN_WORD], place);
    const uint32_t code = w->gptq
                              ? nibble(w->codes[(e * w->depth + k) / IN_WORD * w->rows + row], k % IN_WORD)
                              : nibble(w->codes[((e * w->depth + k) * w->rows + row) / IN_WORD], place);
    return ((double)code - zero) * w->scales[group * w->rows + row];
}
