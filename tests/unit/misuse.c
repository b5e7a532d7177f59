/* SPDX-License-Identifier: MIT
 * Wrong use of every function of every operation: each case has the status it must get and a part of the
 * message it must cause, and must leave nothing enqueued, nothing written, nothing leaked.
 *
 * A row is X(edit, status, part of the message): the edit is made to a call that was right before. */
#include "kit.h"
#include "sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = CLMOE_OK, INVALID = CLMOE_E_INVALID, UNSUPPORTED = CLMOE_E_UNSUPPORTED };

/* ---- params: edits of `p` before plan ---- */

#define COMBINE_PARAMS(X)                                                                                    \
    X(p->max_tokens = -1, INVALID, "max_tokens = -1")                                                        \
    X(p->max_tokens = INT64_MIN, INVALID, "max_tokens = -9223372036854775808")                               \
    X(p->max_tokens = (int64_t)1 << 30, INVALID, "max_tokens = 1073741824, topk = 2")                        \
    X(p->max_tokens = INT64_MAX, INVALID, "topk = 2")                                                        \
    X(p->topk = 0, INVALID, "topk = 0")                                                                      \
    X(p->topk = -3, INVALID, "topk = -3")                                                                    \
    X(p->topk = 4097, INVALID, "topk = 4097")                                                                \
    X(p->experts = 0, INVALID, "experts = 0")                                                                \
    X(p->experts = -1, INVALID, "experts = -1")                                                              \
    X(p->hidden = 0, INVALID, "hidden = 0")                                                                  \
    X(p->hidden = -8, INVALID, "hidden = -8")                                                                \
    X(p->hidden = (int64_t)1 << 31, INVALID, "hidden = 2147483648")                                          \
    X(p->x_dtype = CLMOE_I32, INVALID, "x_dtype = 3")                                                        \
    X(p->x_dtype = CLMOE_Q8_0, INVALID, "x_dtype = 6")                                                       \
    X(p->y_dtype = (enum clmoe_dtype)77, INVALID, "y_dtype = 77")                                            \
    X(p->y_dtype = (enum clmoe_dtype) - 1, INVALID, "y_dtype = -1")                                          \
    X(p->x_rows = CLMOE_ROWS_TOKEN, INVALID, "x_rows = 1")                                                   \
    X(p->x_rows = (enum clmoe_rows)9, INVALID, "x_rows = 9")                                                 \
    X(p->scale = NAN, INVALID, "scale = ")                                                                   \
    X(p->scale = INFINITY, INVALID, "scale = inf")                                                           \
    X(p->plan.kernel = "combine_magic", INVALID, "combine_magic")

#define SCATTER_PARAMS(X)                                                                                    \
    X(p->max_rows = -1, INVALID, "max_rows = -1")                                                            \
    X(p->max_rows = INT64_MAX, INVALID, "max_rows = 9223372036854775807, n = 33")                            \
    X(p->n = 0, INVALID, "n = 0")                                                                            \
    X(p->n = -1, INVALID, "n = -1")                                                                          \
    X(p->n = ((int64_t)1 << 31) + 1, INVALID, "n = 2147483649")                                              \
    X(p->k = -1, INVALID, "k = -1")                                                                          \
    X(p->k = ((int64_t)1 << 31) + 1, INVALID, "k = 2147483649")                                              \
    X(p->dtype = CLMOE_U8, INVALID, "slot_scale = 1, column_scale = 1 with dtype u8")                        \
    X(p->dtype = CLMOE_Q8_0, INVALID, "dtype = 6")                                                           \
    X(p->dtype = CLMOE_DTYPE_COUNT, INVALID, "dtype = 21")                                                   \
    X((p->dtype = CLMOE_I32, p->mode = CLMOE_SCATTER_ADD), INVALID, "mode = 2 adds or multiplies f32")       \
    X(p->index_dtype = CLMOE_U32, INVALID, "index_dtype = 4")                                                \
    X(p->mode = (enum clmoe_scatter_mode)4, INVALID, "mode = 4")                                             \
    X(p->mode = (enum clmoe_scatter_mode) - 1, INVALID, "mode = -1")                                         \
    X(p->from_x = 1, INVALID, "from_x = 1, mode = 0")                                                        \
    X(p->no_values = 1, INVALID, "no_values = 1, mode = 0")                                                  \
    X(p->slot_scale = 2, INVALID, "slot_scale = 2")                                                          \
    X(p->scale = NAN, INVALID, "scale = ")                                                                   \
    X(p->plan.kernel = "topk_lanes", INVALID, "topk_lanes")

/* ---- args: edits of `a` before enqueue; what can happen to any tensor is in TENSORS ---- */

#define COMBINE_ARGS(X)                                                                                      \
    X(a->y.shape[0] = 8, INVALID, "y has 8 rows, the plan is for at most 7")                                 \
    X(a->y.shape[0] = INT64_MAX, INVALID, "rows, the plan is for at most 7")                                 \
    X(a->y.shape[0] = 3, INVALID, "x.shape[0] = 14, expected 6")                                             \
    X(a->x.mem = NULL, INVALID, "x.mem is NULL")                                                             \
    X(a->inverse.mem = NULL, INVALID, "inverse.mem is NULL")                                                 \
    X(a->y.mem = NULL, INVALID, "y.mem is NULL")                                                             \
    X(a->y = (struct clmoe_tensor){0}, INVALID, "y.ndim = 0")                                                \
    X(a->x = a->y, INVALID, "x.shape[0] = 7, expected 14")                                                   \
    X(a->residual.offset = 132, INVALID, "residual needs 924 bytes from offset 132 on, its buffer has 988")  \
    X((a->y.stride[0] = 32, a->y.stride[1] = 1), INVALID, "rows of an output overlap")                       \
    X((a->y.stride[0] = 0, a->y.stride[1] = 1), INVALID, "rows of an output overlap")                        \
    X((a->residual = a->y, a->residual.offset = 4), INVALID, "y overlaps residual")

