// SPDX-License-Identifier: MIT
#include "quantised.h"
#include "array.h"

#include <string.h>

void fp8_row(const struct fp8_matrix *m, int64_t row, float *out) {
    const int64_t blocks = (m->columns + m->block_columns - 1) / m->block_columns;
    const float *const scales = m->scales + row / m->block_rows * blocks;
    const uint8_t *const data = m->data + row * m->columns;
    for (int64_t c = 0; c < m->columns; ++c)
        out[c] = array_f8_e4m3_to_f32(data[c]) * scales[c / m->block_columns];
}

static int nibble(const void *words, int64_t i, unsigned place) {
    uint32_t word;
    memcpy(&word, (const uint8_t *)words + 4 * i, sizeof(word));
    return (int)(word >> (4 * place) & 15u);
}

static float half(const void *halves, int64_t i) {
    uint16_t bits;
    memcpy(&bits, (const uint8_t *)halves + 2 * i, sizeof(bits));
    return array_f16_to_f32(bits);
}

int64_t int4_group(const struct int4_matrix *m, int64_t column) {
    int32_t group;
    if (!m->groups) return column / m->group;
    memcpy(&group, (const uint8_t *)m->groups + 4 * column, sizeof(group));
    return group;
}

void int4_values(const struct int4_matrix *m, int64_t row, int64_t first, int64_t n, float *out) {
    static const uint8_t awq_places[8] = {0, 4, 1, 5, 2, 6, 3, 7}; // of each of eight rows
    const int64_t words = m->rows / 8;
    const unsigned in_word = (unsigned)(row % 8), place = m->awq ? awq_places[in_word] : in_word;
    for (int64_t c = first; c < first + n; ++c) {
        const int64_t g = int4_group(m, c);
        const int q = m->awq ? nibble(m->data, c * words + row / 8, place)
                             : nibble(m->data, c / 8 * m->rows + row, (unsigned)(c % 8));
        const int zero = nibble(m->zeros, g * words + row / 8, place) + m->zero_added;
        *out++ = (float)(q - zero) * half(m->scales, g * m->rows + row);
    }
}
