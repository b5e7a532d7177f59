/* SPDX-License-Identifier: MIT */
#include "clmoe/common.h"

int clmoe_version(void) {
    return CLMOE_VERSION;
}

const char *clmoe_status_name(enum clmoe_status status) {
    switch (status) {
    case CLMOE_OK: return "CLMOE_OK";
    case CLMOE_E_INVALID: return "CLMOE_E_INVALID";
    case CLMOE_E_UNSUPPORTED: return "CLMOE_E_UNSUPPORTED";
    case CLMOE_E_NO_MEMORY: return "CLMOE_E_NO_MEMORY";
    case CLMOE_E_OPENCL: return "CLMOE_E_OPENCL";
    case CLMOE_E_BUILD: return "CLMOE_E_BUILD";
    }
    return "CLMOE_E_UNKNOWN";
}
