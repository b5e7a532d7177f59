/* SPDX-License-Identifier: MIT
 * Proves a row of topk right in one pass. */
#include "topk_verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct order {
    uint64_t sign, inf; /* inf is 0 for integers */
    int bytes;
    bool is_signed, smallest, nan_lowest, total, highest;
};

static struct order order_of(const struct clmoe_topk_params *p) {
    const int bytes = (int)clmoe_dtype_bytes(p->dtype, 1);
    struct order o = {UINT64_C(1) << (8 * bytes - 1), 0, bytes, false, p->smallest != 0, false, false, false};
    o.nan_lowest = p->nan == CLMOE_NAN_LOWEST;
    o.total = p->nan == CLMOE_NAN_TOTAL_ORDER;
    o.highest = p->ties == CLMOE_TIES_HIGHEST;
    switch (p->dtype) {
    case CLMOE_F16: o.inf = 0x7c00; break;
    case CLMOE_BF16: o.inf = 0x7f80; break;
    case CLMOE_F32: o.inf = 0x7f800000; break;
    case CLMOE_F64: o.inf = 0x7ff0000000000000; break;
    case CLMOE_I8:
    case CLMOE_I16:
    case CLMOE_I32:
    case CLMOE_I64: o.is_signed = true; break;
    default: break;
    }
    return o;
}

/* How good an element is: greater is better. No number has the keys 0 and all ones, which NaN gets. */
static uint64_t goodness(const struct order *o, const char *x, int64_t i) {
    uint64_t v = 0;
    memcpy(&v, x + i * o->bytes, (size_t)o->bytes);
    const uint64_t mask = o->sign | (o->sign - 1);
    if (o->is_signed) v ^= o->sign;
    if (o->inf) {
        const bool nan = (v & ~o->sign) > o->inf;
        if (nan && !o->total)
            v = o->nan_lowest ? 0 : mask;
        else if (!o->total && (v & ~o->sign) == 0)
            v = o->sign;
        else
            v = v & o->sign ? ~v & mask : v | o->sign;
    }
    return o->smallest ? ~v & mask : v;
}

static bool before(const struct order *o, const char *x, int64_t i, int64_t j) {
    const uint64_t a = goodness(o, x, i), b = goodness(o, x, j);
    return a != b ? a > b : o->highest ? i > j : i < j;
}

static const char *complain(const char *what, int64_t place, int64_t index) {
    static char text[128];
    snprintf(text, sizeof text, "%s: place %lld, index %lld", what, (long long)place, (long long)index);
    return text;
}

const char *topk_verify_row(const struct clmoe_topk_params *params, const char *x, int64_t begin,
                            int64_t length, const char *values, const int64_t *indices) {
    const struct order o = order_of(params);
    const int64_t k = params->k < length ? params->k : length;
    const char *complaint = NULL;
    uint32_t *const seen = calloc((size_t)(params->n + 31) / 32, sizeof *seen);
    if (!seen) abort();
    int64_t last = k > 0 ? indices[0] : -1, not_after = 0;
    for (int64_t j = 0; j < params->k && !complaint; j++) {
        const int64_t i = indices[j];
        if (j >= k && i != -1) complaint = complain("not -1 in a slot that is left over", j, i);
        if (j >= k || complaint) continue;
        if (i < begin || i >= begin + length)
            complaint = complain("outside of the window", j, i);
        else if (seen[i / 32] >> i % 32 & 1)
            complaint = complain("twice", j, i);
        else if (memcmp(values + j * o.bytes, x + i * o.bytes, (size_t)o.bytes) != 0)
            complaint = complain("the value is not the element", j, i);
        else if (j > 0 && params->order == CLMOE_ORDER_INDEX && indices[j - 1] >= i)
            complaint = complain("not by index", j, i);
        else if (j > 0 && params->order == CLMOE_ORDER_SORTED && !before(&o, x, indices[j - 1], i))
            complaint = complain("not sorted", j, i);
        if (complaint) break;
        seen[i / 32] |= UINT32_C(1) << i % 32;
        if (before(&o, x, last, i)) last = i;
    }
    free(seen);
    for (int64_t i = begin; !complaint && k > 0 && i < begin + length; i++)
        not_after += i == last || before(&o, x, i, last);
    if (!complaint && not_after != k)
        complaint = complain("not the best: there are so many up to it", not_after, last);
    return complaint;
}
