// SPDX-License-Identifier: MIT
// For x of 16 bits and words of 4-bit codes (AWQ, GPTQ), by mma.sync of 16 x 8 x 16: the instruction's rows are columns
// of w, its columns rows of x, so that few rows of x waste nothing that has to be decoded.
//
//   group = (band * column groups + column group) * BAND + slot in the band      64 columns of y, TM rows of x
//   SINGLE   a slot is a position, straight from the ids: one row of x, which all columns of the instruction have
//   else     slot -> expert and rows: slot.cl
//
// The waves of a work-group split K, segment by segment; with GLU the first half of them has gate, the second up
// columns. A wave has its own ring of STAGES stages of 32 steps, filled by asynchronous copies of 16 bytes:
//
//   64 chunks of w   AWQ: 8 matrices of 8 steps, which ldmatrix transposes    GPTQ: chunk 32 * i + lane is a lane's own
//   chunks of x      SINGLE: 8 steps for each lane of a quad                  else: a lane's own, of each 8 rows of x
//
// Lane 4 * g + t has steps 8t .. 8t + 7 of 8 columns of w: rows g and g + 8 of four products. A code becomes a number
// of x's type as the highest bits of a mantissa, 16 more than it is; what that and the zeros add is in proportion to
// the sum of x, which one more product, with ones, brings to where the others are. Scales come once for SCALE_STEPS
// steps. Where all columns of a product are the same, each lane of a quad goes on with one of the four products.
#include "matmul/pair.cl"

#ifndef EMULATED
#error "EMULATED: 1 to do without the instructions, else 0"
#endif
#ifndef STAGES
#error "STAGES: of 32 steps in the ring of a wave, 2 or more"
#endif
#ifndef FRAGMENTS
#error "FRAGMENTS: 8 rows of x each, of a tile"
#endif
#ifndef SINGLE
#error "SINGLE: 1 if tiles have one row of x, which the ids say, else 0"
#endif
#ifndef SCALE_STEPS
#error "SCALE_STEPS: steps that share a scale, 32, 64 or 128; more are counted as 128"
#endif

#define VALUE float
#include "matmul/epilogue.cl"

#include "matmul/matrix_layout.cl"
#define LAYOUT MMA_16
#include "matmul/matrix_mma.cl"
#include "matmul/matrix_emulated.cl"

#define TM (SINGLE ? 1 : 8 * FRAGMENTS)
#include "matmul/slot.cl"

#define WAVES (LOCAL_SIZE / 32)
#define WAYS (GLU ? WAVES / 2 : WAVES) // waves that split K
#define COLUMNS 64
#define STEPS 32
#define SEGMENT 128
#define IN_SEGMENT (SEGMENT / STEPS)
#define TURN (uint)(WAYS * SEGMENT - SEGMENT + STEPS) // from a wave's last steps of a segment to its next ones
#define W_CHUNKS (COLUMNS * STEPS / 32)
#define X_CHUNKS (SINGLE ? 4 : 32 * FRAGMENTS)
#define STAGE (W_CHUNKS + X_CHUNKS)
#define PRODUCTS 4 // with 16 columns of w each
#define BAND 8u

#define COPIES (2 + FRAGMENTS)
#define THROUGH_L1 1 // x is for all work-groups of a unit
#include "matmul/mma_memory.cl"

#define IS_AWQ (CAT(ORDER_, W_T) == 1)
#define ORDER_awq 1
#define ORDER_gptq 2
// Of row g + 8 * h of product i: its column is PLACE of the words of 8 columns from 32 * WORD + g / 2 * 8 on.
#if IS_AWQ
#define WORD(i, h) (h)
#define PLACE(g, i, h) (2 * (i) + ((g)&1))
#define NIBBLE(g, i, h) (((g)&1) * 4 + (i))
#else
#define WORD(i, h) ((i) / 2)
#define PLACE(g, i, h) (((g)&1) * 4 + (i) % 2 * 2 + (h))
#define NIBBLE(g, i, h) PLACE(g, i, h)
#endif
#define COLUMN(g, i, h) (32 * WORD(i, h) + (g) / 2 * 8 + PLACE(g, i, h))

