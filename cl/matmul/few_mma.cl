// SPDX-License-Identifier: MIT
// For few rows of 16 bits and coded weights, K fastest: straight from the ids, as few.cl, by mma.sync of 16 x 8 x 16.
//
//   group = position i * spans + span of neighbouring tiles
//   a tile has 16 * PAIRS rows of w: as many columns of y, or gate and up of half of them, 8 and 8
//
// Each work-item of a quad has K of its own, of two rows of w, so that it takes whole blocks and no code changes hands:
// the instruction adds up what its quad brings, but x is a matrix of 8 columns, of which column 2t has what belongs to
// work-item t, and zeros for the others. Its sums are then in its own registers. K goes by segments of 256 steps, 64 of
// each work-item of a quad, and the waves of a tile take them in turns.
//
// Rows of w come through local memory by asynchronous copies of 16 bytes, STAGES - 1 segments ahead, also of the next
// tile, from the multiple of 32 at or before the segment; bytes behind a row are zeros. x lies there in the order of
// the codes: as a whole, or by panels of PANEL_ROUNDS segments of each wave.
//
// Where X_SCALED, bf16 x is multiplied by a power of two for each part, which the part's sum lacks. As f16 a part keeps
// all of numbers down to 2^-32 of its largest one, and down to 2^-40 what a float sum beside that one would.
//
// Where sums over a token's slots may be wanted (few_sums.cl) position i is the token, and waves are split between its
// slots first.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"
#include "matmul/sum.cl"

#ifndef EMULATED
#error "EMULATED: 1 to do without PTX, else 0"
#endif
#if EMULATED
#undef UNROLL
#define UNROLL _Pragma("nounroll") // or compilers for CPUs take seconds
#endif
#ifndef STAGES
#error "STAGES: segments of a wave in local memory, 2 or more"
#endif
#ifndef PANEL_ROUNDS
#error "PANEL_ROUNDS: of the waves, of which x lies in local memory at a time"
#endif
#ifndef PAIRS
#error "PAIRS: of rows of w of a work-item, 1 or 2"
#endif
#include "matmul/few_mma_codes.cl"
#define BY_TOKENS SUMS // also without sums: the order of what is added up hangs on how many waves a slot has
#include "matmul/few_sums.cl"

#define WAVES (LOCAL_SIZE / 32)
#define ROWS (2 * PAIRS)
#define TILE (8 * ROWS)
#define TILE_COLUMNS (GLU ? TILE / 2 : TILE)
// Chunks of 16 bytes from the sector of memory on in which the segment begins, at multiples of BEGIN_AT
#define SECTOR 32
#define BEGIN_AT (IS_EVEN || IS_SUPER_BLOCK ? 2 : 1)
// Neighbours that copy what lies together: of short segments four, or finding rows takes more time than it saves
#define COPY_LANES (SEGMENT_BYTES < 200 ? 4 : 8)
#define COPY_STEP (32 / COPY_LANES)
#define CHUNKS ((SEGMENT_BYTES + SECTOR - BEGIN_AT + 15) / 16)
#define PITCH ((CHUNKS | 1) * 16) // an odd number of chunks: rows begin in different banks
#define STAGE_BYTES (TILE * PITCH)
#define WAVE_RING (STAGES * STAGE_BYTES)
#define PANEL_SEGMENTS (WAVES * PANEL_ROUNDS)
#define X_CHUNKS (SEGMENT / 8) // of eight elements of x, of a segment

