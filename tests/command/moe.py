# SPDX-License-Identifier: MIT
"""clmoe moe against plain Python: checkpoints written here, and the demo's."""
import json
import os
import random
import sys

import command
import reference
from arrays import Array, count, load_safetensors, save_safetensors

H, I, LAYERS = 21, 13, 2  # odd, and no multiple of anything
MIXTRAL = {"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": I}
QWEN3 = {"model_type": "qwen3_moe", "num_experts": 7, "num_experts_per_tok": 3, "norm_topk_prob": True,
         "moe_intermediate_size": I, "intermediate_size": 99}
OLMOE = {"model_type": "olmoe", "num_experts": 6, "num_experts_per_tok": 4, "intermediate_size": I}
MIXTRAL_NAMES = "block_sparse_moe", "w1", "w3", "w2"
COMMON_NAMES = "mlp", "gate_proj", "up_proj", "down_proj"

# Relative to the largest element: rounding of the activations, and of the sums.
TOLERANCE = {"f32": 2e-6, "f16": 2e-3, "bf16": 1.6e-2}


def matrices(array):
    """[E, rows, columns] as nested lists."""
    rows = Array(array.dtype, (count(array.shape[:-1]), array.shape[-1]), array.values).rows()
    n = array.shape[1]
    return [rows[e * n:e * n + n] for e in range(array.shape[0])]


class Model:
    """One layer's weights, under several names of files."""

    def __init__(self, config, dtype, seed):
        r = random.Random(seed)
        self.config = dict(config, hidden_size=H, num_hidden_layers=LAYERS, hidden_act="silu")
        self.experts = config.get("num_experts") or config["num_local_experts"]
        self.k = config["num_experts_per_tok"]

        def make(*shape):
            return Array(dtype, shape, [r.gauss(0, 0.4) for _ in range(count(shape))]).rounded()
        self.router, self.gate, self.up, self.down = (
            make(self.experts, H), make(self.experts, I, H), make(self.experts, I, H), make(self.experts, H, I))

    def apart(self, layer, names):
        prefix = "model.layers.%d.%s." % (layer, names[0])
        tensors = {prefix + "gate.weight": self.router}
        for name, stack in zip(names[1:], (self.gate, self.up, self.down)):
            n = count(stack.shape[1:])
            for e in range(self.experts):
                tensors["%sexperts.%d.%s.weight" % (prefix, e, name)] = Array(
                    stack.dtype, stack.shape[1:], stack.values[e * n:e * n + n])
        return tensors

    def stacked(self, layer, block="mlp"):
        prefix = "model.layers.%d.%s." % (layer, block)
        both = [g + u for g, u in zip(matrices(self.gate), matrices(self.up))]
        values = [v for expert in both for row in expert for v in row]
        return {prefix + "gate.weight": self.router,
                prefix + "experts.gate_up_proj": Array(self.gate.dtype, (self.experts, 2 * I, H), values),
                prefix + "experts.down_proj": self.down}

    def run(self, rows, renorm):
        weights = list(zip(matrices(self.gate), matrices(self.up), matrices(self.down)))
        return reference.moe(rows, self.router.rows(), weights, self.k, renorm)


