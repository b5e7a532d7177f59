# SPDX-License-Identifier: MIT
"""clmoe route against plain Python, for every family that it knows."""
import json
import math
import random

import command
import reference
from arrays import Array

MIXTRAL = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN2 = {"model_type": "qwen2_moe", "num_experts": 60, "num_experts_per_tok": 4, "norm_topk_prob": False}
QWEN3 = {"model_type": "qwen3_moe", "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True}
OLMOE = {"model_type": "olmoe", "num_experts": 64, "num_experts_per_tok": 8}
DEEPSEEK_V2 = {"model_type": "deepseek_v2", "n_routed_experts": 160, "num_experts_per_tok": 6, "n_group": 8,
               "topk_group": 3, "topk_method": "group_limited_greedy", "norm_topk_prob": False,
               "scoring_func": "softmax", "routed_scaling_factor": 16.0}
DEEPSEEK_V3 = {"model_type": "deepseek_v3", "n_routed_experts": 256, "num_experts_per_tok": 8, "n_group": 8,
               "topk_group": 4, "topk_method": "noaux_tc", "norm_topk_prob": True, "scoring_func": "sigmoid",
               "routed_scaling_factor": 2.5}
LFM2 = {"model_type": "lfm2_moe", "num_experts": 32, "num_experts_per_tok": 4, "norm_topk_prob": True,
        "use_expert_bias": True, "routed_scaling_factor": 1.5}
ERNIE = {"model_type": "ernie4_5_moe", "moe_num_experts": 64, "moe_k": 6}
SUM = {"renorm": True}


class Route(command.CommandTest):
    def write_config(self, config):
        with open(self.path("config.json"), "w") as f:
            json.dump(config, f)

    def check(self, config, rule, lead=(9,), dtype="f32", bias=None, spread=(0, 2)):
        experts = next(config[key] for key in config if key.endswith("experts"))
        k = config.get("moe_k") or config["num_experts_per_tok"]
        r = random.Random(json.dumps(config))
        n = math.prod(lead) * experts
        logits = Array(dtype, lead + (experts,), [r.gauss(*spread) for _ in range(n)]).rounded()
        self.write_config(config)
        args = []
        if bias:
            args += ["--bias", self.save("bias.npy", bias)]
            rule = dict(rule, bias=bias.values)
        if dtype == "bf16":
            args += ["--bf16"]
        self.good("route", self.save("x.npy", logits), "--config", "config.json", "--ids", "i.npy", "--weights",
                  "w.npy", "--counts", "c.npy", *args)
        wanted = [reference.route(row, k, **rule) for row in logits.rows()]
        ids = sum((i for i, _ in wanted), [])
        self.check_same("i.npy", Array("i32", lead + (k,), ids))
        self.check_same("c.npy", Array("i32", (experts,), [ids.count(e) for e in range(experts)]))
        weights = self.load("w.npy")
        self.assertEqual((weights.dtype, weights.shape), ("f32", lead + (k,)))
        flat = sum((w for _, w in wanted), [])
        self.check_close(weights.values, flat, 1e-5 * max(flat, default=1))

    def test_mixtral(self):
        self.check(MIXTRAL, SUM)

    def test_shapes_and_dtypes(self):
        for lead, dtype in (((), "f32"), ((0,), "f32"), ((2, 0), "bf16"), ((2, 3), "f16"), ((2, 1, 3), "bf16"),
                            ((700,), "f32")):
            with self.subTest(lead=lead, dtype=dtype):
                self.check(MIXTRAL, SUM, lead, dtype)

    def test_qwen(self):
        self.check(QWEN2, {})
        self.check(QWEN3, SUM)
        self.check(dict(QWEN3, norm_topk_prob=None), {})

    def test_newer_key(self):
        config = dict(QWEN3, num_local_experts=16)
        del config["num_experts"]
        self.check(config, SUM)

    def test_olmoe(self):
        self.check(OLMOE, {})
        self.check(dict(OLMOE, norm_topk_prob=True), SUM)

    def test_deepseek_v2(self):
        self.check(DEEPSEEK_V2, {"groups": (8, 3), "scale": 16.0})
        lite = dict(DEEPSEEK_V2, n_routed_experts=64, topk_method="greedy", n_group=1, topk_group=1,
                    routed_scaling_factor=1.0)
        self.check(lite, {})
        # its own code divides or scales, never both
        self.check(dict(lite, norm_topk_prob=True, routed_scaling_factor=16.0), {"renorm": True, "eps": 1e-20})

    def test_deepseek_v3(self):
        r = random.Random(3)
        bias = Array("f32", (256,), [r.gauss(0, 0.5) for _ in range(256)]).rounded()
        rule = {"score": "sigmoid", "groups": (8, 4), "group_score": "top2", "renorm": True,
                "eps": 1e-20, "scale": 2.5}
        self.check(DEEPSEEK_V3, rule, bias=bias)
        self.check(DEEPSEEK_V3, rule, bias=Array("bf16", (256,), bias.values).rounded(), dtype="bf16")
        one = dict(DEEPSEEK_V3, n_group=1, topk_group=1)
        self.check(one, dict(rule, groups=None), bias=bias)

    def test_lfm2(self):
        r = random.Random(4)
        bias = Array("f32", (32,), [r.gauss(0, 0.5) for _ in range(32)]).rounded()
        rule = {"score": "sigmoid", "renorm": True, "eps": 1e-6, "scale": 1.5}
        for spread in (0, 2), (-13, 1):  # sigmoids that add up to about eps
            self.check(LFM2, rule, bias=bias, spread=spread)
        self.check(dict(LFM2, use_expert_bias=False), rule)
        self.check(dict(LFM2, norm_topk_prob=False), {"score": "sigmoid", "scale": 1.5}, bias=bias)

    def test_ernie(self):
        r = random.Random(5)
        bias = Array("f32", (1, 64), [r.gauss(0, 2) for _ in range(64)]).rounded()
        for spread in (0, 2), (0, 16):  # probabilities that add up to less than the clamp
            self.check(ERNIE, {"renorm": True, "clamp": 1e-12}, bias=bias, spread=spread)


if __name__ == "__main__":
    command.main([Route])
