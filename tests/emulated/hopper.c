/* SPDX-License-Identifier: MIT
 * Runs the kernel of cl/matmul/wgmma.cl, wgmma_bytes.cl, wgmma_coded.cl or wgmma_words.cl on a CPU: work-groups
 * of ITEMS work-items, one after another. What the chip does beside the program (barriers that copies arrive on,
 * copies by tensor maps, products) is in this file, as the PTX manual has it; products read and write as
 * late as they may, when they are waited for. hopper.py compiles it with the kernel and says which shapes to run.
 *
 * hopper K N E tokens topk glu contiguous groups seed
 *   glu: 0 none, 1 gate rows then up rows, 2 interleaved, 3 in two places, up before gate */
#include "call.h"
#include "items.h"
#include "ref/convert.h"
#include "ref/quant.h"
#include "words.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef uint16_t half; /* of the type of x and y */

#ifndef ITEMS
#error "ITEMS: of a work-group, 384 or 512"
#endif
#ifndef BYTES
#error "BYTES: 1 for cl/matmul/wgmma_bytes.cl, else 0"
#endif
#ifndef INTEGERS
#error "INTEGERS: 1 for integers in that, which have a scale for a row, else 0"
#endif
#ifndef CODED
#error "CODED: bytes of 32 weights for cl/matmul/wgmma_coded.cl: 17 in mxfp4, 16 with scales apart, else 0"
#endif
#ifndef BLOCKS
#error "BLOCKS: their dtype if they are blocks of codes and an f16 scale, else 0"
#endif
#ifndef X_TYPE
#error "X_TYPE: CLMOE_BF16 or CLMOE_F16, of x and y"
#endif
#ifndef WORDS
#error "WORDS: steps that share a scale in cl/matmul/wgmma_words.cl, less than 0 with GPTQ, else 0"
#endif
enum { GROUP = 128, BLOCK = 128, CODES = 32 };
_Static_assert(ITEMS <= MOST_ITEMS, "a work-group of more work-items than items.c has room for");

static uint group, groups;

void fail(const char *what) {
    fprintf(stderr, "hopper: %s (work-item %u of group %u)\n", what, lid, group);
    exit(3);
}

/* ---- what OpenCL has ---- */

static struct meeting all, of_pair, of_warps[2][5], of_group[ITEMS / GROUP + 1], of_warp[ITEMS / WARP];

size_t _Z12get_local_idj(uint d) {
    return d ? 0 : lid;
}
size_t _Z12get_group_idj(uint d) {
    return d ? 0 : group;
}
size_t _Z14get_num_groupsj(uint d) {
    return d ? 1 : groups;
}
uint _Z10atomic_incPU8CLglobalVj(volatile uint *p) {
    return __sync_fetch_and_add(p, 1);
}
void _Z7barrierj(uint fence) {
    items_meet(&all), (void)fence;
}

/* ---- barriers ---- */

void warp_barrier(void) {
    items_meet(&of_warp[lid / WARP]);
}

void group_barrier(uint id) {
    if (id != lid / GROUP) fail("the barrier of another group");
    items_meet(&of_group[id]);
}

/* Of both groups that multiply. */
void pair_barrier(uint id) {
    if (id != 3) fail("a barrier of other groups");
    items_meet(&of_pair);
}

/* Of two warps or of four. */
void warps_barrier(uint id, uint items) {
    if (id < 1 || id > 4) fail("a barrier that there is not");
    items_meet(&of_warps[items / WARP / 4][id]);
}

/* What the work-items of a warp say, from its first one on. They meet again before they say more. */
static uint said[ITEMS];
static const uint *say(uint v) {
    said[lid] = v;
    warp_barrier();
    return said + lid / WARP * WARP;
}

uint from_lane(uint v, uint lane) {
    v = say(v)[lane];
    warp_barrier();
    return v;
}

uint sum_of_lanes_to(uint v) {
    const uint *const lanes = say(v);
    v = 0;
    for (uint i = 0; i <= lid % WARP; i++)
        v += lanes[i];
    warp_barrier();
    return v;
}

_Bool any_of_warp(_Bool is) {
    const uint *const lanes = say(is);
    is = 0;
    for (uint i = 0; i < WARP; i++)
        is |= lanes[i];
    warp_barrier();
    return is;
}

