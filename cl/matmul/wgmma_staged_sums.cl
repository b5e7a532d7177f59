// SPDX-License-Identifier: MIT
// In a kernel, whose names these are: sums of 64 rows of w, `block_sums`, to columns n0 .. n0 + STAGED_N - 1 of y by
// way of `staging` (wgmma_staged.cl). Columns n and, without GLU, n8 are this work-item's.
const long n = min(n0 + warp * (STAGED_N / 4) + lane / 4, columns - 1), n8 = GLU ? n : min(n + 8, columns - 1);
const float bias_n = BIAS_AT(e, n), bias_n8 = GLU ? BIAS_UP_AT(e, n) : BIAS_AT(e, n8);
#pragma unroll
for (int staged = 0; staged < TOKENS; staged += PAIRS_STEP) {
    if (staged < rows) {
        GROUP_BARRIER(1 + who); // what was staged before is in y
#pragma unroll
        for (int t8 = 0; t8 < min(PAIRS_STEP, TOKENS - staged); t8 += GLU ? 32 : 16) {
            uint packed[4];
#pragma unroll
            for (int q = 0; q < 4; q++) { // of pairs t and t + 1
                const int eight = staged + t8 + 8 * (GLU ? q : q / 2), t = eight + 2 * (int)(lane & 3u);
                const float *const own_sums = block_sums + eight / 2 + (GLU ? 0 : 2 * (q & 1));
                const float weight = slot->gamma[t], weight1 = slot->gamma[t + 1];
#if GLU
                const float a = own_sums[0], a1 = own_sums[1], b = own_sums[2], b1 = own_sums[3];
                const float low = FINISH(up_first ? b : a, up_first ? a : b, bias_n, bias_n8, weight);
                const float high = FINISH(up_first ? b1 : a1, up_first ? a1 : b1, bias_n, bias_n8, weight1);
                packed[q] = pack_two(low, high);
#else
                const float bias_q = q & 1 ? bias_n8 : bias_n;
                packed[q] = pack_two(FINISH(own_sums[0], 0.0f, bias_q, 0.0f, weight),
                                     FINISH(own_sums[1], 0.0f, bias_q, 0.0f, weight1));
#endif
            }
            const uint t = t8 + (GLU ? lane : (lane >> 4) * 8 + (lane & 7u));
            const uint chunk = GLU ? warp : warp * 2 + (lane >> 3 & 1u);
            store_matrices((uint)(size_t)staging + staged_at(t, chunk), packed);
        }
        GROUP_BARRIER(1 + who);
        store_rows(staging, slot, staged, (global ushort *)y + y_skip, y_stride, aligned, n0, columns);
    }
}
