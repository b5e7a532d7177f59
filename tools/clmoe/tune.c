/* SPDX-License-Identifier: MIT
 * clmoe tune: measures kernels of the expert product with other parameters than their own, one parameter
 * after another, and keeps what is faster. */
#include "bench/experts.h"
#include "bench/pairs.h"
#include "bench/verify.h"
#include "command.h"
#include "io/map.h"
#include "io/output.h"
#include "progress.h"
#include "tuning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DTYPES = 8, MAX_PARAMETERS = 8, MAX_LINES = 8192, PASSES = 2 };
#define DTYPES "f32|f16|bf16|q8_0|q4_0|q5_0|q4_k|q5_k|q6_k|mxfp4"
/* Faster by less than that is noise. */
#define GAIN 0.98

struct tuner {
    const struct usage *usage;
    struct bench bench;
    struct settings settings;
    enum clmoe_dtype dtypes[MAX_DTYPES];
    int n_dtypes;
    double seconds, until_us; /* for all, and when the time of the product at hand is over */
    int left;                 /* products that have not had their time */
    char device_line[900], lines[MAX_LINES];
};

/* One row on one product, and the values that its parameters have: 0 for the row's own. */
struct search {
    struct tuner *t;
    const char *row;
    char class[32];
    struct clmoe_matmul_params params;
    struct clmoe_matmul_args args;
    int values[MAX_PARAMETERS];
    double best_us;
};

/* ---- one measurement ---- */

/* "ROW CLASS A=1 B=2\n"; nothing if no parameter has a value. */
static void print_line(const struct search *s, const int values[MAX_PARAMETERS], char *line, size_t room) {
    struct clmoe_parameter p;
    int n = 0;
    size_t used = (size_t)snprintf(line, room, "%s %s", s->row, s->class);
    for (int i = 0; i < MAX_PARAMETERS && clmoe_kernel_parameter(s->row, i, &p); i++)
        if (values[i]) {
            used += (size_t)snprintf(line + used, room - used, " %s=%d", p.name, values[i]);
            n++;
        }
    snprintf(line + used, room - used, "\n");
    if (n == 0) *line = '\0';
}

struct call {
    clmoe_plan *plan;
    const struct clmoe_matmul_args *args;
};

static enum clmoe_status call_product(void *priv, cl_command_queue queue, cl_event *event) {
    const struct call *const c = priv;
    return clmoe_matmul_enqueue(c->plan, queue, c->args, 0, NULL, event);
}

/* *us is 0 if the row does not run so: on this device, for this product, or with these values. */
static int measure(const struct search *s, const int values[MAX_PARAMETERS], double *us) {
    struct session *const session = s->t->bench.s;
    char line[256], text[sizeof s->t->device_line + sizeof line];
    struct timing timing;
    print_line(s, values, line, sizeof line);
    snprintf(text, sizeof text, "%s%s", s->t->device_line, line);
    *us = 0;
    enum clmoe_status status = clmoe_context_set_tuning(session->ctx, text, 0);
    if (status != CLMOE_OK) return session_fail(session, status, "clmoe_context_set_tuning");
    clmoe_plan *plan;
    status = clmoe_matmul_plan(session->ctx, &s->params, &plan);
    if (status == CLMOE_E_UNSUPPORTED || status == CLMOE_E_BUILD) return -1;
    if (status != CLMOE_OK) return session_fail(session, status, "clmoe_matmul_plan");
    struct call call = {plan, &s->args};
    int code = -1;
    /* The description has the values of a row that is tuned. */
    if (!*line || strchr(clmoe_plan_describe(plan), '[')) {
        code = bench_time(&s->t->bench, call_product, &call, &timing);
        *us = timing.median_us;
    }
    clmoe_plan_destroy(&plan);
    return code;
}

/* ---- the search ---- */

static bool in_time(const struct search *s) {
    return bench_now_us() < s->t->until_us;
}

/* Values of one parameter, the others as they are. */
static int search_parameter(struct search *s, int index, const struct clmoe_parameter *p) {
    int code = -1;
    char what[96];
    for (int v = 0; v < p->n_values && code < 0 && in_time(s); v++) {
        int values[MAX_PARAMETERS];
        double us;
        if (p->values[v] == s->values[index]) continue;
        memcpy(values, s->values, sizeof values);
        values[index] = p->values[v];
        snprintf(what, sizeof what, "%s %s, %s", s->row, s->class, p->name);
        progress(what, v, p->n_values);
        code = measure(s, values, &us);
        if (us == 0 || us > s->best_us * GAIN) continue;
        /* Has the device been slower before? */
        double again = 0;
        if (code < 0) code = measure(s, s->values, &again);
        if (again < s->best_us) s->best_us = again;
        if (us > s->best_us * GAIN) continue;
        s->best_us = us;
        memcpy(s->values, values, sizeof values);
    }
    progress("", 1, 1);
    return code;
}

