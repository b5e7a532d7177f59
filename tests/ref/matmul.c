/* SPDX-License-Identifier: MIT */
#include "matmul.h"

#include <math.h>

static double curve(const struct clmoe_activation *act, double g) {
    const double alpha = act->alpha == 0 ? 1 : (double)act->alpha, pi = 3.14159265358979323846;
    switch (act->kind) {
    case CLMOE_ACT_SILU: return g / (1 + exp(-alpha * g));
    case CLMOE_ACT_GELU_ERF: return g * (1 + erf(g / sqrt(2))) / 2;
    case CLMOE_ACT_GELU_TANH: return g * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 * g * g * g))) / 2;
    case CLMOE_ACT_RELU: return g < 0 ? 0 : g;
    case CLMOE_ACT_RELU2: return g < 0 ? 0 : g * g;
    case CLMOE_ACT_SIGMOID: return 1 / (1 + exp(-alpha * g));
    case CLMOE_ACT_SITU: {
        const double b = (double)act->gate_tanh;
        return b * tanh(g / b) / (1 + exp(-alpha * g));
    }
    default: return g;
    }
}

static double limit(double v, double low, double high) {
    return v > high ? high : v < low ? low : v;
}

double ref_activation(const struct clmoe_activation *act, bool gated, double g, double u) {
    if (act->gate_max > 0) g = limit(g, -INFINITY, (double)act->gate_max);
    double a = curve(act, g);
    if (act->act_max > 0) a = limit(a, -INFINITY, (double)act->act_max);
    if (!gated) return a;
    if (act->up_max > 0) u = limit(u, -(double)act->up_max, (double)act->up_max);
    if (act->up_tanh > 0) u = (double)act->up_tanh * tanh(u / (double)act->up_tanh);
    return a * (u + (double)act->up_add);
}

struct sum {
    double value, absolute;
};

static void add_term(struct sum *s, const float *term) {
    if (term) s->value += (double)*term, s->absolute += fabs((double)*term);
}

static struct sum dot(const float *x, const float *w, int64_t n, double factor) {
    struct sum s = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        const double term = factor * (double)x[i] * (double)w[i];
        s.value += term;
        s.absolute += fabs(term);
    }
    return s;
}

/* Slopes of all curves are below 1.2 (with alpha of at most 2), that of relu^2 below 2g; the gelus subtract
 * from 1, which costs a part of g. */
static double spread(const struct clmoe_activation *act, bool gated, struct sum g, struct sum u) {
    double top = fabs(g.value);
    if (act->gate_max > 0 && g.value > (double)act->gate_max) top = (double)act->gate_max;
    const double slope = act->kind == CLMOE_ACT_RELU2 ? 2 * top + 1 : 1.2;
    const double of_gate = slope * g.absolute + fabs(curve(act, limit(g.value, -INFINITY, top)));
    if (!gated) return of_gate;
    double up = fabs(u.value);
    if (act->up_max > 0 && up > (double)act->up_max) up = (double)act->up_max;
    const double rest = fabs((double)act->up_add);
    return of_gate * (up + rest) + fabs(curve(act, limit(g.value, -INFINITY, top))) * (u.absolute + rest);
}

void ref_matmul(const struct ref_matmul *m, double *y, double *magnitude) {
    for (int64_t p = 0; p < m->tokens * m->k; p++) {
        const int32_t e = m->ids[p];
        const float *const x = m->x + (m->x_token ? p / m->k : p) * m->in;
        const double gamma = m->gamma ? (double)m->gamma[p] : 1;
        for (int64_t n = 0; n < m->out; n++) {
            const int64_t at = p * m->out + n;
            y[at] = magnitude[at] = 0;
            if (e < 0 || e >= m->experts) continue;
            if (m->limit == CLMOE_LIMIT_OUT && n >= m->limits[e]) { /* anything */
                magnitude[at] = INFINITY;
                continue;
            }
            const int64_t row = e * m->out + n;
            const int64_t in_count =
                m->limit == CLMOE_LIMIT_IN ? (int64_t)limit((double)m->limits[e], 0, (double)m->in) : m->in;
            const double in = m->gamma_input ? gamma : 1;
            struct sum g = dot(x, m->gate + row * m->in, in_count, in), u = {0, 0};
            add_term(&g, m->bias_gate ? m->bias_gate + row : NULL);
            add_term(&g, m->add_gate ? m->add_gate + at : NULL);
            if (m->up) u = dot(x, m->up + row * m->in, in_count, in);
            add_term(&u, m->bias_up ? m->bias_up + row : NULL);
            add_term(&u, m->add_up ? m->add_up + at : NULL);
            const double out =
                (m->expert_scale ? (double)m->expert_scale[e] : 1) * (m->gamma_input ? 1 : gamma);
            y[at] = out * ref_activation(&m->act, m->up != NULL, g.value, u.value);
            /* A NaN must come out as a NaN, whatever the terms were. */
            magnitude[at] = isnan(y[at]) ? 0 : fabs(out) * spread(&m->act, m->up != NULL, g, u);
        }
    }
}
