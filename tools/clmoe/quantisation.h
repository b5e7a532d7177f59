/* SPDX-License-Identifier: MIT
 * What quantization_config in config.json says about weights. */
#ifndef CLMOE_TOOLS_QUANTISATION_H
#define CLMOE_TOOLS_QUANTISATION_H

#include "description.h"

enum quantisation_method { QUANTISED_NOT, QUANTISED_FP8, QUANTISED_AWQ, QUANTISED_GPTQ };

struct quantisation {
    enum quantisation_method method;
    int64_t block[2];   /* FP8: rows and columns that share a scale                                */
    int64_t group;      /* AWQ, GPTQ: columns that share a scale and a zero point; 0: all of a row */
    int32_t zero_added; /* GPTQ: what is missing in zero points as they are stored                 */
};

/* Other methods, and none, are QUANTISED_NOT: their tensors say for themselves what they hold. An error for
 * what a known one has and cannot be read. */
bool quantisation_read(const struct description *d, struct quantisation *q, struct io_error *err);

#endif
