/* SPDX-License-Identifier: MIT
 * clmoe bench: times operations on the device and prints them beside what the device could do at best, and a
 * peer. */
#include "bench/experts.h"
#include "bench/report.h"
#include "command.h"
#include "io/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS 16
#define MAX_SHAPES 64
#define DTYPES "f32|f16|bf16|q8_0|q4_0|q5_0|q4_k|q5_k|q6_k|mxfp4|f4_e2m1|f8_e4m3|i8|awq|gptq"
#define DTYPE_AWQ 13 /* place in DTYPES; gptq is behind it */
#define OPS "topk|scatter|route|matmul|moe"

/* In the order of OPS; those up to BY_SHAPE run shapes, the others numbers of tokens. */
enum { OP_TOPK, OP_SCATTER, OP_ROUTE, OP_MATMUL, BY_SHAPE = OP_SCATTER };

/* "1,8,64" */
static int parse_tokens(const struct usage *usage, const char *text, int64_t tokens[MAX_TOKENS], int *n) {
    *n = 0;
    for (const char *p = text; *p;) {
        char *end;
        const long long v = strtoll(p, &end, 10);
        if (end == p || v < 1 || v > 1 << 24 || (*end && (*end != ',' || !end[1])) || *n == MAX_TOKENS)
            return command_fail(usage, EXIT_USAGE,
                                "tokens: expected up to %d numbers with commas, got \"%s\"", MAX_TOKENS,
                                text);
        tokens[(*n)++] = v;
        p = *end ? end + 1 : end;
    }
    return *n ? -1 : command_fail(usage, EXIT_USAGE, "tokens: empty");
}

/* What is run: one shape after another, or one number of tokens after another. */
struct runs {
    int64_t tokens[MAX_TOKENS];
    struct topk_shape {
        int64_t rows, n, k;
    } shapes[MAX_SHAPES];
    int n_tokens, n_shapes;
};

/* "4096x1024x8,1x131072x1024" */
static int parse_shapes(const struct usage *usage, const char *text, struct runs *runs) {
    for (const char *p = text; *p;) {
        long long v[3];
        int used = 0;
        const bool read = sscanf(p, "%lldx%lldx%lld%n", &v[0], &v[1], &v[2], &used) == 3 && used > 0;
        if (!read || (p[used] && p[used] != ',') || runs->n_shapes == MAX_SHAPES)
            return command_fail(usage, EXIT_USAGE,
                                "shape: expected up to %d of ROWSxNxK with commas, got \"%s\"", MAX_SHAPES,
                                text);
        if (v[0] < 1 || v[0] > INT32_MAX || v[1] < 1 || v[1] > INT32_MAX || v[2] < 1 || v[2] > v[1])
            return command_fail(usage, EXIT_USAGE, "shape: rows = %lld, n = %lld, k = %lld", v[0], v[1],
                                v[2]);
        runs->shapes[runs->n_shapes++] = (struct topk_shape){v[0], v[1], v[2]};
        p += used;
        if (*p == ',' && !*++p)
            return command_fail(usage, EXIT_USAGE, "shape: expected a shape after the last comma");
    }
    return -1;
}

static int run_all(struct bench *b, int op, const struct settings *base, const struct runs *runs,
                   struct report *report) {
    typedef int (*problem)(struct bench *, const struct settings *, result_sink, void *);
    static const problem problems[] = {problem_topk, problem_scatter, problem_route, problem_matmul,
                                       problem_moe};
    int code = -1;
    if (op > BY_SHAPE) return problems[op](b, base, report_result, report);
    for (int i = 0; i < runs->n_shapes && code < 0; i++) {
        struct settings s = *base;
        s.shape = (struct shape){.model = ""};
        s.rows = runs->shapes[i].rows;
        s.n = runs->shapes[i].n;
        s.k = runs->shapes[i].k;
        code = problems[op](b, &s, report_result, report);
    }
    return code;
}

/* Where results go, and how they are measured. */
struct outputs {
    const char *json, *csv;
    double peak;
    int64_t repeats;
    int flush; /* 1: by writing */
};