#define SCATTER_ARGS(X)                                                                                      \
    X(a->x = a->y, INVALID, "x is given, but the plan was made without it")                                  \
    X(a->y.shape[0] = 8, INVALID, "y has 8 rows, the plan is for at most 7")                                 \
    X(a->y.shape[1] = 32, INVALID, "y.shape[1] = 32, expected 33")                                           \
    X(a->values = (struct clmoe_tensor){0}, INVALID, "values.dtype is 0 (f32)|values.ndim = 0")              \
    X(a->y.ndim = 1, INVALID, "y.ndim = 1, expected 2 or 3")                                                 \
    X((a->y.stride[0] = 5, a->y.stride[1] = 1), INVALID, "rows of an output overlap")

#define PERMUTE_PARAMS(X)                                                                                    \
    X(p->max_tokens = -1, INVALID, "max_tokens = -1")                                                        \
    X(p->max_tokens = (int64_t)1 << 30, INVALID, "max_tokens = 1073741824, topk = 2")                        \
    X(p->topk = 0, INVALID, "topk = 0")                                                                      \
    X(p->topk = 4097, INVALID, "topk = 4097")                                                                \
    X(p->experts = 0, INVALID, "experts = 0")                                                                \
    X(p->experts = 4097, INVALID, "experts = 4097")                                                          \
    X(p->plan.kernel = "permute", INVALID, "\"permute\"")

#define PERMUTE_ARGS(X)                                                                                      \
    X(a->ids.shape[0] = 8, INVALID, "ids has 8 rows, the plan is for at most 7")                             \
    X(a->counts = (struct clmoe_tensor){0}, INVALID, "counts.dtype is 0 (f32), expected i32")                \
    X(a->offsets.shape[0] = 4, INVALID, "offsets.shape[0] = 4, expected 5")                                  \
    X(a->order.shape[0] = 13, INVALID, "order.shape[0] = 13, expected 14")                                   \
    X(a->inverse.shape[0] = 0, INVALID, "inverse.shape[0] = 0, expected 14")                                 \
    X(a->order.mem = NULL, INVALID, "order.mem is NULL")                                                     \
    X(a->inverse = a->order, INVALID, " overlaps ")                                                          \
    X(a->order.mem = a->ids.mem, INVALID, "order overlaps ids")

#define ROUTE_PARAMS(X)                                                                                      \
    X(p->max_tokens = -1, INVALID, "max_tokens = -1")                                                        \
    X(p->experts = 0, INVALID, "experts = 0")                                                                \
    X(p->experts = 4097, INVALID, "experts = 4097")                                                          \
    X(p->topk = -1, INVALID, "topk = -1")                                                                    \
    X(p->topk = 9, INVALID, "topk = 9, experts = 6, zero_experts = 2")                                       \
    X((p->experts = 128, p->topk = 65), INVALID, "topk = 65")                                                \
    X(p->logits_dtype = CLMOE_I32, INVALID, "logits_dtype = 3")                                              \
    X(p->logits_dtype = (enum clmoe_dtype) - 5, INVALID, "logits_dtype = -5")                                \
    X(p->score = (enum clmoe_score)5, INVALID, "score = 5")                                                  \
    X(p->group_score = (enum clmoe_group_score)3, INVALID, "group_score = 3")                                \
    X(p->renorm = (enum clmoe_renorm)3, INVALID, "renorm = 3")                                               \
    X(p->n_group = 3, INVALID, "experts = 8, n_group = 3")                                                   \
    X(p->n_group = -2, INVALID, "n_group = -2")                                                              \
    X((p->experts = 4094, p->n_group = 128), INVALID, "n_group = 128")                                       \
    X(p->topk_group = 0, INVALID, "topk_group = 0, n_group = 4")                                             \
    X(p->topk_group = 5, INVALID, "topk_group = 5, n_group = 4")                                             \
    X((p->topk_group = 1, p->topk = 3), INVALID, "hold fewer than topk = 3")                                 \
    X(p->renorm_eps = -1e-9f, INVALID, "renorm_eps = -1e-09")                                                \
    X(p->renorm_eps = NAN, INVALID, "renorm_eps = ")                                                         \
    X(p->renorm_eps = INFINITY, INVALID, "renorm_eps = inf")                                                 \
    X(p->scale = NAN, INVALID, "scale = ")                                                                   \
    X(p->scale = -INFINITY, INVALID, "scale = -inf")                                                         \
    X(p->zero_experts = -1, INVALID, "zero_experts = -1")                                                    \
    X(p->zero_experts = 4091, INVALID, "zero_experts = 4091, experts = 6")                                   \
    X(p->shared_slots = 65, INVALID, "shared_slots = 65")                                                    \
    X(p->shared_gamma = NAN, INVALID, "shared_gamma = ")                                                     \
    X(p->temperature = -1, INVALID, "temperature = -1")                                                      \
    X(p->logit_cap = INFINITY, INVALID, "logit_cap = inf")                                                   \
    X(p->mixer_eps = -1, INVALID, "mixer_eps = -1")                                                          \
    X(p->select = (enum clmoe_select)2, INVALID, "select = 2")                                               \
    X(p->select = CLMOE_SELECT_GIVEN, INVALID, "n_group = 4, but the ids are given")                         \
    X(p->score = CLMOE_SCORE_SPARSEMIXER, INVALID, "n_group = 4 with sparsemixer")                           \
    X(p->group_score = CLMOE_GROUP_EACH, INVALID, "topk = 2, n_group = 4")                                   \
    X((p->group_score = CLMOE_GROUP_EACH, p->topk = 4), INVALID, "topk_group = 2 with CLMOE_GROUP_EACH")     \
    X(p->capacity = -1, INVALID, "capacity = -1")                                                            \
    X((p->capacity = 0, p->renorm_kept = 1), INVALID, "renorm_kept = 1, pass_dropped = 0 without capacity")  \
    X(p->capacity_order = (enum clmoe_capacity_order)4, INVALID, "capacity_order = 4")                       \
    X(p->capacity_tokens = -1, INVALID, "capacity_tokens = -1")                                              \
    X(p->max_tokens = (int64_t)1 << 30, INVALID, "too many pairs for a capacity")

