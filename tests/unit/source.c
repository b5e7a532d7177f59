/* SPDX-License-Identifier: MIT
 * Source assembly: includes once, line numbers, files on disk (CLMOE_CL_DIR), broken kernels. */
#define _POSIX_C_SOURCE 200809L
#include "kit.h"
#include "plan/plan.h"
#include "program/source.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *embedded_text(const char *path) {
    for (const struct embedded_source *s = embedded_sources; s->path; s++)
        if (strcmp(s->path, path) == 0) return s->text;
    return NULL;
}

/* Whether line `number` of `text` is `line` (of `size` bytes). */
static bool is_line(const char *text, int number, const char *line, size_t size) {
    while (text && --number > 0) {
        text = strchr(text, '\n');
        if (text) text++;
    }
    return text && strncmp(text, line, size) == 0 && (text[size] == '\n' || text[size] == '\0');
}

/* Every line of an assembled text is the line that the last #line mark says. */
static void require_true_lines(const char *assembled) {
    char file[128] = "";
    int number = 0;
    for (const char *p = assembled, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        ck_assert_ptr_nonnull(end);
        if (sscanf(p, "#line %d \"%127[^\"]\"", &number, file) == 2) continue;
        case_require(is_line(embedded_text(file), number, p, (size_t)(end - p)), "%s:%d: \"%.*s\"", file,
                     number, (int)(end - p), p);
        number++;
    }
}

START_TEST(every_file_assembles) {
    unsetenv("CLMOE_CL_DIR");
    for (const struct embedded_source *s = embedded_sources; s->path; s++) {
        case_begin("%s", s->path);
        struct str out = {0};
        case_ok(source_assemble(NULL, s->path, &out));
        ck_assert_ptr_null(strstr(out.text, "#include"));
        require_true_lines(out.text);
        str_free(&out);
    }
}
END_TEST

