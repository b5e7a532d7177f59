// SPDX-License-Identifier: MIT
// Rows of x to local memory for wgmma_words.cl, as fetch_rows of wgmma_ring.cl, but by work-items that keep addresses
// of their copies: where these are made anew for each copy, it waits until the copy before has read its own.

#define X_ROWS (X_FETCHERS / 8) // from copy to copy: an odd number of fours, by which a chunk's place changes
#define X_EACH ((TOKENS + X_ROWS - 1) / X_ROWS)
#if X_ROWS % 8 != 4
#error "X_FETCHERS: 32, 96, .."
#endif

inline void fetch_x(const struct ring *r, const struct job *j, const local struct slot *slots, const global uchar *x,
                    uint x_row_chunks, uint depth) {
    const uint lid = get_local_id(0) - FIRST_X_FETCHER, chunk = lid & 7u, row = lid / 8;
    const uint to = W_BYTES + row * ROW + (chunk ^ (row & 7u)) * 16;
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows;
        const global uchar *from[X_EACH];
#pragma unroll
        for (int i = 0; i < X_EACH; i++) {
            const uint own = (uint)slot->x_row[min((int)row + X_ROWS * i, max(rows, 1) - 1)];
            from[i] = x + (own * (ulong)x_row_chunks + chunk) * 16;
        }
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, k = step * TK + chunk * 8;
#pragma unroll
            for (uint part = 0; part < X_PARTS; part++) {
                const uint bytes = k + part * 64 < depth ? 16 : 0; // past the end of a row: zeros
#pragma unroll
                for (int i = 0; i < X_EACH; i++)
                    copy_16_below(base + (to ^ (i & 1) * 64) + part * X_BYTES + i * X_ROWS * ROW, from[i] + part * ROW,
                                  bytes, (int)row + X_ROWS * i, rows);
            }
            mb_arrive_copied(r->full + 8 * stage.at);
#pragma unroll
            for (int i = 0; i < X_EACH; i++)
                from[i] += X_PARTS * ROW;
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}
