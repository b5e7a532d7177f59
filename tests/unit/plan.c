/* SPDX-License-Identifier: MIT
 * Plans: choice of kernels, describe, workspaces, life time. */
#include "kit.h"
#include "plan/plan.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct logbook book;
static clmoe_context *ctx;

static void setup(void) {
    logbook_clear(&book);
    ctx = logged_context(&book, NULL, no_caps);
}

static void teardown(void) {
    clmoe_context_destroy(&ctx);
}

START_TEST(describe_names_the_kernel) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    const char *const text = clmoe_plan_describe(plan);
    int lines = 1;
    for (const char *p = text; (p = strchr(p, '\n')); p++)
        lines++;
    ck_assert_int_eq(lines, plan->n_stages ? plan->n_stages : 1);
    if (plan->n_stages == 0) {
        char head[128];
        snprintf(head, sizeof head, "%s: %s", plan->op, plan->row->name);
        ck_assert_int_eq(strncmp(text, head, strlen(head)), 0);
        ck_assert_int_eq(logbook_count(&book, text), 1);
    }
    ck_assert_int_eq(book.levels[CLMOE_LOG_ERROR], 0);
    clmoe_plan_destroy(&plan);
    ck_assert_ptr_null(plan);
    sample_close(&s);
}
END_TEST

START_TEST(null_plans) {
    clmoe_plan *none = NULL;
    clmoe_plan_destroy(NULL);
    clmoe_plan_destroy(&none);
    ck_assert_str_eq(clmoe_plan_describe(NULL), "");
    ck_assert_uint_eq(clmoe_plan_workspace_size(NULL), 0);
    ck_assert_int_eq(clmoe_plan_set_workspace(NULL, NULL, 0), CLMOE_E_INVALID);
}
END_TEST

/* ---- kernels by name ---- */

START_TEST(an_unknown_name) {
    static const char *const lists[] = {"nonsense", "combine_rows,nonsense", " ,nonsense", "combine_row",
                                        "combine_rowss"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct sample s;
        clmoe_plan *plan = (clmoe_plan *)&s;
        sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
        s.options->kernel = lists[i];
        logbook_clear(&book);
        const enum clmoe_status status = sample_plan(&s, ctx, &plan);
        case_require(status == CLMOE_E_INVALID, "%s, \"%s\": %s", sample_name(_i), lists[i],
                     clmoe_status_name(status));
        ck_assert_ptr_null(plan);
        ck_assert_int_eq(logbook_count(&book, "kernel"), 1);
        sample_close(&s);
    }
}
END_TEST

/* A row of another operation is as unknown as nonsense. */
START_TEST(a_name_of_another_operation) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    for (int t = 0; kernel_tables[t]; t++) {
        bool own =
            strncmp(kernel_tables[t]->op, plan->op, strlen(kernel_tables[t]->op)) == 0; /* pack: matmul too */
        for (int i = 0; i < plan->n_stages; i++)
            own |= strcmp(kernel_tables[t]->op, plan->stages[i]->op) == 0;
        if (own) continue;
        clmoe_plan *refused = plan;
        s.options->kernel = kernel_tables[t]->rows[0].name;
        const enum clmoe_status status = sample_plan(&s, ctx, &refused);
        case_require(status == CLMOE_E_INVALID && !refused, "%s, \"%s\": %s", sample_name(_i),
                     s.options->kernel, clmoe_status_name(status));
    }
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* ---- workspaces ---- */

static const uint64_t fake_workspace = 1000;

/* A plan with an external workspace, whatever the device's best row needs. */
static clmoe_plan *external_plan(struct sample *s) {
    clmoe_plan *plan = NULL;
    sample_open(s, 0, tester()->context, SAMPLE_TOKENS);
    s->options->external_workspace = 1;
    case_ok(sample_plan(s, ctx, &plan));
    plan->workspace_size = fake_workspace;
    return plan;
}

static cl_mem buffer_in(cl_context context, size_t size) {
    cl_int err;
    const cl_mem mem = clCreateBuffer(context, CL_MEM_READ_WRITE, size, NULL, &err);
    ck_assert_int_eq(err, CL_SUCCESS);
    return mem;
}

