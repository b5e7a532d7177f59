/* SPDX-License-Identifier: MIT
 * A block's experts that stay in host memory, and the slots for them on the device. */
#ifndef CLMOE_TOOLS_OFFLOADED_H
#define CLMOE_TOOLS_OFFLOADED_H

#include "weights.h"

enum { OFFLOADED_LISTS = 3 * N_MATRICES + 3 };

struct offloaded {
    clmoe_offload *object;               /* NULL: the experts are on the device */
    const void **lists[OFFLOADED_LISTS]; /* pointers to each expert's; NULL where there are none */
    void *rooms[N_MATRICES];             /* what had to be made from the checkpoint */
};

/* Slots within `budget` bytes for the plan's experts, whose weights lie in the checkpoint or, where they are
 * not as the device takes them, in memory made here. `weights` has the order. Returns -1, or the exit code
 * after printing an error; `o` can be closed in any case. */
int offloaded_open(struct session *s, const struct block *block, const struct weights *weights,
                   const clmoe_plan *plan, int64_t budget, struct offloaded *o);
void offloaded_close(struct offloaded *o);

/* Prints what the experts' turns have cost. */
void offloaded_report(const struct offloaded *o);

#endif
