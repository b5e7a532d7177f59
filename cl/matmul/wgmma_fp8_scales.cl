// SPDX-License-Identifier: MIT
// Scales of fp8 weights to local memory, for wgmma_fp8.cl: by 64 work-items, each has those of every 64th row of a tile.
#ifndef SCALE_WARPS
#error "SCALE_WARPS: that fetch scales"
#endif

// Scales of gate and up, those first that lie first in memory: for row n of these, from `skip` on, expert * `expert` +
// (`first` + n * step) / rows * `row`, then the block of K.
struct scale_rows {
    const global float *skip;
    long expert, row;
    uint first;
};

struct scales {
    struct scale_rows before, behind;
    uint rows, step, columns;
    int shift;
};

#define SCALE_ROWS_OF(w)                                                                                               \
    { w##_scale + w##_scale_skip, w##_scale_expert, w##_scale_row, (uint)w##_first }

// The scale row of row `row` of a tile; past the last column the last one again.
inline const global float *scales_at(const struct scales *s, uint row, uint expert, uint column) {
    const bool behind = GLU && row & 8u;
    const global float *const from =
        (behind ? s->behind.skip : s->before.skip) + expert * (behind ? s->behind.expert : s->before.expert);
    const uint n = min(column + (GLU ? row / 16 * 8 + (row & 7u) : row), s->columns - 1);
    const uint w_row = (behind ? s->behind.first : s->before.first) + n * s->step;
    return from + w_row / s->rows * (behind ? s->behind.row : s->before.row);
}

#define SCALE_FETCHERS (32 * SCALE_WARPS)
#define SCALES_EACH (W_ROWS / SCALE_FETCHERS)

// Those of stage `step`; behind the last one as before.
inline void read_scales(float *scale, const global float *const *from, const struct job *j, uint step, int shift) {
#pragma unroll
    for (int i = 0; i < SCALES_EACH; i++)
        if (step < j->steps) scale[i] = from[i][step * TK >> shift];
}

// Scales of all tiles.
inline void fetch_scales(const struct ring *r, const struct job *j, const local struct slot *slots,
                         const struct scales *s, local float *to) {
    const uint lid = get_local_id(0) & (SCALE_FETCHERS - 1);
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows;
        const global float *from[SCALES_EACH];
#pragma unroll
        for (int i = 0; i < SCALES_EACH; i++)
            from[i] = scales_at(s, lid + i * SCALE_FETCHERS, slot->expert, slot->column);
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        float scale[SCALES_EACH];
        read_scales(scale, from, j, 0, s->shift);
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
#pragma unroll
            for (int i = 0; i < SCALES_EACH; i++)
                to[stage.at * W_ROWS + lid + i * SCALE_FETCHERS] = scale[i];
            read_scales(scale, from, j, step + 1, s->shift);
            WARP_BARRIER();
            if ((lid & 31u) == 0) mb_arrive(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}
