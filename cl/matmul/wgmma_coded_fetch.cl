// SPDX-License-Identifier: MIT
// What wgmma_coded.cl copies to local memory: where rows of w and their scales are, and what each of FETCHING_WARPS
// warps copies of them and of x for a stage.

// ---- weights: where their bytes are ----

// Of gate and up: their rows and the scales of these, and bytes from row to row and expert to expert.
struct source {
    const global uchar *w, *scales;
    long expert, column, scales_expert, scales_column;
};

struct weights {
    struct source gate, up;
    uint row_bytes, scale_bytes; // of a row
    long columns;
};

// In local memory the first 8 of each 16 rows of a tile come first (side 0), then the others (side 1): with GLU these
// are the gate and the up rows, and what a work-item copies is of one source. Past the last column the last one again.
inline long column_of(uint at, uint side, long n0, long columns) {
    return min(n0 + (GLU ? at : at / 8 * 16 + side * 8 + (at & 7u)), columns - 1);
}

inline struct source source_of(const struct weights *w, uint side) { return GLU && side ? w->up : w->gate; }

inline const global uchar *row_at(const struct weights *w, uint at, uint side, int expert, long n0) {
    const struct source s = source_of(w, side);
    return s.w + expert * s.expert + column_of(at, side, n0, w->columns) * s.column;
}

inline const global uchar *scales_at(const struct weights *w, uint at, uint side, int expert, long n0) {
    const struct source s = source_of(w, side);
    return s.scales + expert * s.scales_expert + column_of(at, side, n0, w->columns) * s.scales_column;
}

// ---- to local memory ----

// Copies of 16 and of 4 bytes; of fewer, and zeros for the rest. Where this is not said, it costs nothing.
inline void copy_16_if(bool there, uint to, const global uchar *from) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p cp.async.cg.shared.global.L2::128B [%0], [%1], 16; }"
                 :
                 : "r"(to), "l"(from), "r"((uint)there)
                 : "memory");
}

inline void copy_some_of_16_if(bool there, uint to, const global uchar *from, int bytes) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %3, 0; @p cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2; }"
                 :
                 : "r"(to), "l"(from), "r"(bytes), "r"((uint)there)
                 : "memory");
}

inline void copy_4(uint to, const global uchar *from) {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 4;" : : "r"(to), "l"(from) : "memory");
}

inline void copy_some_of_4(uint to, const global uchar *from, int bytes) {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 4, %2;" : : "r"(to), "l"(from), "r"(bytes) : "memory");
}

inline int at_most(int bytes, int most) { return min(most, max(0, bytes)); }

// What a work-item copies of w: of one half of the rows the same bytes of every W_EACH-th or, by words, every 48th
// word.
#define HALF_ROWS (W_ROWS / 2)
#define HALF_FETCHERS (FETCHING_WARPS * 32 / 2)
#if BY_WORDS
#define W_COPIES ((HALF_ROWS * WINDOW / 4 + HALF_FETCHERS - 1) / HALF_FETCHERS)
#else
#define W_LANES (WINDOW > 32 ? 4 : 2) // of a row
#define W_EACH (HALF_FETCHERS / W_LANES)
#define W_COPIES ((HALF_ROWS + W_EACH - 1) / W_EACH)
#endif

struct window {
    const global uchar *w; // of the expert, at a multiple of UNIT bytes
    uint from[W_COPIES];   // from there on, a multiple of UNIT as well
    ulong before;          // how far behind it that row begins: 4 bits each, or 2
};

#define BEFORE_BITS (BY_WORDS ? 2 : 4)
#define BEFORE(own, i) ((uint)((own)->before >> BEFORE_BITS * (i)) & (UNIT - 1u))

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS;
    const struct source source = source_of(w, side);
    const global uchar *const first = source.w + expert * source.expert;
    const uint off = SCALED ? 0 : (uint)(ulong)first & (UNIT - 1u);
    own->w = first - off;
    own->before = 0;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
#if BY_WORDS
        const uint word = min(l + i * HALF_FETCHERS, HALF_ROWS * WINDOW / 4 - 1u), row = word / (WINDOW / 4);
        const uint more = (word - row * (WINDOW / 4)) * 4;
#else
        const uint row = min(l / W_LANES + i * W_EACH, HALF_ROWS - 1u), more = (l & (W_LANES - 1)) * 16;
#endif
        const uint begin = off + (uint)(column_of(row, side, column, w->columns) * source.column);
        own->from[i] = (begin & ~(UNIT - 1u)) + more;
        own->before |= (ulong)(begin & (UNIT - 1u)) << BEFORE_BITS * i;
    }
}

// What lies in a stage of which rows do not end.
inline void fetch_middle(uint to, const struct window *own, uint l, uint begin) {
#if BY_WORDS
    const global uchar *const from = own->w + begin;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++)
        if ((i + 1) * HALF_FETCHERS <= HALF_ROWS * WINDOW / 4 || l + i * HALF_FETCHERS < HALF_ROWS * WINDOW / 4)
            copy_4(to + l * 4 + i * HALF_FETCHERS * 4, from + own->from[i]);
#else
    const uint row = l / W_LANES, chunk = (l & (W_LANES - 1)) * 16;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = SCALED ? 0 : BEFORE(own, i), from = (before + begin) & ~15u;
        const bool there = chunk < before + begin - from + STEP_BYTES &&
                           ((i + 1) * W_EACH <= HALF_ROWS || i * W_EACH + row < HALF_ROWS);
        copy_16_if(there, to + row * PITCH + chunk + i * W_EACH * PITCH, own->w + from + own->from[i]);
    }