static int bench_run(const struct usage *usage, const char *device, int op, const struct settings *settings,
                     const struct runs *runs, const struct outputs *out) {
    struct session s;
    struct bench b = {0};
    struct report report;
    struct io_error error;
    if ((out->json && !output_check(out->json, &error)) || (out->csv && !output_check(out->csv, &error)))
        return command_fail(usage, EXIT_FAILED, "%s", error.text);
    int code = session_open(&s, usage, device);
    if (code >= 0) return code;
    code = bench_open(&b, &s, (int)out->repeats);
    b.flush_by_writing = out->flush;
    if (code < 0)
        code = report_open(&report, usage, &b, out->peak > 0 ? out->peak : b.fma_tflops, out->json, out->csv);
    if (code < 0) {
        printf("%s, driver %s: reads %.0f GB/s, fp32 fma %.2f TFLOP/s (measured); floor counts with %.2f "
               "TFLOP/s\n",
               report.info.name, report.info.driver, b.read_gbps, b.fma_tflops, report.peak_tflops);
        code = report_close(&report, run_all(&b, op, settings, runs, &report), out->json);
    }
    bench_close(&b);
    session_close(&s);
    return code < 0 ? EXIT_OK : code;
}

static int check_shape(const struct usage *usage, int op, const char *model, struct settings *s) {
    if (model) {
        const struct shape *const known = shape_find(model);
        if (!known) {
            char names[256] = "";
            for (int i = 0; shape_at(i); i++)
                snprintf(names + strlen(names), sizeof names - strlen(names), " %s", shape_at(i)->model);
            return command_fail(usage, EXIT_USAGE, "model: no \"%s\"; known:%s", model, names);
        }
        s->shape = *known;
    }
    if (s->logits && !model)
        return command_fail(usage, EXIT_USAGE, "logits: need a --model to name the files");
    if (op > BY_SHAPE && s->shape.topk > s->shape.experts)
        return command_fail(usage, EXIT_USAGE, "topk = %d of %d experts", (int)s->shape.topk,
                            (int)s->shape.experts);
    return -1;
}

/* A peer that would not be timed is an error, not a column that is missing. */
static int check_peer(const struct usage *usage, int op, const struct settings *s) {
    if (!s->peer) return -1;
    if (strcmp(s->peer, "copy") == 0)
        return op <= BY_SHAPE ? -1 : command_fail(usage, EXIT_USAGE, "vs: copy is for topk and scatter");
    return op == OP_MATMUL && s->dtype == CLMOE_F32
               ? -1
               : command_fail(usage, EXIT_USAGE, "vs: %s is for matmul with --dtype f32", s->peer);
}

static int check_words(const struct usage *usage, int op, const struct settings *s) {
    if (settings_words(s) && op < OP_MATMUL)
        return command_fail(usage, EXIT_USAGE, "dtype: %s is for matmul and moe", settings_dtype(s));
    return (s->group & (s->group - 1)) == 0
               ? -1
               : command_fail(usage, EXIT_USAGE, "group: expected a power of two, got %lld",
                              (long long)s->group);
}

static int check_resident(const struct usage *usage, int op, const struct settings *s) {
    if (s->resident == 0) return -1;
    if (s->resident < 0 || s->resident > 1)
        return command_fail(usage, EXIT_USAGE, "resident: expected a part of the experts, got %g",
                            s->resident);
    if (op <= OP_MATMUL || s->shape.experts > 1024 || s->logits || experts_scale(s).rows > 0)
        return command_fail(usage, EXIT_USAGE,
                            "resident: for moe with up to 1024 experts, drawn logits, no scales apart");
    return -1;
}

/* The command line: settings, and what has to be understood before it is one of them. */
struct request {
    struct settings settings;
    struct outputs out;
    struct topk_shape shape;
    const char *device, *model, *tokens, *shapes;
    int64_t experts, topk;
    int dtype, x_dtype, peer, fill, order, mode, masks, draw, score; /* places in their choices */
};

