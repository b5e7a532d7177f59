// SPDX-License-Identifier: MIT
//
// Small models with one layer: first good ones, for each form that weights come in; then these with a size that
// is wrong.
#ifndef CLMOE_TESTS_FUZZ_LAYER_SEEDS_H
#define CLMOE_TESTS_FUZZ_LAYER_SEEDS_H

#include "fuzz.h"

size_t layer_good_count(void);
size_t layer_seed_count(void);

// Until the next call.
struct fuzz_seed layer_seed_at(size_t i);

#endif