#if EMULATED
#define WAIT_COPIES(but) barrier(CLK_LOCAL_MEM_FENCE)
#define CLOSE_COPIES()
static inline void copy_chunk(local uchar *to, const global uchar *from, int bytes) {
    for (int i = 0; i < 16; i++) to[i] = i < bytes ? from[i] : 0;
}
static inline void copy_full(local uchar *to, const global uchar *from, int bytes) {
    if (bytes > 0) copy_chunk(to, from, bytes);
}
#else
// By way of L1: segments that are neighbours share sectors, which would else come from L2 twice.
static inline void copy_chunk(local uchar *to, const global uchar *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((uint)(size_t)to), "l"(from), "r"(bytes)
                 : "memory");
}
// Of a chunk that may end behind the row: what is there, nobody looks at.
static inline void copy_full(local uchar *to, const global uchar *from, int bytes) {
    asm volatile("{ .reg .pred p; setp.gt.s32 p, %2, 0; @p cp.async.ca.shared.global [%0], [%1], 16; }"
                 :
                 : "r"((uint)(size_t)to), "l"(from), "r"(bytes)
                 : "memory");
}
#define CLOSE_COPIES() asm volatile("cp.async.commit_group;" : : : "memory")
#define WAIT_COPIES(but)                                                                                               \
    asm volatile("cp.async.wait_group %0;" : : "n"(but) : "memory");                                                   \
    asm volatile("bar.warp.sync 0xffffffff;" : : : "memory")
#endif

// Rows of gate or up of an expert; scales only where they lie apart
struct source {
    const global uchar *begin;
    ulong stride;
    const global ELEM(S_T) *scales;
    long first, scale_row, scale_step; // elements of scales from one row to the next, and from one to the next in K
};
struct matrix {
    struct source of[2];
    long columns;
    long scale_step, scale_rows; // rows of w from one column to the next, and those that share scales
    int scale_shift;
    uint steps;        // none where a pair is not computed, whose rows may lie in no buffer
    uint lowest_bits;  // n zeros if all rows begin at multiples of 2^n bytes
    long limit;        // columns from there on are not computed
};
#define SOURCE_OF_ROW(row) (GLU ? (row) / 8 & 1 : 0)
#define COLUMN_OF_ROW(row) (GLU ? (row) / 16 * 8 + ((row) & 7) : (row))
struct rows {
    const global uchar *begin[2];         // of each source, the row lane / COPY_LANES of the tile
    const global ELEM(S_T) *scales[ROWS]; // row 8 * i + lane / 4, where the work-item multiplies
    uint steps, columns;                  // from the first begin on
};
static inline uint steps_of(const struct matrix *m, uint tile) {
    return tile * TILE_COLUMNS < (ulong)m->limit ? m->steps : 0;
}
static inline void find_rows(struct rows *to, const struct matrix *m, uint tile, uint lane) {
    const uint start = tile * TILE_COLUMNS, n = start + lane / COPY_LANES, columns = (uint)m->columns;
    to->steps = steps_of(m, tile);
    to->columns = (uint)max((int)(columns - n), 0);
    UNROLL for (int i = 0; i < 1 + GLU; i++) to->begin[i] = m->of[i].begin + n * m->of[i].stride;
#if APART
    UNROLL for (uint r = 0; r < ROWS; r++) {
        const struct source *const of = &m->of[SOURCE_OF_ROW(r * 8)];
        const uint column = min(start + COLUMN_OF_ROW(r * 8) + lane / 4, columns - 1); // what is not stored has one
        to->scales[r] = of->scales + (uint)(of->first + column * m->scale_step) / (uint)m->scale_rows * of->scale_row;
    }
#endif
}