/* Completes the settings and checks them. Returns -1 or an exit code. */
static int understand(const struct usage *usage, int op, struct request *r, struct runs *runs) {
    static const char *const peers[] = {NULL, "clblast", "openblas", "copy"};
    static const enum clmoe_dtype dtypes[] = {
        CLMOE_F32,  CLMOE_F16,   CLMOE_BF16,    CLMOE_Q8_0,    CLMOE_Q4_0, CLMOE_Q5_0, CLMOE_Q4_K, CLMOE_Q5_K,
        CLMOE_Q6_K, CLMOE_MXFP4, CLMOE_F4_E2M1, CLMOE_F8_E4M3, CLMOE_I8,   CLMOE_I32,  CLMOE_I32};
    struct settings *const s = &r->settings;
    int code = parse_tokens(usage, r->tokens, runs->tokens, &runs->n_tokens);
    s->shape.experts = (int32_t)r->experts;
    s->shape.topk = (int32_t)r->topk;
    s->dtype = dtypes[r->dtype];
    if (s->dtype == CLMOE_I32) s->w_order = r->dtype == DTYPE_AWQ ? CLMOE_W_AWQ : CLMOE_W_GPTQ;
    s->x_dtype = op <= OP_ROUTE || dtypes[r->dtype] <= CLMOE_BF16 ? s->dtype : CLMOE_F32;
    if (op > OP_ROUTE && r->x_dtype >= 0) s->x_dtype = dtypes[r->x_dtype];
    s->peer = peers[r->peer];
    s->masks = r->masks;
    s->zipf = r->draw;
    s->token_counts = runs->tokens;
    s->n_token_counts = runs->n_tokens;
    s->fill = (enum bench_pattern)r->fill;
    s->order = (enum clmoe_topk_order)r->order;
    s->mode = (enum clmoe_scatter_mode)r->mode;
    if (code < 0 && r->shapes) code = parse_shapes(usage, r->shapes, runs);
    if (code < 0 && !runs->n_shapes) {
        if (op <= BY_SHAPE && r->shape.k > r->shape.n)
            return command_fail(usage, EXIT_USAGE, "k = %lld of n = %lld", (long long)r->shape.k,
                                (long long)r->shape.n);
        runs->shapes[runs->n_shapes++] = r->shape;
    }
    if (code < 0) code = check_shape(usage, op, r->model, s);
    if (code < 0) code = check_words(usage, op, s);
    if (code < 0) code = check_resident(usage, op, s);
    if (code < 0 && r->out.peak < 0)
        code = command_fail(usage, EXIT_USAGE, "peak-tflops: expected more than 0, got %g", r->out.peak);
    if (r->score) s->shape.route = (struct clmoe_route_params){.renorm = CLMOE_RENORM_SUM};
    return code < 0 ? check_peer(usage, op, s) : code;
}

