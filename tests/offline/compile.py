#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles kernels with compilers that need no device, for GPUs that are not here: compile.py amd|intel|nvidia RECIPES

RECIPES is the program that prints what the kernel tables ask for (tests/lint/recipes.c): each kernel that a row would run
on the target is compiled with the options of one of its programs, those on matrix instructions with one for each tile,
dtype, and with and without GLU. That a kernel compiles says nothing of its results; but it must keep its variables in
registers, call nothing that is not there, keep its local memory within the device's, store something, and have the matrix
instruction it is for. Where the compiler is not installed, nothing is run, and the exit status says so."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "lint"))
from common import finish, skip  # noqa: E402
from kernels import assemble, defines  # noqa: E402


class Amd:
    """clang with ROCm's device libraries. These may be older than the chip: what they say of it is one number."""

    # target: (device of RECIPES, wave, instruction of each layout)
    TARGETS = {
        "gfx90a": ("gfx9", 64, {"MFMA_16": "v_mfma_f32_16x16x16", "MFMA_32": "v_mfma_f32_32x32x8"}),
        "gfx942": ("gfx9", 64, {"MFMA_16": "v_mfma_f32_16x16x16", "MFMA_32": "v_mfma_f32_32x32x8"}),
        "gfx1100": ("gfx11", 32, {"WMMA_11": "v_wmma_f32_16x16x16"}),
        "gfx1200": ("gfx12", 32, {"WMMA_12": "v_wmma_f32_16x16x16"}),
    }
    ONLY_MATRIX = {"gfx90a", "gfx1200"}  # what else there is compiles for their sisters
    LOCAL_MEM = 65536
    IN_MEMORY = {
        "topk/filter.cl",  # LLVM leaves calls in it, whose callees keep registers on a stack
        "quant/block.cl",  # a work-item has a block in an array
    }

    def __init__(self):
        names = [f"clang-{n}" for n in range(19, 30)]
        self.clang = next(filter(None, map(shutil.which, names)), None)
        places = ["/usr/lib/x86_64-linux-gnu/amdgcn/bitcode", "/usr/lib/amdgcn/bitcode", "/opt/rocm/amdgcn/bitcode"]
        self.libraries = next((p for p in places if os.path.exists(os.path.join(p, "opencl.bc"))), None)
        if not self.clang or not self.libraries:
            skip("clang 19 or newer (Debian package clang-19) and rocm-device-libs are not both installed")

    def options(self, target, wave):
        version = target[3:]
        if not os.path.exists(os.path.join(self.libraries, f"oclc_isa_version_{version}.bc")):
            version = "90a" if wave == 64 else "1036"
        names = ["opencl", "ocml", "ockl", "oclc_correctly_rounded_sqrt_on", "oclc_daz_opt_off", "oclc_finite_only_off",
                 f"oclc_isa_version_{version}", "oclc_unsafe_math_off", f"oclc_wavefrontsize64_{'on' if wave == 64 else 'off'}",
                 "oclc_abi_version_400"]
        links = [w for n in names for w in ("-Xclang", "-mlink-builtin-bitcode", "-Xclang", f"{self.libraries}/{n}.bc")]
        return ["-target", "amdgcn-amd-amdhsa", f"-mcpu={target}", "-mcode-object-version=4", "-nogpulib", *links]

    def compile(self, target, file, text, options):
        device, wave, instructions = self.TARGETS[target]
        command = [self.clang, "-x", "cl", "-cl-std=CL1.2", *self.options(target, wave), "-Xclang", "-finclude-default-header",
                   "-O2", "-w", "-S", *options.split(), "-o", "-", "-"]
        run = subprocess.run(command, input=text, capture_output=True, text=True)
        if run.returncode:
            return run.stderr
        asm, wrong = run.stdout, []
        # ScratchSize alone is no sign: LLVM reserves some that it then does not touch. Scalar registers spill to lanes of
        # vector registers.
        if file not in self.IN_MEMORY:
            wrong += [f"spills {n} registers" for n in re.findall(r"\.vgpr_spill_count:\s+([1-9]\d*)", asm)]
            wrong += [f"keeps variables in memory: {i}" for i in re.findall(r"\b(?:scratch|buffer)_(?:load|store)\w+", asm)[:1]]
        called, defined = set(re.findall(r"\b(\w+)@(?:rel32|gotpcrel32|abs32)", asm)), set(re.findall(r"^(\w+):", asm, re.M))
        wrong += [f"needs {name}, which nobody has" for name in sorted(called - defined)]
        wrong += [f"has {n} bytes of local memory" for n in re.findall(r"\.group_segment_fixed_size:\s+(\d+)", asm)
                  if int(n) > self.LOCAL_MEM]
        if not re.search(r"\b(?:global|flat)_(?:store|atomic)", asm):
            wrong.append("stores nothing")
        wanted = instructions.get(defines(options).get("LAYOUT"))
        if wanted and wanted not in asm:
            wrong.append(f"has no {wanted}")
        return "; ".join(wrong)


