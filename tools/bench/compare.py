#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Puts clmoe beside Triton's kernels and torch on one NVIDIA GPU: ratios for each cell (model, product, tokens), and a
figure of time over floor.

Both measured now, by `clmoe bench` and by the peers' script, with the same logits and so the same routing:
  compare.py --peers peers_h200.py --tk DIR --clmoe build/tools/clmoe --out results
  compare.py --peers ... --models mixtral-8x7b,qwen3-30b-a3b:zipf --tokens 1,8 --out results
or two tables of before:
  compare.py --ours results/ours.csv --theirs results/theirs.csv --out results

OUT gets ours.csv, theirs.csv, table.txt (also printed) and cells.svg. The floor of a product is its bytes at 4.42 TB/s
(experts expected to be active times their weights, rows of x and y) or its operations at 800 TFLOP/s, whichever takes
longer. Both flush caches by writing: clmoe's default, reading, would spare it that lines are written back while it is
timed. Plans of layers are made with fresh caches of programs, the driver's too, so that the first one is cold; those
for other numbers of tokens may find programs of it in the driver's."""
import argparse
import array
import csv
import importlib.util
import math
import os
import re
import struct
import subprocess
import sys
import tempfile

import figure

MODELS = {  # experts, top-k, hidden, intermediate
    "mixtral-8x7b": (8, 2, 4096, 14336),
    "qwen3-30b-a3b": (128, 8, 2048, 768),
    "dsv3": (256, 8, 7168, 2048),
    "gptoss-120b": (128, 4, 2880, 2880),
}
ZIPF = "qwen3-30b-a3b:zipf"  # the skewed routing that the peers' script has
MXFP4 = "gptoss-120b"  # with which it runs MXFP4 weights
TOKENS = (1, 8, 64, 512, 4096, 16384)
BANDWIDTH, PEAK = 4.42e12, 800e12  # of an H200: bytes and bf16 operations a second
FOUR_BITS = {"mxfp4": "cl_mx4_", "f4_e2m1": "cl_f4_"}  # both as models are stored: in blocks, and scales apart
PEERS = {"tk_mm": "triton_kernels", "gmm": "grouped_mm", "loop": "torch.mm loop"}


def read(path):
    """{(op, shape, tokens): row}. Lines of the peers' script that are no measurements are left out. Our products with
    MXFP4 weights get the names of FOUR_BITS, and of the peers' with K padded and not the faster one counts."""
    with open(path, encoding="utf-8", newline="") as f:
        lines = [line for line in f if line.strip() and not line.startswith(("#", "ERR,"))]
    rows = {}
    for row in csv.DictReader(lines):
        op = row["op"].replace("cl_", FOUR_BITS.get(row["dtype"].partition("x")[2], "cl_"))
        key = op, row["shape"].replace(":kpad128", ""), int(row["T"])
        if key not in rows or us(row) < us(rows[key]) or not op.startswith("mx4_"):
            rows[key] = row
    return rows


def us(row):
    return float(row["median_us"])


def noted(row, name):
    """The number that the note has for a name, as in plan_cold=812.5ms."""
    found = re.search(rf"\b{name}=([0-9.]+)", row["note"] or "")
    return float(found.group(1)) if found else None


def floor_us(shape, product, tokens, active=None):
    experts, k, hidden, inter = MODELS[shape.split(":")[0]]
    depth, columns = (hidden, 2 * inter) if product == 1 else (inter, hidden)
    if active is None:
        active = experts * (1 - (1 - k / experts) ** tokens)
    moved = active * depth * columns * 2 + tokens * k * (depth + columns) * 2
    return max(2 * tokens * k * depth * columns / PEAK, moved / BANDWIDTH) * 1e6


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def number(value, width, digits):
    return " " * width if value is None else f"{value:{width}.{digits}f}"


def layer_goal(tokens):
    return 0.4 if tokens == 1 else 0.7 if tokens <= 512 else 0.95


def mxfp4_goal(tokens):
    return 0.6 if tokens == 1 else 0.9 if tokens <= 512 else 0.85


