// SPDX-License-Identifier: MIT
// What multiplying work-items of wgmma_bytes.cl read of a stage.
#if TK != 128
#error "TK: 128, steps of K that have one scale"
#endif
#define PARTS (TK / 16)

// Codes of 16 steps: two of row lane / 4 of the warp's, two of that eight behind it; the same eight steps further.
inline void load_codes(const local uchar *row, int part, ushort *codes) {
    const uint lane = get_local_id(0) & 31u, turned = part ^ (lane / 4);
    const local uchar *const at = row + turned * 16 + (lane & 3u) * 2;
    codes[0] = *(const local ushort *)at;
    codes[1] = *(const local ushort *)(at + 8 * ROW);
    codes[2] = *(const local ushort *)(at + 8);
    codes[3] = *(const local ushort *)(at + 8 * ROW + 8);
}

// Of what fetch_scales has put, those of both rows of a work-item.
inline void load_units(const local uchar *memory, uint stage, uint row, float *units) {
    const local float *const at = (const local float *)(memory + UNITS_AT) + stage * W_ROWS + row;
    units[0] = at[0];
    units[1] = at[8];
}

inline void wait_for_stage(const struct ring *r, const struct turn *stage) {
    mb_wait(r->full + 8 * stage->at, stage->phase);
    if (!CONTIGUOUS) ASYNC_FENCE();
}
