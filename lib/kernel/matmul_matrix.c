/* SPDX-License-Identifier: MIT */
#include "matmul_matrix.h"

#include "matmul_rows.h"

/* An instruction and how many of its results a work-group computes. `m`, `n`, `lanes` and `elements` (of A
 * and B in a lane) are those of `layout` in cl/matmul/matrix_layout.cl. */
struct tile {
    const char *layout;
    int lanes, m, n, elements;
    int waves_m, waves_n, fragments_m, fragments_n;
};

/* The small tile is for few rows of each expert and for devices on which the large one does not fit. */
struct family {
    uint32_t feature;
    struct tile small, large;
};

static const struct family mfma = {
    CLMOE_FEATURE_AMD_MFMA,
    {"MFMA_16", 64, 16, 16, 8, 2, 2, 1, 2},
    {"MFMA_32", 64, 32, 32, 8, 2, 2, 2, 2},
};
static const struct family wmma_11 = {
    CLMOE_FEATURE_AMD_WMMA_11,
    {"WMMA_11", 32, 16, 16, 32, 2, 2, 1, 2},
    {"WMMA_11", 32, 16, 16, 32, 2, 2, 2, 4},
};
static const struct family wmma_12 = {
    CLMOE_FEATURE_AMD_WMMA_12,
    {"WMMA_12", 32, 16, 16, 16, 2, 2, 1, 2},
    {"WMMA_12", 32, 16, 16, 16, 2, 2, 2, 4},
};
static const struct family dpas_8 = {
    CLMOE_FEATURE_INTEL_DPAS_8,
    {"DPAS_8", 8, 8, 8, 32, 2, 4, 2, 2},
    {"DPAS_8", 8, 8, 8, 32, 2, 8, 4, 2},
};
static const struct family dpas_16 = {
    CLMOE_FEATURE_INTEL_DPAS_16,
    {"DPAS_16", 16, 8, 16, 24, 4, 2, 1, 2},
    {"DPAS_16", 16, 8, 16, 24, 4, 4, 2, 2},
};
static const struct family mma = {
    CLMOE_FEATURE_NV_MMA,
    {"MMA_16", 32, 16, 8, 12, 2, 2, 1, 4},
    {"MMA_16", 32, 16, 8, 12, 2, 4, 4, 4},
};

enum { STEPS = 32, PADDING = 8, BUFFERS = 2 };

static int items_of(const struct tile *t) {
    return t->waves_m * t->waves_n * t->lanes;
}
static int rows_of(const struct tile *t) {
    return t->waves_m * t->fragments_m * t->m;
}
/* Rows of w: gate and up together. */
static int w_rows_of(const struct tile *t) {
    return t->waves_n * t->fragments_n * t->n;
}
static int columns_of(const struct tile *t, const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_NONE ? w_rows_of(t) : w_rows_of(t) / 2;
}

static bool emulates(const struct device *dev, const struct family *f) {
    return (dev->emulated & f->feature) != 0;
}

static uint64_t local_mem_of(const struct device *dev, const struct family *f, const struct tile *t) {
    const int rows = rows_of(t), staged = (rows + w_rows_of(t)) * (STEPS + PADDING) * 2 * BUFFERS;
    const int scratch = emulates(dev, f) ? items_of(t) * t->elements * 4 : t->waves_m * t->waves_n * 4;
    return (uint64_t)(staged + rows * 8 + 3 * 8 + scratch);
}

static bool tile_fits(const struct device *dev, const struct family *f, const struct tile *t) {
    return dev->caps.max_work_group >= (size_t)items_of(t) && dev->caps.local_mem >= local_mem_of(dev, f, t);
}

static const struct tile *choose(const struct device *dev, const struct family *f,
                                 const struct matmul_problem *p) {
    const bool few = p->max_tokens * p->topk <= (int64_t)rows_of(&f->small) * p->experts;
    return few || !tile_fits(dev, f, &f->large) ? &f->small : &f->large;
}

static bool fits(const struct device *dev, const struct family *f, const struct matmul_problem *p,
                 struct reason *why) {
    const struct tile *const t = &f->small;
    if (!p->sorted && !p->dense) return refuse(why, "needs sorted routing");
    if (p->x_dtype != p->w_dtype || (p->w_dtype != CLMOE_F16 && p->w_dtype != CLMOE_BF16))
        return refuse(why, "needs x and w both f16 or both bf16");
    if (p->w_order == CLMOE_W_PACKED) return refuse(why, "needs weights that are not packed");
    if (!tile_fits(dev, f, t))
        return refuse(why,
                      "needs work-groups of %d and %llu bytes of local memory, the device has %zu and %llu",
                      items_of(t), (unsigned long long)local_mem_of(dev, f, t), dev->caps.max_work_group,
                      (unsigned long long)dev->caps.local_mem);
    return true;
}

static void prepare(const struct device *dev, const struct family *f, const struct matmul_problem *p,
                    struct recipe *recipe) {
    const struct tile *const t = choose(dev, f, p);
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/matrix.cl", "matmul_matrix", items_of(t));
    spec_define(spec, "LAYOUT", "%s", t->layout);
    spec_define(spec, "EMULATED", "%d", emulates(dev, f));
    spec_define(spec, "WAVES_M", "%d", t->waves_m);
    spec_define(spec, "WAVES_N", "%d", t->waves_n);
    spec_define(spec, "FRAGMENTS_M", "%d", t->fragments_m);
    spec_define(spec, "FRAGMENTS_N", "%d", t->fragments_n);
}

static uint64_t groups(const struct run *run, const struct family *f, const struct matmul_part *part) {
    const struct tile *const t = choose(run->dev, f, run->problem);
    return matmul_slots_times_columns(run, part, rows_of(t), columns_of(t, run->problem));
}

#define ROW(family)                                                                                          \
    bool matmul_##family##_fits(const struct device *dev, const void *problem, struct reason *why) {         \
        return fits(dev, &family, problem, why);                                                             \
    }                                                                                                        \
    void matmul_##family##_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {   \
        prepare(dev, &family, problem, recipe);                                                              \
    }                                                                                                        \
    static uint64_t family##_groups(const struct run *run, const struct matmul_part *part) {                 \
        return groups(run, &family, part);                                                                   \
    }                                                                                                        \
    enum clmoe_status matmul_##family##_run(const struct run *run) {                                         \
        return matmul_run_parts(run, family##_groups);                                                       \
    }

ROW(mfma)
ROW(wmma_11)
ROW(wmma_12)
ROW(dpas_8)
ROW(dpas_16)
ROW(mma)