#define ROUTE_ARGS(X)                                                                                        \
    X(a->logits.shape[0] = 8, INVALID, "logits has 8 rows, the plan is for at most 7")                       \
    X(a->bias.mem = NULL, INVALID, "bias.mem is NULL")                                                       \
    X(a->ids.mem = NULL, INVALID, "ids.mem is NULL")                                                         \
    X(a->gamma.mem = NULL, INVALID, "gamma.mem is NULL")                                                     \
    X((a->gamma.mem = a->ids.mem), INVALID, " overlaps ")                                                    \
    X((a->ids.stride[0] = 1, a->ids.stride[1] = 1), INVALID, "rows of an output overlap")                    \
    X(a->given = a->ids, INVALID, "given is given")                                                          \
    X(a->expert_scale.mem = NULL, INVALID, "expert_scale.mem is NULL")                                       \
    X(a->expert_map.shape[0] = 6, INVALID, "expert_map.shape[0] = 6, expected 7")                            \
    X(a->token_mask = a->bias, INVALID, "token_mask is given")                                               \
    X(a->identity_gamma.mem = a->gamma.mem, INVALID, " overlaps ")                                           \
    X(a->capacity = -1, INVALID, "capacity = -1")

#define MATMUL_PARAMS(X)                                                                                     \
    X(p->max_tokens = -1, INVALID, "max_tokens = -1")                                                        \
    X(p->max_tokens = (int64_t)1 << 30, INVALID, "max_tokens = 1073741824, topk = 2")                        \
    X(p->topk = 0, INVALID, "topk = 0")                                                                      \
    X(p->topk = 4097, INVALID, "topk = 4097")                                                                \
    X(p->experts = 0, INVALID, "experts = 0")                                                                \
    X(p->experts = 4097, INVALID, "experts = 4097")                                                          \
    X(p->in = 0, INVALID, "in = 0")                                                                          \
    X(p->in = (int64_t)1 << 31, INVALID, "in = 2147483648")                                                  \
    X(p->out = 0, INVALID, "out = 0")                                                                        \
    X(p->out = (int64_t)1 << 30, INVALID, "out = 1073741824")                                                \
    X(p->x_dtype = CLMOE_Q8_0, INVALID, "x_dtype = 6")                                                       \
    X(p->y_dtype = CLMOE_U8, INVALID, "y_dtype = 5")                                                         \
    X(p->w_dtype = CLMOE_I32, INVALID, "w_dtype = 3")                                                        \
    X(p->w_dtype = CLMOE_Q8_0, INVALID, "in = 33")                                                           \
    X((p->w_dtype = CLMOE_Q8_0, p->in = 64, p->w_order = CLMOE_W_EKN), INVALID, "q8_0 with w_order = 1")     \
    X(p->bias_dtype = (enum clmoe_dtype)7, INVALID, "bias_dtype = 7")                                        \
    X(p->w_order = (enum clmoe_w_order)5, INVALID, "w_order = 5")                                            \
    X(p->glu = (enum clmoe_glu)5, INVALID, "glu = 5")                                                        \
    X(p->act.kind = (enum clmoe_act)8, INVALID, "act.kind = 8")                                              \
    X(p->act.kind = CLMOE_ACT_SITU, INVALID, "act.gate_tanh = 0")                                            \
    X(p->act.act_max = -1, INVALID, "act.act_max = -1")                                                      \
    X(p->act.gate_max = -1, INVALID, "act.gate_max = -1")                                                    \
    X(p->act.gate_max = NAN, INVALID, "act.gate_max = ")                                                     \
    X(p->act.up_max = -1, INVALID, "act.up_max = -1")                                                        \
    X(p->act.up_max = NAN, INVALID, "act.up_max = ")                                                         \
    X(p->x_rows = (enum clmoe_rows)3, INVALID, "x_rows = 3")                                                 \
    X(p->y_rows = CLMOE_ROWS_TOKEN, INVALID, "y_rows = 1")                                                   \
    X(p->routing = (enum clmoe_routing)3, INVALID, "routing = 3")                                            \
    X((p->routing = CLMOE_ROUTING_IDS, p->x_rows = CLMOE_ROWS_SORTED), INVALID, "x_rows = SORTED without")   \
    X((p->routing = CLMOE_ROUTING_IDS, p->y_rows = CLMOE_ROWS_SORTED), INVALID, "y_rows = SORTED without")   \
    X(p->routing = CLMOE_ROUTING_DENSE, INVALID, "DENSE with experts = 4, topk = 2")                         \
    X(p->gamma = (enum clmoe_gamma)3, INVALID, "gamma = 3")                                                  \
    X(p->plan.kernel = "matmul_everything", INVALID, "matmul_everything")

#define MATMUL_ARGS(X)                                                                                       \
    X(a->w = NULL, INVALID, "w is NULL")                                                                     \
    X(a->n_w = -1, INVALID, "n_w = -1")                                                                      \
    X(a->n_w = 5, INVALID, "n_w = 5, experts = 4")                                                           \
    X((a->n_w = 1, s->parts[0].shape[0] = 3), INVALID, "the parts of w have 3 experts of 4")                 \
    X(s->parts[0].shape[0] = 0, INVALID, "w[0] has 0 experts")                                               \
    X(s->parts[0].shape[0] = -1, INVALID, "w[0] has -1 experts")                                             \
    X(s->parts[0].shape[0] = 5, INVALID, "w[0] has 5 experts")                                               \
    X(s->parts[0].mem = NULL, INVALID, "w[0].mem is NULL")                                                   \
    X(a->w_up = a->w_up ? NULL : a->w, INVALID, "w_up is ")                                                  \
    X(a->ids.mem = NULL, INVALID, "ids.mem is NULL")                                                         \
    X(a->x.mem = NULL, INVALID, "x.mem is NULL")                                                             \
    X(a->gamma = (struct clmoe_tensor){0}, INVALID, "gamma.ndim = 0")                                        \
    X(a->bias = (struct clmoe_tensor){0}, INVALID, "bias.ndim = 0")                                          \
    X(a->ids.shape[0] = 8, INVALID, "ids has 8 rows, the plan is for at most 7")                             \
    X(a->y.shape[0] = 7, INVALID, "y.shape[0] = 7, expected 14")                                             \
    X(a->y.mem = a->w[0].mem, INVALID, "y overlaps w[0]")

#define MATMUL_PACK_PARAMS(X)                                                                                \
    X(p->experts = 0, INVALID, "experts = 0")                                                                \
    X(p->out = 0, INVALID, "out = 0")                                                                        \
    X(p->w_order = CLMOE_W_PACKED, INVALID, "the weights are packed")                                        \
    X((p->w_dtype = CLMOE_Q5_0, p->in = 64), INVALID, "q5_0 cannot be packed")                               \
    X(p->plan.kernel = "matmul_pack_nothing", INVALID, "matmul_pack_nothing")

