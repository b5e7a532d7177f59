// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_maps.cl for CPUs: tests/emulated/chip.c has the functions.
#define MAP_DIMENSION(index, size, box) map_dimension(at, index, size, box)
#define MAP_STRIDE(index, bytes) map_stride(at, index, bytes)
#define MAP_OF_BYTES() map_of_bytes(at)

void map_dimension(uint at, uint index, ulong size, uint box);
void map_stride(uint at, uint index, ulong bytes);
void map_of_bytes(uint at);
void begin_map(uint at, const global void *first, uint rank, uint element, bool swizzled);
inline void fill_map(uint at, const global void *first, uint rank, long depth, uint steps) {
    begin_map(at, first, rank, MAP_TYPE[0] == '0' ? 1 : 2, MAP_SWIZZLE[0] != '0');
    map_dimension(at, 0, depth, steps);
}
void publish_map(global uchar *map, uint from);
void copy_box_2(uint to, const global uchar *map, uint full, uint step, uint row);
void copy_box_3(uint to, const global uchar *map, uint full, uint step, uint row, uint expert);
void copy_box_5(uint to, const global uchar *map, uint full, uint step, uint at, uint expert);
