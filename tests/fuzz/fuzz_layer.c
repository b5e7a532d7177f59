// SPDX-License-Identifier: MIT
//
// A layer of a model, whatever its files are: what `clmoe moe` would read lies within one tensor of them. An
// input is a GGUF file; or config.json, a NUL and model.safetensors.
#define _POSIX_C_SOURCE 200809L // mkdtemp()
#include "clmoe/block.h"
#include "fuzz.h"
#include "layer_seeds.h"

#include <string.h>
#include <unistd.h>

size_t fuzz_seed_count(void) {
    return layer_seed_count();
}

struct fuzz_seed fuzz_seed_at(size_t i) {
    return layer_seed_at(i);
}

// ---- a model on disk ----

static char folder[1024];

static const char *in_folder(const char *name) {
    static char path[sizeof folder + 32];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void make_folder(void) {
    const char *const base = getenv("TMPDIR");
    const int length = snprintf(folder, sizeof folder, "%s/clmoe-fuzz-XXXXXX", base && *base ? base : "/tmp");
    if (length < 0 || (size_t)length >= sizeof folder || !mkdtemp(folder)) abort();
}

static void remove_folder(void) {
    static const char *const names[] = {"model.gguf", "config.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        (void)unlink(in_folder(names[i]));
    (void)rmdir(folder);
}

// A new file each time: to cut an old one to nothing makes some file systems wait for the disk.
static void write_file(const char *name, const void *bytes, size_t size) {
    (void)unlink(in_folder(name));
    FILE *const file = fopen(in_folder(name), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
}

static bool is_gguf(const uint8_t *data, size_t size) {
    return size >= 4 && memcmp(data, "GGUF", 4) == 0;
}

static void write_model(const uint8_t *data, size_t size) {
    (void)unlink(in_folder("model.gguf"));
    if (is_gguf(data, size)) {
        write_file("model.gguf", data, size);
        return;
    }
    const uint8_t *const end = size ? memchr(data, 0, size) : NULL;
    const size_t config = end ? (size_t)(end - data) : size;
    write_file("config.json", data, config);
    write_file("model.safetensors", data + config + (end != NULL), size - config - (end != NULL));
}

// ---- what is read of it ----

static bool in_one_tensor(const struct checkpoint *c, const void *data, size_t bytes) {
    const uintptr_t at = (uintptr_t)data;
    for (size_t i = 0; i < c->count; ++i) {
        const struct file_tensor *const t = c->weights[i].tensor;
        const uintptr_t begin = (uintptr_t)t->data;
        if (at >= begin && at - begin <= t->bytes && bytes <= t->bytes - (at - begin)) return true;
    }
    return false;
}

static void check_f32(const struct matrix *m, int32_t expert) {
    struct array f32 = {0};
    struct io_error err = {""};
    if (!matrix_is_float(m) && m->dtype != CLMOE_F8_E4M3) return;
    FUZZ_REQUIRE(matrix_to_f32(m, expert, &f32, &err));
    FUZZ_REQUIRE(array_count(&f32) == m->rows * m->columns);
    array_free(&f32);
}

static void check_matrix(const struct checkpoint *c, const struct matrix *m) {
    if (!m->n_sources) return;
    FUZZ_REQUIRE(m->rows > 0 && m->columns > 0 && m->bytes > 0);
    void *const scratch = malloc(m->bytes);
    if (!scratch) abort();
    for (int32_t e = 0; e < m->experts; ++e) {
        const void *const as_is = matrix_expert(m, e, m->order, scratch);
        FUZZ_REQUIRE(as_is == scratch || in_one_tensor(c, as_is, m->bytes));
        FUZZ_REQUIRE(!m->scale_bytes || in_one_tensor(c, matrix_scales(m, e), m->scale_bytes));
        FUZZ_REQUIRE(!m->zero_bytes || in_one_tensor(c, matrix_zeros(m, e), m->zero_bytes));
        if (m->order == CLMOE_W_EKN) (void)matrix_expert(m, e, CLMOE_W_ENK, scratch);
        check_f32(m, e);
    }
    free(scratch);
}

static void check_array(const struct array *a, int64_t count) {
    if (!a->data) return;
    const uint8_t *const bytes = a->data;
    volatile uint8_t sum = 0;
    FUZZ_REQUIRE(array_count(a) == count);
    for (size_t i = 0; i < a->bytes; ++i)
        sum = (uint8_t)(sum + bytes[i]);
}

static void check_block(const struct checkpoint *c, const struct family *f, const struct block *b) {
    const struct dense *const d = &b->dense;
    const struct matrix *const dense[] = {&d->latent_in, &d->latent_out, &d->gate,
                                          &d->up,        &d->down,       &d->shared_gate};
    const int64_t experts = b->experts, rows = (b->matrices[W1_UP].n_sources ? 2 : 1) * b->matrices[W1].rows;
    FUZZ_REQUIRE(experts == f->route.experts && experts > 0);
    for (int i = 0; i < N_MATRICES; ++i)
        check_matrix(c, &b->matrices[i]);
    for (size_t i = 0; i < sizeof dense / sizeof *dense; ++i)
        check_matrix(c, dense[i]);
    check_array(&b->router, experts * f->hidden);
    check_array(&b->router_bias, experts);
    check_array(&b->select_bias, experts);
    check_array(&b->bias1, experts * rows);
    check_array(&b->bias2, experts * family_width(f));
}

// Whether there is nothing wrong with it.
static bool read_layer(const uint8_t *data, size_t size) {
    struct description d = {0};
    struct family family;
    struct checkpoint checkpoint = {0};
    struct block block = {0};
    struct io_error err = {""};
    const bool gguf = is_gguf(data, size);
    write_model(data, size);
    const bool ok = description_open(in_folder(gguf ? "model.gguf" : "config.json"), NULL, 0, &d, &err) &&
                    family_read(&d, &family, &err) &&
                    checkpoint_open(gguf ? in_folder("model.gguf") : folder, &checkpoint, &err) &&
                    block_find(&checkpoint, &d, &family, &block, &err);
    FUZZ_REQUIRE(ok == (err.text[0] == '\0') && !strchr(err.text, '\n'));
    if (ok) check_block(&checkpoint, &family, &block);
    block_free(&block);
    checkpoint_close(&checkpoint);
    description_close(&d);
    return ok;
}

static void begin(void) {
    make_folder();
    if (atexit(remove_folder)) abort();
    for (size_t i = 0; i < layer_good_count(); ++i) {
        const struct fuzz_seed seed = layer_seed_at(i);
        FUZZ_REQUIRE(read_layer((const uint8_t *)seed.bytes, seed.size));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool begun;
    if (!begun) begin();
    begun = true;
    (void)read_layer(data, size);
    return 0;
}