static void refuse_workspace(clmoe_plan *plan, cl_mem mem, uint64_t offset, const char *message) {
    logbook_clear(&book);
    ck_assert_int_eq(clmoe_plan_set_workspace(plan, mem, offset), CLMOE_E_INVALID);
    case_require(logbook_count(&book, message) == 1, "\"%s\" is not in \"%s\"", message, book.text);
}

START_TEST(external_workspaces) {
    struct sample s;
    clmoe_plan *const plan = external_plan(&s);
    const cl_mem mem = buffer_in(tester()->context, fake_workspace + 512);
    ck_assert_uint_eq(clmoe_plan_workspace_size(plan), fake_workspace);
    refuse_workspace(plan, NULL, 0, "mem is NULL");
    refuse_workspace(plan, mem, 1, "offset = 1");
    refuse_workspace(plan, mem, 128, "offset = 128");
    refuse_workspace(plan, mem, 768, "workspace_size = 1000, offset = 768, buffer of 1512 bytes");
    refuse_workspace(plan, mem, UINT64_MAX - 255, "workspace_size = 1000");
    logbook_clear(&book);
    cl_event event = (cl_event)&s;
    ck_assert_int_eq(sample_enqueue(&s, plan, tester()->queue, 0, NULL, &event), CLMOE_E_INVALID);
    ck_assert_ptr_null(event);
    ck_assert_int_eq(logbook_count(&book, "the plan needs a workspace of 1000 bytes"), 1);
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_poison(0));
    case_ok(clmoe_plan_set_workspace(plan, mem, 0));
    case_ok(clmoe_plan_set_workspace(plan, mem, 512));
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_result(0));
    clmoe_plan_destroy((clmoe_plan *[]){plan});
    ck_assert_int_eq(clReleaseMemObject(mem), CL_SUCCESS); /* still the caller's */
    sample_close(&s);
}
END_TEST

START_TEST(a_workspace_of_another_context) {
    struct sample s;
    clmoe_plan *plan = external_plan(&s);
    cl_int err;
    const cl_context other = clCreateContext(NULL, 1, &tester()->device, NULL, NULL, &err);
    ck_assert_int_eq(err, CL_SUCCESS);
    const cl_mem mem = buffer_in(other, fake_workspace);
    refuse_workspace(plan, mem, 0, "the buffer belongs to another context");
    clReleaseMemObject(mem);
    clReleaseContext(other);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

START_TEST(own_workspaces_stay) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, 0, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    const cl_mem mem = buffer_in(tester()->context, 4096);
    refuse_workspace(plan, mem, 0, "made with external_workspace = 0");
    clReleaseMemObject(mem);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* All operations with an external workspace that is exactly large enough, at an offset, full of rubbish. */
START_TEST(a_snug_workspace) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    s.options->external_workspace = 1;
    case_ok(sample_plan(&s, ctx, &plan));
    const size_t size = (size_t)clmoe_plan_workspace_size(plan);
    const cl_mem mem = buffer_in(tester()->context, size + 512);
    unsigned char *const rubbish = malloc(size + 512);
    memset(rubbish, 0x5a, size + 512);
    clEnqueueWriteBuffer(tester()->queue, mem, CL_TRUE, 0, size + 512, rubbish, 0, NULL, NULL);
    if (size) case_ok(clmoe_plan_set_workspace(plan, mem, 256));
    for (int run = 0; run < 2; run++) {
        sample_reset(&s, tester()->queue);
        case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
        ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_result(_i));
    }
    clEnqueueReadBuffer(tester()->queue, mem, CL_TRUE, 0, size + 512, rubbish, 0, NULL, NULL);
    for (size_t i = 0; i < 256; i++)
        ck_assert(rubbish[i] == 0x5a && rubbish[size + 256 + i] == 0x5a);
    free(rubbish);
    clReleaseMemObject(mem);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

START_TEST(workspace_above_the_largest_buffer) {
    clmoe_context *small = logged_context(&book, NULL, (struct clmoe_caps){.max_alloc = 1});
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    logbook_clear(&book);
    const enum clmoe_status status = sample_plan(&s, small, &plan);
    if (status == CLMOE_OK) {
        ck_assert_uint_le(clmoe_plan_workspace_size(plan), 1);
    } else {
        ck_assert_int_eq(status, CLMOE_E_UNSUPPORTED);
        ck_assert_ptr_null(plan);
        ck_assert_int_ge(logbook_count(&book, "but a buffer may have 1"), 1);
    }
    clmoe_plan_destroy(&plan);
    sample_close(&s);
    clmoe_context_destroy(&small);
}
END_TEST

