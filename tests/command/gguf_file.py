# SPDX-License-Identifier: MIT
"""GGUF files by hand, and models of the Hugging Face hub as llama.cpp's converter writes them."""
import math
import re
import struct

from arrays import Array, TYPES, count

# name: number, elements of a block, its bytes, where in it are f16
TENSOR_TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "i32": (26, 1, 4), "q4_1": (3, 32, 20), 4: (4, 1, 1),
    "q8_0": (8, 32, 34, (0,)), "q4_0": (2, 32, 18, (0,)), "q5_0": (6, 32, 22, (0,)), "mxfp4": (39, 32, 17, ()),
    "q4_k": (12, 256, 144, (0, 2)), "q5_k": (13, 256, 176, (0, 2)), "q6_k": (14, 256, 210, (208,)),
}
ALIGNMENT = 32


class Blocks:
    """A tensor of a block type: `data` as it lies."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self._data = dtype, tuple(shape), data

    def data(self):
        return self._data


def halves(data):
    """The lower half of each byte, and the upper."""
    return [b & 15 for b in data], [b >> 4 for b in data]


def decode_small(dtype, b):
    """The values of one block of 32."""
    if dtype == "q8_0":
        return [f16_at(b, 0) * q for q in struct.unpack("<32b", b[2:])]
    low, high = halves(b[-16:])
    if dtype == "mxfp4":
        steps = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
        return [2.0 ** (b[0] - 127) * (-steps[q & 7] if q & 8 else steps[q]) for q in low + high]
    fifth = int.from_bytes(b[2:6], "little") if dtype == "q5_0" else 0
    zero = 16 if dtype == "q5_0" else 8
    return [f16_at(b, 0) * (q + (fifth >> i & 1) * 16 - zero) for i, q in enumerate(low + high)]


def decode_k(dtype, b):
    """The values of one block of 256 with a scale and a minimum for each 32."""
    d, low, s, values = f16_at(b, 0), f16_at(b, 2), b[4:16], []
    for i in range(8):
        if i < 4:
            scale, minimum = s[i] & 63, s[i + 4] & 63
        else:
            scale, minimum = s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4
        qs = halves(b[-128:][i // 2 * 32:i // 2 * 32 + 32])[i % 2]
        if dtype == "q5_k":
            qs = [q | (h >> i & 1) << 4 for q, h in zip(qs, b[16:48])]
        values += [d * scale * q - low * minimum for q in qs]
    return values


def decode_q6_k(b):
    scales, values = struct.unpack("<16b", b[192:208]), []
    for i in range(256):
        half, part, l = i // 128, i // 32 % 4, i % 32
        q = halves(b[:128])[part // 2][half * 64 + part % 2 * 32 + l] | (b[128 + half * 32 + l] >> 2 * part & 3) << 4
        values.append(f16_at(b, 208) * scales[i // 16] * (q - 32))
    return values


def f16_at(data, i):
    return struct.unpack("<e", data[i:i + 2])[0]


def random_blocks(r, dtype, shape, size):
    """Blocks of random bits with values of about `size`, and the array that they stand for."""
    _, elements, length, scales = TENSOR_TYPES[dtype]
    largest = {"q8_0": 127, "q4_0": 8, "q5_0": 16, "q4_k": 15 * 63, "q5_k": 31 * 63, "q6_k": 32 * 127, "mxfp4": 6}[dtype]
    data, values = b"", []
    for _ in range(count(shape) // elements):
        b = bytearray(r.getrandbits(8) for _ in range(length))
        for at in scales:
            b[at:at + 2] = struct.pack("<e", size / largest * r.uniform(0.5, 1))
        if dtype == "mxfp4":
            b[0] = 127 + math.floor(math.log2(size / largest)) - r.randrange(2)
        data += b
        values += decode_small(dtype, b) if elements == 32 else decode_q6_k(b) if dtype == "q6_k" else decode_k(dtype, b)
    return Blocks(dtype, shape, data), Array("f32", shape, values)


def mxfp4(blocks, scales):
    """gpt-oss' [..., K/32, 16] and [..., K/32] as one tensor [..., K] of blocks."""
    data = b""
    for i, scale in enumerate(scales.values):
        low, high = halves(blocks.values[16 * i:16 * i + 16])
        q = [v for pair in zip(low, high) for v in pair]
        data += bytes([scale] + [a | b << 4 for a, b in zip(q[:16], q[16:])])
    return Blocks("mxfp4", blocks.shape[:-2] + (32 * blocks.shape[-2],), data)


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def value_bytes(value):
    """(type, bytes): u32, f32, bool, string, or a list of one of them."""
    if isinstance(value, bool):
        return 7, struct.pack("<B", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, text(value)
    kind = value_bytes(value[0])[0]
    return 9, struct.pack("<IQ", kind, len(value)) + b"".join(value_bytes(v)[1] for v in value)


def gguf_bytes(metadata, tensors):
    head, data = b"", b""
    for key, value in metadata.items():
        kind, content = value_bytes(value)
        head += text(key) + struct.pack("<I", kind) + content
    for name, t in tensors.items():
        data += bytes(-len(data) % ALIGNMENT)
        head += text(name) + struct.pack("<I%dQIQ" % len(t.shape), len(t.shape), *t.shape[::-1],
                                         TENSOR_TYPES[t.dtype][0], len(data))
        data += t.data()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)) + head
    return head + bytes(-len(head) % ALIGNMENT) + data


