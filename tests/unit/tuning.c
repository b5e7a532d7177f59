/* SPDX-License-Identifier: MIT
 * Tuned parameters: their text, where contexts have it from, and that none of it can break a plan. */
#define _POSIX_C_SOURCE 200809L
#include "base/tuning.h"
#include "kernel/row.h"
#include "kit.h"
#include "plan/context.h"
#include "program/tuned.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct logbook book;
static const struct log keep = {logbook_keep, &book, CLMOE_LOG_INFO};
static const struct tuning_device chip = {"Chip 3", "driver 1.2", "Some platform"};

/* ---- text ---- */

static const struct {
    const char *text;
    int line;  /* that is wrong; 0: none */
    int value; /* of row_a, class f32, parameter TK; 0: none */
} texts[] = {
    {"", 0, 0},
    {"\n\n# nothing\n   \n", 0, 0},
    {"device Chip 3 | driver 1.2 | Some platform\nrow_a f32 TK=8", 0, 8},
    {"device * | * | *\r\nrow_a * TK=8\r\n", 0, 8},
    {"device Chip ? | driver* | *\n\trow_a  f32   WM=4  TK=16 ", 0, 16},
    {"device Chip | * | *\nrow_a f32 TK=8\n", 0, 0},
    {"device Chip 33 | * | *\nrow_a f32 TK=8\n", 0, 0},
    {"device Chip 3?* | * | *\nrow_a f32 TK=8\n", 0, 0},
    {"device * 3 | * | *\nrow_a f32 TK=8\n", 0, 0}, /* a star at the end only */
    {"device other | * | *\nrow_a f32 TK=8\ndevice Chip* | * | *\nrow_a f32 TK=32\n", 0, 32},
    {"device * | * | *\nrow_a f32 TK=8\nrow_a f32 TK=16\n", 0, 8},
    {"device * | * | *\nrow_a f32 WM=8\nrow_a * TK=16\n", 0, 16},
    {"device * | * | *\nrow_b f32 TK=8\nrow_a f16 TK=8\nrow_aa f32 TK=8\n", 0, 0},
    {"device * | * | *\nrow_a f32 TK=0\n", 0, 0},
    {"device * | * | *\nrow_a f32 TK=1000000\n", 0, 1000000},
    {"row_a f32 TK=8", 1, 0}, /* of no device */
    {"device * | *\nrow_a f32 TK=8\n", 1, 0},
    {"device\n", 1, 0},
    {"device | | \n", 1, 0},
    {"device * | * | *\nrow_a f32\n", 2, 0},
    {"device * | * | *\nrow_a\n", 2, 0},
    {"device * | * | *\n\n# x\nrow_a f32 TK\n", 4, 0},
    {"device * | * | *\nrow_a f32 TK=\n", 2, 0},
    {"device * | * | *\nrow_a f32 =8\n", 2, 0},
    {"device * | * | *\nrow_a f32 TK=-8\n", 2, 0},
    {"device * | * | *\nrow_a f32 TK=8.5\n", 2, 0},
    {"device * | * | *\nrow_a f32 TK=8 WM\n", 2, 0},
    {"device * | * | *\nrow_a f32 TK=1000001\n", 2, 0},
    {"device * | * | *\nrow_a f32 TK=99999999999999999999\n", 2, 0},
    {"device * | * | *\nrow_a f32 A=1 B=1 C=1 D=1 E=1 F=1 G=1 TK=8\n", 0, 8},
    {"device * | * | *\nrow_a f32 A=1 B=1 C=1 D=1 E=1 F=1 G=1 H=1 TK=8\n", 2, 0},
    {"device * | * | *\nrow_a f32 A_NAME_OF_16_CHA=8\n", 2, 0},
    {"device * | * | *\nrow_a class_that_has_more_than_thirty_one_characters TK=8\n", 2, 0},
    {"device * | * | *\na_row_with_a_name_that_has_more_than_forty_seven_characters f32 TK=8\n", 2, 0},
    {"device other | * | *\ngarbage\n", 2, 0}, /* also where it is another device's */
    {"{\"rows\": []}", 1, 0},
    {"\x7f\x45LF\x01\x02", 1, 0},
};

