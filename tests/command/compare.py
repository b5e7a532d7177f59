# SPDX-License-Identifier: MIT
"""tools/bench/compare.py on small tables, and with stand-ins for the peers' script, torch and clmoe."""
import os
import subprocess
import sys
import xml.etree.ElementTree

import command
from arrays import load_npy

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "bench", "compare.py")
HEAD = "op,shape,T,dtype,median_us,tflops,gbps_min,p10_us,p90_us,cpu_us,err_max,err_rms,ok,note\n"

# Prints a row for each key of --exact; as a module it has the Shape that logits come from.
PEERS = '''import sys
torch = None
class Shape:
    def __init__(self, name, tk, compile_only): self.name = name
    def logits(self, T, dist): return torch.Tensor(T, 3, [float(T), len(self.name), len(dist)])
if __name__ == "__main__":
    print("op,shape,T,dtype,median_us,tflops,gbps_min,p10_us,p90_us,cpu_us,err_max,err_rms,ok,note")
    print("# talk")
    for key in sys.argv[sys.argv.index("--exact") + 1].split(","):
        op, shape, t, dtype = key.split("/")
        print(f"{op},{shape},{t[1:]},{dtype},1000.0,,,,,9.0,,,,")
'''
TORCH = '''class Tensor:
    def __init__(self, rows, columns, row): self.shape, self.values = (rows, columns), row * rows
    def cpu(self): return self
    def flatten(self): return self
    def tolist(self): return self.values
'''
CLMOE = '''#!{python}
import os, sys
def option(name): return sys.argv[sys.argv.index(name) + 1]
ops = dict(matmul=["cl_mm1", "cl_mm1_swiglu", "cl_mm2"], moe=["cl_moe_full"], route=["cl_order"])
draw = "" if option("--routing") == "random" else "-" + option("--routing")
dtype = "bf16x" * ("--x-dtype" in sys.argv) + option("--dtype")
with open(option("--csv"), "w") as out:
    out.write({head!r})
    for t in option("--tokens").split(","):
        os.stat(os.path.join(option("--logits"), option("--model") + draw + "_" + t + ".npy"))
        for op in ops[sys.argv[2]]:
            print(op, option("--model") + draw.replace("-", ":"), t, dtype, "500.0", "", "", "", "", "7.0", "1e-3",
                  "1e-4", 1, "row active=8 plan_cold=900.0ms", sep=",", file=out)
sys.exit(sys.argv[2] == "moe")
'''


def line(op, shape, tokens, us, dtype="bf16", ok="1", note="row"):
    return f"{op},{shape},{tokens},{dtype},{us},,,,,9.5,,,{ok},{note}\n"


