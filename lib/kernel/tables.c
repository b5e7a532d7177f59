/* SPDX-License-Identifier: MIT */
#include "adapter.h"
#include "combine.h"
#include "matmul.h"
#include "matmul_pack.h"
#include "offload.h"
#include "permute.h"
#include "quant.h"
#include "route.h"
#include "scatter.h"
#include "topk.h"

/* clang-format off: one a line, so that two additions do not meet */
const struct kernel_table *const kernel_tables[] = {
    &topk_table,        &adapter_table, &combine_table, &matmul_table,
    &matmul_pack_table, &offload_table, &permute_table, &quant_table,
    &route_table,       &scatter_table, NULL,
};