// Two codes at bit `at` of either half of a word: 16 more than they are, exactly. `zero` is known at run time only:
// masks are then in registers, where an instruction has room for one number of its own.
#define IS_BF16 (CAT(NAME_, X_T) == 1)
#define NAME_bf16 1
#define NAME_f16 2
#define TWO_OF(bits) ((uint)(bits) << 16 | (uint)(bits))
#define LOWEST (IS_BF16 ? 3 : 6) // bit of a mantissa
#define SIXTEEN (IS_BF16 ? TWO_OF(131 << 7) : TWO_OF(19 << 10))
#define ONES (IS_BF16 ? TWO_OF(0x3f80) : TWO_OF(0x3c00))
static inline uint two_numbers(uint codes, int at, uint zero) {
    const uint moved = at > LOWEST ? codes >> ((at - LOWEST) & 31) : codes << ((LOWEST - at) & 31);
    return (moved & (TWO_OF(15 << LOWEST) | zero)) | SIXTEEN;
}
static inline uint lower_halves(uint a, uint b) { return (a & 0xffffu) | b << 16; }
static inline uint upper_halves(uint a, uint b) { return a >> 16 | (b & 0xffff0000u); }

// What a lane copies of w: it goes ahead of what is multiplied.
struct ahead {
    const global uint *words;  // of the lane's first chunk
    long second, next, turn;   // from there to its second one, to the next stage, to the next segment
    int left[2];               // words that rows have from the chunks on
    int steps[2];              // the chunks exist where a stage begins before that
    bool whole;                // all chunks exist as a whole or not at all, at multiples of 16 bytes
    int at;                    // stages so far
    uint d;                    // step that the stage begins with
};
// Where scales and zeros of a lane's columns begin; `second`: columns to those of the second word.
struct groups {
    const global uint *zeros;
    const global ELEM(S_T) *scales;
    long scale_group, zero_group;
    int second, shift;
    bool has_zero;
    float offset; // of zeros
};

// Four words, of which `left` exist
static inline uint4 words_at(const global uint *from, int left) {
    uint v[4];
    UNROLL for (int j = 0; j < 4; j++) v[j] = j < left ? from[j] : 0u;
    return vload4(0, v);
}

static inline void fetch_x(struct copies *copies, local uint4 *to, const global ELEM(X_T) *from, int left, bool wide) {
    if (wide && (left >= 8 || left <= 0)) {
        copy_chunk(copies, to, from, left > 0);
        return;
    }
    ushort v[8];
    UNROLL for (int j = 0; j < 8; j++) v[j] = j < left ? from[j] : (ushort)0;
    *to = as_uint4(vload8(0, v));
}

// The step of the stage that chunk `at` of w belongs to, in the order GPTQ the first of 8
#if IS_AWQ
#define CHUNK_STEP(at) ((at) % 8 / 2 * 8 + (at) / 16 * 2 + (at) % 2)
#else
#define CHUNK_STEP(at) ((at) % 4 * 8)
#endif

// The next stage of the wave. Of x there are `steps`.
static inline void fetch_stage(struct copies *copies, local uint4 *stage, struct ahead *w,
                               const global ELEM(X_T) *const x[FRAGMENTS], uint steps, bool wide_x, uint lane) {
    UNROLL for (uint i = 0; i < 2; i++) {
        const global uint *const from = w->words + (i ? w->second : 0);
        local uint4 *const to = stage + lane + 32 * i;
        const bool exists = (int)w->d < w->steps[i];
        if (w->whole)
            copy_chunk(copies, to, (const global ushort *)from, exists);
        else
            *to = words_at(from, exists ? w->left[i] : 0);
    }
    const uint own = w->d + lane % 4 * 8;
    const int left = own < steps ? (int)min(steps - own, 8u) : 0;
#if SINGLE
    if (lane < 4) fetch_x(copies, stage + W_CHUNKS + lane, x[0] + own, left, wide_x);
#else
    UNROLL for (int f = 0; f < FRAGMENTS; f++)
        fetch_x(copies, stage + W_CHUNKS + 32 * f + lane, x[f] + own, left, wide_x);
#endif
    close_group(copies);
    const bool ends = w->at % IN_SEGMENT == IN_SEGMENT - 1;
    w->at++;
    w->d += ends ? TURN : STEPS;
    w->words += ends ? w->turn : w->next;
}