def save_gguf(path, metadata, tensors):
    with open(path, "wb") as f:
        f.write(gguf_bytes(metadata, tensors))


def stack(tensors):
    return Array(tensors[0].dtype, (len(tensors),) + tensors[0].shape, [v for t in tensors for v in t.values])


def transpose(t):
    """[E, a, b] to [E, b, a]."""
    e, a, b = t.shape
    return Array(t.dtype, (e, b, a), [t.values[(i * a + k) * b + j] for i in range(e) for j in range(b) for k in range(a)])


def rows(t, chosen):
    """[E, rows, ...] with some of the rows."""
    e, n = t.shape[:2]
    size = count(t.shape[2:])
    values = [v for i in range(e) for r in chosen for v in t.values[(i * n + r) * size:(i * n + r + 1) * size]]
    return Array(t.dtype, (e, len(chosen)) + t.shape[2:], values)


NAMES = {  # the ends of names
    "router.layer.weight": "ffn_gate_inp.weight", "router.weight": "ffn_gate_inp.weight",
    "gate.wg.weight": "ffn_gate_inp.weight", "router.bias": "ffn_gate_inp.bias",
    "shared_expert_gate.weight": "ffn_gate_inp_shexp.weight",
    "e_score_correction_bias": "exp_probs_b.bias", "expert_bias": "exp_probs_b.bias",
    "fc1_latent_proj.weight": "ffn_latent_down.weight", "fc2_latent_proj.weight": "ffn_latent_up.weight",
    "experts.down_proj_bias": "ffn_down_exps.bias", "output_linear.weight": "ffn_down_exps.weight",
}
PARTS = {"w1": "gate", "w3": "up", "w2": "down", "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "v1": "up"}


def split_gate_up(layer, t, interleaved, end):
    n = t.shape[1]
    layer["ffn_gate_exps." + end] = rows(t, range(0, n, 2) if interleaved else range(n // 2))
    layer["ffn_up_exps." + end] = rows(t, range(1, n, 2) if interleaved else range(n // 2, n))


def convert_tensors(tensors, experts, interleaved=False):
    """One layer's tensors without their prefix; `interleaved`: gate and up rows in turns, as gpt-oss has them."""
    layer, stacks = {}, {}
    for name, t in tensors.items():
        one = re.search(r"experts\.(\d+)\.(\w+)\.weight$", name)
        shared = re.search(r"shared_(?:expert|experts|mlp)\.(\w+)_proj\.weight$", name)
        known = [end for end in NAMES if name.endswith("." + end)]
        if one:
            stacks.setdefault(PARTS[one[2]], {})[int(one[1])] = t
        elif shared:
            layer["ffn_%s_shexp.weight" % shared[1]] = t
        elif known:
            layer[NAMES[known[0]]] = t
        elif name.endswith("experts.gate_up_proj_bias"):
            split_gate_up(layer, t, interleaved, "bias")
        elif name.endswith("experts.gate_up_proj"):
            split_gate_up(layer, transpose(t), interleaved, "weight")
        elif name.endswith("input_linear.weight"):
            split_gate_up(layer, t, interleaved, "weight")
        elif name.endswith("experts.down_proj"):
            layer["ffn_down_exps.weight"] = transpose(t)
        elif ".experts.mlp." in name:
            part = PARTS[name.split(".")[-1]]
            t = Array(t.dtype, (experts, t.shape[0] // experts, t.shape[1]), t.values)
            layer["ffn_%s_exps.weight" % part] = transpose(t) if part == "down" else t
        else:
            assert name.endswith(".gate.weight"), name
            layer["ffn_gate_inp.weight"] = t
    for part, found in stacks.items():
        layer["ffn_%s_exps.weight" % part] = stack([found[e] for e in sorted(found)])
    return layer


def as_written(layer, number, dtype):
    """Routers, vectors and biases are f32, rows of one are vectors, whatever the others are."""
    out = {}
    for name, t in layer.items():
        if name == "ffn_gate_inp_shexp.weight":
            t = Array(t.dtype, t.shape[-1:], t.values)
        plain = "gate_inp" in name or name.endswith(".bias") or len(t.shape) < 2
        out["blk.%d.%s" % (number, name)] = Array("f32" if plain else dtype, t.shape, t.values)
    return out
