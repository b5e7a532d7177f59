/* SPDX-License-Identifier: MIT */
#include "quantisation.h"
#include "io/json.h"

#include <string.h>

#define KEY(name) "quantization_config." name
#define MAX_SIZE (1 << 24)

static bool read_block(const struct config *c, struct quantisation *q, struct io_error *err) {
    size_t count;
    if (!config_ints(c, KEY("weight_block_size"), 1, MAX_SIZE, 2, q->block, &count, err)) return false;
    return count == 2 || io_fail(err, c->name, KEY("weight_block_size") ": expected 2 sizes, got %zu", count);
}

/* Four bits, in groups along the columns. */
static bool read_groups(const struct config *c, struct quantisation *q, struct io_error *err) {
    int64_t bits;
    if (!config_int(c, KEY("bits"), 4, 4, &bits, err) ||
        !config_int(c, KEY("group_size"), -1, MAX_SIZE, &q->group, err))
        return false;
    if (q->group == 0 || q->group % 8)
        if (q->group != -1)
            return io_fail(err, c->name, KEY("group_size") ": expected -1 or a multiple of 8, got %lld",
                           (long long)q->group);
    if (q->group == -1) q->group = 0;
    return true;
}

static bool read_awq(const struct config *c, struct quantisation *q, struct io_error *err) {
    static const char *const versions[] = {"gemm", "GEMM", NULL};
    bool zero_point;
    int version;
    if (!read_groups(c, q, err) || !config_choice_or(c, KEY("version"), versions, 0, &version, err) ||
        !config_bool_or(c, KEY("zero_point"), true, &zero_point, err))
        return false;
    return zero_point || io_fail(err, c->name, KEY("zero_point") ": expected true, got false");
}

static bool read_gptq(const struct config *c, struct quantisation *q, struct io_error *err) {
    static const char *const formats[] = {"gptq", "gptq_v2", NULL};
    int format;
    if (!read_groups(c, q, err) || !config_choice_or(c, KEY("checkpoint_format"), formats, 0, &format, err))
        return false;
    q->zero_added = format == 0;
    return true;
}

bool quantisation_read(const struct description *d, struct quantisation *q, struct io_error *err) {
    static const struct {
        const char *name;
        enum quantisation_method method;
        bool (*read)(const struct config *c, struct quantisation *q, struct io_error *err);
    } methods[] = {{"fp8", QUANTISED_FP8, read_block},
                   {"awq", QUANTISED_AWQ, read_awq},
                   {"gptq", QUANTISED_GPTQ, read_gptq}};
    const struct config *const c = &d->whole;
    const char *const name = cJSON_GetStringValue(config_find(c, KEY("quant_method")));
    *q = (struct quantisation){0};
    for (size_t i = 0; name && i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(name, methods[i].name) != 0) continue;
        q->method = methods[i].method;
        return methods[i].read(c, q, err);
    }
    return true;
}
