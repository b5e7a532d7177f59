/* SPDX-License-Identifier: MIT
 * The n-th OpenCL call fails, once with a lack of resources, once with a refusal. */
#include "unit/kit.h"
#include "walk.h"

static void arm(uint64_t n, int flavour) {
    layer()->make_fail(n, (enum layer_flavour)flavour);
}

static const char *hit(void) {
    return layer()->failed();
}

static bool plausible(enum clmoe_status status) {
    return status == CLMOE_E_OPENCL || status == CLMOE_E_BUILD;
}

/* The walk itself compares references to objects. */
static int64_t alive(void) {
    return 0;
}

int main(void) {
    tester(); /* loads the layer */
    return walk_main(&(struct fault){"fault_opencl", LAYER_FLAVOURS, arm, hit, plausible, alive});
}
