// SPDX-License-Identifier: MIT
// Which tile of rows a work-group takes, from the offsets of sorted pairs, without a scan over the experts.
//
// Tiles have TM rows of one expert. Expert v of a part owns the slots from o(v) / TM + v on, where o(v) counts the
// part's pairs before it. Its pairs fit into the slots before those of v + 1, since
//   ceil(c / TM) <= (o + c) / TM - o / TM + 1,
// and at most one of its slots stays empty. So slots grow with v, each belongs to one expert, and there are
// pairs / TM + count of them. The part with expert 0 has slots behind these for the rows of skipped pairs:
//   slots of the part | slots of rows offsets[E] .. pairs - 1
#ifndef TM
#error "TM: rows of a tile"
#endif

// First slot of expert v of the part
static inline long slot_of(const global int *offsets, int first, int v) {
    return (offsets[first + v] - offsets[first]) / TM + v;
}

// Positions `begin` .. `begin` + rows - 1 of the tile at `slot` of expert v; rows <= 0: nothing
static inline long tile_begin(const global int *offsets, int first, int v, long slot) {
    return offsets[first + v] + (slot - slot_of(offsets, first, v)) * TM;
}

static inline int tile_rows(long begin, long end) {
    return (int)min((long)TM, end - begin);
}

// The slot of a work-group, and its first column of y, where tiles of neighbouring slots run at a time:
//   group = (band of slots * column groups + column group) * slots of a band + slot in the band
// Divisions of 64 bits take long, and groups are fewer.
static inline long banded_slot(long columns, uint tile, uint slots_of_band, long *n0) {
    const uint across = (uint)((columns + tile - 1) / tile), slots = (uint)get_num_groups(0) / across;
    const uint group = (uint)get_group_id(0), band = group / (slots_of_band * across) * slots_of_band;
    const uint width = min(slots_of_band, slots - band), in_band = group - band * across;
    const uint column_group = in_band / width;
    *n0 = (long)column_group * tile;
    return band + in_band - column_group * width;
}

// What a work-group takes: its expert counted from `first` on, `count` for rows of skipped pairs, and its positions.
// Every work-item makes the call: there is a barrier in it. Exactly one finds the slot to be its own.
#define TILE_EXPERT 0
#define TILE_BEGIN 1
#define TILE_ROWS 2

static inline void find_tile(local long *found, long slot, const global int *starts, long pairs, int experts, int first,
                             int count, int flags) {
    const int lid = get_local_id(0);
    if (lid == 0 && flags & DENSE) {
        found[TILE_EXPERT] = 0;
        found[TILE_BEGIN] = slot * TM;
        found[TILE_ROWS] = tile_rows(slot * TM, pairs);
    } else if (lid == 0 && slot >= slot_of(starts, first, count)) {
        const long begin = starts[experts] + (slot - slot_of(starts, first, count)) * TM;
        found[TILE_EXPERT] = count;
        found[TILE_BEGIN] = begin;
        found[TILE_ROWS] = first == 0 ? tile_rows(begin, pairs) : 0;
    }
    for (int v = lid; !(flags & DENSE) && v < count; v += LOCAL_SIZE)
        if (slot >= slot_of(starts, first, v) && slot < slot_of(starts, first, v + 1)) {
            const long begin = tile_begin(starts, first, v, slot);
            found[TILE_EXPERT] = v;
            found[TILE_BEGIN] = begin;
            found[TILE_ROWS] = tile_rows(begin, starts[first + v + 1]);
        }
    barrier(CLK_LOCAL_MEM_FENCE);
}