START_TEST(lines) {
    struct tuning t = {.n = 0};
    char where[64];
    case_begin("\"%s\"", texts[_i].text);
    logbook_clear(&book);
    const enum clmoe_status status = tuning_add(&t, &keep, "here", texts[_i].text, &chip);
    ck_assert_int_eq(status, texts[_i].line ? CLMOE_E_INVALID : CLMOE_OK);
    ck_assert_int_eq(book.levels[CLMOE_LOG_WARN], texts[_i].line != 0);
    snprintf(where, sizeof where, "here, line %d: ", texts[_i].line);
    case_require(!texts[_i].line || logbook_count(&book, where) == 1, "\"%s\"", book.text);
    case_require(tuning_find(&t, "row_a", "f32", "TK", -1) ==
                     (texts[_i].value || strstr(texts[_i].text, "TK=0") ? texts[_i].value : -1),
                 "TK=%d", tuning_find(&t, "row_a", "f32", "TK", -1));
    tuning_free(&t);
}
END_TEST

/* What a text with a mistake said before it is taken back; what was there before stays. */
START_TEST(all_or_nothing) {
    struct tuning t = {.n = 0};
    ck_assert_int_eq(tuning_add(&t, &keep, "a", "device *|*|*\nrow_a f32 TK=8\n", &chip), CLMOE_OK);
    ck_assert_int_eq(tuning_add(&t, &keep, "b", "device *|*|*\nrow_b f32 TK=8\nrow_c f32\n", &chip),
                     CLMOE_E_INVALID);
    ck_assert_int_eq(tuning_find(&t, "row_a", "f32", "TK", 0), 8);
    ck_assert_int_eq(tuning_find(&t, "row_b", "f32", "TK", 0), 0);
    tuning_free(&t);
}
END_TEST

/* What the library ships is right, and names rows and parameters that there are, with values they can
 * have. */
START_TEST(shipped) {
    static const char every[] = "device *|*|*\n";
    for (const struct tuning_text *s = tuning_shipped; s->path; s++) {
        struct tuning t = {.n = 0};
        ck_assert_int_eq(tuning_add(&t, &keep, s->path, s->text, &chip), CLMOE_OK);
        tuning_free(&t);
        /* Its entries, whatever device they are for */
        char *const all = calloc(strlen(s->text) + sizeof every + 1, 1);
        strcpy(all, every);
        for (const char *line = s->text; *line;) {
            const size_t size = strcspn(line, "\n") + 1;
            if (strncmp(line, "device", 6) != 0) strncat(all, line, size);
            line += line[size - 1] ? size : size - 1;
        }
        ck_assert_int_eq(tuning_add(&t, &keep, s->path, all, &chip), CLMOE_OK);
        for (int i = 0; i < t.n; i++)
            for (int v = 0; v < t.entries[i].n_values; v++) {
                struct clmoe_parameter p = {NULL, NULL, 0};
                int legal = 0;
                for (int k = 0; clmoe_kernel_parameter(t.entries[i].row, k, &p); k++)
                    for (int n = 0; n < p.n_values; n++)
                        legal += strcmp(p.name, t.entries[i].values[v].name) == 0 &&
                                 p.values[n] == t.entries[i].values[v].value;
                case_require(legal == 1, "%s %s=%d", t.entries[i].row, t.entries[i].values[v].name,
                             t.entries[i].values[v].value);
            }
        tuning_free(&t);
        free(all);
    }
}
END_TEST

/* ---- parameters ---- */

