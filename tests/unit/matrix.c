/* SPDX-License-Identifier: MIT
 * How lanes hold matrices (cl/matmul/matrix_layout.cl) against what the vendors publish: for AMD what their
 * Matrix Instruction Calculator prints for v_mfma_f32_32x32x8_bf16, v_mfma_f32_16x16x16_bf16 (CDNA 3) and
 * v_wmma_f32_16x16x16_bf16 (RDNA 3, RDNA 4, wave32), the same as for f16; for Intel the figures of the
 * extension cl_intel_subgroup_matrix_multiply_accumulate; for NVIDIA those of mma.m16n8k16 in the PTX ISA. */
#include "../../cl/matmul/matrix_layout.cl"
#include "check/harness.h"

#include <stdio.h>

enum { MOST = 32 };

/* A line of a matrix as runs of neighbours in one lane, "lane:first-last", what the next line adds to that,
 * and what `turn` lines add that begin anew (0: none does). */
struct lines {
    const char *first;
    int step_lane, step_element;
    int turn, turn_lane, turn_element;
};

#define STEPS_0_TO_15                                                                                        \
    { "0:0-15", 1, 0 }

static const struct {
    const char *name;
    struct {
        int lanes, m, n, k;
    } size;
    struct lines a, b, d; /* rows of A, columns of B, columns of D */
} vendor[LAYOUTS] = {
    [MFMA_32] = {"v_mfma_f32_32x32x8",
                 {64, 32, 32, 8},
                 {"0:0-3 32:0-3", 1, 0},
                 {"0:0-3 32:0-3", 1, 0},
                 {"0:0-3 32:0-3 0:4-7 32:4-7 0:8-11 32:8-11 0:12-15 32:12-15", 1, 0}},
    [MFMA_16] = {"v_mfma_f32_16x16x16",
                 {64, 16, 16, 16},
                 {"0:0-3 16:0-3 32:0-3 48:0-3", 1, 0},
                 {"0:0-3 16:0-3 32:0-3 48:0-3", 1, 0},
                 {"0:0-3 16:0-3 32:0-3 48:0-3", 1, 0}},
    /* RDNA 3: A and B again 16 lanes further */
    [WMMA_11] = {"v_wmma_f32_16x16x16",
                 {32, 16, 16, 16},
                 STEPS_0_TO_15,
                 STEPS_0_TO_15,
                 {"0:0-0 16:0-0 0:1-1 16:1-1 0:2-2 16:2-2 0:3-3 16:3-3 0:4-4 16:4-4 0:5-5 16:5-5 0:6-6 "
                  "16:6-6 0:7-7 16:7-7",
                  1, 0}},
    /* RDNA 4 */
    [WMMA_12] = {"v_wmma_f32_16x16x16",
                 {32, 16, 16, 16},
                 {"0:0-3 16:0-3 0:4-7 16:4-7", 1, 0},
                 {"0:0-3 16:0-3 0:4-7 16:4-7", 1, 0},
                 {"0:0-7 16:0-7", 1, 0}},
    [DPAS_8] = {"matrix_mad_k16 of 8 lanes",
                {8, 8, 8, 16},
                {"0:0-1 1:0-1 2:0-1 3:0-1 4:0-1 5:0-1 6:0-1 7:0-1", 0, 2},
                STEPS_0_TO_15,
                {"0:0-7", 1, 0}},
    [DPAS_16] = {"matrix_mad_k16 of 16 lanes",
                 {16, 8, 16, 16},
                 {"0:0-0 1:0-0 2:0-0 3:0-0 4:0-0 5:0-0 6:0-0 7:0-0 8:0-0 9:0-0 10:0-0 11:0-0 12:0-0 13:0-0 "
                  "14:0-0 15:0-0",
                  0, 1},
                 STEPS_0_TO_15,
                 {"0:0-7", 1, 0}},
    [MMA_16] =
        {"mma.m16n8k16",
         {32, 16, 8, 16},
         {"0:0-1 1:0-1 2:0-1 3:0-1 0:4-5 1:4-5 2:4-5 3:4-5", 4, 0, 8, 0, 2},
         {"0:0-1 1:0-1 2:0-1 3:0-1 0:2-3 1:2-3 2:2-3 3:2-3", 4, 0},
         {"0:0-0 4:0-0 8:0-0 12:0-0 16:0-0 20:0-0 24:0-0 28:0-0 0:2-2 4:2-2 8:2-2 12:2-2 16:2-2 20:2-2 "
          "24:2-2 28:2-2",
          0, 1, 2, 1, 0}},
};