uint first_lane_with(_Bool is) {
    const uint *const lanes = say(is);
    uint i = 0;
    while (i < WARP && !lanes[i])
        i++;
    if (i == WARP) fail("no lane has it");
    warp_barrier();
    return i;
}

/* A barrier in local memory: arrivals and bytes that are still to come, of the phase that is not complete. */
static struct mb {
    uint left, arrivals, phase;
    long bytes;
} mbs[4096];

static struct mb *mb_at(uint at) {
    if (at % 8) fail("a barrier that is not aligned");
    return &mbs[at / 8 % 4096];
}

static void settle(struct mb *b) {
    if (b->left || b->bytes) return;
    b->left = b->arrivals;
    b->phase ^= 1;
    items_wake(b);
}

void mb_init(uint at, uint arrivals) {
    *mb_at(at) = (struct mb){arrivals, arrivals, 0, 0};
}

void mb_expect(uint at, uint bytes) {
    struct mb *const b = mb_at(at);
    if (b->left == 0) fail("more arrivals than a barrier has");
    b->bytes += bytes;
    b->left--;
    settle(b);
    items_yield();
}

void mb_arrive(uint at) {
    mb_expect(at, 0);
}

static void bytes_came(uint at, uint bytes) {
    struct mb *const b = mb_at(at);
    if (b->bytes < bytes) fail("more bytes than a barrier expects");
    b->bytes -= bytes;
    settle(b);
}

void mb_wait(uint at, uint parity) {
    items_yield();
    while (mb_at(at)->phase == parity)
        items_wait(mb_at(at));
}

/* ---- memory ---- */

static struct range { const uchar *begin, *end; } readable[3]; /* w, x, scales */

static void require_readable(const uchar *from, size_t bytes) {
    for (int i = 0; i < 3; i++)
        if (from >= readable[i].begin && from + bytes <= readable[i].end) return;
    fail("a copy from outside of w, x and scales");
}

static uint ring; /* the lowest place of what is copied or stored: where the ring begins */

static void reach(uint to) {
    if (ring == 0 || to < ring) ring = to;
}

/* Copies of 16 bytes are done when they arrive, no sooner. */
static struct copies {
    int n;
    struct copy {
        uint to, size, bytes; /* behind those: zeros */
        const uchar *from;
    } of[256];
} copies[ITEMS];

static void copy_later(uint to, const void *from, uint size, uint bytes) {
    if (to % size || (uintptr_t)from % size) fail("a copy that is not aligned");
    if (bytes > size) fail("a copy of more than its size");
    if (bytes) require_readable(from, bytes);
    struct copies *const c = &copies[lid];
    if (c->n == 256) fail("too many copies");
    reach(to);
    c->of[c->n++] = (struct copy){to, size, bytes, from};
}

void copy_16_below(uint to, const uchar *from, uint bytes, int row, int rows) {
    if (row < rows) copy_later(to, from, 16, bytes);
}

void copy_16_if(_Bool there, uint to, const uchar *from) {
    if (there) copy_later(to, from, 16, 16);
}

void copy_some_of_16_if(_Bool there, uint to, const uchar *from, int bytes) {
    if (there) copy_later(to, from, 16, (uint)bytes);
}

void copy_some_of_4(uint to, const uint *from, int bytes) {
    copy_later(to, from, sizeof *from, (uint)bytes);
}

void store_local(uint at, uint v) {
    if (at % sizeof v) fail("a store that is not aligned");
    reach(at);
    *(uint *)(uintptr_t)at = v;
}

void mb_arrive_copied(uint at) {
    struct copies *const all_of = &copies[lid];
    for (const struct copy *c = all_of->of; c < all_of->of + all_of->n; c++) {
        uchar *const to = (uchar *)(uintptr_t)c->to;
        memset(to, 0, c->size);
        memcpy(to, c->from, c->bytes);
    }
    all_of->n = 0;
    mb_arrive(at);
}

static float e4m3(uint code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const float magnitude = exponent ? ldexpf(8 + mantissa, exponent - 10) : ldexpf(mantissa, -9);
    if ((code & 127) == 127) return NAN;
    return code & 128 ? -magnitude : magnitude;
}

static float value_of(half h) {
    return X_TYPE == CLMOE_BF16 ? ref_bf16_to_f32(h) : ref_f16_to_f32(h);
}

