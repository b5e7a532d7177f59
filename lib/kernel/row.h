/* SPDX-License-Identifier: MIT
 * Kernel tables. Each operation has one: const rows, best first, the last one a reference kernel that always
 * fits. The first row that fits a problem on a device runs it.
 *
 * A row works on two structs of its operation (kernel/<op>.h):
 *   the problem  what a plan is made for: sizes, dtypes, options, with defaults filled in
 *   the call     what one enqueue brings: operands and the number of rows
 * and answers three questions:
 *   fits     may it run this problem on this device? If not, why?
 *   prepare  which kernels with which -D options does it need (what changes the code's shape), how much
 *            workspace?
 *   run      bind the arguments (sizes, strides) and launch
 */
#ifndef CLMOE_KERNEL_ROW_H
#define CLMOE_KERNEL_ROW_H

#include "base/dtype.h"
#include "device/device.h"
#include "device/launch.h"

/* A view of a buffer as kernels take it: offset in elements (dtype_info.unit), strides in elements. */
struct operand {
    cl_mem mem; /* NULL: absent */
    uint64_t offset;
    int64_t shape[CLMOE_MAX_DIMS];
    int64_t stride[CLMOE_MAX_DIMS];
};

/* Why a row was refused: one short clause with the numbers, or what the compiler said first. */
struct reason {
    char text[320];
};

/* Inside a fits function: `return refuse(why, "n = %lld > 1024", n)`. Always false. */
bool refuse(struct reason *why, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define RECIPE_KERNELS 12
#define SPEC_OPTIONS 768
#define ROW_PARAMS TUNING_VALUES

/* A parameter of a row that tuning may set, and what it may be: 0 behind the last. */
struct tunable {
    const char *name;
    int values[8];
};

struct kernel_spec {
    const char *file;  /* under cl/ */
    const char *entry; /* kernel function */
    size_t local;      /* work-items of a work-group */
    int resident;  /* where PTX can be bounded: work-groups that a unit shall hold at once; 0: as it comes */
    bool unlisted; /* it takes more local memory than the driver lists: NVIDIA's lists 48 KiB of all chips */
    bool retarget; /* it has hidden PTX (device/ptx.h): needs CLMOE_FEATURE_NV_WGMMA */
    char options[SPEC_OPTIONS];
};

struct recipe {
    struct kernel_spec kernels[RECIPE_KERNELS];
    int n_kernels;
    uint64_t workspace;     /* bytes */
    uint64_t counters;      /* bytes that are 0 at first, and later what the kernels leave */
    int params[ROW_PARAMS]; /* of the row's tunables */
    bool tuned;             /* one of them is not what the row has by itself */
};

/* Adds a kernel; its index is the order of the calls. Defines LOCAL_SIZE = local. */
struct kernel_spec *recipe_add(struct recipe *recipe, const char *file, const char *entry, size_t local);

/* Puts what tuning has for a row and a class of problems into `params`, which are the row's own at first and
 * in the order of `tunables`. Numbers that are not legal leave them. Returns whether one has changed. */
bool tune_params(const struct device *dev, const char *row, const char *class, const struct tunable *tunables,
                 int params[ROW_PARAMS]);

/* Adds " -Dname=value". */
void spec_define(struct kernel_spec *spec, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* What a run function works with. */
struct run {
    const struct device *dev;
    const void *problem, *call;
    const cl_kernel *kernels; /* in the order of the recipe */
    const size_t *local;
    struct bound *bound;       /* of each kernel */
    cl_mem workspace;          /* NULL if the recipe wanted none */
    uint64_t workspace_offset; /* bytes, a multiple of 256 */
    cl_mem counters;           /* NULL if the recipe wanted none */
    const int *params;         /* of the recipe */
    int n_kernels;
    struct launch *launch;
};

/* Begins to bind the arguments of a kernel of the recipe; operands that the call lacks become NULL, or
 * `spare` where buffers have to be given. Either way kernels leave them alone. */
static inline struct bind run_bind(const struct run *run, int kernel, cl_mem spare) {
    return (struct bind){.kernel = run->kernels[kernel],
                         .spare = run->dev->features & DEVICE_NULL_BUFFERS ? NULL : spare,
                         .bound = &run->bound[kernel],
                         .own = {run->workspace, run->counters}};
}

struct kernel_row {
    const char *name; /* op, algorithm and tile, as in "matmul_tile_64x64"; unique over all tables */
    bool (*fits)(const struct device *dev, const void *problem, struct reason *why);
    void (*prepare)(const struct device *dev, const void *problem, struct recipe *recipe);
    enum clmoe_status (*run)(const struct run *run);
    uint32_t needs; /* mask of enum clmoe_feature: without them the row is refused before it is asked */
    const struct tunable *tunables; /* the last one without a name; NULL: none */
};

struct kernel_table {
    const char *op;
    const struct kernel_row *rows;
    int n_rows;
};

/* All tables, for clmoe_kernel_name. Ends with NULL. */
extern const struct kernel_table *const kernel_tables[];

/* Shared arithmetic of the tables. */
static inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Smallest power of two >= n, for n >= 1. */
static inline int64_t ceil_pow2(int64_t n) {
    int64_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* Smallest i with 2^i >= n. */
static inline int ceil_log2(int64_t n) {
    int i = 0;
    while ((int64_t)1 << i < n)
        i++;
    return i;
}

/* Largest power of two <= n, for n >= 1. */
static inline int64_t floor_pow2(int64_t n) {
    int64_t p = 1;
    while (p <= n / 2)
        p *= 2;
    return p;
}

/* Parts of a workspace, each aligned to 256 bytes: returns the offset of the part, moves *end past it. */
static inline uint64_t workspace_part(uint64_t *end, uint64_t bytes) {
    const uint64_t at = (*end + 255) / 256 * 256;
    *end = at + bytes;
    return at;
}

#endif