int command_bench(int argc, char **argv) {
    struct request r = {
        .settings = {.group = 128, .shape = {"", 8, 2, 1024, 3584, {.renorm = CLMOE_RENORM_SUM}}},
        .out = {.repeats = 20},
        .shape = {4096, 1024, 8},
        .tokens = "1,8,64,512",
        .experts = 8,
        .topk = 2,
        .dtype = 2,
        .x_dtype = -1};
    struct settings *const s = &r.settings;
    struct runs runs = {.n_tokens = 0};
    const char *operand = NULL;
    int op;
    const struct option_row options[] = {
        {"model", OPTION_TEXT, &r.model, 0, 0, NULL,
         "NAME  the shape of a known model, and how it routes: mixtral-8x7b, dsv3, ..."},
        {"experts", OPTION_INT, &r.experts, 1, 4096, NULL, "E  8 by default"},
        {"topk", OPTION_INT, &r.topk, 1, 64, NULL, "k  experts of a token; 2 by default"},
        {"hidden", OPTION_INT, &s->shape.hidden, 1, 1 << 20, NULL, "H  1024 by default"},
        {"inter", OPTION_INT, &s->shape.inter, 1, 1 << 20, NULL, "I  3584 by default"},
        {"tokens", OPTION_TEXT, &r.tokens, 0, 0, NULL, "T,T,...  1,8,64,512 by default"},
        {"rows", OPTION_INT, &r.shape.rows, 1, INT32_MAX, NULL, "R  topk, scatter: rows; 4096 by default"},
        {"n", OPTION_INT, &r.shape.n, 1, INT32_MAX, NULL,
         "N  topk, scatter: length of a row; 1024 by default"},
        {"k", OPTION_INT, &r.shape.k, 1, INT32_MAX, NULL,
         "K  topk, scatter: how many of a row; 8 by default"},
        {"shape", OPTION_TEXT, &r.shapes, 0, 0, NULL,
         "ROWSxNxK,...  topk, scatter: several shapes, instead of --rows, -n, -k"},
        {"fill", OPTION_CHOICE, &r.fill, 0, 0, BENCH_PATTERNS,
         "topk: what rows hold; clustered: apart in the last bits only"},
        {"order", OPTION_CHOICE, &r.order, 0, 0, REPORT_ORDERS, "topk: sorted (best first) by default"},
        {"outputs", OPTION_CHOICE, &r.masks, 0, 0, REPORT_OUTPUTS,
         "topk: values and indices by default, or a mask and a dense row"},
        {"smallest", OPTION_FLAG, &s->smallest, 0, 0, NULL, "topk: the smallest, not the largest"},
        {"mode", OPTION_CHOICE, &r.mode, 0, 0, REPORT_MODES, "scatter: set by default"},
        {"in-place", OPTION_FLAG, &s->in_place, 0, 0, NULL, "scatter: change y, not a copy of x"},
        {"dtype", OPTION_CHOICE, &r.dtype, 0, 0, DTYPES,
         "of weights, or of logits; bf16 by default; f4_e2m1: as gpt-oss has them, a scale of 8 bits for 32; "
         "f8_e4m3: as DeepSeek-V3 has them, an f32 scale for 128 x 128; i8: an f32 scale for a row; "
         "awq, gptq: an f16 scale and a zero for a group"},
        {"group", OPTION_INT, &s->group, 16, 1 << 20, NULL,
         "G  awq, gptq: of G steps, a power of two; 128 by default"},
        {"x-dtype", OPTION_CHOICE, &r.x_dtype, 0, 0, "f32|f16|bf16",
         "matmul, moe: of activations; by default as the weights, f32 beside blocks and codes"},
        {"routing", OPTION_CHOICE, &r.draw, 0, 0, "random|zipf",
         "which experts logits choose; zipf: one about as often as 1 / its rank"},
        {"logits", OPTION_TEXT, &s->logits, 0, 0, NULL,
         "DIR  read them from MODEL_T.npy there (zipf: MODEL-zipf_T.npy), f32 [T, experts]"},
        {"score", OPTION_CHOICE, &r.score, 0, 0, "model|softmax",
         "route: as the model does it, or softmax over the chosen logits"},
        {"glu", OPTION_FLAG, &s->glu, 0, 0, NULL, "matmul: also the first product with its activation"},
        {"plan-times", OPTION_FLAG, &s->plan_times, 0, 0, NULL,
         "matmul, moe: also how long plans take to make, without a cache and from that on disk"},
        {"resident", OPTION_NUMBER, &s->resident, 0, 0, NULL,
         "F  moe: experts in host memory, room for this part of them; beside all on the device"},
        {"vs", OPTION_CHOICE, &r.peer, 0, 0, "none|clblast|openblas|copy",
         "matmul in f32: a loop of calls of a dense library; topk, scatter: a copy of as many bytes"},
        {"kernel", OPTION_TEXT, &s->kernel, 0, 0, NULL,
         "ROW,...  only these rows of the kernel tables (clmoe info)"},
        {"peak-tflops", OPTION_NUMBER, &r.out.peak, 0, 0, NULL,
         "X  ceiling for the floor, instead of the measured fp32 one"},
        {"repeats", OPTION_INT, &r.out.repeats, 1, BENCH_MAX_REPEATS, NULL,
         "N  timed runs, at least; 20 by default"},
        {"flush", OPTION_CHOICE, &r.out.flush, 0, 0, "read|write",
         "how caches are emptied; write: what they hold has to be written back first"},
        {"json", OPTION_TEXT, &r.out.json, 0, 0, NULL, "F  also write the results as a JSON list"},
        {"csv", OPTION_TEXT, &r.out.csv, 0, 0, NULL,
         "F  also write them as CSV, as tools/bench/compare.py reads it, one by one"},
        DEVICE_OPTION(r.device),
    };
    const struct usage usage = {
        .name = "bench",
        .summary = "Times one operation on the device: warm, by events, median of 20 to 60 runs (p10..p90), "
                   "caches flushed\n"
                   "before each. Floor: each byte once at the measured read bandwidth, or the operations at "
                   "the peak.\n"
                   "Samples of what route, matmul and moe compute are held against sums in double precision.",
        .operands = OPS,
        .min_operands = 1,
        .max_operands = 1,
        .example = "clmoe bench matmul --experts 8 --topk 2 --hidden 1024 --inter 3584 --tokens 1,256 "
                   "--dtype f32 --vs clblast",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int code = parse_options(&usage, argc, argv, &operand);
    if (code >= 0) return code;
    if (!parse_choice(operand, OPS, &op))
        return command_fail(&usage, EXIT_USAGE, "expected one of %s, got \"%s\"", OPS, operand);
    code = understand(&usage, op, &r, &runs);
    return code >= 0 ? code : bench_run(&usage, r.device, op, s, &runs, &r.out);
}
