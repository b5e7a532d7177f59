# SPDX-License-Identifier: MIT
"""clmoe scatter against plain Python."""
import math

import command
from arrays import Array
from command import random_rows

INF = math.inf


class Scatter(command.CommandTest):
    def check(self, values, indices, n, *options, fill=0, scale=1):
        self.save("v.npy", values)
        self.save("i.npy", indices)
        args = ["--bf16"] * (values.dtype == "bf16")
        self.good("scatter", "v.npy", "i.npy", "-n", n, "--out", "y.npy", *args, *options)
        wanted = []
        for v, i in zip(values.rows(), indices.rows()):
            row = [fill] * n
            for value, index in zip(v, i):
                if index >= 0:
                    row[index] = value * scale
            wanted += row
        self.check_same("y.npy", Array(values.dtype, values.shape[:-1] + (n,), wanted))

    def test_dtypes(self):
        for dtype in ("f32", "f16", "bf16"):
            for index in ("i32", "i64", "u8"):
                with self.subTest(dtype=dtype, index=index):
                    indices = Array(index, (3, 4), [0, 3, 9, 1, 5, 6, 7, 8, 9, 2, 0, 1])
                    self.check(random_rows((3, 4), dtype, 1), indices, 10)

    def test_skipped_and_repeated(self):
        self.check(Array("f32", (2, 3), [1, 2, 3, 4, 5, 6]), Array("i32", (2, 3), [-1, 2, 2, 0, -7, 0]), 3)

    def test_fill_and_scale(self):
        self.check(Array("f32", (2, 1), [1, 2]), Array("i32", (2, 1), [3, 0]), 5, "--fill", "-inf", "--scale", "1.5",
                   fill=-INF, scale=1.5)

    def test_shapes(self):
        for shape in ((5,), (2, 3, 4), (0, 4), (3, 0)):
            with self.subTest(shape=shape):
                x = random_rows(shape, "f32", 3)
                self.check(x, Array("i32", shape, [i % shape[-1] for i in range(len(x.values))]), 6)

    def test_all_dtypes(self):
        for dtype in ("f64", "u8", "u16", "i32", "u32", "i64"):
            with self.subTest(dtype=dtype):
                indices = Array("i64", (2, 2), [0, 3, -1, 1])
                self.check(Array(dtype, (2, 2), [1, 200, 3, 4]), indices, 4, "--fill", 7, fill=7)

    def change(self, mode, x, indices, values, *options):
        self.save("x.npy", x)
        self.save("i.npy", indices)
        operands = [self.save("v.npy", values), "i.npy"] if values else ["i.npy"]
        args = ["--bf16"] * (x.dtype == "bf16")
        self.good("scatter", *operands, "--mode", mode, "-x", "x.npy", "--out", "y.npy", *args, *options)

    def test_mask(self):
        for dtype in ("f32", "bf16", "i32", "u8"):
            with self.subTest(dtype=dtype):
                x = Array(dtype, (2, 3), [1, 2, 3, 4, 5, 6])
                self.change("mask", x, Array("i64", (2, 2), [2, -1, 0, 0]), None, "--fill", 9)
                self.check_same("y.npy", Array(dtype, (2, 3), [9, 9, 3, 4, 9, 9]))

    def test_mask_of_logits(self):
        x = Array("f16", (1, 3), [INF, 2, 3])
        self.change("mask", x, Array("i32", (1, 1), [1]), None, "--fill", "-inf", "--scale", 3)
        self.check_same("y.npy", Array("f16", (1, 3), [-INF, 6, -INF]))

    def test_add_and_multiply(self):
        x = Array("f32", (2, 1, 3), [1, 2, 3, 4, 5, 6])
        indices, values = Array("i32", (2, 1, 2), [2, 2, 0, -1]), Array("f32", (2, 1, 2), [10, 20, 30, 40])
        self.change("add", x, indices, values)
        self.check_same("y.npy", Array("f32", (2, 1, 3), [1, 2, 33, 34, 5, 6]))
        self.change("multiply", x, indices, values, "--scale", "0.5")
        self.check_same("y.npy", Array("f32", (2, 1, 3), [1, 2, 150, 60, 5, 6]))

    def test_penalty_without_values(self):
        x, indices = Array("f32", (2, 3), [1, 2, 3, 4, 5, 6]), Array("i64", (2, 3), [1, 1, 2, -1, 0, -1])
        self.change("add", x, indices, None, "--scale", "-0.5")
        self.check_same("y.npy", Array("f32", (2, 3), [1, 1, 2.5, 3.5, 5, 6]))
        self.change("multiply", x, indices, None, "--scale", "0.5")
        self.check_same("y.npy", Array("f32", (2, 3), [1, 0.5, 1.5, 2, 5, 6]))


if __name__ == "__main__":
    command.main([Scatter])
