// SPDX-License-Identifier: MIT
// Tensor maps that are made in a kernel, and copies of the boxes they describe. Lines behind "//@@ " are PTX that only
// sm_90a assembles: lib/device/ptx.h.
#ifndef MAP_TYPE
#error "MAP_TYPE: of the elements, as tensormap.replace counts types"
#endif
#ifndef MAP_SWIZZLE
#error "MAP_SWIZZLE: of rows in local memory, as tensormap.replace counts modes"
#endif

#define MAP_FIELD(field, type, constraint, value)                                                                      \
    asm volatile("//@@ tensormap.replace.tile." field ".shared::cta.b1024." type " [%0], %1;"                          \
                 :                                                                                                     \
                 : "r"(at), constraint(value)                                                                          \
                 : "memory")
#define MAP_FIELD_AT(field, index, type, constraint, value)                                                            \
    asm volatile("//@@ tensormap.replace.tile." field ".shared::cta.b1024." type " [%0], " #index ", %1;"              \
                 :                                                                                                     \
                 : "r"(at), constraint(value)                                                                          \
                 : "memory")
#define MAP_SETTING(field, value)                                                                                      \
    asm volatile("//@@ tensormap.replace.tile." field ".shared::cta.b1024.b32 [%0], " value ";" : : "r"(at) : "memory")

// One dimension of a map: elements in all, elements of a box, bytes from one to the next. Of the innermost there are no
// bytes to say: fill_map.
#define MAP_DIMENSION(index, size, box)                                                                                \
    MAP_FIELD_AT("global_dim", index, "b32", "r", (uint)(size));                                                       \
    MAP_FIELD_AT("box_dim", index, "b32", "r", (uint)(box));                                                           \
    MAP_FIELD_AT("element_stride", index, "b32", "r", 1u)
#define MAP_STRIDE(index, bytes) MAP_FIELD_AT("global_stride", index, "b64", "l", (ulong)(bytes))

// Behind fill_map: of elements of 8 bits.
#define MAP_OF_BYTES() MAP_SETTING("elemtype", "0")

// What all maps here have in common: rows of `depth` elements of 16 bits, of which a box has `steps`; swizzled rows;
// zeros past the end. By one work-item, over zeros.
inline void fill_map(uint at, const global void *first, uint rank, long depth, uint steps) {
    MAP_FIELD("global_address", "b64", "l", first);
    MAP_FIELD("rank", "b32", "r", rank - 1);
    MAP_DIMENSION(0, depth, steps);
    MAP_SETTING("elemtype", MAP_TYPE);
    MAP_SETTING("interleave_layout", "0");
    MAP_SETTING("swizzle_mode", MAP_SWIZZLE);
    MAP_SETTING("fill_mode", "0");
}

// From local memory to where tensor copies may read it. By a warp.
inline void publish_map(global uchar *map, uint from) {
    WARP_BARRIER();
    asm volatile("//@@ tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%0], "
                 "[%1], 128;"
                 :
                 : "l"(map), "r"(from)
                 : "memory");
    asm volatile("//@@ fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" : : "l"(map) : "memory");
}

// Boxes of maps of 2, 3 and 5 dimensions, to `to`; the barrier `full` is told how many bytes have come.
#define COPY_BOX(rank, coordinates) "//@@ cp.async.bulk.tensor." rank                                                  \
    ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {" coordinates "}], [%2];"

inline void copy_box_2(uint to, const global uchar *map, uint full, uint step, uint row) {
    asm volatile(COPY_BOX("2d", "%3, %4") : : "r"(to), "l"(map), "r"(full), "r"(step), "r"(row) : "memory");
}

inline void copy_box_3(uint to, const global uchar *map, uint full, uint step, uint row, uint expert) {
    asm volatile(COPY_BOX("3d", "%3, %4, %5")
                 :
                 : "r"(to), "l"(map), "r"(full), "r"(step), "r"(row), "r"(expert)
                 : "memory");
}

// The whole of dimensions 1 and 2.
inline void copy_box_5(uint to, const global uchar *map, uint full, uint step, uint at, uint expert) {
    asm volatile(COPY_BOX("5d", "%3, %6, %6, %4, %5")
                 :
                 : "r"(to), "l"(map), "r"(full), "r"(step), "r"(at), "r"(expert), "r"(0u)
                 : "memory");
}