static inline void copy_segment(local uchar *stage, const struct rows *rows, const struct matrix *m, int segment,
                                uint lane) {
    const uint chunk = lane % COPY_LANES;
    const int bytes = (int)((rows->steps + BLOCK(W_T) - 1) / BLOCK(W_T)) * BLOCK_BYTES;
    const int before = segment * SEGMENT_BYTES, left = min(bytes - before, SEGMENT_BYTES);
    UNROLL for (uint row = 0; row < TILE; row += COPY_STEP) {
        const uint of = SOURCE_OF_ROW(row), column = COLUMN_OF_ROW(row);
        const global uchar *const begin = rows->begin[of] + column * m->of[of].stride + before;
        const int phase = (int)((ulong)begin & (SECTOR - 1));
        const int behind = column < rows->columns && left > 0 ? left + phase - (int)chunk * 16 : 0;
        const global uchar *const from = begin - phase + chunk * 16;
        local uchar *const to = stage + (row + lane / COPY_LANES) * PITCH + chunk * 16;
        if (left == SEGMENT_BYTES)
            UNROLL for (int i = 0; i < CHUNKS; i += COPY_LANES) copy_full(to + i * 16, from + i * 16, behind - i * 16);
        else
            UNROLL for (int i = 0; i < CHUNKS; i += COPY_LANES)
                if (i + COPY_LANES <= CHUNKS || i + chunk < CHUNKS)
                    copy_chunk(to + i * 16, from + i * 16, clamp(behind - i * 16, 0, 16));
    }
    CLOSE_COPIES();
}

// x of a slot in the order of the codes. For each part what the offsets of codes want, the sum of x, or the factor that
// x lacks.
struct x_panel {
    local uint4 *fours; // of segment s, pair of fours f and work-item t of a quad: (s * FOURS * PARTS / 2 + f) * 4 + t
    local float *parts; // (s * 4 + t) * PARTS + part
};
// What a wave works with: it is `way` of `ways` that take segments in turns.
struct wave {
    int way, ways;
    uint lane;
    local uchar *ring;
    struct x_panel x;
    local float *room;
};

static inline uint2 two_of_four(uint2 four) { // elements 0, 2 and 1, 3
    return ORDER_PAIRS ? four : (uint2)((four.x & 0xffffu) | four.y << 16, four.x >> 16 | (four.y & 0xffff0000u));
}
static inline uint2 fetch_four(const global ELEM(X_T) *x, uint d, uint steps, bool wide) {
    uint v[4];
    if (wide && d + 4 <= steps) return *(const global uint2 *)(x + d);
    UNROLL for (uint i = 0; i < 4; i++) v[i] = d + i < steps ? x[d + i] : 0u;
    return (uint2)(v[0] | v[1] << 16, v[2] | v[3] << 16);
}

// What the work-item of the wave has whose number differs in the bits of `mask`. Every work-item of the work-group
// makes the call.
static inline float exchange(float own, uint mask, local float *room) {
#if EMULATED
    const uint lid = get_local_id(0);
    room[lid] = own;
    barrier(CLK_LOCAL_MEM_FENCE);
    const float other = room[lid ^ mask];
    barrier(CLK_LOCAL_MEM_FENCE);
    return other;
#else
    float other;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(other) : "f"(own), "r"(mask));
    return other;
#endif
}

#if X_SCALED
static inline uint two_times(uint two, float factor) {
    const float low = as_float(two << 16) * factor, high = as_float(two & 0xffff0000u) * factor;
#if EMULATED
    return ROUND(M_T, low) | (uint)ROUND(M_T, high) << 16;
#else
    uint scaled;
    asm("cvt.rn." M_NAME "x2.f32 %0, %1, %2;" : "=r"(scaled) : "f"(high), "f"(low));
    return scaled;
#endif
}
// A power of two that is not more than the largest of eight numbers, or 0; NaN and infinity count as the largest
static inline float power_of_largest(const uint *twos) {
    uint largest = 0;
    UNROLL for (int i = 0; i < 4; i++)
        largest = max(largest, max(twos[i] << 16 & 0x7f800000u, twos[i] & 0x7f800000u));
    return as_float(min(largest, 254u << 23));
}
#endif