class Comparison:
    """Two tables side by side, as lines of text and as a figure."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.lines = []
        self.panels = {}

    def say(self, line=""):
        self.lines.append(line.rstrip())

    def best(self, ops, shape, tokens):
        """(microseconds, op) of the fastest of the peers."""
        found = [(us(self.theirs[op, shape, tokens]), op) for op in ops if (op, shape, tokens) in self.theirs]
        return min(found) if found else (None, "")

    def cells(self, op, shape):
        """(tokens, row) of our measurements."""
        return [(key[2], self.ours[key]) for key in sorted(self.ours) if key[:2] == (op, shape)]

    def means(self, what, ratios):
        """ratios: {(shape, tokens, ...): ratio}"""
        for name, low, high in (("all", 1, math.inf), ("4096 tokens and more", 4096, math.inf), ("8 to 512", 8, 512),
                                ("one token", 1, 1)):
            values = [r for key, r in ratios.items() if low <= key[1] <= high]
            if values:
                self.say(f"geometric mean of {what}, {name}: {geomean(values):.3f} ({len(values)} cells, "
                         f"worst {max(values):.3f})")

    def products(self, shapes, title):
        """Ours and the best peer of each cell. Named is what misses 1.0x the peer, 1.25x the floor + 4 us at one token,
        1.10x the floor up to 512 tokens."""
        ratios, over = {}, {}
        self.say(f"{title:20s} mm      T    floor us     ours us     best us  best       ours/floor  ours/best  misses")
        for shape, product in ((shape, product) for shape in shapes for product in (1, 2)):
            for t, row in self.cells(f"cl_mm{product}", shape):
                active = noted(row, "active") if ":" in shape else None
                floor, mine = floor_us(shape, product, t, active), us(row)
                theirs, who = self.best([f"{p}{product}" for p in PEERS], shape, t)
                key = shape, t, product
                over[key] = mine / floor
                if theirs:
                    ratios[key] = mine / theirs
                misses = ["peer"] * (ratios.get(key, 0) > 1) + ["WRONG"] * (row["ok"] == "0")
                if mine > (1.25 * floor + 4 if t == 1 else 1.10 * floor if t <= 512 else math.inf):
                    misses.append("floor")
                self.say(f"{shape:20s} {product:2d} {t:6d} {floor:11.1f} {mine:11.1f} {number(theirs, 11, 1)}  "
                         f"{who:10s} {over[key]:10.2f} {number(ratios.get(key), 10, 3)}  {' '.join(misses)}")
                self.plot(shape, product, t, floor, mine)
        self.means("ours/best", ratios)
        self.means("ours/floor", over)
        self.say()

    def plot(self, shape, product, tokens, floor, mine):
        series = self.panels.setdefault(f"{shape}, product {product}", {})
        series.setdefault("clmoe", {})[tokens] = mine / floor
        for op, name in PEERS.items():
            row = self.theirs.get((f"{op}{product}", shape, tokens))
            if row:
                series.setdefault(name, {})[tokens] = us(row) / floor

    def others(self, op, peers, shapes, title, goal=None):
        """One of our operations beside the fastest of its peers; goal(tokens) is the ratio to reach."""
        ratios = {}
        found = [(shape, *cell) for shape in shapes for cell in self.cells(op, shape)]
        if not found:
            return
        self.say(f"{title:20s}      T     ours us     best us  best             ours/best  enqueue us  "
                 "plan cold, disk ms  misses")
        for shape, t, row in found:
            theirs, who = self.best(peers, shape, t)
            if theirs:
                ratios[shape, t] = us(row) / theirs
            plans = [number(noted(row, name), 9, 1) for name in ("plan_cold", "plan_disk")]
            misses = ["goal"] * bool(goal and ratios.get((shape, t), 0) > goal(t)) + ["WRONG"] * (row["ok"] == "0")
            self.say(f"{shape:20s} {t:6d} {us(row):11.1f} {number(theirs, 11, 1)}  {who:15s} "
                     f"{number(ratios.get((shape, t)), 10, 3)} {float(row['cpu_us']):11.1f} {' '.join(plans)}  "
                     f"{' '.join(misses)}")
        self.means("ours/best", ratios)
        self.say()

    def skew(self):
        """What skewed routing costs, ours and the best peer's: its time over that of random routing."""
        plain = ZIPF.split(":")[0]
        for product in 1, 2:
            for t, row in self.cells(f"cl_mm{product}", ZIPF):
                other = self.ours.get((f"cl_mm{product}", plain, t))
                theirs = [self.best([f"{p}{product}" for p in PEERS], shape, t)[0] for shape in (ZIPF, plain)]
                if other and all(theirs):
                    self.say(f"skewed over random routing, product {product}, T={t}: ours {us(row) / us(other):.3f}, "
                             f"best peer {theirs[0] / theirs[1]:.3f}")
        self.say()

    def everything(self):
        plain = list(MODELS)
        self.products(plain, "bf16 products")
        if self.cells("cl_mm1", ZIPF):
            self.products([ZIPF], "skewed routing")
            self.skew()
        self.others("cl_mm1_swiglu", ["tk_mm1_swiglu"], plain + [ZIPF], "with its activation")
        self.others("cl_order", ["tk_route", "torch_route"], plain, "routing and sorting")
        self.others("cl_moe_full", ["tk_moe_full", "torch_moe_full"], plain, "whole layer", layer_goal)
        for op in "mm1", "mm1_swiglu", "mm2":
            for dtype, ours in FOUR_BITS.items():
                self.others(ours + op, [f"mx4_{op}"], [MXFP4], f"MXFP4 as {dtype}, {op}", mxfp4_goal)
        return "\n".join(self.lines)


