/* SPDX-License-Identifier: MIT
 *
 * clmoe: mixture-of-experts kernels for every OpenCL device.
 *
 * This header includes all of the API. It comes in four tiers; a tier only depends on those above it:
 *
 *   tier 0  common.h context.h tensor.h plan.h      status codes, the device, views of buffers, plans
 *           scale.h                                 orders of weights, scales that lie apart from them
 *   tier 1  topk.h scatter.h quant.h                row operations, useful outside of experts as well
 *   tier 2  route.h permute.h matmul.h combine.h    the stages of an expert layer
 *   tier 3  moe.h offload.h lora.h                  whole layers, made of the tiers above
 *
 * Every operation X has the same shape:
 *
 *   clmoe_X_plan(ctx, &params, &plan)               checks, chooses kernels, compiles; once
 *   clmoe_X_enqueue(plan, queue, &args, n, wait, &event)   binds and launches; as often as wanted
 *   clmoe_plan_destroy(&plan)
 *
 * Rules that hold for every function of this library, said once:
 * - A function that can fail returns `enum clmoe_status`. Its outputs come last and are NULL after a failure.
 * - Params and args structs are read during the call only. `{0}` gives the defaults.
 * - A destroy function takes the address of a handle, accepts a NULL handle and sets the handle to NULL.
 * - The library never prints, never exits, never waits for the device in an enqueue function, and never reads
 * a buffer back to decide something; all but layers with experts in host memory, see offload.h. What it has
 * to say goes to the log callback of the context.
 * - Bad arguments are found before anything is enqueued; then no output byte has changed.
 */
#ifndef CLMOE_CLMOE_H
#define CLMOE_CLMOE_H

#include "common.h"
#include "context.h"
#include "tensor.h"
#include "plan.h"
#include "scale.h"
#include "topk.h"
#include "scatter.h"
#include "quant.h"
#include "route.h"
#include "permute.h"
#include "matmul.h"
#include "combine.h"
#include "offload.h"
#include "moe.h"
#include "lora.h"

#endif