/* ---- life time ---- */

START_TEST(a_plan_outlives_its_context) {
    const struct layer_counts before = layer_now();
    struct sample s;
    clmoe_plan *plan = NULL;
    clmoe_context *own = logged_context(&book, NULL, no_caps);
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, own, &plan));
    clmoe_context_destroy(&own);
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_result(_i));
    logbook_clear(&book);
    ck_assert_int_eq(sample_enqueue(&s, plan, NULL, 0, NULL, NULL), CLMOE_E_INVALID);
    ck_assert_int_eq(logbook_count(&book, "queue is NULL"), 1);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
    const struct layer_counts after = layer_now();
    ck_assert_mem_eq(after.references, before.references, sizeof after.references);
}
END_TEST

/* Destroyed while its kernels wait behind an event: they still run. */
START_TEST(a_plan_destroyed_before_it_ran) {
    struct sample s;
    clmoe_plan *plan = NULL;
    cl_int err;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    s.options->external_workspace = 1;
    case_ok(sample_plan(&s, ctx, &plan));
    const size_t size = (size_t)clmoe_plan_workspace_size(plan);
    const cl_mem mem = buffer_in(tester()->context, size + 256);
    if (size) case_ok(clmoe_plan_set_workspace(plan, mem, 0));
    const cl_event gate = clCreateUserEvent(tester()->context, &err);
    cl_event done = NULL;
    case_ok(sample_enqueue(&s, plan, tester()->queue, 1, &gate, &done));
    clmoe_plan_destroy(&plan);
    clSetUserEventStatus(gate, CL_COMPLETE);
    ck_assert_int_eq(clWaitForEvents(1, &done), CL_SUCCESS);
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_result(_i));
    clReleaseEvent(gate), clReleaseEvent(done);
    clReleaseMemObject(mem);
    sample_close(&s);
}
END_TEST

/* Behind what is on the queue already, and no byte more. */
START_TEST(counters_are_made_zero) {
    unsigned char bytes[64];
    memset(bytes, 0xa5, sizeof bytes);
    cl_int err;
    const cl_mem mem = clCreateBuffer(tester()->context, CL_MEM_READ_WRITE, sizeof bytes, NULL, &err);
    ck_assert_int_eq(err, CL_SUCCESS);
    const cl_command_queue queue = _i ? tester()->ooo_queue : tester()->queue;
    cl_event done;
    struct launch launch;
    case_ok(launch_begin(&launch, &ctx->log, queue, 0, NULL, &done));
    case_ok(launch_write(&launch, mem, 0, sizeof bytes, bytes));
    case_ok(launch_zero(&launch, mem, sizeof bytes - 4));
    case_ok(launch_end(&launch, CLMOE_OK));
    unsigned char got[sizeof bytes];
    ck_assert_int_eq(clEnqueueReadBuffer(queue, mem, CL_TRUE, 0, sizeof got, got, 1, &done, NULL),
                     CL_SUCCESS);
    for (size_t i = 0; i < sizeof got; i++)
        ck_assert_uint_eq(got[i], i < sizeof got - 4 ? 0 : 0xa5);
    clReleaseEvent(done);
    clReleaseMemObject(mem);
}
END_TEST

/* ---- arguments ---- */

struct called {
    uint64_t hash, set_args;
    int n_tensors;
};

/* A call with buffers of its own, and with a workspace of its own if the plan takes one. */
static struct called call_anew(clmoe_plan *plan, int op, int64_t tokens, bool external) {
    struct sample s;
    sample_open(&s, op, tester()->context, tokens);
    const cl_mem workspace = external ? sample_workspace(plan) : NULL;
    const uint64_t before = layer_now().set_args;
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    const uint64_t set = layer_now().set_args - before;
    const struct called called = {sample_outputs(&s, tester()->queue), set, s.n_tensors};
    if (workspace) clReleaseMemObject(workspace);
    sample_close(&s);
    return called;
}

static clmoe_plan *plan_of(int op, bool external) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    s.options->external_workspace = external;
    case_ok(sample_plan(&s, ctx, &plan));
    sample_close(&s);
    return plan;
}

enum { FEWER_TOKENS = SAMPLE_TOKENS - 2 };