def write_logits(folder, peers, models, tokens):
    """The peers' logits, drawn by their own code: the generator of torch on a GPU is not to be had elsewhere."""
    import torch
    spec = importlib.util.spec_from_file_location("peers", peers)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.torch = torch
    for model in models:
        name, _, draw = model.partition(":")
        for t in tokens:
            logits = script.Shape(name, None, False).logits(t, draw or "rand")
            head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % tuple(logits.shape)
            head += " " * (-(len(head) + 11) % 64) + "\n"
            with open(os.path.join(folder, f"{name}{'-' + draw if draw else ''}_{t}.npy"), "wb") as out:
                out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
                array.array("f", logits.cpu().flatten().tolist()).tofile(out)


def peer_keys(models, tokens, mxfp4):
    """The cases of the peers' script that we have something to put beside."""
    products = [f"{p}{n}" for p in PEERS for n in (1, 2)] + ["tk_mm1_swiglu"]
    for model in models:
        layer = [] if ":" in model else ["tk_moe_full", "torch_moe_full"]
        route = [] if ":" in model else ["tk_route", "torch_route"]
        for t in tokens:
            yield from (f"{op}/{model}/T{t}/bf16" for op in products + layer)
            yield from (f"{op}/{model}/T{t}/fp32" for op in route)
            if mxfp4 and model == MXFP4:
                yield from (f"mx4_{op}/{shape}/T{t}/bf16xmxfp4" for op in ("mm1", "mm1_swiglu", "mm2")
                            for shape in (model, model + ":kpad128"))


def run(command, **how):
    """A part that fails is named, and left out of the tables or marked as wrong in them."""
    code = subprocess.run(command, check=False, **how).returncode
    if code:
        print(f"compare.py: exit code {code}: {' '.join(command)[:200]}", file=sys.stderr)


def measure_peers(options, path):
    command = [sys.executable, options.peers, "--tk", options.tk, "--budget", str(options.budget), "--exact",
               ",".join(peer_keys(options.models, options.tokens, options.mxfp4))]
    with open(path, "w", encoding="utf-8") as out:
        run(command, stdout=out)


def bench_calls(model, mxfp4):
    """Arguments of the calls of `clmoe bench` for one model."""
    name, _, draw = model.partition(":")
    shape = ["--model", name, "--routing", draw or "random"]
    yield ["matmul", *shape, "--dtype", "bf16", "--glu"]
    if not draw:
        yield ["moe", *shape, "--dtype", "bf16", "--plan-times"]
        yield ["route", *shape, "--dtype", "f32", "--score", "softmax"]
    if mxfp4 and model == MXFP4:
        for dtype in FOUR_BITS:
            yield ["matmul", *shape, "--dtype", dtype, "--x-dtype", "bf16", "--glu"]


