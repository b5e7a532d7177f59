// SPDX-License-Identifier: MIT
// The rows of blocks of a team on their way through local memory (few.cl, TENSOR): copies of CHUNK bytes, of which
// neighbours make those that lie together, STEPS - 1 rounds ahead. Loads of single words would meet in a line that is
// on its way, and wait. A wave waits for its own copies only: there is no barrier of the work-group.
//
//   a stage: CHUNKS chunks of each row, the first from the multiple of CHUNK bytes at or before the row's round
//
// Bytes behind a row are not read: zeros are there, which add nothing.
#define UNIT_BYTES (int)sizeof(ELEM(W_T))
#define ROUND_BYTES (ROUND_UNITS * UNIT_BYTES)
#define CHUNK (ROUND_BYTES % 16 ? 4 : 16) // so that all rounds of a row begin in the same place of a chunk
typedef char rounds_are_whole_chunks[ROUND_BYTES % CHUNK == 0 ? 1 : -1];
#define CHUNKS ((ROUND_BYTES + 2 * (CHUNK - 1)) / CHUNK)
#define COPIES ((ROWS * CHUNKS + WAYS - 1) / WAYS)
#define STAGE (ROWS * CHUNKS * CHUNK)
#define TEAM_RING (STEPS * STAGE)
#define RING_BYTES (TEAMS * TEAM_RING + 16) // a share may be read by words that end behind it

static inline void copy_chunk(local uchar *to, const global uchar *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :
                 : "r"((uint)(size_t)to), "l"(from), "n"(CHUNK), "r"(bytes)
                 : "memory");
}
#define CLOSE_COPIES() asm volatile("cp.async.commit_group;" : : : "memory")
#define WAIT_COPIES(but)                                                                                               \
    asm volatile("cp.async.wait_group %0;" : : "n"(but) : "memory");                                                   \
    asm volatile("bar.warp.sync 0xffffffff;" : : : "memory")

// Where the rows of a team are: `left` of gate, and as many of up, from the first one on. More than these are the last
// one again.
struct rows {
    const global uchar *gate, *up;
    ulong gate_stride, up_stride;
    uint left;
};
static inline const global uchar *begin_of(const struct rows *rows, uint r) {
    const bool up = GLU && r >= PER_ITEM;
    const uint n = min(up ? r - PER_ITEM : r, rows->left - 1);
    return up ? rows->up + n * rows->up_stride : rows->gate + n * rows->gate_stride;
}

struct copies {
    const global uchar *from[COPIES];
    int left[COPIES]; // bytes of the row; none where a pair is not computed, whose rows may lie in no buffer
};
static inline void plan_copies(struct copies *to, const struct rows *rows, int row_bytes, int way) {
    UNROLL for (int i = 0; i < COPIES; i++) {
        const uint c = way + i * WAYS, r = min(c / CHUNKS, (uint)ROWS - 1), j = c - r * CHUNKS;
        const global uchar *const begin = begin_of(rows, r);
        const int at = (int)(j * CHUNK) - (int)((ulong)begin & (CHUNK - 1));
        to->from[i] = begin + at;
        to->left[i] = c < ROWS * CHUNKS && row_bytes ? row_bytes - at : 0;
    }
}
static inline void copy_round(local uchar *stage, struct copies *c, int way) {
    UNROLL for (int i = 0; i < COPIES; i++) {
        if (way + i * WAYS < ROWS * CHUNKS)
            copy_chunk(stage + (way + i * WAYS) * CHUNK, c->from[i], clamp(c->left[i], 0, CHUNK));
        c->from[i] += ROUND_BYTES;
        c->left[i] -= ROUND_BYTES;
    }
    CLOSE_COPIES();
}

static inline void load_x(x_share *to, const global ELEM(X_T) *x, uint d, uint whole, uint round, int way, bool wide) {
    UNROLL for (int f = 0; f < FOURS; f++)
        to->of[f] = d < whole ? FETCH4(X_T, x + round + four_at(way, f), 1, 4, wide) : (PIECE(X_T))(0);
}

// The sums over the first `whole` steps of rows and x. Every work-item of a wave makes the call, with the same `end`.
static inline void add_rounds(float *sums, local uchar *ring, const struct rows *rows, const global ELEM(X_T) *x,
                              uint whole, uint end, int way, bool wide, bool wide_x, uint zero) {
    struct copies copies;
    uint phase[ROWS];
    plan_copies(&copies, rows, (int)(whole / BLOCK(W_T) * UNITS(W_T)) * UNIT_BYTES, way);
    UNROLL for (int r = 0; r < ROWS; r++)
        phase[r] = r * (CHUNKS * CHUNK) + ((uint)(ulong)begin_of(rows, r) & (CHUNK - 1)) + share_at(way) * UNIT_BYTES;
    for (int s = 0; s < STEPS - 1; s++) copy_round(ring + s * STAGE, &copies, way);
    const uint first = FIRST_STEP(way);
    x_share raw;
    load_x(&raw, x, first, whole, 0, way, wide_x);
    local uchar *stage = ring, *next = ring + (STEPS - 1) * STAGE;
    for (uint round = 0; round < end; round += STRIDE) {
        WAIT_COPIES(STEPS - 2);
        copy_round(next, &copies, way);
        next = stage;
        ready_x values;
        make_ready(&values, &raw, zero);
        load_x(&raw, x, first + round + STRIDE, whole, round + STRIDE, way, wide_x);
        UNROLL for (int r = 0; r < ROWS; r += 2) {
            share pair[2];
            UNROLL for (int i = 0; i < 2; i++) {
                const local ELEM(W_T) *const own = (const local ELEM(W_T) *)(stage + phase[r + i]);
                if (wide)
                    load_wide(&pair[i], own, way);
                else
                    load_any(&pair[i], own, way);
            }
            add_two(&sums[r], &values, pair);
        }
        stage = stage == ring + (STEPS - 1) * STAGE ? ring : stage + STAGE;
    }
    WAIT_COPIES(0);
}
