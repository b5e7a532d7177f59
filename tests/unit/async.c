/* SPDX-License-Identifier: MIT
 * Enqueue functions never wait for the device: behind an event that is not set they return at once, and what
 * they enqueued runs when it is set. On in-order and out-of-order queues, with wait lists and chains of
 * events. */
#define _POSIX_C_SOURCE 200809L
#include "kit.h"
#include "sample.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct logbook book;
static clmoe_context *ctx;
enum { QUEUES = 2 };

static cl_command_queue queue_of(int i) {
    return i % QUEUES ? tester()->ooo_queue : tester()->queue;
}

static cl_event user_event(void) {
    cl_int err;
    const cl_event event = clCreateUserEvent(tester()->context, &err);
    ck_assert_int_eq(err, CL_SUCCESS);
    return event;
}

static cl_int event_status(cl_event event) {
    cl_int status = -99;
    ck_assert_int_eq(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL),
                     CL_SUCCESS);
    return status;
}

/* Enqueues and requires that nothing blocked on the way. */
static void enqueue(const struct sample *s, clmoe_plan *plan, cl_command_queue queue, cl_uint n_wait,
                    const cl_event *wait, cl_event *event) {
    const uint64_t blocking = layer_now().blocking;
    const enum clmoe_status status = sample_enqueue(s, plan, queue, n_wait, wait, event);
    case_require(status == CLMOE_OK, "%s: %s", clmoe_status_name(status), book.text);
    case_require(layer_now().blocking == blocking, "%d calls that block",
                 (int)(layer_now().blocking - blocking));
    if (event) ck_assert_ptr_nonnull(*event);
}

static clmoe_plan *plan_for(const struct sample *s) {
    clmoe_plan *plan = NULL;
    case_ok(sample_plan(s, ctx, &plan));
    return plan;
}

/* Waits for an event; the events and the queue have nothing left afterwards. */
static void finish(cl_event *event) {
    ck_assert_int_eq(clWaitForEvents(1, event), CL_SUCCESS);
    ck_assert_int_eq(event_status(*event), CL_COMPLETE);
    clReleaseEvent(*event);
    *event = NULL;
}

