# SPDX-License-Identifier: MIT
"""clmoe moe and clmoe route against the code of each model family: the goldens of tests/data/families."""
import json
import math
import os
import shutil
import tempfile

import command
from arrays import Array, load_safetensors, save_safetensors

# Largest and root-mean-square error of y. An element's error is relative to the element, or to the root-mean-square of
# all where that is larger. bf16 is held against the family's own code in f32, with the same weights and inputs: in bf16
# that code rounds after each step, by more than this. So y is held against its bf16 output too, to be as near to it as
# its f32 output is.
TOLERANCE = {"f32": (1e-5, 1e-5), "bf16": (2e-2, 4e-3)}
NEAR = 1.1
# A row of weights, relative to its largest. From logits that are bf16, that code makes weights of bf16.
WEIGHTS = {"f32": 1e-5, "bf16": 1e-2}


def rms(values):
    return math.sqrt(sum(v * v for v in values) / len(values))


def errors(got, wanted):
    scale = rms(wanted)
    relative = [(g - w) / max(scale, abs(w)) for g, w in zip(got, wanted)]
    return max(map(abs, relative)), rms(relative)


def by_id(ids, weights):
    """Each row in the order of ids, as goldens have it."""
    rows = [sorted(zip(i, w)) for i, w in zip(ids.rows(), weights.rows())]
    return [[i for i, _ in row] for row in rows], [[w for _, w in row] for row in rows]


class Goldens(command.CommandTest):
    """Runs one folder of goldens."""

    def options(self, folder):
        file = os.path.join(folder, "options.json")
        return ["--options", file] if os.path.exists(file) else []

    def check_routing(self, golden, dtype):
        if dtype + ".ids" not in golden:
            return
        ids, weights = by_id(self.load("i.npy"), self.load("w.npy"))
        self.assertEqual(ids, golden[dtype + ".ids"].rows())
        for got, wanted in zip(weights, golden[dtype + ".weights"].rows()):
            self.assertLessEqual(max(abs(g - w) for g, w in zip(got, wanted)), WEIGHTS[dtype] * max(map(abs, wanted)))

    def run_moe(self, folder, x, *options):
        self.good("moe", "--model", folder, "--layer", 1, "--input", x, "--output", "y.safetensors:y", "--ids", "i.npy",
                  "--weights", "w.npy", *options)
        return load_safetensors(self.path("y.safetensors"))["y"]

    def check_moe(self, folder, golden, dtype, *options, model=None):
        y = self.run_moe(model or folder, "%s/golden.safetensors:%s.x" % (folder, dtype), *options)
        exact, own = golden["f32.y"], golden[dtype + ".y"]
        self.assertEqual((y.dtype, y.shape), (dtype, exact.shape))
        self.check_routing(golden, "f32")
        found, near = errors(y.values, exact.values), errors(y.values, own.values)
        for error, tolerance in zip(found, TOLERANCE[dtype]):
            self.assertLessEqual(error, tolerance)
        if dtype == "bf16":
            self.assertLessEqual(near[1], NEAR * errors(exact.values, own.values)[1])
        return found + near


class Families(Goldens):
    """Every golden as it lies."""
    worst = {}

    def check_route(self, folder, golden, dtype):
        """A selection bias is that of the weights beside config.json."""
        self.good("route", "%s/golden.safetensors:%s.logits" % (folder, dtype), "--config", folder + "/config.json",
                  "--layer", 1, "--ids", "i.npy", "--weights", "w.npy")
        self.check_routing(golden, dtype)

    @classmethod
    def tearDownClass(cls):
        print("\n%-17s %-5s %9s %9s %19s" % ("family", "dtype", "max", "rms", "to its own bf16"))
        for (family, dtype), found in cls.worst.items():
            print("%-17s %-5s %9.1e %9.1e" % (family, dtype, *found[:2]) +
                  (" %9.1e %9.1e" % found[2:] if dtype == "bf16" else ""))


