/* SPDX-License-Identifier: MIT
 * topk: the cases of other projects' tests (tests/data/topk) on every row of the table.
 *
 * Results are proved in one pass over each row, and where a case says what must come out compared with that.
 * Cases that are too much for a CPU run with fewer rows; where one row is too much, or a dtype would have to
 * be compiled for one case, with CLMOE_TEST_LARGE=1 only. CLMOE_TEST_TABLES="raft cub" runs those tables
 * alone. */
#include "topk_case.h"
#include "topk_table.h"
#include "topk_verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"onnx",       "onnxruntime", "pytorch", "raft",     "cub",
                                    "flashinfer", "aiter",       "ggml",    "arrayfire"};
enum { N_NAMES = sizeof names / sizeof *names };

/* The cases of one table that this run takes. */
struct selection {
    int count, fewer_rows, left_out;
    struct topk_entry *entries;
};
static struct selection selections[N_NAMES];

static bool large(void) {
    const char *const v = getenv("CLMOE_TEST_LARGE");
    return v && strcmp(v, "1") == 0;
}

/* Elements of a case: on a simulator, else, of literal ones, with CLMOE_TEST_LARGE, and there of a single
 * row. */
#define SMALL_CELLS 150
#define CELLS (1 << 17)
#define LITERAL_CELLS (1 << 19)
#define LARGE_CELLS (1 << 25)
#define LARGE_ROW (1 << 30)
/* Cases of a table on a simulator. */
#define SMALL_CASES 2
/* Rows of a case on a simulator, of which each takes a work-group or several. */
#define SMALL_ROWS 8
/* Elements of a row that has every dtype of its line. */
#define SHORT_ROW 256

static bool alike(const struct clmoe_topk_params *p, const struct clmoe_topk_params *q) {
    return p->dtype == q->dtype && p->n == q->n && p->smallest == q->smallest;
}

static bool same(const struct topk_entry *a, const struct topk_entry *b) {
    const struct clmoe_topk_params *const p = &a->params, *const q = &b->params;
    return a->line == b->line && a->outer == b->outer && a->inner == b->inner && alike(p, q) &&
           p->k == q->k && p->order == q->order && p->ties == q->ties && p->index_dtype == q->index_dtype &&
           a->pattern.kind == b->pattern.kind && a->pattern.arg == b->pattern.arg;
}

/* Takes rows away until the case is affordable. False if one row is too much, for this run or for the device.
 */
static bool fit(struct topk_entry *e, bool *fewer) {
    if (tester()->small && e->outer * e->inner > SMALL_ROWS) return false;
    const int64_t row = e->params.n * e->inner * e->stride;
    int64_t most = tester()->small ? SMALL_CELLS : large() ? LARGE_CELLS : e->literal ? LITERAL_CELLS : CELLS;
    if (large() && most < row && row <= LARGE_ROW) most = row;
    cl_ulong bytes = 0;
    clGetDeviceInfo(tester()->device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof bytes, &bytes, NULL);
    if (row > most || (uint64_t)row * (uint64_t)pattern_bytes(e->params.dtype) + 65536 > bytes) return false;
    *fewer = row * e->outer > most;
    if (*fewer) e->outer = most / row;
    return !tester()->small || !*fewer;
}

/* Compiling for a dtype takes a CPU longer than running the case: there, of a line with several dtypes, each
 * longer shape has one of them. */
static bool dtype_is_due(const struct topk_entry *e) {
    return large() || e->params.n <= SHORT_ROW || (e->shape + e->line) % e->dtypes == e->of_dtype;
}

static void select_cases(const char *name, struct selection *s) {
    const struct topk_table *const table = topk_table_named(name);
    s->entries = topk_room(table->count, sizeof *s->entries);
    for (int i = 0; i < table->count; i++) {
        struct topk_entry e = table->entries[i];
        bool fewer, twin = false;
        if (!dtype_is_due(&e) || !fit(&e, &fewer)) {
            s->left_out++;
            continue;
        }
        for (int j = 0; fewer && j < s->count && !twin; j++)
            twin = same(&s->entries[j], &e);
        s->fewer_rows += fewer;
        if (!twin) s->entries[s->count++] = e;
    }
    if (!tester()->small || s->count <= SMALL_CASES) return;
    for (int i = 0; i < SMALL_CASES; i++)
        s->entries[i] = s->entries[i * s->count / SMALL_CASES];
    s->left_out += s->count - SMALL_CASES;
    s->count = SMALL_CASES;
}

