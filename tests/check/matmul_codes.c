/* SPDX-License-Identifier: MIT
 * matmul's row for MXFP4 on tensor cores: its decoding of every code with every scale, on any device; the row
 * itself where there is one, and beside it the reference. */
#include "matmul_case.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW "matmul_wgmma_coded"
enum { SCALES = 256, CODES = 16, BLOCK = 32, BLOCK_BYTES = 17 };

/* ---- decoding ---- */

/* Work-item e * 16 + c: with scale e, the codes c and c + 1 in each of the ways that the kernel finds them,
 * among bits that must not matter. */
static const char decoding[] =
    "#include \"common/dtype.cl\"\n"
    "#define PTX 0\n"
    "#include \"matmul/coded.cl\"\n"
    "kernel void decode(global uint *held, ulong held_skip) {\n"
    "    const uint i = get_global_id(0), e = i / 16, c = i & 15, d = (c + 1) & 15;\n"
    "    const uint word = 0xa5005a3c | (d << 4 | c) << 16;\n"
    "    const uint codes[3] = {low_codes(0xbca0f5a0 | d << 16 | c), high_codes(0xca055a0b | d << 20 | c << "
    "4),\n"
    "                           high_codes(permute_bytes(word, word << 4, 0x2226))};\n"
    "    for (int n = 0; n < 3; n++)\n"
    "        held[held_skip + i * 3 + n] = multiply_two(multiply_two(codes[n], scale_factor(e)), "
    "scale_rest(e));\n"
    "}\n";

static cl_kernel build(const char *text, const char *entry) {
    cl_int err;
    const cl_program program = clCreateProgramWithSource(tester()->context, 1, &text, NULL, &err);
    case_require(err == CL_SUCCESS, "clCreateProgramWithSource: %d", (int)err);
    err = clBuildProgram(program, 1, &tester()->device, "-cl-std=CL1.2 -I" CLMOE_CL_SOURCES, NULL, NULL);
    static char log[1 << 16];
    if (err != CL_SUCCESS)
        clGetProgramBuildInfo(program, tester()->device, CL_PROGRAM_BUILD_LOG, sizeof log, log, NULL);
    case_require(err == CL_SUCCESS, "clBuildProgram: %d\n%s", (int)err, log);
    const cl_kernel kernel = clCreateKernel(program, entry, &err);
    case_require(err == CL_SUCCESS, "clCreateKernel: %d", (int)err);
    clReleaseProgram(program);
    return kernel;
}

/* Of a code with a scale, as the oracle has it. */
static float value_of(unsigned scale, unsigned code) {
    const unsigned char block[BLOCK_BYTES] = {(unsigned char)scale, (unsigned char)code};
    float values[BLOCK];
    ref_unpack(CLMOE_MXFP4, block, BLOCK, values);
    return values[0];
}

/* Where numbers have no denormals, the smallest are 0. */
static bool is_value(float got, float want) {
    return got == want || (isnan(got) && isnan(want)) || (got == 0 && fabsf(want) < 0x1p-126f);
}

START_TEST(each_code_is_exact) {
    enum { ITEMS = SCALES * CODES, PLACES = 3 };
    struct rng rng = rng_for(1);
    static uint32_t held[ITEMS * PLACES];
    case_begin("decoding");
    const cl_kernel kernel = build(decoding, "decode");
    struct guarded g = guarded_ints(&rng, CLMOE_U32, 1, ITEMS * PLACES, NULL);
    const size_t items = ITEMS;
    const cl_ulong skip = g.tensor.offset / sizeof *held;
    cl_int err = clSetKernelArg(kernel, 0, sizeof g.tensor.mem, &g.tensor.mem);
    if (err == CL_SUCCESS) err = clSetKernelArg(kernel, 1, sizeof skip, &skip);
    if (err == CL_SUCCESS)
        err = clEnqueueNDRangeKernel(tester()->queue, kernel, 1, NULL, &items, NULL, 0, NULL, NULL);
    case_require(err == CL_SUCCESS, "decode: %d", (int)err);
    guarded_read(&g, held);
    for (int i = 0; i < ITEMS; i++)
        for (int n = 0; n < 2 * PLACES; n++) {
            const unsigned e = (unsigned)i / CODES, c = ((unsigned)i + (n & 1)) % CODES;
            const float got = ref_load(CLMOE_BF16, held, i * 2 * PLACES + n), want = value_of(e, c);
            case_require(is_value(got, want), "scale %u, code %u, place %d: %g, expected %g", e, c, n,
                         (double)got, (double)want);
        }
    guarded_free(&g);
    clReleaseKernel(kernel);
}
END_TEST

