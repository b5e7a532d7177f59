// SPDX-License-Identifier: MIT
// Tiles of y for persistent work-groups, planned by a warp of their own while others fetch and multiply.
//
//   tile   TN columns of y x at most TOKENS pairs of an expert, whose tiles are about as high as one another
//
// Experts in order; inside of one, bands of BAND tiles along the pairs. A counter deals them. What a tile is (its
// expert, rows of x and y, gammas) goes to its users through SLOTS slots in local memory, which take turns: `told` and
// `heard` are the barriers of these.
#ifndef TOKENS
#error "TOKENS: pairs of a tile at most, a multiple of 8"
#endif
#ifndef TN
#error "TN: columns of y of a tile"
#endif

#ifndef SLOTS
#define SLOTS 3
#endif
#define BAND (2048 / TOKENS)
#define TOGETHER (TOKENS % 16 ? 8 : 16) // pairs of a product

// A place in a ring of `n`, each with a barrier of 8 bytes, and how often the ring has gone around.
struct turn {
    uint at, phase;
};

inline void next_turn(struct turn *t, uint n) {
    if (++t->at == n) t->at = 0, t->phase ^= 1;
}

// rows == 0: there are no more tiles.
struct slot {
    int rows, expert, column, first;
    int x_row[TOKENS], y_row[TOKENS];
    float gamma[TOKENS];
};

// What is the same for all tiles.
struct job {
    const global int *starts, *order;
    const global float *gamma;
    long gamma_stride, pairs, columns;
    int k, first, count, flags;
    uint steps;
};

// That of a kernel, by names of its arguments.
#define JOB                                                                                                            \
    {                                                                                                                  \
        offsets + offsets_skip, order + order_skip, gamma + gamma_skip, gamma_stride, pairs, columns, k, first, count, \
            flags, (uint)((depth + TK - 1) / TK)                                                                       \
    }

// Rows of skipped pairs, which lie behind those of experts. By work-items lid of `items`.
inline void clear_skipped(const struct job *j, long begin, global ELEM(Y_T) *y, long y_stride, uint lid, uint items) {
    for (long i = begin + (long)get_group_id(0); i < j->pairs; i += get_num_groups(0)) {
        const ulong out = y_row(i, pair_at(i, j->order, j->flags), j->flags) * y_stride;
        for (long n = lid; n < j->columns; n += items)
            STORE(Y_T, y, out + n, 0.0f);
    }
}

struct walk {
    int from;              // expert, of WARP that are looked through at a time
    uint base;             // tiles of those before
    uint next;             // tile
    int expert, row, end;  // the tile: an expert of the part, positions
    int column;
};

// Finds tile `next`, which only grows. Experts without pairs have no tiles. By a warp.
inline bool seek(struct walk *w, const struct job *j) {
    const uint across = (uint)((j->columns + TN - 1) / TN);
    for (; w->from < j->count; w->from += WARP) {
        const int e = w->from + (int)(get_local_id(0) & (WARP - 1u));
        int begin = 0, end = 0;
        if (e < j->count) {
            begin = j->flags & DENSE ? 0 : j->starts[j->first + e];
            end = j->flags & DENSE ? (int)j->pairs : j->starts[j->first + e + 1];
        }
        const uint own = (uint)(end - begin + TOKENS - 1) / TOKENS * across, through = sum_of_lanes_to(own);
        const uint in_warp = w->next - w->base, all = from_lane(through, WARP - 1);
        if (in_warp < all) {
            const uint at = first_lane_with(in_warp < through);
            const uint in_expert = in_warp - from_lane(through - own, at), along = from_lane(own, at) / across;
            begin = (int)from_lane((uint)begin, at);
            end = (int)from_lane((uint)end, at);
            const uint band = in_expert / (BAND * across), in_band = in_expert - band * BAND * across;
            const uint width = min((uint)BAND, along - band * BAND), n = in_band / width;
            const int each = (int)((uint)(end - begin + along - 1) / along + TOGETHER - 1) / TOGETHER * TOGETHER;
            w->expert = w->from + (int)at;
            w->row = begin + (int)(band * BAND + in_band - n * width) * each;
            w->end = min(w->row + each, end);
            w->column = (int)n * TN;
            return true;
        }
        w->base += all;
    }
    return false;
}

// The pair at a position, with its rows. Positions and pairs are counted by int.
inline void plan_pair(const struct job *j, local struct slot *slot, int at) {
    const int position = slot->first + at, flags = j->flags;
    const uint p = (uint)pair_at(position, j->order, flags), token = p / (uint)j->k;
    slot->x_row[at] = (int)x_row(position, p, token, flags);
    slot->y_row[at] = (int)y_row(position, p, flags);
    slot->gamma[at] =
        flags & (GAMMA_INPUT | GAMMA_OUTPUT) ? j->gamma[pair_element(p, token, j->k, j->gamma_stride)] : 1.0f;
}

// All tiles of this work-group, by a warp. counters: the next tile, less the work-groups; work-groups that are through.
inline void plan_tiles(const struct job *j, local struct slot *slots, uint told, uint heard, global uint *counters) {
    const uint lane = get_local_id(0) & 31u, groups = (uint)get_num_groups(0);
    struct walk walk = {0, 0, (uint)get_group_id(0), 0, 0, 0, 0};
    struct turn turn = {0, 0};
    for (bool more = true; more;) {
        local struct slot *const slot = &slots[turn.at];
        mb_wait(heard + 8 * turn.at, turn.phase ^ 1);
        more = seek(&walk, j);
        const int rows = more ? walk.end - walk.row : 0;
        if (lane == 0) {
            slot->rows = rows;
            slot->expert = walk.expert;
            slot->column = walk.column;
            slot->first = walk.row;
        }
        WARP_BARRIER();
        for (int at = lane; at < rows; at += 32)
            plan_pair(j, slot, at);
        WARP_BARRIER();
        uint claimed = 0;
        if (lane == 0) mb_arrive(told + 8 * turn.at);
        if (lane == 0 && more) claimed = atomic_inc(counters);
        walk.next = groups + from_lane(claimed, 0);
        next_turn(&turn, SLOTS);
    }
    // The last work-group leaves the counters as it found them.
    if (lane == 0 && atomic_inc(counters + 1) == groups - 1) counters[0] = counters[1] = 0;
}
