/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "io/output.h"

#include <errno.h>
#include <string.h>

/* A short text. */
struct text {
    char text[128];
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
    const double bytes_us = result->bytes / r->read_gbps * 1e-3;
    const double flops_us = result->flops / r->peak_tflops * 1e-6;
    return bytes_us > flops_us ? bytes_us : flops_us;
}

/* Of the experts that calls wanted, those that were there; and bytes of a call that were not. */
static double hit_rate(const struct result *result) {
    const uint64_t wanted = result->offload.hits + result->offload.misses;
    return wanted ? (double)result->offload.hits / (double)wanted : 1;
}
static double moved_bytes(const struct result *result) {
    const uint64_t calls = result->offload.calls;
    return calls ? (double)result->offload.bytes / (double)calls : 0;
}

static const char *peer_name(const struct result *result) {
    return result->offload.slots ? "resident" : result->settings.peer;
}

static void add_settings(cJSON *o, const struct result *result) {
    const struct settings *const s = &result->settings;
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
    cJSON_AddStringToObject(o, "dtype", settings_dtype(s));
    if (settings_words(s)) cJSON_AddNumberToObject(o, "group", (double)s->group);
    if (strcmp(result->op, "topk") == 0) {
        cJSON_AddStringToObject(o, "fill", choice_name(BENCH_PATTERNS, (int)s->fill).text);
        cJSON_AddStringToObject(o, "order", choice_name(REPORT_ORDERS, (int)s->order).text);
        cJSON_AddStringToObject(o, "outputs", choice_name(REPORT_OUTPUTS, s->masks).text);
    }
    if (strcmp(result->op, "scatter") == 0) {
        cJSON_AddStringToObject(o, "mode", choice_name(REPORT_MODES, (int)s->mode).text);
        cJSON_AddBoolToObject(o, "in_place", s->in_place);
    }
}

static void add_json(const struct report *r, const struct result *result) {
    const double us = result->timing.median_us;
    cJSON *const o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "op", result->op);
    cJSON_AddStringToObject(o, "kernel", result->kernel);
    cJSON_AddStringToObject(o, "device", r->info.name);
    cJSON_AddStringToObject(o, "driver", r->info.driver);
    add_settings(o, result);
    cJSON_AddNumberToObject(o, "median_us", us);
    cJSON_AddNumberToObject(o, "p10_us", result->timing.p10_us);
    cJSON_AddNumberToObject(o, "p90_us", result->timing.p90_us);
    cJSON_AddNumberToObject(o, "enqueue_us", result->timing.enqueue_us);
    cJSON_AddNumberToObject(o, "tflops", result->flops / us * 1e-6);
    cJSON_AddNumberToObject(o, "gbps", result->bytes / us * 1e-3);
    cJSON_AddNumberToObject(o, "floor_us", floor_us(r, result));
    if (result->errors.known) {
        cJSON_AddNumberToObject(o, "err_max", result->errors.max);
        cJSON_AddNumberToObject(o, "err_rms", result->errors.rms);
        cJSON_AddBoolToObject(o, "ok", result->errors.good);
    }
    if (result->plan_times.cold > 0) cJSON_AddNumberToObject(o, "plan_cold_ms", result->plan_times.cold);
    if (result->plan_times.disk > 0) cJSON_AddNumberToObject(o, "plan_disk_ms", result->plan_times.disk);
    if (result->offload.slots) {
        cJSON_AddNumberToObject(o, "slots", result->offload.slots);
        cJSON_AddNumberToObject(o, "hit_rate", hit_rate(result));
        cJSON_AddNumberToObject(o, "moved_bytes", moved_bytes(result));
    }
    if (result->has_peer) {
        cJSON_AddStringToObject(o, "peer", peer_name(result));
        cJSON_AddNumberToObject(o, "peer_median_us", result->peer.median_us);
        cJSON_AddNumberToObject(o, "ratio", us / result->peer.median_us);
    }
    cJSON_AddItemToArray(r->list, o);
}

