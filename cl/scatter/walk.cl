// SPDX-License-Identifier: MIT
// For CPUs: a work-item alone in its work-group walks its rows one after the other, as plain C would, slots in order.
//   task = (b * row blocks + row block) * chunks + chunk:  `block` rows, `chunk` columns of each
// Work-groups take equal runs of tasks, in memory order where one follows the other.
//
// SET, MASK:  fill, then the slots. In place MASK would lose x to the fill: what the slots will write is collected
//             first.
// ADD,        copy x, if y is not x, then the slots. f32 is changed in place. Sums and products of 16-bit types are
// MULTIPLY:   kept in fp32 until the last slot: the slots are walked three times, to load, to fold, and to round.
// The scratch of a work-group is in the workspace: k cells, or `chunk` floats.
#include "scatter/row.cl"

#define scratched_f32 0
#define scratched_f16 1
#define scratched_bf16 1
#define SCRATCHED CAT(scratched_, X_T)

#if FOLD
inline void copy_row(global CELL *y, long y_step, const global CELL *x, long x_step, long count) {
    if (y_step == 1 && x_step == 1)
        for (long i = 0; i < count; i++)
            y[i] = x[i];
    else
        for (long i = 0; i < count; i++)
            y[i * y_step] = x[i * x_step];
}

inline void fold_row(const struct row *r, uint k, long begin, uint count, global float *sums) {
    for (uint j = 0; SCRATCHED && j < k; j++) {
        const uint id = id_at(r, j), column = id - (uint)begin;
        if (id != NONE && column < count) sums[column] = load(r->y + (long)id * r->y_step);
    }
    for (uint j = 0; j < k; j++) {
        const uint id = id_at(r, j), column = id - (uint)begin;
        if (id == NONE || column >= count) continue;
        global CELL *const cell = r->y + (long)id * r->y_step;
        if (SCRATCHED)
            sums[column] = folded(r, sums[column], j, id);
        else
            *cell = cell_of(folded(r, load(cell), j, id));
    }
    for (uint j = 0; SCRATCHED && j < k; j++) {
        const uint id = id_at(r, j), column = id - (uint)begin;
        if (id != NONE && column < count) r->y[(long)id * r->y_step] = cell_of(sums[column]);
    }
}
#else
inline void fill_row(global CELL *y, long step, long count, CELL filler) {
    if (step == 1)
        for (long i = 0; i < count; i++)
            y[i] = filler;
    else
        for (long i = 0; i < count; i++)
            y[i * step] = filler;
}

inline void place_row(const struct row *r, uint k, long begin, uint count, CELL filler, global CELL *kept) {
    for (uint j = 0; (r->flags & IN_PLACE) && j < k; j++) {
        const uint id = id_at(r, j);
        if (id != NONE && id - (uint)begin < count) kept[j] = placed(r, j, id);
    }
    fill_row(r->y + begin * r->y_step, r->y_step, count, filler);
    // The common case without the arithmetic of steps: twice as fast where k is near n.
    const bool plain = MOVES && !(r->flags & (IN_PLACE | WIDE_IDS | OF_ELEMENTS));
    if (plain && r->id_step == 1 && r->y_step == 1 && r->source_step == 1) {
        global CELL *const y = r->y + begin;
        for (uint j = 0; j < k; j++) {
            const uint column = (uint)r->narrow[j] - (uint)begin;
            if (column < count) y[column] = r->source[j];
        }
        return;
    }
    for (uint j = 0; j < k; j++) {
        const uint id = id_at(r, j);
        if (id == NONE || id - (uint)begin >= count) continue;
        r->y[(long)id * r->y_step] = r->flags & IN_PLACE ? kept[j] : placed(r, j, id);
    }
}
#endif

// `x`: what y begins with, for FOLD; y itself in place.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_walk(ROW_PARAMS, const global CELL *x,
                                                                                 long4 x_at, long block, long chunk,
                                                                                 long row_blocks, long chunks,
                                                                                 long tasks, global uint *workspace,
                                                                                 ulong workspace_skip,
                                                                                 ulong scratch_words) {
    const long group = get_group_id(0), groups = get_num_groups(0);
    const long share = tasks / groups, rest = tasks - share * groups;
    const long first = group * share + min(group, rest), end = first + share + (group < rest);
    global uint *const scratch = workspace + workspace_skip + (ulong)group * scratch_words;
    for (long task = first; task < end; task++) {
        const long line = task / chunks, begin = (task - line * chunks) * chunk;
        const long b = line / row_blocks, a_begin = (line - b * row_blocks) * block;
        const long a_end = min(a_begin + block, a_count), count = min(n - begin, chunk);
        for (long a = a_begin; a < a_end; a++) {
            const struct row r = ROW_AT(b, a);
#if FOLD
            if (!(flags & IN_PLACE))
                copy_row(r.y + begin * r.y_step, r.y_step, x + START(x, b, a) + begin * x_at.s3, x_at.s3, count);
            fold_row(&r, k, begin, (uint)count, (global float *)scratch);
#else
            place_row(&r, k, begin, (uint)count, (CELL)fill, (global CELL *)scratch);
#endif
        }
    }
}
