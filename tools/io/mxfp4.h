// SPDX-License-Identifier: MIT
//
// MXFP4 of the OCP Microscaling specification, as checkpoints of gpt-oss store it: blocks of 32 elements of
// E2M1, two a byte with the first in the lower half, and one scale a block, E8M0.
#ifndef CLMOE_TOOLS_IO_MXFP4_H
#define CLMOE_TOOLS_IO_MXFP4_H

#include <stddef.h>
#include <stdint.h>

#define MXFP4_BLOCK 32       // elements
#define MXFP4_BLOCK_BYTES 16 //

// Decodes `n` blocks to 32 n bf16 elements. Exact: bf16 has every product of an element and a scale, save
// those from 2^128 on, which become infinity. A scale of 255 is NaN.
void mxfp4_to_bf16(const uint8_t *blocks, const uint8_t *scales, size_t n, uint16_t *out);

#endif
