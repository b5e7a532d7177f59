/* SPDX-License-Identifier: MIT
 * What the checks of scatter share: one problem of ref_scatter on the device, in one of the ways a call may
 * bring it. */
#ifndef CLMOE_CHECK_SCATTER_CASE_H
#define CLMOE_CHECK_SCATTER_CASE_H

#include "harness.h"
#include "ref/scatter.h"

enum scatter_start {
    START_Y = 0, /* MASK: x is apart; ADD, MULTIPLY: there is no x */
    START_X,     /* x is apart */
    START_SAME,  /* x is given and is y */
};

struct scatter_way {
    enum forced_caps caps;
    int64_t inner; /* 0: tensors of two dimensions, else of three, and rows is a multiple of it */
    bool strided;  /* dimensions in any order of strides, with gaps between elements */
    bool aligned;  /* rows, or, with three dimensions, neighbours of the inner one, lie in blocks of 16 */
    bool wide;     /* indices of 64 bits */
    enum scatter_start start;
};

/* Zeroed memory, never NULL. */
void *scatter_room(int64_t count, size_t size);

bool scatter_folds(enum clmoe_scatter_mode mode);
const char *scatter_mode_name(enum clmoe_scatter_mode mode);

/* A workspace full of rubbish for a plan made with external_workspace; NULL if it needs none. (The simulator
 * takes the contents of a buffer without host data for what an earlier buffer held.) */
cl_mem scatter_rubbish(clmoe_plan *plan);

/* Runs one row of the table. `y` holds what ADD and MULTIPLY begin with, and gets the result. Returns false
 * if the row refuses. The workspace is full of rubbish. */
bool scatter_run_row(struct rng *rng, int row, const struct ref_scatter *p, const struct scatter_way *way,
                     void *y);

/* All rows of the table against the reference, bit by bit. `y0`: what ADD and MULTIPLY begin with. */
void scatter_check_rows(struct rng *rng, const struct ref_scatter *p, const struct scatter_way *way,
                        const void *y0, const char *what);

#endif
