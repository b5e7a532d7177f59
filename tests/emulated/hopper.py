#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs two Hopper kernels of matmul on this CPU, against sums in double precision.

No other machine of the tests has its instructions. hopper.c emulates them; files of the same names in tests/emulated
stand for those of cl/ that hold the kernels' PTX."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "lint"))
from common import ROOT, finish, skip  # noqa: E402

TILES = ((32, 10), (176, 4))  # TOKENS, STAGES: as lib/kernel/matmul_wgmma.c has them
FP8_TILES = ((32, 5), (128, 3))  # matmul_wgmma_fp8.c
# K, N, experts, tokens, topk, groups: fewer steps than the ring has stages, and more; one tile and more; columns for one
# multiplying group alone; a tile of each width; tiles of which a second work-group has some
SHAPES = ((136, 264, 2, 60, 2, 1), (72, 136, 3, 50, 3, 2), (328, 72, 2, 330, 2, 2), (520, 256, 1, 70, 1, 2),
          (64, 520, 5, 40, 4, 3), (72, 136, 1, 105, 1, 1), (72, 136, 1, 135, 1, 1), (72, 136, 1, 160, 1, 1),
          (72, 136, 1, 195, 1, 1), (64, 72, 70, 10, 2, 2))
X_TOKEN, X_SORTED, SORTED, HAS_BIAS, GAMMA_OUTPUT, K_FASTEST = 1, 2, 8, 16, 64, 256  # cl/matmul/pair.cl
LIMIT_S = 150  # a kernel that waits for ever


def compile_kernel(clang, folder, fp8, tile, glu, contiguous):
    """The program for one variant of the kernel."""
    flags = (X_SORTED if contiguous else X_TOKEN) | SORTED | HAS_BIAS | GAMMA_OUTPUT | K_FASTEST
    items = 384 if contiguous or fp8 else 512  # as matmul_wgmma.c has them, too
    values = dict(TOKENS=tile[0], STAGES=tile[1], GLU=glu, ACT=glu, CONTIGUOUS=contiguous, IS_BF16=1,
                  PLAN_FLAGS=flags, LIMITED=0, LOCAL_SIZE=items, X_T="bf16", W_T="f8_e4m3" if fp8 else "bf16",
                  Y_T="bf16", BIAS_T="f32", S_T="f32", SCALED=int(fp8), KERNEL="matmul_wgmma" + "_fp8" * fp8,
                  KERNEL_FILE=f'"matmul/wgmma{"_fp8" * fp8}.cl"')
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
    subprocess.run([clang, "-w", "-O2", "-no-pie", "-fno-pie", f"-DITEMS={items}", f"-DFP8={int(fp8)}",
                    "-I", os.path.join(ROOT, "include"),
                    "-I", os.path.join(ROOT, "tests"), "-o", program, os.path.join(ROOT, "tests/emulated/hopper.c"),
                    os.path.join(ROOT, "tests/ref/convert.c"), text, "-lm", "-lpthread"], check=True)
    return program


def main():
    clang = shutil.which("clang") or shutil.which("clang-15") or shutil.which("clang-14")
    if not clang:
        skip("clang is not installed (Debian package clang)")
    runs, complaints = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for fp8, tile in [(False, t) for t in TILES] + [(True, t) for t in FP8_TILES]:
            for glu, contiguous in ((0, 1), (1, 0)) if fp8 else ((0, 0), (0, 1), (1, 0), (1, 1)):
                program = compile_kernel(clang, folder, fp8, tile, glu, contiguous)
                for i, (depth, *shape, groups) in enumerate(SHAPES[:5] if fp8 else SHAPES):
                    depth = (depth + 8) // 16 * 16 if fp8 else depth  # rows of w begin at multiples of 16 bytes
                    layout = 1 + (i + contiguous) % 3 if glu else 0
                    call = [program, str(depth), *map(str, shape), str(layout), str(contiguous), str(groups)]
                    try:
                        code = subprocess.run(call, check=False, timeout=LIMIT_S).returncode
                    except subprocess.TimeoutExpired:
                        code = "time out"
                    runs += 1
                    if code:
                        complaints.append(f"{'fp8 ' * fp8}tile {tile} {' '.join(call[1:])}: {code}")
    return finish(runs, complaints)


sys.exit(main())
