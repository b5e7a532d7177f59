#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the Hopper kernel of matmul on this CPU, against sums in double precision.

No other machine of the tests has its instructions. hopper.c emulates them; files of the same names in tests/emulated
stand for those of cl/ that hold the kernel's PTX."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "lint"))
from common import ROOT, finish, skip  # noqa: E402

TILES = ((32, 10), (176, 4))  # TOKENS, STAGES: as lib/kernel/matmul_wgmma.c has them
# K, N, experts, tokens, topk, groups: fewer steps than the ring has stages, and more; one tile and more; columns for one
# multiplying group alone; a tile of each width; tiles of which a second work-group has some
SHAPES = ((136, 264, 2, 60, 2, 1), (72, 136, 3, 50, 3, 2), (328, 72, 2, 330, 2, 2), (520, 256, 1, 70, 1, 2),
          (64, 520, 5, 40, 4, 3), (72, 136, 1, 105, 1, 1), (72, 136, 1, 135, 1, 1), (72, 136, 1, 160, 1, 1),
          (72, 136, 1, 195, 1, 1), (64, 72, 70, 10, 2, 2))
X_TOKEN, X_SORTED, SORTED, HAS_BIAS, GAMMA_OUTPUT, K_FASTEST = 1, 2, 8, 16, 64, 256  # cl/matmul/pair.cl
LIMIT_S = 150  # a kernel that waits for ever


def compile_kernel(clang, folder, tile, glu, contiguous):
    """The program for one variant of the kernel."""
    flags = (X_SORTED if contiguous else X_TOKEN) | SORTED | HAS_BIAS | GAMMA_OUTPUT | K_FASTEST
    items = 384 if contiguous else 512  # as matmul_wgmma.c has them, too
    values = dict(TOKENS=tile[0], STAGES=tile[1], GLU=glu, ACT=glu, CONTIGUOUS=contiguous, IS_BF16=1,
                  PLAN_FLAGS=flags, LIMITED=0, LOCAL_SIZE=items, X_T="bf16", W_T="bf16", Y_T="bf16", BIAS_T="f32",
                  S_T="f32", SCALED=0)
    text, program = os.path.join(folder, "kernel.ll"), os.path.join(folder, "hopper")
    subprocess.run([clang, "-x", "cl", "-cl-std=CL1.2", "-w", "-O2", "-Xclang", "-finclude-default-header",
                    "-Dinline=static inline", "-I", os.path.join(ROOT, "tests/emulated"), "-I", os.path.join(ROOT, "cl"),
                    "-S", "-emit-llvm", "-o", text,
                    *(f"-D{name}={value}" for name, value in values.items()),
                    os.path.join(ROOT, "tests/emulated/wgmma_call.cl")], check=True)
    with open(text, encoding="utf-8") as kernel:
        callable_from_c = kernel.read().replace("spir_kernel ", "").replace("spir_func ", "")
    with open(text, "w", encoding="utf-8") as kernel:
        kernel.write(callable_from_c)
    # Not position independent: addresses of local memory are uint.
    subprocess.run([clang, "-w", "-O2", "-no-pie", "-fno-pie", f"-DITEMS={items}", "-I", os.path.join(ROOT, "include"),
                    "-I", os.path.join(ROOT, "tests"), "-o", program, os.path.join(ROOT, "tests/emulated/hopper.c"),
                    os.path.join(ROOT, "tests/ref/convert.c"), text, "-lm", "-lpthread"], check=True)
    return program


def main():
    clang = shutil.which("clang") or shutil.which("clang-15") or shutil.which("clang-14")
    if not clang:
        skip("clang is not installed (Debian package clang)")
    runs, complaints = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for tile in TILES:
            for glu, contiguous in ((0, 0), (0, 1), (1, 0), (1, 1)):
                program = compile_kernel(clang, folder, tile, glu, contiguous)
                for i, (*shape, groups) in enumerate(SHAPES):
                    layout = 1 + (i + contiguous) % 3 if glu else 0
                    call = [program, *map(str, shape), str(layout), str(contiguous), str(groups)]
                    try:
                        code = subprocess.run(call, check=False, timeout=LIMIT_S).returncode
                    except subprocess.TimeoutExpired:
                        code = "time out"
                    runs += 1
                    if code:
                        complaints.append(f"tile {tile} {' '.join(call[1:])}: {code}")
    return finish(runs, complaints)


sys.exit(main())
