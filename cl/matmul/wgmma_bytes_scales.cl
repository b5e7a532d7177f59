// SPDX-License-Identifier: MIT
// Scales of weights to local memory, for wgmma_bytes.cl: by 64 work-items, each has those of every 64th row of a tile.
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

#if RATIOS
#define ONES (IS_BF16 ? 0x3f803f80u : 0x3c003c00u)
#define EXPONENT_OF(e) (127u + (e))

// Sums of a row are in units of the stage that comes to them, and go to those of the next one behind it, at the end to
// 1. So there is one set of sums, and codes are multiplied as they are. The unit is the scale. But where that is far
// from what sums can bear, codes have a factor, and both together are the scale: so that no sum before or behind it is
// lost.
inline float unit_of(float scale, uint *factor) {
    const uint exponent = as_uint(scale) >> 23 & 255u;
    *factor = ONES;
    if (exponent - EXPONENT_OF(-40) <= 80u) return scale;
    if (scale == 0.0f || exponent == 255u) {
        *factor = pack_two(scale, scale);
        return 1.0f;
    }
#if IS_BF16
    const uint power = clamp(exponent, EXPONENT_OF(-110), EXPONENT_OF(110));
    *factor = power << 7;
    return scale * as_float((EXPONENT_OF(127) - power) << 23);
#else
    // Beyond the ends y has no number but 0 and infinity.
    const float exact = fabs(scale) > 1.0f ? 0x1p7f : 0x1p-15f; // any code has these factors
    *factor = pack_two(exact, exact);
    return copysign(clamp(fabs(scale) / exact, 0x1p-50f, 0x1p43f), scale);
#endif
}
#endif

// Those of stage `step`; behind the last one as before.
inline void read_scales(float *scale, const global float *const *from, const struct job *j, uint step, int shift) {
#pragma unroll
    for (int i = 0; i < SCALES_EACH; i++)
        if (step < j->steps) scale[i] = from[i][step * TK >> shift];
}

// What sums of a row are multiplied by behind a stage that is full, and its codes before that.
inline void put_scale(local uchar *memory, uint at, float scale, float next, bool is_last) {
    local float *const units = (local float *)(memory + UNITS_AT);
#if RATIOS
    uint factor, ignored;
    const float unit = unit_of(scale, &factor), next_unit = unit_of(next, &ignored);
    units[at] = is_last ? unit * CODE_UNIT : unit / next_unit;
    ((local ushort *)(memory + FACTORS_AT))[at] = (ushort)factor;
#else
    units[at] = scale * CODE_UNIT;
#endif
}

// Scales of all tiles.
inline void fetch_scales(const struct ring *r, const struct job *j, const local struct slot *slots,
                         const struct scales *s, local uchar *memory) {
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
        float scale[SCALES_EACH], next[SCALES_EACH];
        read_scales(next, from, j, 0, s->shift);
        for (uint step = 0; step < j->steps; step++) {
#pragma unroll
            for (int i = 0; i < SCALES_EACH; i++)
                scale[i] = next[i];
            read_scales(next, from, j, step + 1, s->shift);
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
#pragma unroll
            for (int i = 0; i < SCALES_EACH; i++)
                put_scale(memory, stage.at * W_ROWS + lid + i * SCALE_FETCHERS, scale[i], next[i],
                          step + 1 == j->steps);
            WARP_BARRIER();
            if ((lid & 31u) == 0) mb_arrive(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}
