// SPDX-License-Identifier: MIT
// In a kernel whose group `who` has the sums of a tile: those of the first `to_stage` pairs to y, staged from `staging`
// on in local memory, where r.base is. Other names are those of the kernels. Of each block columns n and, without GLU,
// n + 8 of y are this work-item's.
const long n0 = slot->column + who * GROUP_N;
float bias_n[BLOCKS], bias_n8[BLOCKS];
for (int block = 0; block < BLOCKS; block++) {
    const long n = n0 + block * BLOCK_N + warp * (BLOCK_N / 4) + lane / 4;
    bias_n[block] = BIAS_OF(n);
    bias_n8[block] = GLU ? BIAS_UP_OF(n) : BIAS_OF(n + 8);
}
#pragma unroll
for (int staged = 0; staged < TOKENS; staged += STAGED_PAIRS) {
    if (staged < to_stage) {
        if (staged) GROUP_BARRIER(1 + who); // what was staged before has been read
#pragma unroll
        for (int t = 0; t < STAGED_PAIRS && staged + t < TOKENS; t += 16) {
            float sums[8 * BLOCKS];
            TAKE_SUMS(sums, (staged + t) / 16);
            float weight[2][2]; // of pairs t and t + 1 of each eight
#pragma unroll
            for (int i = 0; i < 4; i++)
                weight[i / 2][i % 2] = slot->gamma[staged + t + 8 * (i / 2) + 2 * (int)(lane & 3u) + i % 2];
            // Four matrices: of either eight both halves of a block; with GLU both blocks, or twice the only one.
#pragma unroll
            for (int m = 0; m < (GLU ? 1 : BLOCKS); m++) {
                const float8 v = FINISH(EIGHT(GATE_OF), EIGHT(UP_OF), EIGHT(GATE_BIAS_OF), EIGHT(UP_BIAS_OF),
                                        EIGHT(GAMMA_OF));
                const uint packed[4] = {pack_two(v.s0, v.s1), pack_two(v.s2, v.s3), pack_two(v.s4, v.s5),
                                        pack_two(v.s6, v.s7)};
                const uint row = t + (lane >> 4) * 8 + (lane & 7u), odd = lane >> 3 & 1u;
                const uint right = odd & (BLOCKS - 1);
                const uint chunk = GLU ? right * (BLOCK_N / 8) + warp : m * (BLOCK_N / 8) + warp * 2 + odd;
                store_matrices(r.base + staging + row * STAGED_ROW + chunk * 16, packed);
            }
        }
        GROUP_BARRIER(1 + who);
        store_rows(memory + staging, slot, staged, rows, (global ushort *)y + y_skip, (uint)(y_stride / 8), n0,
                   columns);
    }
}
