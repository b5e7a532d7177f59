# SPDX-License-Identifier: MIT
"""clmoe bench at small sizes: every operation and format runs, and the JSON has the promised fields."""
import json
import os
import subprocess
import sys

import command

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "bench", "peers_topk.py")
SMALL = ["--experts", "4", "--topk", "2", "--hidden", "64", "--inter", "64", "--tokens", "1,40"]
ALWAYS = {"op", "kernel", "device", "driver", "dtype", "median_us", "p10_us", "p90_us", "tflops", "gbps", "floor_us"}


class Bench(command.CommandTest):
    def rows(self, *arguments):
        target = self.path("bench.json")
        self.good("bench", *arguments, "--device", "cpu", "--repeats", "2", "--json", target)
        with open(target, encoding="utf-8") as f:
            return json.load(f)

    def check_rows(self, rows, count, sizes):
        self.assertEqual(len(rows), count)
        for row in rows:
            self.assertLessEqual(ALWAYS | set(sizes), set(row))
            self.assertGreater(row["median_us"], 0)
            self.assertGreater(row["floor_us"], 0)
            self.assertLessEqual(row["p10_us"], row["median_us"])
            self.assertLessEqual(row["median_us"], row["p90_us"])

    def test_topk(self):
        rows = self.rows("topk", "--rows", "64", "-n", "300", "-k", "8", "--dtype", "f32")
        self.check_rows(rows, 1, ["rows", "n", "k"])

    def test_shapes(self):
        for fill in "random", "equal", "ascending", "descending", "clustered":
            rows = self.rows("topk", "--shape", "3x40x2,1x300x17", "--fill", fill, "--dtype", "f16", "--order", "any",
                             "--smallest")
            self.check_rows(rows, 2, ["rows", "n", "k"])
            self.assertEqual([(row["rows"], row["n"], row["k"]) for row in rows], [(3, 40, 2), (1, 300, 17)])
            self.assertEqual({(row["fill"], row["order"]) for row in rows}, {(fill, "any")})

    def test_masks(self):
        for more in [], ["--vs", "copy"]:
            rows = self.rows("topk", "--shape", "50x16x4", "--outputs", "masks", "--dtype", "f16", *more)
            self.check_rows(rows, 1, ["rows", "n", "k"])
            self.assertEqual(rows[0]["outputs"], "masks")
            moved = rows[0]["gbps"] * rows[0]["median_us"] * 1e3
            self.assertAlmostEqual(moved, 50 * 16 * (2 + 1 + 2), delta=1)
            self.assertEqual(rows[0].get("peer"), "copy" if more else None)

    def test_copy(self):
        rows = self.rows("scatter", "--shape", "3x40x2", "--dtype", "f32", "--vs", "copy")
        self.assertAlmostEqual(rows[0]["ratio"], rows[0]["median_us"] / rows[0]["peer_median_us"], places=9)

    def test_scatter(self):
        for mode, in_place in ("set", []), ("mask", ["--in-place"]), ("multiply", []):
            rows = self.rows("scatter", "--shape", "3x40x2,2x300x17", "--mode", mode, "--dtype", "f16", *in_place)
            self.check_rows(rows, 2, ["rows", "n", "k"])
            self.assertEqual({(row["mode"], row["in_place"]) for row in rows}, {(mode, bool(in_place))})

    def test_peers(self):
        """The peers that are there are timed, the others are named."""
        run = subprocess.run([sys.executable, PEERS, "--shape", "3x40x2,1x9x9", "--fill", "random,equal", "--repeats", "1"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True, timeout=300)
        rows = json.loads(run.stdout)
        for peer in "numpy", "torch-cpu", "torch-cuda":
            timed = [(row["shape"], row["fill"]) for row in rows if row["peer"] == peer]
            if f"{peer}: skipped: " in run.stderr:
                self.assertEqual(timed, [])
            else:
                self.assertEqual(timed, [(s, f) for s in ("3x40x2", "1x9x9") for f in ("random", "equal")])
        for row in rows:
            self.assertLessEqual({"op", "peer", "shape", "fill", "median_us", "p10_us", "p90_us"}, set(row))

    def test_route(self):
        for shape in SMALL, ["--model", "dsv3", "--tokens", "1,40"]:
            rows = self.rows("route", *shape)
            self.check_rows(rows, 4, ["experts", "topk", "tokens"])
            self.assertEqual([row["op"] for row in rows], ["route", "order"] * 2)
            self.assertIn("+permute_", rows[1]["kernel"])

    def test_matmul(self):
        for dtype in "f32", "q8_0", "mxfp4":
            rows = self.rows("matmul", *SMALL, "--dtype", dtype)
            self.check_rows(rows, 4, ["experts", "topk", "hidden", "inter", "tokens"])
            self.assertEqual([row["op"] for row in rows], ["matmul1", "matmul2"] * 2)

    def test_moe(self):
        self.check_rows(self.rows("moe", *SMALL), 2, ["experts", "topk", "hidden", "inter", "tokens"])

    def test_kernel(self):
        rows = self.rows("matmul", *SMALL, "--kernel", "matmul_ref")
        self.assertEqual({row["kernel"] for row in rows}, {"matmul_ref"})

    def test_bad(self):
        for arguments, message in [
            (["sort"], "expected one of topk|scatter|route|matmul|moe"),
            (["topk", "-n", "4", "-k", "5"], "k = 5 of n = 4"),
            (["topk", "--shape", "4x8x2,"], "shape: expected"),
            (["topk", "--shape", "4x8"], "shape: expected"),
            (["topk", "--shape", "4x8x9"], "n = 8, k = 9"),
            (["moe", "--model", "x"], "known: mixtral-8x7b"),
            (["moe", "--tokens", "1,,2"], "tokens: expected"),
            (["moe", "--topk", "9"], "topk = 9 of 8 experts"),
            (["route", "--vs", "copy"], "vs: copy is for topk and scatter"),
            (["matmul", "--vs", "openblas"], "vs: openblas is for matmul with --dtype f32"),
            (["topk", "--vs", "clblast"], "vs: clblast is for matmul"),
            (["matmul", "--kernel", "nothing"], "no kernel called"),
        ]:
            code, out, err = self.run_command("bench", *arguments)
            self.assertEqual(code, 2, err)
            self.assertIn(message, err)
            self.assertEqual(err.count("\n"), 1, err)


if __name__ == "__main__":
    command.main([Bench])
