// SPDX-License-Identifier: MIT
#include "safetensors_types.h"
#include "safetensors.h"

#include <string.h>

const struct json_limits safetensors_limits = {"header: ", SAFETENSORS_MAX_HEADER, 8, 4000000};

static const char *const type_names[ARRAY_DTYPE_COUNT] = {
    [ARRAY_F32] = "F32",   [ARRAY_F16] = "F16",         [ARRAY_BF16] = "BF16",       [ARRAY_F64] = "F64",
    [ARRAY_I8] = "I8",     [ARRAY_U8] = "U8",           [ARRAY_I16] = "I16",         [ARRAY_U16] = "U16",
    [ARRAY_I32] = "I32",   [ARRAY_U32] = "U32",         [ARRAY_I64] = "I64",         [ARRAY_U64] = "U64",
    [ARRAY_BOOL] = "BOOL", [ARRAY_F8_E4M3] = "F8_E4M3", [ARRAY_F8_E5M2] = "F8_E5M2",
};

const char *safetensors_type_name(enum array_dtype dtype) {
    return type_names[dtype];
}

bool safetensors_type_find(const char *name, enum array_dtype *dtype) {
    for (int i = 0; i < ARRAY_DTYPE_COUNT; ++i) {
        if (strcmp(type_names[i], name) == 0) {
            *dtype = (enum array_dtype)i;
            return true;
        }
    }
    return false;
}