/* ---- one case ---- */

struct windows {
    int32_t *begin, *length; /* as given; NULL: none */
};

/* One entry with its data, and the operands that all rows of the table share. */
struct problem {
    const struct topk_entry *e;
    struct clmoe_topk_params params;
    int64_t rows;
    char *x;
    struct windows w;
    struct guarded gx, gbegin, glength;
    struct clmoe_tensor tensor; /* x, with its stride */
};

/* x of the last entry, for the next that differs in k alone: making it takes longer than the rest where it is
 * long. */
static struct {
    struct topk_entry e;
    char *x;
} last;

static bool depends_on_k(enum pattern_kind kind) {
    return kind == PATTERN_SHUFFLED_TIES || kind == PATTERN_CLUSTERED || kind >= PATTERN_STRIPED;
}

static char *elements_of(const struct topk_entry *e) {
    const struct topk_entry *const l = &last.e;
    if (last.x && strcmp(e->file, l->file) == 0 && e->line == l->line && alike(&e->params, &l->params) &&
        e->outer == l->outer && e->inner == l->inner && e->pattern.kind == l->pattern.kind &&
        e->pattern.arg == l->pattern.arg && !depends_on_k(e->pattern.kind))
        return last.x;
    struct rng rng = rng_for((uint64_t)e->line);
    const int64_t cells = e->outer * e->params.n * e->inner;
    free(last.x);
    last.e = *e;
    last.x = topk_room(cells, (size_t)pattern_bytes(e->params.dtype));
    if (!e->literal) pattern_fill(&rng, e->pattern, &e->params, e->outer, e->inner, last.x);
    for (int64_t i = 0; e->literal && i < cells; i++)
        pattern_store(e->params.dtype, last.x, i, topk_number(&rng, e->x, i, e->params.n));
    return last.x;
}

static int32_t *row_array(struct rng *rng, const struct topk_list *list, int64_t rows, int64_t n) {
    if (list->count == 0) return NULL;
    int32_t *const v = topk_room(rows, sizeof *v);
    for (int64_t r = 0; r < rows; r++)
        v[r] = (int32_t)topk_number(rng, list, r, n);
    return v;
}

/* A view with an element stride: rows of the buffer hold x and rubbish by turns. */
static struct guarded strided(struct rng *rng, const struct problem *p) {
    const int64_t n = p->params.n, stride = p->e->stride;
    const size_t bytes = (size_t)pattern_bytes(p->params.dtype);
    char *const wide = topk_room(p->rows * n * stride, bytes);
    for (int64_t i = 0; i < p->rows * n * stride; i++)
        for (size_t b = 0; b < bytes; b++)
            wide[(size_t)i * bytes + b] = (char)rng_u32(rng);
    for (int64_t i = 0; i < p->rows * n; i++)
        memcpy(wide + (size_t)(i * stride) * bytes, p->x + (size_t)i * bytes, bytes);
    const struct guarded g = guarded_raw(rng, p->params.dtype, p->rows, n * stride, wide);
    free(wide);
    return g;
}

static struct guarded matrix(struct rng *rng, enum clmoe_dtype dtype, const struct topk_entry *e,
                             int64_t columns, const void *data) {
    const int64_t shape[] = {e->outer, columns, e->inner};
    return e->inner > 1 ? guarded_bytes(rng, dtype, 3, shape, data)
                        : guarded_raw(rng, dtype, e->outer, columns, data);
}

static struct problem problem_of(struct rng *rng, const struct topk_entry *e) {
    struct problem p = {.e = e, .params = e->params, .rows = e->outer * e->inner, .x = elements_of(e)};
    const int64_t n = e->params.n;
    p.params.max_rows = p.rows;
    p.params.plan.external_workspace = 1;
    p.gx = e->stride > 1 ? strided(rng, &p) : matrix(rng, e->params.dtype, e, n, p.x);
    p.tensor = p.gx.tensor;
    if (e->stride > 1) p.tensor.shape[1] = n, p.tensor.stride[1] = e->stride;
    p.w.begin = row_array(rng, e->begin, p.rows, n);
    p.w.length = row_array(rng, e->length, p.rows, n);
    if (p.w.begin) p.gbegin = guarded_bytes(rng, CLMOE_I32, 1, &p.rows, p.w.begin);
    if (p.w.length) p.glength = guarded_bytes(rng, CLMOE_I32, 1, &p.rows, p.w.length);
    return p;
}