/* What was found, and the row as it is by itself, once more: the better one stays. */
static int compare(struct search *s, double *own_us) {
    static const int own[MAX_PARAMETERS] = {0};
    double us = 0;
    if (memcmp(s->values, own, sizeof own) == 0) return -1;
    int code = measure(s, own, own_us);
    if (code < 0) code = measure(s, s->values, &us);
    if (us > *own_us * GAIN) memset(s->values, 0, sizeof s->values);
    s->best_us = us;
    return code;
}

static int search_row(struct search *s) {
    struct clmoe_parameter p;
    char line[256];
    double own_us, before = 0;
    int code = measure(s, s->values, &own_us);
    if (code < 0 && own_us == 0 && s->t->settings.kernel) /* by name, so that somebody wonders */
        printf("%-20s %-14s %5lld tokens    %s\n", s->row, s->class, (long long)s->params.max_tokens,
               s->t->bench.s->log);
    if (code >= 0 || own_us == 0) return code;
    s->best_us = own_us;
    for (int pass = 0; pass < PASSES && s->best_us != before && code < 0; pass++) {
        before = s->best_us;
        for (int i = 0; i < MAX_PARAMETERS && clmoe_kernel_parameter(s->row, i, &p) && code < 0; i++)
            code = search_parameter(s, i, &p);
    }
    if (code < 0) code = compare(s, &own_us);
    if (code >= 0) return code;
    print_line(s, s->values, line, sizeof line);
    const size_t used = strlen(s->t->lines);
    if (used + strlen(line) < sizeof s->t->lines) strcat(s->t->lines, line);
    printf("%-20s %-14s %5lld tokens %10.1f us", s->row, s->class, (long long)s->params.max_tokens, own_us);
    if (*line)
        printf(" -> %10.1f us %s", s->best_us, line + strlen(s->row) + strlen(s->class) + 1);
    else
        printf("    as it is\n");
    fflush(stdout);
    return code;
}

/* ---- products ---- */

/* Whether --kernel names the row, or there is none and it has parameters. */
static bool wanted(const struct tuner *t, const char *row) {
    struct clmoe_parameter p;
    const char *name = t->settings.kernel;
    if (!clmoe_kernel_parameter(row, 0, &p)) return false;
    while (name && *name) {
        const size_t size = strcspn(name, ",");
        if (strlen(row) == size && memcmp(name, row, size) == 0) return true;
        name += size + (name[size] == ',');
    }
    return !t->settings.kernel;
}

/* One row on weights that are made. Rows for few pairs are measured at one token. */
static int tune_row(struct tuner *t, const char *row, const struct clmoe_matmul_params *product,
                    const struct experts *w, enum clmoe_dtype dtype) {
    const bool few = strncmp(row, "matmul_few", strlen("matmul_few")) == 0;
    struct settings settings = t->settings;
    settings.tokens = few ? 1 : settings.tokens;
    struct search s = {.t = t, .row = row, .params = *product, .args = {.w = w->w, .n_w = w->parts}};
    struct pairs pairs;
    int code = pairs_make(&t->bench, &settings, CLMOE_F32, &pairs);
    if (code >= 0) return code;
    const int64_t n = settings.tokens * settings.shape.topk;
    const int64_t xs[2] = {settings.tokens, product->in}, ys[2] = {n, product->out};
    const bool panels = w->order == CLMOE_W_PACKED && dtype > CLMOE_BF16;
    snprintf(s.class, sizeof s.class, "%s.%s%s%s", clmoe_dtype_name(product->x_dtype),
             clmoe_dtype_name(dtype), panels ? "_panel" : "", w->glu ? ".glu" : "");
    s.params.plan.kernel = row;
    s.params.max_tokens = settings.tokens;
    s.params.w_order = w->order;
    s.params.routing = few ? CLMOE_ROUTING_IDS : CLMOE_ROUTING_SORTED;
    s.args.ids = pairs.d_ids;
    if (!few) s.args.offsets = pairs.d_offsets, s.args.order = pairs.d_order;
    code = bench_tensor(&t->bench, product->x_dtype, 2, xs, 9, 1.0f, &s.args.x);
    if (code < 0) code = session_buffer(t->bench.s, product->y_dtype, 2, ys, &s.args.y);
    if (code < 0) code = search_row(&s);
    session_release(&s.args.x);
    session_release(&s.args.y);
    pairs_free(&pairs);
    return code;
}

