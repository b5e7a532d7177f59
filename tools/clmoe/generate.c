/* SPDX-License-Identifier: MIT
 * clmoe generate: writes text with the demo language model, or scores a text with it. */
#define _POSIX_C_SOURCE 200809L
#include "progress.h"
#include "session.h"

#include "generate/dense.h"
#include "generate/picture.h"
#include "generate/sample.h"
#include "generate/score.h"
#include "generate/svg.h"
#include "generate/text.h"
#include "io/map.h"
#include "io/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
    const struct usage *usage;
    const char *prompt, *folder, *svg, *score, *wanted;
    int64_t tokens, seed;
    double temperature;
    int quant; /* one of QUANT_FORMATS, or -1 */
    struct model model;
    struct session session;
    struct device device; /* the session, as forward.h wants it */
    const char *device_name;
    struct forward *forward;
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Small enough to be typed again. */
static int64_t clock_seed(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000) % 1000000007;
}

/* Where the model is when the user does not say: installed, or in the tree that the command was built from.
 */
static const char *default_folder(void) {
    return access(CLMOE_DEMO_INSTALLED "/config.json", R_OK) == 0 ? CLMOE_DEMO_INSTALLED : CLMOE_DEMO_SOURCE;
}

static void show_scored(int64_t done, int64_t n) {
    progress("scored bytes", done, n);
}

/* Kernels are compiled when they first run, a row alone and several rows run different ones, and neither is
 * to stall the text later. */
static bool warm_up(struct job *j, int64_t sequences, struct io_error *err) {
    static const char what[] = "getting kernels ready, which the first run on a device compiles:";
    static const uint8_t text[16] = {0};
    float logits[MODEL_VOCAB];
    progress(what, 0, 3);
    const struct quant_format *const format = j->quant < 0 ? NULL : quant_format((enum quant_choice)j->quant);
    bool ok = forward_create(&j->device, &j->model, format, sequences, &j->forward, err);
    progress(what, 1, 3);
    if (ok && !j->score) ok = forward_next(j->forward, text, 1, 0, logits, err);
    progress(what, 2, 3);
    if (ok) ok = forward_next(j->forward, text, sizeof text, 0, logits, err);
    progress(what, 3, 3);
    return ok && forward_forget_counts(j->forward, err);
}

static int open_forward(struct job *j, int64_t sequences) {
    struct io_error err;
    struct clmoe_device_info info = {0};
    const int code = session_open(&j->session, j->usage, j->wanted);
    if (code >= 0) return code;
    clmoe_context_device_info(j->session.ctx, &info);
    j->device_name = info.name;
    j->device = (struct device){.context = j->session.context,
                                .device = j->session.device,
                                .queue = j->session.queue,
                                .ctx = j->session.ctx,
                                .log = j->session.log};
    return warm_up(j, sequences, &err) ? -1 : command_fail(j->usage, EXIT_FAILED, "%s", err.text);
}

/* Writes the prompt and what follows as it comes, until done or stdout takes no more. */
static bool write_text(struct job *j, struct io_error *err) {
    struct text text = {.context = j->model.context};
    struct sampler sampler = {(uint64_t)j->seed, j->temperature};
    float logits[MODEL_VOCAB];
    for (const char *c = j->prompt; *c; c++)
        text_add(&text, (uint8_t)*c);
    const bool terminal = isatty(STDOUT_FILENO);
    printf("%s%s%s", terminal ? "\033[1m" : "", j->prompt, terminal ? "\033[0m" : "");
    for (int64_t i = 0; i < j->tokens; i++) {
        if (fflush(stdout) != 0) return true; /* main() says so */
        if (!text_next(&text, j->forward, logits, err)) return false;
        const int byte = sample_next(&sampler, logits);
        if (byte < 0) return io_fail(err, j->folder, "the logits are not finite numbers");
        putchar(byte);
        text_add(&text, (uint8_t)byte);
    }
    putchar('\n');
    return true;
}

static void report_format(const struct job *j) {
    if (j->quant >= 0) printf("experts at %.2f bits a weight\n", forward_expert_bits(j->forward));
}

/* `what` was read or written, for the picture. */
static int report_experts(struct job *j, const char *what) {
    struct io_error err;
    const struct model *const m = &j->model;
    uint32_t *const counts = calloc((size_t)(m->layers * m->experts), sizeof *counts);
    if (!counts) return command_fail(j->usage, EXIT_FAILED, "out of memory");
    const struct usage_counts u = {m->layers, m->experts, counts};
    int code = EXIT_OK;
    if (!forward_counts(j->forward, counts, &err))
        code = command_fail(j->usage, EXIT_FAILED, "%s", err.text);
    else
        picture_print(&u, isatty(STDOUT_FILENO), stdout);
    if (code == EXIT_OK && j->svg && !svg_write(j->svg, &u, what, j->device_name, &err))
        code = command_fail(j->usage, EXIT_FAILED, "%s", err.text);
    free(counts);
    return code;
}

static int run_writing(struct job *j) {
    struct io_error err;
    char what[256], seed[48] = "";
    const int code = open_forward(j, 1);
    if (code >= 0) return code;
    const double begin = seconds();
    const bool ok = write_text(j, &err);
    const double took = seconds() - begin;
    if (!ok) {
        putchar('\n');
        return command_fail(j->usage, EXIT_FAILED, "%s", err.text);
    }
    if (j->temperature > 0) snprintf(seed, sizeof seed, ", seed %lld", (long long)j->seed);
    printf("\n%lld tokens in %.2f s, %.1f tokens/s on %s, dense products by %s%s\n", (long long)j->tokens,
           took, (double)j->tokens / took, j->device_name, dense_implementation, seed);
    report_format(j);
    snprintf(what, sizeof what, "%lld bytes written after \"%.40s\"%s", (long long)j->tokens, j->prompt,
             seed);
    return report_experts(j, what);
}