class Moe(command.CommandTest):
    def write_model(self, config, tensors, shards=1):
        os.makedirs(self.path("model"), exist_ok=True)
        with open(self.path("model/config.json"), "w") as f:
            json.dump(config, f)
        if shards == 1:
            save_safetensors(self.path("model/model.safetensors"), tensors)
            return
        names, index = list(tensors), {}
        for i in range(shards):
            file = "model-%05d-of-%05d.safetensors" % (i + 1, shards)
            save_safetensors(self.path("model/" + file), {n: tensors[n] for n in names[i::shards]})
            index.update({n: file for n in names[i::shards]})
        with open(self.path("model/model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": index}, f)

    def input(self, shape, dtype, seed=1):
        r = random.Random(seed)
        return Array(dtype, shape, [r.gauss(0, 1) for _ in range(count(shape))]).rounded()

    def compare(self, x, model, layer, wanted, *options):
        args = ["--bf16"] * (x.dtype == "bf16") + list(options)
        self.good("moe", "--model", model, "--layer", layer, "--input", self.save("x.npy", x), "--output", "y.npy",
                  "--ids", "i.npy", "--weights", "w.npy", *args)
        k = len(wanted[0][1]) if wanted else self.load("i.npy").shape[-1]
        y = self.load("y.npy")
        self.assertEqual((y.dtype, y.shape), (x.dtype, x.shape))
        flat = [v for out, _, _ in wanted for v in out]
        self.check_close(y.values, flat, TOLERANCE[x.dtype] * max([1e-30] + [abs(v) for v in flat]))
        self.check_same("i.npy", Array("i32", x.shape[:-1] + (k,), [i for _, ids, _ in wanted for i in ids]))
        weights = self.load("w.npy")
        self.assertEqual((weights.dtype, weights.shape), ("f32", x.shape[:-1] + (k,)))
        self.check_close(weights.values, [v for _, _, w in wanted for v in w], TOLERANCE[x.dtype])

    def check(self, model, tensors, shape=(6, H), dtype="f32", renorm=True, options=(), **how):
        self.write_model(model.config, tensors, **how)
        x = self.input(shape, dtype)
        self.compare(x, "model", 1, model.run(x.rows(), renorm), *options)

    def test_mixtral(self):
        model = Model(MIXTRAL, "f32", 1)
        self.check(model, model.apart(1, MIXTRAL_NAMES))

    def test_mixtral_of_transformers_5(self):
        model = Model(MIXTRAL, "f32", 2)
        self.check(model, model.stacked(1))

    def test_mixtral_stacked_in_the_old_block(self):
        model = Model(MIXTRAL, "bf16", 2)
        self.check(model, model.stacked(1, "block_sparse_moe"))

    def test_qwen3(self):
        model = Model(QWEN3, "f32", 3)
        self.check(model, model.apart(1, COMMON_NAMES))

    def test_qwen3_without_norm(self):
        model = Model(dict(QWEN3, norm_topk_prob=False), "f32", 4)
        self.check(model, model.stacked(1), renorm=False)

    def test_olmoe(self):
        model = Model(OLMOE, "f32", 5)
        self.check(model, model.apart(1, COMMON_NAMES), renorm=False)

    def test_types(self):
        for weights in ("f32", "f16", "bf16"):
            for dtype in ("f32", "f16", "bf16"):
                with self.subTest(weights=weights, dtype=dtype):
                    model = Model(QWEN3, weights, 6)
                    if dtype != weights:  # the router is in the type of the activations
                        model.router = Array(dtype, model.router.shape, model.router.values).rounded()
                    self.check(model, model.apart(1, COMMON_NAMES), dtype=dtype)

    def test_shapes(self):
        model = Model(MIXTRAL, "bf16", 7)
        for shape in ((1, H), (2, 3, H), (1, 1, H), (67, H), (0, H), (2, 0, H)):
            with self.subTest(shape=shape):
                self.check(model, model.apart(1, MIXTRAL_NAMES), shape=shape)

    def test_shards(self):
        model = Model(QWEN3, "bf16", 8)
        self.check(model, model.apart(1, COMMON_NAMES), shards=3)

    def test_several_buffers(self):
        for stacked in (False, True):
            for n in (1, 2, 3):
                for shape in ((3, H), (67, H)):
                    with self.subTest(stacked=stacked, n=n, shape=shape):
                        model = Model(QWEN3, "f32", 9)
                        tensors = model.stacked(1) if stacked else model.apart(1, COMMON_NAMES)
                        self.check(model, tensors, shape, options=("--experts-per-buffer", n))

    def test_device_budget(self):
        """Room for one expert, for two, for all: experts of 21 x 13 in f32."""
        model = Model(QWEN3, "f32", 13)
        for stacked in (False, True):
            tensors = model.stacked(1) if stacked else model.apart(1, COMMON_NAMES)
            for n in (3 * H * I * 4, 7000, 1000000):
                with self.subTest(stacked=stacked, n=n):
                    self.check(model, tensors, (67, H), options=("--device-budget", n))
        call = ("moe", "--model", "model", "--layer", 1, "--input", "x.npy", "--output", "y.npy", "--device-budget")
        self.assertRegex(self.good(*call, 7000), r"\Aroom for 2 experts of 0.00328 MB: \d+ of \d+ wanted were there, "
                                                 r"[0-9.]+ MB copied\n\Z")
        code, _, err = self.run_command(*call, 3 * H * I * 4 - 1)
        self.assertEqual((code, err.count("\n")), (2, 1), err)
        self.assertIn("budget = 3275, an expert has 3276 bytes", err)

    def test_other_layers_do_not_matter(self):
        model = Model(MIXTRAL, "f32", 10)
        tensors = {"model.embed_tokens.weight": Array("f32", (3,), [1, 2, 3])}
        tensors.update(Model(MIXTRAL, "f32", 11).apart(0, MIXTRAL_NAMES))
        tensors.update(model.apart(1, MIXTRAL_NAMES))
        self.check(model, tensors)

    def test_output_alone(self):
        model = Model(MIXTRAL, "f32", 12)
        self.write_model(model.config, model.apart(1, MIXTRAL_NAMES))
        x = self.input((4, H), "f32")
        save_safetensors(self.path("x.safetensors"), {"h": x})
        self.good("moe", "--model", "model/", "--layer", 1, "--input", "x.safetensors:h", "--output", "y.safetensors:h")
        y = load_safetensors(self.path("y.safetensors"))["h"]
        wanted = [v for out, _, _ in model.run(x.rows(), True) for v in out]
        self.check_close(y.values, wanted, TOLERANCE["f32"] * max(map(abs, wanted)))


    def test_more_tokens_than_one_call_takes(self):
        model = Model(MIXTRAL, "f32", 13)
        self.write_model(model.config, model.apart(1, MIXTRAL_NAMES))
        few, n = self.input((3, H), "f32"), 8192 + 5
        wanted = model.run(few.rows(), True)
        many = Array("f32", (n, H), (few.values * (n // 3 + 1))[:n * H])
        self.compare(many, "model", 1, (wanted * (n // 3 + 1))[:n])

    def test_progress(self):
        model = Model(MIXTRAL, "f32", 14)
        self.write_model(model.config, model.apart(1, MIXTRAL_NAMES))
        self.save("x.npy", self.input((3, H), "f32"))
        args = "--model", "model", "--layer", 1, "--input", "x.npy", "--output", "y.npy", "--experts-per-buffer", 1
        reader, terminal = os.openpty()
        code, out, _ = self.run_command("moe", *args, stderr=terminal)
        os.close(terminal)
        text = os.read(reader, 10000).decode()
        os.close(reader)
        self.assertEqual((code, out), (0, ""))
        self.assertIn("loading experts 1/5", text)
        self.assertTrue(text.endswith("\r\x1b[K"), repr(text))


class Demo(command.CommandTest):
    """All layers of the checkpoint in tools/demo."""
    compare = Moe.compare

    def test_layers(self):
        for layer in range(4):
            with self.subTest(layer=layer):
                prefix = "model.layers.%d.block_sparse_moe." % layer
                tensors = load_safetensors(os.path.join(demo, "model.safetensors"), lambda n: n.startswith(prefix))
                experts = [tuple(tensors["%sexperts.%d.%s.weight" % (prefix, e, w)].rows() for w in ("w1", "w3", "w2"))
                           for e in range(8)]
                r = random.Random(layer)
                x = Array("f32", (5, 256), [r.gauss(0, 1) for _ in range(5 * 256)]).rounded()
                wanted = reference.moe(x.rows(), tensors[prefix + "gate.weight"].rows(), experts, 2, True)
                self.compare(x, demo, layer, wanted)


if __name__ == "__main__":
    demo = os.path.abspath(sys.argv[2])
    command.main([Moe, Demo])