static int tune_product(struct tuner *t, enum clmoe_dtype dtype, bool glu) {
    const enum clmoe_dtype x_dtype = dtype <= CLMOE_BF16 ? dtype : CLMOE_F32;
    struct clmoe_matmul_params product = {
        .topk = t->settings.shape.topk,
        .experts = t->settings.shape.experts,
        .in = t->settings.shape.hidden,
        .out = t->settings.shape.inter,
        .x_dtype = x_dtype,
        .w_dtype = dtype,
        .y_dtype = x_dtype,
        .glu = glu ? CLMOE_GLU_INTERLEAVED : CLMOE_GLU_NONE,
        .x_rows = CLMOE_ROWS_TOKEN,
    };
    struct experts w;
    int code;
    if (glu) product.act = bench_act;
    code = experts_make(&t->bench, &product, 5, &w);
    if (code >= 0) return code;
    const char *row;
    int rows = 0;
    for (int i = 0; (row = clmoe_kernel_name("matmul", i)); i++)
        rows += wanted(t, row);
    const double now = bench_now_us(), share = t->seconds * 1e6 / t->left--;
    for (int i = 0, done = 0; code < 0 && (row = clmoe_kernel_name("matmul", i)); i++) {
        if (!wanted(t, row)) continue;
        t->until_us = now + share * ++done / rows;
        code = tune_row(t, row, &product, &w, dtype);
    }
    t->seconds -= (bench_now_us() - now) * 1e-6;
    if (t->seconds < 0) t->seconds = 0;
    experts_free(&w);
    return code;
}

/* ---- what becomes of it ---- */

static int write_file(const struct usage *usage, const char *path, const char *text) {
    struct io_error error;
    struct output out;
    bool ok = output_open(path, &out, &error);
    if (ok) ok = output_commit(&out, output_write(&out, text, strlen(text), &error), &error);
    return ok ? -1 : command_fail(usage, EXIT_FAILED, "%s", error.text);
}

/* The text of a file, "" if there is none that can be read. To be freed. */
static char *read_text(const char *path) {
    struct io_error error;
    struct file_map map;
    const bool open = file_map_open(path, &map, &error);
    char *const text = calloc(open ? map.size + 1 : 1, 1);
    if (open && text && map.size) memcpy(text, map.data, map.size);
    if (open) file_map_close(&map);
    return text;
}

static int keep_text(struct tuner *t, const char *text, const char *output) {
    struct session *const s = t->bench.s;
    const enum clmoe_status status = clmoe_context_set_tuning(s->ctx, text, !output);
    if (status != CLMOE_OK) return session_fail(s, status, "the text that was there before");
    if (output) {
        const int code = write_file(t->usage, output, text);
        if (code < 0) printf("written to %s: plans use it where CLMOE_TUNING=%s\n", output, output);
        return code;
    }
    if (!s->cache) return command_fail(t->usage, EXIT_FAILED, "no cache directory to keep it in: --output");
    printf("kept in the cache: plans of contexts with this cache use it\n");
    return -1;
}

static int keep_lines(struct tuner *t, const char *before, const char *output) {
    char *const old = output ? read_text(output) : NULL;
    char *const text = output && !old ? NULL : tuning_merge(t->device_line, t->lines, output ? old : before);
    const int code = !text       ? command_fail(t->usage, EXIT_FAILED, "out of memory")
                     : *t->lines ? keep_text(t, text, output)
                                 : -1;
    if (text && !*t->lines) printf("nothing was faster: nothing is written\n");
    free(text);
    free(old);
    return code;
}

static int run(struct tuner *t, const char *device, int repeats, const char *output) {
    struct session s;
    struct clmoe_device_info info;
    struct io_error error;
    if (output && !output_check(output, &error)) return command_fail(t->usage, EXIT_FAILED, "%s", error.text);
    int code = session_open(&s, t->usage, device);
    if (code >= 0) return code;
    s.quiet = true; /* what does not run is part of the search */
    clmoe_context_device_info(s.ctx, &info);
    tuning_device_line(&info, t->device_line, sizeof t->device_line);
    const char *const now = clmoe_context_tuning(s.ctx);
    char *const before = calloc(strlen(now) + 1, 1);
    if (before) strcpy(before, now);
    code = before ? bench_open(&t->bench, &s, repeats) : command_fail(t->usage, EXIT_FAILED, "out of memory");
    t->left = 2 * t->n_dtypes;
    for (int i = 0; i < 2 * t->n_dtypes && code < 0; i++)
        code = tune_product(t, t->dtypes[i / 2], i % 2);
    if (code < 0) code = keep_lines(t, before, output);
    free(before);
    bench_close(&t->bench);
    session_close(&s);
    return code < 0 ? EXIT_OK : code;
}

/* ---- options ---- */

