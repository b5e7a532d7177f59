#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the Hopper kernels of matmul on this CPU, against sums in double precision.

No other machine of the tests has its instructions. chip.c emulates them; files of the same names in tests/emulated
stand for those of cl/ that hold the kernels' PTX. Work-items take turns as a seed has it: CLMOE_TEST_SEED, else the
clock; a complaint ends with the seed of its run."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "lint"))
from common import ROOT, finish, skip  # noqa: E402

TILES = ((32, 10), (176, 4))  # TOKENS, STAGES: as lib/kernel/matmul_wgmma.c has them
BYTES_TILES = ((32, 5), (160, 3))  # matmul_wgmma_bytes.c
# matmul_wgmma_coded.c: with TK, and with W_ROWS and WARP_ROWS where the kernel is that of mma_coded.cl
FEW_CODED = {"blocks": ((8, 5, 384, 64, 32), (8, 3, 384, 128, 32), (16, 3, 256, 128, 32), (32, 3, 256, 128, 16),
                        (24, 3, 384, 192, 32), (32, 3, 384, 192, 32)),
             "codes": ((8, 4, 512, 64, 32), (8, 3, 384, 128, 32), (16, 3, 256, 128, 32), (16, 4, 384, 192, 32),
                       (24, 3, 384, 192, 32))}
WORDS_TILES = ((32, 5), (160, 4))  # matmul_wgmma_words.c
SOME_CODED, MANY_CODED = (32, 5, 128), (256, 4, 64)
# K, N, experts, tokens, topk, groups: fewer steps than the ring has stages, and more; one tile and more; columns for one
# multiplying group alone; tiles of which a second work-group has some
SHAPES = ((136, 264, 2, 60, 2, 1), (72, 136, 3, 50, 3, 2), (328, 72, 2, 330, 2, 2), (520, 256, 1, 70, 1, 2),
          (64, 520, 5, 40, 4, 3), (64, 72, 70, 10, 2, 2))
# A tile of each width that the higher tiles have beside the lower ones; an eighth of the pairs is skipped.
WIDTHS = ((72, 136, 1, 105, 1, 1), (72, 136, 1, 135, 1, 1), (72, 136, 1, 160, 1, 1), (72, 136, 1, 195, 1, 1))
BYTES_WIDTHS = ((264, 136, 1, 160, 1, 1), (264, 136, 1, 180, 1, 1))
# Those of blocks have an odd number of two blocks in a row: rows begin at the same byte of 16 every eighth time.
CODED_SHAPES = ((64, 136, 2, 20, 2, 1), (320, 72, 3, 50, 2, 2), (704, 256, 1, 40, 1, 1))
MANY_CODED_SHAPES = ((64, 136, 1, 250, 1, 1), (352, 136, 2, 170, 1, 2))
# Groups of K that end within a stage and within a word of it.
WORDS_SHAPES = ((136, 264, 2, 60, 2, 1), (72, 136, 3, 50, 3, 2), (520, 256, 1, 70, 1, 2))
WORDS_WIDTHS = ((1032, 72, 1, 105, 1, 1), (72, 136, 1, 160, 1, 1), (200, 72, 2, 330, 2, 2))
WORDS = {"awq128": 128, "awq64": 64, "awq32": 32, "gptq128": -128, "gptq64": -64, "gptq32": -32, "gptq256": -256}
WORDS_KINDS = (("awq128", 0), ("awq64", 1), ("awq32", 1), ("gptq128", 0), ("gptq64", 1), ("gptq32", 1), ("gptq256", 0))
APART = {"q4_0": 18, "q5_0": 22, "q8_0": 34}  # lib/kernel/matmul_wgmma_blocks.c: bytes of 32, of 256 in SUPER
SUPER = {"q4_k": 144, "q5_k": 176, "q6_k": 210}
APART_TILE, APART_HIGH = (128, 5, 64), (192, 5, 64)
APART_SHAPES = ((96, 136, 2, 150, 1, 2), (416, 72, 3, 50, 2, 1), (64, 200, 1, 20, 1, 1), (64, 72, 1, 130, 1, 1),
                (64, 72, 1, 220, 1, 1))  # tiles of each width: some pairs are skipped