/* As the peers' script names it. */
static const char *csv_op(const char *op) {
    static const char *const names[][2] = {
        {"topk", "cl_topk"},   {"scatter", "cl_scatter"}, {"route", "cl_route"},
        {"order", "cl_order"}, {"matmul1", "cl_mm1"},     {"matmul1_glu", "cl_mm1_swiglu"},
        {"matmul2", "cl_mm2"}, {"moe", "cl_moe_full"},    {"offload", "cl_moe_offload"},
    };
    size_t i = 0;
    while (strcmp(names[i][0], op) != 0)
        i++;
    return names[i][1];
}

/* "qwen3-30b-a3b:zipf", or the sizes. */
static struct text csv_shape(const struct settings *s) {
    struct text t;
    if (s->rows)
        snprintf(t.text, sizeof t.text, "%lldx%lldk%lld", (long long)s->rows, (long long)s->n,
                 (long long)s->k);
    else if (*s->shape.model)
        snprintf(t.text, sizeof t.text, "%s%s", s->shape.model, s->zipf ? ":zipf" : "");
    else
        snprintf(t.text, sizeof t.text, "%dx%dx%lldx%lld%s", (int)s->shape.experts, (int)s->shape.topk,
                 (long long)s->shape.hidden, (long long)s->shape.inter, s->zipf ? ":zipf" : "");
    return t;
}

static const char *csv_dtype(const char *name) {
    return strcmp(name, "f32") == 0 ? "fp32" : strcmp(name, "f16") == 0 ? "fp16" : name;
}

static struct text plan_note(const struct plan_times *t) {
    struct text n = {""};
    if (t->cold > 0) snprintf(n.text, sizeof n.text, " plan_cold=%.1fms", t->cold);
    if (t->disk > 0)
        snprintf(n.text + strlen(n.text), sizeof n.text - strlen(n.text), " plan_disk=%.1fms", t->disk);
    return n;
}

static void add_csv(const struct report *r, const struct result *result) {
    const struct settings *const s = &result->settings;
    const struct timing *const t = &result->timing;
    FILE *const f = r->csv;
    fprintf(f, "%s,%s,%lld,%s", csv_op(result->op), csv_shape(s).text,
            (long long)(s->rows ? s->rows : s->tokens), csv_dtype(clmoe_dtype_name(s->x_dtype)));
    if (s->x_dtype != s->dtype) fprintf(f, "x%s", csv_dtype(settings_dtype(s)));
    fprintf(f, ",%.2f,", t->median_us);
    if (result->flops > 0) fprintf(f, "%.2f", result->flops / t->median_us * 1e-6);
    fprintf(f, ",%.1f,%.2f,%.2f,%.1f,", result->bytes / t->median_us * 1e-3, t->p10_us, t->p90_us,
            t->enqueue_us);
    if (result->errors.known)
        fprintf(f, "%.2e,%.2e,%d", result->errors.max, result->errors.rms, result->errors.good);
    else
        fputs(",,", f);
    fprintf(f, ",%s", result->kernel);
    if (result->active) fprintf(f, " active=%d max=%d", result->active, result->most);
    if (settings_words(s)) fprintf(f, " group=%lld", (long long)s->group);
    if (result->offload.slots)
        fprintf(f, " resident=%.2fus slots=%d hits=%.3f moved=%.0f", result->peer.median_us,
                (int)result->offload.slots, hit_rate(result), moved_bytes(result));
    fprintf(f, "%s\n", plan_note(&result->plan_times).text);
    fflush(f);
}

