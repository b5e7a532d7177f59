/* SPDX-License-Identifier: MIT
 *
 * A clmoe_context stands for one device inside the caller's cl_context. It holds what is known about the
 * device, the log callback and the cache of built programs.
 *
 * Thread-safety: safe. Any number of threads may use one context at the same time, except in
 * clmoe_context_destroy.
 */
#ifndef CLMOE_CONTEXT_H
#define CLMOE_CONTEXT_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clmoe_context clmoe_context;

/* What a device can do. Bits are set by probing (a few lines are compiled and checked), not by vendor. */
enum clmoe_feature {
    CLMOE_FEATURE_CPU = 1 << 0,  /* the device is a CPU: work-items are loops, local memory is plain memory */
    CLMOE_FEATURE_FP16 = 1 << 1, /* cl_khr_fp16 arithmetic */
    CLMOE_FEATURE_FP64 = 1 << 2, /* cl_khr_fp64 arithmetic */
    CLMOE_FEATURE_INT64_ATOMICS = 1 << 3, /* cl_khr_int64_base_atomics */
    CLMOE_FEATURE_SUBGROUPS = 1 << 4,     /* cl_khr_subgroups or cl_intel_subgroups, reductions checked */
    CLMOE_FEATURE_NV_PTX = 1 << 5,        /* inline PTX: shfl.sync across 32 lanes works */
    CLMOE_FEATURE_GPU = 1 << 6,           /* the device is a GPU: local memory and barriers are cheap */
    /* Matrix instructions, one bit for each way in which lanes hold matrices; products checked. */
    CLMOE_FEATURE_AMD_MFMA = 1 << 7,       /* CDNA 2 and later */
    CLMOE_FEATURE_AMD_WMMA_11 = 1 << 8,    /* RDNA 3 */
    CLMOE_FEATURE_AMD_WMMA_12 = 1 << 9,    /* RDNA 4 */
    CLMOE_FEATURE_INTEL_DPAS_8 = 1 << 10,  /* sub-groups of 8: Arc A */
    CLMOE_FEATURE_INTEL_DPAS_16 = 1 << 11, /* sub-groups of 16: Data Center Max, Arc B */
    CLMOE_FEATURE_NV_MMA = 1 << 12,        /* PTX for sm_80 and later: mma.sync of 16x8x16 */
    CLMOE_FEATURE_NV_WGMMA = 1 << 13,      /* PTX for sm_90a (Hopper): wgmma, tensor copies */
};
#define CLMOE_FEATURES_ALL 0x3fffu
#define CLMOE_FEATURES_MATRIX 0x1f80u

/* Limits that the kernel tables look at. Also used to force a device down, so that one machine can test the
 * paths of a smaller one: a zero field means "as the device says", `features_off` masks bits of enum
 * clmoe_feature away. Raising a limit is not possible: the smaller of this and the device's own wins. */
struct clmoe_caps {
    size_t max_work_group;  /* work-items in a work-group */
    uint64_t local_mem;     /* bytes of local memory for one work-group */
    uint64_t max_alloc;     /* bytes of one buffer */
    uint32_t compute_units; /* what CL_DEVICE_MAX_COMPUTE_UNITS would be */
    uint32_t features_off;  /* mask of enum clmoe_feature */
    /* For tests without the hardware: of CLMOE_FEATURES_MATRIX, what kernels shall compute in plain OpenCL C
     * where the device lacks it. The bits are then among the device's features; such kernels are very slow.
     */
    uint32_t emulate;
};

/* Where built programs are kept between processes. Blobs are opaque; they carry clmoe's own header, length
 * and checksum, so a damaged, truncated or foreign blob is a miss and never reaches the driver.
 * Thread-safety: the callbacks may be called from several threads at once. */
struct clmoe_cache {
    /* Looks `key` (a string of hexadecimal digits, a valid file name) up. On a hit returns the size of the
     * blob and, if it fits into `capacity`, copies it to `blob`; returns 0 on a miss. `blob` may be NULL with
     * capacity 0. */
    size_t (*get)(void *priv, const char *key, void *blob, size_t capacity);
    /* Stores a blob. Failing silently is fine. */
    void (*set)(void *priv, const char *key, const void *blob, size_t size);
    void *priv;
};