class Intel:
    """ocloc, which is IGC without a driver. It says in the binary's notes what became of a kernel."""

    TARGETS = {"dg2-g10": ("dg2", 65536), "pvc": ("pvc", 131072)}
    ONLY_MATRIX = {"pvc"}
    EXTENSIONS = ["cl_intel_subgroups", "cl_intel_required_subgroup_size", "cl_intel_subgroup_matrix_multiply_accumulate",
                  "cl_intel_subgroups_short", "cl_khr_fp16", "__opencl_c_images"]  # older ones want them named

    def __init__(self):
        self.ocloc = shutil.which("ocloc")
        if not self.ocloc:
            skip("ocloc is not installed (Debian package intel-opencl-icd, elsewhere intel-ocloc)")

    def compile(self, target, file, text, options):
        extensions = ",".join("+" + e for e in self.EXTENSIONS)
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "kernel.cl")
            with open(source, "w", encoding="ascii") as f:
                f.write(text)
            run = subprocess.run([self.ocloc, "compile", "-file", source, "-device", target, "-out_dir", folder, "-options",
                                  f"-cl-std=CL1.2 {options}", "-internal_options",
                                  f"-cl-intel-allow-zebin -cl-ext={extensions}"], capture_output=True, text=True)
            said = run.stdout + run.stderr
            binaries = [f for f in os.listdir(folder) if f.endswith(".bin")]
            if run.returncode or not binaries:
                return said
            with open(os.path.join(folder, binaries[0]), "rb") as f:
                notes = f.read().decode("latin-1")
        wrong = re.findall(r"spilled around \d+", said)
        if re.search(r"type:\s+scratch", notes):
            wrong.append("keeps variables in memory")
        wrong += [f"has {n} bytes of local memory" for n in re.findall(r"slm_size:\s+(\d+)", notes)
                  if int(n) > self.TARGETS[target][1]]
        if "simd_size" not in notes:
            wrong.append("left no notes")
        if "LAYOUT" in defines(options) and not re.search(r"has_dpas:\s+true", notes):
            wrong.append("has no dpas")
        return "; ".join(wrong)