static half half_of(float v) {
    return X_TYPE == CLMOE_BF16 ? ref_bf16_from_f32(v) : ref_f16_from_f32(v);
}

/* What comes of a code, and by what it is less than what the code stands for, as wgmma_codes.cl has it. */
enum { CODE_UNIT = INTEGERS ? 64 : 1 };
static float code_value(uchar code) {
    return INTEGERS ? (float)(signed char)code / CODE_UNIT : e4m3(code);
}

uint pack_two(float low, float high) {
    return half_of(low) | (uint)half_of(high) << 16;
}

uint widen(ushort codes) {
    return pack_two(code_value((uchar)codes), code_value((uchar)(codes >> 8)));
}

uint multiply_two(uint a, uint b) {
    return pack_two(value_of((half)a) * value_of((half)b),
                    value_of((half)(a >> 16)) * value_of((half)(b >> 16)));
}

/* Matrix m of four: row r is stored at what work-item 8 * m + r names. */
void store_matrices(uint at, const uint *v) {
    static uint given[ITEMS][4];
    const uint lane = lid % WARP, m = lane / 8, r = lane % 8;
    if (at % 16) fail("a row of a matrix that is not aligned");
    memcpy(given[lid], v, sizeof given[lid]);
    warp_barrier();
    for (uint c = 0; c < 8; c++) {
        const uint two = given[lid - lane + c * 4 + r / 2][m];
        ((half *)(uintptr_t)at)[c] = (half)(r % 2 ? two >> 16 : two);
    }
    warp_barrier();
}

/* ---- tensor maps ---- */

enum { SWIZZLED = 128 };
struct map {
    uint rank, element, box[5];  /* element: bytes */
    _Bool is_swizzled;           /* rows of SWIZZLED bytes */
    uint64_t size[5], stride[5]; /* of dimension d + 1 */
    const uchar *first;
};
static struct map in_local[2], published[2];
static const uchar *places[2];

static struct map *map_at(uint at) {
    return &in_local[at / 128 % 2];
}

void map_dimension(uint at, uint index, uint64_t size, uint box) {
    if (box == 0 || box > 256) fail("a box of that size");
    map_at(at)->size[index] = size;
    map_at(at)->box[index] = box;
}

void map_stride(uint at, uint index, uint64_t bytes) {
    if (bytes % 16 || bytes >> 40) fail("a stride that maps do not have");
    map_at(at)->stride[index] = bytes;
}

void begin_map(uint at, const void *first, uint rank, uint element, _Bool is_swizzled) {
    if ((uintptr_t)first % 16) fail("a map of what is not aligned");
    map_at(at)->first = first;
    map_at(at)->rank = rank;
    map_at(at)->element = element;
    map_at(at)->is_swizzled = is_swizzled;
}

void map_of_bytes(uint at) {
    map_at(at)->element = 1;
}

void publish_map(uchar *map, uint from) {
    const int i = from / 128 % 2;
    warp_barrier();
    if (lid % WARP == 0) published[i] = in_local[i], places[i] = map;
    warp_barrier();
}

/* Rows of 128 bytes, of which chunk c is at c ^ row % 8: by the address, as it lies at multiples of 1024. */
static void *swizzled(size_t byte) {
    return (void *)(byte ^ (byte >> 7 & 7) << 4);
}

static void copy_box(uint to, const uchar *place, uint full, const uint *at) {
    const struct map *const m = &published[place == places[1]];
    if (place != places[0] && place != places[1]) fail("a map that is not there");
    if (to % (m->is_swizzled ? 1024 : 128) || (m->is_swizzled && m->box[0] * m->element != SWIZZLED) ||
        at[0] * m->element % 16 || m->box[0] * m->element % 16)
        fail("a box that is not aligned");
    reach(to);
    uint elements = 1;
    for (uint d = 0; d < m->rank; d++)
        elements *= m->box[d];
    for (uint e = 0; e < elements; e++) {
        uint rest = e;
        size_t offset = 0;
        int inside = 1;
        for (uint d = 0; d < m->rank; d++, rest /= m->box[d - 1]) {
            const uint64_t c = at[d] + rest % m->box[d];
            inside &= c < m->size[d];
            offset += c * (d ? m->stride[d - 1] : m->element);
        }
        const size_t byte = to + e * m->element;
        void *const element = m->is_swizzled ? swizzled(byte) : (void *)byte;
        if (inside) require_readable(m->first + offset, m->element);
        if (inside)
            memcpy(element, m->first + offset, m->element);
        else
            memset(element, 0, m->element);
    }
    bytes_came(full, elements * m->element);
}

