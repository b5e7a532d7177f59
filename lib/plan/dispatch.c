/* SPDX-License-Identifier: MIT */
#include "dispatch.h"

#include "device/clerr.h"

#include <stdio.h>
#include <string.h>

const char *clmoe_kernel_name(const char *op, int index) {
    for (int t = 0; op && kernel_tables[t]; t++)
        if (strcmp(kernel_tables[t]->op, op) == 0)
            return index >= 0 && index < kernel_tables[t]->n_rows ? kernel_tables[t]->rows[index].name : NULL;
    return NULL;
}

int clmoe_kernel_parameter(const char *kernel, int index, struct clmoe_parameter *parameter) {
    if (!kernel || index < 0 || !parameter) return 0;
    for (int t = 0; kernel_tables[t]; t++)
        for (int r = 0; r < kernel_tables[t]->n_rows; r++) {
            const struct tunable *const tunables = kernel_tables[t]->rows[r].tunables;
            if (!tunables || strcmp(kernel_tables[t]->rows[r].name, kernel) != 0) continue;
            for (int i = 0; i < index; i++)
                if (!tunables[i].name) return 0;
            if (!tunables[index].name) return 0;
            *parameter = (struct clmoe_parameter){tunables[index].name, tunables[index].values, 0};
            while (parameter->values[parameter->n_values])
                parameter->n_values++;
            return 1;
        }
    return 0;
}

/* Walks a comma-separated list: returns the next name and its length, NULL at the end. */
static const char *next_name(const char **list, size_t *size) {
    const char *const name = *list + strspn(*list, ", ");
    *size = strcspn(name, ", ");
    *list = name + *size;
    return *size ? name : NULL;
}

static bool same(const char *row, const char *name, size_t size) {
    return strlen(row) == size && memcmp(row, name, size) == 0;
}

static bool in_table(const struct kernel_table *table, const char *name, size_t size) {
    for (int i = 0; i < table->n_rows; i++)
        if (same(table->rows[i].name, name, size)) return true;
    return false;
}

/* Whether `row` may be used: the list is empty, or names it, or (in a layer) names no row of this table. */
static bool allowed(const struct kernel_table *table, const struct kernel_row *row, const char *names) {
    bool concerns_table = false;
    size_t size;
    for (const char *list = names, *name; list && (name = next_name(&list, &size));) {
        if (same(row->name, name, size)) return true;
        concerns_table |= in_table(table, name, size);
    }
    return !concerns_table;
}

static bool among(const char *op, const char *const *ops) {
    while (ops && *ops && strcmp(*ops, op) != 0)
        ops++;
    return !ops || *ops;
}

enum clmoe_status dispatch_check_names(const struct log *log, const char *names, const char *const *ops) {
    size_t size;
    for (const char *list = names, *name; list && (name = next_name(&list, &size));) {
        bool known = false;
        for (int t = 0; kernel_tables[t] && !known; t++)
            known = among(kernel_tables[t]->op, ops) && in_table(kernel_tables[t], name, size);
        REQUIRE(log, known, "no kernel %sis called \"%.*s\"", ops ? "of this plan " : "", (int)size, name);
    }
    return CLMOE_OK;
}

/* With CLMOE_E_BUILD `why` has what the compiler said first. */
static enum clmoe_status get_program(struct clmoe_context *ctx, const struct kernel_spec *spec,
                                     struct reason *why, cl_program *program) {
    const struct program_spec wanted = {spec->file, spec->options, spec->resident, spec->local,
                                        spec->retarget};
    struct str complaint = {0};
    const enum clmoe_status status =
        store_get(&ctx->store, &ctx->dev, &ctx->log, &wanted, &complaint, program);
    if (status == CLMOE_E_BUILD)
        refuse(why, "%s does not build%s%s", spec->file, complaint.text ? ": " : "",
               complaint.text ? complaint.text : "");
    str_free(&complaint);
    return status;
}

static enum clmoe_status build_kernel(clmoe_plan *plan, const struct kernel_spec *spec, struct reason *why) {
    struct clmoe_context *const ctx = plan->ctx;
    cl_program program;
    TRY(get_program(ctx, spec, why, &program));
    cl_int err;
    const cl_kernel kernel = clCreateKernel(program, spec->entry, &err);
    clReleaseProgram(program); /* the kernel keeps it */
    if (err != CL_SUCCESS) return clerr_report(&ctx->log, err, spec->entry);
    plan->kernels[plan->n_kernels] = kernel;
    plan->local[plan->n_kernels++] = spec->local;
    return CLMOE_OK;
}

static void drop_kernels(clmoe_plan *plan) {
    while (plan->n_kernels)
        clReleaseKernel(plan->kernels[--plan->n_kernels]);
}

/* The compiler has the last word on how large a work-group a kernel may have and how much local memory it
 * takes. rusticl reports 32 for kernels whose size is fixed by an attribute and then runs them all the same,
 * but its own maximum is never below what our rows ask for, so a refusal there only costs a better row. */
static enum clmoe_status check_limits(const clmoe_plan *plan, int index, const struct kernel_spec *spec,
                                      struct reason *why, bool *fits) {
    const struct device *const dev = &plan->ctx->dev;
    size_t group = 0;
    cl_ulong local = 0;
    TRY_CL(&plan->ctx->log, clGetKernelWorkGroupInfo(plan->kernels[index], dev->id, CL_KERNEL_WORK_GROUP_SIZE,
                                                     sizeof group, &group, NULL));
    TRY_CL(&plan->ctx->log, clGetKernelWorkGroupInfo(plan->kernels[index], dev->id, CL_KERNEL_LOCAL_MEM_SIZE,
                                                     sizeof local, &local, NULL));
    /* NVIDIA's OpenCL says 256 of every kernel, also where an attribute fixes another size, which then runs;
     * and it builds kernels whose arrays take more local memory than it says there is, as much as the chip
     * has. */
    const bool known = !(dev->features & CLMOE_FEATURE_NV_PTX);
    if (known && group < plan->local[index])
        *fits = refuse(why, "compiled for work-groups of at most %zu, wants %zu", group, plan->local[index]);
    else if (local > dev->caps.local_mem && !spec->unlisted)
        *fits = refuse(why, "compiled to %llu bytes of local memory of %llu", (unsigned long long)local,
                       (unsigned long long)dev->caps.local_mem);
    return CLMOE_OK;
}

