/* SPDX-License-Identifier: MIT
 * Every row of every table by its name, once, on a tiny problem: for simulators. tests/check is thorough. */
#include "kit.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct logbook book;
static clmoe_context *ctx;
static int ran;

static void try_row(int sample, const char *name) {
    struct sample s;
    clmoe_plan *plan = NULL;
    char list[256], head[300];
    case_begin("%s", name);
    sample_open(&s, sample, tester()->context, SAMPLE_TOKENS);
    snprintf(list, sizeof list, ", %s ,", name);
    s.options->kernel = list;
    s.options->external_workspace = 1;
    logbook_clear(&book);
    const enum clmoe_status status = sample_plan(&s, ctx, &plan);
    if (status == CLMOE_OK) {
        snprintf(head, sizeof head, "%s: %s", sample_name(sample), name);
        case_require(strncmp(clmoe_plan_describe(plan), head, strlen(head)) == 0, "the plan is %s",
                     clmoe_plan_describe(plan));
        const cl_mem workspace = sample_workspace(plan);
        case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
        case_require(sample_outputs(&s, tester()->queue) == sample_result(sample), "wrong results");
        clmoe_plan_destroy(&plan);
        clReleaseMemObject(workspace);
        ran++;
    } else {
        snprintf(head, sizeof head, "%s: no kernel: %s: ", sample_name(sample), name);
        case_require(status == CLMOE_E_UNSUPPORTED && !plan, "%s", clmoe_status_name(status));
        case_require(logbook_count(&book, head) == 1, "\"%s\" is not in \"%s\"", head, book.text);
    }
    sample_close(&s);
}

START_TEST(each_row_by_its_name) {
    const char *name;
    const int before = ran;
    for (int i = 0; (name = clmoe_kernel_name(sample_name(_i), i)); i++)
        try_row(_i, name);
    case_require(ran > before || !clmoe_kernel_name(sample_name(_i), 0), "no row of %s ran", sample_name(_i));
}
END_TEST

static void add_tests(TCase *cases) {
    ctx = logged_context(&book, NULL, no_caps);
    tcase_add_loop_test(cases, each_row_by_its_name, 0, sample_count());
}

int main(void) {
    const int result = harness_main("rows", "", add_tests);
    clmoe_context_destroy(&ctx);
    return result;
}
