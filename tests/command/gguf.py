# SPDX-License-Identifier: MIT
"""clmoe moe and clmoe route on GGUF files: the goldens of tests/data/families as llama.cpp's converter would write them,
and what is wrong with files."""
import json
import math
import os
import random
import struct

import command
import families
from arrays import Array, count, load_safetensors
from gguf_file import (TENSOR_TYPES, Blocks, as_written, convert_tensors, gguf_bytes, mxfp4, random_blocks, rows,
                       save_gguf)

# family: architecture, options beside those that the configuration has by the keys below, options of the command
FAMILIES = {
    "mixtral": ("llama", {}, {}),
    "qwen2_moe": ("qwen2moe", {}, {}),
    "qwen3_moe": ("qwen3moe", {}, {}),
    "qwen3_next": ("qwen3next", {}, {}),
    "olmoe": ("olmoe", {}, {}),
    "deepseek_v2": ("deepseek2", {"expert_gating_func": 1}, {}),
    "deepseek_v3": ("deepseek2", {"expert_gating_func": 2}, {}),
    "glm4_moe": ("glm4moe", {"expert_gating_func": 2}, {}),
    "glm4_moe_lite": ("deepseek2", {"expert_gating_func": 2, "leading_dense_block_count": 1}, {}),
    "dots1": ("dots1", {"expert_gating_func": 2}, {}),
    "gpt_oss": ("gpt-oss", {}, {}),
    "granitemoe": ("granitemoe", {}, {}),
    "llama4": ("llama4", {}, {}),
    "phimoe": ("phimoe", {}, {"like": "phimoe", "mixer_eps": 0.1}),
    "jamba": ("jamba", {}, {}),
    "dbrx": ("dbrx", {}, {}),
    "minimax": ("minimax-01", {}, {}),
    "minimax_m2": ("minimax-m2", {"expert_gating_func": 2}, {}),
    "ernie4_5_moe": ("ernie4_5-moe", {}, {}),
    "hunyuan_v1_moe": ("hunyuan-moe", {}, {}),
    "lfm2_moe": ("lfm2moe", {"expert_gating_func": 2}, {}),
    "nemotron_h": ("nemotron_h_moe", {}, {}),
    "nemotron_h_latent": ("nemotron_h_moe", {}, {}),
}
# Where the converter finds an option.
KEYS = {
    "embedding_length": ("hidden_size", "d_model"),
    "expert_count": ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"),
    "expert_used_count": ("moe_topk", "num_experts_per_tok", "moe_top_k", "moe_k"),
    "feed_forward_length": ("intermediate_size", "ffn_hidden_size"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_count": ("n_shared_experts", "moe_num_shared_experts"),
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
    "expert_weights_scale": ("routed_scaling_factor",),
    "expert_weights_norm": ("norm_topk_prob",),
    "leading_dense_block_count": ("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"),
    "interleave_moe_layer_step": ("interleave_moe_layer_step", "moe_layer_interval"),
    "moe_latent_size": ("moe_latent_size",),
}
# What an architecture's files do not have.
WITHOUT = {"lfm2moe": {"expert_weights_norm", "expert_weights_scale"}, "qwen2moe": {"expert_weights_norm"},
           "qwen3moe": {"expert_weights_norm"}, "qwen3next": {"expert_weights_norm"}, "qwen35moe": {"expert_weights_norm"},
           "olmoe": {"expert_weights_norm"},
           "llama4": {"expert_feed_forward_length"}}


def options(architecture, config, more):
    config = dict(config, **config.get("text_config", {}))
    config.update(config.get("ffn_config") or {})
    found = {"block_count": 2}
    for key, names in KEYS.items():
        values = [config[n] for n in names if config.get(n) is not None]
        if values and key not in WITHOUT.get(architecture, ()):
            found[key] = float(values[0]) if key == "expert_weights_scale" else values[0]
    found.update(more)
    return {"general.architecture": architecture, "general.alignment": 32,
            **{"%s.%s" % (architecture, key): value for key, value in found.items()}}


def load_layer(family):
    """(config, tensors without a prefix, goldens)"""
    folder = os.path.join(data, family)
    with open(folder + "/config.json") as f:
        config = json.load(f)
    return config, families.load_tensors(folder), load_safetensors(folder + "/golden.safetensors")


def convert(family, dtype="bf16", architecture=None):
    """(metadata, tensors)"""
    usual, more, _ = FAMILIES[family]
    architecture = architecture or usual
    config, tensors, _ = load_layer(family)
    metadata = options(architecture, config, more)
    layer = convert_tensors(tensors, metadata[architecture + ".expert_count"], family == "gpt_oss")
    return metadata, as_written(layer, 1, dtype)


class Models(families.Goldens):
    def write(self, family, dtype="bf16"):
        metadata, tensors = convert(family, dtype)
        save_gguf(self.path("m.gguf"), metadata, tensors)
        with open(self.path("options.json"), "w") as f:
            json.dump(FAMILIES[family][2], f)
        return "m.gguf", ["--options", "options.json"] * bool(FAMILIES[family][2])

    def check(self, family, dtype, x_dtype):
        model, more = self.write(family, dtype)
        folder = os.path.join(data, family)
        golden = load_safetensors(folder + "/golden.safetensors")
        self.check_moe(folder, golden, x_dtype, *more, model=model)
        if x_dtype + ".logits" not in golden:
            return
        self.good("route", "%s/golden.safetensors:%s.logits" % (folder, x_dtype), "--config", model, "--layer", 1,
                  "--ids", "i.npy", "--weights", "w.npy", *more)
        self.check_routing(golden, x_dtype)

    def test_types(self):
        """Beside bf16 weights with f32 activations, which the other tests have."""
        for dtype, x_dtype in ("f16", "f32"), ("bf16", "bf16"):
            with self.subTest(dtype=dtype, x_dtype=x_dtype):
                self.check("qwen2_moe", dtype, x_dtype)

    def test_layers_without_experts(self):
        for family, key in (("deepseek_v3", "leading_dense_block_count"), ("ernie4_5_moe", "leading_dense_block_count"),
                            ("llama4", "interleave_moe_layer_step"), ("jamba", None)):
            with self.subTest(family=family):
                self.write(family)
                architecture = FAMILIES[family][0]
                reason = "m.gguf: %s: %s: " % (architecture, key) if key else 'm.gguf: no tensor "blk.0.ffn_gate_inp.weight": '
                x = load_layer(family)[2]["f32.x"]
                code, _, err = self.run_command("moe", "--model", "m.gguf", "--layer", 0, "--input", self.save("x.npy", x),
                                                "--output", "y.npy")
                self.assertEqual((code, err), (2, "clmoe moe: %slayer 0 has no experts\n" % reason))

    def test_relatives(self):
        """Architectures without goldens of their own, that do what others do."""
        for family, architecture in (("deepseek_v3", "bailingmoe2"), ("granitemoe", "granitehybrid"),
                                     ("qwen3_moe", "qwen3vlmoe"), ("qwen3_next", "qwen35moe"),
                                     ("deepseek_v3", "deepseek32"), ("glm4_moe", "glm-dsa")):
            with self.subTest(architecture=architecture):
                save_gguf(self.path("m.gguf"), *convert(family, architecture=architecture))
                self.check_moe(os.path.join(data, family), load_layer(family)[2], "f32", model="m.gguf")

    def test_parts(self):
        """A model in three files."""
        metadata, tensors = convert("qwen3_moe")
        names = list(tensors)
        for i in range(3):
            parts = {"split.no": i, "split.count": 3, "split.tensors.count": len(names)}
            save_gguf(self.path("m-%05d-of-00003.gguf" % (i + 1)), dict(parts, **metadata) if i == 0 else parts,
                      {n: tensors[n] for n in names[i::3]})
        folder = os.path.join(data, "qwen3_moe")
        self.check_moe(folder, load_layer("qwen3_moe")[2], "f32", model="m-00001-of-00003.gguf")

    def test_experts_one_by_one(self):
        """As files of Mixtral were before experts were stacked."""
        metadata, tensors = convert("mixtral")
        for part in "gate", "up", "down":
            stack = tensors.pop("blk.1.ffn_%s_exps.weight" % part)
            size = count(stack.shape[1:])
            for e in range(stack.shape[0]):
                tensors["blk.1.ffn_%s.%d.weight" % (part, e)] = Array(stack.dtype, stack.shape[1:],
                                                                      stack.values[e * size:e * size + size])
        save_gguf(self.path("m.gguf"), metadata, tensors)
        self.check_moe(os.path.join(data, "mixtral"), load_layer("mixtral")[2], "f32", model="m.gguf")

    def test_gate_and_up_together(self):
        metadata, tensors = convert("qwen3_next")
        gate, up = (tensors.pop("blk.1.ffn_%s_exps.weight" % part) for part in ("gate", "up"))
        n = count(gate.shape[1:])
        values = [v for e in range(gate.shape[0]) for t in (gate, up) for v in t.values[e * n:e * n + n]]
        tensors["blk.1.ffn_gate_up_exps.weight"] = Array("bf16", (gate.shape[0], 2 * gate.shape[1], gate.shape[2]), values)
        save_gguf(self.path("m.gguf"), metadata, tensors)
        self.check_moe(os.path.join(data, "qwen3_next"), load_layer("qwen3_next")[2], "f32", model="m.gguf")

    def test_many_tokens_with_biases(self):
        """Gate and up become one when weights are packed; their biases do not move."""
        model, _ = self.write("gpt_oss")
        golden = load_layer("gpt_oss")[2]
        x, times = golden["f32.x"], 16
        many = Array("f32", (times * x.shape[0], x.shape[1]), x.values * times)
        for option in (), ("--experts-per-buffer", 3):
            y = self.run_moe(model, self.save("x.npy", many), *option)
            for error in families.errors(y.values, golden["f32.y"].values * times):
                self.assertLessEqual(error, families.TOLERANCE["f32"][0])

    def write_blocks(self, hidden, inter, types):
        """blocks.gguf and plain.gguf, with the f32 that the blocks stand for; `types` of (gate and up, down, shared)."""
        r = random.Random(1)
        metadata = {"general.architecture": "qwen2moe", "qwen2moe.block_count": 2, "qwen2moe.embedding_length": hidden,
                    "qwen2moe.expert_feed_forward_length": inter, "qwen2moe.expert_count": 3,
                    "qwen2moe.expert_used_count": 2}
        shapes = {"ffn_gate_inp": (3, hidden), "ffn_gate_inp_shexp": (hidden,), "ffn_gate_exps": (3, inter, hidden),
                  "ffn_up_exps": (3, inter, hidden), "ffn_down_exps": (3, hidden, inter), "ffn_gate_shexp": (inter, hidden),
                  "ffn_up_shexp": (inter, hidden), "ffn_down_shexp": (hidden, inter)}
        plain, blocks = {}, {}
        for name, shape in shapes.items():
            dtype = types[2 if name.endswith("shexp") else 1 if "down" in name else 0]
            if "inp" in name or len(TENSOR_TYPES[dtype]) < 4:
                values = [r.gauss(0, 2 / math.sqrt(hidden)) for _ in range(count(shape))]
                t = Array("f32" if "inp" in name else dtype, shape, values).rounded()
                found = t, Array("f32", shape, t.values)
            else:
                found = random_blocks(r, dtype, shape, 4 / math.sqrt(hidden))
            blocks["blk.1.%s.weight" % name], plain["blk.1.%s.weight" % name] = found
        save_gguf(self.path("plain.gguf"), metadata, plain)
        save_gguf(self.path("blocks.gguf"), metadata, blocks)

    def check_blocks(self, hidden, inter, types, tokens, *options):
        self.write_blocks(hidden, inter, types)
        r = random.Random(2)
        x = self.save("x.npy", Array("f32", (tokens, hidden), [r.gauss(0, 1) for _ in range(tokens * hidden)]))
        wanted, y = self.run_moe("plain.gguf", x), self.run_moe("blocks.gguf", x, *options)
        self.check_close(y.values, wanted.values, 1e-5 * max(map(abs, wanted.values)))

    def test_blocks(self):
        """Blocks give what the f32 that they stand for gives; the down projection often has other ones."""
        for types, size in (("q4_0", "q5_0", "mxfp4"), 64), (("q4_k", "q6_k", "q5_k"), 256):
            with self.subTest(types=types):
                self.check_blocks(size, size, types, 3)

    def test_blocks_of_many(self):
        for options in (), ("--experts-per-buffer", 2):
            self.check_blocks(64, 32, ("q8_0", "q4_0", "mxfp4"), 40, *options)

    def test_floats_of_two_types(self):
        """Packed or not."""
        for tokens in 3, 40:
            self.check_blocks(64, 32, ("bf16", "f16", "f16"), tokens)

    def test_gpt_oss_mxfp4(self):
        config, tensors, golden = load_layer("gpt_oss_mxfp4")
        prefix = "model.layers.1.mlp.experts."
        packed = {}
        for name in "gate_up_proj", "down_proj":
            parts = [tensors.pop(prefix + name + end) for end in ("_blocks", "_scales")]
            n = parts[0].shape[1]
            for part, chosen in (("gate", range(0, n, 2)), ("up", range(1, n, 2))) if "up" in name else (("down", range(n)),):
                packed["blk.1.ffn_%s_exps.weight" % part] = mxfp4(*(rows(p, chosen) for p in parts))
        layer = as_written(convert_tensors(tensors, config["num_local_experts"], True), 1, "bf16")
        save_gguf(self.path("m.gguf"), options("gpt-oss", config, {}), {**layer, **packed})
        self.check_moe(os.path.join(data, "gpt_oss_mxfp4"), golden, "f32", model="m.gguf")


def add_family(family):
    setattr(Models, "test_" + family, lambda self: self.check(family, "bf16", "f32"))


MIXTRAL = {"general.architecture": "llama", "llama.block_count": 2, "llama.embedding_length": 3,
           "llama.feed_forward_length": 2, "llama.expert_count": 4, "llama.expert_used_count": 2}
LAYER = {"blk.1.ffn_gate_inp.weight": (4, 3), "blk.1.ffn_gate_exps.weight": (4, 2, 3),
         "blk.1.ffn_up_exps.weight": (4, 2, 3), "blk.1.ffn_down_exps.weight": (4, 3, 2)}


def without(table, key):
    return {k: v for k, v in table.items() if k != key}


def zeros(shape, dtype="f32"):
    return Array(dtype, shape, [0] * count(shape))


def layer(**changes):
    """LAYER in f32 with other tensors, by their names without blk.1. and .weight; None takes one away."""
    tensors = {n: zeros(s) for n, s in LAYER.items()}
    for name, t in changes.items():
        tensors["blk.1.%s.weight" % name] = t
    return {n: t for n, t in tensors.items() if t is not None}


MODEL_TABLE = [  # metadata, tensors, what the error says behind "m.gguf: "
    (without(MIXTRAL, "general.architecture"), layer(), "general.architecture: missing, expected a string"),
    (dict(MIXTRAL, **{"general.architecture": 7}), layer(), "general.architecture: expected a string, got 7"),
    (dict(MIXTRAL, **{"general.architecture": "gpt2"}), layer(), 'general.architecture: "gpt2" is not known'),
    (without(MIXTRAL, "llama.expert_count"), layer(), "llama: expert_count: missing, expected an integer in 1..4096"),
    (dict(MIXTRAL, **{"llama.expert_count": 0}), layer(), "llama: expert_count: expected an integer in 1..4096, got 0"),
    (dict(MIXTRAL, **{"llama.expert_used_count": 5}), layer(), "llama: expert_used_count: expected an integer in 1..4, got 5"),
    (dict(MIXTRAL, **{"llama.expert_gating_func": 3}), layer(), "llama: expert_gating_func: expected one of 1, 2, 4, got 3"),
    (without(MIXTRAL, "llama.feed_forward_length"), layer(), "llama: feed_forward_length: missing"),
    (without(MIXTRAL, "llama.embedding_length"), layer(), "llama: embedding_length: missing"),
    (dict(MIXTRAL, **{"llama.block_count": 1}), layer(), "--layer: 1, but the model has layers 0..0"),
    (MIXTRAL, {}, 'no tensor "blk.1.ffn_gate_inp.weight": layer 1 has no experts'),
    (MIXTRAL, layer(ffn_up_exps=None), 'no tensor "blk.1.ffn_up_exps.weight" among 3'),
    (MIXTRAL, layer(ffn_gate_inp=zeros((3, 4))), '"blk.1.ffn_gate_inp.weight" has shape (3, 4), expected (4, 3) by its metadata'),
    (MIXTRAL, layer(ffn_down_exps=zeros((4, 2, 3))),
     '"blk.1.ffn_down_exps.weight" has shape (4, 2, 3), expected (4, 3, 2) by its metadata'),
    (MIXTRAL, layer(ffn_up_exps=zeros((4, 2, 3), "f16")),
     '"blk.1.ffn_up_exps.weight" holds f16, but other experts\' weights f32'),
    (MIXTRAL, layer(ffn_gate_inp=zeros((4, 3), "i32")), '"blk.1.ffn_gate_inp.weight" holds i32, expected f32, f16 or bf16'),
    (MIXTRAL, layer(ffn_gate_exps=zeros((4, 2, 3), "i32")),
     '"blk.1.ffn_gate_exps.weight" holds I32, expected one of F32, F16, BF16'),
    (MIXTRAL, layer(ffn_gate_exps=Blocks(4, (4, 2, 3), bytes(24))),
     '"blk.1.ffn_gate_exps.weight" holds a type of no known number, expected one of F32, F16, BF16, '
     'Q8_0, Q4_0, Q5_0, Q4_K, Q5_K, Q6_K, MXFP4'),
    (dict(MIXTRAL, **{"llama.feed_forward_length": 32}),
     layer(ffn_gate_exps=zeros((4, 32, 3)), ffn_up_exps=zeros((4, 32, 3)), ffn_down_exps=Blocks("q4_1", (4, 3, 32), bytes(240))),
     '"blk.1.ffn_down_exps.weight" holds Q4_1, expected one of F32, F16, BF16'),
    (dict(MIXTRAL, **{"general.architecture": "qwen2moe", **{"qwen2moe." + k[6:]: v for k, v in MIXTRAL.items()}}), layer(),
     'no tensor "blk.1.ffn_up_shexp.weight" among 4'),
]


class Bad(command.CommandTest):
    def check(self, content, message, *more):
        with open(self.path("m.gguf"), "wb") as f:
            f.write(content)
        self.save("x.npy", zeros((2, 3)))
        code, out, err = self.run_command("moe", "--model", "m.gguf", "--layer", 1, "--input", "x.npy", "--output", "y.npy",
                                          *more)
        self.assertEqual((code, out, err.count("\n")), (2, "", 1))
        self.assertIn(message, err)
        self.assertFalse(os.path.exists(self.path("y.npy")))

    def test_table(self):
        for metadata, tensors, message in MODEL_TABLE:
            with self.subTest(message=message):
                self.check(gguf_bytes(metadata, tensors), message)

    def test_files(self):
        good = gguf_bytes(MIXTRAL, layer())
        self.check(b"GGML" + good[4:], "m.gguf: does not begin with GGUF: not a GGUF file")
        self.check(good[:4] + struct.pack(">I", 3) + good[8:], "m.gguf: is a big-endian GGUF file")
        self.check(good[:4] + struct.pack("<I", 1) + good[8:], "m.gguf: is GGUF of version 1, expected 2 or 3")
        self.check(good[:-40], "truncated?")
        self.check(b"", "m.gguf: does not begin with GGUF")

    def test_blocks_in_the_other_order(self):
        tensors = layer(ffn_gate_inp=zeros((4, 32)), ffn_gate_exps=Blocks("q8_0", (4, 32, 32), bytes(4352)),
                        ffn_up_exps=Blocks("q8_0", (4, 32, 32), bytes(4352)), ffn_down_exps=zeros((4, 32, 32)))
        with open(self.path("o.json"), "w") as f:
            json.dump({"like": "llama", "w1_order": "ekn"}, f)
        metadata = dict(MIXTRAL, **{"llama.embedding_length": 32, "llama.feed_forward_length": 32})
        self.save("x32.npy", zeros((2, 32)))
        self.check(gguf_bytes(metadata, tensors), '"blk.1.ffn_gate_exps.weight": blocks of Q8_0 with the order ekn',
                   "--options", "o.json", "--input", "x32.npy")

    def test_bias_of_routes(self):
        metadata = {k.replace("llama", "minimax-m2"): v for k, v in MIXTRAL.items()}
        metadata["general.architecture"] = "minimax-m2"
        save_gguf(self.path("m.gguf"), metadata, {})
        code, _, err = self.run_command("route", self.save("l.npy", zeros((2, 4))), "--config", "m.gguf", "--ids", "i.npy",
                                        "--weights", "w.npy")
        self.assertEqual((code, "--bias is required: minimax-m2 selects" in err), (2, True), err)


if __name__ == "__main__":
    data = families.data = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "data", "families"))
    for name in FAMILIES:
        add_family(name)
    command.main([Models, Bad])
