/* SPDX-License-Identifier: MIT
 * What the chip does is done as late as it may be, as the PTX manual has it: copies arrive when a barrier says so,
 * products read and write when they are waited for. */
#include "chip.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned char uchar;

enum { GROUP = 128, MOST_GROUPS = MOST_ITEMS / GROUP, MOST_NAMED = 7 };

static uint group, groups;

void fail(const char *what) {
    fprintf(stderr, "hopper: %s (work-item %u of group %u)\n", what, lid, group);
    exit(3);
}

/* ---- what OpenCL has ---- */

static struct meeting all, of_pair, of_warps[2][MOST_NAMED], of_group[MOST_GROUPS],
    of_warp[MOST_ITEMS / WARP];

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
    if (id < 1 || id >= MOST_NAMED) fail("a barrier that there is not");
    items_meet(&of_warps[items / WARP / 4][id]);
}

/* What the work-items of a warp say, from its first one on. They meet again before they say more. */
static uint said[MOST_ITEMS];
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

struct range readable[4];

static void require_readable(const uchar *from, size_t bytes) {
    for (int i = 0; i < 4; i++)
        if (from >= readable[i].begin && from + bytes <= readable[i].end) return;
    fail("a copy from outside of w, x, scales and sums");
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
} copies[MOST_ITEMS];

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