// Makes of eight numbers of work-item t what is multiplied, and returns what a part has of them.
static inline float prepare_eight(uint *twos, local float *room) {
    float part = 0.0f;
#if X_SCALED
    part = power_of_largest(twos);
    UNROLL for (uint mask = 4; mask < FOURS * 2; mask *= 2) part = fmax(part, exchange(part, mask, room));
#if IS_BF16 // factor 2^126 brings e2m1 to its size; numbers from 2 on have no room for all of it
    const uint power = max(as_uint(part), 127u << 23), factor = (380u << 23) - power;
    part = as_float(power);
#else // below 2^16
    const uint power = max(as_uint(part), 16u << 23), factor = (269u << 23) - power;
    part = as_float(power - (15u << 23));
#endif
    UNROLL for (int i = 0; i < 4; i++) twos[i] = two_times(twos[i], as_float(factor));
#elif OFFSET || HAS_MIN
    UNROLL for (int i = 0; i < 4; i++) part += half_of(twos[i], 0) + half_of(twos[i], 1);
    UNROLL for (uint mask = 4; mask < FOURS * 2; mask *= 2) part += exchange(part, mask, room);
#endif
    return part;
}

// Of eight numbers of work-item t, that is fours f and f + 1 of a segment
static inline void order_eight(uint *twos, uint2 a, uint2 b) {
#if ORDER_EIGHT
    const uint2 low = (uint2)((a.x & 0xffffu) | b.x << 16, a.x >> 16 | (b.x & 0xffff0000u));
    const uint2 high = (uint2)((a.y & 0xffffu) | b.y << 16, a.y >> 16 | (b.y & 0xffff0000u));
#else
    const uint2 low = two_of_four(a), high = two_of_four(b);
#endif
    vstore4((uint4)(low, high), 0, twos);
}

// What a work-item has of x on its way, of AT_ONCE segments of its wave; steps that the expert has not are among them.
#define AT_ONCE 4
struct x_ahead {
    uint2 fours[AT_ONCE][2];
};
static inline void fetch_x(struct x_ahead *to, const struct wave *own, const global ELEM(X_T) *x, int first,
                           uint depth) {
    const bool wide = ((ulong)x & 7) == 0;
    UNROLL for (int i = 0; i < AT_ONCE; i++) {
        const uint step = (first + i * own->ways + own->way) * SEGMENT;
        UNROLL for (int j = 0; j < 2; j++)
            to->fours[i][j] = fetch_four(x, step + four_at(own->lane & 3, own->lane / 4 * 2 + j), depth, wide);
    }
}
static inline uint2 first_of_four(uint2 four, uint d, uint steps) {
    const int left = max((int)(steps - d), 0);
    const uint low = left > 1 ? four.x : left ? four.x & 0xffffu : 0;
    return (uint2)(low, left > 3 ? four.y : left > 2 ? four.y & 0xffffu : 0);
}

// Segments from `first` on, by the waves of the slot, each of which takes a segment at a time; `ahead` has the first of
// them. Every work-item of the work-group makes the call.
static inline void prepare_panel(const struct wave *own, const global ELEM(X_T) *x, struct x_ahead *ahead, int first,
                                 int segments, uint steps, uint depth) {
    const uint t = own->lane & 3, f = own->lane / 4 * 2;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int round = 0; round < PANEL_ROUNDS && first + round * own->ways < segments; round += AT_ONCE) {
        if (round) fetch_x(ahead, own, x, first + round * own->ways, depth);
        UNROLL for (int i = 0; i < AT_ONCE; i++) {
            const int at = (round + i) * own->ways + own->way;
            uint twos[4];
            if (steps < depth)
                UNROLL for (int j = 0; j < 2; j++)
                    ahead->fours[i][j] =
                        first_of_four(ahead->fours[i][j], (first + at) * SEGMENT + four_at(t, f + j), steps);
            order_eight(twos, ahead->fours[i][0], ahead->fours[i][1]);
            const float part = prepare_eight(twos, own->room);
            own->x.fours[at * X_CHUNKS + own->lane] = vload4(0, twos);
            if (f % FOURS == 0) own->x.parts[(at * 4 + t) * PARTS + f / FOURS] = part;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

#if EMULATED
static inline void load_fours(uint *to, const local uint4 *from, uint mine) { vstore4(*from, 0, to); }
static inline float products(float sum, const uint *w, const uint *x) {
    for (int i = 0; i < 4; i++)
        sum += half_of(w[i / 2], i & 1) * half_of(x[i / 2], i & 1);
    return sum;
}
static inline void multiply(float *c, const uint *w0, const uint *w1, const uint *x) {
    c[0] = products(c[0], w0, x);
    c[2] = products(c[2], w1, x);
}
#else
// Only to the work-item whose x that is: the others have zeros there, and keep them.
static inline void load_fours(uint *to, const local uint4 *from, uint mine) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %5, 0; @p ld.shared.v4.u32 {%0, %1, %2, %3}, [%4]; }"
                 : "+r"(to[0]), "+r"(to[1]), "+r"(to[2]), "+r"(to[3])
                 : "r"((uint)(size_t)from), "r"(mine));
}
static inline void multiply(float *c, const uint *w0, const uint *w1, const uint *x) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." M_NAME "." M_NAME ".f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(w0[0]), "r"(w1[0]), "r"(w0[1]), "r"(w1[1]), "r"(x[0]), "r"(x[1]));
}
#endif