#define MATMUL_PACK_ARGS(X)                                                                                  \
    X(a->w = NULL, INVALID, "w is NULL")                                                                     \
    X(a->w_up = NULL, INVALID, "w_up = ")                                                                    \
    X(a->packed = NULL, INVALID, "packed is NULL")                                                           \
    X(a->n_w = 2, INVALID, "w[1] has ")                                                                      \
    X(s->parts[2].shape[1] = 2, INVALID, "packed[0].shape[1] = 2, expected 1")                               \
    X(s->parts[2].mem = s->parts[0].mem, INVALID, "packed[0] ")                                              \
    X(s->parts[0].mem = NULL, INVALID, "w[0].mem is NULL")

#define QUANT_PARAMS(X)                                                                                      \
    X(p->mode = (enum clmoe_quant_mode)2, INVALID, "mode = 2")                                               \
    X(p->max_rows = -1, INVALID, "max_rows = -1")                                                            \
    X(p->n = 0, INVALID, "n = 0")                                                                            \
    X(p->n = -32, INVALID, "n = -32")                                                                        \
    X(p->n = 33, INVALID, "n = 33, blocks of 32")                                                            \
    X(p->plain = CLMOE_Q8_0, INVALID, "plain = 6")                                                           \
    X(p->block = CLMOE_F32, INVALID, "block = 0")                                                            \
    X(p->block = (enum clmoe_dtype) - 1, INVALID, "block = -1")

#define QUANT_ARGS(X)                                                                                        \
    X(a->x.mem = NULL, INVALID, "x.mem is NULL")                                                             \
    X(a->q.mem = NULL, INVALID, "q.mem is NULL")                                                             \
    X(a->x.shape[0] = 8, INVALID, "x has 8 rows, the plan is for at most 7")                                 \
    X((a->q.stride[0] = 65, a->q.stride[1] = 1), INVALID, "q.stride[0] = 65 is no multiple of the block")    \
    X((a->q.mem = a->x.mem), INVALID, " overlaps ")

#define MOE_PARAMS(X)                                                                                        \
    X(p->max_tokens = -1, INVALID, "max_tokens = -1")                                                        \
    X(p->max_tokens = (int64_t)1 << 30, INVALID, "topk = 2")                                                 \
    X(p->experts = 0, INVALID, "experts = 0")                                                                \
    X(p->experts = 4097, INVALID, "experts = 4097")                                                          \
    X(p->topk = 0, INVALID, "topk = 0")                                                                      \
    X(p->topk = 5, INVALID, "topk = 5, experts = 4")                                                         \
    X(p->hidden = 0, INVALID, ": 0")                                                                         \
    X((p->max_tokens = ((int64_t)1 << 30) - 1, p->hidden = p->inter = (1 << 30) - 1), INVALID, "overflow")   \
    X(p->inter = -1, INVALID, ": -1")                                                                        \
    X(p->x_dtype = CLMOE_Q8_0, INVALID, "x_dtype = 6")                                                       \
    X(p->w_dtype = CLMOE_I32, INVALID, "w_dtype = 3")                                                        \
    X(p->mid_dtype = CLMOE_U8, INVALID, "mid_dtype = 5")                                                     \
    X(p->bias_dtype = CLMOE_I32, INVALID, "bias_dtype = 3")                                                  \
    X(p->source = (enum clmoe_moe_source)3, INVALID, "source = 3|router_bias is for")                        \
    X(p->source = CLMOE_MOE_LOGITS, INVALID, "router_bias is for CLMOE_MOE_ROUTER")                          \
    X(p->route.topk = 2, INVALID, "route")                                                                   \
    X(p->route.score = (enum clmoe_score)7, INVALID, "score = 7")                                            \
    X(p->route.scale = NAN, INVALID, "scale = ")                                                             \
    X(p->glu = (enum clmoe_glu)9, INVALID, "glu = 9")                                                        \
    X(p->act.up_max = NAN, INVALID, "act.up_max = ")                                                         \
    X(p->sum_scale = NAN, INVALID, "sum_scale = ")                                                           \
    X(p->latent = -1, INVALID, "latent = -1")                                                                \
    X(p->shared_experts.inter = 4, INVALID, "only one of them")                                              \
    X(p->unreduced = 1, INVALID, "unreduced, with residual = 1")                                             \
    X(p->adapters.count = 1025, INVALID, "adapters.count = 1025, experts = 4")                               \
    X(p->out_scale = NAN, INVALID, "out_scale = ")                                                           \
    X((p->adapters.count = 0, p->max_tokens = 1 << 29, p->hidden = p->inter = (1 << 30) - 1), UNSUPPORTED,   \
      "workspace")                                                                                           \
    X(p->plan.kernel = "moe_fast", INVALID, "moe_fast")                                                      \
    X(p->plan.kernel = "scatter_ref", INVALID, "scatter_ref")

#define MOE_ARGS(X)                                                                                          \
    X(a->x.shape[0] = 8, INVALID, "x has 8 rows, the plan is for at most 7")                                 \
    X(a->w1 = NULL, INVALID, "NULL")                                                                         \
    X(a->w2 = NULL, INVALID, "NULL")                                                                         \
    X(a->n_w = -1, INVALID, "n_w = -1")                                                                      \
    X(a->router = (struct clmoe_tensor){0}, INVALID, "router")                                               \
    X(a->logits = a->router, INVALID, "logits is given")                                                     \
    X(a->ids = a->out_ids, INVALID, "ids is given")                                                          \
    X(a->gamma = a->out_gamma, INVALID, "gamma is given")                                                    \
    X(a->down = a->x, INVALID, "down is given")                                                              \
    X(a->adapter_ids = a->select_bias, INVALID, "adapter_ids.dtype is 0")                                    \
    X(a->w1_up = a->w1, INVALID, "w_up is given")                                                            \
    X(a->y = a->x, INVALID, "y overlaps x")                                                                  \
    X(a->select_bias.mem = NULL, INVALID, "select_bias.mem is NULL")                                         \
    X(a->bias1.mem = NULL, INVALID, "mem is NULL")                                                           \
    X(a->bias2.mem = NULL, INVALID, "mem is NULL")                                                           \
    X(a->y.mem = a->w1[0].mem, INVALID, " overlaps ")                                                        \
    X(a->y.mem = a->w2[0].mem, INVALID, " overlaps ")                                                        \
    X(a->out_ids.mem = a->w2[0].mem, INVALID, " overlaps ")

