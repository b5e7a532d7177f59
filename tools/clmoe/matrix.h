/* SPDX-License-Identifier: MIT
 * One weight matrix of every expert, on the host, in the forms that checkpoints have: as the device takes
 * it, with scales beside it (fp8, MXFP4), or four bits in groups (AWQ, GPTQ). */
#ifndef CLMOE_TOOLS_MATRIX_H
#define CLMOE_TOOLS_MATRIX_H

#include "clmoe/clmoe.h"
#include "io/quantised.h"
#include "quantisation.h"
#include "search.h"

/* Where a tensor and what belongs to it lie. */
struct source {
    const void *data, *scales;  /* scales: NULL where there are none beside it */
    const void *zeros, *groups; /* of four bits; groups: NULL for columns in order */
};

/* [rows, columns] or, by order, [columns, rows] of each expert. */
struct matrix {
    struct source *sources; /* one of all experts, or one of each */
    int32_t n_sources;      /* 0: there is no such matrix */
    int32_t experts;
    int64_t rows, columns;
    enum clmoe_w_order order;
    enum clmoe_dtype dtype; /* on the device */
    size_t bytes;           /* of one expert there */

    /* Scales and zero points beside it, as the device takes them: bytes and shape of one expert's. */
    struct clmoe_w_scale scale;
    int64_t scale_shape[2], zero_shape[2];
    size_t scale_bytes, zero_bytes; /* 0: there are none */

    bool is_int4;            /* decoded to f16, but for matrix_keep_words() */
    struct int4_matrix int4; /* but for where things lie */
};

/* By a name with {E} a tensor for each expert, else one of all. The matrix is borrowed from the checkpoint;
 * a failed one and {0} can be freed. */
bool matrix_find(const struct search *s, const struct quantisation *q, const char *name, int32_t experts,
                 int64_t rows, int64_t columns, enum clmoe_w_order order, struct matrix *m);
void matrix_free(struct matrix *m);

/* Whether its four bits can go to the device as they lie: groups of columns in order, of a size that it
 * takes; and that they do. */
bool matrix_has_words(const struct matrix *m);
void matrix_keep_words(struct matrix *m);

/* The two dimensions of one expert in an order. */
void matrix_shape(const struct matrix *m, enum clmoe_w_order order, int64_t *shape);

/* The weights of one expert in an order, of the matrix's dtype: in place, if it is there, or made in
 * `scratch` of m->bytes. Its scales and zero points lie as they are. */
bool matrix_is_there(const struct matrix *m, enum clmoe_w_order order);
const void *matrix_expert(const struct matrix *m, int32_t expert, enum clmoe_w_order order, void *scratch);
const void *matrix_scales(const struct matrix *m, int32_t expert);
const void *matrix_zeros(const struct matrix *m, int32_t expert);

/* Whether the device gets floats, or blocks with all that belongs to them. */
bool matrix_is_float(const struct matrix *m);
bool matrix_is_block(const struct matrix *m);

/* Whether its dtype can be packed. */
bool matrix_has_panels(const struct matrix *m);

/* One expert's weights as f32 [rows, columns], where they are floats, four bits, or fp8. */
bool matrix_to_f32(const struct matrix *m, int32_t expert, struct array *out, struct io_error *err);

#endif
