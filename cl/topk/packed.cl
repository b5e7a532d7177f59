// SPDX-License-Identifier: MIT
// Short rows, several a team (common/packed.cl): group = LOCAL_SIZE / LANES rows.
#include "topk/quick.cl"

#if KEY_BITS > 32
#error "packed numbers have 32 bits"
#endif
#define PACKED_BITS KEY_BITS

struct packed_source {
    struct row row;
};

inline uint packed_key(const struct packed_source *source, uint position) {
    return quick_key(source->row.x[(long)position * source->row.step], source->row.rule) << (32 - KEY_BITS);
}

#include "common/packed.cl"

#if KEY_BITS == 32
// Whether mask and dense can be written four columns at a time.
inline bool packed_can_put(const struct row *row) {
    const bool whole = packed_can_load(row->x) && row->step == 1 && !(row->flags & OUT_BITMASK);
    const ulong mask = (ulong)(row->mask + view_at(row, row->mask_view, 0));
    const ulong dense = (ulong)(row->dense + view_at(row, row->dense_view, 0));
    return whole && (!(row->flags & OUT_MASK) || (row->mask_view.w == 1 && (mask & 3) == 0)) &&
           (!(row->flags & OUT_DENSE) || (row->dense_view.w == 1 && (dense & 15) == 0));
}

inline uint packed_cell(const struct row *row, uint element, bool selected) {
    return !selected ? (uint)row->fill : row->flags & SCALED ? (uint)scaled(element, row->scale) : element;
}

// put_cells from registers, where that can be. The elements are read again, since keys do not tell them.
inline void packed_put(const struct row *row, const uint *key, uint last_key, uint last) {
    global uchar *const mask = row->mask + view_at(row, row->mask_view, 0);
    global uint *const dense = (global uint *)row->dense + view_at(row, row->dense_view, 0);
    TEAM_UNROLL
    for (int q = 0; q < PER; q += 4) {
        bool selected[4];
        TEAM_UNROLL
        for (int i = 0; i < 4; i++)
            selected[i] = row->k > 0 && (key[q + i] > last_key || (key[q + i] == last_key && POSITION(q + i) <= last));
        if (row->flags & OUT_MASK)
            *(global uint *)(mask + POSITION(q)) =
                (uint)selected[0] | (uint)selected[1] << 8 | (uint)selected[2] << 16 | (uint)selected[3] << 24;
        if (!(row->flags & OUT_DENSE)) continue;
        const uint4 four = team_load4((const global uint4 *)(row->x + POSITION(q)));
        *(global uint4 *)(dense + POSITION(q)) =
            (uint4)(packed_cell(row, four.x, selected[0]), packed_cell(row, four.y, selected[1]),
                    packed_cell(row, four.z, selected[2]), packed_cell(row, four.w, selected[3]));
    }
}
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_packed(TOPK_PARAMS) {
    local ulong swap[PTX ? 1 : LOCAL_SIZE];
    const uint lane = packed_lane();
    const long wanted = (long)get_group_id(0) * (LOCAL_SIZE / LANES) + get_local_id(0) / LANES;
    const bool active = wanted < rows; // the rest repeat the last row and write nothing
    const struct packed_source source = {TOPK_ROW(active ? wanted : rows - 1)};
    const struct row row = source.row;

    uint key[PER], id[SLOTS], full[SLOTS];
    if (KEY_BITS == 32 && row.step == 1 && packed_can_load(row.x)) {
        packed_load((const global uint *)row.x, key);
    } else {
        TEAM_UNROLL
        for (int q = 0; q < PER; q++)
            key[q] = THERE(q, row.n) ? row.x[(long)POSITION(q) * row.step] : 0;
    }
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        key[q] = (uint)quick_key((BITS(X_T))key[q], row.rule) << (32 - KEY_BITS);
    packed_select(&source, key, row.n, row.k, swap, id, full);

    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        const uint slot = h * LANES + lane;
        uint place = slot;
        if (row.flags & BY_INDEX) {
            place = 0;
            TEAM_UNROLL
            for (int i = 0; i < KMAX; i++) {
                const uint other = team_at(swap, id[i / LANES], row_lane(i));
                place += i < row.k && other < id[h];
            }
        }
        if (active && slot < row.k) put_selected(&row, place, id[h]);
        if (active && slot + 1 == row.k) put_threshold(&row, id[h]);
    }
    if (active && row.k == 0 && lane == 0) put_threshold(&row, 0);
    if (active) put_padding(&row, lane, LANES);
    if (row.flags & OUT_CELLS) {
        uint last_key = 0, last = 0;
        TEAM_UNROLL
        for (int h = 0; h < SLOTS; h++) {
            const uint other_key = team_at(swap, full[h], row_lane(row.k - 1));
            const uint other = team_at(swap, id[h], row_lane(row.k - 1));
            if ((row.k - 1) / LANES == h) last_key = other_key, last = other;
        }
#if KEY_BITS == 32
        if (active && packed_can_put(&row)) {
            packed_put(&row, key, last_key, last);
            return;
        }
#endif
        if (active) put_cells(&row, last_key >> (32 - KEY_BITS), last, lane, LANES);
    }
}
