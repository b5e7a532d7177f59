/* SPDX-License-Identifier: MIT
 * Where a context has its tuned numbers (base/tuning.h) from: the file that CLMOE_TUNING names or else what
 * its cache holds for the device, and behind that what the library ships. */
#ifndef CLMOE_PROGRAM_TUNED_H
#define CLMOE_PROGRAM_TUNED_H

#include "base/tuning.h"
#include "device/device.h"

/* What cannot be read is ignored, with a warning: it costs speed at most. `cache` may be NULL. */
enum clmoe_status tuned_load(struct tuning *t, const struct log *log, const struct device *dev,
                             const struct clmoe_cache *cache);

/* `text` (may be NULL) instead of file and cache. */
enum clmoe_status tuned_set(struct tuning *t, const struct log *log, const struct device *dev,
                            const char *text);

/* Puts `text` into the cache for contexts to come. */
void tuned_keep(const struct device *dev, const struct clmoe_cache *cache, const char *text);

#endif