def measure_ours(options, logits, path):
    """Appends what each call measures to one table."""
    part = os.path.join(options.out, "part.csv")
    with open(path, "w", encoding="utf-8") as table:
        for call in (call for model in options.models for call in bench_calls(model, options.mxfp4)):
            with tempfile.TemporaryDirectory() as fresh:
                caches = {name: os.path.join(fresh, name) for name in ("CUDA_CACHE_PATH", "CLMOE_CACHE_DIR")}
                run([options.clmoe, "bench", *call, "--tokens", ",".join(map(str, options.tokens)), "--logits", logits,
                     "--flush", "write", "--peak-tflops", f"{PEAK / 1e12:g}", "--csv", part],
                    env=dict(os.environ, **(caches if "--plan-times" in call else {})))
            if os.path.exists(part):
                with open(part, encoding="utf-8") as rows:
                    table.writelines(line for line in rows if not table.tell() or not line.startswith("op,"))
                os.remove(part)


def measure(options):
    """Paths of our table and theirs, both measured now."""
    ours, theirs = (os.path.join(options.out, name) for name in ("ours.csv", "theirs.csv"))
    with tempfile.TemporaryDirectory() as logits:
        # A process of its own, so that its memory on the device is free again.
        subprocess.run([sys.executable, os.path.abspath(__file__), "--write-logits", "--peers", options.peers, "--out",
                        logits, "--models", ",".join(options.models), "--tokens", ",".join(map(str, options.tokens))],
                       check=True)
        measure_peers(options, theirs)
        measure_ours(options, logits, ours)
    return ours, theirs


def model_list(text):
    models = text.split(",")
    for model in models:
        if model not in (*MODELS, ZIPF):
            raise argparse.ArgumentTypeError(f"no {model!r}; known: {', '.join((*MODELS, ZIPF))}")
    return models


def token_list(text):
    return [int(t) for t in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", metavar="CSV", help="of clmoe bench --csv")
    parser.add_argument("--theirs", metavar="CSV", help="what the peers' script printed")
    parser.add_argument("--peers", metavar="PY", help="the peers' script, to measure now")
    parser.add_argument("--tk", default="", metavar="DIR", help="folder that holds the package triton_kernels")
    parser.add_argument("--clmoe", default="clmoe", metavar="PROGRAM", help="clmoe by default")
    parser.add_argument("--models", type=model_list, default=[*MODELS, ZIPF], metavar="NAME,...", help="all by default")
    parser.add_argument("--tokens", type=token_list, default=list(TOKENS), metavar="T,...",
                        help=f"{','.join(map(str, TOKENS))} by default")
    parser.add_argument("--mxfp4", action="store_true", help=f"also {MXFP4} with weights in MXFP4")
    parser.add_argument("--budget", type=float, default=330, metavar="S", help="seconds for the peers; 330 by default")
    parser.add_argument("--write-logits", action="store_true", help="only write the peers' logits to OUT (needs torch)")
    parser.add_argument("--out", default=".", metavar="DIR", help="folder of what is written; this one by default")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    if options.write_logits:
        return write_logits(options.out, options.peers, options.models, options.tokens)
    if options.peers:
        options.ours, options.theirs = measure(options)
    if not options.ours or not options.theirs:
        parser.error("expected --ours and --theirs, or --peers")
    comparison = Comparison(read(options.ours), read(options.theirs))
    table = comparison.everything()
    print(table)
    with open(os.path.join(options.out, "table.txt"), "w", encoding="utf-8") as out:
        out.write(table + "\n")
    if comparison.panels:
        with open(os.path.join(options.out, "cells.svg"), "w", encoding="utf-8") as out:
            out.write(figure.draw(comparison.panels))
    return None


if __name__ == "__main__":
    sys.exit(main())