#define LORA_PARAMS(X)                                                                                       \
    X(p->max_tokens = -1, INVALID, "max_tokens = -1")                                                        \
    X(p->adapters = 0, INVALID, "experts = 0|adapters = 0")                                                  \
    X(p->adapters = 4097, INVALID, "4097")                                                                   \
    X(p->topk = 0, INVALID, "topk = 0")                                                                      \
    X(p->topk = 4097, INVALID, "topk = 4097")                                                                \
    X(p->rank = 0, INVALID, ": 0")                                                                           \
    X(p->in = 0, INVALID, ": 0")                                                                             \
    X(p->out = 0, INVALID, ": 0")                                                                            \
    X(p->x_dtype = CLMOE_I32, INVALID, "x_dtype = 3")                                                        \
    X(p->w_dtype = CLMOE_Q8_0, INVALID, "w_dtype = 6")                                                       \
    X(p->kept_softmax = 1, INVALID, "kept_softmax is for CLMOE_LORA_SCALINGS")                               \
    X(p->source = (enum clmoe_lora_source)2, INVALID, "source = 2")                                          \
    X(p->route.temperature = -1, INVALID, "route.temperature = -1")                                          \
    X(p->route.n_group = 2, INVALID, "route")                                                                \
    X(p->source = CLMOE_LORA_SCALINGS, INVALID, "weights are for CLMOE_LORA_IDS")                            \
    X((p->source = CLMOE_LORA_SCALINGS, p->weights = 0, p->topk = 5), INVALID, "topk = 5")                   \
    X(p->scale = INFINITY, INVALID, "scale = inf")                                                           \
    X(p->plan.kernel = "lora", INVALID, "\"lora\"")

#define LORA_ARGS(X)                                                                                         \
    X(a->x.shape[0] = 8, INVALID, "x has 8 rows, the plan is for at most 7")                                 \
    X(a->scalings = a->weights, INVALID, "is given")                                                         \
    X(a->w = a->base, INVALID, "w is given")                                                                 \
    X(a->ids = (struct clmoe_tensor){0}, INVALID, "ids")                                                     \
    X(a->a.mem = NULL, INVALID, "mem is NULL")                                                               \
    X(a->b.mem = NULL, INVALID, "mem is NULL")                                                               \
    X(a->adapter_scale.mem = NULL, INVALID, "mem is NULL")                                                   \
    X(a->weights.mem = NULL, INVALID, "mem is NULL")                                                         \
    X(a->base.mem = NULL, INVALID, "mem is NULL")                                                            \
    X(a->y.mem = a->a.mem, INVALID, " overlaps ")                                                            \
    X(a->y.mem = a->b.mem, INVALID, " overlaps ")

#define TOPK_PARAMS(X)                                                                                       \
    X(p->max_rows = -1, INVALID, "max_rows = -1")                                                            \
    X(p->max_rows = INT64_MAX, INVALID, "max_rows = 9223372036854775807, n = 33")                            \
    X((p->pad = 1, p->k = (int64_t)1 << 31, p->max_rows = (int64_t)1 << 31), INVALID,                        \
      "max_rows = 2147483648, n = 33, k = 2147483648")                                                       \
    X(p->n = 0, INVALID, "n = 0")                                                                            \
    X(p->n = ((int64_t)1 << 31) + 1, INVALID, "n = 2147483649")                                              \
    X(p->k = -1, INVALID, "k = -1")                                                                          \
    X(p->k = 34, INVALID, "k = 34, n = 33, pad = 0")                                                         \
    X((p->pad = 1, p->k = ((int64_t)1 << 31) + 1), INVALID, "k = 2147483649, n = 33, pad = 1")               \
    X(p->pad = 2, INVALID, "pad = 2")                                                                        \
    X(p->dtype = CLMOE_Q8_0, INVALID, "dtype = 6")                                                           \
    X(p->dtype = CLMOE_DTYPE_COUNT, INVALID, "dtype = 21")                                                   \
    X(p->dtype = (enum clmoe_dtype) - 1, INVALID, "dtype = -1")                                              \
    X(p->smallest = -1, INVALID, "smallest = -1")                                                            \
    X(p->order = (enum clmoe_topk_order)3, INVALID, "order = 3")                                             \
    X(p->nan = (enum clmoe_nan)3, INVALID, "nan = 3")                                                        \
    X(p->ties = (enum clmoe_ties)2, INVALID, "ties = 2")                                                     \
    X(p->index_dtype = CLMOE_U32, INVALID, "index_dtype = 4")                                                \
    X(p->row_begin = 2, INVALID, "row_begin = 2")                                                            \
    X(p->row_length = -1, INVALID, "row_length = -1")                                                        \
    X(p->row_k = 3, INVALID, "row_k = 3")                                                                    \
    X(p->outputs = 128, INVALID, "outputs = 0x80")                                                           \
    X(p->outputs = 0x80000001u, INVALID, "outputs = 0x80000001")                                             \
    X(p->dense_scale = NAN, INVALID, "dense_scale = ")                                                       \
    X((p->dtype = CLMOE_I32, p->dense_scale = 2), INVALID, "dense_scale = 2 with dtype i32")                 \
    X((p->dtype = CLMOE_U8, p->dense_fill.u = 256), INVALID, "dense_fill = 0x100 is out of the range of u8") \
    X((p->dtype = CLMOE_I16, p->pad_value.i = -32769), INVALID,                                              \
      "pad_value = 0xffffffffffff7fff is out of the range of i16")                                           \
    X(p->plan.kernel = "topk_nothing", INVALID, "topk_nothing")

