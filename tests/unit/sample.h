/* SPDX-License-Identifier: MIT
 * One small valid call of each operation: material for tests that do not care what an operation computes,
 * only how its calls behave. */
#ifndef CLMOE_UNIT_SAMPLE_H
#define CLMOE_UNIT_SAMPLE_H

#include "clmoe/clmoe.h"

#include <stdbool.h>

#define SAMPLE_BUFFERS 24
#define SAMPLE_TOKENS 7

/* A tensor of the call: its name in log messages, its place in the args, its buffer. */
struct sample_tensor {
    const char *name;
    struct clmoe_tensor *tensor;
    cl_mem mem;
    size_t bytes; /* of the buffer */
    bool written;
};

struct sample {
    const struct sample_op *op;
    cl_context context;
    struct sample_tensor tensors[SAMPLE_BUFFERS];
    int n_tensors;
    union {
        struct clmoe_combine_params combine;
        struct clmoe_scatter_params scatter;
        struct clmoe_permute_params permute;
        struct clmoe_route_params route;
        struct clmoe_matmul_params matmul;
        struct clmoe_matmul_params matmul_pack;
        struct clmoe_quant_params quant;
        struct clmoe_moe_params moe;
        struct clmoe_lora_params lora;
        struct clmoe_topk_params topk;
    } params;
    union {
        struct clmoe_combine_args combine;
        struct clmoe_scatter_args scatter;
        struct clmoe_permute_args permute;
        struct clmoe_route_args route;
        struct clmoe_matmul_args matmul;
        struct clmoe_matmul_pack_args matmul_pack;
        struct clmoe_quant_args quant;
        struct clmoe_moe_args moe;
        struct clmoe_lora_args lora;
        struct clmoe_topk_args topk;
    } args;
    struct clmoe_plan_options *options; /* inside of params */
    struct clmoe_tensor parts[4];       /* what args point to */
};

/* Number of samples and their operations' names ("combine"). */
int sample_count(void);
const char *sample_name(int index);

/* Params and args for `tokens` rows (at most SAMPLE_TOKENS, for which the plan is made), with buffers that
 * hold data that is always the same; outputs hold poison. */
void sample_open(struct sample *s, int index, cl_context context, int64_t tokens);
void sample_close(struct sample *s);

enum clmoe_status sample_plan(const struct sample *s, clmoe_context *ctx, clmoe_plan **plan);
enum clmoe_status sample_enqueue(const struct sample *s, clmoe_plan *plan, cl_command_queue queue,
                                 cl_uint n_wait, const cl_event *wait, cl_event *event);
/* Gives a plan made with external_workspace one that is full of rubbish; to be released by the caller.
 * (oclgrind keeps what it knows of a buffer that is gone for one that reuses its handle: workspaces that the
 * host never wrote look uninitialised to it, even behind a store.) */
cl_mem sample_workspace(clmoe_plan *plan);

/* The same calls with any pointers, NULL included. */
enum clmoe_status sample_plan_raw(int index, clmoe_context *ctx, const void *params, clmoe_plan **plan);
enum clmoe_status sample_enqueue_raw(int index, clmoe_plan *plan, cl_command_queue queue, const void *args,
                                     cl_uint n_wait, const cl_event *wait, cl_event *event);

/* Hash of the bytes of all output buffers; waits for the queue. */
uint64_t sample_outputs(const struct sample *s, cl_command_queue queue);

/* Poisons the outputs again. */
void sample_reset(const struct sample *s, cl_command_queue queue);

/* What sample_outputs gives after a call that wrote nothing, and after one that did its work (computed by a
 * plain call on an in-order queue on first use). */
uint64_t sample_poison(int index);
uint64_t sample_result(int index);

#endif
