/* SPDX-License-Identifier: MIT */
#include "device.h"

#include "clerr.h"
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Device strings may be longer than we keep: a cut name is still a name, so ask for the size and copy the
 * head. */
static enum clmoe_status device_string(const struct log *log, cl_device_id id, cl_device_info what,
                                       char *text) {
    size_t size = 0;
    text[0] = '\0';
    TRY_CL(log, clGetDeviceInfo(id, what, 0, NULL, &size));
    char *const all = calloc(size + 1, 1);
    if (!all) return CLMOE_E_NO_MEMORY;
    const cl_int err = clGetDeviceInfo(id, what, size, all, NULL);
    snprintf(text, DEVICE_TEXT, "%s", all);
    free(all);
    return err == CL_SUCCESS ? CLMOE_OK : clerr_report(log, err, "clGetDeviceInfo");
}

static enum clmoe_status platform_string(const struct log *log, cl_platform_id id, char *text) {
    size_t size = 0;
    text[0] = '\0';
    TRY_CL(log, clGetPlatformInfo(id, CL_PLATFORM_VERSION, 0, NULL, &size));
    char *const all = calloc(size + 1, 1);
    if (!all) return CLMOE_E_NO_MEMORY;
    const cl_int err = clGetPlatformInfo(id, CL_PLATFORM_VERSION, size, all, NULL);
    snprintf(text, DEVICE_TEXT, "%s", all);
    free(all);
    return err == CL_SUCCESS ? CLMOE_OK : clerr_report(log, err, "clGetPlatformInfo");
}

static enum clmoe_status read_names(struct device *dev, const struct log *log) {
    TRY(device_string(log, dev->id, CL_DEVICE_NAME, dev->name));
    TRY(device_string(log, dev->id, CL_DEVICE_VENDOR, dev->vendor));
    TRY(device_string(log, dev->id, CL_DRIVER_VERSION, dev->driver));
    TRY(device_string(log, dev->id, CL_DEVICE_VERSION, dev->version));
    cl_platform_id platform;
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL));
    TRY(platform_string(log, platform, dev->platform));
    int major = 0, minor = 0;
    const int n = sscanf(dev->version, "OpenCL %d.%d", &major, &minor);
    REQUIRE(log, n == 2 && (major > 1 || minor >= 2), "device is \"%s\", needs OpenCL 1.2", dev->version);
    return CLMOE_OK;
}

static enum clmoe_status read_limits(struct device *dev, const struct log *log) {
    cl_bool compiler = CL_FALSE;
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_COMPILER_AVAILABLE, sizeof compiler, &compiler, NULL));
    REQUIRE(log, compiler, "device \"%s\" has no compiler", dev->name);
    size_t group = 0, *items = NULL, items_size = 0;
    cl_ulong local = 0, alloc = 0;
    cl_uint units = 0;
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, NULL));
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL));
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof alloc, &alloc, NULL));
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL));
    TRY_CL(log, clGetDeviceInfo(dev->id, CL_DEVICE_MAX_WORK_ITEM_SIZES, 0, NULL, &items_size));
    items = calloc(1, items_size + sizeof *items);
    if (!items) return CLMOE_E_NO_MEMORY;
    const cl_int err = clGetDeviceInfo(dev->id, CL_DEVICE_MAX_WORK_ITEM_SIZES, items_size, items, NULL);
    /* All work-groups here are one-dimensional. */
    dev->caps = (struct clmoe_caps){
        .max_work_group = items[0] && items[0] < group ? items[0] : group,
        .local_mem = local,
        .max_alloc = alloc,
        .compute_units = units,
    };
    free(items);
    return err == CL_SUCCESS ? CLMOE_OK : clerr_report(log, err, "clGetDeviceInfo");
}

static uint64_t lower(uint64_t own, uint64_t forced) {
    return forced && forced < own ? forced : own;
}

enum clmoe_status device_init(struct device *dev, const struct log *log, cl_context context, cl_device_id id,
                              const struct clmoe_caps *forced) {
    *dev = (struct device){.context = context, .id = id};
    REQUIRE(log, !(forced->features_off & ~CLMOE_FEATURES_ALL), "features_off = 0x%x",
            (unsigned)forced->features_off);
    REQUIRE(log, !(forced->emulate & ~CLMOE_FEATURES_MATRIX), "emulate = 0x%x", (unsigned)forced->emulate);
    TRY(read_names(dev, log));
    TRY(read_limits(dev, log));
    TRY(probe_features(dev, log, ~forced->features_off, &dev->features));
    if (dev->features & (CLMOE_FEATURE_NV_PTX | CLMOE_FEATURE_CPU)) dev->features |= DEVICE_NULL_BUFFERS;
    dev->emulated = forced->emulate & ~forced->features_off & ~dev->features;
    dev->features |= dev->emulated;
    dev->caps.max_work_group = (size_t)lower(dev->caps.max_work_group, forced->max_work_group);
    dev->caps.local_mem = lower(dev->caps.local_mem, forced->local_mem);
    dev->caps.max_alloc = lower(dev->caps.max_alloc, forced->max_alloc);
    dev->caps.compute_units = (uint32_t)lower(dev->caps.compute_units, forced->compute_units);
    return CLMOE_OK;
}