#define TOPK_ARGS(X)                                                                                         \
    X(a->x.mem = NULL, INVALID, "x.mem is NULL")                                                             \
    X(a->x.shape[0] = 8, INVALID, "x has 8 rows, the plan is for at most 7")                                 \
    X(a->x.ndim = 1, INVALID, "x.ndim = 1, expected 2 or 3")                                                 \
    X((a->x.ndim = 3, a->x.shape[2] = 3), INVALID, "x has 7 * 3 rows, the plan is for at most 7")            \
    X((a->x.ndim = 3, a->x.shape[2] = -1), INVALID, "x.shape = [7, .., -1]")                                 \
    X((a->x.ndim = 3, a->x.shape[2] = 1), INVALID, "values.ndim = 2, expected 3")                            \
    X(a->values = (struct clmoe_tensor){0}, INVALID, "values.ndim = 0")                                      \
    X(a->indices.mem = NULL, INVALID, "indices.mem is NULL")                                                 \
    X(a->dense = a->x, INVALID, "dense is given, but the plan was made without it")                          \
    X(a->counts = a->bitmask, INVALID, "counts is given, but the plan was made without it")                  \
    X(a->row_k = a->indices, INVALID, "row_k is given, but the plan was made without it")                    \
    X((a->values.stride[0] = 1, a->values.stride[1] = 1), INVALID, "rows of an output overlap")              \
    X((a->values.stride[0] = 1, a->values.stride[1] = 6), INVALID, "rows of an output overlap")              \
    X(a->mask.dtype = CLMOE_F32, INVALID, "mask.dtype is 0 (f32), expected u8")                              \
    X(a->values.mem = a->x.mem, INVALID, " overlaps ")                                                       \
    X(a->bitmask.shape[1] = 1, INVALID, "bitmask.shape[1] = 1, expected 2")

#define ALL_OPS(X)                                                                                           \
    X(combine, COMBINE)                                                                                      \
    X(scatter, SCATTER)                                                                                      \
    X(permute, PERMUTE)                                                                                      \
    X(route, ROUTE)                                                                                          \
    X(matmul, MATMUL)                                                                                        \
    X(matmul_pack, MATMUL_PACK)                                                                              \
    X(quant, QUANT)                                                                                          \
    X(moe, MOE)                                                                                              \
    X(lora, LORA)                                                                                            \
    X(topk, TOPK)

/* ---- edits of the call itself, the same for all operations ---- */

struct world {
    struct sample s;
    clmoe_plan *plan;
    cl_command_queue queue;
    const void *args;
    cl_uint n_wait;
    const cl_event *wait;
};
static cl_event null_event, gate;
static cl_context foreign;
static cl_command_queue foreign_queue;
static clmoe_plan *other_plan(const struct world *w);

#define CALLS(X)                                                                                             \
    X(w->plan = NULL, INVALID, "")                                                                           \
    X(w->queue = NULL, INVALID, "queue is NULL")                                                             \
    X(w->args = NULL, INVALID, "args is NULL")                                                               \
    X(w->n_wait = 1, INVALID, "n_wait = 1, wait = ")                                                         \
    X(w->wait = &gate, INVALID, "n_wait = 0, wait = ")                                                       \
    X((w->n_wait = 1, w->wait = &null_event), INVALID, "wait[0] is NULL")                                    \
    X(w->queue = foreign_queue, INVALID, "the queue belongs to another context")                             \
    X(w->plan = other_plan(w), INVALID, "the plan is for ")

/* ---- edits of one tensor `t`, the same for all tensors of all operations ---- */

static cl_mem spare_buffer(cl_context context, cl_mem_flags flags, size_t size);
static void overlap(struct world *w, struct clmoe_tensor *t, bool by_sub_buffer);
static void set_strides(struct clmoe_tensor *t, int64_t factor, int64_t last);

#define TENSORS(X)                                                                                           \
    X(t->dtype = t->dtype == CLMOE_U8 ? CLMOE_I32 : CLMOE_U8, INVALID, ".dtype is ")                         \
    X(t->dtype = (enum clmoe_dtype)99, INVALID, ".dtype is 99 (unknown)")                                    \
    X(t->dtype = (enum clmoe_dtype) - 1, INVALID, ".dtype is -1 (unknown)")                                  \
    X(t->ndim = 0, INVALID, ".ndim = 0")                                                                     \
    X(t->ndim = t->ndim == 4 ? 3 : 4, INVALID, ".ndim = ")                                                   \
    X(t->ndim = -1, INVALID, ".ndim = -1")                                                                   \
    X(t->ndim = 1000000, INVALID, ".ndim = 1000000")                                                         \
    X(t->shape[t->ndim - 1]--, INVALID, "")                                                                  \
    X(t->shape[t->ndim - 1] = -1, INVALID, "")                                                               \
    X(t->shape[0] = INT64_MAX, INVALID, "")                                                                  \
    X(t->shape[0] = INT64_MIN, INVALID, "")                                                                  \
    X(set_strides(t, -1, 1), INVALID, ".stride[|rows of an output")                                          \
    X(set_strides(t, 1 << 20, 2), INVALID, "the last must be 1|must be contiguous|needs ")                   \
    X(set_strides(t, 1, -1), INVALID, ".stride[")                                                            \
    X(set_strides(t, 1 << 20, 1), INVALID, "needs |must be contiguous|the last must be 1")                   \
    X((set_strides(t, 1, 1), t->stride[0] = INT64_MAX / 64), INVALID,                                        \
      "overflow|must be contiguous|the last must be 1|no multiple")                                          \
    X(t->mem = spare_buffer(w->s.context, CL_MEM_READ_WRITE, 1), INVALID, "its buffer has 1")                \
    X(t->mem = spare_buffer(foreign, CL_MEM_READ_WRITE, 1 << 16), INVALID, "is a buffer of another context") \
    X(t->mem = spare_buffer(w->s.context, written ? CL_MEM_READ_ONLY : CL_MEM_WRITE_ONLY, 1 << 16), INVALID, \
      "its buffer has flags")                                                                                \
    X(t->offset += t->dtype == CLMOE_U8 ? 1 << 20 : 1, INVALID, ".offset = |needs ")                         \
    X(t->offset = (uint64_t)1 << 20, INVALID, " bytes from offset 1048576 on, its buffer has")               \
    X(t->offset = UINT64_MAX - 63, INVALID, " bytes from offset 18446744073709551552 on")                    \
    X(overlap(w, t, false), INVALID, " overlaps ")                                                           \
    X(overlap(w, t, true), INVALID, " overlaps ")

/* ---- the tables, made of the lists ---- */