static uint32_t lowest_bit(uint32_t mask) {
    return mask & (~mask + 1);
}

/* Builds what a row wants of a device. CLMOE_OK with *fits = false means: refused, see why. */
static enum clmoe_status try_recipe(clmoe_plan *plan, const struct device *dev, const struct kernel_row *row,
                                    struct recipe *recipe, struct reason *why, bool *fits) {
    const uint32_t lacking = row->needs & ~dev->features;
    *fits = lacking ? refuse(why, "the device lacks %s",
                             clmoe_feature_name((enum clmoe_feature)lowest_bit(lacking)))
                    : row->fits(dev, plan->problem, why);
    if (!*fits) return CLMOE_OK;
    row->prepare(dev, plan->problem, recipe);
    for (int i = 0; i < recipe->n_kernels && *fits; i++) {
        TRY(build_kernel(plan, &recipe->kernels[i], why));
        TRY(check_limits(plan, i, &recipe->kernels[i], why, fits));
    }
    return CLMOE_OK;
}

/* Tries one row: where a device turns tuned kernels down, once more as the row is by itself. */
static enum clmoe_status try_row(clmoe_plan *plan, const struct kernel_row *row, struct reason *why,
                                 bool *fits) {
    const struct device *const dev = &plan->ctx->dev;
    struct recipe recipe = {0};
    enum clmoe_status status = try_recipe(plan, dev, row, &recipe, why, fits);
    if (recipe.tuned && (status == CLMOE_E_BUILD || (status == CLMOE_OK && !*fits))) {
        struct device untuned = *dev;
        untuned.tuning = NULL;
        log_msg(&plan->ctx->log, CLMOE_LOG_WARN, "%s: not as it is tuned: %s", row->name, why->text);
        drop_kernels(plan);
        recipe = (struct recipe){0};
        status = try_recipe(plan, &untuned, row, &recipe, why, fits);
    }
    TRY(status);
    plan->row = row;
    plan->tuned = recipe.tuned;
    memcpy(plan->params, recipe.params, sizeof plan->params);
    plan->workspace_size = recipe.workspace;
    plan->counters_size = recipe.counters;
    return CLMOE_OK;
}

/* "op: row", with the numbers of a tuned one: "op: row [TK=8 WM=8]" */
static void describe(clmoe_plan *plan, const char *op) {
    const struct tunable *const t = plan->row->tunables;
    str_printf(&plan->description, "%s: %s", op, plan->row->name);
    for (int i = 0; plan->tuned && t[i].name; i++)
        str_printf(&plan->description, "%s%s=%d", i ? " " : " [", t[i].name, plan->params[i]);
    if (plan->tuned) str_append(&plan->description, "]", 1);
}

static enum clmoe_status require_own_names(const struct log *log, const struct kernel_table *table,
                                           const char *names) {
    size_t size;
    for (const char *list = names, *name; list && (name = next_name(&list, &size));)
        REQUIRE(log, in_table(table, name, size), "%s has no kernel called \"%.*s\"", table->op, (int)size,
                name);
    return CLMOE_OK;
}

enum clmoe_status dispatch(clmoe_plan *plan, const struct kernel_table *table, const char *names,
                           bool stage) {
    const struct log *const log = &plan->ctx->log;
    if (!stage) TRY(require_own_names(log, table, names));
    struct str refusals = {0}, unbuilt = {0};
    enum clmoe_status failure = CLMOE_E_UNSUPPORTED;
    bool fits = false;
    for (int i = 0; i < table->n_rows && !fits; i++) {
        const struct kernel_row *const row = &table->rows[i];
        if (!allowed(table, row, names)) continue;
        struct reason why = {""};
        const enum clmoe_status status = try_row(plan, row, &why, &fits);
        if (status == CLMOE_OK && fits) break;
        fits = false;
        drop_kernels(plan);
        if (status == CLMOE_E_BUILD)
            str_printf(&unbuilt, "%s%s: %s", unbuilt.size ? "; " : "", row->name, why.text);
        if (status != CLMOE_OK) failure = status;
        if (status != CLMOE_OK && status != CLMOE_E_BUILD) break;
        str_printf(&refusals, "%s%s: %s", refusals.size ? "; " : "", row->name, why.text);
    }
    if (fits) {
        describe(plan, table->op);
        if (refusals.size) str_printf(&plan->description, " (%s)", refusals.text);
        log_msg(log, CLMOE_LOG_INFO, "%s", clmoe_plan_describe(plan));
        if (unbuilt.size)
            log_msg(log, CLMOE_LOG_WARN, "%s: %s in place of %s", table->op, plan->row->name, unbuilt.text);
    } else {
        log_msg(log, CLMOE_LOG_ERROR, "%s: no kernel: %s", table->op,
                refusals.size ? refusals.text : "see above");
    }
    const bool failed = refusals.failed || plan->description.failed;
    str_free(&refusals);
    str_free(&unbuilt);
    return failed ? CLMOE_E_NO_MEMORY : fits ? CLMOE_OK : failure;
}