// Scales and zeros of a lane's columns, as they lie; of a lane of a quad of the same, one product's
#define HELD (SINGLE ? 1 : PRODUCTS)
#define TOKENS (SINGLE ? 1 : 2) // of a fragment, in a lane
struct held {
    ELEM(S_T) scales[HELD][2];
    uint zeros[2];
};
static inline void load_held(struct held *to, const struct groups *w, uint d, uint depth, uint lane) {
    const uint g = lane / 4, t = lane % 4;
    const long group = min(d, depth - 1) >> w->shift;
    const global ELEM(S_T) *const scales = w->scales + group * w->scale_group;
    const global uint *const zeros = w->zeros + group * w->zero_group;
    UNROLL for (int j = 0; j < HELD; j++) UNROLL for (int h = 0; h < 2; h++) {
        const int i = SINGLE ? (int)t : j;
        to->scales[j][h] = scales[(WORD(i, h) ? w->second : 0) + PLACE(g, i, h)];
    }
    to->zeros[0] = w->has_zero ? zeros[0] : 0x88888888u;
    to->zeros[1] = w->has_zero ? zeros[w->second / 8] : 0x88888888u;
}

struct sums {
    float of[HELD][2][FRAGMENTS * TOKENS];
};
struct products {
    d_fragment of[PRODUCTS][FRAGMENTS], ones[FRAGMENTS];
};

static inline void clear_products(struct products *p) {
    UNROLL for (int f = 0; f < FRAGMENTS; f++) {
        p->ones[f] = (d_fragment)(0.0f);
        UNROLL for (int i = 0; i < PRODUCTS; i++) p->of[i][f] = (d_fragment)(0.0f);
    }
}

static inline void add_products(struct sums *sums, const struct products *p, const struct held *held, float offset,
                                uint lane) {
    const uint g = lane / 4, t = lane % 4;
    UNROLL for (int j = 0; j < HELD; j++) UNROLL for (int h = 0; h < 2; h++) {
        const int i = SINGLE ? (int)t : j;
        const uint zeros = WORD(i, h) ? held->zeros[1] : held->zeros[0];
        const float more = offset + (float)(zeros >> NIBBLE(g, i, h) * 4 & 15);
        const float scale = FLOAT_OF(S_T, held->scales[j][h]);
        UNROLL for (int f = 0; f < FRAGMENTS; f++) {
            float4 d = p->of[j][f];
            if (SINGLE) // registers cannot be indexed
                d = t < 2 ? (t ? p->of[1][f] : p->of[0][f]) : t == 2 ? p->of[2][f] : p->of[3][f];
            UNROLL for (int m = 0; m < TOKENS; m++) {
                const float sum = h ? (m ? d.w : d.z) : (m ? d.y : d.x), of_x = m ? p->ones[f].y : p->ones[f].x;
                sums->of[j][h][f * TOKENS + m] += (sum - more * of_x) * scale;
            }
        }
    }
}

static inline void multiply_stage(struct products *p, const local uint4 *ring, int stage, uint lane, uint zero,
                                  local float *scratch) {
    KEEP_PLACE(at, lane);
    uint4 x[FRAGMENTS], w[2];
    UNROLL for (int i = 0; i < 2; i++) {
#if IS_AWQ
        READ_ACROSS(w[i], at, lane, 0, stage, 32 * i)
#else
        w[i] = ring[stage * STAGE + 32 * i + lane];
#endif
    }
    UNROLL for (int f = 0; f < FRAGMENTS; f++) {
        const uint4 raw = ring[stage * STAGE + W_CHUNKS + (SINGLE ? lane % 4 : 32 * f + lane)];
        x[f] = IS_AWQ ? raw
                      : (uint4)(lower_halves(raw.x, raw.z), upper_halves(raw.x, raw.z), lower_halves(raw.y, raw.w),
                                upper_halves(raw.y, raw.w));
    }
    UNROLL for (int s = 0; s < 2; s++) {
        UNROLL for (int i = 0; i < PRODUCTS; i++) {
#if IS_AWQ
            const uint4 a = (uint4)(two_numbers(w[s].x, 4 * i, zero), two_numbers(w[s].y, 4 * i, zero),
                                    two_numbers(w[s].z, 4 * i, zero), two_numbers(w[s].w, 4 * i, zero));
#else
            const uint2 own = i % 2 ? w[i / 2].hi : w[i / 2].lo;
            const uint4 a = (uint4)(two_numbers(own.x, 8 * s, zero), two_numbers(own.y, 8 * s, zero),
                                    two_numbers(own.x, 8 * s + 4, zero), two_numbers(own.y, 8 * s + 4, zero));
#endif
            UNROLL for (int f = 0; f < FRAGMENTS; f++) ACCUMULATE(p->of[i][f], a, s ? x[f].hi : x[f].lo);
        }
        UNROLL for (int f = 0; f < FRAGMENTS; f++) ACCUMULATE(p->ones[f], (uint4)(ONES), s ? x[f].hi : x[f].lo);
    }
}