START_TEST(behind_an_unset_event) {
    const int op = _i / QUEUES;
    struct sample s;
    case_begin("%s, queue %d", sample_name(op), _i % QUEUES);
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    const cl_event gates[3] = {user_event(), user_event(), user_event()};
    cl_event done = NULL;
    enqueue(&s, plan, queue_of(_i), 3, gates, &done);
    clFlush(queue_of(_i));
    /* Each gate but one open: still nothing may have run. */
    clSetUserEventStatus(gates[0], CL_COMPLETE);
    clSetUserEventStatus(gates[2], CL_COMPLETE);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    ck_assert_int_gt(event_status(done), CL_COMPLETE);
    clSetUserEventStatus(gates[1], CL_COMPLETE);
    finish(&done);
    ck_assert_uint_eq(sample_outputs(&s, queue_of(_i)), sample_result(op));
    for (int i = 0; i < 3; i++)
        clReleaseEvent(gates[i]);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* A call without an event and without a wait list, then one with an event that depends on it by the queue's
 * order (in-order) or by nothing at all (out-of-order: then finish the queue). */
START_TEST(without_events) {
    const int op = _i / QUEUES;
    struct sample s;
    case_begin("%s, queue %d", sample_name(op), _i % QUEUES);
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    for (int run = 0; run < 2; run++) {
        sample_reset(&s, queue_of(_i));
        enqueue(&s, plan, queue_of(_i), 0, NULL, NULL);
        ck_assert_uint_eq(sample_outputs(&s, queue_of(_i)), sample_result(op));
    }
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* In order, the last stage of a layer alone is asked for an event, and nothing is where the caller wants
 * none. */
START_TEST(events_that_are_needed) {
    struct sample s;
    case_begin("%s", sample_name(_i));
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    const struct layer_counts before = layer_now();
    enqueue(&s, plan, tester()->queue, 0, NULL, NULL);
    const struct layer_counts without = layer_now();
    cl_event done = NULL;
    enqueue(&s, plan, tester()->queue, 0, NULL, &done);
    const struct layer_counts with = layer_now();
    const uint64_t commands = with.enqueued - without.enqueued, events = with.events - without.events;
    ck_assert_uint_eq(without.events, before.events);
    if (strcmp(sample_name(_i), "moe") == 0)
        case_require(commands > 2 && events == 1, "%d events of %d commands", (int)events, (int)commands);
    finish(&done);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* Five calls of one plan, each behind the event of the one before it, all behind one gate. */
START_TEST(a_chain_of_events) {
    const int op = _i / QUEUES;
    struct sample s;
    case_begin("%s, queue %d", sample_name(op), _i % QUEUES);
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    const cl_event gate = user_event();
    cl_event previous = gate, done = NULL;
    for (int i = 0; i < 5; i++) {
        enqueue(&s, plan, queue_of(_i), 1, &previous, &done);
        if (previous != gate) clReleaseEvent(previous);
        previous = done;
    }
    ck_assert_int_gt(event_status(done), CL_COMPLETE);
    clSetUserEventStatus(gate, CL_COMPLETE);
    finish(&done);
    clReleaseEvent(gate);
    ck_assert_uint_eq(sample_outputs(&s, queue_of(_i)), sample_result(op));
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* The inputs arrive by a write that is itself behind the gate: work that did not wait would see poison. */
START_TEST(inputs_that_come_late) {
    const int op = _i / QUEUES;
    struct sample s, late;
    cl_event uploads[SAMPLE_BUFFERS], done = NULL;
    cl_uint n = 0;
    const cl_event gate = user_event();
    case_begin("%s, queue %d", sample_name(op), _i % QUEUES);
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    sample_open(&late, op, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    const unsigned char zero = 0;
    for (int i = 0; i < s.n_tensors; i++) {
        if (s.tensors[i].written) continue;
        clEnqueueFillBuffer(tester()->queue, s.tensors[i].mem, &zero, 1, 0, s.tensors[i].bytes, 0, NULL,
                            NULL);
    }
    clFinish(tester()->queue);
    for (int i = 0; i < s.n_tensors; i++) {
        if (s.tensors[i].written) continue;
        ck_assert_int_eq(clEnqueueCopyBuffer(queue_of(_i), late.tensors[i].mem, s.tensors[i].mem, 0, 0,
                                             s.tensors[i].bytes, 1, &gate, &uploads[n++]),
                         CL_SUCCESS);
    }
    enqueue(&s, plan, queue_of(_i), n, uploads, &done);
    clSetUserEventStatus(gate, CL_COMPLETE);
    finish(&done);
    ck_assert_uint_eq(sample_outputs(&s, queue_of(_i)), sample_result(op));
    for (cl_uint i = 0; i < n; i++)
        clReleaseEvent(uploads[i]);
    clReleaseEvent(gate);
    clmoe_plan_destroy(&plan);
    sample_close(&late), sample_close(&s);
}
END_TEST

/* No rows: nothing to do, and yet the event waits for the wait list. */
START_TEST(no_rows) {
    const int op = _i / QUEUES;
    struct sample s;
    case_begin("%s, queue %d", sample_name(op), _i % QUEUES);
    sample_open(&s, op, tester()->context, 0);
    clmoe_plan *plan = plan_for(&s);
    const cl_event gate = user_event();
    cl_event done = NULL, free_event = NULL;
    enqueue(&s, plan, queue_of(_i), 0, NULL, &free_event);
    finish(&free_event);
    enqueue(&s, plan, queue_of(_i), 1, &gate, &done);
    ck_assert_int_gt(event_status(done), CL_COMPLETE);
    clSetUserEventStatus(gate, CL_COMPLETE);
    finish(&done);
    enqueue(&s, plan, queue_of(_i), 0, NULL, NULL);
    ck_assert_int_eq(clFinish(queue_of(_i)), CL_SUCCESS);
    clReleaseEvent(gate);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* On an in-order queue what follows a call waits for the call's wait list, rows or no rows. */
START_TEST(no_rows_keep_the_order_of_the_queue) {
    struct sample s;
    sample_open(&s, _i, tester()->context, 0);
    clmoe_plan *plan = plan_for(&s);
    const cl_event gate = user_event();
    cl_event after = NULL;
    enqueue(&s, plan, tester()->queue, 1, &gate, NULL);
    ck_assert_int_eq(clEnqueueMarkerWithWaitList(tester()->queue, 0, NULL, &after), CL_SUCCESS);
    clFlush(tester()->queue);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    ck_assert_int_gt(event_status(after), CL_COMPLETE);
    clSetUserEventStatus(gate, CL_COMPLETE);
    finish(&after);
    clReleaseEvent(gate);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* An event that fails: the call's event fails too, and nothing ran. */
START_TEST(a_wait_that_fails) {
    struct sample s;
    sample_open(&s, _i, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    cl_int err;
    const cl_command_queue queue = clCreateCommandQueue(tester()->context, tester()->device, 0, &err);
    const cl_event gate = user_event();
    cl_event done = NULL;
    enqueue(&s, plan, queue, 1, &gate, &done);
    clSetUserEventStatus(gate, -42);
    clWaitForEvents(1, &done);
    ck_assert_int_lt(event_status(done), 0);
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_poison(_i));
    clReleaseEvent(done), clReleaseEvent(gate);
    clReleaseCommandQueue(queue);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

/* All references to events, queues and buffers are given back. */
START_TEST(references_balance) {
    const int op = _i / QUEUES;
    struct sample s;
    sample_open(&s, op, tester()->context, SAMPLE_TOKENS);
    clmoe_plan *plan = plan_for(&s);
    clFinish(queue_of(_i));
    const struct layer_counts before = layer_now();
    for (int i = 0; i < 4; i++) {
        cl_event done = NULL;
        enqueue(&s, plan, queue_of(_i), 0, NULL, i % 2 ? &done : NULL);
        if (done) clReleaseEvent(done);
    }
    clFinish(queue_of(_i));
    const struct layer_counts after = layer_now();
    ck_assert_mem_eq(after.references, before.references, sizeof after.references);
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = sample_count();
    ctx = logged_context(&book, NULL, no_caps);
    for (int i = 0; i < n; i++)
        sample_result(i);
    tcase_add_loop_test(cases, behind_an_unset_event, 0, n * QUEUES);
    tcase_add_loop_test(cases, without_events, 0, n * QUEUES);
    tcase_add_loop_test(cases, events_that_are_needed, 0, n);
    tcase_add_loop_test(cases, a_chain_of_events, 0, n * QUEUES);
    tcase_add_loop_test(cases, inputs_that_come_late, 0, n * QUEUES);
    tcase_add_loop_test(cases, no_rows, 0, n * QUEUES);
    tcase_add_loop_test(cases, no_rows_keep_the_order_of_the_queue, 0, n);
    /* One launch, a combine: PoCL 3.1 aborts when the events of a chain fail. */
    tcase_add_loop_test(cases, a_wait_that_fails, 0, 1);
    tcase_add_loop_test(cases, references_balance, 0, n * QUEUES);
}

int main(void) {
    const int result = harness_main("async", "", add_tests);
    clmoe_context_destroy(&ctx);
    return result;
}
