# SPDX-License-Identifier: MIT
"""GGUF files by hand, and models of the Hugging Face hub as llama.cpp's converter writes them."""
import re
import struct

from arrays import Array, TYPES, count

# name: number, elements of a block, its bytes
TENSOR_TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "i32": (26, 1, 4), "q8_0": (8, 32, 34),
                "q4_1": (3, 32, 20), 4: (4, 1, 1)}
ALIGNMENT = 32


class Blocks:
    """A tensor of a block type: `data` as it lies."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self._data = dtype, tuple(shape), data

    def data(self):
        return self._data


def f16(value):
    return struct.unpack("<e", struct.pack("<e", value))[0]


def q8_0(array):
    """The blocks of an array and the array that they stand for."""
    data, values = b"", []
    for i in range(0, len(array.values), 32):
        x = array.values[i:i + 32]
        d = f16(max(map(abs, x)) / 127)
        q = [round(v / d) if d else 0 for v in x]
        data += struct.pack("<e32b", d, *q)
        values += [d * v for v in q]
    return Blocks("q8_0", array.shape, data), Array("f32", array.shape, values)


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