/* Matrix m of four: row r is stored at what work-item 8 * m + r names. */
void store_matrices(uint at, const uint *v) {
    static uint given[MOST_ITEMS][4];
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

enum { SWIZZLED = 128, MAPS = 4 };
struct map {
    uint rank, element, box[5];  /* element: bytes */
    _Bool is_swizzled;           /* rows of SWIZZLED bytes */
    uint64_t size[5], stride[5]; /* of dimension d + 1 */
    const uchar *first;
};
static struct map in_local[MAPS], published[MAPS];
static const uchar *places[MAPS];

static struct map *map_at(uint at) {
    return &in_local[at / 128 % MAPS];
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
    const int i = from / 128 % MAPS;
    warp_barrier();
    if (lid % WARP == 0) published[i] = in_local[i], places[i] = map;
    warp_barrier();
}

/* Rows of 128 bytes, of which chunk c is at c ^ row % 8: by the address, as it lies at multiples of 1024. */
static void *swizzled(size_t byte) {
    return (void *)(byte ^ (byte >> 7 & 7) << 4);
}

static void copy_box(uint to, const uchar *place, uint full, const uint *at) {
    int map = 0;
    while (map < MAPS && place != places[map])
        map++;
    if (map == MAPS) fail("a map that is not there");
    const struct map *const m = &published[map];
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

enum { STEPS = 16, MOST_COLUMNS = 256 };
static struct products {
    int n, turn, awaited; /* awaited: the first turn that nobody waits for */
    struct product {
        int n, turn;
        float *d;
        uint64_t a, b;
        const uint *held; /* NULL, or what stands for a */
        uint keep;
    } of[64];
} products[MOST_ITEMS];

static void add_product(const struct product *p) {
    struct products *const mine = &products[lid];
    if (p->n > MOST_COLUMNS) fail("a product of so many columns");
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

/* Which lane of a warp has two elements of 16 x 16 or of their sums by 8 columns, the first of them at (row, column),
 * and which of its registers. */
static uint lane_with(uint row, uint column) {
    return row % 8 * 4 + column % 8 / 2;
}
static uint place_in_lane(uint row, uint column) {
    return column / 8 * 2 + row % 16 / 8;
}
static float half_of_two(uint two, uint i) {
    return value_of((half)(i % 2 ? two >> 16 : two));
}

/* Product i of the group whose work-items have theirs at `all_of`, each with its part of the sums. */
static void multiply(const struct products all_of[GROUP], int i) {
    static float a[GROUP / 2][STEPS], b[STEPS][MOST_COLUMNS];
    const struct product *const p = &all_of->of[i];
    for (uint row = 0; row < GROUP / 2; row++)
        for (uint k = 0; k < STEPS; k++) {
            const uint *const two = all_of[row / 16 * WARP + lane_with(row, k)].of[i].held;
            a[row][k] = p->held ? half_of_two(two[place_in_lane(row, k)], k) : element(p->a, row, k);
        }
    for (uint column = 0; column < (uint)p->n; column++)
        for (uint k = 0; k < STEPS; k++)
            b[k][column] = element(p->b, column, k);
    for (uint row = 0; row < GROUP / 2; row++) {
        float sums[MOST_COLUMNS] = {0};
        for (uint k = 0; k < STEPS; k++)
            for (uint column = 0; column < (uint)p->n; column++)
                sums[column] += a[row][k] * b[k][column];
        for (uint column = 0; column < (uint)p->n; column++) {
            float *const d = all_of[row / 16 * WARP + lane_with(row, column)].of[i].d +
                             place_in_lane(row, column) * 2 + column % 2;
            *d = p->keep ? *d + sums[column] : sums[column];
        }
    }
}

/* What the work-items of a group say of a product must agree. */
static _Bool is_same_product(const struct product *p, const struct product *q) {
    return p->n == q->n && p->turn == q->turn && p->a == q->a && p->b == q->b && !p->held == !q->held &&
           !p->keep == !q->keep;
}

/* The products of the group of this work-item that its work-items wait for. */
static void multiply_awaited(void) {
    struct products *const all_of = &products[lid / GROUP * GROUP];
    int done = 0;
    for (; done < all_of->n && all_of->of[done].turn < all_of->awaited; done++) {
        for (uint i = 1; i < GROUP; i++)
            if (all_of[i].n != all_of->n || all_of[i].awaited != all_of->awaited ||
                !is_same_product(&all_of[i].of[done], &all_of->of[done]))
                fail("a group of which not all multiply the same");
        multiply(all_of, done);
    }
    for (struct products *own = all_of; own < all_of + GROUP; own++) {
        own->n -= done;
        memmove(own->of, own->of + done, (size_t)own->n * sizeof *own->of);
    }
}

/* A group goes on as one: what its work-items read nobody changes before. */
void wgmma_wait(int left) {
    products[lid].awaited = products[lid].turn - left;
    items_meet_and(&of_group[lid / GROUP], multiply_awaited);
}

/* mma.sync, of a warp: x by rows of 8 columns. */
void warp_multiply(float *sums, const uint *w, const uint *x) {
    static uint held_w[MOST_ITEMS][4], held_x[MOST_ITEMS][2];
    const uint lane = lid % WARP;
    memcpy(held_w[lid], w, sizeof held_w[lid]);
    memcpy(held_x[lid], x, sizeof held_x[lid]);
    warp_barrier();
    for (uint i = 0; i < 4; i++)
        for (uint k = 0; k < STEPS; k++) {
            const uint row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
            sums[i] += half_of_two(held_w[lid - lane + lane_with(row, k)][place_in_lane(row, k)], k) *
                       half_of_two(held_x[lid - lane + lane_with(column, k)][k / 8], k);
        }
    warp_barrier();
}

/* ---- the kernel ---- */

static void (*kernel)(void);

static void run_item(void) {
    copies[lid].n = products[lid].n = products[lid].turn = 0;
    kernel();
    if (copies[lid].n || products[lid].n) fail("copies or products that nobody waits for");
}

void chip_run(uint of_kernel, uint items, void (*item)(void)) {
    kernel = item;
    groups = of_kernel;
    all.items = items;
    of_pair.items = 2 * GROUP;
    for (int id = 1; id < MOST_NAMED; id++)
        of_warps[0][id].items = 2 * WARP, of_warps[1][id].items = 4 * WARP;
    for (int i = 0; i < MOST_GROUPS; i++)
        of_group[i].items = GROUP;
    for (int i = 0; i < MOST_ITEMS / WARP; i++)
        of_warp[i].items = WARP;
    for (group = 0; group < groups; group++)
        items_run(items, run_item);
}