/* ---- digests ---- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of path and text of each file that an assembled text is made of, by path. */
static void digest_of(const char *assembled, char digest[HASH_HEX]) {
    static char names[32][128];
    const char *sorted[32];
    int n = 0;
    for (const char *p = assembled; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (strncmp(p, "#line 1 \"", 9) == 0 && sscanf(p, "#line 1 \"%127[^\"]\"", names[n]) == 1) n++;
    for (int i = 0; i < n; i++)
        sorted[i] = names[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_text);
    struct hash h;
    uint8_t bytes[HASH_BYTES];
    hash_begin(&h);
    for (int i = 0; i < n; i++) {
        hash_add_str(&h, sorted[i]);
        hash_add_str(&h, embedded_text(sorted[i]));
    }
    hash_end(&h, bytes);
    hash_hex(bytes, digest);
}

START_TEST(digests_are_of_what_is_assembled) {
    unsetenv("CLMOE_CL_DIR");
    for (const struct embedded_source *s = embedded_sources; s->path; s++) {
        case_begin("%s", s->path);
        struct str out = {0};
        char digest[HASH_HEX];
        case_ok(source_assemble(NULL, s->path, &out));
        digest_of(out.text, digest);
        ck_assert_str_eq(s->digest, digest);
        str_free(&out);
    }
}
END_TEST

/* What hash a file has in the caches. */
static uint64_t name_of(const char *path) {
    struct hash h;
    uint8_t bytes[HASH_BYTES];
    uint64_t name;
    hash_begin(&h);
    case_ok(source_hash(NULL, path, &h));
    hash_end(&h, bytes);
    memcpy(&name, bytes, sizeof name);
    return name;
}

/* ---- files on disk ---- */

static char dir[256];

static void on_disk(void) {
    scratch_make(dir);
    setenv("CLMOE_CL_DIR", dir, 1);
}

static void off_disk(void) {
    unsetenv("CLMOE_CL_DIR");
    scratch_remove(dir);
}

static void put(const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    write_bytes(path, text, strlen(text));
}

static void expect(const char *path, const char *text) {
    struct str out = {0};
    case_ok(source_assemble(NULL, path, &out));
    ck_assert_str_eq(out.text, text);
    str_free(&out);
}

static void expect_failure(const char *path, const char *message) {
    static struct logbook book;
    struct str out = {0};
    const struct log log = {logbook_keep, &book, CLMOE_LOG_ERROR};
    logbook_clear(&book);
    ck_assert_int_eq(source_assemble(&log, path, &out), CLMOE_E_BUILD);
    case_require(logbook_count(&book, message) == 1, "\"%s\" is not in \"%s\"", message, book.text);
    str_free(&out);
}

START_TEST(includes_go_in_once) {
    put("a.cl", "one\n#include \"b.cl\"\ntwo\n#include \"c.cl\"\n#include \"b.cl\"\nthree\n");
    put("b.cl", "b1\n#include \"c.cl\"\nb2\n");
    put("c.cl", "c1\n#include \"a.cl\"\n");
    expect("a.cl", "#line 1 \"a.cl\"\none\n"
                   "#line 1 \"b.cl\"\nb1\n#line 1 \"c.cl\"\nc1\n#line 3 \"c.cl\"\n#line 3 \"b.cl\"\nb2\n"
                   "#line 3 \"a.cl\"\ntwo\n#line 5 \"a.cl\"\n#line 6 \"a.cl\"\nthree\n");
}
END_TEST

START_TEST(odd_ends_of_files) {
    put("none.cl", "");
    put("last.cl", "no newline");
    put("bare.cl", "\n\n  #include \"none.cl\"\n#include <none.cl>\n#include \"unclosed\n");
    expect("none.cl", "#line 1 \"none.cl\"\n");
    expect("last.cl", "#line 1 \"last.cl\"\nno newline\n");
    expect("bare.cl",
           "#line 1 \"bare.cl\"\n\n\n  #include \"none.cl\"\n#include <none.cl>\n#include \"unclosed\n");
}
END_TEST

START_TEST(names_follow_the_files) {
    put("inner.cl", "a\n");
    put("outer.cl", "#include \"inner.cl\"\n");
    const uint64_t before = name_of("outer.cl");
    ck_assert(name_of("outer.cl") == before && name_of("inner.cl") != before);
    put("inner.cl", "b\n");
    ck_assert(name_of("outer.cl") != before);
    put("inner.cl", "a\n");
    ck_assert(name_of("outer.cl") == before);
    struct hash h;
    hash_begin(&h);
    ck_assert_int_eq(source_hash(NULL, "nowhere.cl", &h), CLMOE_E_BUILD);
    unsetenv("CLMOE_CL_DIR");
    ck_assert_int_eq(source_hash(NULL, "nowhere.cl", &h), CLMOE_E_BUILD);
}
END_TEST

START_TEST(missing_files) {
    put("a.cl", "#include \"missing.cl\"\n");
    expect_failure("a.cl", "missing.cl");
    expect_failure("nowhere.cl", "nowhere.cl");
    expect_failure(".", "cannot read");
    unsetenv("CLMOE_CL_DIR");
    expect_failure("nowhere.cl", "no kernel file \"nowhere.cl\"");
}
END_TEST

START_TEST(endless_includes) {
    char name[80], text[120], longer[64] = "";
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "f%d.cl", i);
        snprintf(text, sizeof text, "#include \"f%d.cl\"\n", (i + 1) % 40);
        put(name, text);
    }
    expect_failure("f0.cl", "at most 32 files");
    memset(longer, 'x', sizeof longer - 1);
    snprintf(name, sizeof name, "%s.cl", longer);
    put(name, "");
    expect_failure(name, "below 64 bytes");
}
END_TEST

/* ---- a broken kernel ---- */

static void copy_sources(const char *broken_file, const char *broken_text) {
    for (const struct embedded_source *s = embedded_sources; s->path; s++) {
        char folder[600];
        snprintf(folder, sizeof folder, "%s/%.*s", dir, (int)strcspn(s->path, "/"), s->path);
        mkdir(folder, 0700);
        put(s->path, strcmp(s->path, broken_file) == 0 ? broken_text : s->text);
    }
}

