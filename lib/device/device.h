/* SPDX-License-Identifier: MIT
 * What is known of the device: limits and capability bits. The only place that looks at vendors or
 * extensions; the rest of the library sees limits and bits. */
#ifndef CLMOE_DEVICE_DEVICE_H
#define CLMOE_DEVICE_DEVICE_H

#include "base/log.h"
#include "base/tuning.h"
#include "clmoe/context.h"

#define DEVICE_TEXT 256

/* Bits of `features` that are the library's own. With CLMOE_FEATURE_NV_PTX, instructions that are new in
 * sm_80 (max.NaN.f32). */
#define DEVICE_PTX_SM80 (1u << 31)
/* Buffers that a kernel leaves alone may be NULL, and are the better for it: NVIDIA's driver spends 0.35 us
 * of each enqueue on every buffer that a kernel has, PoCL 0.06, next to nothing on NULL. OpenCL allows it
 * everywhere; what other drivers do with it has not been seen. On PoCL a kernel that touches one crashes,
 * which tests see. */
#define DEVICE_NULL_BUFFERS (1u << 30)

struct device {
    cl_context context;
    cl_device_id id;
    char name[DEVICE_TEXT], vendor[DEVICE_TEXT], driver[DEVICE_TEXT], platform[DEVICE_TEXT],
        version[DEVICE_TEXT];
    struct clmoe_caps caps;      /* limits in force: the device's own, lowered by the caller */
    uint32_t features;           /* mask of enum clmoe_feature and of the above, the caller's mask removed */
    uint32_t emulated;           /* those of them that kernels have to do without */
    const struct tuning *tuning; /* of this device; may be NULL */
};

/* Reads limits and runs the probes. Does not retain. CLMOE_E_INVALID for a device that cannot run clmoe. */
enum clmoe_status device_init(struct device *dev, const struct log *log, cl_context context, cl_device_id id,
                              const struct clmoe_caps *forced);

#endif
