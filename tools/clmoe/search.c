/* SPDX-License-Identifier: MIT */
#include "search.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PLAIN ".weight" /* what other forms have other words for */

/* The ends of names in other forms: MXFP4 of gpt-oss; AWQ and GPTQ. */
static const char *const forms[] = {"", "_blocks", ".qweight"};

/* Bytes of the name that stay before a suffix. */
static size_t stem(const char *name, const char *suffix) {
    const size_t length = strlen(name), plain = sizeof PLAIN - 1;
    const bool replaced = *suffix == '.' && length >= plain && strcmp(name + length - plain, PLAIN) == 0;
    return replaced ? length - plain : length;
}

struct tensor_name search_name(const struct search *s, const char *name, int32_t expert, const char *suffix) {
    const char *const parts[] = {s->prefix, name, suffix};
    const size_t lengths[] = {strlen(s->prefix), stem(name, suffix), strlen(suffix)};
    struct tensor_name out = {""};
    size_t used = 0;
    for (int p = 0; p < 3; p++) {
        const char *const end = parts[p] + lengths[p];
        for (const char *c = parts[p]; c < end && used < sizeof out.text - 24;) {
            const bool layer = strncmp(c, "{L}", 3) == 0;
            if (layer || strncmp(c, "{E}", 3) == 0) {
                used += (size_t)snprintf(out.text + used, 24, "%" PRId64,
                                         layer ? s->description->layer : (int64_t)expert);
                c += 3;
            } else {
                out.text[used++] = *c++;
            }
        }
    }
    out.text[used] = '\0';
    return out;
}

bool search_exists(const struct search *s, const char *name, const char *suffix) {
    return checkpoint_find(s->checkpoint, search_name(s, name, 0, suffix).text) != NULL;
}

bool search_choose(const struct search *s, enum description_key key, const char **name) {
    *name = description_text(s->description, key, 0);
    for (int i = 0; description_text(s->description, key, i); i++) {
        const char *const text = description_text(s->description, key, i);
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            if (!search_exists(s, text, forms[f])) continue;
            *name = text;
            return true;
        }
    }
    return false;
}

const struct file_tensor *search_tensor(const struct search *s, const char *name) {
    const struct checkpoint_weight *const weight = checkpoint_find(s->checkpoint, name);
    if (weight) return weight->tensor;
    io_error_set(s->err, s->checkpoint->name, "no tensor \"%.100s\" among %zu", name, s->checkpoint->count);
    return NULL;
}

bool search_shape(const struct search *s, const struct file_tensor *t, int ndim, const int64_t *shape) {
    bool same = t->ndim == ndim;
    for (int d = 0; d < ndim && same; d++)
        same = t->shape[d] == shape[d];
    return same || io_fail(s->err, s->checkpoint->name, "\"%.100s\" has shape %s, expected %s by %s", t->name,
                           array_shape_text(t->ndim, t->shape).text, array_shape_text(ndim, shape).text,
                           s->description->source);
}

bool search_no_name(const struct search *s, enum description_key key) {
    const struct config_value v = description_list(s->description, key);
    return config_refuse(&v, "a tensor's name", s->err);
}