class Variants(Goldens):
    """Goldens in other forms: many tokens, several buffers, other keys and names and layouts."""

    def change(self, family, config=None, tensors=None, options=None):
        """A copy of a golden's folder with what is not None in place of the golden's."""
        source, folder = os.path.join(data, family), tempfile.mkdtemp(dir=self.folder.name)
        with open(source + "/config.json") as f:
            content = {"config": json.load(f) if config is None else config, "options": options}
        for name in content:
            if content[name] is not None:
                with open("%s/%s.json" % (folder, name), "w") as f:
                    json.dump(content[name], f)
        save_safetensors(folder + "/model.safetensors", load_tensors(source) if tensors is None else tensors)
        shutil.copy(source + "/golden.safetensors", folder)
        return folder

    def check(self, family, **how):
        folder = self.change(family, **how)
        golden = load_safetensors(folder + "/golden.safetensors")
        self.check_moe(folder, golden, "f32", *self.options(folder))

    def load_config(self, family):
        with open(os.path.join(data, family, "config.json")) as f:
            return json.load(f)

    def test_many_tokens(self):
        """From some number on weights are packed; each token's result stays what it is alone."""
        for family in ("mixtral", "gpt_oss", "gpt_oss_mxfp4", "llama4", "dbrx", "nemotron_h", "hunyuan_v1_moe"):
            for options in ((), ("--experts-per-buffer", 3), ("--device-budget", 6500)):
                with self.subTest(family=family, options=options):
                    folder = os.path.join(data, family)
                    golden = load_safetensors(folder + "/golden.safetensors")
                    x, times = golden["f32.x"], 16
                    many = Array("f32", (times * x.shape[0], x.shape[1]), x.values * times)
                    y = self.run_moe(folder, self.save("x.npy", many), *options)
                    for error in errors(y.values, golden["f32.y"].values * times):
                        self.assertLessEqual(error, TOLERANCE["f32"][0])

    def test_layers_without_experts(self):
        for family, reason in (("qwen2_moe", "decoder_sparse_step"), ("qwen3_moe", "mlp_only_layers"),
                               ("deepseek_v2", "first_k_dense_replace"), ("deepseek_v3", "first_k_dense_replace"),
                               ("glm4_moe", "first_k_dense_replace"), ("glm4_moe_lite", "mlp_layer_types"),
                               ("dots1", "first_k_dense_replace"), ("llama4", "text_config: moe_layers"),
                               ("jamba", "expert_layer_period"), ("ernie4_5_moe", "moe_layer_start_index"),
                               ("lfm2_moe", "num_dense_layers"), ("nemotron_h", "layers_block_type")):
            with self.subTest(family=family):
                folder = os.path.join(data, family)
                code, _, err = self.run_command("moe", "--model", folder, "--layer", 0, "--input", "gone.npy",
                                                "--output", "y.npy")
                self.assertEqual(code, 2)
                self.assertTrue(err.endswith("config.json: %s: layer 0 has no experts\n" % reason), err)

    def test_unknown_family_by_options(self):
        config = dict(self.load_config("mixtral"), model_type="unheard_of")
        self.check("mixtral", config=config, options={"like": "mixtral"})
        config["size_of_experts"] = config.pop("intermediate_size")
        self.check("mixtral", config=config, options={
            "experts": "$n_experts|num_local_experts", "inter": ["$gone", "$size_of_experts", 7], "topk": 2,
            "renorm": True, "act": "silu", "block": "model.layers.{L}.block_sparse_moe.", "gate_up_proj": None,
            "gate_proj": ["gone", "experts.{E}.w1.weight"], "up_proj": "experts.{E}.w3.weight",
            "down_proj": "experts.{E}.w2.weight"})

    def test_values_for_each_layer(self):
        config = self.load_config("hunyuan_v1_moe")
        self.check("hunyuan_v1_moe", config=dict(config, num_experts=[9, 6], intermediate_size=[1, 14]))
        logits = self.save("l.npy", Array("f32", (1, 6), range(6)))
        for layer, k in enumerate(config["moe_topk"]):
            self.good("route", logits, "--config", os.path.join(data, "hunyuan_v1_moe/config.json"), "--layer", layer,
                      "--ids", "i.npy", "--weights", "w.npy")
            self.assertEqual(self.load("i.npy").shape, (1, k))

    def test_nemotron_of_the_hub(self):
        """A letter for each layer, where transformers 5 has a list."""
        config = self.load_config("nemotron_h")
        del config["layers_block_type"]
        self.check("nemotron_h", config=dict(config, hybrid_override_pattern="ME", num_hidden_layers=2))

    def test_dots_of_the_hub(self):
        """It names a way to choose where others name the score."""
        self.check("dots1", config=dict(self.load_config("dots1"), scoring_func="noaux_tc"))

    def test_default_norm(self):
        config = self.load_config("qwen3_next")
        del config["norm_topk_prob"]
        self.check("qwen3_next", config=config)

    def test_sparsemixer_without_jitter(self):
        """Only experts with the very logit share: 0 is not the default."""
        config = dict(self.load_config("phimoe"), router_jitter_noise=0)
        self.save("l.npy", Array("f32", (2, 6), [1, 1.001, 0.5, 0, -1, -2, 1, 1, 0.5, 0, -1, -2]))
        with open(self.path("config.json"), "w") as f:
            json.dump(config, f)
        self.good("route", "l.npy", "--config", "config.json", "--ids", "i.npy", "--weights", "w.npy")
        self.check_same("i.npy", Array("i32", (2, 2), [1, 0, 0, 1]))
        self.check_close(self.load("w.npy").values, [1, 1, 0.5, 1], 1e-6)

    def test_within(self):
        """null takes away what `like` has; the keys of the object count no longer."""
        config = self.load_config("mixtral")
        config["text_config"] = {"num_experts_per_tok": 1}
        self.check("mixtral", config=config, options={"like": "mixtral", "within": None})
        logits = self.save("l.npy", Array("f32", (1, 5), range(5)))
        for name, content in ("config", config), ("o", dict(LLAMA4_LIKE_MIXTRAL, within=None)):
            with open(self.path(name + ".json"), "w") as f:
                json.dump(content, f)
        self.good("route", logits, "--config", "config.json", "--options", "o.json", "--ids", "i.npy", "--weights", "w.npy")
        self.assertEqual(self.load("i.npy").shape, (1, 2))

    def test_bias_of_one_column(self):
        """[E, 1] stays a matrix."""
        tensors = {n: Array(t.dtype, t.shape, t.values) for n, t in load_tensors(os.path.join(data, "gpt_oss")).items()}
        config = dict(self.load_config("gpt_oss"), hidden_size=1)
        experts = config["num_local_experts"]
        for name, t in tensors.items():
            shape = tuple(1 if d == 28 else d for d in t.shape)
            if shape != t.shape:
                tensors[name] = Array(t.dtype, shape, t.values[:math.prod(shape)])
        self.assertIn((experts, 1), [t.shape for t in tensors.values()])
        folder = self.change("gpt_oss", config=config, tensors=tensors)
        self.run_moe(folder, self.save("x.npy", Array("f32", (3, 1), [1, 2, 3])))

    def test_mixed_layouts(self):
        """Down in MXFP4, which has one order, beside a gate and an up of the other."""
        tensors = load_tensors(os.path.join(data, "gpt_oss_mxfp4"))
        prefix = "model.layers.1.mlp."
        gate = Array("bf16", (4, 32, 32), [(i * 7 % 11 - 5) / 64 for i in range(4096)])
        up = Array("bf16", (4, 32, 32), [(i * 5 % 13 - 6) / 64 for i in range(4096)])
        turned = lambda a: Array(a.dtype, a.shape, [a.values[e * 1024 + c * 32 + r] for e in range(4)
                                                    for r in range(32) for c in range(32)])
        blocks, scales = (tensors[prefix + "experts.down_proj" + s] for s in ("_blocks", "_scales"))
        options = {"like": "gpt_oss", "gate_up_proj": None, "gate_up_proj_bias": None, "down_proj_bias": None,
                   "gate_proj": "g", "up_proj": "u", "down_proj": "d", "glu": "gate_up"}
        results = []
        for order, change in ("ekn", lambda a: a), ("enk", turned):
            both = {prefix + "router.weight": tensors[prefix + "router.weight"], prefix + "g": change(gate),
                    prefix + "router.bias": tensors[prefix + "router.bias"],
                    prefix + "u": change(up), prefix + "d_blocks": blocks, prefix + "d_scales": scales}
            folder = self.change("gpt_oss_mxfp4", tensors=both, options=dict(options, w1_order=order, w2_order=order))
            results.append(self.run_moe(folder, folder + "/golden.safetensors:f32.x", *self.options(folder)).values)
        self.check_close(*results, 1e-5 * max(map(abs, results[0])))

    def test_llama4_text_alone(self):
        tensors = {n.replace("language_model.", ""): t for n, t in load_tensors(os.path.join(data, "llama4")).items()}
        self.check("llama4", config=self.load_config("llama4")["text_config"], tensors=tensors)

    def test_up_before_gate(self):
        tensors = load_tensors(os.path.join(data, "granitemoe"))
        name = next(n for n in tensors if n.endswith("input_linear.weight"))
        experts, rows, columns = tensors[name].shape
        half, values = rows * columns // 2, tensors[name].values
        turned = [v for e in range(experts) for start in (half, 0)
                  for v in values[2 * e * half + start:2 * e * half + start + half]]
        tensors[name] = Array("bf16", tensors[name].shape, turned)
        self.check("granitemoe", tensors=tensors, options={"like": "granitemoe", "glu": "up_gate"})

    def test_transposed_one_by_one(self):
        tensors = load_tensors(os.path.join(data, "mixtral"))
        for name, t in tensors.items():
            if ".w1." in name or ".w3." in name:
                rows = t.rows()
                tensors[name] = Array(t.dtype, t.shape[::-1], [row[c] for c in range(t.shape[1]) for row in rows])
        self.check("mixtral", tensors=tensors, options={"like": "mixtral", "w1_order": "ekn"})


# Llama-4's entry, but for what says where Mixtral's keys are.
LLAMA4_LIKE_MIXTRAL = {"like": "llama4", "only": None, "shared": False, "gamma_on_input": False}


def load_tensors(folder):
    tensors = {}
    for file in sorted(os.listdir(folder)):
        if file.startswith("model") and file.endswith(".safetensors"):
            tensors.update(load_safetensors(os.path.join(folder, file)))
    return tensors


def add_family(family, folder):
    def test(self):
        golden = load_safetensors(os.path.join(folder, "golden.safetensors"))
        for dtype in TOLERANCE:
            if dtype + ".x" not in golden:
                continue
            with self.subTest(dtype=dtype):
                self.worst[family, dtype] = self.check_moe(folder, golden, dtype, *self.options(folder))
                if dtype + ".logits" in golden:
                    self.check_route(folder, golden, dtype)
    setattr(Families, "test_" + family, test)


if __name__ == "__main__":
    data = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "data", "families"))
    for name in sorted(os.listdir(data)):
        add_family(name, os.path.join(data, name))
    command.main([Families, Variants])