void copy_box_2(uint to, const uchar *map, uint full, uint step, uint row) {
    copy_box(to, map, full, (uint[]){step, row});
}
void copy_box_3(uint to, const uchar *map, uint full, uint step, uint row, uint expert) {
    copy_box(to, map, full, (uint[]){step, row, expert});
}
void copy_box_5(uint to, const uchar *map, uint full, uint step, uint at, uint expert) {
    copy_box(to, map, full, (uint[]){step, 0, 0, at, expert});
}

/* ---- products ---- */

static struct products {
    int n, turn;
    struct product {
        int n, turn;
        float *d;
        uint64_t a, b;
        const uint *held; /* NULL, or what stands for a */
        uint keep;
    } of[64];
} products[ITEMS];

static void add_product(const struct product *p) {
    struct products *const mine = &products[lid];
    if (mine->n == 64) fail("too many products");
    mine->of[mine->n++] = *p;
}

void wgmma(int n, float *d, uint64_t a, uint64_t b, uint keep) {
    add_product(&(struct product){n, products[lid].turn, d, a, b, NULL, keep});
}

void held_wgmma(int n, float *d, const uint *a, uint64_t b, uint keep) {
    add_product(&(struct product){n, products[lid].turn, d, 0, b, a, keep});
}

void wgmma_commit(void) {
    warp_barrier();
    products[lid].turn++;
}

/* Of a tile in rows of 128 bytes, swizzled, or in chunks of 8 rows of 16 bytes. */
static float element(uint64_t tile, uint row, uint k) {
    size_t at = (ring & ~0x3ffffu) | (tile & 0x3fff) << 4; /* 18 bits of the address */
    if (at < ring) at += 0x40000;
    if (tile >> 16 == (1ul | 64ul << 16 | 1ul << 46))
        return value_of(*(half *)swizzled(at + row * SWIZZLED + k * sizeof(half)));
    if (tile >> 46) fail("a description of another kind of tile");
    at += k / 8 * (tile >> 16 & 0x3fff) * 16 + row / 8 * (tile >> 32 & 0x3fff) * 16;
    return value_of(*(half *)(at + row % 8 * 16 + k % 8 * sizeof(half)));
}

/* a of the work-items that have a part of it: registers of the product that all of them compute now. */
static uint held[ITEMS][4];

static float held_element(uint row, uint k) {
    const uint item = lid / WARP * WARP + row % 8 * 4 + k % 8 / 2, two = held[item][k / 8 * 2 + row % 16 / 8];
    return value_of((half)(k % 2 ? two >> 16 : two));
}

static void multiply(const struct product *p) {
    const uint lane = lid % WARP, row0 = lid % GROUP / WARP * 16 + lane / 4;
    if (p->held) {
        warp_barrier();
        memcpy(held[lid], p->held, sizeof held[lid]);
        warp_barrier();
    }
    for (int i = 0; i < p->n * 2 / 4; i++) {
        const uint row = row0 + 8 * (i / 2 % 2), column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        float sum = 0;
        for (uint k = 0; k < 16; k++)
            sum += (p->held ? held_element(row, k) : element(p->a, row, k)) * element(p->b, column, k);
        p->d[i] = p->keep ? p->d[i] + sum : sum;
    }
}

/* mma.sync, of a warp: its registers hold the rows of w as those of held_element, x by rows of 8 columns. */
void warp_multiply(float *sums, const uint *w, const uint *x) {
    static uint held_x[ITEMS][2];
    const uint lane = lid % WARP;
    memcpy(held[lid], w, sizeof held[lid]);
    memcpy(held_x[lid], x, sizeof held_x[lid]);
    warp_barrier();
    for (uint i = 0; i < 4; i++)
        for (uint k = 0; k < 16; k++) {
            const uint two = held_x[lid - lane + (lane % 4 * 2 + i % 2) * 4 + k % 8 / 2][k / 8];
            sums[i] += held_element(lane / 4 + 8 * (i / 2), k) * value_of((half)(k % 2 ? two >> 16 : two));
        }
    warp_barrier();
}

