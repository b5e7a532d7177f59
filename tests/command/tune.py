# SPDX-License-Identifier: MIT
"""clmoe tune on tiny products: what it writes is read back, kept beside what was there, and plans use it."""
import os

import command

ATTEMPTS = 5  # noise may hide what is faster
# One token takes long enough here that work-groups of another size are faster by a fifth on PoCL: no noise hides that.
SMALL = ["--experts", "2", "--topk", "1", "--hidden", "1024", "--inter", "1024", "--tokens", "70", "--repeats", "3",
         "--device", "cpu"]


class Tune(command.CommandTest):
    def tune(self, *arguments):
        return self.good("tune", *SMALL, *arguments)

    def test_file(self):
        target = self.path("tuned.txt")
        for _ in range(ATTEMPTS):
            out = self.tune("--dtype", "f32", "--kernel", "matmul_few_columns,matmul_cpu_8x32", "--seconds", "8",
                            "--output", target)
            if os.path.exists(target):
                break
        self.assertIn("matmul_few_columns", out)
        self.assertTrue(os.path.exists(target), out)
        self.assertIn(f"written to {target}", out)
        text = open(target, encoding="utf-8").read()
        self.assertRegex(text, r"\Adevice [^\n]+ \| [^\n]+ \| [^\n]+\n")
        self.assertRegex(text, r"(?m)^(matmul_few_columns|matmul_cpu_8x32) f32\.f32(\.glu)? [A-Z_]+=\d+")

    def test_what_was_there_stays(self):
        target = self.path("mine.txt")
        others = "device Another chip | * | *\nmatmul_few_columns f32.f32 LOCAL=32\n"
        with open(target, "w", encoding="utf-8") as f:
            f.write(others)
        for _ in range(ATTEMPTS):
            self.tune("--dtype", "f32", "--kernel", "matmul_few_columns", "--seconds", "4", "--output", target)
            text = open(target, encoding="utf-8").read()
            if text != others:
                break
        self.assertTrue(text.endswith(others), text)
        self.assertRegex(text, r"\Adevice [^\n]+\nmatmul_few_columns f32")
        self.assertEqual(text.count("Another chip"), 1)

    def test_plans_use_it(self):
        for text, wanted, told in (
                ("device * | * | *\nmatmul_cpu_8x32 bf16.bf16.glu TM=32\n", "[TM=32 TK=128]", r"\Z"),
                ("garbage", None, r"clmoe info: warning: [^\n]+mine.txt, line 1: [^\n]+: ignored\n\Z")):
            with open(self.path("mine.txt"), "w", encoding="utf-8") as f:
                f.write(text)
            code, out, err = self.run_command("info", env={"CLMOE_TUNING": self.path("mine.txt")})
            self.assertEqual(code, 0)
            self.assertRegex(err, told)
            self.assertIn("matmul_cpu_8x32", out)
            self.assertEqual("matmul_cpu_8x32 [" in out, wanted is not None)
            self.assertIn(wanted or "", out)

    def test_cache(self):
        for _ in range(ATTEMPTS):
            out = self.tune("--dtype", "f32", "--kernel", "matmul_few_columns", "--seconds", "4")
            if "nothing was faster" not in out:
                break
        self.assertIn("kept in the cache", out)
        target = self.path("tuned.txt")
        # Nothing new replaces what a file has: of the cache only contexts without a file hear.
        self.tune("--dtype", "f32", "--kernel", "matmul_few_columns", "--seconds", "0", "--output", target)
        self.assertFalse(os.path.exists(target))

    def test_no_time(self):
        out = self.tune("--dtype", "bf16", "--kernel", "matmul_few_columns", "--seconds", "0")
        self.assertIn("nothing was faster: nothing is written", out)

    def test_a_row_that_does_not_run_says_why(self):
        """Weights are made in the layout that the device prefers."""
        out = self.tune("--dtype", "f32", "--kernel", "matmul_few", "--seconds", "0")
        self.assertRegex(out, r"(?m)^matmul_few +f32\.f32 +1 tokens +matmul: no kernel: matmul_few: w_order = ")

    def test_an_output_that_cannot_be_written(self):
        """Known before the search, for which there would be five minutes."""
        for target, words in ("gone/tuned.txt", "gone/tuned.txt: "), (".", "is a directory"):
            code, out, err = self.run_command("tune", *SMALL, "--dtype", "f32", "--seconds", "300", "--output", target)
            self.assertEqual((code, out, err.count("\n")), (1, "", 1), err)
            self.assertIn(words, err)

    def test_a_row_that_does_not_build_is_no_end(self):
        broken = command.broken_sources(self.path("cl"), "matmul/few_columns.cl")
        code, out, err = self.run_command("tune", *SMALL, "--dtype", "f32", "--seconds", "0",
                                          "--kernel", "matmul_few_columns,matmul_cpu_8x32", env={"CLMOE_CL_DIR": broken})
        self.assertEqual(code, 0, err)
        self.assertNotIn("warning", err)
        self.assertRegex(out, r"(?m)^matmul_few_columns .*matmul/few_columns.cl does not build: ")
        self.assertRegex(out, r"(?m)^matmul_cpu_8x32 .* us    as it is")

    def test_bad(self):
        for arguments, words in (
                (["--dtype", "f64"], "dtype: expected"), (["--dtype", ""], "dtype: empty"),
                (["--dtype", "f32,"], "dtype: expected"),
                (["--kernel", "matmul_ref"], "no row of matmul with parameters"),
                (["--kernel", "matmul_tile_32"], "no row of matmul with parameters"),
                (["--seconds", "-1"], "seconds = -1"), (["--model", "nothing"], "model: no \"nothing\""),
                (["--topk", "9"], "topk = 9 of 8 experts"), (["more"], "one operand too many")):
            code, _, err = self.run_command("tune", *arguments)
            self.assertEqual(code, 2, arguments)
            self.assertIn(words, err)


if __name__ == "__main__":
    command.main([Tune])
