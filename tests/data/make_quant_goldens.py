#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes quant/FORMAT.unpack and quant/FORMAT.pack: what the gguf package makes of block formats, ml_dtypes of fp8.

FORMAT.unpack   for each block: its bytes, then its values as f32. Random bytes, with scales that are finite; of
                fp8 all codes.
FORMAT.pack     for each block: numbers as f32, then the bytes gguf quantises them to (formats it can quantise to).

All numbers are little-endian. Run where numpy, gguf and ml_dtypes are installed:  make_quant_goldens.py DIRECTORY
The tests need none of them.
"""
import pathlib
import sys

import ml_dtypes
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

# Where a block has f16 scales
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q5_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "MXFP4": []}
ELEMENTS = 1024


def unpacked(rng, name, kind):
    block, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ELEMENTS // block, size), dtype=np.uint8)
    for at in SCALES[name]:
        blocks[:, at + 1] = np.where(blocks[:, at + 1] & 0x7C == 0x7C, blocks[:, at + 1] & 0xBF, blocks[:, at + 1])
    if name == "MXFP4":  # all kinds of scales but 255, which gguf takes for 2^128, not for NaN
        blocks[:, 0] = np.where(blocks[:, 0] == 255, 254, blocks[:, 0])
        blocks[:4, 0] = [0, 1, 2, 252]
        blocks[blocks[:, 0] > 252, 0] = 252  # no infinity
    values = dequantize(blocks, kind)
    assert np.isfinite(values).all()
    return b"".join(b.tobytes() + v.tobytes() for b, v in zip(blocks, values.reshape(-1, block)))


def packed(rng, kind):
    block, _ = GGML_QUANT_SIZES[kind]
    x = rng.standard_normal((ELEMENTS // block, block), dtype=np.float32)
    x *= np.exp2(rng.integers(-12, 12, (len(x), 1))).astype(np.float32)
    x[1] = np.round(x[1] / np.abs(x[1]).max() * 16) / 4  # ties between codes
    x[2] = 0
    top = np.log2(np.abs(x).max(axis=1, where=x != 0, initial=1e-30))
    assert (np.abs(top - np.round(top)) > 1e-5)[3:].all()  # gguf rounds log2 up close to a power of two
    blocks = quantize(x, kind).reshape(len(x), -1)
    if kind != Type.Q8_0 and kind != Type.MXFP4:
        assert blocks[2, 1] == 0x80  # -0, as ggml has it
    return b"".join(v.tobytes() + b.tobytes() for v, b in zip(x, blocks))


def all_fp8():
    codes = np.arange(256, dtype=np.uint8)
    values = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return b"".join(c.tobytes() + v.tobytes() for c, v in zip(codes, values))


def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "f8_e4m3.unpack").write_bytes(all_fp8())
    for name in SCALES:
        rng = np.random.default_rng(len(name) + sum(map(ord, name)))
        kind = Type[name]
        (folder / (name.lower() + ".unpack")).write_bytes(unpacked(rng, name, kind))
        if not name.endswith("_K"):
            (folder / (name.lower() + ".pack")).write_bytes(packed(rng, kind))


main()
