# SPDX-License-Identifier: MIT
"""clmoe topk against plain Python."""
import math
import random

import command
import reference
from arrays import Array, count, load_safetensors, save_safetensors
from command import random_rows

NAN, INF = math.nan, math.inf


class Topk(command.CommandTest):
    def check(self, x, k, *options, smallest=False, nan="greatest", order="sorted", ties="lowest"):
        outputs = {"values": "v.npy", "indices": "i.npy", "mask": "m.npy", "bitmask": "b.npy",
                   "dense": "d.npy"}
        args = [a for name, file in outputs.items() for a in ("--" + name, file)]
        args += ["--smallest"] * smallest + ["--nan", nan, "--order", order, "--ties", ties]
        args += ["--bf16"] * (x.dtype == "bf16")
        self.good("topk", self.save("x.npy", x), "-k", k, *args, *options)
        n, lead = x.shape[-1], x.shape[:-1]
        chosen = [reference.topk(row, k, smallest, nan, ties) for row in x.rows()]
        if order == "any":
            chosen = [list(r) for r in self.load("i.npy").rows()] if k else chosen
            for row, got in zip(x.rows(), chosen):
                self.assertEqual(sorted(got), sorted(reference.topk(row, k, smallest, nan, ties)))
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

    def check_dense(self, x, mask, fill=0, scale=1):
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

    def test_more_dtypes(self):
        for dtype, low, high in (("f64", -2, 2), ("i8", -128, 127), ("u16", 0, 65535), ("i32", -2 ** 31, 2 ** 31 - 1),
                                 ("u64", 0, 2 ** 64 - 1)):
            numbers = random.Random(dtype)
            values = [numbers.randint(low, high) for _ in range(6 * 77 - 2)] + [low, high]
            with self.subTest(dtype=dtype):
                x = Array(dtype, (6, 77), values)
                self.check_dense(x, self.check(x, 9, "--fill", "7", smallest=dtype < "i", ties="highest"), fill=7)

    def test_ties_and_total_order(self):
        x = Array("f32", (3, 8), [0.0, -0.0, 0.0, -0.0, 1.0, 1.0, -1.0, INF, *[2] * 8,
                                  NAN, -NAN, 0.0, -0.0, INF, -INF, 1.0, NAN])
        for ties in ("lowest", "highest"):
            for nan in ("greatest", "lowest", "total"):
                for order in ("sorted", "index", "any"):
                    with self.subTest(ties=ties, nan=nan, order=order):
                        self.check(x, 3, nan=nan, order=order, ties=ties, smallest=nan == "lowest")

    def test_threshold_and_counts(self):
        x = random_rows((2, 3, 20), "f32", 3)
        self.good("topk", self.save("x.npy", x), "-k", 4, "--threshold", "t.npy", "--cut", "c.npy", "--counts", "n.npy",
                  "--index-dtype", "i64", "--indices", "i.npy")
        chosen = [reference.topk(row, 4) for row in x.rows()]
        self.check_same("i.npy", Array("i64", (2, 3, 4), sum(chosen, [])))
        self.check_same("c.npy", Array("i64", (2, 3), [c[3] for c in chosen]))
        self.check_same("t.npy", Array("f32", (2, 3), [row[c[3]] for row, c in zip(x.rows(), chosen)]))
        self.check_same("n.npy", Array("u32", (20,), [sum(i in c for c in chosen) for i in range(20)]))
        self.good("topk", "x.npy", "-k", 4, "--cut", "c.npy")
        self.check_same("c.npy", Array("i32", (2, 3), [c[3] for c in chosen]))
        self.save("x.npy", Array("f32", (3,), [1, 3, 2]))
        self.good("topk", "x.npy", "-k", 2, "--threshold", "t.npy")
        self.check_same("t.npy", Array("f32", (), [2]))

    def test_padding(self):
        self.save("x.npy", Array("i16", (2, 3), [1, 3, 2, 9, 7, 8]))
        self.good("topk", "x.npy", "-k", 5, "--pad", "--pad-value", -5, "--values", "v.npy", "--indices", "i.npy")
        self.check_same("v.npy", Array("i16", (2, 5), [3, 2, 1, -5, -5, 9, 8, 7, -5, -5]))
        self.check_same("i.npy", Array("i32", (2, 5), [1, 2, 0, -1, -1, 0, 2, 1, -1, -1]))

    def test_axes(self):
        shape, k = (3, 5, 4), 2
        x = random_rows(shape, "f32", 6)
        for axis in range(-3, 3):
            n, outer, inner = shape[axis], count(shape[:axis % 3]), count(shape[axis % 3 + 1:])
            at = [[(o * n + i) * inner + c for i in range(n)] for o in range(outer) for c in range(inner)]
            chosen = [reference.topk([x.values[p] for p in row], k) for row in at]
            wanted = [chosen[o * inner + c][j] for o in range(outer) for j in range(k) for c in range(inner)]
            mask = [i in chosen[o * inner + c] for o in range(outer) for i in range(n) for c in range(inner)]
            left, right = shape[:axis % 3], shape[axis % 3 + 1:]
            with self.subTest(axis=axis):
                self.good("topk", self.save("x.npy", x), "-k", k, "--axis", axis, "--indices", "i.npy", "--mask", "m.npy",
                          "--cut", "c.npy")
                self.check_same("i.npy", Array("i32", left + (k,) + right, wanted))
                self.check_same("m.npy", Array("bool", shape, mask))
                self.check_same("c.npy", Array("i32", left + right, [c[k - 1] for c in chosen]))

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

    def test_table_along_an_axis(self):
        self.save("x.npy", Array("i64", (2, 3, 2), [1, 2 ** 53 + 1, 3, -6, 5, 4, 0, 0, -2 ** 63, -1, -2, -3]))
        lines = self.good("topk", "x.npy", "-k", 2, "--axis", 1, "--device", "cpu").splitlines()
        self.assertEqual(lines[1:], ["[0,:,0]  5 @2  3 @1", "[0,:,1]  9007199254740993 @0  4 @2", "[1,:,0]  0 @0  -2 @2",
                                     "[1,:,1]  0 @0  -1 @1"])

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
