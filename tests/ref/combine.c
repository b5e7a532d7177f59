/* SPDX-License-Identifier: MIT */
#include "combine.h"

#include <math.h>
#include <stddef.h>

void ref_combine(int64_t tokens, int k, int experts, int64_t hidden, const float *x, const int32_t *ids,
                 const int32_t *inverse, const float *gamma, const float *residual, const float *shared,
                 double scale, double *y, double *magnitude) {
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t h = 0; h < hidden; h++) {
            double sum = 0, absolute = 0;
            for (int j = 0; j < k; j++) {
                const int64_t pair = t * k + j;
                if (ids && (ids[pair] < 0 || ids[pair] >= experts)) continue;
                const int64_t row = inverse ? inverse[pair] : pair;
                const double term = scale * (gamma ? gamma[pair] : 1.0) * x[row * hidden + h];
                sum += term;
                absolute += fabs(term);
            }
            const double others[2] = {residual ? residual[t * hidden + h] : 0,
                                      shared ? shared[t * hidden + h] : 0};
            y[t * hidden + h] = sum + others[0] + others[1];
            if (magnitude) magnitude[t * hidden + h] = absolute + fabs(others[0]) + fabs(others[1]);
        }
    }
}
