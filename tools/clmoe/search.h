/* SPDX-License-Identifier: MIT
 * Finding the tensors of a layer in a checkpoint, by the names of a description. */
#ifndef CLMOE_TOOLS_SEARCH_H
#define CLMOE_TOOLS_SEARCH_H

#include "description.h"
#include "io/checkpoint.h"

struct search {
    const struct checkpoint *checkpoint;
    const struct description *description;
    const char *prefix; /* the description's, "model.layers.{L}.mlp." */
    struct io_error *err;
};

struct tensor_name {
    char text[256];
};

/* PREFIX + NAME with {L} and {E} replaced, and `suffix`, which "." in front of it puts in the place of a last
 * part ".weight". Too long a name is cut, and not found. */
struct tensor_name search_name(const struct search *s, const char *name, int32_t expert, const char *suffix);

/* The first alternative of a name that the checkpoint has, in any form; if there is none *name is the first
 * one, which is what is then missed. NULL and false: the description has no such name. */
bool search_choose(const struct search *s, enum description_key key, const char **name);

/* Whether the checkpoint has it, for the first expert. */
bool search_exists(const struct search *s, const char *name, const char *suffix);

/* A tensor by its whole name; NULL and an error when there is none. */
const struct file_tensor *search_tensor(const struct search *s, const char *name);

/* An error, and false, for another shape. */
bool search_shape(const struct search *s, const struct file_tensor *t, int ndim, const int64_t *shape);

/* False: the description has no name for this. */
bool search_no_name(const struct search *s, enum description_key key);

#endif
