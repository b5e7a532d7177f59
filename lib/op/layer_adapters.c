/* SPDX-License-Identifier: MIT
 * Adapters on experts. Adapter a of expert e is a virtual expert a*E + e: two more grouped products make what
 * it adds, and the experts' own products take that before their activation. */
#include "layer_stages.h"

#include "operands.h"

/* Gate and up have an A and a B of their own. */
static bool apart(const struct layer_params *p) {
    return p->adapters.glu == CLMOE_GLU_APART;
}

/* Rows of B of the first product, and of what it writes. */
static int64_t rows1(const struct layer_params *p) {
    return p->glu == CLMOE_GLU_NONE || apart(p) ? p->mid : 2 * p->mid;
}

int64_t layer_adapters_width(const struct layer_params *p) {
    const int64_t first = p->glu == CLMOE_GLU_NONE ? p->mid : 2 * p->mid, second = layer_expert_out(p);
    return first > second ? first : second;
}

enum clmoe_status layer_adapters_check_params(const struct log *log, const struct layer_params *p) {
    const struct clmoe_moe_adapters *const a = &p->adapters;
    REQUIRE(log, a->count >= 0 && (int64_t)a->count * p->experts <= 4096,
            "adapters.count = %d, experts = %d: more than 4096 together", (int)a->count, (int)p->experts);
    if (a->count == 0) return CLMOE_OK;
    REQUIRE(log, a->rank >= 1 && a->rank < 1 << 30, "adapters.rank = %lld", (long long)a->rank);
    REQUIRE(log, dtype_is_float(a->dtype), "adapters.dtype = %d", (int)a->dtype);
    REQUIRE(log, a->glu >= CLMOE_GLU_NONE && a->glu <= CLMOE_GLU_APART, "adapters.glu = %d", (int)a->glu);
    REQUIRE(log, (a->glu == CLMOE_GLU_NONE) == (p->glu == CLMOE_GLU_NONE), "adapters.glu = %d, glu = %d",
            (int)a->glu, (int)p->glu);
    REQUIRE(log, product_fits(p->max_tokens * p->topk, a->rank + layer_adapters_width(p), INT64_MAX / 16),
            "max_tokens = %lld, topk = %d, adapters.rank = %lld: the adapters' buffers overflow",
            (long long)p->max_tokens, (int)p->topk, (long long)a->rank);
    return CLMOE_OK;
}

enum clmoe_status layer_adapters_add(clmoe_plan *layer) {
    struct layer_problem *const l = layer->problem;
    const struct adapter_problem problem = {l->p.topk, l->p.experts, l->p.adapters.count};
    const struct clmoe_plan_options options = plan_stage_options(&l->p.plan);
    TRY(adapter_stage(layer->ctx, &problem, &options, &l->adapter));
    plan_add_stage(layer, l->adapter);
    return CLMOE_OK;
}

/* x . A^T . B^T for both products. The adapter's scale is the gamma of B; where the experts take a weighted
 * input, so does A. */
enum clmoe_status layer_adapters_add_path(clmoe_plan *layer, int64_t tokens, enum clmoe_routing routing,
                                          struct path *path) {
    const struct layer_problem *const l = layer->problem;
    const struct layer_params *const p = &l->p;
    const struct clmoe_matmul_params common = {
        .plan = plan_stage_options(&p->plan),
        .max_tokens = tokens,
        .topk = p->topk,
        .experts = p->adapters.count * p->experts,
        .w_dtype = p->adapters.dtype,
        .routing = routing,
    };
    struct clmoe_matmul_params a = common, b = common;
    a.in = layer_expert_in(p);
    a.out = b.in = p->adapters.rank;
    a.x_dtype = layer_expert_dtype(p);
    a.x_rows = CLMOE_ROWS_TOKEN;
    a.gamma = p->gamma == CLMOE_GAMMA_INPUT ? CLMOE_GAMMA_INPUT : CLMOE_GAMMA_NONE;
    b.out = rows1(p);
    b.gamma = CLMOE_GAMMA_OUTPUT;
    TRY(layer_add_matmul(layer, &a, &path->a1));
    TRY(layer_add_matmul(layer, &b, &path->b1));
    a.in = p->mid;
    a.x_dtype = p->mid_dtype;
    a.x_rows = CLMOE_ROWS_PAIR;
    a.gamma = CLMOE_GAMMA_NONE;
    b.out = layer_expert_out(p);
    TRY(layer_add_matmul(layer, &a, &path->a2));
    return layer_add_matmul(layer, &b, &path->b2);
}

/* ---- one call ---- */

/* Where B writes: columns from `column` on of rows of `width`. */
static struct clmoe_tensor delta(const clmoe_plan *plan, int64_t pairs, int64_t width, int64_t column,
                                 int64_t n) {
    const struct layer_problem *const l = plan->problem;
    struct clmoe_tensor t = layer_own(plan, l->parts.delta, CLMOE_F32, pairs, n);
    t.offset += (uint64_t)column * sizeof(float);
    t.stride[0] = width;
    t.stride[1] = 1;
    return t;
}

