// SPDX-License-Identifier: MIT
//
// The weights of a model as they lie on the Hugging Face hub: a folder with `model.safetensors`, or with
// `model.safetensors.index.json`, whose `weight_map` names the shard of every tensor. When both are there,
// `model.safetensors` is read, as transformers does.
//
// An index is checked whole when it is opened: every shard is a plain file name in the same folder (no '/',
// '\' or "..", none empty), exists, is a valid safetensors file and holds the tensors that the index puts in
// it. Tensors of a shard that the index does not name are not found.
//
// Or a GGUF file, "....gguf". Of a model that was split the first file, "...-00001-of-00003.gguf": the others
// lie beside it under the names that follow, each with the numbers of its name in its metadata, together with
// as many tensors as the first says, none of them twice.
#ifndef CLMOE_TOOLS_IO_CHECKPOINT_H
#define CLMOE_TOOLS_IO_CHECKPOINT_H

#include "gguf.h"
#include "safetensors.h"

#include <stdbool.h>
#include <stddef.h>

#define CHECKPOINT_MAX_SHARDS 4096

struct checkpoint_weight {
    const char *name;                 // in its file
    const char *file;                 // for messages
    const struct file_tensor *tensor; //
};

// `{0}` is a valid, closed one.
// Thread-safety: reading is safe from every thread; opening and closing belong to one.
struct checkpoint {
    char *name;                        // the folder or file, for messages
    size_t shard_count;                //
    struct safetensors *shards;        //
    size_t gguf_count;                 // either these or those
    struct gguf *ggufs;                //
    size_t count;                      //
    struct checkpoint_weight *weights; // sorted by name in byte order
};

// Opens all files (mapped: weights are paged in when touched).
bool checkpoint_open(const char *path, struct checkpoint *out, struct io_error *err);

// Valid on `{0}` and NULL. Arrays made from it end here.
void checkpoint_close(struct checkpoint *c);

// By exact name; NULL when there is none.
const struct checkpoint_weight *checkpoint_find(const struct checkpoint *c, const char *name);

// The array of a weight, borrowed from the checkpoint where aligned: array_free() it before
// checkpoint_close(). Errors name the folder when there is no such weight, else the file.
bool checkpoint_array(const struct checkpoint *c, const char *name, struct array *out, struct io_error *err);

#endif
