/* SPDX-License-Identifier: MIT
 * Inside of the layer: its stages, its workspace, and one call's way through them. layer_plan.c makes the
 * stages, layer_call.c fills in what they get in one call and launches them, layer_adapters.c does both for
 * adapters on experts, layer_offload.c numbers and launches experts that are in host memory. */
#ifndef CLMOE_OP_LAYER_STAGES_H
#define CLMOE_OP_LAYER_STAGES_H

#include "adapter.h"
#include "combine.h"
#include "kernel/offload.h"
#include "layer.h"
#include "matmul.h"
#include "offload.h"
#include "permute.h"
#include "route.h"

/* Two products with the same routing. With adapters, what theirs add to both: a shrinks to the rank, b
 * expands. */
struct path {
    clmoe_plan *first, *second;
    clmoe_plan *a1, *b1, *a2, *b2;
};

/* Offsets of the layer's own buffers in the workspace, in bytes. */
struct parts {
    uint64_t logits, ids, gamma, identity, kept_ids, chosen_gamma; /* routing */
    uint64_t numbers;                                              /* offload: what products take for ids */
    uint64_t counts, offsets, order, h, o;
    uint64_t narrow, narrow_sum, wide;      /* latent: [T, Z] before and after the experts, [T, out] */
    uint64_t shared_h, shared_gate, shared; /* [T, S], [T, 1], [T, out]: the last also of the base */
    uint64_t virtuals, weights, virtual_counts, virtual_offsets, virtual_order; /* adapters' routing */
    uint64_t z, delta; /* [T*k, r], [T*k, layer_adapters_width] */
    uint64_t end;
};

struct layer_problem {
    struct layer_params p;
    struct parts parts;
    /* NULL: not part of this layer */
    clmoe_plan *router, *route, *kept, *combine;
    clmoe_plan *permute; /* nor where the kernel that routes sorts the pairs along the way */
    clmoe_plan *down, *up, *finish;
    clmoe_plan *shared_gate, *shared_first, *shared_second, *base;
    clmoe_plan *adapter, *adapter_permute;
    clmoe_plan *numbers; /* offload */
    struct path few, many;
    int64_t few_tokens; /* calls of up to this many tokens take `few` */
};

/* What one call passes to its stages. Calls of products point to tensors of weights, which must live until
 * the launches: `args` is the caller's, with the routing filled in, and `w_` are those that are made here. */
struct stage_calls {
    struct layer_args args;
    struct offload_call numbers;
    struct clmoe_tensor w_router, w_down, w_up, w_shared_gate, w_shared_first, w_shared_up, w_shared_second,
        w_base;
    struct matmul_call router, down, up, shared_gate, shared_first, shared_second, base, first, second;
    struct matmul_call a1, a1_up, b1, b1_up, a2, b2;
    struct combine_call combine, finish;
    struct route_call route, kept;
    struct permute_call permute, adapter_permute;
    struct adapter_call adapter;
};

/* Columns of the logits: zero experts have some, but no weights. */
static inline int32_t layer_logits(const struct layer_params *p) {
    return p->route.experts + p->route.zero_experts;
}

/* Ids that products and the sort see are below that. */
static inline int32_t layer_numbers(const struct layer_params *p) {
    return p->offload ? SLOTS_NUMBERS(p->experts) : p->experts;
}

/* What the experts work on, and what they make. */
static inline int64_t layer_expert_in(const struct layer_params *p) {
    return p->latent ? p->latent : p->in;
}
static inline int64_t layer_expert_out(const struct layer_params *p) {
    return p->latent ? p->latent : p->out;
}
static inline enum clmoe_dtype layer_expert_dtype(const struct layer_params *p) {
    return p->latent ? p->mid_dtype : p->x_dtype;
}

/* A part of the workspace as a tensor. */
struct clmoe_tensor layer_own(const clmoe_plan *plan, uint64_t part, enum clmoe_dtype dtype, int64_t rows,
                              int64_t n);
struct clmoe_tensor layer_own_1d(const clmoe_plan *plan, uint64_t part, enum clmoe_dtype dtype, int64_t n);

/* Makes one grouped product as a stage of the layer. */
enum clmoe_status layer_add_matmul(clmoe_plan *layer, const struct clmoe_matmul_params *params,
                                   clmoe_plan **stage);

/* The sort by the ids of `experts` experts. */
enum clmoe_status layer_add_permute(clmoe_plan *layer, int32_t experts, clmoe_plan **stage);

/* All stages, after the parts are laid out. */
enum clmoe_status layer_add_stages(clmoe_plan *layer);
struct parts layer_lay_out(const struct layer_params *p);

/* Checks everything of one call of `t` > 0 tokens. */
enum clmoe_status layer_check_stages(const clmoe_plan *plan, const struct layer_args *args, int64_t t,
                                     const struct path *path, const struct written *written,
                                     struct stage_calls *calls);
enum clmoe_status layer_launch(const clmoe_plan *plan, const struct path *path,
                               const struct stage_calls *calls, struct launch *launch);

/* ---- experts in host memory: layer_offload.c ---- */

/* The stage that numbers experts by the slots they are in. */
enum clmoe_status layer_offload_add(clmoe_plan *layer);

/* Fills its call; the products take what it writes for ids. */
enum clmoe_status layer_offload_check(const clmoe_plan *plan, const struct layer_args *args, int64_t t,
                                      struct clmoe_matmul_args *first, struct stage_calls *calls);

/* The sort and the products. */
enum clmoe_status layer_offload_launch(const clmoe_plan *plan, const struct path *path,
                                       const struct stage_calls *calls, struct launch *launch);

/* ---- adapters on experts: layer_adapters.c ---- */

enum clmoe_status layer_adapters_check_params(const struct log *log, const struct layer_params *p);

/* The stage that numbers virtual experts. */
enum clmoe_status layer_adapters_add(clmoe_plan *layer);

/* The four products of a path. */
enum clmoe_status layer_adapters_add_path(clmoe_plan *layer, int64_t tokens, enum clmoe_routing routing,
                                          struct path *path);

/* Columns of the buffer that the adapters' parts of both products take turns in. */
int64_t layer_adapters_width(const struct layer_params *p);

/* Fills the calls of the adapters; `first` is what the first product of the experts gets. */
enum clmoe_status layer_adapters_check(const clmoe_plan *plan, const struct layer_args *args, int64_t t,
                                       const struct path *path, const struct clmoe_matmul_args *first,
                                       const struct written *written, struct stage_calls *calls);

/* What the adapters add, as operands of both products. */
void layer_adapters_addends(const clmoe_plan *plan, int64_t t, struct clmoe_matmul_args *first,
                            struct clmoe_matmul_args *second);

#endif
