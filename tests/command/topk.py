# SPDX-License-Identifier: MIT
"""clmoe topk against plain Python."""
import math

import command
import reference
from arrays import Array, load_safetensors, save_safetensors
from command import random_rows

NAN, INF = math.nan, math.inf


class Topk(command.CommandTest):
    def check(self, x, k, *options, smallest=False, nan="greatest", order="sorted"):
        outputs = {"values": "v.npy", "indices": "i.npy", "mask": "m.npy", "bitmask": "b.npy",
                   "dense": "d.npy"}
        args = [a for name, file in outputs.items() for a in ("--" + name, file)]
        args += ["--smallest"] * smallest + ["--nan", nan, "--order", order]
        args += ["--bf16"] * (x.dtype == "bf16")
        self.good("topk", self.save("x.npy", x), "-k", k, *args, *options)
        n, lead = x.shape[-1], x.shape[:-1]
        chosen = [reference.topk(row, k, smallest, nan) for row in x.rows()]
        if order == "any":
            chosen = [list(r) for r in self.load("i.npy").rows()] if k else chosen
            for row, got in zip(x.rows(), chosen):
                self.assertEqual(sorted(got), sorted(reference.topk(row, k, smallest, nan)))
        elif order == "index":
            chosen = [sorted(c) for c in chosen]
        self.check_same("i.npy", Array("i32", lead + (k,), sum(chosen, [])))
        self.check_same("v.npy", Array(x.dtype, lead + (k,),
                                       [row[i] for row, c in zip(x.rows(), chosen) for i in c]))
        mask = [[i in c for i in range(n)] for c in chosen]
        self.check_same("m.npy", Array("bool", lead + (n,), sum(mask, [])))
        words = [[sum(m[w * 32 + b] << b for b in range(min(32, n - w * 32))) for w in range((n + 31) // 32)]
                 for m in mask]
        self.check_same("b.npy", Array("u32", lead + ((n + 31) // 32,), sum(words, [])))
        return mask

    def check_dense(self, x, mask, fill=0.0, scale=1.0):
        wanted = [v * scale if m else fill for row, c in zip(x.rows(), mask) for v, m in zip(row, c)]
        self.check_same("d.npy", Array(x.dtype, x.shape, wanted))

    def test_sizes(self):
        for i, (shape, k) in enumerate([((1,), 1), ((7, 33), 5), ((2, 3, 64), 8), ((4, 128), 128), ((3, 1000), 40),
                                        ((2, 1, 1, 2, 1, 9), 2), ((5, 31), 0)]):
            x = random_rows(shape, "f32", i)
            with self.subTest(shape=shape, k=k):
                self.check_dense(x, self.check(x, k))

    def test_dtypes(self):
        for dtype in ("f16", "bf16"):
            with self.subTest(dtype=dtype):
                x = random_rows((6, 77), dtype, 5)
                self.check_dense(x, self.check(x, 9))

    def test_no_rows(self):
        for shape in ((0, 8), (0, 5, 33), (4, 0, 3)):
            with self.subTest(shape=shape):
                x = Array("f32", shape, [])
                self.check_dense(x, self.check(x, 2))

    def test_smallest_and_orders(self):
        x = random_rows((9, 50), "f32", 2)
        for order in ("sorted", "index", "any"):
            for smallest in (False, True):
                with self.subTest(order=order, smallest=smallest):
                    self.check(x, 6, smallest=smallest, order=order)

    def test_special_values(self):
        x = Array("f32", (2, 8), [NAN, INF, -INF, 0.0, -0.0, 1.0, NAN, -1.0] * 2)
        for nan in ("greatest", "lowest"):
            for smallest in (False, True):
                for k in (1, 4, 8):
                    with self.subTest(nan=nan, smallest=smallest, k=k):
                        self.check(x, k, smallest=smallest, nan=nan)

    def test_fill_and_scale(self):
        x = Array("f32", (3, 10), range(30))
        mask = self.check(x, 3, "--fill", "-inf", "--scale", "-0.5")
        self.check_dense(x, mask, fill=-INF, scale=-0.5)
        mask = self.check(x, 3, "--fill=7.5")
        self.check_dense(x, mask, fill=7.5)

    def test_u2_is_bf16(self):
        x = Array("bf16", (1, 4), [1, 3, 2, -8])
        self.save("x.npy", x, descr="<u2")
        self.good("topk", "x.npy", "-k", 2, "--bf16", "--values", "v.npy")
        self.check_same("v.npy", Array("bf16", (1, 2), [3, 2]))

    def test_safetensors(self):
        x = random_rows((3, 12), "bf16", 4)
        save_safetensors(self.path("x.safetensors"), {"pad": Array("u8", (1,), [9]), "a:b": x})
        self.good("topk", "x.safetensors:a:b", "-k", 3, "--values", "v.safetensors:top", "--indices", "i.npy")
        wanted = [[row[i] for i in reference.topk(row, 3)] for row in x.rows()]
        got = load_safetensors(self.path("v.safetensors"))["top"]
        self.assertTrue(Array("bf16", (3, 3), sum(wanted, [])).same(got), got)

    def test_fortran_order(self):
        x = Array("f32", (2, 3), [1, 4, 2, 5, 3, 6])  # rows 1 2 3 and 4 5 6
        self.save("x.npy", x, fortran=True)
        self.good("topk", "x.npy", "-k", 1, "--values", "v.npy")
        self.check_same("v.npy", Array("f32", (2, 1), [3, 6]))

    def test_over_its_input(self):
        self.save("x.npy", Array("f32", (2, 3), [1, 2, 3, 6, 5, 4]))
        self.good("topk", "x.npy", "-k", 1, "--values", "x.npy")
        self.check_same("x.npy", Array("f32", (2, 1), [3, 6]))

    def test_table(self):
        self.save("x.npy", Array("f32", (2, 2, 3), [1, 2.5, 3, 6, 5, 4, 0, 0, 0, -1, -2, -3]))
        lines = self.good("topk", "x.npy", "-k", 2, "--device", "cpu").splitlines()
        self.assertIn("(2, 2, 3)", lines[0])
        self.assertEqual(lines[1:], ["[0,0]  3 @2  2.5 @1", "[0,1]  6 @0  5 @1", "[1,0]  0 @0  0 @1",
                                     "[1,1]  -1 @0  -2 @1"])

    def test_table_is_short(self):
        self.save("x.npy", random_rows((1000, 100), "f32", 1))
        lines = self.good("topk", "x.npy", "-k", 50).splitlines()
        self.assertLess(len(lines), 15)
        self.assertIn("990 more rows", lines[-1])
        self.assertIn("44 more", lines[1])

    def test_two_nulls(self):
        self.save("x.npy", Array("f32", (1, 3), [1, 2, 3]))
        self.good("topk", "x.npy", "-k", 1, "--values", "/dev/null", "--indices", "/dev/null")

    def test_scatter_undoes_it(self):
        x = random_rows((4, 20), "f32", 8)
        self.good("topk", self.save("x.npy", x), "-k", 5, "--values", "v.npy", "--indices", "i.npy",
                  "--dense", "d.npy")
        self.good("scatter", "v.npy", "i.npy", "-n", 20, "--out", "y.npy")
        self.check_same("y.npy", self.load("d.npy"))


if __name__ == "__main__":
    command.main([Topk])