/* "f32,q8_0" */
static int parse_dtypes(struct tuner *t, const char *list) {
    static const enum clmoe_dtype dtypes[] = {CLMOE_F32,  CLMOE_F16,  CLMOE_BF16, CLMOE_Q8_0, CLMOE_Q4_0,
                                              CLMOE_Q5_0, CLMOE_Q4_K, CLMOE_Q5_K, CLMOE_Q6_K, CLMOE_MXFP4};
    for (const char *p = list; *p;) {
        char name[16];
        const size_t size = strcspn(p, ",");
        int index;
        snprintf(name, sizeof name, "%.*s", (int)(size < sizeof name ? size : sizeof name - 1), p);
        const bool ends = p[size] == ',' && !p[size + 1]; /* but nothing follows */
        if (t->n_dtypes == MAX_DTYPES || ends || !parse_choice(name, DTYPES, &index))
            return command_fail(t->usage, EXIT_USAGE,
                                "dtype: expected up to %d of %s with commas, got \"%s\"", MAX_DTYPES, DTYPES,
                                list);
        t->dtypes[t->n_dtypes++] = dtypes[index];
        p += size + (p[size] == ',');
    }
    return t->n_dtypes ? -1 : command_fail(t->usage, EXIT_USAGE, "dtype: empty");
}

static int check_kernels(const struct tuner *t) {
    const char *row;
    for (int i = 0; (row = clmoe_kernel_name("matmul", i)); i++)
        if (wanted(t, row)) return -1;
    return command_fail(t->usage, EXIT_USAGE, "kernel: no row of matmul with parameters in \"%s\"",
                        t->settings.kernel);
}

int command_tune(int argc, char **argv) {
    struct tuner t = {
        .settings = {.shape = {"", 8, 2, 1024, 3584, {.renorm = CLMOE_RENORM_SUM}}, .tokens = 512},
        .seconds = 120};
    const char *device = NULL, *model = NULL, *dtypes = "f32,bf16", *output = NULL, *operand = NULL;
    int64_t experts = 8, topk = 2, repeats = 10;
    const struct option_row options[] = {
        {"model", OPTION_TEXT, &model, 0, 0, NULL,
         "NAME  the shape of a known model: mixtral-8x7b, dsv3, ..."},
        {"experts", OPTION_INT, &experts, 1, 4096, NULL, "E  8 by default"},
        {"topk", OPTION_INT, &topk, 1, 64, NULL, "k  experts of a token; 2 by default"},
        {"hidden", OPTION_INT, &t.settings.shape.hidden, 1, 1 << 20, NULL, "H  1024 by default"},
        {"inter", OPTION_INT, &t.settings.shape.inter, 1, 1 << 20, NULL, "I  3584 by default"},
        {"tokens", OPTION_INT, &t.settings.tokens, 1, 1 << 20, NULL,
         "T  512 by default; kernels for few rows always run one"},
        {"dtype", OPTION_TEXT, &dtypes, 0, 0, NULL, "D,...  of weights (" DTYPES "); f32,bf16 by default"},
        {"kernel", OPTION_TEXT, &t.settings.kernel, 0, 0, NULL, "ROW,...  only these rows of matmul's table"},
        {"seconds", OPTION_NUMBER, &t.seconds, 0, 0, NULL, "S  how long to search; 120 by default"},
        {"repeats", OPTION_INT, &repeats, 1, BENCH_MAX_REPEATS, NULL,
         "N  timed runs of each choice, at least; 10 by default"},
        {"output", OPTION_TEXT, &output, 0, 0, NULL,
         "F  add to this file, for CLMOE_TUNING, and not to the cache"},
        DEVICE_OPTION(device),
    };
    const struct usage usage = {
        .name = "tune",
        .summary =
            "Searches for kernel parameters that are faster on the device, and keeps them for all plans "
            "to come.",
        .operands = "",
        .example = "clmoe tune --model mixtral-8x7b --dtype bf16,q4_k --tokens 1024 --seconds 300",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    t.usage = &usage;
    int code = parse_options(&usage, argc, argv, &operand);
    if (code < 0 && model) {
        const struct shape *const known = shape_find(model);
        if (!known) return command_fail(&usage, EXIT_USAGE, "model: no \"%s\"; see clmoe bench", model);
        t.settings.shape = *known;
    } else {
        t.settings.shape.experts = (int32_t)experts;
        t.settings.shape.topk = (int32_t)topk;
    }
    if (code < 0 && t.settings.shape.topk > t.settings.shape.experts)
        return command_fail(&usage, EXIT_USAGE, "topk = %d of %d experts", (int)t.settings.shape.topk,
                            (int)t.settings.shape.experts);
    if (code < 0 && !(t.seconds >= 0)) return command_fail(&usage, EXIT_USAGE, "seconds = %g", t.seconds);
    if (code < 0) code = parse_dtypes(&t, dtypes);
    if (code < 0) code = check_kernels(&t);
    return code < 0 ? run(&t, device, (int)repeats, output) : code;
}
