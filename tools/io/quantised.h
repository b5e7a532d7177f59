// SPDX-License-Identifier: MIT
//
// Weights of the Hugging Face hub whose scales are tensors of their own, decoded from a matrix [rows,
// columns] to f32. Only `scales` of fp8 must be aligned.
#ifndef CLMOE_TOOLS_IO_QUANTISED_H
#define CLMOE_TOOLS_IO_QUANTISED_H

#include <stdbool.h>
#include <stdint.h>

// f8 e4m3 with a scale for each block of rows and columns (DeepSeek-V3); the last ones may be smaller:
//     value[r][c] = data[r][c] * scales[r / block_rows][c / block_columns]
struct fp8_matrix {
    const uint8_t *data;
    const float *scales;
    int64_t rows, columns;
    int64_t block_rows, block_columns;
};
void fp8_row(const struct fp8_matrix *m, int64_t row, float *out);

// Four bits with a scale and a zero point for each group of columns, eight in a word, the lowest bits first:
//     value[r][c] = (q[r][c] - zero[g][r]) * scales[g][r]           g = c / group, or groups[c]
// AWQ: words lie [columns, rows / 8], with rows 0 2 4 6 1 3 5 7 of eight; so do zero points, [., rows / 8].
// GPTQ: words lie [columns / 8, rows], with eight columns; zero points [., rows / 8], eight rows, each less
// by `zero_added`.
struct int4_matrix {
    const void *data, *zeros; // words
    const void *scales;       // f16, [., rows]
    const void *groups;       // i32 [columns], of GPTQ, or NULL
    int64_t rows, columns, group;
    int zero_added;
    bool awq;
};
// Columns first..first+n-1 of a row.
void int4_values(const struct int4_matrix *m, int64_t row, int64_t first, int64_t n, float *out);

// The group of a column.
int64_t int4_group(const struct int4_matrix *m, int64_t column);

#endif
