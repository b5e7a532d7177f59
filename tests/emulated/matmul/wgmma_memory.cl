// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_memory.cl for CPUs: tests/emulated/chip.c has the functions. Local memory is below 4 GiB there, so
// that a uint is a pointer.
#define GROUP_BARRIER(id) group_barrier(id)
#define PAIR_BARRIER(id) pair_barrier(id)
#define WARP_BARRIER() warp_barrier()
#define CHANGE_REGISTERS(how, n)
#define ASYNC_FENCE()
#define WHEN_SHOWN

void mb_init(uint at, uint arrivals);
void mb_expect(uint at, uint bytes);
void mb_arrive(uint at);
void mb_arrive_copied(uint at);
void mb_wait(uint at, uint parity);
void group_barrier(uint id);
void pair_barrier(uint id);
void warp_barrier(void);
inline uint load_of_line(const global uint *at, bool is) { return is ? *at : 0; }
void copy_16_below(uint to, const global uchar *from, uint bytes, int row, int rows);
#define WARP 32
uint from_lane(uint v, uint lane);
uint sum_of_lanes_to(uint v);
bool any_of_warp(bool is);
uint first_lane_with(bool is);
uint pack_two(float low, float high);
void store_matrices(uint at, const uint *v);

inline void store_two(global uint4 *to, uint4 v, bool is, global uint4 *to1, uint4 v1, bool is1) {
    if (is) *to = v;
    if (is1) *to1 = v1;
}
