/* SPDX-License-Identifier: MIT
 * Rows of matmul's table for many rows of x on any GPU (cl/matmul/tile.cl): for each the three functions of
 * struct kernel_row. */
#ifndef CLMOE_KERNEL_MATMUL_TILE_H
#define CLMOE_KERNEL_MATMUL_TILE_H

#include "row.h"

extern const struct tunable matmul_tile_tunables[];

#define MATMUL_TILE_FUNCTIONS(edge)                                                                          \
    bool matmul_tile_##edge##_fits(const struct device *dev, const void *problem, struct reason *why);       \
    void matmul_tile_##edge##_prepare(const struct device *dev, const void *problem, struct recipe *recipe); \
    enum clmoe_status matmul_tile_##edge##_run(const struct run *run)

MATMUL_TILE_FUNCTIONS(128);
MATMUL_TILE_FUNCTIONS(64);
MATMUL_TILE_FUNCTIONS(32);

#endif