class Compare(command.CommandTest):
    def write(self, name, content, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(content)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def compare(self, *arguments, env=None, code=0):
        run = subprocess.run([sys.executable, SCRIPT, *arguments, "--out", self.path("out")], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, check=False, timeout=300,
                             env=dict(os.environ, **(env or {})))
        self.assertEqual(run.returncode, code, run.stderr)
        return run

    def table(self, ours, theirs):
        out = self.compare("--ours", self.write("ours.csv", HEAD + "".join(ours)),
                           "--theirs", self.write("theirs.csv", HEAD + "".join(theirs))).stdout
        with open(self.path("out/table.txt"), encoding="utf-8") as f:
            self.assertEqual(f.read(), out)
        return [part.split() for part in out.split("\n")], out

    def figure(self):
        return xml.etree.ElementTree.parse(self.path("out/cells.svg")).getroot()

    def test_products(self):
        """The best peer, the floor, and what is missed: floors by hand for Mixtral's first product."""
        rows, out = self.table(
            [line("cl_mm1", "mixtral-8x7b", 1, 130), line("cl_mm1", "mixtral-8x7b", 8, 500, ok="0"),
             line("cl_mm1", "mixtral-8x7b", 16384, 9700)],
            ["# talk, with commas\n", "ERR,gmm1,mixtral-8x7b,1,bf16,no memory\n",
             line("tk_mm1", "mixtral-8x7b", 1, 422), line("loop1", "mixtral-8x7b", 1, 260),
             line("tk_mm1", "mixtral-8x7b", 8, 400), line("gmm1", "mixtral-8x7b", 16384, 19400)])
        self.assertIn("mixtral-8x7b 1 1 106.3 130.0 260.0 loop1 1.22 0.500".split(), rows)  # 2 experts of 235 MB
        self.assertIn("mixtral-8x7b 1 8 382.8 500.0 400.0 tk_mm1 1.31 1.250 peer WRONG floor".split(), rows)
        self.assertIn("mixtral-8x7b 1 16384 9620.7 9700.0 19400.0 gmm1 1.01 0.500".split(), rows)  # by operations
        self.assertIn("geometric mean of ours/best, all: 0.679 (3 cells, worst 1.250)", out)
        self.assertIn("geometric mean of ours/best, 4096 tokens and more: 0.500 (1 cells", out)
        self.assertIn("geometric mean of ours/best, one token: 0.500 (1 cells", out)
        root = self.figure()
        self.assertEqual(len(root.findall(".//{*}polyline")), 4)
        self.assertEqual(len(root.findall(".//{*}circle")), 1 + 3)  # in the key, and ours
        self.assertIn("mixtral-8x7b, product 1", [t.text for t in root.findall(".//{*}text")])

    def test_goals(self):
        """At one token 1.25x the floor + 4 us are allowed, then 1.10x; layers have goals of their own."""
        rows, _ = self.table(
            [line("cl_mm2", "qwen3-30b-a3b", 1, 11.0), line("cl_mm2", "qwen3-30b-a3b", 8, 41.0),
             *(line("cl_moe_full", "dsv3", t, us, note="row plan_cold=812.5ms plan_disk=14.2ms")
               for t, us in ((1, 41), (8, 69), (4096, 96))), line("cl_order", "dsv3", 8, 5, "fp32")],
            [*(line("torch_moe_full", "dsv3", t, 100) for t in (1, 8, 4096)), line("tk_route", "dsv3", 8, 10, "fp32"),
             line("torch_route", "dsv3", 8, 9, "fp32")])
        self.assertIn("qwen3-30b-a3b 2 1 5.7 11.0 1.93".split(), rows)
        self.assertIn("qwen3-30b-a3b 2 8 36.8 41.0 1.11 floor".split(), rows)
        self.assertIn("dsv3 1 41.0 100.0 torch_moe_full 0.410 9.5 812.5 14.2 goal".split(), rows)
        self.assertIn("dsv3 8 69.0 100.0 torch_moe_full 0.690 9.5 812.5 14.2".split(), rows)
        self.assertIn("dsv3 4096 96.0 100.0 torch_moe_full 0.960 9.5 812.5 14.2 goal".split(), rows)
        self.assertIn("dsv3 8 5.0 9.0 torch_route 0.556 9.5".split(), rows)

    def test_formats(self):
        """MXFP4 rows do not hide those of bf16; of the peers' the faster one counts."""
        rows, _ = self.table(
            [line("cl_mm2", "gptoss-120b", 8, 110), line("cl_mm2", "gptoss-120b", 8, 50, "bf16xmxfp4"),
             line("cl_mm2", "gptoss-120b", 8, 40, "bf16xf4_e2m1")],
            [line("tk_mm2", "gptoss-120b", 8, 128), line("mx4_mm2", "gptoss-120b", 8, 62, "bf16xmxfp4"),
             line("mx4_mm2", "gptoss-120b:kpad128", 8, 60, "bf16xmxfp4")])
        self.assertIn("gptoss-120b 2 8 107.8 110.0 128.0 tk_mm2 1.02 0.859".split(), rows)
        self.assertIn("gptoss-120b 8 50.0 60.0 mx4_mm2 0.833 9.5".split(), rows)
        self.assertIn("gptoss-120b 8 40.0 60.0 mx4_mm2 0.667 9.5".split(), rows)

    def test_skew(self):
        rows, out = self.table(
            [line("cl_mm1", "qwen3-30b-a3b", 64, 200),
             line("cl_mm1", "qwen3-30b-a3b:zipf", 64, 150, note="row active=64")],
            [line("tk_mm1", "qwen3-30b-a3b", 64, 200), line("gmm1", "qwen3-30b-a3b:zipf", 64, 180)])
        self.assertIn("qwen3-30b-a3b:zipf 1 64 91.9 150.0 180.0 gmm1 1.63 0.833 floor".split(), rows)  # 64 experts
        self.assertIn("product 1, T=64: ours 0.750, best peer 0.900", out)

    def test_measuring(self):
        """The peers' logits reach clmoe, and each side is asked for the same cells. A failed call is named."""
        self.write("torch.py", TORCH)
        clmoe = self.write("clmoe", CLMOE.format(python=sys.executable, head=HEAD), 0o755)
        run = self.compare("--peers", self.write("peers.py", PEERS), "--clmoe", clmoe, "--tokens", "1,64", "--mxfp4",
                           "--models", "gptoss-120b,qwen3-30b-a3b:zipf", env={"PYTHONPATH": self.folder.name})
        rows = [part.split() for part in run.stdout.split("\n")]
        for shape, product in ("gptoss-120b", 1), ("gptoss-120b", 2), ("qwen3-30b-a3b:zipf", 2):
            for t in "1", "64":
                found = [row for row in rows if row[:3] == [shape, str(product), t]]
                self.assertEqual([row[5] for row in found], ["1000.0"])
        missed = [row[:3] for row in rows if row and row[-1] == "goal"]  # half the time is enough but for one
        self.assertEqual(missed, [["gptoss-120b", "1", "500.0"]])
        self.assertIn(f"exit code 1: {clmoe} bench moe --model gptoss-120b", run.stderr)
        self.assertEqual(len(self.figure().findall(".//{*}polyline")), 4 * 4)

    def test_logits(self):
        self.write("torch.py", TORCH)
        self.compare("--write-logits", "--peers", self.write("peers.py", PEERS), "--tokens", "1,64", "--models",
                     "dsv3,qwen3-30b-a3b:zipf", env={"PYTHONPATH": self.folder.name})
        self.assertEqual(sorted(os.listdir(self.path("out"))), [
            f"{model}_{t}.npy" for model in ("dsv3", "qwen3-30b-a3b-zipf") for t in (1, 64)])
        logits = load_npy(self.path("out/qwen3-30b-a3b-zipf_64.npy"))
        self.assertEqual((logits.dtype, logits.shape, logits.values[3:6]), ("f32", (64, 3), [64.0, 13.0, 4.0]))

    def test_bad(self):
        self.assertIn("expected --ours and --theirs", self.compare(code=2).stderr)
        self.assertIn("no 'x'; known: mixtral", self.compare("--models", "x", code=2).stderr)


if __name__ == "__main__":
    command.main([Compare])
