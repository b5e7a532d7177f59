# SPDX-License-Identifier: MIT
"""clmoe moe on checkpoints of the hub with quantised experts: fp8 with scales of blocks, AWQ, GPTQ. Each gives what the
f32 that it stands for gives."""
import json
import os
import random
import struct

import command
from arrays import Array, count, load_safetensors, save_safetensors

H, I, E, K = 64, 40, 4, 2
PREFIX = "model.layers.0.mlp."
QWEN2 = {"model_type": "qwen2_moe", "hidden_size": H, "num_hidden_layers": 1, "num_experts": E, "num_experts_per_tok": K,
         "moe_intermediate_size": I, "norm_topk_prob": False, "hidden_act": "silu"}
SHAPES = {"%s.gate_proj": (I, H), "%s.up_proj": (I, H), "%s.down_proj": (H, I)}
AWQ_ORDER = 0, 2, 4, 6, 1, 3, 5, 7


def f8_value(bits):
    sign, exponent, mantissa = -1 if bits & 128 else 1, bits >> 3 & 15, bits & 7
    return sign * (2.0 ** (exponent - 7) * (1 + mantissa / 8) if exponent else 2.0 ** -6 * mantissa / 8)


def f16_value(value):
    return struct.unpack("<e", struct.pack("<e", value))[0]


def words(rows):
    """Rows of eight numbers of four bits each, the first in the lowest bits, as i32."""
    return [struct.unpack("<i", struct.pack("<I", sum(v << 4 * i for i, v in enumerate(row))))[0] for row in rows]


