/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <stdlib.h>
#include <string.h>

#ifdef CLMOE_HAVE_CLBLAST
#include <clblast_c.h>
#endif
#ifdef CLMOE_HAVE_OPENBLAS
#include <cblas.h>
#endif

struct loop {
    const struct pairs *r;
    int32_t experts;
    int64_t n, k, rows;
    struct clmoe_tensor x, w, y; /* device: [rows, K], [E, N, K], [rows, N] */
    float *hx, *hw, *hy;         /* the same on the host */
};

#ifdef CLMOE_HAVE_CLBLAST
static enum clmoe_status clblast_loop(void *priv, cl_command_queue queue, cl_event *event) {
    const struct loop *const l = priv;
    size_t row = 0;
    for (int32_t e = 0; e < l->experts; e++) {
        const size_t m = (size_t)l->r->counts[e], n = (size_t)l->n, k = (size_t)l->k;
        if (m == 0) continue;
        if (*event) clReleaseEvent(*event);
        *event = NULL;
        const CLBlastStatusCode status = CLBlastSgemm(
            CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, m, n, k, 1.0f, l->x.mem, row * k,
            k, l->w.mem, (size_t)e * n * k, k, 0.0f, l->y.mem, row * n, n, &queue, event);
        if (status != CLBlastSuccess) return CLMOE_E_OPENCL;
        row += m;
    }
    return CLMOE_OK;
}

static int clblast_time(struct bench *b, struct loop *l, struct timing *timing) {
    const int64_t xs[2] = {l->rows, l->k}, ws[3] = {l->experts, l->n, l->k}, ys[2] = {l->rows, l->n};
    int code = bench_tensor(b, CLMOE_F32, 2, xs, 11, 1.0f, &l->x);
    if (code < 0) code = bench_tensor(b, CLMOE_F32, 3, ws, 12, 0.03f, &l->w);
    if (code < 0) code = session_buffer(b->s, CLMOE_F32, 2, ys, &l->y);
    if (code < 0) code = bench_time(b, clblast_loop, l, timing);
    session_release(&l->x);
    session_release(&l->w);
    session_release(&l->y);
    return code;
}
#endif

#ifdef CLMOE_HAVE_OPENBLAS
static void openblas_loop(const struct loop *l) {
    int64_t row = 0;
    for (int32_t e = 0; e < l->experts; e++) {
        const int m = l->r->counts[e], n = (int)l->n, k = (int)l->k;
        if (m == 0) continue;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, l->hx + row * k, k,
                    l->hw + (int64_t)e * n * k, k, 0.0f, l->hy + row * n, n);
        row += m;
    }
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Timed by the host's clock: the call returns when it is done. Weights are far larger than the caches, or
 * stay warm. */
static int openblas_time(struct bench *b, struct loop *l, struct timing *timing) {
    const size_t nx = (size_t)(l->rows * l->k), nw = (size_t)(l->experts * l->n * l->k),
                 ny = (size_t)(l->rows * l->n);
    l->hx = malloc(nx * sizeof *l->hx);
    l->hw = malloc(nw * sizeof *l->hw);
    l->hy = malloc(ny * sizeof *l->hy);
    int code = l->hx && l->hw && l->hy ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0) {
        double us[21];
        const int repeats = sizeof us / sizeof *us;
        for (size_t i = 0; i < nx; i++)
            l->hx[i] = (float)(i % 251) * 0.01f - 1.2f;
        for (size_t i = 0; i < nw; i++)
            l->hw[i] = (float)(i % 241) * 0.001f - 0.12f;
        openblas_loop(l);
        for (int i = 0; i < repeats; i++) {
            const double begin = bench_now_us();
            openblas_loop(l);
            us[i] = bench_now_us() - begin;
        }
        qsort(us, (size_t)repeats, sizeof *us, by_value);
        *timing = (struct timing){.median_us = us[repeats / 2],
                                  .p10_us = us[repeats / 10],
                                  .p90_us = us[repeats - 1 - repeats / 10],
                                  .repeats = repeats};
    }
    free(l->hx);
    free(l->hw);
    free(l->hy);
    return code;
}
#endif

struct copy {
    struct clmoe_tensor from, to;
    size_t bytes;
};

static enum clmoe_status call_copy(void *priv, cl_command_queue queue, cl_event *event) {
    const struct copy *const c = priv;
    const cl_int err = clEnqueueCopyBuffer(queue, c->from.mem, c->to.mem, 0, 0, c->bytes, 0, NULL, event);
    return err == CL_SUCCESS ? CLMOE_OK : CLMOE_E_OPENCL;
}

int peer_copy_time(struct bench *b, double bytes, struct timing *timing) {
    const int64_t half = (int64_t)(bytes / 2), words = half / 4 + 1;
    struct copy copy = {.bytes = half ? (size_t)half : 1};
    int code = bench_tensor(b, CLMOE_F32, 1, &words, 13, 1.0f, &copy.from);
    if (code < 0) code = session_buffer(b->s, CLMOE_F32, 1, &words, &copy.to);
    if (code < 0) code = bench_time(b, call_copy, &copy, timing);
    session_release(&copy.from);
    session_release(&copy.to);
    return code;
}

int peer_time(struct bench *b, const char *name, const struct pairs *r, int32_t experts, int64_t n, int64_t k,
              struct timing *timing) {
    struct loop loop = {.r = r, .experts = experts, .n = n, .k = k};
    for (int32_t e = 0; e < experts; e++)
        loop.rows += r->counts[e];
#ifdef CLMOE_HAVE_CLBLAST
    if (strcmp(name, "clblast") == 0) return clblast_time(b, &loop, timing);
#endif
#ifdef CLMOE_HAVE_OPENBLAS
    if (strcmp(name, "openblas") == 0) return openblas_time(b, &loop, timing);
#endif
    (void)timing;
    return command_fail(b->s->usage, EXIT_USAGE, "--vs %s: not built in", name);
}
