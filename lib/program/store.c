/* SPDX-License-Identifier: MIT */
#include "store.h"

#include "base/hash.h"
#include "blob.h"
#include "device/binary.h"
#include "device/clerr.h"
#include "device/ptx.h"
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stored_program {
    struct stored_program *next;
    char key[HASH_HEX];
    cl_program program;
};

/* What a build needs, so that its steps share one argument. */
struct build {
    const struct device *dev;
    const struct log *log;
    const char *file, *options;
    int resident;
    size_t local;
    bool retarget;
    struct str *complaint; /* where a failed build goes, in one line */
};

void store_init(struct store *store, const struct clmoe_cache *cache) {
    *store = (struct store){.cache = cache, .lock = LOCK_INIT};
}

void store_destroy(struct store *store) {
    while (store->first) {
        struct stored_program *const entry = store->first;
        store->first = entry->next;
        clReleaseProgram(entry->program);
        free(entry);
    }
}

void store_hash_device(struct hash *h, const struct device *dev) {
    hash_add_str(h, dev->name);
    hash_add_str(h, dev->vendor);
    hash_add_str(h, dev->version);
    hash_add_str(h, dev->driver);
    hash_add_str(h, dev->platform);
}

static enum clmoe_status program_key(const struct build *b, char key[HASH_HEX]) {
    struct hash h;
    uint8_t digest[HASH_BYTES];
    hash_begin(&h);
    hash_add_str(&h, "clmoe program 3");
    TRY(source_hash(b->log, b->file, &h));
    hash_add_str(&h, b->options);
    char ptx[32];
    snprintf(ptx, sizeof ptx, "%d%s", b->resident, b->retarget ? " a" : "");
    hash_add_str(&h, ptx);
    store_hash_device(&h, b->dev);
    hash_end(&h, digest);
    hash_hex(digest, key);
    return CLMOE_OK;
}

/* Fills *program with a retained program, or NULL on a miss. */
static enum clmoe_status find(struct store *store, const struct log *log, const char key[HASH_HEX],
                              cl_program *program) {
    cl_program found = NULL;
    cl_int err = CL_SUCCESS;
    lock_take(&store->lock);
    for (struct stored_program *e = store->first; e && !found; e = e->next)
        if (memcmp(e->key, key, HASH_HEX) == 0) found = e->program;
    /* Retained under the lock: the list's own reference cannot go away meanwhile. */
    if (found) err = clRetainProgram(found);
    lock_drop(&store->lock);
    if (err != CL_SUCCESS) return clerr_report(log, err, "clRetainProgram");
    *program = found;
    return CLMOE_OK;
}

/* The list gets a reference of its own. Two threads that missed at once both insert: find takes either. */
static enum clmoe_status insert(struct store *store, const struct log *log, const char key[HASH_HEX],
                                cl_program *program) {
    struct stored_program *const entry = malloc(sizeof *entry);
    const cl_int err = entry ? clRetainProgram(*program) : CL_SUCCESS;
    if (!entry || err != CL_SUCCESS) {
        free(entry);
        clReleaseProgram(*program);
        *program = NULL;
        return entry ? clerr_report(log, err, "clRetainProgram") : CLMOE_E_NO_MEMORY;
    }
    memcpy(entry->key, key, HASH_HEX);
    entry->program = *program;
    lock_take(&store->lock);
    entry->next = store->first;
    store->first = entry;
    lock_drop(&store->lock);
    return CLMOE_OK;
}

/* The first line of a build log that tells of an error, or else the first that tells anything. */
static void complain(const struct build *b, const char *build_log) {
    const char *first = NULL, *error = NULL;
    for (const char *line = build_log; line && *line && !error;
         line += strcspn(line, "\n"), line += *line != 0) {
        const char *const begin = line + strspn(line, " \t\r");
        const size_t size = strcspn(begin, "\r\n");
        if (size && !first) first = begin;
        for (size_t i = 0; i + 5 <= size && !error; i++)
            if (memcmp(begin + i, "error", 5) == 0) error = begin;
    }
    if (error) first = error;
    if (first) str_append(b->complaint, first, strcspn(first, "\r\n"));
}

static void report_build(const struct build *b, const char *source, cl_program program, cl_int err) {
    struct str text = {0};
    str_printf(&text, "%s: %s does not build with \"%s\"\n", clerr_name(err), b->file, b->options);
    char *const build_log = binary_log(program, b->dev->id);
    complain(b, build_log);
    if (build_log) str_printf(&text, "%s\n", build_log);
    free(build_log);
    str_printf(&text, "---- source ----\n%s", source);
    if (text.failed)
        log_msg(b->log, CLMOE_LOG_ERROR, "%s: %s does not build", clerr_name(err), b->file);
    else
        log_text(b->log, CLMOE_LOG_ERROR, text.text);
    str_free(&text);
}

static enum clmoe_status build_text(const struct build *b, const char *source, cl_program *program) {
    cl_int err;
    *program = clCreateProgramWithSource(b->dev->context, 1, &source, NULL, &err);
    if (err != CL_SUCCESS) return clerr_report(b->log, err, "clCreateProgramWithSource");
    err = clBuildProgram(*program, 1, &b->dev->id, b->options, NULL, NULL);
    if (err == CL_SUCCESS) {
        log_msg(b->log, CLMOE_LOG_INFO, "built %s %s", b->file, b->options);
        return CLMOE_OK;
    }
    report_build(b, source, *program, err);
    clReleaseProgram(*program);
    *program = NULL;
    return err == CL_BUILD_PROGRAM_FAILURE || err == CL_INVALID_BUILD_OPTIONS ? CLMOE_E_BUILD
                                                                              : CLMOE_E_OPENCL;
}