// The wave's part of the sums over `steps`. Every work-item of the work-group makes the call.
static inline void add_stages(struct sums *sums, local uint4 *ring, struct ahead *w, const struct groups *groups,
                              uint depth, const global ELEM(X_T) *const x[FRAGMENTS], uint steps, bool wide_x,
                              uint lane, local float *scratch) {
    const int segments = (int)((steps + SEGMENT - 1) / SEGMENT), stages = (segments + WAYS - 1) / WAYS * IN_SEGMENT;
    const uint zero = depth >> 31;
    struct copies copies = {0};
    struct held held;
    struct products products;
    UNROLL for (int j = 0; j < HELD; j++) UNROLL for (int h = 0; h < 2; h++)
        UNROLL for (int m = 0; m < FRAGMENTS * TOKENS; m++) sums->of[j][h][m] = 0.0f;
    uint d = w->d;
    if (stages > 0) load_held(&held, groups, d, depth, lane);
    for (int s = 0; s < STAGES - 1; s++) fetch_stage(&copies, ring + s * STAGE, w, x, steps, wide_x, lane);
    clear_products(&products);
    int stage = 0, filled = STAGES - 1;
    for (int s = 0; s < stages; s++) {
        wait_groups(&copies, STAGES - 2);
        WAVE_BARRIER();
        fetch_stage(&copies, ring + filled * STAGE, w, x, steps, wide_x, lane);
        filled = stage;
        multiply_stage(&products, ring, stage, lane, zero, scratch);
        stage = stage == STAGES - 1 ? 0 : stage + 1;
        const uint own = d; // of the stage
        d += s % IN_SEGMENT == IN_SEGMENT - 1 ? TURN : STEPS;
        if ((s + 1) % (SCALE_STEPS / STEPS)) continue;
        // Of what lies behind the last step scales may be anything.
        if (own / SCALE_STEPS * SCALE_STEPS < steps) add_products(sums, &products, &held, groups->offset, lane);
        load_held(&held, groups, d, depth, lane);
        clear_products(&products);
    }
    wait_groups(&copies, 0);
    barrier(CLK_LOCAL_MEM_FENCE);
}

