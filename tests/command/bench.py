# SPDX-License-Identifier: MIT
"""clmoe bench at small sizes: every operation and format runs, and the JSON has the promised fields."""
import csv
import json
import os
import shutil
import subprocess
import sys

import command
from arrays import Array

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PEERS = os.path.join(ROOT, "tools", "bench", "peers_topk.py")
SMALL = ["--experts", "4", "--topk", "2", "--hidden", "64", "--inter", "64", "--tokens", "1,40"]
ALWAYS = {"op", "kernel", "device", "driver", "dtype", "median_us", "p10_us", "p90_us", "tflops", "gbps", "floor_us",
          "enqueue_us"}
COLUMNS = "op,shape,T,dtype,median_us,tflops,gbps_min,p10_us,p90_us,cpu_us,err_max,err_rms,ok,note".split(",")


class Bench(command.CommandTest):
    def rows(self, *arguments):
        target = self.path("bench.json")
        self.good("bench", *arguments, "--device", "cpu", "--repeats", "1", "--json", target)
        with open(target, encoding="utf-8") as f:
            return json.load(f)

    def table(self, *arguments):
        target = self.path("bench.csv")
        self.good("bench", *arguments, "--device", "cpu", "--repeats", "1", "--csv", target)
        with open(target, encoding="utf-8") as f:
            reader = csv.DictReader(f)
            rows = list(reader)
        self.assertEqual(reader.fieldnames, COLUMNS)
        return rows

    def test_a_row_left_out_is_told(self):
        """Slower rows step in for one whose program does not build: not without a word."""
        broken = command.broken_sources(self.path("cl"), "matmul/cpu.cl")
        code, out, err = self.run_command("bench", "matmul", *SMALL, "--dtype", "f32", "--device", "cpu", "--repeats", "2",
                                          env={"CLMOE_CL_DIR": broken})
        self.assertEqual(code, 0, err)
        self.assertIn("matmul_", out)
        self.assertRegex(err, r"(?m)^clmoe bench: warning: matmul: matmul_\w+ in place of matmul_cpu_8x32: matmul/cpu.cl "
                              r"does not build: [^\n]*error[^\n]*does_not_parse")

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
            rows = self.rows("topk", "--shape", "50x16x4", "--outputs", "masks", "--dtype", "f16", "--flush",
                             "write", *more)
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
            self.assertTrue(all(row.get("ok", True) for row in rows))
            self.assertIn("+permute_", rows[1]["kernel"])

    def test_matmul(self):
        for dtype in "f32", "q8_0", "mxfp4", "f4_e2m1", "f8_e4m3", "i8":
            rows = self.rows("matmul", *SMALL, "--dtype", dtype)
            self.check_rows(rows, 4, ["experts", "topk", "hidden", "inter", "tokens"])
            self.assertEqual([row["op"] for row in rows], ["matmul1"] * 2 + ["matmul2"] * 2)
            self.assertTrue(all(row["ok"] for row in rows))
            self.assertLess(max(row["err_max"] for row in rows), 1e-5)

    def test_words(self):
        """Groups, also one that is longer than K, and gate and up behind each other."""
        for dtype, group in ("awq", 32), ("gptq", 128):
            rows = self.rows("matmul", *SMALL, "--dtype", dtype, "--group", str(group), "--glu")
            self.check_rows(rows, 6, ["experts", "topk", "hidden", "inter", "tokens", "group"])
            self.assertEqual({(row["dtype"], row["group"], row["ok"]) for row in rows}, {(dtype, group, True)})
            self.assertLess(max(row["err_max"] for row in rows), 1e-5)
        moved = [row["gbps"] * row["median_us"] * 1e3 for row in rows]
        x, y, active = 64 * 4, 2 * 128 * 4, 2
        self.assertAlmostEqual(moved[0], active * 128 * (32 + 2 + 0.5) + x + y + 8, delta=1)
        rows = self.rows("moe", *SMALL, "--dtype", "awq", "--group", "16")
        self.assertTrue(all(row["ok"] for row in rows))
        rows = self.table("matmul", *SMALL, "--dtype", "gptq", "--x-dtype", "bf16", "--group", "64")
        self.assertEqual({(row["dtype"], row["ok"]) for row in rows}, {("bf16xgptq", "1")})
        self.assertRegex(rows[0]["note"], " group=64$")

    def test_moe(self):
        rows = self.rows("moe", *SMALL, "--x-dtype", "f16", "--dtype", "f4_e2m1", "--plan-times")
        self.check_rows(rows, 2, ["experts", "topk", "hidden", "inter", "tokens", "plan_cold_ms", "plan_disk_ms"])
        self.assertTrue(all(row["ok"] for row in rows))

    def test_resident(self):
        rows = self.rows("moe", *SMALL, "--resident", "0.5", "--routing", "zipf")
        self.check_rows(rows, 2, ["experts", "tokens", "slots", "hit_rate", "moved_bytes", "peer_median_us"])
        for row in rows:
            self.assertEqual((row["op"], row["slots"], row["peer"], row["ok"]), ("offload", 2, "resident", True))
            self.assertTrue(0 < row["hit_rate"] < 1 and row["moved_bytes"] > 0, row)
        rows = self.table("moe", *SMALL, "--resident", "1")
        self.assertRegex(rows[0]["note"], r" slots=4 hits=1\.000 moved=0$")

    def test_csv(self):
        rows = self.table("matmul", *SMALL, "--glu", "--routing", "zipf")
        self.assertEqual([row["op"] for row in rows], [op for op in ("cl_mm1", "cl_mm1_swiglu", "cl_mm2") for _ in "12"])
        self.assertEqual([row["T"] for row in rows], ["1", "40"] * 3)
        for row in rows:
            self.assertEqual((row["shape"], row["dtype"], row["ok"]), ("4x2x64x64:zipf", "bf16", "1"))
            self.assertLess(float(row["err_max"]), 2e-2)
            self.assertGreater(float(row["err_rms"]), 1e-5)
            self.assertLessEqual(float(row["p10_us"]), float(row["median_us"]))
            self.assertRegex(row["note"], "^matmul_.* active=[234] max=")
        rows = self.table("topk", "--shape", "3x40x2", "--dtype", "f32")
        self.assertEqual([rows[0][c] for c in ("op", "shape", "T", "dtype", "ok")], ["cl_topk", "3x40k2", "3", "fp32", ""])

    def test_logits(self):
        """Every token takes the last two experts of the file."""
        t, experts = 5, 8
        self.save("cpu-8x_5.npy", Array("f32", (t, experts), [float(i % experts) for i in range(t * experts)]))
        self.save("cpu-8x-zipf_5.npy", Array("f32", (t, 7), [0.0] * t * 7))
        folder = ["--model", "cpu-8x", "--tokens", str(t), "--logits", self.folder.name]
        rows = self.table("matmul", *folder)
        self.assertEqual({row["note"].split(" ", 1)[1] for row in rows}, {"active=2 max=5"})
        self.assertEqual({row["ok"] for row in rows}, {"1"})
        rows = self.table("route", *folder, "--score", "softmax", "--dtype", "f32")
        self.assertEqual([(row["op"], row["ok"]) for row in rows], [("cl_route", "1"), ("cl_order", "1")])
        for more, message in (["--routing", "zipf"], "expected f32 of shape (5, 8), got f32 of shape (5, 7)"), \
                             (["--tokens", "6"], "cpu-8x_6.npy"):
            code, _, err = self.run_command("bench", "moe", *folder, *more)
            self.assertEqual(code, 2)
            self.assertIn(message, err)

    def test_wrong(self):
        """A kernel that is off by a thirty-second is noticed, and the results are written all the same."""
        kernels, target = self.path("cl"), self.path("bench.json")
        shutil.copytree(os.path.join(ROOT, "cl"), kernels)
        path = os.path.join(kernels, "matmul", "ref.cl")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.assertIn("gate += a * ", text)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("gate += a * ", "gate += 1.03125f * a * "))
        code, out, err = self.run_command("bench", "matmul", *SMALL, "--kernel", "matmul_ref", "--device", "cpu",
                                          "--repeats", "1", "--json", target, env={"CLMOE_CL_DIR": kernels})
        self.assertEqual((code, err), (1, "clmoe bench: results whose output is wrong: 4\n"))
        self.assertEqual(out.count("WRONG"), 4)
        with open(target, encoding="utf-8") as f:
            self.assertEqual([row["ok"] for row in json.load(f)], [False] * 4)

    def test_kernel(self):
        rows = self.rows("matmul", *SMALL, "--kernel", "matmul_ref")
        self.assertEqual({row["kernel"] for row in rows}, {"matmul_ref"})

    def test_bad(self):
        for arguments, message in [
            (["sort"], "expected one of topk|scatter|route|matmul|moe"),
            (["topk", "-n", "4", "-k", "5"], "k = 5 of n = 4"),
            (["topk", "--dtype", "awq"], "dtype: awq is for matmul and moe"),
            (["moe", "--dtype", "gptq", "--group", "48"], "group: expected a power of two, got 48"),
            (["matmul", "--dtype", "awq", "--hidden", "20"], "awq, gptq: weights of 7168 x 20 do not make whole blocks"),
            (["topk", "--shape", "4x8x2,"], "shape: expected"),
            (["topk", "--shape", "4x8"], "shape: expected"),
            (["topk", "--shape", "4x8x9"], "n = 8, k = 9"),
            (["moe", "--model", "x"], "known: mixtral-8x7b"),
            (["moe", "--resident", "1.5"], "resident: expected a part of the experts, got 1.5"),
            (["matmul", "--resident", "0.5"], "resident: for moe"),
            (["moe", "--tokens", "1,,2"], "tokens: expected"),
            (["moe", "--tokens", "1,"], "tokens: expected"),
            (["moe", "--topk", "9"], "topk = 9 of 8 experts"),
            (["route", "--vs", "copy"], "vs: copy is for topk and scatter"),
            (["matmul", "--vs", "openblas"], "vs: openblas is for matmul with --dtype f32"),
            (["topk", "--vs", "clblast"], "vs: clblast is for matmul"),
            (["moe", "--logits", "."], "logits: need a --model"),
            (["matmul", "--peak-tflops", "-1"], "peak-tflops: expected more than 0, got -1"),
            (["matmul", "--device", ""], 'no device matches ""'),
            (["topk", "-n", "5"], "k = 8 of n = 5"),
            (["matmul", "--kernel", "nothing"], "no kernel called"),
        ]:
            code, out, err = self.run_command("bench", *arguments, "--repeats", "1")
            self.assertEqual(code, 2, err)
            self.assertIn(message, err)
            self.assertEqual(err.count("\n"), 1, err)

    def test_files_that_cannot_be_written(self):
        """Known before anything is measured."""
        for option in "--json", "--csv":
            for target, words in ("no/such/folder", "No such file"), (".", "is a directory"):
                code, out, err = self.run_command("bench", "topk", option, target)
                self.assertEqual((code, out, err.count("\n")), (1, "", 1), err)
                self.assertIn(words, err)


if __name__ == "__main__":
    command.main([Bench])