typedef float held_f32;
typedef ushort held_f16;
typedef ushort held_bf16;
typedef uint held_e8m0;
typedef CAT(held_, S_T) held_scale; // as it lies, so that nothing waits for it
static inline void load_scales(held_scale (*to)[PARTS], const struct rows *rows, const struct matrix *m, int segment,
                               uint t) {
#if APART
    UNROLL for (int p = 0; p < PARTS; p++) {
        const uint d = segment * SEGMENT + scale_at(t, p);
        UNROLL for (int r = 0; r < ROWS; r++) {
            const long step = m->of[SOURCE_OF_ROW(r * 8)].scale_step;
            to[r][p] = d < rows->steps ? rows->scales[r][(d >> m->scale_shift) * step] : 0;
        }
    }
#endif
}

// The segment from rows[] on, and what x has for this work-item from `at` on. Two chains of sums at least are on their
// way for each pair of rows.
#define CHAINS (PARTS == 1 ? 2 : 1)
static inline void add_segment(float *sums, const local uchar *const *rows, const struct x_panel *at, uint (*x)[4],
                               held_scale (*scales)[PARTS], uint t, uint mine, uint zero, bool wide) {
    struct part_codes own[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) load_row(&own[r], rows[r], t, wide);
    UNROLL for (int part = 0; part < PARTS; part++) {
        float c[PAIRS][CHAINS][4];
        UNROLL for (int i = 0; i < PAIRS * CHAINS; i++) vstore4(0.0f, 0, c[i / CHAINS][i % CHAINS]);
        UNROLL for (int r = 0; r < ROWS; r++) load_part(&own[r], rows[r], t, part, wide);
        UNROLL for (int f = 0; f < FOURS; f++) {
            uint w[ROWS][2];
            if (f % 2 == 0) load_fours(x[f / 2 & 1], at->fours + (part * (FOURS / 2) + f / 2) * 4, mine);
            UNROLL for (int r = 0; r < ROWS; r++) four_numbers(w[r], &own[r], part, f, zero);
            UNROLL for (int i = 0; i < PAIRS; i++)
                multiply(c[i][f % CHAINS], w[2 * i], w[2 * i + 1], x[f / 2 & 1] + (f & 1) * 2);
        }
#if OFFSET || HAS_MIN || X_SCALED
        const float x_part = at->parts[part];
#else
        const float x_part = 1.0f;
#endif
        UNROLL for (int r = 0; r < ROWS; r++) {
            const int upper = r % 2 * 2;
            const float sum = CHAINS == 1 ? c[r / 2][0][upper] : c[r / 2][0][upper] + c[r / 2][CHAINS - 1][upper];
#if OFFSET || HAS_MIN
            sums[r] += (sum - OFFSET * x_part) * own[r].scale;
#if HAS_MIN
            sums[r] -= x_part * own[r].min;
#endif
#elif APART
            sums[r] += sum * (x_part * LACKING) * FLOAT_OF(S_T, scales[r][part]);
#else
            sums[r] += sum * (x_part * LACKING) * own[r].scale;
#endif
        }
    }
}