/* A group goes on as one: what its work-items read nobody changes before. */
void wgmma_wait(int left) {
    struct products *const mine = &products[lid];
    int done = 0;
    group_barrier(lid / GROUP);
    while (done < mine->n && mine->of[done].turn < mine->turn - left)
        multiply(&mine->of[done++]);
    mine->n -= done;
    memmove(mine->of, mine->of + done, (size_t)mine->n * sizeof *mine->of);
    group_barrier(lid / GROUP);
}

/* ---- the kernel ---- */

void call_kernel(const struct call *call);

static struct problem {
    long depth, columns, experts, tokens, k, pairs, rows; /* rows: of w for an expert */
    int glu, contiguous;
    uchar *weights, *gate, *up;
    half *x, *y;
    long column; /* elements from one gate row to the next, and from one up row */
    /* Scales of blocks of BLOCK x BLOCK, 1 x CODES or 1 x all, those of up behind those of gate if they are
     * apart: rows and columns of them, where those of up begin; up row n is up_first + n * step. */
    void *scales;
    long blocks[2], up_scales, up_first, step;
    int *ids, *offsets, *order, *place;
    float *gamma, *bias;
    uint counters[2];
    struct words words[2]; /* the second one: up in a tensor of its own */
} p;

static void run_item(void) {
    static uchar maps[8 * 256];
    const long w[4] = {0, p.rows * p.depth, p.column, 1}, bias[4] = {0, 2 * p.columns, 2, 0};
    struct call call = {p.x,
                        p.gate,
                        p.up,
                        p.scales,
                        NULL,
                        p.y,
                        p.bias,
                        p.gamma,
                        p.ids,
                        p.offsets,
                        p.order,
                        {{0, p.depth, 0, p.columns}},
                        .shape = {0, 1},
                        .maps = maps,
                        .counters = p.counters};
    memcpy(call.numbers[1], w, sizeof w);
    memcpy(call.numbers[2], w, sizeof w);
    memcpy(call.numbers[3], (long[4]){0, p.blocks[0] * p.blocks[1], p.blocks[1], 1}, sizeof w);
    memcpy(call.numbers[4], (long[4]){p.up_scales, p.blocks[0] * p.blocks[1], p.blocks[1], 1}, sizeof w);
    call.numbers[6][3] = p.up_first;
    memcpy(call.numbers[7], bias, sizeof bias);
    memcpy(call.numbers[8], bias, sizeof bias);
    memcpy(call.numbers[11], (long[4]){0, p.k, 0, p.k}, sizeof w);
    memcpy(call.numbers[12], (long[4]){p.pairs, p.depth, p.columns, INTEGERS ? 1 : BLOCK}, sizeof w);
    memcpy(call.numbers[13], (long[4]){p.k, p.experts, 0, p.experts}, sizeof w);
    memcpy(call.numbers[14], (long[4]){0, p.step, INTEGERS ? 30 : 7, 0}, sizeof w);
    if (WORDS) words_set(&call, p.words, p.glu == 3, p.glu == 1 ? p.columns : 0);
    copies[lid].n = products[lid].n = products[lid].turn = 0;
    call_kernel(&call);
    if (copies[lid].n || products[lid].n) fail("copies or products that nobody waits for");
}

static void run_groups(void) {
    all.items = ITEMS;
    of_pair.items = 2 * GROUP;
    for (uint id = 1; id < 5; id++)
        of_warps[0][id].items = 2 * WARP, of_warps[1][id].items = 4 * WARP;
    for (int i = 0; i < ITEMS / GROUP; i++)
        of_group[i].items = GROUP;
    for (int i = 0; i < ITEMS / WARP; i++)
        of_warp[i].items = WARP;
    for (group = 0; group < groups; group++)
        items_run(ITEMS, run_item);
}

/* ---- data ---- */

static uint drawn(uint n) {
    static uint state;
    state = state * 1664525 + 1013904223;
    return (state >> 8) % n;
}

static void *room(size_t bytes) {
    void *const at = aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (!at) fail("no memory");
    memset(at, 0xff, (bytes + 511) / 256 * 256); /* NaN */
    return at;
}

static half *random_rows(long n) {
    half *const rows = room((size_t)n * sizeof *rows);
    for (long i = 0; i < n; i++)
        rows[i] = half_of(((int)drawn(2001) - 1000) / 1000.0f);
    return rows;
}