void layer_adapters_addends(const clmoe_plan *plan, int64_t t, struct clmoe_matmul_args *first,
                            struct clmoe_matmul_args *second) {
    const struct layer_problem *const l = plan->problem;
    const struct layer_params *const p = &l->p;
    const int64_t pairs = t * p->topk, mid = p->mid, out = layer_expert_out(p);
    const bool interleaved = p->adapters.glu == CLMOE_GLU_INTERLEAVED;
    const bool up_first = p->adapters.glu == CLMOE_GLU_UP_GATE;
    second->add = delta(plan, pairs, out, 0, out);
    if (p->glu == CLMOE_GLU_NONE) {
        first->add = delta(plan, pairs, mid, 0, mid);
        return;
    }
    first->add = delta(plan, pairs, 2 * mid, up_first ? mid : 0, mid);
    first->add_up = delta(plan, pairs, 2 * mid, interleaved ? 1 : up_first ? 0 : mid, mid);
    if (interleaved) first->add.stride[1] = first->add_up.stride[1] = 2;
}

/* One pair of products: x -> z -> y. */
static enum clmoe_status check_pair(clmoe_plan *const stages[2], struct clmoe_matmul_args *args,
                                    const struct clmoe_tensor *a, const struct clmoe_tensor *b,
                                    const struct clmoe_tensor *z, const struct clmoe_tensor *y,
                                    const struct clmoe_tensor *weights, const struct written *written,
                                    struct matmul_call *calls[2]) {
    args->w = a;
    args->y = *z;
    TRY(matmul_check(stages[0], args, written, calls[0]));
    args->x = *z;
    args->w = b;
    args->gamma = *weights;
    args->y = *y;
    return matmul_check(stages[1], args, written, calls[1]);
}

static enum clmoe_status check_routing(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                       bool sorted, struct clmoe_tensor *weights,
                                       struct clmoe_matmul_args *routing, struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const int32_t experts = l->p.adapters.count * l->p.experts, k = l->p.topk;
    *weights = layer_own(plan, l->parts.weights, CLMOE_F32, t, k);
    routing->ids = layer_own(plan, l->parts.virtuals, CLMOE_I32, t, k);
    const struct adapter_args adapter = {a->ids, a->adapter_ids, a->adapter_scale, routing->ids, *weights};
    TRY(adapter_check(l->adapter, &adapter, t, &calls->adapter));
    if (!sorted) return CLMOE_OK;
    routing->offsets = layer_own_1d(plan, l->parts.virtual_offsets, CLMOE_I32, experts + 1);
    routing->order = layer_own_1d(plan, l->parts.virtual_order, CLMOE_I32, t * k);
    const struct clmoe_permute_args permute = {
        .ids = routing->ids,
        .counts = layer_own_1d(plan, l->parts.virtual_counts, CLMOE_I32, experts),
        .offsets = routing->offsets,
        .order = routing->order,
    };
    return permute_check(l->adapter_permute, &permute, &calls->adapter_permute);
}

enum clmoe_status layer_adapters_check(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                       const struct path *path, const struct clmoe_matmul_args *first,
                                       const struct written *written, struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const struct layer_params *const p = &l->p;
    const int64_t pairs = t * p->topk, width = p->glu == CLMOE_GLU_NONE ? p->mid : 2 * p->mid;
    struct clmoe_matmul_args routing = {0};
    struct clmoe_tensor weights;
    TRY(check_routing(plan, a, t, path == &l->many, &weights, &routing, calls));
    const struct clmoe_tensor z = layer_own(plan, l->parts.z, CLMOE_F32, pairs, p->adapters.rank);
    clmoe_plan *const products1[2] = {path->a1, path->b1}, *const products2[2] = {path->a2, path->b2};
    struct clmoe_matmul_args args = routing;
    struct clmoe_tensor y = delta(plan, pairs, width, 0, rows1(p));
    args.x = first->x;
    args.gamma = first->gamma;
    TRY(check_pair(products1, &args, &a->a1, &a->b1, &z, &y, &weights, written,
                   (struct matmul_call *[2]){&calls->a1, &calls->b1}));
    if (apart(p)) {
        args = routing;
        args.x = first->x;
        args.gamma = first->gamma;
        y = delta(plan, pairs, width, p->mid, p->mid);
        TRY(check_pair(products1, &args, &a->a1_up, &a->b1_up, &z, &y, &weights, written,
                       (struct matmul_call *[2]){&calls->a1_up, &calls->b1_up}));
    }
    args = routing;
    args.x = first->y;
    y = delta(plan, pairs, layer_expert_out(p), 0, layer_expert_out(p));
    return check_pair(products2, &args, &a->a2, &a->b2, &z, &y, &weights, written,
                      (struct matmul_call *[2]){&calls->a2, &calls->b2});
}