static enum clmoe_status build_source(const struct build *b, cl_program *program) {
    struct str source = {0};
    enum clmoe_status status = source_assemble(b->log, b->file, &source);
    if (status == CLMOE_OK) status = build_text(b, source.text, program);
    str_free(&source);
    return status;
}

/* Failing to save is no failure: the next process builds from source again. */
static void save_binary(const struct build *b, const struct clmoe_cache *cache, const char key[HASH_HEX],
                        cl_program program) {
    size_t size;
    unsigned char *const binary = binary_of(program, b->dev->id, &size);
    if (binary) blob_set(cache, key, binary, size);
    free(binary);
}

/* With NULL for `build_log` what the driver says of a failure is of no use. */
static bool build_binary(const struct build *b, const unsigned char *binary, size_t size, char **build_log,
                         cl_program *program) {
    return binary_build(b->dev->context, b->dev->id, b->options, binary, size, build_log, program);
}

/* The program's text as wanted. */
static bool adapt_text(const struct build *b, const unsigned char *binary, size_t size, struct str *out) {
    if (!b->retarget) return ptx_set_resident(binary, size, b->resident, out);
    if (!b->resident) return ptx_retarget(binary, size, out);
    struct str shown = {0};
    const bool ok = ptx_retarget(binary, size, &shown) && !shown.failed &&
                    ptx_set_resident((const unsigned char *)shown.text, shown.size, b->resident, out);
    str_free(&shown);
    return ok;
}

/* Puts a program in the place of the one built from source whose PTX is as wanted. Where it fails,
 * *build_log is what the driver says, to be freed, or NULL. */
static bool rebuild(const struct build *b, char **build_log, cl_program *program) {
    size_t size;
    unsigned char *const binary = binary_of(*program, b->dev->id, &size);
    struct str text = {0};
    cl_program built = NULL;
    *build_log = NULL;
    const bool ok = binary && adapt_text(b, binary, size, &text) && !text.failed &&
                    build_binary(b, (const unsigned char *)text.text, text.size, build_log, &built);
    if (ok) {
        clReleaseProgram(*program);
        *program = built;
    }
    str_free(&text);
    free(binary);
    return ok;
}

/* Whether as many work-groups as shall be resident find registers as it is. A unit of NVIDIA's has 65536, and
 * gives each work-item a multiple of 8. */
static bool is_within(const struct build *b, cl_program program) {
    char *const text = binary_log(program, b->dev->id);
    const int registers = text ? ptx_registers(text) : 0;
    free(text);
    const int given = (registers + 7) / 8 * 8;
    return given && (size_t)(b->resident * given) * b->local <= 65536;
}

/* A program that may use more registers computes the same; one without its own target's instructions does
 * not. */
static enum clmoe_status adapt(const struct build *b, cl_program *program) {
    char *build_log = NULL;
    if (b->retarget) {
        if (rebuild(b, &build_log, program)) return CLMOE_OK;
        log_msg(b->log, CLMOE_LOG_ERROR, "%s: the driver does not take its PTX for sm_90a: %s", b->file,
                build_log ? build_log : "no build log");
        complain(b, build_log);
        free(build_log);
        clReleaseProgram(*program);
        *program = NULL;
        return CLMOE_E_BUILD;
    }
    if (b->resident && !is_within(b, *program) && !rebuild(b, &build_log, program))
        log_msg(b->log, CLMOE_LOG_INFO, "%s: not built for %d resident work-groups", b->file, b->resident);
    free(build_log);
    return CLMOE_OK;
}

static enum clmoe_status load_or_build(struct store *store, const struct build *b, const char key[HASH_HEX],
                                       cl_program *program) {
    void *memory = NULL;
    const unsigned char *binary;
    size_t size;
    if (store->cache && blob_get(store->cache, b->log, key, &memory, &binary, &size)) {
        const bool ok = build_binary(b, binary, size, NULL, program);
        free(memory);
        if (ok) {
            log_msg(b->log, CLMOE_LOG_INFO, "loaded %s %s from the cache", b->file, b->options);
            return CLMOE_OK;
        }
        log_msg(b->log, CLMOE_LOG_WARN, "cache entry %s is refused by the driver: built again", key);
    }
    TRY(build_source(b, program));
    TRY(adapt(b, program));
    if (store->cache) save_binary(b, store->cache, key, *program);
    return CLMOE_OK;
}

enum clmoe_status store_get(struct store *store, const struct device *dev, const struct log *log,
                            const struct program_spec *spec, struct str *complaint, cl_program *program) {
    *program = NULL;
    struct str all_options = {0};
    const int resident = dev->features & CLMOE_FEATURE_NV_PTX ? spec->resident : 0;
    str_printf(&all_options, "-cl-std=CL1.2%s%s%s", *spec->options ? " " : "", spec->options,
               resident && !spec->retarget ? " " PTX_REPORT : "");
    const struct build b = {.dev = dev,
                            .log = log,
                            .file = spec->file,
                            .options = all_options.text,
                            .resident = resident,
                            .local = spec->local,
                            .retarget = spec->retarget,
                            .complaint = complaint};
    char key[HASH_HEX];
    enum clmoe_status status = all_options.failed ? CLMOE_E_NO_MEMORY : program_key(&b, key);
    if (status == CLMOE_E_BUILD) str_printf(complaint, "its source cannot be read");
    if (status == CLMOE_OK) status = find(store, log, key, program);
    if (status == CLMOE_OK && !*program) {
        status = load_or_build(store, &b, key, program);
        if (status == CLMOE_OK) status = insert(store, log, key, program);
    }
    str_free(&all_options);
    return status;
}