START_TEST(kernels_come_from_disk) {
    static struct logbook book;
    copy_sources("", "");
    struct sample s;
    clmoe_plan *plan = NULL;
    clmoe_context *ctx = logged_context(&book, NULL, no_caps);
    sample_open(&s, 0, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_result(0));
    clmoe_plan_destroy(&plan);
    sample_close(&s);
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(a_broken_kernel_says_where) {
    static struct logbook book;
    copy_sources("combine/rows.cl",
                 "#include \"common/dtype.cl\"\n\nkernel void combine_rows() { does_not_parse }\n");
    logbook_clear(&book);
    struct sample s;
    clmoe_plan *plan = (clmoe_plan *)&s;
    clmoe_context *ctx = logged_context(&book, NULL, no_caps);
    for (int i = 0; i < sample_count(); i++) {
        if (strcmp(sample_name(i), "combine") != 0) continue;
        sample_open(&s, i, tester()->context, SAMPLE_TOKENS);
        ck_assert_int_eq(sample_plan(&s, ctx, &plan), CLMOE_E_BUILD);
        sample_close(&s);
    }
    ck_assert_ptr_null(plan);
    case_require(logbook_count(&book, "combine/rows.cl does not build with \"-cl-std=CL1.2 -D") == 1 &&
                     logbook_count(&book, "combine/rows.cl:3:") > 0 &&
                     logbook_count(&book, "---- source ----\n#line 1 \"combine/rows.cl\"\n") == 1 &&
                     logbook_count(&book, "combine: no kernel: combine_rows: ") == 1,
                 "the log says:\n%s", book.text);
    clmoe_context_destroy(&ctx);
}
END_TEST

/* The file of the first kernel of the row that a sample takes; NULL of a layer. */
static const char *file_of(int i) {
    static struct recipe recipe;
    static struct logbook book;
    struct sample s;
    clmoe_plan *plan = NULL;
    clmoe_context *ctx = logged_context(&book, NULL, no_caps);
    sample_open(&s, i, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    recipe = (struct recipe){0};
    if (plan->row) plan->row->prepare(&ctx->dev, plan->problem, &recipe);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
    clmoe_context_destroy(&ctx);
    return recipe.n_kernels ? recipe.kernels[0].file : NULL;
}

/* A plan for which another row steps in tells that one was left out, and what the compiler said of it. */
START_TEST(a_row_left_out_is_told) {
    static struct logbook book;
    int replaced = 0;
    for (int i = 0; i < sample_count(); i++) {
        copy_sources("", "");
        const char *const file = file_of(i);
        if (!file) continue;
        copy_sources(file, "\n\nkernel void broken() { does_not_parse }\n");
        logbook_clear(&book);
        struct sample s;
        char reason[160];
        clmoe_plan *plan = NULL;
        clmoe_context *ctx = logged_context(&book, NULL, no_caps);
        sample_open(&s, i, tester()->context, SAMPLE_TOKENS);
        if (sample_plan(&s, ctx, &plan) == CLMOE_OK) {
            const char *const text = clmoe_plan_describe(plan);
            snprintf(reason, sizeof reason, ": %s does not build: ", file);
            const char *const said = strstr(text, reason);
            case_require(said && strstr(said, "error") && strstr(said, "does_not_parse") &&
                             !strchr(text, '\n'),
                         "%s: the description says \"%s\"", sample_name(i), text);
            case_require(book.levels[CLMOE_LOG_WARN] > 0 && logbook_count(&book, " in place of ") > 0,
                         "%s: the log says\n%s", sample_name(i), book.text);
            replaced++;
        }
        clmoe_plan_destroy(&plan);
        sample_close(&s);
        clmoe_context_destroy(&ctx);
    }
    ck_assert_int_gt(replaced, 0);
}
END_TEST

START_TEST(a_missing_kernel_says_which) {
    static struct logbook book;
    struct sample s;
    clmoe_plan *plan = (clmoe_plan *)&s;
    clmoe_context *ctx = logged_context(&book, NULL, no_caps);
    sample_open(&s, 0, tester()->context, SAMPLE_TOKENS);
    ck_assert_int_eq(sample_plan(&s, ctx, &plan), CLMOE_E_BUILD);
    ck_assert_ptr_null(plan);
    ck_assert_int_gt(logbook_count(&book, "in CLMOE_CL_DIR = "), 0);
    sample_close(&s);
    clmoe_context_destroy(&ctx);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_checked_fixture(cases, on_disk, off_disk);
    tcase_add_test(cases, every_file_assembles);
    tcase_add_test(cases, digests_are_of_what_is_assembled);
    tcase_add_test(cases, names_follow_the_files);
    tcase_add_test(cases, includes_go_in_once);
    tcase_add_test(cases, odd_ends_of_files);
    tcase_add_test(cases, missing_files);
    tcase_add_test(cases, endless_includes);
    tcase_add_test(cases, kernels_come_from_disk);
    tcase_add_test(cases, a_broken_kernel_says_where);
    tcase_add_test(cases, a_row_left_out_is_told);
    tcase_add_test(cases, a_missing_kernel_says_which);
}

int main(void) {
    return harness_main("source", "", add_tests);
}