/* A ready-made clmoe_cache: one file per program in the directory `path`, which is created if its parent
 * exists. Files are written beside and renamed, so readers never see half of one. On success `*cache` owns
 * memory that clmoe_cache_dir_destroy releases; it must outlive every context that uses it. CLMOE_E_INVALID:
 * NULL or empty path, no such parent, not a writable directory. */
CLMOE_API enum clmoe_status clmoe_cache_dir_create(const char *path, struct clmoe_cache **cache);
CLMOE_API void clmoe_cache_dir_destroy(struct clmoe_cache **cache);

struct clmoe_context_params {
    clmoe_log_fn log; /* may be NULL; must outlive the plans of the context as well */
    void *log_priv;
    enum clmoe_log_level log_level;  /* most detailed level wanted; 0 with a callback means CLMOE_LOG_WARN */
    const struct clmoe_cache *cache; /* NULL: memory only; else it and its priv outlive the context */
    struct clmoe_caps caps;          /* limits forced down; {0} for none */
};

/* Makes a context for `device`, which must belong to `context`. Retains both OpenCL objects. This is the one
 * call that may wait for the device, on a queue of its own: it runs the probes. `params` may be NULL.
 * CLMOE_E_INVALID: NULL handles, a device that is not in the context, a device without a compiler or older
 * than OpenCL 1.2, unknown bits in caps.features_off or caps.emulate. */
CLMOE_API enum clmoe_status clmoe_context_create(cl_context context, cl_device_id device,
                                                 const struct clmoe_context_params *params,
                                                 clmoe_context **ctx);

/* Releases the context. Plans keep what they need of it: they may be destroyed before or after. */
CLMOE_API void clmoe_context_destroy(clmoe_context **ctx);

/* Kernels have parameters that change how fast they are, and at most the order of sums
 * (clmoe_kernel_parameter). `clmoe tune` finds good ones for a device and writes them down as text. A context
 * made with a cache finds what that has for its device; if the environment has CLMOE_TUNING, the file of that
 * name takes its place. Behind either are the parameters that the library ships for some devices. What cannot
 * be read, and values that a row cannot take, are ignored: defaults stand in.
 *
 * Lines of the text are, where ? in a name is any character, * at its end any rest, and * any class,
 *
 *   device NAME | DRIVER | PLATFORM      what follows belongs to these devices
 *   ROW CLASS NAME=NUMBER ...            as in "matmul_tile_64x64 f32.q8_0.glu TK=32"; the first line that
 *                                        has the number counts. Classes of matmul's rows: dtypes of x and w
 *                                        (also awq, gptq, and of packed blocks q8_0_panel), and .glu with
 *                                        a GLU layout
 *   # ...                                a comment
 *
 * clmoe_context_tuning is the text that the context has (not what the library ships), "" if none; it lives
 * until the next call of clmoe_context_set_tuning. That one takes `text` (NULL: none) instead of cache and
 * file, for plans made from now on, while no other thread uses the context. `keep` 1: the cache gets it too,
 * for contexts to come. CLMOE_E_INVALID: ctx is NULL, a line that is none of these; nothing changes. */
CLMOE_API enum clmoe_status clmoe_context_set_tuning(clmoe_context *ctx, const char *text, int keep);
CLMOE_API const char *clmoe_context_tuning(const clmoe_context *ctx);

struct clmoe_device_info {
    const char *name, *vendor, *driver, *platform; /* owned by the context */
    struct clmoe_caps caps;                        /* the limits in force; features_off, emulate unused (0) */
    uint32_t features;                             /* mask of enum clmoe_feature, masked bits removed */
};

/* What the context knows of its device. Strings live as long as the context.
 * CLMOE_E_INVALID: NULL arguments. */
CLMOE_API enum clmoe_status clmoe_context_device_info(const clmoe_context *ctx,
                                                      struct clmoe_device_info *info);

/* The name of one feature bit, as in "fp16"; NULL for anything else. Thread-safety: safe. */
CLMOE_API const char *clmoe_feature_name(enum clmoe_feature feature);

#ifdef __cplusplus
}
#endif
#endif