START_TEST(parameters) {
    struct clmoe_parameter p = {NULL, NULL, 0};
    ck_assert_int_eq(clmoe_kernel_parameter("matmul_tile_64x64", 0, &p), 1);
    ck_assert_str_eq(p.name, "TK");
    ck_assert_int_eq(p.n_values, 3);
    ck_assert_int_eq(p.values[0], 8);
    int n = 0;
    while (clmoe_kernel_parameter("matmul_tile_64x64", n, &p))
        n++;
    ck_assert_int_eq(n, 5);
    ck_assert_int_eq(clmoe_kernel_parameter("matmul_tile_64x64", n + 1, &p), 0);
    ck_assert_int_eq(clmoe_kernel_parameter("matmul_tile_64x64", -1, &p), 0);
    ck_assert_int_eq(clmoe_kernel_parameter("matmul_tile_64x64", 0, NULL), 0);
    ck_assert_int_eq(clmoe_kernel_parameter("matmul_ref", 0, &p), 0);
    ck_assert_int_eq(clmoe_kernel_parameter("nothing", 0, &p), 0);
    ck_assert_int_eq(clmoe_kernel_parameter(NULL, 0, &p), 0);
}
END_TEST

/* ---- contexts ---- */

static const char some[] = "device * | * | *\nmatmul_tile_32x32 * TK=8\n";

/* Plans a product on the small tile, whose description has `part`, or no tuned parameters. */
static void expect(clmoe_context *ctx, const char *part) {
    struct clmoe_matmul_params params = {
        .plan.kernel = "matmul_tile_32x32",
        .max_tokens = 5,
        .topk = 1,
        .experts = 2,
        .in = 8,
        .out = 8,
        .routing = CLMOE_ROUTING_SORTED,
    };
    clmoe_plan *plan;
    case_ok(clmoe_matmul_plan(ctx, &params, &plan));
    const char *const text = clmoe_plan_describe(plan);
    case_require(part ? strstr(text, part) != NULL : !strchr(text, '['), "\"%s\", expected %s", text,
                 part ? part : "no parameters");
    clmoe_plan_destroy(&plan);
}

START_TEST(set) {
    clmoe_context *ctx = logged_context(&book, NULL, plain_caps);
    expect(ctx, NULL);
    case_ok(clmoe_context_set_tuning(ctx, some, 0));
    expect(ctx, "matmul_tile_32x32 [TK=8 WM=4 WN=4 BUFFERS=2 RESIDENT=1]");
    ck_assert_int_eq(clmoe_context_set_tuning(ctx, "device *|*|*\nmatmul_tile_32x32 * TK=\n", 0),
                     CLMOE_E_INVALID);
    expect(ctx, "[TK=8 "); /* nothing has changed */
    ck_assert_str_eq(clmoe_context_tuning(ctx), some);
    case_ok(clmoe_context_set_tuning(ctx, "device *|*|*\nmatmul_tile_32x32 f32.f32 BUFFERS=1\n", 1));
    expect(ctx, "BUFFERS=1 ");
    case_ok(clmoe_context_set_tuning(ctx, "device *|*|*\nmatmul_tile_32x32 f16.f32 BUFFERS=1\n", 0));
    expect(ctx, NULL);
    case_ok(clmoe_context_set_tuning(ctx, NULL, 0));
    expect(ctx, NULL);
    ck_assert_str_eq(clmoe_context_tuning(ctx), "");
    ck_assert_str_eq(clmoe_context_tuning(NULL), "");
    ck_assert_int_eq(clmoe_context_set_tuning(NULL, some, 0), CLMOE_E_INVALID);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* Numbers that are no values of the parameter, that do not go together, or not on the device; unknown
 * names. */
START_TEST(illegal_values) {
    static const char *const values[] = {"TK=9", "TK=0 WM=0", "WM=8 WN=8", "NOTHING=1", "TK=1000000"};
    char tuning[128];
    clmoe_context *ctx = logged_context(&book, NULL, plain_caps);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        snprintf(tuning, sizeof tuning, "device *|*|*\nmatmul_tile_32x32 * %s\nno_row * TK=8\n", values[i]);
        case_begin("%s", values[i]);
        case_ok(clmoe_context_set_tuning(ctx, tuning, 0));
        expect(ctx, NULL);
    }
    clmoe_context_destroy(&ctx);
}
END_TEST