APART_HIGH_SHAPES = ((96, 136, 2, 330, 2, 2), (64, 72, 1, 110, 1, 1))
SUPER_TILE = (128, 4, 64)
SUPER_SHAPES = ((256, 136, 2, 150, 1, 2), (768, 72, 1, 100, 1, 1), (512, 200, 1, 130, 1, 1))
CODED = {"blocks": 17, "codes": 16, **APART, **SUPER}
KERNELS = {"bf16": "", "fp8": "_bytes", "i8": "_bytes", **dict.fromkeys(CODED, "_coded"), **dict.fromkeys(WORDS, "_words")}
BYTES = ("fp8", "i8")


def shapes_of(tile, shapes, widths):
    """What is run of a kernel with lower and higher tiles."""
    return shapes + widths if tile[0] > 32 else shapes


VARIANTS = (*(("bf16", tile, glu, contiguous, shapes_of(tile, SHAPES, WIDTHS))
              for tile in TILES for glu in (0, 1) for contiguous in (0, 1)),
            *((kind, tile, glu, 1 - glu, shapes_of(tile, SHAPES[:5], BYTES_WIDTHS))
              for kind in BYTES for tile in BYTES_TILES for glu in (0, 1)),
            *((kind, tile, (i + j) % 2, 0, CODED_SHAPES) for i, kind in enumerate(FEW_CODED)
              for j, tile in enumerate(FEW_CODED[kind])),
            *(("codes", SOME_CODED, glu, 0, CODED_SHAPES) for glu in (0, 1)),
            *((kind, tile, glu, int(kind == "gptq64"), shapes_of(tile, WORDS_SHAPES, WORDS_WIDTHS))
              for kind, glu in WORDS_KINDS for tile in WORDS_TILES),
            *((kind, MANY_CODED, 0, 0, MANY_CODED_SHAPES) for kind in ("blocks", "codes")),
            *((kind, APART_TILE, glu, 0, APART_SHAPES) for kind in APART for glu in (0, 1)),
            *((kind, APART_HIGH, glu, 0, APART_HIGH_SHAPES) for glu, kind in enumerate(("q4_0", "q5_0"))),
            *((kind, SUPER_TILE, glu, 0, SUPER_SHAPES) for kind in SUPER for glu in (0, 1)))
X_TOKEN, X_SORTED, SORTED, HAS_BIAS, GAMMA_OUTPUT, K_FASTEST, HAS_ZERO = 1, 2, 8, 16, 64, 256, 8192  # cl/matmul/pair.cl
# What does not depend on the variant.
SOURCES = ("tests/emulated/chip.c", "tests/emulated/items.c", "tests/emulated/builtins.c", "tests/emulated/words.c",
           "tests/ref/convert.c", "tests/ref/quant.c", "lib/api/tensor.c", "lib/base/dtype.c")
# Not position independent: addresses of local memory are uint.
C_OPTIONS = ("-w", "-O2", "-no-pie", "-fno-pie",
             *(f"-I{os.path.join(ROOT, folder)}" for folder in ("include", "lib", "tests")))
LIMIT_S = 150  # a kernel that waits for ever


def values_of(kind, tile, glu, contiguous):
    """What defines one variant of a kernel, and the work-items of its work-groups: as matmul_wgmma*.c have them."""
    flags = (X_SORTED if contiguous else X_TOKEN) | SORTED | HAS_BIAS | GAMMA_OUTPUT | K_FASTEST
    few_coded = kind in CODED and len(tile) > 3
    items = (448 if tile[3] == 192 else 320) if few_coded else 384 if kind in CODED or contiguous and kind not in WORDS else 512
    words = kind.strip("0123456789") if kind in WORDS else None
    x_type = "f16" if kind in (*APART, *SUPER) and glu else "bf16"
    name = "matmul_mma_coded" if few_coded else "matmul_wgmma" + KERNELS[kind]
    values = dict(TOKENS=tile[0], STAGES=tile[1], GLU=glu, ACT=glu, PLAN_FLAGS=flags, LIMITED=0, LOCAL_SIZE=items,
                  X_T=x_type, Y_T=x_type, BIAS_T="f32", S_T="f32",
                  SCALED=int(kind in (*BYTES, "codes") or kind in WORDS), KERNEL=name,
                  W_T={"fp8": "f8_e4m3", "blocks": "mxfp4", "codes": "f4_e2m1"}.get(kind, words or kind),
                  KERNEL_FILE=f'"{name.replace("_", "/", 1)}.cl"')
    if kind in CODED:
        few = tile[0] < 256
        period = 4 if glu else 8  # of rows of an odd number of two blocks, interleaved with GLU
        values.update(TK=tile[2], PERIOD=period if few and kind == "blocks" else 1, PTX=0)
        if few_coded:
            values.update(W_ROWS=tile[3], WARP_ROWS=tile[4],
                          SCALE_PERIOD=period if kind == "codes" else 1)
        values.update(S_T="e8m0" if kind == "codes" else "f32")
    elif kind in BYTES:
        values.update(CONTIGUOUS=contiguous, IS_BF16=1, INTEGERS=int(kind == "i8"), STAGE_SCALES=int(kind == "fp8"))
    else:
        values.update(CONTIGUOUS=contiguous, IS_BF16=1)
    if words:
        values.update(PLAN_FLAGS=flags | HAS_ZERO, SCALE_STEPS=min(abs(WORDS[kind]), 128), PTX=0)
    return values, items