class Nvidia:
    """LLVM's PTX, not that of NVIDIA's driver: whether the text is right and all functions exist. With CUDA's assembler
    also whether it is assembled, and kernels on matrix instructions without spills."""

    TARGETS = {"sm_80": ("sm_80",)}
    ONLY_MATRIX = set()
    LOCAL_MEM = 101376  # of sm_86, sm_89 and sm_120; sm_80 has more

    def __init__(self):
        self.clang = next(filter(None, map(shutil.which, [f"clang-{n}" for n in range(15, 30)])), None)
        places = ["/usr/lib/clc/nvptx64--nvidiacl.bc", "/usr/share/clc/nvptx64--nvidiacl.bc"]
        self.library = next(filter(os.path.exists, places), None)
        self.assembler = shutil.which("ptxas")
        if not self.clang or not self.library:
            skip("clang (Debian package clang-19) and libclc's nvptx64--nvidiacl.bc (libclc-15) are not both installed")

    def compile(self, target, file, text, options):
        # OpenCL C has no `asm` for clang, but for NVIDIA's compiler.
        command = [self.clang, "-x", "cl", "-cl-std=CL1.2", "-target", "nvptx64-unknown-nvcl", "-Dasm=__asm__", "-O2", "-w", "-S",
                   "-Xclang", "-target-cpu", "-Xclang", target, "-Xclang", "-target-feature", "-Xclang", "+ptx75",
                   "-Xclang", "-mlink-builtin-bitcode", "-Xclang", self.library, "-Xclang", "-finclude-default-header",
                   "-Xclang", "-cl-ext=+cl_khr_fp16", *options.split(), "-o", "-", "-"]
        run = subprocess.run(command, input=text, capture_output=True, text=True)
        if run.returncode:
            return run.stderr
        ptx = run.stdout
        # Of `inline` alone C99 makes no function. NVIDIA's compiler inlines all of these, LLVM leaves calls without callees.
        inlines = set(re.findall(r"^(?:inline|CALLABLE)\b[^;{]*?\b(\w+)\(", text, re.M))
        functions = re.findall(r"\.func\s+(?:\([^)]*\)\s*)?(\w+)\s*\([^)]*\)[^;{]*([;{])", ptx)
        left = {name for name, _ in functions} - {name for name, end in functions if end == "{"}
        wrong = [f"calls {name}, which nobody has" for name in sorted(left - inlines)]
        if not left and not re.search(r"\b(?:st|red|atom)\.(?!local|param|shared)", ptx):
            wrong.append("stores nothing")
        values = defines(options)
        if "LAYOUT" in values:
            if f"mma.sync.aligned.m16n8k16.row.col.f32.{values['X_T']}" not in ptx:
                wrong.append("has no mma.sync")
            wrong += self.assemble(target, ptx)
        return "; ".join(wrong)

    def assemble(self, target, ptx):
        if not self.assembler:
            return []
        with tempfile.TemporaryDirectory() as folder:
            text = os.path.join(folder, "kernel.ptx")
            with open(text, "w", encoding="ascii") as f:
                f.write(ptx)
            run = subprocess.run([self.assembler, "-v", f"-arch={target}", text, "-o", text + ".cubin"], capture_output=True,
                                 text=True)
        # The assembler by itself refuses static arrays beyond 48 KiB, NVIDIA's OpenCL takes what the chip has.
        wrong = [line for line in run.stderr.split("\n") if "error" in line and "too much shared data" not in line]
        wrong += [f"spills {n} bytes" for n in re.findall(r"([1-9]\d*) bytes spill stores", run.stderr)]
        return wrong + [f"has {n} bytes of local memory" for n in re.findall(r"(\d+) bytes smem", run.stderr)
                        if int(n) > self.LOCAL_MEM]


def programs(recipes, target, device, only_matrix):
    """(file, entry, options) of those to compile for a target."""
    run = subprocess.run([recipes], capture_output=True, text=True)
    kinds = {}
    for line in sorted(set(run.stdout.split("\n"))):
        if not line.endswith("\t" + device):
            continue
        _, entry, file, options, _ = line.split("\t")
        values = defines(options)
        if only_matrix and "LAYOUT" not in values:
            continue
        # Of coded weights, whose formats are many, either with GLU or without
        more = ("SCALES_LAST",) if "SCALES_LAST" in values else ("FRAGMENTS_M", "GLU", "ENK")
        names = ("LAYOUT", "FRAGMENTS_N", "X_T", "W_T", *more) if "LAYOUT" in values else ()
        kind = (file, entry) + tuple(map(values.get, names))
        kinds.setdefault(kind, []).append(options)
    for (file, entry, *_), sets in sorted(kinds.items()):
        # Not the same for each target
        yield file, entry, sets[zlib.crc32(f"{target} {entry}".encode()) % len(sets)]


def main(vendor, recipes):
    compiler = {"amd": Amd, "intel": Intel, "nvidia": Nvidia}[vendor]()
    jobs = [(target, *program) for target, about in compiler.TARGETS.items()
            for program in programs(recipes, target, about[0], target in compiler.ONLY_MATRIX)]

    def one(job):
        target, file, entry, options = job
        wrong = compiler.compile(target, file, "\n".join(assemble(file, [])) + "\n", options)
        return wrong and f"{entry} for {target}: {file} {options}\n{wrong}"

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        complaints = list(filter(None, pool.map(one, jobs)))
    return finish(len(jobs), complaints)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