/* ---- the row ---- */

/* What decides which programs are compiled: kept few. */
static const struct {
    enum clmoe_dtype w, bias;
    enum clmoe_glu glu; /* NONE, or any */
    struct clmoe_activation act;
    enum clmoe_gamma gamma;
    int scale;
} variants[] = {
    {CLMOE_MXFP4, CLMOE_BF16, CLMOE_GLU_GATE_UP, {CLMOE_ACT_SILU, 1.702f, 0.7f, 0.8f, 1}, 0, 0},
    {CLMOE_MXFP4, CLMOE_F32, CLMOE_GLU_NONE, {CLMOE_ACT_NONE}, CLMOE_GAMMA_OUTPUT, 1},
    {CLMOE_F4_E2M1, CLMOE_F32, CLMOE_GLU_GATE_UP, {CLMOE_ACT_SILU}, CLMOE_GAMMA_INPUT, 0},
    {CLMOE_F4_E2M1, CLMOE_BF16, CLMOE_GLU_NONE, {CLMOE_ACT_GELU_TANH, .act_max = 0.3f}, 0, 1},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, N_CASES = 160, N_SMALL = 4 };

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

/* Pairs of an expert around those of a tile and of what is multiplied of it; steps around those of a
 * stage, up to more than are on their way at a time; columns around those of a tile. */
static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    static const int64_t pairs[] = {1,  2,  7,  8,  12,  15,  16,  17,  20,  21,
                                    32, 33, 64, 65, 129, 160, 161, 193, 257, 330};
    static const int64_t steps[] = {32, 64, 96, 128, 160, 256, 320, 992, 2592};
    static const int64_t columns[] = {1, 7, 32, 48, 63, 64, 65, 96, 100, 128, 129, 176, 200, 272};
    static const int experts[] = {1, 2, 8, 60};
    const int v = i % N_VARIANTS, most = tester()->small ? 2 : 9;
    struct clmoe_matmul_params p = {
        .topk = 1 + (int)rng_below(rng, 2),
        .experts = PICK(rng, experts),
        .in = steps[rng_below(rng, most)],
        .out = PICK(rng, columns),
        .x_dtype = CLMOE_BF16,
        .w_dtype = variants[v].w,
        .y_dtype = CLMOE_BF16,
        .bias_dtype = variants[v].bias,
        .glu = variants[v].glu ? (enum clmoe_glu)(1 + i / N_VARIANTS % 4) : CLMOE_GLU_NONE,
        .act = variants[v].act,
        .routing = CLMOE_ROUTING_SORTED,
        .x_rows = (enum clmoe_rows)(i / N_VARIANTS % 3),
        .y_rows = i / N_VARIANTS % 2 ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .gamma = variants[v].gamma,
        .bias = 1,
        .expert_scale = variants[v].scale,
    };
    if (p.w_dtype == CLMOE_F4_E2M1) p.w_scale = (struct clmoe_w_scale){CLMOE_U8, 1, BLOCK};
    *tokens = PICK(rng, pairs);
    if (i % 3 == 0) p.experts = p.topk = 1;
    if (tester()->small) *tokens = 2 + i, p.out = 5 + i, p.experts = 2;
    while (*tokens * p.topk * p.in * p.out > 8000000)
        p.in = (p.in / 2 + BLOCK - 1) / BLOCK * BLOCK, p.out = (p.out + 1) / 2;
    p.max_tokens = *tokens + rng_below(rng, 2);
    return p;
}

static int ran;

/* The row, and the reference: it shows that the data are right. Of one unit the row says that it has many tiles. */
static void run_rows(struct rng *rng, struct matmul_sample *s, enum forced_caps caps) {
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        if (strcmp(name, ROW) == 0) ran += matmul_run_row(rng, s, caps, row);
        if (strcmp(name, "matmul_ref") == 0) matmul_run_row(rng, s, CAPS_OWN, row);
    }
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 11}, rng = rng_for((uint64_t)_i + 100);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    s.aligned = _i % 7 != 6;
    matmul_sample_solve(&s);
    run_rows(&rng, &s, _i / N_VARIANTS % 2 ? CAPS_ONE_UNIT : CAPS_OWN);
    matmul_sample_free(&s);
}
END_TEST