/* As in "4096x1024x8 random sorted", "mixtral-8x7b T=64". */
static struct text describe(const struct result *result) {
    const struct settings *const s = &result->settings;
    const bool scatter = strcmp(result->op, "scatter") == 0;
    struct text t;
    if (s->rows)
        snprintf(t.text, sizeof t.text, "%lldx%lldx%lld %s %s", (long long)s->rows, (long long)s->n,
                 (long long)s->k,
                 scatter ? choice_name(REPORT_MODES, (int)s->mode).text
                         : choice_name(BENCH_PATTERNS, (int)s->fill).text,
                 scatter    ? s->in_place ? "in place" : ""
                 : s->masks ? choice_name(REPORT_OUTPUTS, s->masks).text
                            : choice_name(REPORT_ORDERS, (int)s->order).text);
    else
        snprintf(t.text, sizeof t.text, "%s%s T=%lld", *s->shape.model ? s->shape.model : "layer",
                 s->zipf ? ":zipf" : "", (long long)s->tokens);
    return t;
}

static void print(const struct report *r, const struct result *result) {
    const struct timing *const t = &result->timing;
    const double us = t->median_us;
    printf("%-8s %-28s %-5s %11.1f us (%.1f..%.1f)  %8.2f GFLOP/s %8.1f GB/s  %6.2fx floor", result->op,
           describe(result).text, settings_dtype(&result->settings), us, t->p10_us, t->p90_us,
           result->flops / us * 1e-3, result->bytes / us * 1e-3, us / floor_us(r, result));
    if (result->has_peer)
        printf("  %s %.1f us, ratio %.3f", peer_name(result), result->peer.median_us,
               us / result->peer.median_us);
    if (result->offload.slots)
        printf("  %d slots, hits %.1f %%, %.1f MB a call", (int)result->offload.slots, 100 * hit_rate(result),
               1e-6 * moved_bytes(result));
    printf("  %s  enqueue %.1f us", result->kernel, t->enqueue_us);
    if (result->errors.known)
        printf("  %s %.1e/%.1e", result->errors.good ? "err" : "WRONG", result->errors.max,
               result->errors.rms);
    printf("%s\n", plan_note(&result->plan_times).text);
    fflush(stdout);
}

int report_open(struct report *r, const struct usage *usage, const struct bench *b, double peak_tflops,
                const char *json, const char *csv) {
    *r = (struct report){.usage = usage, .read_gbps = b->read_gbps, .peak_tflops = peak_tflops};
    clmoe_context_device_info(b->s->ctx, &r->info);
    if (csv && !(r->csv = fopen(csv, "w")))
        return command_fail(usage, EXIT_USAGE, "%s: %s", csv, strerror(errno));
    if (r->csv)
        fputs("op,shape,T,dtype,median_us,tflops,gbps_min,p10_us,p90_us,cpu_us,err_max,err_rms,ok,note\n",
              r->csv);
    if (json) r->list = cJSON_CreateArray();
    return -1;
}

int report_result(void *priv, const struct result *result) {
    struct report *const r = priv;
    print(r, result);
    if (r->csv) add_csv(r, result);
    if (r->list) add_json(r, result);
    r->wrong += result->errors.known && !result->errors.good;
    return -1;
}

static int write_json(const struct report *r, const char *path) {
    char *const text = cJSON_Print(r->list);
    struct io_error error;
    struct output out;
    bool ok = text && output_open(path, &out, &error);
    if (ok) ok = output_commit(&out, output_write(&out, text, strlen(text), &error), &error);
    cJSON_free(text);
    return ok ? -1 : command_fail(r->usage, EXIT_FAILED, "%s", text ? error.text : "out of memory");
}

int report_close(struct report *r, int code, const char *json) {
    if (code < 0 && r->list) code = write_json(r, json);
    cJSON_Delete(r->list);
    if (r->csv && (ferror(r->csv) | fclose(r->csv)) && code < 0)
        code = command_fail(r->usage, EXIT_FAILED, "the CSV could not be written");
    if (code < 0 && r->wrong)
        code = command_fail(r->usage, EXIT_FAILED, "results whose output is wrong: %d", r->wrong);
    return code;
}