static int score_open_file(struct job *j, const struct file_map *file) {
    struct io_error err;
    struct score score;
    char what[256];
    const int64_t n = (int64_t)file->size;
    const int code =
        open_forward(j, n < SCORE_SEQUENCES * SCORE_WINDOW ? 1 + n / SCORE_WINDOW : SCORE_SEQUENCES);
    if (code >= 0) return code;
    const double begin = seconds();
    const bool ok = score_text(j->forward, file->data, n, show_scored, &score, &err);
    const double took = seconds() - begin;
    if (!ok) return command_fail(j->usage, EXIT_FAILED, "%s", err.text);
    printf("%.6f bits per byte over %lld bytes of %s\n", score.bits / (double)score.bytes,
           (long long)score.bytes, j->score);
    printf("%.2f s, %.0f bytes/s on %s, dense products by %s\n", took, (double)n / took, j->device_name,
           dense_implementation);
    report_format(j);
    snprintf(what, sizeof what, "%lld bytes of %.100s read", (long long)n, j->score);
    return report_experts(j, what);
}

static int run_score(struct job *j) {
    struct io_error err;
    struct file_map file;
    if (j->model.context < SCORE_WINDOW)
        return command_fail(j->usage, EXIT_USAGE,
                            "%s: a context of %lld bytes is too short for windows of %d", j->folder,
                            (long long)j->model.context, SCORE_WINDOW);
    if (!file_map_open(j->score, &file, &err)) return command_fail(j->usage, EXIT_USAGE, "%s", err.text);
    const int code = file.size < 2 ? command_fail(j->usage, EXIT_USAGE,
                                                  "%s: fewer than 2 bytes: nothing to score", j->score)
                                   : score_open_file(j, &file);
    file_map_close(&file);
    return code;
}

static int run(struct job *j) {
    struct io_error err;
    if (j->temperature < 0)
        return command_fail(j->usage, EXIT_USAGE, "--temperature: expected 0 or more, got %g",
                            j->temperature);
    if (!*j->prompt) return command_fail(j->usage, EXIT_USAGE, "--prompt: expected one byte or more");
    if (j->svg && !output_check(j->svg, &err)) return command_fail(j->usage, EXIT_FAILED, "%s", err.text);
    if (!model_open(j->folder, &j->model, &err)) return command_fail(j->usage, EXIT_USAGE, "%s", err.text);
    const bool fits = j->quant < 0 || quant_fits(quant_format((enum quant_choice)j->quant), j->model.hidden,
                                                 j->model.inter, &err);
    const int code = !fits      ? command_fail(j->usage, EXIT_USAGE, "--quant: %s", err.text)
                     : j->score ? run_score(j)
                                : run_writing(j);
    forward_destroy(&j->forward);
    session_close(&j->session);
    model_close(&j->model);
    return code;
}

int command_generate(int argc, char **argv) {
    struct job job = {.prompt = "And it came to pass, when ",
                      .folder = default_folder(),
                      .tokens = 400,
                      .seed = clock_seed(),
                      .temperature = 0.7,
                      .quant = -1};
    char summary[1024];
    snprintf(summary, sizeof summary,
             "Writes text with a small mixture-of-experts language model over bytes, and tells which experts "
             "each\n"
             "layer used. The model sees at most its context of 256 bytes: when that is full, the last 128 "
             "stay and\n"
             "are read again. Dense products run by %s, expert layers by clmoe_moe.",
             dense_implementation);
    const struct option_row options[] = {
        {"prompt", OPTION_TEXT, &job.prompt, 0, 0, NULL, "TEXT  what the text begins with"},
        {"tokens", OPTION_INT, &job.tokens, 1, 1000000000, NULL, "N  bytes to write, 400 if not given"},
        {"seed", OPTION_INT, &job.seed, 0, INT64_MAX, NULL, "S  repeats a text; from the clock if not given"},
        {"temperature", OPTION_NUMBER, &job.temperature, 0, 0, NULL,
         "T  0 takes the likeliest byte, 1 follows the model; 0.7"},
        DEVICE_OPTION(job.wanted),
        {"model", OPTION_TEXT, &job.folder, 0, 0, NULL, "DIR  config.json and safetensors of a byte Mixtral"},
        {"svg", OPTION_TEXT, &job.svg, 0, 0, NULL, "F  write the use of experts as a picture"},
        {"quant", OPTION_CHOICE, &job.quant, 0, 0, QUANT_FORMATS,
         "the format of the experts' weights; as in the files if not given"},
        {"score", OPTION_TEXT, &job.score, 0, 0, NULL, "F  print the bits per byte of a file; write no text"},
    };
    const struct usage usage = {
        .name = "generate",
        .summary = summary,
        .operands = "",
        .example = "clmoe generate --prompt \"In the beginning \" --tokens 200 --seed 7 --svg experts.svg",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    job.usage = &usage;
    const int code = parse_options(&usage, argc, argv, NULL);
    return code >= 0 ? code : run(&job);
}