class Fp8:
    """[rows, columns] in blocks of 16 x 32, whatever is left at the ends."""
    config = {"quant_method": "fp8", "weight_block_size": [16, 32], "activation_scheme": "dynamic"}
    tolerance = 1e-5
    scale_type = "f32"

    def matrix(self, r, name, rows, columns):
        bits = [r.choice([b for b in range(256) if b & 127 < 0x70]) for _ in range(rows * columns)]
        down, across = -(-rows // 16), -(-columns // 32)
        scales = Array(self.scale_type, (down, across), [r.uniform(0.5, 1) / 512 for _ in range(down * across)]).rounded()
        values = [f8_value(b) * scales.values[i // columns // 16 * across + i % columns // 32] for i, b in enumerate(bits)]
        return {name + ".weight": Array("f8_e4m3", (rows, columns), bits), name + ".weight_scale_inv": scales}, values


class Fp8Bf16(Fp8):
    scale_type = "bf16"


class Int4:
    """Groups of 16 columns, the last one maybe smaller."""
    group, tolerance = 16, 1e-5

    def draw(self, r, rows, columns, group_of):
        groups = max(map(group_of, range(columns))) + 1
        q = [[r.randrange(16) for _ in range(columns)] for _ in range(rows)]
        zeros = [[r.randrange(1, 16) for _ in range(rows)] for _ in range(groups)]
        scales = [[f16_value(r.uniform(0.5, 1) / 64) for _ in range(rows)] for _ in range(groups)]
        values = [(q[i][c] - zeros[group_of(c)][i]) * scales[group_of(c)][i] for i in range(rows) for c in range(columns)]
        return q, zeros, Array("f16", (groups, rows), [v for row in scales for v in row]), values


class Awq(Int4):
    config = {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True, "version": "gemm"}

    def matrix(self, r, name, rows, columns):
        q, zeros, scales, values = self.draw(r, rows, columns, lambda c: c // self.group)
        pack = lambda row: words([[row[i + n] for n in AWQ_ORDER] for i in range(0, rows, 8)])
        qweight = [w for c in range(columns) for w in pack([q[i][c] for i in range(rows)])]
        return {name + ".qweight": Array("i32", (columns, rows // 8), qweight),
                name + ".qzeros": Array("i32", (len(zeros), rows // 8), [w for z in zeros for w in pack(z)]),
                name + ".scales": scales}, values


class Gptq(Int4):
    config = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False, "sym": False}
    less, listed, shuffled = 1, True, False

    def matrix(self, r, name, rows, columns):
        groups = [c // self.group for c in range(columns)]
        if self.shuffled:
            r.shuffle(groups)
        q, zeros, scales, values = self.draw(r, rows, columns, lambda c: groups[c])
        qweight = [w for c in range(0, columns, 8) for w in words([row[c:c + 8] for row in q])]
        qzeros = [w for z in zeros for w in words([[v - self.less for v in z[i:i + 8]] for i in range(0, rows, 8)])]
        found = {name + ".qweight": Array("i32", (columns // 8, rows), qweight),
                 name + ".qzeros": Array("i32", (len(zeros), rows // 8), qzeros), name + ".scales": scales}
        if self.listed:
            found[name + ".g_idx"] = Array("i32", (columns,), groups)
        return found, values


class GptqV2(Gptq):
    config = dict(Gptq.config, checkpoint_format="gptq_v2")
    less, listed = 0, False


class GptqByActivation(Gptq):
    """The command makes f16 of it."""
    config = dict(Gptq.config, desc_act=True)
    shuffled, tolerance = True, 2e-3


class AwqOfEight(Awq):
    """Smaller groups than the device takes."""
    config = dict(Awq.config, group_size=8)
    group, tolerance = 8, 2e-3


class GptqOneGroup(Gptq):
    """A scale for each row."""
    config = dict(Gptq.config, group_size=-1)
    group = 1 << 20


class Quantised(command.CommandTest):
    def write(self, folder, config, tensors):
        os.makedirs(self.path(folder), exist_ok=True)
        with open(self.path(folder + "/config.json"), "w") as f:
            json.dump(config, f)
        save_safetensors(self.path(folder + "/model.safetensors"), tensors)

    def make(self, form):
        """(quantised tensors, f32 tensors)"""
        r = random.Random(3)
        same = {"gate.weight": Array("f32", (E, H), [r.gauss(0, 0.2) for _ in range(E * H)]),
                "shared_expert_gate.weight": Array("bf16", (1, H), [r.gauss(0, 0.2) for _ in range(H)]).rounded()}
        quantised, plain = dict(same), dict(same, **{"shared_expert_gate.weight": Array(
            "f32", (1, H), same["shared_expert_gate.weight"].values)})
        for expert in ["experts.%d" % e for e in range(E)] + ["shared_expert"]:
            for name, (rows, columns) in SHAPES.items():
                found, values = form.matrix(r, name % expert, rows, columns)
                quantised.update(found)
                plain[name % expert + ".weight"] = Array("f32", (rows, columns), values)
        return [{PREFIX + n: t for n, t in tensors.items()} for tensors in (quantised, plain)]

    def run_moe(self, folder, tokens, *more):
        r = random.Random(4)
        x = self.save("x.npy", Array("f32", (tokens, H), [r.gauss(0, 1) for _ in range(tokens * H)]))
        self.good("moe", "--model", folder, "--layer", 0, "--input", x, "--output", "y.safetensors:y", *more)
        return load_safetensors(self.path("y.safetensors"))["y"].values

    def check(self, form):
        self.compare(form, *self.make(form))

    def compare(self, form, quantised, plain, *options):
        self.write("quantised", dict(QWEN2, quantization_config=form.config), quantised)
        self.write("plain", QWEN2, plain)
        for tokens, more in (3, ()), (40, ("--experts-per-buffer", 3)), (3, ("--device-budget", 20000)):
            with self.subTest(tokens=tokens):
                wanted = self.run_moe("plain", tokens)
                limit = form.tolerance * max(map(abs, wanted))
                self.check_close(self.run_moe("quantised", tokens, *more, *options), wanted, limit)

    def test_fp8(self):
        self.check(Fp8())

    def test_fp8_scales_in_bf16(self):
        self.check(Fp8Bf16())

    def test_fp8_stacked(self):
        """All experts in one tensor, gate and up together, and their scales."""
        r, form = random.Random(5), Fp8()
        quantised, plain = self.make(form)
        for name, (rows, columns) in ("gate_up_proj", (2 * I, H)), ("down_proj", (H, I)):
            parts, values = zip(*(form.matrix(r, "x", rows, columns) for _ in range(E)))
            for end, suffix in ("weight", ""), ("weight_scale_inv", "_scale_inv"):
                stack = [p["x." + end] for p in parts]
                quantised[PREFIX + "experts." + name + suffix] = Array(
                    stack[0].dtype, (E,) + stack[0].shape, [v for t in stack for v in t.values])
            plain[PREFIX + "experts." + name] = Array("f32", (E, rows, columns), [v for part in values for v in part])
        for tensors in quantised, plain:
            for name in [n for n in tensors if ".experts." in n and n.split(".")[-3].isdigit()]:
                del tensors[name]
        self.compare(form, quantised, plain)

    def test_gptq_stacked(self):
        """All experts in one tensor, the groups of each in another order: a form that --options may name."""
        form = GptqByActivation()
        quantised, plain = self.make(form)
        for name in "gate_proj", "up_proj", "down_proj":
            for end in "qweight", "qzeros", "scales", "g_idx":
                stack = [quantised.pop("%sexperts.%d.%s.%s" % (PREFIX, e, name, end)) for e in range(E)]
                quantised["%s%s.%s" % (PREFIX, name, end)] = Array(
                    stack[0].dtype, (E,) + stack[0].shape, [v for t in stack for v in t.values])
        options = {"like": "qwen2_moe", **{n: n + ".weight" for n in ("gate_proj", "up_proj", "down_proj")}}
        with open(self.path("o.json"), "w") as f:
            json.dump(options, f)
        self.compare(form, quantised, plain, "--options", "o.json")
        quantised[PREFIX + "up_proj.g_idx"].values[-1] = 4
        self.write("bad", dict(QWEN2, quantization_config=form.config), quantised)
        _, _, err = self.run_command("moe", "--model", "bad", "--layer", 0, "--input", "x.npy", "--output", "y.npy",
                                     "--options", "o.json")
        self.assertIn("up_proj.g_idx\": group 4, expected 0..3", err)

    def test_awq(self):
        self.check(Awq())

    def test_gptq(self):
        self.check(Gptq())

    def test_gptq_v2(self):
        self.check(GptqV2())

    def test_gptq_by_activation(self):
        self.check(GptqByActivation())

    def test_awq_of_eight(self):
        self.check(AwqOfEight())

    def test_gptq_one_group(self):
        self.check(GptqOneGroup())

    def refused(self, form, message, config=None, **changes):
        """With other tensors, by the ends of their names."""
        quantised, _ = self.make(form)
        for end, t in changes.items():
            end = end.replace("__", ".")
            names = [n for n in quantised if n.endswith("experts.1.up_proj." + end)]
            quantised.update({n: t for n in names} if t else {})
            for n in names if t is None else ():
                del quantised[n]
        self.write("bad", dict(QWEN2, quantization_config=config or form.config), quantised)
        self.save("x.npy", Array("f32", (1, H), [0] * H))
        code, out, err = self.run_command("moe", "--model", "bad", "--layer", 0, "--input", "x.npy", "--output", "y.npy")
        self.assertEqual((code, out, err.count("\n")), (2, "", 1), err)
        self.assertIn(message, err)

    def test_refuses_tensors(self):
        up = PREFIX + "experts.1.up_proj."
        zeros = lambda dtype, *shape: Array(dtype, shape, [0] * count(shape))
        self.refused(Fp8(), 'no tensor "%sweight_scale_inv"' % up, weight_scale_inv=None)
        self.refused(Fp8(), '"%sweight_scale_inv" has shape (3, 1), expected (3, 2) by config.json' % up,
                     weight_scale_inv=zeros("f32", 3, 1))
        self.refused(Fp8(), '"%sweight_scale_inv" holds F16, expected F32' % up, weight_scale_inv=zeros("f16", 3, 2))
        self.refused(Fp8(), '"%sweight" holds f32, but other experts\' weights f8_e4m3' % up, weight=zeros("f32", I, H))
        self.refused(Awq(), 'no tensor "%sscales"' % up, scales=None)
        self.refused(Awq(), '"%sqweight" has shape (8, 40), expected (64, 5)' % up, qweight=zeros("i32", 8, 40))
        self.refused(Awq(), '"%sqzeros" holds F32, expected I32' % up, qzeros=zeros("f32", 4, 5))
        self.refused(Gptq(), '"%sscales" has shape (7, 40), expected (4, 40)' % up, scales=zeros("f16", 7, 40))
        for bad in -1, 4:
            self.refused(Gptq(), '"%sg_idx": group %d, expected 0..3' % (up, bad), g_idx=Array("i32", (H,), [0] * 9 + [bad] * 55))

    def test_refuses_blocks_outside_of_gguf(self):
        """Safetensors leaves open how long a tensor of such a type is: this one has too few bytes for its shape."""
        quantised, _ = self.make(Fp8())
        for dtype in "Q8_0", "Q4_0", "MXFP4":
            quantised[PREFIX + "experts.0.gate_proj.weight"] = Array("f32", (I, H), [0] * I * H)
            self.write("bad", QWEN2, quantised)
            with open(self.path("bad/model.safetensors"), "rb") as f:
                data = f.read()
            size, = struct.unpack("<Q", data[:8])
            header = json.loads(data[8:8 + size])
            gate = header[PREFIX + "experts.0.gate_proj.weight"]
            begin, end = gate["data_offsets"]
            gate.update(dtype=dtype, data_offsets=[begin, begin + 1])
            for t in header.values():
                if t is not gate and t.get("data_offsets", [0])[0] >= end:
                    t["data_offsets"] = [at - (end - begin - 1) for at in t["data_offsets"]]
            text = json.dumps(header).encode()
            with open(self.path("bad/model.safetensors"), "wb") as f:
                f.write(struct.pack("<Q", len(text)) + text + data[8 + size:8 + size + begin + 1] + data[8 + size + end:])
            self.save("x.npy", Array("f32", (1, H), [0] * H))
            code, out, err = self.run_command("moe", "--model", "bad", "--layer", 0, "--input", "x.npy", "--output", "y.npy")
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), err)
            self.assertIn('experts.0.gate_proj.weight": blocks of %s, which only GGUF files have' % dtype, err)

    def test_refuses_configurations(self):
        key = "config.json: quantization_config."
        for form, change, message in (
                (Fp8(), {"weight_block_size": [16]}, key + "weight_block_size: expected 2 sizes, got 1"),
                (Fp8(), {"weight_block_size": None}, key + "weight_block_size: missing"),
                (Fp8(), {"weight_block_size": [16, 0]}, key + "weight_block_size: expected a list of at most 2 integers"),
                (Fp8(), {"quant_method": "other"}, 'gate_proj.weight" holds F8_E4M3, without quantization_config.quant_method'),
                (Awq(), {"bits": 8}, key + "bits: expected an integer in 4..4, got 8"),
                (Awq(), {"group_size": 0}, key + "group_size: expected -1 or a multiple of 8, got 0"),
                (Awq(), {"group_size": 12}, key + "group_size: expected -1 or a multiple of 8, got 12"),
                (Awq(), {"version": "gemv"}, key + 'version: expected one of gemm, GEMM, got "gemv"'),
                (Awq(), {"zero_point": False}, key + "zero_point: expected true, got false"),
                (Gptq(), {"checkpoint_format": "marlin"}, key + 'checkpoint_format: expected one of gptq, gptq_v2, got "marlin"'),
                (Gptq(), {"quant_method": "other"}, 'qweight" without quantization_config.quant_method "awq" or "gptq"')):
            with self.subTest(change=change):
                self.refused(form, message, dict(form.config, **change))


if __name__ == "__main__":
    command.main([Quantised])
