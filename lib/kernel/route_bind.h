/* SPDX-License-Identifier: MIT
 * What the rows of route share: the arguments of their kernel, and the two kernels that follow it where
 * experts have a capacity. */
#ifndef CLMOE_KERNEL_ROUTE_BIND_H
#define CLMOE_KERNEL_ROUTE_BIND_H

#include "route.h"

/* The largest power of two that is no more than `wanted` and that the device's work-groups may have. */
int64_t route_local(const struct device *dev, int64_t wanted);

/* Whether the row's kernel takes the arguments of cl/route/extras.cl. */
bool route_has_extras(const struct route_problem *p);

/* After the row has added its kernel. */
void route_prepare_capacity(const struct device *dev, const struct route_problem *p, struct recipe *recipe);

/* Runs all of the plan's kernels, the row's one in so many work-groups. */
enum clmoe_status route_launch(const struct run *run, int64_t groups);

#endif
