/* SPDX-License-Identifier: MIT
 * Random problems of matmul for its checks: host data, device tensors in any layout, comparison. */
#ifndef CLMOE_CHECK_MATMUL_CASE_H
#define CLMOE_CHECK_MATMUL_CASE_H

#include "harness.h"
#include "ref/matmul.h"

#define MATMUL_PARTS 64

struct matmul_sample {
    struct clmoe_matmul_params params;
    struct ref_matmul ref; /* with the arrays below */
    int64_t pairs;
    float *x, *gate, *up, *bias_gate, *bias_up, *add_gate, *add_up, *expert_scale, *gamma, *got;
    unsigned char *raw_gate,
        *raw_up;               /* block formats and codes: the same weights, [E, N, K]; 4 bits: a byte each */
    float *scales, *scales_up; /* codes: as w_scale and w_scale_up have them */
    unsigned char *zeros, *zeros_up; /* in the order of scales, a byte each */
    int32_t *ids, *offsets, *order, *limits;
    double *want, *magnitude; /* in the order of the rows of y */
    int parts;                /* buffers of weights */
    bool aligned;             /* rows on the device begin at multiples of 16 bytes where that is possible */
};

/* What one call needs on the device. `args` points into this struct. */
struct matmul_operands {
    struct guarded x, bias, bias_up, add, limits, gamma, expert_scale, ids, offsets, order, y;
    struct guarded w[MATMUL_PARTS], w_up[MATMUL_PARTS], w_scale[MATMUL_PARTS], w_scale_up[MATMUL_PARTS];
    struct guarded w_zero[MATMUL_PARTS], w_zero_up[MATMUL_PARTS];
    struct clmoe_tensor w_views[MATMUL_PARTS], w_up_views[MATMUL_PARTS];
    struct clmoe_tensor w_scale_views[MATMUL_PARTS], w_scale_up_views[MATMUL_PARTS];
    struct clmoe_tensor w_zero_views[MATMUL_PARTS], w_zero_up_views[MATMUL_PARTS];
    int parts;
    struct clmoe_matmul_args args;
};

/* A zeroed array that is never NULL. */
void *matmul_room(int64_t count, size_t size);

/* Random data for params and `tokens`, ids by `fill`; rows of x of skipped pairs and weights of experts that
 * nobody uses are NaN. Computes nothing yet. */
struct matmul_sample matmul_sample_make(struct rng *rng, const struct clmoe_matmul_params *params,
                                        int64_t tokens, enum routing_fill fill, int parts);
/* The same with ids and a number of buffers that fit the params, both picked by `structure`. */
struct matmul_sample matmul_sample_pick(struct rng *structure, struct rng *rng,
                                        const struct clmoe_matmul_params *params, int64_t tokens);
/* offsets and order from ids, as clmoe_permute makes them. */
void matmul_sample_sort(struct matmul_sample *s);
/* want and magnitude from the data as it is. */
void matmul_sample_solve(struct matmul_sample *s);
void matmul_sample_free(struct matmul_sample *s);

/* Where the gate or up weight (e, n, k) is in a dense tensor in the order of the params, in elements; with
 * GLU_APART in the tensor it belongs to. */
int64_t matmul_w_index(const struct clmoe_matmul_params *params, bool up, int64_t e, int64_t n, int64_t k);

void matmul_upload(struct rng *rng, const struct matmul_sample *s, struct matmul_operands *d);
/* Weights only: fills w, w_up and their views. */
void matmul_upload_weights(struct rng *rng, const struct matmul_sample *s, struct matmul_operands *d);
void matmul_operands_free(struct matmul_operands *d);

/* Reads y into s->got and compares with s->want. */
void matmul_compare(struct matmul_sample *s, const struct matmul_operands *d);

/* Packs the weights of `s` and compares with the formula of the header. */
void matmul_check_packing(struct rng *rng, const struct matmul_sample *s, clmoe_plan *plan);

/* The number of a row of the table. */
int matmul_row_of(const char *name);

/* Plans row `row` of the table, runs it, compares. False if the row refuses. */
bool matmul_run_row(struct rng *rng, struct matmul_sample *s, enum forced_caps caps, int row);

/* Solves `s`, runs the row of that name with the instructions emulated that the device lacks, frees `s`. */
void matmul_run_emulated(struct rng *rng, struct matmul_sample *s, const char *name);

/* Sets parameters of the row, like "LOCAL=64", which have to be what its plan then takes, and runs it so. */
void matmul_run_tuned(struct rng *rng, struct matmul_sample *s, const char *name, const char *parameters);

/* Runs the plan twice on the out-of-order queue, once behind an event of the caller's and once behind the
 * first run; compares. Nothing may run before the event. */
void matmul_run_out_of_order(struct rng *rng, struct matmul_sample *s, clmoe_plan *plan);

/* "T=.. k=.. E=.. K=.. N=.. ..." for case_begin. */
const char *matmul_case_name(const struct matmul_sample *s);

#endif
