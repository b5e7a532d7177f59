/* SPDX-License-Identifier: MIT */
#include "moe.h"

#include "matmul.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *room(int64_t n) {
    double *const v = calloc((size_t)n + 1, sizeof *v);
    if (!v) abort();
    return v;
}

/* out[r] += factor * w[r, .] . x */
static void product(const float *w, const double *x, int64_t rows, int64_t columns, double factor,
                    double *out) {
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < columns; c++)
            sum += (double)w[r * columns + c] * x[c];
        out[r] += factor * sum;
    }
}

static void add_row(const float *row, int64_t n, double *out) {
    for (int64_t i = 0; row && i < n; i++)
        out[i] += (double)row[i];
}

/* out += scale * b . (a . x) */
static void low_rank(const float *a, const float *b, const double *x, int64_t rank, int64_t in, int64_t rows,
                     double scale, double *out) {
    double *const z = room(rank);
    product(a, x, rank, in, 1, z);
    product(b, z, rows, rank, scale, out);
    free(z);
}

/* o of one pair: x [Z] -> out [Z]. v: the virtual expert, or -1. */
static void expert(const struct ref_moe *m, int64_t e, int64_t v, double scale, const double *x,
                   double *out) {
    const int64_t z = m->latent ? m->latent : m->hidden, n = m->inter, r = m->rank;
    double *const g = room(n), *const u = room(n);
    product(m->gate + e * n * z, x, n, z, 1, g);
    add_row(m->bias_gate ? m->bias_gate + e * n : NULL, n, g);
    if (m->up) product(m->up + e * n * z, x, n, z, 1, u);
    add_row(m->bias_up ? m->bias_up + e * n : NULL, n, u);
    if (v >= 0) {
        const float *const a_up = m->a_up ? m->a_up : m->a_gate;
        low_rank(m->a_gate + v * r * z, m->b_gate + v * n * r, x, r, z, n, scale, g);
        if (m->up) low_rank(a_up + v * r * z, m->b_up + v * n * r, x, r, z, n, scale, u);
    }
    for (int64_t i = 0; i < n; i++)
        g[i] = ref_activation(&m->act, m->up != NULL, g[i], u[i]);
    product(m->w2 + e * z * n, g, z, n, 1, out);
    add_row(m->bias2 ? m->bias2 + e * z : NULL, z, out);
    if (v >= 0) low_rank(m->a2 + v * r * n, m->b2 + v * z * r, g, r, n, z, scale, out);
    free(g), free(u);
}

/* Experts that every token uses. */
static void shared_experts(const struct ref_moe *m, const double *x, double *out) {
    const int64_t n = m->shared_inter, h = m->hidden;
    double *const g = room(n), *const u = room(n);
    double gate = 0, factor = 1;
    if (m->shared_gate) {
        product(m->shared_gate, x, 1, h, 1, &gate);
        factor = 1 / (1 + exp(-gate));
    }
    product(m->shared_w_gate, x, n, h, 1, g);
    if (m->shared_w_up) product(m->shared_w_up, x, n, h, 1, u);
    for (int64_t i = 0; i < n; i++)
        g[i] = ref_activation(&m->shared_act, m->shared_w_up != NULL, g[i], u[i]);
    product(m->shared_w2, g, h, n, factor, out);
    free(g), free(u);
}

/* The pairs of one token: x [Z] -> rows [k, Z]. */
static void token_pairs(const struct ref_moe *m, int64_t t, const double *x, double *rows) {
    const int64_t z = m->latent ? m->latent : m->hidden;
    const int32_t a = m->adapters ? m->adapter_ids[t] : -1;
    const bool adapted = a >= 0 && a < m->adapters;
    double *const in = room(z);
    for (int j = 0; j < m->k; j++) {
        const int64_t p = t * m->k + j, e = m->ids[p];
        const double weight = (double)m->gamma[p];
        if (e < 0 || e >= m->experts) continue;
        for (int64_t i = 0; i < z; i++)
            in[i] = x[i] * (m->gamma_input ? weight : 1);
        expert(m, e, adapted ? a * m->experts + e : -1,
               adapted && m->adapter_scale ? (double)m->adapter_scale[a] : 1, in, rows + j * z);
        for (int64_t i = 0; i < z && !m->gamma_input; i++)
            rows[j * z + i] *= weight;
    }
    free(in);
}

void ref_moe(const struct ref_moe *m, double *pairs, double *y) {
    const int64_t h = m->hidden, z = m->latent ? m->latent : h;
    double *const x = room(h), *const narrow = room(z), *const sum = room(z), *const out = room(h);
    memset(pairs, 0, (size_t)(m->tokens * m->k * z) * sizeof *pairs);
    for (int64_t t = 0; t < m->tokens; t++) {
        double *const rows = pairs + t * m->k * z;
        memset(x, 0, (size_t)h * sizeof *x), memset(narrow, 0, (size_t)z * sizeof *narrow);
        memset(sum, 0, (size_t)z * sizeof *sum), memset(out, 0, (size_t)h * sizeof *out);
        add_row(m->x + t * h, h, x);
        if (m->latent) product(m->down, x, z, h, 1, narrow);
        token_pairs(m, t, m->latent ? narrow : x, rows);
        for (int64_t i = 0; i < m->k * z; i++)
            sum[i % z] += m->out_scale * rows[i];
        if (m->latent) product(m->project_up, sum, h, z, 1, out);
        for (int64_t i = 0; i < h && !m->latent; i++)
            out[i] = sum[i] + (m->identity ? m->out_scale * (double)m->identity[t] * x[i] : 0);
        if (m->shared_inter) shared_experts(m, x, out);
        add_row(m->shared ? m->shared + t * h : NULL, h, out);
        for (int64_t i = 0; i < h && y; i++)
            y[t * h + i] = m->sum_scale * out[i] + (m->residual ? (double)m->residual[t * h + i] : 0);
    }
    free(x), free(narrow), free(sum), free(out);
}
