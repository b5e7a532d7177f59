/* SPDX-License-Identifier: MIT */
#include "combine.h"

const struct kernel_table *const kernel_tables[] = {
    &combine_table,
    NULL,
};
