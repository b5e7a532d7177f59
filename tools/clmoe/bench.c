/* SPDX-License-Identifier: MIT
 * clmoe bench: times operations on the device and prints them beside what the device could do at best, and a
 * peer. */
#include "bench/problems.h"
#include "command.h"
#include "io/output.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS 16
#define MAX_SHAPES 64
#define ORDERS "sorted|index|any"
#define MODES "set|mask|add|multiply"
#define OUTPUTS "values|masks"
#define OPS "topk|scatter|route|matmul|moe"

/* In the order of OPS; those up to BY_SHAPE run shapes, the others numbers of tokens. */
enum { OP_TOPK, OP_SCATTER, OP_ROUTE, OP_MATMUL, BY_SHAPE = OP_SCATTER };

struct report {
    const struct usage *usage;
    struct bench *bench;
    struct clmoe_device_info info;
    double peak_tflops;
    cJSON *list;
};

/* The name of a choice, as in "random". */
struct choice {
    char text[16];
};

static struct choice choice_name(const char *choices, int value) {
    struct choice c;
    while (value-- > 0)
        choices = strchr(choices, '|') + 1;
    snprintf(c.text, sizeof c.text, "%.*s", (int)strcspn(choices, "|"), choices);
    return c;
}

/* The time that the bytes or the operations take at the measured ceilings, whichever is longer. */
static double floor_us(const struct report *r, const struct result *result) {
    const double bytes_us = result->bytes / r->bench->read_gbps * 1e-3;
    const double flops_us = result->flops / r->peak_tflops * 1e-6;
    return bytes_us > flops_us ? bytes_us : flops_us;
}

static void add_json(const struct report *r, const struct result *result, const char *peer, double floor) {
    const struct settings *const s = &result->settings;
    const double us = result->timing.median_us;
    cJSON *const o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "op", result->op);
    cJSON_AddStringToObject(o, "kernel", result->kernel);
    cJSON_AddStringToObject(o, "device", r->info.name);
    cJSON_AddStringToObject(o, "driver", r->info.driver);
    const struct {
        const char *name;
        double value;
    } sizes[] = {
        {"experts", s->shape.experts},
        {"topk", s->shape.topk},
        {"hidden", (double)s->shape.hidden},
        {"inter", (double)s->shape.inter},
        {"tokens", (double)s->tokens},
        {"rows", (double)s->rows},
        {"n", (double)s->n},
        {"k", (double)s->k},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value != 0) cJSON_AddNumberToObject(o, sizes[i].name, sizes[i].value);
    cJSON_AddStringToObject(o, "dtype", clmoe_dtype_name(s->dtype));
    if (strcmp(result->op, "topk") == 0) {
        cJSON_AddStringToObject(o, "fill", choice_name(BENCH_PATTERNS, (int)s->fill).text);
        cJSON_AddStringToObject(o, "order", choice_name(ORDERS, (int)s->order).text);
        cJSON_AddStringToObject(o, "outputs", choice_name(OUTPUTS, s->masks).text);
    }
    if (strcmp(result->op, "scatter") == 0) {
        cJSON_AddStringToObject(o, "mode", choice_name(MODES, (int)s->mode).text);
        cJSON_AddBoolToObject(o, "in_place", s->in_place);
    }
    cJSON_AddNumberToObject(o, "median_us", us);
    cJSON_AddNumberToObject(o, "p10_us", result->timing.p10_us);
    cJSON_AddNumberToObject(o, "p90_us", result->timing.p90_us);
    cJSON_AddNumberToObject(o, "tflops", result->flops / us * 1e-6);
    cJSON_AddNumberToObject(o, "gbps", result->bytes / us * 1e-3);
    cJSON_AddNumberToObject(o, "floor_us", floor);
    if (result->has_peer) {
        cJSON_AddStringToObject(o, "peer", peer);
        cJSON_AddNumberToObject(o, "peer_median_us", result->peer.median_us);
        cJSON_AddNumberToObject(o, "ratio", us / result->peer.median_us);
    }
    cJSON_AddItemToArray(r->list, o);
}

/* As in "4096x1024x8 random sorted", "mixtral-8x7b T=64". */
static void describe(const struct result *result, char *text, size_t size) {
    const struct settings *const s = &result->settings;
    if (!s->rows) {
        snprintf(text, size, "%s T=%lld", *s->shape.model ? s->shape.model : "layer", (long long)s->tokens);
        return;
    }
    const bool scatter = strcmp(result->op, "scatter") == 0;
    snprintf(text, size, "%lldx%lldx%lld %s %s", (long long)s->rows, (long long)s->n, (long long)s->k,
             scatter ? choice_name(MODES, (int)s->mode).text : choice_name(BENCH_PATTERNS, (int)s->fill).text,
             scatter    ? s->in_place ? "in place" : ""
             : s->masks ? choice_name(OUTPUTS, s->masks).text
                        : choice_name(ORDERS, (int)s->order).text);
}