struct place {
    int lane, element;
};

/* The places of the first line; their number. */
static int read_line(const char *text, struct place *places) {
    int n = 0, lane, from, to, read;
    for (; sscanf(text, " %d:%d-%d%n", &lane, &from, &to, &read) == 3; text += read)
        for (int e = from; e <= to && n < MOST; e++)
            places[n++] = (struct place){lane, e};
    return n;
}

/* Which element of A, B or D a lane holds: the number of the line, and where in it. */
enum matrix { MATRIX_A, MATRIX_B, MATRIX_D };

static void held(int layout, enum matrix matrix, struct place p, unsigned *line, unsigned *at) {
    const unsigned lane = (unsigned)p.lane, element = (unsigned)p.element;
    *line = matrix == MATRIX_A   ? layout_a_row(layout, lane, element)
            : matrix == MATRIX_B ? layout_b_column(layout, lane)
                                 : layout_d_column(layout, lane, element);
    *at = matrix == MATRIX_A   ? layout_a_k(layout, lane, element)
          : matrix == MATRIX_B ? layout_b_k(layout, lane, element)
                               : layout_d_row(layout, lane, element);
}

/* Every element is where the vendor says, and what the vendor says leaves nothing of any lane over. */
static void compare(int layout, enum matrix matrix, const struct lines *lines, int n_lines, int length) {
    const int elements[] = {LAYOUT_A(layout), LAYOUT_B(layout), LAYOUT_D(layout)};
    const int copies = matrix == MATRIX_D ? 1 : LAYOUT_COPIES(layout);
    int seen[64][16] = {{0}};
    struct place first[MOST];
    ck_assert_int_eq(read_line(lines->first, first), length);
    for (int i = 0; i < n_lines * length * copies; i++) {
        const int copy = i / (n_lines * length), line = i / length % n_lines, at = i % length;
        const int turns = lines->turn ? line / lines->turn : 0, steps = line - turns * lines->turn;
        const struct place p = {
            first[at].lane + steps * lines->step_lane + turns * lines->turn_lane + copy * 16,
            first[at].element + steps * lines->step_element + turns * lines->turn_element};
        unsigned found_line, found_at;
        held(layout, matrix, p, &found_line, &found_at);
        case_require(found_line == (unsigned)line && found_at == (unsigned)at,
                     "%s, %c: lane %d, element %d is %u of line %u, not %d of %d", vendor[layout].name,
                     "ABD"[matrix], p.lane, p.element, found_at, found_line, at, line);
        seen[p.lane][p.element]++;
    }
    for (int lane = 0; lane < vendor[layout].size.lanes; lane++)
        for (int e = 0; e < elements[matrix]; e++)
            case_require(seen[lane][e] == 1, "%s, %c: %d elements are in lane %d, element %d",
                         vendor[layout].name, "ABD"[matrix], seen[lane][e], lane, e);
}

START_TEST(layouts) {
    ck_assert_int_eq(LAYOUT_LANES(_i), vendor[_i].size.lanes);
    ck_assert_int_eq(LAYOUT_M(_i), vendor[_i].size.m);
    ck_assert_int_eq(LAYOUT_N(_i), vendor[_i].size.n);
    ck_assert_int_eq(LAYOUT_K(_i), vendor[_i].size.k);
    compare(_i, MATRIX_A, &vendor[_i].a, vendor[_i].size.m, vendor[_i].size.k);
    compare(_i, MATRIX_B, &vendor[_i].b, vendor[_i].size.n, vendor[_i].size.k);
    compare(_i, MATRIX_D, &vendor[_i].d, vendor[_i].size.n, vendor[_i].size.m);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, layouts, 0, LAYOUTS);
}

int main(void) {
    return harness_main("matrix", "", add_tests);
}