// Of columns from n0 on, of gate (w) or up (v), from segment `way` on; nothing if there are no steps
#define SOURCE(to, w, e)                                                                                               \
    {                                                                                                                  \
        const long own = n0 + (IS_AWQ ? (lane / 8 & 1) * 32 : lane / 4 * 4), row = w##_depth / 8;                      \
        const long step = way * SEGMENT + CHUNK_STEP(lane);                                                            \
        to.words = w + w##_skip + ((e)*w##_expert + own * w##_column) / 8 + (IS_AWQ ? step : step / 8) * row;          \
        to.second = IS_AWQ ? 4 * row : 32;                                                                             \
        to.next = (IS_AWQ ? STEPS : STEPS / 8) * row;                                                                  \
        to.turn = (IS_AWQ ? TURN : TURN / 8) * row;                                                                    \
        to.left[0] = (int)clamp((columns - own) / (IS_AWQ ? 8 : 1), 0L, 4L);                                           \
        to.left[1] = IS_AWQ ? to.left[0] : (int)clamp(columns - own - 32, 0L, 4L);                                     \
        to.whole = (((ulong)(w + w##_skip) / 4 | (ulong)(w##_expert / 8) | (ulong)row | (ulong)to.left[0]) & 3) == 0;  \
    }
#define GROUPS(to, w, e)                                                                                               \
    {                                                                                                                  \
        const long at = min(n0 + lane / 8 * 8, columns - 8);                                                           \
        to.scales = SCALE_ROW(w, e, at);                                                                               \
        to.scale_group = w##_scale_group;                                                                              \
        to.zeros = w##_zero + w##_zero_skip + ((e)*w##_zero_expert + W_ROW(w, at)) / 8;                                \
        to.zero_group = w##_zero_group / 8;                                                                            \
    }

#define PART(wave, m, c) parts[((wave)*TM + (m)) * (COLUMNS + 4) + (c)]
#define PARTS (WAVES * TM * (COLUMNS + 4))
#define RING (WAVES * STAGES * STAGE)

static inline float add_ways(const local float *parts, int first, int m, int c) {
    float sum = 0.0f;
    for (int way = 0; way < WAYS; way++) sum += PART(first + way, m, c);
    return sum;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_words_mma(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local uint4 ring[RING * 4 > PARTS ? RING : (PARTS + 3) / 4];
    local float scratches[WAVES * SCRATCH];
    const int lid = get_local_id(0), wave = lid / 32, way = wave % WAYS;
    const uint lane = lid & 31;
    const bool is_up = GLU && wave >= WAYS;
    long n0;
    const long slot = banded_slot(columns, COLUMNS, BAND, &n0);
#if SINGLE
    const long own_pair = pair_at(slot, order + order_skip, flags), own_token = own_pair / k;
    const int own_expert = EXPERT_OF(own_pair, own_token), task = pair_task(own_expert, experts, first, count);
    const int expert = task == PAIR_COMPUTE ? own_expert - first : count, rows = task != PAIR_NOTHING;
    const long begin = slot;
#else
    local long found[3];
    find_tile(found, slot, offsets + offsets_skip, pairs, experts, first, count, flags);
    const int expert = found[TILE_EXPERT], rows = found[TILE_ROWS];
    const long begin = found[TILE_BEGIN];
#endif
    if (rows <= 0) return;
    const int e = first + expert; // only meant where expert < count
    const uint steps = expert < count ? (uint)steps_at(limits + limits_skip, e, n0, depth, flags) : 0;
    const global ELEM(X_T) *x_from[FRAGMENTS];
    UNROLL for (int f = 0; f < FRAGMENTS; f++) {
        const long i = begin + (SINGLE ? 0 : min(f * 8 + (int)lane / 4, rows - 1));
        const long p = steps > 0 ? pair_at(i, order + order_skip, flags) : 0;
        x_from[f] = x + x_skip + x_row(i, p, p / k, flags) * x_stride;
    }
    const bool wide_x = (((ulong)(x + x_skip) / 2 | (ulong)x_stride) & 7) == 0;

    struct ahead ahead;
    struct groups groups;
    if (is_up) {
        SOURCE(ahead, v, expert)
        GROUPS(groups, v, expert)
    } else {
        SOURCE(ahead, w, expert)
        GROUPS(groups, w, expert)
    }
    UNROLL for (uint i = 0; i < 2; i++)
        ahead.steps[i] = steps && ahead.left[i] ? (int)depth - (int)CHUNK_STEP(lane + 32 * i) : 0;
    ahead.at = 0, ahead.d = way * SEGMENT;
    groups.second = n0 + 32 + lane / 8 * 8 < columns ? 32 : 0; // columns past the last one are not stored
    groups.shift = scale_shift;
    groups.has_zero = (flags & HAS_ZERO) != 0;
    groups.offset = flags & ZERO_PLUS_ONE ? 17.0f : 16.0f;
    struct sums sums;
    add_stages(&sums, ring + wave * (STAGES * STAGE), &ahead, &groups, (uint)depth, x_from, steps, wide_x, lane,
               scratches + wave * SCRATCH);
    local float *const parts = (local float *)ring;
    UNROLL for (int j = 0; j < HELD; j++) UNROLL for (int h = 0; h < 2; h++)
        UNROLL for (int m = 0; m < FRAGMENTS * TOKENS; m++) {
            const int i = SINGLE ? (int)lane % 4 : j, row = SINGLE ? 0 : m / 2 * 8 + (int)lane % 4 * 2 + m % 2;
            PART(wave, row, COLUMN(lane / 4, i, h)) = sums.of[j][h][m];
        }
    barrier(CLK_LOCAL_MEM_FENCE);

    for (int at = lid; at < COLUMNS * TM; at += LOCAL_SIZE) {
        const int m = at / COLUMNS, c = at % COLUMNS;
        const long i = begin + m, n = n0 + c;
        if (m >= rows || n >= columns) continue;
        const long p = pair_at(i, order + order_skip, flags);
        float value = 0.0f;
        if (expert < count)
            value = finish(add_ways(parts, 0, m, c), GLU ? add_ways(parts, WAYS, m, c) : 0.0f,
                           BIAS_AT(e, n) + ADD_AT(p, n), BIAS_UP_AT(e, n) + ADD_UP_AT(p, n),
                           GAMMA_IN(PAIR_GAMMA(p, p / k)), PAIR_SCALE(e), GAMMA_OUT(PAIR_GAMMA(p, p / k)), ACT_ARGS);
        STORE(Y_T, y, y_skip + y_row(i, p, flags) * y_stride + n, value);
    }
}