struct row {
    const char *edit;
    int status;
    const char *message; /* alternatives are separated by | */
};
#define ROW(edit, status, message) {#edit, status, message},
#define APPLY(edit, status, message)                                                                         \
    if (n++ == i) edit;

#define OP_TABLES(op, OP)                                                                                    \
    static const struct row op##_params_rows[] = {OP##_PARAMS(ROW)};                                         \
    static void op##_params_edit(struct sample *s, int i) {                                                  \
        __typeof__(s->params.op) *const p = &s->params.op; /* pack has the params of the product */          \
        int n = 0;                                                                                           \
        OP##_PARAMS(APPLY)                                                                                   \
    }                                                                                                        \
    static const struct row op##_args_rows[] = {OP##_ARGS(ROW)};                                             \
    static void op##_args_edit(struct sample *s, int i) {                                                    \
        struct clmoe_##op##_args *const a = &s->args.op;                                                     \
        int n = 0;                                                                                           \
        OP##_ARGS(APPLY)                                                                                     \
    }
ALL_OPS(OP_TABLES)

#define COUNT(rows) (int)(sizeof rows / sizeof *rows)
struct op_rows {
    const char *op;
    const struct row *params, *args;
    int n_params, n_args;
    void (*edit_params)(struct sample *s, int i);
    void (*edit_args)(struct sample *s, int i);
};
#define OP_ROWS(op, OP)                                                                                      \
    {#op,                                                                                                    \
     op##_params_rows,                                                                                       \
     op##_args_rows,                                                                                         \
     COUNT(op##_params_rows),                                                                                \
     COUNT(op##_args_rows),                                                                                  \
     op##_params_edit,                                                                                       \
     op##_args_edit},
static const struct op_rows tables[] = {ALL_OPS(OP_ROWS)};

static const struct row call_rows[] = {CALLS(ROW)};
static void edit_call(struct world *w, int i) {
    int n = 0;
    CALLS(APPLY)
}

static const struct row tensor_rows[] = {TENSORS(ROW)};
static void edit_tensor(struct world *w, int tensor, int i) {
    struct clmoe_tensor *const t = w->s.tensors[tensor].tensor;
    const bool written = w->s.tensors[tensor].written;
    int n = 0;
    TENSORS(APPLY)
}

/* ---- what the edits need ---- */

static struct logbook book;
static clmoe_context *ctx;
static clmoe_plan *others[2];
static cl_mem spares[8];
static int n_spares;

static cl_mem spare_buffer(cl_context context, cl_mem_flags flags, size_t size) {
    cl_int err;
    ck_assert_int_lt(n_spares, 8);
    return spares[n_spares++] = clCreateBuffer(context, flags, size, NULL, &err);
}

static clmoe_plan *other_plan(const struct world *w) {
    return others[strcmp(sample_name(0), tables[0].op) == 0 && w->plan != NULL &&
                  strncmp(clmoe_plan_describe(w->plan), sample_name(0), strlen(sample_name(0))) == 0];
}

/* Contiguous strides, all but the last times `factor`. */
static void set_strides(struct clmoe_tensor *t, int64_t factor, int64_t last) {
    int64_t contiguous = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        t->stride[d] = d == t->ndim - 1 ? last : contiguous * factor;
        contiguous *= t->shape[d];
    }
    if (t->ndim == 1) t->stride[0] = factor == 1 ? last : factor;
}

/* Lays `t` and an output (the first one that is another tensor; an input, if `t` is the only output) into one
 * buffer so that they share some bytes, but are not the same view. */
static void overlap(struct world *w, struct clmoe_tensor *t, bool by_sub_buffer) {
    struct clmoe_tensor *output = NULL, *input = NULL;
    for (int i = 0; i < w->s.n_tensors; i++) {
        struct clmoe_tensor *const other = w->s.tensors[i].tensor;
        if (other == t) continue;
        if (w->s.tensors[i].written && !output) output = other;
        if (!w->s.tensors[i].written && !input) input = other;
    }
    struct clmoe_tensor *const other = output ? output : input;
    const cl_mem arena = spare_buffer(w->s.context, CL_MEM_READ_WRITE, 1 << 16);
    t->mem = other->mem = arena;
    t->offset = 4096;
    other->offset = 4100; /* every tensor here is longer than an element */
    if (!by_sub_buffer) return;
    const cl_buffer_region low = {0, 1 << 15}, high = {4096, 1 << 15};
    cl_int err;
    t->mem = clCreateSubBuffer(arena, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &low, &err);
    other->mem = clCreateSubBuffer(arena, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &high, &err);
    spares[n_spares++] = t->mem;
    spares[n_spares++] = other->mem;
    other->offset = 4;
}

static bool says(const char *log, const char *alternatives) {
    for (const char *p = alternatives;; p++) {
        const size_t size = strcspn(p, "|");
        char part[200];
        snprintf(part, sizeof part, "%.*s", (int)size, p);
        if (strstr(log, part)) return true;
        p += size;
        if (!*p) return false;
    }
}

/* ---- running one row ---- */

enum kind { KIND_PARAMS, KIND_ARGS, KIND_CALL, KIND_TENSOR };
struct misuse {
    enum kind kind;
    int table, sample, tensor, row;
};
static struct misuse list[8192];
static int n_list;

static const struct row *row_of(const struct misuse *m) {
    switch (m->kind) {
    case KIND_PARAMS: return &tables[m->table].params[m->row];
    case KIND_ARGS: return &tables[m->table].args[m->row];
    case KIND_CALL: return &call_rows[m->row];
    default: return &tensor_rows[m->row];
    }
}

static void judge(const struct row *row, enum clmoe_status status, const void *handle) {
    case_require((int)status == row->status, "%s, expected %s; the log says: %s", clmoe_status_name(status),
                 clmoe_status_name((enum clmoe_status)row->status), book.text);
    case_require(handle == NULL, "the handle is not NULL after a failure");
    case_require(says(book.text, row->message), "the log has no \"%s\": %s", row->message, book.text);
    case_require(!*row->message || book.levels[CLMOE_LOG_ERROR] == 1, "%d messages: %s",
                 book.levels[CLMOE_LOG_ERROR], book.text);
}

static void misuse_params(const struct misuse *m) {
    struct sample s;
    clmoe_plan *plan = (clmoe_plan *)&s;
    sample_open(&s, m->sample, tester()->context, SAMPLE_TOKENS);
    tables[m->table].edit_params(&s, m->row);
    const struct layer_counts before = layer_now();
    logbook_clear(&book);
    const enum clmoe_status status = sample_plan(&s, ctx, &plan);
    const struct layer_counts after = layer_now();
    judge(row_of(m), status, plan);
    for (int i = 0; i < LAYER_OBJECTS;
         i++) /* programs of a layer's first stages stay in the context's cache */
        if (i != LAYER_PROGRAM) ck_assert_int_eq(after.references[i], before.references[i]);
    sample_close(&s);
}

static void misuse_call(const struct misuse *m) {
    struct world w = {0};
    sample_open(&w.s, m->sample, tester()->context, SAMPLE_TOKENS);
    const struct sample right = w.s;
    case_ok(sample_plan(&w.s, ctx, &w.plan));
    clmoe_plan *own = w.plan;
    w.queue = tester()->queue;
    w.args = &w.s.args;
    if (m->kind == KIND_ARGS) tables[m->table].edit_args(&w.s, m->row);
    if (m->kind == KIND_CALL) edit_call(&w, m->row);
    if (m->kind == KIND_TENSOR) edit_tensor(&w, m->tensor, m->row);
    const struct layer_counts before = layer_now();
    logbook_clear(&book);
    cl_event event = (cl_event)&w;
    const enum clmoe_status status =
        sample_enqueue_raw(m->sample, w.plan, w.queue, w.args, w.n_wait, w.wait, &event);
    const struct layer_counts after = layer_now();
    judge(row_of(m), status, event);
    case_require(after.enqueued == before.enqueued, "something was enqueued");
    ck_assert_mem_eq(after.references, before.references, sizeof after.references);
    case_require(sample_outputs(&right, tester()->queue) == sample_poison(m->sample),
                 "an output was written");
    clmoe_plan_destroy(&own);
    sample_close(&w.s);
    while (n_spares)
        clReleaseMemObject(spares[--n_spares]);
}

START_TEST(misuse) {
    const struct misuse *const m = &list[_i];
    struct sample s;
    sample_open(&s, m->sample, tester()->context, SAMPLE_TOKENS);
    case_begin("%s: %s%s%s", sample_name(m->sample), m->kind == KIND_TENSOR ? s.tensors[m->tensor].name : "",
               m->kind == KIND_TENSOR ? ": " : "", row_of(m)->edit);
    sample_close(&s);
    if (m->kind == KIND_PARAMS)
        misuse_params(m);
    else
        misuse_call(m);
}
END_TEST

/* NULL where plan functions take a pointer. */
START_TEST(null_pointers_to_plan) {
    struct sample s;
    clmoe_plan *plan = (clmoe_plan *)&s;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    ck_assert_int_eq(sample_plan_raw(_i, NULL, &s.params, &plan), CLMOE_E_INVALID);
    ck_assert_ptr_null(plan);
    plan = (clmoe_plan *)&s;
    logbook_clear(&book);
    ck_assert_int_eq(sample_plan_raw(_i, ctx, NULL, &plan), CLMOE_E_INVALID);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(logbook_count(&book, "params is NULL"), 1);
    ck_assert_int_eq(sample_plan_raw(_i, ctx, &s.params, NULL), CLMOE_E_INVALID);
    ck_assert_int_eq(sample_plan_raw(_i, NULL, NULL, NULL), CLMOE_E_INVALID);
    sample_close(&s);
}
END_TEST

/* An operation without rows in the tables would go untested. */
START_TEST(every_operation_has_rows) {
    for (int i = 0; i < sample_count(); i++) {
        bool found = false;
        for (int t = 0; t < COUNT(tables); t++)
            found |= strcmp(tables[t].op, sample_name(i)) == 0;
        case_require(found, "no misuses of %s", sample_name(i));
    }
}
END_TEST

/* ---- main ---- */

static void add(struct misuse m) {
    if (n_list == COUNT(list)) abort();
    list[n_list++] = m;
}

static void fill_list(void) {
    for (int i = 0; i < sample_count(); i++) {
        int t = 0;
        while (t < COUNT(tables) && strcmp(tables[t].op, sample_name(i)) != 0)
            t++;
        for (int r = 0; t < COUNT(tables) && r < tables[t].n_params; r++)
            add((struct misuse){KIND_PARAMS, t, i, 0, r});
        for (int r = 0; t < COUNT(tables) && r < tables[t].n_args; r++)
            add((struct misuse){KIND_ARGS, t, i, 0, r});
        for (int r = 0; r < COUNT(call_rows); r++)
            add((struct misuse){KIND_CALL, t, i, 0, r});
        struct sample s;
        sample_open(&s, i, tester()->context, SAMPLE_TOKENS);
        for (int k = 0; k < s.n_tensors; k++)
            for (int r = 0; r < COUNT(tensor_rows); r++)
                add((struct misuse){KIND_TENSOR, t, i, k, r});
        sample_close(&s);
    }
    printf("%d misuses\n", n_list);
}

static void add_tests(TCase *cases) {
    cl_int err;
    ctx = logged_context(&book, NULL, no_caps);
    foreign = clCreateContext(NULL, 1, &tester()->device, NULL, NULL, &err);
    foreign_queue = clCreateCommandQueue(foreign, tester()->device, 0, &err);
    gate = clCreateUserEvent(tester()->context, &err);
    for (int i = 0; i < 2; i++) {
        struct sample s;
        sample_open(&s, i, tester()->context, SAMPLE_TOKENS);
        sample_plan(&s, ctx, &others[i]);
        sample_close(&s);
    }
    fill_list();
    tcase_add_loop_test(cases, misuse, 0, n_list);
    tcase_add_loop_test(cases, null_pointers_to_plan, 0, sample_count());
    tcase_add_test(cases, every_operation_has_rows);
}

int main(void) {
    const int result = harness_main("misuse", "", add_tests);
    for (int i = 0; i < 2; i++)
        clmoe_plan_destroy(&others[i]);
    clmoe_context_destroy(&ctx);
    clReleaseEvent(gate);
    clReleaseCommandQueue(foreign_queue);
    clReleaseContext(foreign);
    return result;
}