static void problem_free(struct problem *p) {
    guarded_free(&p->gx);
    if (p->w.begin) guarded_free(&p->gbegin);
    if (p->w.length) guarded_free(&p->glength);
    free(p->w.begin), free(p->w.length);
}

/* ---- what must come out ---- */

static int64_t clamped(int64_t v, int64_t most) {
    return v < 0 ? 0 : v > most ? most : v;
}

/* Column by column of [outer, columns, inner]: the elements of row r in one piece. */
static void take_row(const struct topk_entry *e, int64_t r, int64_t columns, int bytes, const char *from,
                     char *to) {
    const int64_t outer = r / e->inner, inner = r - outer * e->inner;
    for (int64_t i = 0; i < columns; i++)
        memcpy(to + i * bytes, from + ((outer * columns + i) * e->inner + inner) * bytes, (size_t)bytes);
}

static int ascending(const void *a, const void *b) {
    const int64_t p = *(const int64_t *)a, q = *(const int64_t *)b;
    return (p > q) - (p < q);
}

static bool is_nan(enum clmoe_dtype dtype, const char *x) {
    double v = 0;
    float f = 0;
    if (dtype == CLMOE_F64)
        memcpy(&v, x, 8);
    else if (dtype == CLMOE_F32)
        memcpy(&f, x, 4);
    return isnan(v) || isnan(f);
}

/* Literals are in the order of [outer, k, inner] and repeated. With the order ANY the ids of a row are a set.
 */
static void check_literals(const struct problem *p, int64_t r, const char *values, int64_t *indices) {
    const struct topk_entry *const e = p->e;
    const int64_t k = p->params.k, outer = r / e->inner, inner = r - outer * e->inner;
    const int bytes = pattern_bytes(p->params.dtype);
    const bool any = p->params.order == CLMOE_ORDER_ANY;
    int64_t *const wanted = topk_room(k, sizeof *wanted);
    for (int64_t j = 0; j < k && e->indices->count; j++)
        wanted[j] = (int64_t)topk_number(NULL, e->indices, (outer * k + j) * e->inner + inner, p->params.n);
    for (int64_t j = 0; j < k && e->values->count && !any; j++) {
        char value[8] = {0};
        pattern_store(p->params.dtype, value, 0,
                      topk_number(NULL, e->values, (outer * k + j) * e->inner + inner, p->params.n));
        const char *const got = values + j * bytes;
        if (is_nan(p->params.dtype, value) && is_nan(p->params.dtype, got)) continue;
        case_require(memcmp(value, got, (size_t)bytes) == 0, "values[%lld,%lld] is not the one of the table",
                     (long long)r, (long long)j);
    }
    if (any) qsort(wanted, (size_t)k, sizeof *wanted, ascending);
    if (any) qsort(indices, (size_t)k, sizeof *indices, ascending);
    for (int64_t j = 0; j < k && e->indices->count; j++)
        case_require(indices[j] == wanted[j], "indices[%lld,%lld] = %lld, the table has %lld", (long long)r,
                     (long long)j, (long long)indices[j], (long long)wanted[j]);
    free(wanted);
}

static void check_outputs(const struct problem *p, const struct guarded *gvalues,
                          const struct guarded *gindices) {
    const struct topk_entry *const e = p->e;
    const int64_t n = p->params.n, k = p->params.k;
    const int bytes = pattern_bytes(p->params.dtype), id_bytes = p->params.index_dtype == CLMOE_I64 ? 8 : 4;
    char *const values = topk_room(p->rows * k, (size_t)bytes), *const ids =
                                                                    topk_room(p->rows * k, (size_t)id_bytes);
    char *const x = topk_room(n, (size_t)bytes), *const v = topk_room(k, (size_t)bytes);
    int64_t *const i64 = topk_room(k, sizeof *i64);
    int32_t *const i32 = topk_room(k, sizeof *i32);
    guarded_read(gvalues, values);
    guarded_read(gindices, ids);
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t begin = p->w.begin ? clamped(p->w.begin[r], n) : 0;
        const int64_t length = p->w.length ? clamped(p->w.length[r], n - begin) : n - begin;
        take_row(e, r, k, bytes, values, v);
        take_row(e, r, k, id_bytes, ids, id_bytes == 8 ? (char *)i64 : (char *)i32);
        for (int64_t j = 0; j < k && id_bytes == 4; j++)
            i64[j] = i32[j];
        const bool whole = e->inner == 1;
        if (!whole) take_row(e, r, n, bytes, p->x, x);
        const char *const complaint =
            topk_verify_row(&p->params, whole ? p->x + r * n * bytes : x, begin, length, v, i64);
        case_require(!complaint, "row %lld: %s", (long long)r, complaint);
        if (e->literal) check_literals(p, r, v, i64);
    }
    free(values), free(ids), free(x), free(v), free(i64), free(i32);
}