// What is ahead of what is multiplied: STAGES - 1 segments, also of the tiles behind
struct ahead {
    uint tile;
    int segment, stage;
    struct rows rows;
    held_scale scales[STAGES - 1][ROWS][PARTS];
};
static inline void fetch_ahead(struct ahead *ahead, const struct matrix *m, const struct wave *own, int segments,
                               uint tiles_end) {
    UNROLL for (int s = 0; s + 1 < STAGES - 1; s++)
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int p = 0; p < PARTS; p++) ahead->scales[s][r][p] = ahead->scales[s + 1][r][p];
    copy_segment(own->ring + ahead->stage * STAGE_BYTES, &ahead->rows, m, ahead->segment, own->lane);
    load_scales(ahead->scales[STAGES - 2], &ahead->rows, m, ahead->segment, own->lane & 3);
    ahead->stage = ahead->stage == STAGES - 1 ? 0 : ahead->stage + 1;
    ahead->segment += own->ways;
    if (ahead->segment < segments + own->way) return;
    ahead->segment = own->way;
    ahead->tile++;
    find_rows(&ahead->rows, m, ahead->tile, own->lane);
    if (ahead->tile >= tiles_end) ahead->rows.steps = 0;
}

// The sums over `segments` of the tile's rows and x, which is made ready for the first tile, from what x_ahead has of
// it, and where it is too long for all of them. Every work-item of the work-group makes the call, with the same number
// of segments.
static inline void add_rounds(float *sums, int *stage, struct ahead *ahead, uint tile, const struct matrix *m,
                              const struct wave *own, const global ELEM(X_T) *x, struct x_ahead *x_ahead, uint depth,
                              int segments, uint tiles_end, bool first, uint (*xs)[4], uint zero) {
    const uint g = own->lane / 4, t = own->lane & 3, mine = g == 2 * t;
    const bool prepared = !first && segments <= own->ways * PANEL_ROUNDS;
    int in_panel = 0;
    uint begin[ROWS]; // the last bits of addresses
    UNROLL for (int r = 0; r < ROWS; r++) {
        const struct source *const of = &m->of[SOURCE_OF_ROW(r * 8)];
        const uint column = tile * TILE_COLUMNS + COLUMN_OF_ROW(r * 8) + g;
        begin[r] = (uint)(ulong)of->begin + column * (uint)of->stride;
        sums[r] = 0.0f;
    }
    for (int base = 0; base < segments; base += own->ways) {
        const int segment = base + own->way;
        if (!prepared && in_panel == 0) {
            if (!first || base) fetch_x(x_ahead, own, x, base, depth);
            prepare_panel(own, x, x_ahead, base, segments, m->steps, depth);
        }
        WAIT_COPIES(STAGES - 2);
        const local uchar *from[ROWS];
        held_scale scales[ROWS][PARTS];
        UNROLL for (int r = 0; r < ROWS; r++) {
            const uint phase = begin[r] + segment * SEGMENT_BYTES & (SECTOR - 1);
            from[r] = own->ring + *stage * STAGE_BYTES + (g + r * 8) * PITCH + phase;
            UNROLL for (int part = 0; part < PARTS; part++) scales[r][part] = ahead->scales[0][r][part];
        }
        fetch_ahead(ahead, m, own, segments, tiles_end);
        const int x_at = in_panel * own->ways + own->way;
        const struct x_panel at = {own->x.fours + x_at * X_CHUNKS + t, own->x.parts + (x_at * 4 + t) * PARTS};
        // Uniform, since the instruction wants a whole wave
        const bool wide = ((m->lowest_bits | (uint)(segment * SEGMENT_BYTES)) & (WIDE - 1)) == 0;
        if (wide && !EMULATED)
            add_segment(sums, from, &at, xs, scales, t, mine, zero, true);
        else
            add_segment(sums, from, &at, xs, scales, t, mine, zero, EMULATED && wide);
        *stage = *stage == STAGES - 1 ? 0 : *stage + 1;
        in_panel = in_panel == PANEL_ROUNDS - 1 ? 0 : in_panel + 1;
    }
    const bool computed = steps_of(m, tile) > 0;
    UNROLL for (int r = 0; r < ROWS; r++) {
        UNROLL for (uint mask = 1; mask < 4; mask *= 2) sums[r] += exchange(sums[r], mask, own->room);
        sums[r] = computed ? sums[r] : 0.0f;
    }
}