static struct clmoe_cache *cache_in(char dir[256]) {
    struct clmoe_cache *cache;
    scratch_make(dir);
    case_ok(clmoe_cache_dir_create(dir, &cache));
    return cache;
}

START_TEST(cached) {
    char dir[256];
    struct clmoe_cache *cache = cache_in(dir);
    clmoe_context *ctx = logged_context(&book, cache, plain_caps), *next;
    case_ok(clmoe_context_set_tuning(ctx, some, 0));
    next = logged_context(&book, cache, plain_caps);
    expect(next, NULL); /* not kept */
    clmoe_context_destroy(&next);
    case_ok(clmoe_context_set_tuning(ctx, some, 1));
    next = logged_context(&book, cache, plain_caps);
    expect(next, "[TK=8 ");
    ck_assert_str_eq(clmoe_context_tuning(next), some);
    clmoe_context_destroy(&next);
    logbook_clear(&book);
    tuned_keep(&ctx->dev, cache, "what another version wrote\n"); /* whole, but not understood */
    next = logged_context(&book, cache, plain_caps);
    expect(next, NULL);
    ck_assert_int_eq(logbook_count(&book, "tuning in the cache, line 1: "), 1);
    clmoe_context_destroy(&next);
    case_ok(clmoe_context_set_tuning(ctx, NULL, 1));
    logbook_clear(&book);
    next = logged_context(&book, cache, plain_caps);
    expect(next, NULL);
    ck_assert_int_eq(book.levels[CLMOE_LOG_WARN], 0);
    clmoe_context_destroy(&next);
    clmoe_context_destroy(&ctx);
    clmoe_cache_dir_destroy(&cache);
    scratch_remove(dir);
}
END_TEST

/* The file that CLMOE_TUNING names, whatever it holds. */
START_TEST(file) {
    static const struct {
        const char *bytes;
        size_t size;
        const char *part, *warning;
    } files[] = {
        {some, sizeof some - 1, "[TK=8 ", NULL},
        {some, sizeof some, NULL, "is no text: ignored"}, /* with the NUL */
        {"", 0, NULL, NULL},
        {"{}", 2, NULL, "line 1: "},
        {NULL, 0, NULL, "cannot read CLMOE_TUNING = "},
    };
    char dir[256], path[300];
    struct clmoe_cache *cache = cache_in(dir);
    clmoe_context *ctx = logged_context(&book, cache, plain_caps);
    case_ok(clmoe_context_set_tuning(ctx, "device *|*|*\nmatmul_tile_32x32 * BUFFERS=1\n", 1));
    clmoe_context_destroy(&ctx);
    snprintf(path, sizeof path, "%s/tuning", dir);
    setenv("CLMOE_TUNING", path, 1);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (files[i].bytes)
            write_bytes(path, files[i].bytes, files[i].size);
        else
            remove(path);
        case_begin("file %d", (int)i);
        logbook_clear(&book);
        ctx = logged_context(&book, cache, plain_caps);
        ck_assert_int_eq(book.levels[CLMOE_LOG_WARN], files[i].warning != NULL);
        case_require(!files[i].warning || logbook_count(&book, files[i].warning) == 1, "\"%s\"", book.text);
        expect(ctx, files[i].part);
        clmoe_context_destroy(&ctx);
    }
    unsetenv("CLMOE_TUNING");
    ctx = logged_context(&book, cache, plain_caps);
    expect(ctx, "BUFFERS=1 ");
    clmoe_context_destroy(&ctx);
    clmoe_cache_dir_destroy(&cache);
    scratch_remove(dir);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, lines, 0, sizeof texts / sizeof *texts);
    tcase_add_test(cases, all_or_nothing);
    tcase_add_test(cases, shipped);
    tcase_add_test(cases, parameters);
    tcase_add_test(cases, set);
    tcase_add_test(cases, illegal_values);
    tcase_add_test(cases, cached);
    tcase_add_test(cases, file);
}

int main(void) {
    return harness_main("tuning", "", add_tests);
}