static int print_result(void *priv, const struct result *result) {
    const struct report *const r = priv;
    const struct settings *const s = &result->settings;
    const double us = result->timing.median_us, floor = floor_us(r, result);
    char what[64];
    describe(result, what, sizeof what);
    printf("%-8s %-28s %-5s %11.1f us (%.1f..%.1f)  %8.2f GFLOP/s %8.1f GB/s  %6.2fx floor", result->op, what,
           clmoe_dtype_name(s->dtype), us, result->timing.p10_us, result->timing.p90_us,
           result->flops / us * 1e-3, result->bytes / us * 1e-3, us / floor);
    if (result->has_peer)
        printf("  %s %.1f us, ratio %.3f", s->peer, result->peer.median_us, us / result->peer.median_us);
    printf("  %s\n", result->kernel);
    fflush(stdout);
    if (r->list) add_json(r, result, s->peer, floor);
    return -1;
}

/* "1,8,64" */
static int parse_tokens(const struct usage *usage, const char *text, int64_t tokens[MAX_TOKENS], int *n) {
    *n = 0;
    for (const char *p = text; *p;) {
        char *end;
        const long long v = strtoll(p, &end, 10);
        if (end == p || v < 1 || v > 1 << 24 || (*end && *end != ',') || *n == MAX_TOKENS)
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
    for (int i = 0; i < (op <= BY_SHAPE ? runs->n_shapes : runs->n_tokens) && code < 0; i++) {
        struct settings s = *base;
        if (op <= BY_SHAPE) {
            s.shape = (struct shape){.model = ""};
            s.rows = runs->shapes[i].rows;
            s.n = runs->shapes[i].n;
            s.k = runs->shapes[i].k;
        } else {
            s.tokens = runs->tokens[i];
        }
        code = problems[op](b, &s, print_result, report);
    }
    return code;
}

static int write_json(const struct usage *usage, cJSON *list, const char *path) {
    char *const text = cJSON_Print(list);
    struct io_error error;
    struct output out;
    bool ok = text && output_open(path, &out, &error);
    if (ok) ok = output_commit(&out, output_write(&out, text, strlen(text), &error), &error);
    cJSON_free(text);
    return ok ? -1 : command_fail(usage, EXIT_FAILED, "%s", text ? error.text : "out of memory");
}

static int bench_run(const struct usage *usage, const char *device, int op, const struct settings *settings,
                     const struct runs *runs, double peak, int repeats, const char *json) {
    struct session s;
    struct bench b = {0};
    int code = session_open(&s, usage, device);
    if (code >= 0) return code;
    code = bench_open(&b, &s, repeats);
    if (code < 0) {
        struct report report = {.usage = usage,
                                .bench = &b,
                                .peak_tflops = peak > 0 ? peak : b.fma_tflops,
                                .list = json ? cJSON_CreateArray() : NULL};
        clmoe_context_device_info(s.ctx, &report.info);
        printf("%s, driver %s: reads %.0f GB/s, fp32 fma %.2f TFLOP/s (measured); floor counts with %.2f "
               "TFLOP/s\n",
               report.info.name, report.info.driver, b.read_gbps, b.fma_tflops, report.peak_tflops);
        code = run_all(&b, op, settings, runs, &report);
        if (code < 0 && json) code = write_json(usage, report.list, json);
        cJSON_Delete(report.list);
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

int command_bench(int argc, char **argv) {
    static const char *const peers[] = {NULL, "clblast", "openblas", "copy"};
    static const enum clmoe_dtype dtypes[] = {CLMOE_F32,  CLMOE_F16,  CLMOE_BF16, CLMOE_Q8_0, CLMOE_Q4_0,
                                              CLMOE_Q5_0, CLMOE_Q4_K, CLMOE_Q5_K, CLMOE_Q6_K, CLMOE_MXFP4};
    const char *device = NULL, *model = NULL, *tokens_text = "1,8,64,512", *json = NULL, *operand = NULL;
    const char *shapes_text = NULL;
    int64_t experts = 8, topk = 2, repeats = 20;
    int dtype = 2, peer = 0, op = -1, fill = 0, order = 0, mode = 0, masks = 0;
    double peak = 0;
    struct topk_shape one = {4096, 1024, 8};
    struct runs runs = {.n_tokens = 0};
    struct settings s = {.shape = {"", 8, 2, 1024, 3584, {.renorm = CLMOE_RENORM_SUM}}};
    const struct option_row options[] = {
        {"model", OPTION_TEXT, &model, 0, 0, NULL,
         "NAME  the shape of a known model, and how it routes: mixtral-8x7b, dsv3, ..."},
        {"experts", OPTION_INT, &experts, 1, 4096, NULL, "E  8 by default"},
        {"topk", OPTION_INT, &topk, 1, 64, NULL, "k  experts of a token; 2 by default"},
        {"hidden", OPTION_INT, &s.shape.hidden, 1, 1 << 20, NULL, "H  1024 by default"},
        {"inter", OPTION_INT, &s.shape.inter, 1, 1 << 20, NULL, "I  3584 by default"},
        {"tokens", OPTION_TEXT, &tokens_text, 0, 0, NULL, "T,T,...  1,8,64,512 by default"},
        {"rows", OPTION_INT, &one.rows, 1, INT32_MAX, NULL, "R  topk, scatter: rows; 4096 by default"},
        {"n", OPTION_INT, &one.n, 1, INT32_MAX, NULL, "N  topk, scatter: length of a row; 1024 by default"},
        {"k", OPTION_INT, &one.k, 1, INT32_MAX, NULL, "K  topk, scatter: how many of a row; 8 by default"},
        {"shape", OPTION_TEXT, &shapes_text, 0, 0, NULL,
         "ROWSxNxK,...  topk, scatter: several shapes, instead of --rows, -n, -k"},
        {"fill", OPTION_CHOICE, &fill, 0, 0, BENCH_PATTERNS,
         "topk: what rows hold; clustered: apart in the last bits only"},
        {"order", OPTION_CHOICE, &order, 0, 0, ORDERS, "topk: sorted (best first) by default"},
        {"outputs", OPTION_CHOICE, &masks, 0, 0, OUTPUTS,
         "topk: values and indices by default, or a mask and a dense row"},
        {"smallest", OPTION_FLAG, &s.smallest, 0, 0, NULL, "topk: the smallest, not the largest"},
        {"mode", OPTION_CHOICE, &mode, 0, 0, MODES, "scatter: set by default"},
        {"in-place", OPTION_FLAG, &s.in_place, 0, 0, NULL, "scatter: change y, not a copy of x"},
        {"dtype", OPTION_CHOICE, &dtype, 0, 0, "f32|f16|bf16|q8_0|q4_0|q5_0|q4_k|q5_k|q6_k|mxfp4",
         "of weights, and of activations, which are f32 beside blocks; bf16 by default"},
        {"vs", OPTION_CHOICE, &peer, 0, 0, "none|clblast|openblas|copy",
         "matmul in f32: a loop of calls of a dense library; topk, scatter: a copy of as many bytes"},
        {"kernel", OPTION_TEXT, &s.kernel, 0, 0, NULL,
         "ROW,...  only these rows of the kernel tables (clmoe info)"},
        {"peak-tflops", OPTION_NUMBER, &peak, 0, 0, NULL,
         "X  ceiling for the floor, instead of the measured fp32 one"},
        {"repeats", OPTION_INT, &repeats, 1, BENCH_MAX_REPEATS, NULL,
         "N  timed runs, at least; 20 by default"},
        {"json", OPTION_TEXT, &json, 0, 0, NULL, "F  also write the results as a JSON list"},
        DEVICE_OPTION(device),
    };
    const struct usage usage = {
        .name = "bench",
        .summary = "Times one operation on the device: warm, by events, median of 20 to 60 runs (p10..p90), "
                   "caches flushed\n"
                   "before each. Floor: each byte once at the measured read bandwidth, or the operations at "
                   "the peak.",
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
    code = parse_tokens(&usage, tokens_text, runs.tokens, &runs.n_tokens);
    s.shape.experts = (int32_t)experts;
    s.shape.topk = (int32_t)topk;
    s.dtype = dtypes[dtype];
    s.peer = peers[peer];
    s.masks = masks;
    s.fill = (enum bench_pattern)fill;
    s.order = (enum clmoe_topk_order)order;
    s.mode = (enum clmoe_scatter_mode)mode;
    if (code < 0 && shapes_text) code = parse_shapes(&usage, shapes_text, &runs);
    if (code < 0 && !runs.n_shapes) {
        if (one.k > one.n)
            return command_fail(&usage, EXIT_USAGE, "k = %lld of n = %lld", (long long)one.k,
                                (long long)one.n);
        runs.shapes[runs.n_shapes++] = one;
    }
    if (code < 0) code = check_shape(&usage, op, model, &s);
    if (code < 0) code = check_peer(&usage, op, &s);
    return code >= 0 ? code : bench_run(&usage, device, op, &s, &runs, peak, (int)repeats, json);
}