/* A scale for each row, all of them, on every code: sums have one term that is not 0, or, where weights
 * are infinite, NaN. All pairs are one expert's: where that is the only one, tiles are higher. */
START_TEST(each_scale_is_exact) {
    const struct clmoe_matmul_params params = {
        .max_tokens = CODES,
        .topk = 1,
        .experts = _i ? 4 : 1,
        .in = 2 * BLOCK,
        .out = SCALES,
        .x_dtype = CLMOE_BF16,
        .w_dtype = CLMOE_MXFP4,
        .y_dtype = CLMOE_BF16,
        .routing = CLMOE_ROUTING_SORTED,
    };
    struct rng rng = rng_for(2);
    struct matmul_sample s = matmul_sample_make(&rng, &params, CODES, ROUTING_ONE_EXPERT, 1);
    const int rows = params.experts * SCALES;
    memset(s.raw_gate, 0, (size_t)(rows * 2 * BLOCK_BYTES));
    for (int n = 0; n < rows; n++) {
        unsigned char *const block = s.raw_gate + (n * 2 + n % 2) * BLOCK_BYTES;
        block[0] = (unsigned char)n; /* SCALES of them, again for each expert */
        for (int j = 0; j < CODES; j++)
            block[1 + j] = (unsigned char)((j + n) % CODES << 4 | (j + 3) % CODES);
    }
    ref_unpack(CLMOE_MXFP4, s.raw_gate, rows * 2 * BLOCK, s.gate);
    /* Row t of x is 1 at one step of either block. */
    for (int t = 0; t < CODES; t++)
        for (int k = 0; k < 2 * BLOCK; k++)
            s.x[t * 2 * BLOCK + k] = k % BLOCK == (t * 5 + t / 8 * 16) % BLOCK;
    matmul_sample_solve(&s);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        clmoe_plan *plan;
        if (strcmp(name, ROW) && strcmp(name, "matmul_ref")) continue;
        s.params.plan.kernel = name;
        case_begin("scales on %s", name);
        if (!row_fits("matmul", row, clmoe_matmul_plan(tester_context(CAPS_OWN), &s.params, &plan))) continue;
        struct matmul_operands d;
        matmul_upload(&rng, &s, &d);
        case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
        guarded_read_floats(&d.y, s.got);
        for (int i = 0; i < CODES * SCALES; i++) {
            const float want = (float)s.want[i];
            case_require(is_value(s.got[i], want), "scale %d, row %d of x: %g, expected %g", i % SCALES,
                         i / SCALES, (double)s.got[i], (double)want);
        }
        matmul_operands_free(&d);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

static const struct clmoe_matmul_params plain = {
    .max_tokens = 40,
    .topk = 2,
    .experts = 2,
    .in = 96,
    .out = 50,
    .x_dtype = CLMOE_BF16,
    .w_dtype = CLMOE_MXFP4,
    .y_dtype = CLMOE_BF16,
    .routing = CLMOE_ROUTING_SORTED,
};

START_TEST(out_of_order_queue) {
    struct rng rng = rng_for(3);
    struct matmul_sample s = matmul_sample_make(&rng, &plain, 7, ROUTING_SKIPS, 2);
    matmul_sample_solve(&s);
    clmoe_plan *plan;
    s.params.plan.kernel = ROW;
    case_begin("out of order: %s", matmul_case_name(&s));
    const enum clmoe_status status = clmoe_matmul_plan(tester_context(CAPS_OWN), &s.params, &plan);
    if (status != CLMOE_E_UNSUPPORTED) {
        case_ok(status);
        matmul_run_out_of_order(&rng, &s, plan);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* Where the row is, it ran; where it is not, that is said. */
START_TEST(said_whether_it_ran) {
    struct clmoe_matmul_params params = plain;
    clmoe_plan *plan;
    params.plan.kernel = ROW;
    case_begin("%s", ROW);
    printf("  %-28s ran %d times\n", ROW, ran);
    const enum clmoe_status status = clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan);
    case_require(status == CLMOE_E_UNSUPPORTED || ran > 0 || getenv("CLMOE_TEST_SLICE"), "%s never ran", ROW);
    clmoe_plan_destroy(&plan);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, each_code_is_exact);
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
    if (!tester()->small) tcase_add_loop_test(cases, each_scale_is_exact, 0, 2);
    tcase_add_test(cases, out_of_order_queue);
    tcase_add_test(cases, said_whether_it_ran);
}

int main(void) {
    return harness_main("matmul_codes", "", add_tests);
}