#endif
}

// The same where they end: behind a row's last byte come zeros, which are codes of 0 with the smallest scale.
inline void fetch_end(uint to, const struct window *own, uint l, uint begin, uint row_bytes) {
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = SCALED ? 0 : BEFORE(own, i), from = (before + begin) & ~(UNIT - 1u);
#if BY_WORDS
        const uint word = l + i * HALF_FETCHERS, more = word % (WINDOW / 4) * 4;
        const int bytes = at_most((int)(before + row_bytes) - (int)(from + more), 4);
        if (word < HALF_ROWS * WINDOW / 4)
            copy_some_of_4(to + word * 4, bytes ? own->w + from + own->from[i] : own->w, bytes);
#else
        const uint row = l / W_LANES + i * W_EACH, more = (l & (W_LANES - 1)) * 16;
        const int bytes = at_most((int)(before + row_bytes) - (int)(from + more), 16);
        copy_some_of_16_if(row < HALF_ROWS && more < WINDOW, to + row * PITCH + more,
                           bytes ? own->w + from + own->from[i] : own->w, bytes);
#endif
    }
}

inline void fetch_weights(uint stage, const struct window *own, uint lid, uint step, uint row_bytes) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS, begin = step * STEP_BYTES;
    const uint to = stage + X_BYTES + side * HALF_ROWS * PITCH;
    if (begin + STEP_BYTES + 32 <= row_bytes)
        fetch_middle(to, own, l, begin);
    else
        fetch_end(to, own, l, begin, row_bytes);
}

// The scales of two rows of a work-item, of which there may be no second: two words around them.
inline void fetch_scales(uint stage, const global uchar *const *from, uint lid, uint step, uint scale_bytes) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint row = lid + i * FETCHING_WARPS * 32, before = (uint)(ulong)from[i] & 3u;
        const uint at = (before + step * (TK / 32)) & ~3u;
        if (row >= W_ROWS) return;
#pragma unroll
        for (int word = 0; word < 8; word += 4) {
            const int bytes = at_most((int)(before + scale_bytes) - (int)(at + word), 4);
            copy_some_of_4(stage + SCALES_AT + row * SCALES_PITCH + word, from[i] - before + (bytes ? at + word : 0),
                           bytes);
        }
    }
}

#define X_EACH (FETCHING_WARPS * 4) // rows from copy to copy: an odd number of fours, by which a chunk's place changes
#define X_COPIES ((TOKENS + X_EACH - 1) / X_EACH)

// What a work-item copies of x: a chunk of every X_EACH-th row that the slot names. Behind the last pair what was there
// stays: sums of other pairs do not see it.
struct rows {
    const global uchar *x;
    uint from[X_COPIES]; // in chunks
    int n;               // rows less the first one's number
};

inline void place_rows(struct rows *own, const local struct slot *slot, int rows, const global uchar *x,
                       uint x_row_chunks, uint lid) {
    own->x = x;
    own->n = rows - (int)(lid / 8);
#pragma unroll
    for (int i = 0; i < X_COPIES; i++)
        own->from[i] = (uint)slot->x_row[min((int)(lid / 8) + i * X_EACH, rows - 1)] * x_row_chunks + (lid & 7u);
}

inline void fetch_rows(uint stage, const struct rows *own, uint lid, uint step, uint depth) {
    const uint chunk = lid & 7u, row = lid / 8, to = stage + row * 128 + (chunk ^ (row & 7u)) * 16;
#pragma unroll
    for (int part = 0; part < TK / 64; part++) {
        const uint at = step * TK + part * 64, bytes = at + chunk * 8 < depth ? 16 : 0;
        const global uchar *const x = own->x + (bytes ? at * 2 : 0);
#pragma unroll
        for (int i = 0; i < X_COPIES; i++)
            copy_some_of_16_if(i * X_EACH < own->n, (to ^ (i & 1) * 64) + part * TOKENS * 128 + i * X_EACH * 128,
                       x + (ulong)own->from[i] * 16, bytes);
    }
}

// All tiles of this work-group.
inline void fetch_tiles(const struct ring *r, const struct job *j, const struct weights *w,
                        const local struct slot *slots, const global uchar *x, uint x_row_chunks, uint depth) {
    const uint lid = get_local_id(0) - 32;
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, expert = slot->expert, column = slot->column;
        if (rows == 0) return;
        struct window own;
        place_window(&own, w, lid, expert, column);
        struct rows own_rows;
        place_rows(&own_rows, slot, rows, x, x_row_chunks, lid);
        const global uchar *scales[2];
        for (int i = 0; SCALED && i < 2; i++)
            scales[i] = scales_at(w, (lid + i * FETCHING_WARPS * 32) % HALF_ROWS,
                                  (lid + i * FETCHING_WARPS * 32) / HALF_ROWS & 1u, expert, column);
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES;
            fetch_weights(base, &own, lid, step, w->row_bytes);
            if (SCALED) fetch_scales(base, scales, lid, step, w->scale_bytes);
            fetch_rows(base, &own_rows, lid, step, depth);
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        next_turn(&turn, SLOTS);
    }
}