/* A scale is 2^(e - 127): few are so large that a product in half does not have it. */
static uchar random_exponent(void) {
    return (uchar)(drawn(500) ? 122 + drawn(8) : 129 + drawn(3));
}

/* Some that blocks do not have beside others, up to denormal ones. */
static float random_scale(void) {
    const float scale = (float)(1 + drawn(1000)) / 50000.0f;
    switch (drawn(16)) {
    case 0: return 0.0f;
    case 1: return ldexpf(scale, -140);
    case 2: return -ldexpf(scale, 8 - (int)drawn(40));
    default: return scale;
    }
}

/* Of so many weights. */
static long bytes_of(long n) {
    return CODED ? n / CODES * CODED : BYTES ? n : n * 2;
}

static uchar *random_weights(long n) {
    if (!BYTES && !CODED) return (uchar *)random_rows(n);
    uchar *const codes = room((size_t)bytes_of(n));
    for (long i = 0; i < bytes_of(n); i++) {
        codes[i] = (uchar)drawn(256);
        if (BYTES && isnan(code_value(codes[i]))) codes[i] = 0;
        if (CODED == 17 && i % 17 == 0) codes[i] = random_exponent();
    }
    for (long i = 0; BLOCKS && i < bytes_of(n); i += CODED) {
        const half scale = ref_f16_from_f32(random_scale());
        memcpy(codes + i, &scale, sizeof scale);
    }
    return codes;
}

static void make_scales(void) {
    const long rows = CODED || INTEGERS ? 1 : BLOCK, columns = CODED ? CODES : INTEGERS ? p.depth : BLOCK;
    p.blocks[0] = (p.rows + rows - 1) / rows;
    p.blocks[1] = (p.depth + columns - 1) / columns;
    const long n = p.experts * p.blocks[0] * p.blocks[1];
    p.up_scales = p.glu == 3 ? n : 0;
    p.step = p.glu == 2 ? 2 : 1;
    p.up_first = p.glu == 1 ? p.columns : p.glu == 2;
    const size_t bytes = (size_t)(2 * n) * (CODED ? 1 : sizeof(float));
    p.scales = room(bytes);
    for (long i = 0; i < 2 * n; i++)
        if (CODED)
            ((uchar *)p.scales)[i] = random_exponent();
        else
            ((float *)p.scales)[i] = random_scale();
    readable[2] = (struct range){p.scales, (uchar *)p.scales + bytes};
}

static void route(void) {
    int at = 0;
    for (long i = 0; i < p.pairs; i++) {
        p.ids[i] = drawn(8) ? (int)drawn((uint)p.experts) : -1;
        p.gamma[i] = drawn(1000) / 500.0f;
    }
    for (int e = 0; e <= p.experts; e++) {
        p.offsets[e] = at;
        for (int i = 0; i < p.pairs; i++)
            if (p.ids[i] == (e < p.experts ? e : -1)) p.place[i] = at, p.order[at++] = i;
    }
}

static void make_data(void) {
    p.pairs = p.tokens * p.k;
    p.rows = p.glu == 1 || p.glu == 2 ? 2 * p.columns : p.columns;
    p.column = p.glu == 2 ? 2 * p.depth : p.depth;
    const long elements = p.experts * p.rows * p.depth, x_rows = p.contiguous ? p.pairs : p.tokens;
    const long all_weights = p.glu == 3 ? 2 * elements : elements;
    p.weights = random_weights(all_weights);
    p.gate = p.weights + bytes_of(p.glu == 3 ? elements : 0);
    p.up = p.weights + bytes_of(p.glu == 1 ? p.columns * p.depth : p.glu == 2 ? p.depth : 0);
    make_scales();
    if (WORDS) words_make(p.words, WORDS, p.experts, p.depth, p.rows, room, drawn);
    p.x = random_rows(x_rows * p.depth);
    p.y = room((size_t)(p.pairs * p.columns) * sizeof *p.y);
    readable[0] = (struct range){p.weights, p.weights + bytes_of(all_weights)};
    readable[1] = (struct range){(uchar *)p.x, (uchar *)(p.x + x_rows * p.depth)};
    p.ids = room((size_t)p.pairs * sizeof *p.ids);
    p.order = room((size_t)p.pairs * sizeof *p.order);
    p.place = room((size_t)p.pairs * sizeof *p.place);
    p.offsets = room((size_t)(p.experts + 1) * sizeof *p.offsets);
    p.gamma = room((size_t)p.pairs * sizeof *p.gamma);
    p.bias = room((size_t)(p.experts * 2 * p.columns) * sizeof *p.bias);
    for (long i = 0; i < p.experts * 2 * p.columns; i++)
        p.bias[i] = drawn(1000) / 300.0f;
    route();
}

