/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include <math.h>

/* SplitMix64: any seed is good, 0 too. */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

int sample_next(struct sampler *s, const float logits[MODEL_VOCAB]) {
    int best = 0;
    for (int i = 0; i < MODEL_VOCAB; i++) {
        if (!isfinite(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    if (s->temperature == 0) return best;
    double upto[MODEL_VOCAB], sum = 0;
    for (int i = 0; i < MODEL_VOCAB; i++)
        upto[i] = sum += exp(((double)logits[i] - (double)logits[best]) / s->temperature);
    const double at = uniform(&s->state) * sum;
    for (int i = 0; i < MODEL_VOCAB; i++)
        if (at < upto[i]) return i;
    return best;
}