#define BYTES(steps) ((ulong)((steps) / BLOCK(W_T)) * (uint)BLOCK_BYTES)
#define BITS_OF_ROWS(w) ((uint)(ulong)(w + w##_skip) | (uint)BYTES(w##_expert) | (uint)BYTES(w##_column))
#if APART
#define SCALES_OF(w, e) w##_scale + w##_scale_skip + (e) * w##_scale_expert, w##_first, w##_scale_row, w##_scale_group
#else
#define SCALES_OF(w, e) 0, 0, 0, 0
#endif
#define SOURCE(w, e)                                                                                                   \
    {                                                                                                                  \
        (const global uchar *)(w + w##_skip) + (long)BYTES(w##_expert) * (e), BYTES(w##_column), SCALES_OF(w, e)       \
    }

// The sum of a row's parts, of waves
static inline float add_parts(const local float *parts, int n) {
    float sum = 0.0f;
    for (int j = 0; j < n; j++) sum += parts[j];
    return sum;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_few_mma(MATMUL_ARGS SUM_ARGS, int span) {
    MATMUL_NUMBERS
    SUM_NUMBERS
    local uint4 ring[WAVES * WAVE_RING / 16 + 1], x_fours[PANEL_SEGMENTS * X_CHUNKS];
    local float x_parts[PANEL_SEGMENTS * 4 * PARTS], room[EMULATED ? LOCAL_SIZE : 1];
    local float parts[2][WAVES * TILE], finished[WAVES * TILE]; // parts of tiles in turns
    const int lid = get_local_id(0), wave = lid / 32;
    const uint lane = lid & 31, g = lane / 4, t = lane & 3;
    const int slots = 1 << slot_bits, ways = WAVES >> slot_bits, slot = wave & (slots - 1), way = wave >> slot_bits;
    const uint tiles = (uint)((columns + TILE_COLUMNS - 1) / TILE_COLUMNS), spans = (tiles + span - 1) / span;
    const uint group = get_group_id(0), i = group / spans;
    const uint first_tile = (group - i * spans) * span, tiles_end = min(tiles, first_tile + span);

    // A work-item below slots * TILE_COLUMNS finishes column c of slot `of`, and one of slot 0 sums that column.
    const int of = lid / TILE_COLUMNS, c = lid - of * TILE_COLUMNS, gate_row = GLU ? c + (c & ~7) : c;
    const struct wave own = {way, ways, lane, (local uchar *)ring + wave * WAVE_RING,
                             {x_fours + slot * ways * PANEL_ROUNDS * X_CHUNKS,
                              x_parts + slot * ways * PANEL_ROUNDS * 4 * PARTS}, room};
    float total = 0.0f;
    uint xs[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    const int turns_end = BY_TOKENS ? k : 1;
    for (int turn = 0; turn < turns_end; turn += slots) {
        FIND_PAIR(p, token, e, task, slot)
        // x first: it would have to wait behind the weights, which cannot be used without it.
        const global ELEM(X_T) *const row = x + x_skip + x_row(POSITION(slot), p, token, flags) * x_stride;
        struct x_ahead x_ahead;
        fetch_x(&x_ahead, &own, row, 0, p_is ? (uint)depth : 0);
        const uint steps = task == PAIR_COMPUTE ? steps_at(limits + limits_skip, e, 0, depth, flags) : 0;
        const struct matrix m = {{SOURCE(w, e - first), SOURCE(v, e - first)}, columns, scale_step, scale_rows,
                                 scale_shift, steps, BITS_OF_ROWS(w) | (GLU ? BITS_OF_ROWS(v) : 0u),
                                 flags & LIMIT_OUT && steps ? (long)limits[limits_skip + e] : columns};
        const int segments = ((slots > 1 ? (uint)depth : steps) + SEGMENT - 1) / SEGMENT; // the same for a work-group
        struct ahead ahead;
        ahead.tile = first_tile, ahead.segment = way, ahead.stage = 0;
        find_rows(&ahead.rows, &m, first_tile, lane);
        for (int s = 0; s < STAGES - 1; s++) fetch_ahead(&ahead, &m, &own, segments, tiles_end);

        FIND_PAIR(fp, ftoken, fe, ftask, of & (slots - 1))
        const float weight = ftask == PAIR_COMPUTE ? PAIR_GAMMA(fp, ftoken) : 0.0f;
        const float scale_e = ftask == PAIR_COMPUTE ? PAIR_SCALE(fe) : 0.0f;
        int stage = 0;
        for (uint tile = first_tile; tile < tiles_end; tile++) {
            // The addends of a finished column are on their way with the weights.
            const long n = (long)tile * TILE_COLUMNS + c;
            const bool in_tile = of < slots && n < columns, finishes = in_tile && ftask == PAIR_COMPUTE;
            const float bias_n = finishes ? BIAS_AT(fe, n) + ADD_AT(fp, n) : 0.0f;
            const float bias_up_n = finishes ? BIAS_UP_AT(fe, n) + ADD_UP_AT(fp, n) : 0.0f;
#if SUMS
            const bool sums_here = sum_flags & SUM && of == 0 && n < columns;
            const float residual_n = sums_here ? LOAD_RESIDUAL(i, n) : 0.0f;
            const float shared_n = sums_here ? LOAD_SHARED(i, n) : 0.0f;
#endif
            float sums[ROWS];
            add_rounds(sums, &stage, &ahead, tile, &m, &own, row, &x_ahead, depth, segments, tiles_end,
                       tile == first_tile, xs, (uint)(depth >> 31));
            local float *const all = parts[tile & 1];
            if (t == 0) UNROLL for (int r = 0; r < ROWS; r++) all[(slot * TILE + g + r * 8) * ways + way] = sums[r];
            barrier(CLK_LOCAL_MEM_FENCE);
            float out = 0.0f;
            if (finishes) {
                const local float *const first_part = all + (of * TILE + gate_row) * ways;
                const float up = GLU ? add_parts(first_part + 8 * ways, ways) : 0.0f;
                out = finish(add_parts(first_part, ways), up, bias_n, bias_up_n, GAMMA_IN(weight),
                             scale_e, GAMMA_OUT(weight), ACT_ARGS);
            }
            if (!(sum_flags & SUM)) {
                if (in_tile && fp_is && ftask != PAIR_NOTHING)
                    STORE(Y_T, y, y_skip + y_row(POSITION(of), fp, flags) * y_stride + n, out);
            } else if (in_tile)
                finished[lid] = FLOAT_OF(Y_T, ROUND(Y_T, out)); // as a row is that passes through memory
#if SUMS
            barrier(CLK_LOCAL_MEM_FENCE);
            if (turn == 0) total = 0.0f;
            for (int s = 0; sums_here && s < slots; s++) total += finished[s * TILE_COLUMNS + c];
            if (!sums_here || turn + slots < turns_end) continue;
            float sum = sum_scale * total;
            if (sum_flags & SUM_SHARED) sum += shared_scale * shared_n;
            if (sum_flags & SUM_RESIDUAL) sum += residual_n;
            STORE(SUM_T, (global ELEM(SUM_T) *)y, y_skip + i * y_stride + n, sum);
#endif
        }
        WAIT_COPIES(0);
    }
}