def compile_sources(clang, folder):
    """The objects of SOURCES."""
    subprocess.run([clang, *C_OPTIONS, "-c", *(os.path.join(ROOT, source) for source in SOURCES)], check=True, cwd=folder)
    return [os.path.join(folder, os.path.basename(source)[:-1] + "o") for source in SOURCES]


def compile_kernel(clang, folder, objects, variant):
    """The program for one variant of a kernel."""
    kind, tile, glu, contiguous = variant
    values, items = values_of(kind, tile, glu, contiguous)
    program = os.path.join(folder, "_".join(map(str, (kind, *tile, glu, contiguous))))
    text = program + ".ll"
    subprocess.run([clang, "-x", "cl", "-cl-std=CL1.2", "-w", "-O2", "-Xclang", "-finclude-default-header",
                    "-Dinline=static inline", "-I", os.path.join(ROOT, "tests/emulated"), "-I", os.path.join(ROOT, "cl"),
                    "-S", "-emit-llvm", "-o", text,
                    *(f"-D{name}={value}" for name, value in values.items()),
                    os.path.join(ROOT, "tests/emulated/wgmma_call.cl")], check=True)
    with open(text, encoding="utf-8") as kernel:
        callable_from_c = kernel.read().replace("spir_kernel ", "").replace("spir_func ", "")
    with open(text, "w", encoding="utf-8") as kernel:
        kernel.write(callable_from_c)
    subprocess.run([clang, *C_OPTIONS, f"-DITEMS={items}", f"-DBYTES={int(kind in BYTES)}",
                    f"-DINTEGERS={int(kind == 'i8')}",
                    f"-DCODED={CODED.get(kind, 0)}", f"-DWORDS={WORDS.get(kind, 0)}",
                    f"-DBLOCKS={'CLMOE_' + kind.upper() if kind in (*APART, *SUPER) else 0}",
                    f"-DCODES={256 if kind in SUPER else 32}",
                    f"-DX_TYPE=CLMOE_{values['X_T'].upper()}", "-o", program,
                    os.path.join(ROOT, "tests/emulated/hopper.c"), text, *objects, "-lm"], check=True)
    return program


def runs_of(clang, folder, objects, variant, shapes, seed):
    """Runs one variant of a kernel on each shape: what went wrong, None for each that did not."""
    kind, tile, glu, contiguous = variant
    program = compile_kernel(clang, folder, objects, variant)
    for i, (depth, *shape, groups) in enumerate(shapes):
        depth = (depth + 8) // 16 * 16 if kind in BYTES else depth  # rows of w begin at multiples of 16 bytes
        layout = 2 if kind in CODED else 1 + i % 2 * 2 if kind in WORDS else 1 + (i + contiguous) % 3
        call = [program, str(depth), *map(str, shape), str(layout * glu), str(contiguous), str(groups), str(seed + i)]
        try:
            code = subprocess.run(call, check=False, timeout=LIMIT_S).returncode
        except subprocess.TimeoutExpired:
            code = "time out"
        yield f"{kind} tile {tile} {' '.join(call[1:])}: {code}" if code else None


def main():
    clang = shutil.which("clang") or shutil.which("clang-15") or shutil.which("clang-14")
    if not clang:
        skip("clang is not installed (Debian package clang)")
    seed = int(os.environ.get("CLMOE_TEST_SEED") or time.time()) % (1 << 31)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as workers:
        objects = compile_sources(clang, folder)

        def run(indexed):
            i, (*variant, shapes) = indexed
            return list(runs_of(clang, folder, objects, variant, shapes, seed + 100 * i))

        results = [result for one in workers.map(run, enumerate(VARIANTS)) for result in one]
    return finish(len(results), [result for result in results if result])


sys.exit(main())