/* Of a call like the one before it all buffers are said again, and little more. */
START_TEST(arguments_that_stay_are_not_set_again) {
    clmoe_plan *plan = plan_of(_i, false), *fresh = plan_of(_i, false);
    const struct called few = call_anew(fresh, _i, FEWER_TOKENS, false);
    const struct called first = call_anew(plan, _i, SAMPLE_TOKENS, false);
    const struct called second = call_anew(plan, _i, SAMPLE_TOKENS, false);
    const struct called other = call_anew(plan, _i, FEWER_TOKENS, false);
    ck_assert_uint_eq(first.hash, sample_result(_i));
    ck_assert_uint_eq(second.hash, sample_result(_i));
    ck_assert_uint_eq(other.hash, few.hash);
    ck_assert_uint_lt(3 * second.set_args, 2 * first.set_args);
    ck_assert_uint_ge(second.set_args, (uint64_t)second.n_tensors);
    clmoe_plan_destroy(&plan);
    clmoe_plan_destroy(&fresh);
}
END_TEST

/* Another workspace may have the handle of one that is gone: with it, nothing is taken for known. */
START_TEST(a_workspace_makes_all_arguments_new) {
    clmoe_plan *plan = plan_of(_i, true);
    const struct called first = call_anew(plan, _i, SAMPLE_TOKENS, true);
    const struct called second = call_anew(plan, _i, SAMPLE_TOKENS, true);
    ck_assert_uint_eq(second.hash, sample_result(_i));
    ck_assert_uint_eq(second.set_args, first.set_args);
    clmoe_plan_destroy(&plan);
}
END_TEST

/* ---- launches ---- */

/* One token on a device without rows of its own: routing, a product, and one that sums the slots itself. */
START_TEST(three_launches_at_one_token) {
    struct sample s;
    clmoe_plan *plan = NULL;
    int op = 0;
    while (strcmp(sample_name(op), "moe") != 0)
        op++;
    sample_open(&s, op, tester()->context, 1);
    struct clmoe_moe_params *const p = &s.params.moe;
    struct clmoe_moe_args *const a = &s.args.moe;
    const struct clmoe_tensor none = {0};
    p->max_tokens = 1;
    p->source = CLMOE_MOE_LOGITS;
    p->adapters = (struct clmoe_moe_adapters){0};
    p->router_bias = 0;
    a->logits = clmoe_tensor_2d(a->router_bias.mem, CLMOE_F32, 1, p->experts);
    a->router = a->router_bias = a->adapter_ids = a->adapter_scale = a->a1 = a->b1 = a->a2 = a->b2 = none;
    clmoe_context *plain = logged_context(&book, NULL, plain_caps);
    case_ok(clmoe_moe_plan(plain, p, &plan));
    const uint64_t before = layer_now().enqueued;
    case_require(clmoe_moe_enqueue(plan, tester()->queue, a, 0, NULL, NULL) == CLMOE_OK, "%s", book.text);
    ck_assert_uint_eq(layer_now().enqueued - before, 3);
    clFinish(tester()->queue);
    clmoe_plan_destroy(&plan);
    clmoe_context_destroy(&plain);
    sample_close(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = sample_count();
    for (int i = 0; i < n; i++)
        sample_result(i); /* builds what it keeps before anything is counted */
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, describe_names_the_kernel, 0, n);
    tcase_add_test(cases, null_plans);
    tcase_add_loop_test(cases, counters_are_made_zero, 0, 2);
    tcase_add_loop_test(cases, an_unknown_name, 0, n);
    tcase_add_loop_test(cases, a_name_of_another_operation, 0, n);
    tcase_add_test(cases, external_workspaces);
    tcase_add_test(cases, a_workspace_of_another_context);
    tcase_add_test(cases, own_workspaces_stay);
    tcase_add_loop_test(cases, a_snug_workspace, 0, n);
    tcase_add_loop_test(cases, workspace_above_the_largest_buffer, 0, n);
    tcase_add_loop_test(cases, a_plan_outlives_its_context, 0, n);
    tcase_add_loop_test(cases, a_plan_destroyed_before_it_ran, 0, n);
    tcase_add_loop_test(cases, a_workspace_makes_all_arguments_new, 0, n);
    tcase_add_loop_test(cases, arguments_that_stay_are_not_set_again, 0, n);
    tcase_add_test(cases, three_launches_at_one_token);
}

int main(void) {
    return harness_main("plan", "", add_tests);
}
