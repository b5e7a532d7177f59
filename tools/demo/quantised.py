#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What formats of the experts' weights cost the demo model, in numpy alone: quantised.py [BYTES]

Each expert's weights are replaced by what their codes mean, then reference.py scores held-out text. Block formats are
packed as include/clmoe/quant.h defines them, and so are codes with scales apart.
"""
import sys

import numpy as np

import reference

F8 = np.array([(m / 8 if e == 0 else 1 + m / 8) * 2.0 ** (max(e, 1) - 7) for e in range(16) for m in range(8)][:127])


def away(x):
    """Rounded, halves away from zero. In fp32 the sum with 0.5 could be a tie that is none."""
    return np.copysign(np.floor(np.abs(x).astype(np.float64) + 0.5), x).astype(np.float32)


def to_f16(x):
    return x.astype(np.float16).astype(np.float32)


def inverse(scale):
    return np.float32(1) / scale


def q8_0(w):
    x = w.reshape(-1, 32)
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    return (to_f16(scale) * away(x * inverse(scale))).reshape(w.shape)


def q4_0(w):
    x = w.reshape(-1, 32)
    top = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    scale = top / np.float32(-8)
    codes = np.minimum(15, np.trunc(x * inverse(scale) + np.float32(8.5)))
    return (to_f16(scale) * (codes - 8)).reshape(w.shape)


def nearest_f8(x):
    """Of two codes as near the even one."""
    size = np.abs(x).astype(np.float64)
    low = np.clip(np.searchsorted(F8, size, side="right") - 1, 0, 125)
    below, above = size - F8[low], F8[low + 1] - size
    return np.copysign(F8[low + ((above < below) | ((above == below) & (low % 2 == 1)))], x)


def fp8(w):
    """Blocks of 128 x 128."""
    out = np.empty_like(w)
    for row in range(0, w.shape[0], 128):
        for column in range(0, w.shape[1], 128):
            block = w[row:row + 128, column:column + 128]
            scale = np.abs(block).max() / np.float32(448)
            out[row:row + 128, column:column + 128] = nearest_f8(block * inverse(scale)) * scale
    return out


def int8(w):
    """A scale for each row."""
    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    return away(w * inverse(scale)) * scale


def int4(w):
    """Groups of 32 in a row, from the smallest to the largest, 0 among them."""
    x = w.reshape(-1, 32)
    low, high = np.minimum(x.min(axis=1, keepdims=True), 0), np.maximum(x.max(axis=1, keepdims=True), 0)
    scale = to_f16((high - low) / np.float32(15))
    zero = np.clip(away(-low * inverse(scale)), 0, 15)
    return ((np.clip(away(x * inverse(scale)) + zero, 0, 15) - zero) * scale).reshape(w.shape)


def main(count):
    text = (reference.HERE / "heldout.txt").read_bytes()[:count]
    for quantise in (None, q8_0, q4_0, fp8, int8, int4):
        model = reference.Model(reference.HERE)
        for name in model.weights if quantise else ():
            if ".experts." in name:
                model.weights[name] = quantise(model.weights[name]).astype(np.float32)
        score, scored = reference.bits_per_byte(model, text)
        print(f"{quantise.__name__ if quantise else 'as it is':8s}  {score:.6f} bits per byte over {scored}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
