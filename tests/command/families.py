# SPDX-License-Identifier: MIT
"""clmoe moe and clmoe route against the code of each model family: the goldens of tests/data/families."""
import math
import os
import sys

import command
from arrays import Array, load_npy, load_safetensors, save_npy

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


class Families(command.CommandTest):
    worst = {}

    def check_routing(self, golden, dtype):
        ids, weights = by_id(self.load("i.npy"), self.load("w.npy"))
        self.assertEqual(ids, golden[dtype + ".ids"].rows())
        for got, wanted in zip(weights, golden[dtype + ".weights"].rows()):
            self.assertLessEqual(max(abs(g - w) for g, w in zip(got, wanted)), WEIGHTS[dtype] * max(map(abs, wanted)))

    def check_moe(self, family, folder, golden, dtype):
        self.good("moe", "--model", folder, "--layer", 1, "--input", "%s/golden.safetensors:%s.x" % (folder, dtype),
                  "--output", "y.safetensors:y", "--ids", "i.npy", "--weights", "w.npy", *self.options(folder))
        y, exact, own = load_safetensors(self.path("y.safetensors"))["y"], golden["f32.y"], golden[dtype + ".y"]
        self.assertEqual((y.dtype, y.shape), (dtype, exact.shape))
        self.check_routing(golden, "f32")
        found, near = errors(y.values, exact.values), errors(y.values, own.values)
        self.worst[family, dtype] = found + near
        for error, tolerance in zip(found, TOLERANCE[dtype]):
            self.assertLessEqual(error, tolerance)
        if dtype == "bf16":
            self.assertLessEqual(near[1], NEAR * errors(exact.values, own.values)[1])

    def check_route(self, folder, golden, dtype):
        bias = [n for n in load_tensors(folder) if n.endswith(("e_score_correction_bias", "expert_bias"))]
        args = ["--bias", self.save("b.npy", load_tensors(folder)[bias[0]])] if bias else []
        self.good("route", "%s/golden.safetensors:%s.logits" % (folder, dtype), "--config", folder + "/config.json",
                  "--layer", 1, "--ids", "i.npy", "--weights", "w.npy", *args, *self.options(folder))
        self.check_routing(golden, dtype)

    def options(self, folder):
        file = folder + "/options.json"
        return ["--options", file] if os.path.exists(file) else []

    @classmethod
    def tearDownClass(cls):
        print("\n%-17s %-5s %9s %9s %15s" % ("family", "dtype", "max", "rms", "to its own bf16"))
        for (family, dtype), found in cls.worst.items():
            print("%-17s %-5s %9.1e %9.1e" % (family, dtype, *found[:2]) +
                  (" %9.1e %9.1e" % found[2:] if dtype == "bf16" else ""))


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
            with self.subTest(dtype=dtype):
                self.check_moe(family, folder, golden, dtype)
                self.check_route(folder, golden, dtype)
    setattr(Families, "test_" + family, test)


if __name__ == "__main__":
    data = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "families")
    for name in sorted(os.listdir(data)):
        add_family(name, os.path.join(data, name))
    command.main([Families])