static double e2m1(uint code) {
    static const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -magnitudes[code & 7] : magnitudes[code & 7];
}

/* Element k of the gate or up row of column n. */
static double weight(long e, int up, long n, long k) {
    if (WORDS) return words_weight(&p.words[up && p.glu == 3], e, n + (up && p.glu == 1 ? p.columns : 0), k);
    const long first = e * p.rows * p.depth + n * p.column, row = (up ? p.up_first : 0) + n * p.step;
    const uchar *const at = (up ? p.up : p.gate) + bytes_of(CODED ? first + k / CODES * CODES : first + k);
    if (BLOCKS) {
        float values[CODES];
        ref_unpack(BLOCKS, at, CODES, values);
        return values[k % CODES];
    }
    if (CODED) {
        const uchar *const scales = (uchar *)p.scales + (up ? p.up_scales : 0);
        const long j = k % CODES;
        const uint code = CODED == 17 ? at[1 + j % 16] >> j / 16 * 4 : at[j / 2] >> j % 2 * 4;
        return ldexp(e2m1(code & 15),
                     (CODED == 17 ? at[0] : scales[(e * p.blocks[0] + row) * p.blocks[1] + k / CODES]) - 127);
    }
    if (!BYTES) return value_of(*(const half *)at);
    const float *const scales = (float *)p.scales + (up ? p.up_scales : 0);
    const long block =
        (e * p.blocks[0] + row / (INTEGERS ? 1 : BLOCK)) * p.blocks[1] + (INTEGERS ? 0 : k / BLOCK);
    return (double)code_value(*at) * CODE_UNIT * scales[block];
}

/* One sum in double, with its bias; what its rounding may come to is added to `magnitude`. */
static double sum_of(long pair, long n, int up, double *magnitude) {
    const long e = p.ids[pair];
    const half *const x = p.x + (p.contiguous ? p.place[pair] : pair / p.k) * p.depth;
    double sum = p.bias[e * 2 * p.columns + 2 * n + up];
    for (long k = 0; k < p.depth; k++) {
        const double product = weight(e, up, n, k) * value_of(x[k]);
        sum += product;
        *magnitude += fabs(product);
    }
    return sum;
}

static int is_right(long pair, long n) {
    double magnitude = 0, want = 0;
    if (p.ids[pair] >= 0) {
        const double gate = sum_of(pair, n, 0, &magnitude);
        const double up = p.glu ? sum_of(pair, n, 1, &magnitude) : 0;
        want = (p.glu ? gate / (1 + exp(-gate)) * up : gate) * p.gamma[pair];
        if (p.glu) magnitude *= 1 + fabs(gate) + fabs(up);
    }
    const double got = value_of(p.y[pair * p.columns + n]), error = fabs(got - want);
    if (error <= fabs(want) / 256 + magnitude * 1e-5 + 1e-6) return 1;
    printf("pair %ld of expert %d, column %ld: %g, expected %g\n", pair, p.ids[pair], n, got, want);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 10) return fprintf(stderr, "usage: hopper K N E tokens topk glu contiguous groups seed\n"), 2;
    p.depth = atol(argv[1]), p.columns = atol(argv[2]), p.experts = atol(argv[3]), p.tokens = atol(argv[4]);
    p.k = atol(argv[5]), p.glu = atoi(argv[6]), p.contiguous = atoi(argv[7]);
    groups = (uint)atoi(argv[8]);
    items_seed((uint32_t)atol(argv[9]));
    make_data();
    run_groups();
    int wrong = p.counters[0] || p.counters[1];
    for (long pair = 0; pair < p.pairs && wrong < 5; pair++)
        for (long n = 0; n < p.columns && wrong < 5; n++)
            wrong += !is_right(pair, n);
    if (p.counters[0] || p.counters[1]) printf("counters are not as they were\n");
    return wrong ? 1 : 0;
}