/* ---- runs ---- */

/* The reference takes rows * n * k steps; topk_bitonic is compiled for sizes, too. */
static bool affordable(const char *row, const struct problem *p) {
    const int64_t steps = p->rows * p->params.n * (p->params.k + 1);
    if (strcmp(row, "topk_ref") == 0) return steps <= (tester()->small ? 3000 : 4000000);
    return strcmp(row, "topk_bitonic") != 0 || large() || p->e->literal || p->params.n <= SHORT_ROW;
}

static void run(struct rng *rng, struct problem *p, int row) {
    clmoe_plan *plan;
    if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &p->params, &plan))) return;
    const cl_mem workspace = topk_workspace(plan);
    struct guarded values = matrix(rng, p->params.dtype, p->e, p->params.k, NULL),
                   indices = matrix(rng, p->params.index_dtype, p->e, p->params.k, NULL);
    struct clmoe_topk_args args = {.x = p->tensor, .values = values.tensor, .indices = indices.tensor};
    if (p->w.begin) args.row_begin = p->gbegin.tensor;
    if (p->w.length) args.row_length = p->glength.tensor;
    case_ok(clmoe_topk_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    check_outputs(p, &values, &indices);
    guarded_free(&values), guarded_free(&indices);
    if (workspace) clReleaseMemObject(workspace);
    clmoe_plan_destroy(&plan);
}

static void run_case(int table, int number) {
    const struct topk_entry *const e = &selections[table].entries[number];
    struct rng rng = rng_for((uint64_t)(table * 100000 + number));
    struct problem p = problem_of(&rng, e);
    for (int row = 0; (p.params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        case_begin("%s %s.%s (line %d) %lldx%lldx%lld k=%lld %s%s %s:%lld order %d ties %d",
                   p.params.plan.kernel, e->file, e->name, e->line, (long long)e->outer,
                   (long long)p.params.n, (long long)e->inner, (long long)p.params.k,
                   clmoe_dtype_name(p.params.dtype), p.params.smallest ? " smallest" : "",
                   e->literal ? "literal" : pattern_name(e->pattern.kind), (long long)e->pattern.arg,
                   (int)p.params.order, (int)p.params.ties);
        if (affordable(p.params.plan.kernel, &p)) run(&rng, &p, row);
    }
    problem_free(&p);
}

#define TABLE_TEST(name, number)                                                                             \
    START_TEST(name) {                                                                                       \
        run_case(number, _i);                                                                                \
    }                                                                                                        \
    END_TEST

TABLE_TEST(onnx, 0)
TABLE_TEST(onnxruntime, 1)
TABLE_TEST(pytorch, 2)
TABLE_TEST(raft, 3)
TABLE_TEST(cub, 4)
TABLE_TEST(flashinfer, 5)
TABLE_TEST(aiter, 6)
TABLE_TEST(ggml, 7)
TABLE_TEST(arrayfire, 8)

static void add_tests(TCase *cases) {
    const TTest *const tests[N_NAMES] = {onnx,       onnxruntime, pytorch, raft,     cub,
                                         flashinfer, aiter,       ggml,    arrayfire};
    const char *const wanted = getenv("CLMOE_TEST_TABLES");
    for (int i = 0; i < N_NAMES; i++) {
        struct selection *const s = &selections[i];
        if (wanted && !strstr(wanted, names[i])) continue;
        select_cases(names[i], s);
        printf("%s: %d cases, %d with fewer rows, %d left out%s\n", names[i], s->count, s->fewer_rows,
               s->left_out, s->left_out && !large() ? " (CLMOE_TEST_LARGE=1 runs them)" : "");
        tcase_add_loop_test(cases, tests[i], 0, s->count);
    }
}

int main(void) {
    const int result = harness_main("topk_tables", "", add_tests);
    free(last.x);
    return result;
}
