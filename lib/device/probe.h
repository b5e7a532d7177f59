/* SPDX-License-Identifier: MIT
 * Finds capability bits by compiling a few lines, running them and checking the result. */
#ifndef CLMOE_DEVICE_PROBE_H
#define CLMOE_DEVICE_PROBE_H

#include "device.h"

/* Probes the features in `wanted`. A feature whose probe does not compile, run or give the right numbers is
 * absent; only a lack of host memory or of a command queue is an error. Waits for the device. */
enum clmoe_status probe_features(const struct device *dev, const struct log *log, uint32_t wanted,
                                 uint32_t *features);

#endif
