#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles the kernel files with clang, with the -D sets that the kernel tables really ask for: kernels.py RECIPES

RECIPES is the program that prints them (tests/lint/recipes.c). Of many sets for one kernel so many are compiled that
every pair of values of two macros occurs; of macros that are flags, each bit is one.
clang says more than drivers do: a macro that is used but not defined, or a
signed comparison, is an error here. Besides, every macro must have an #error gate in its file or in what that includes,
must be used, and every file of cl/ must be reached."""
import heapq
import itertools
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from common import ROOT, finish, skip, tree

CL = os.path.join(ROOT, "cl")
FLAGS = ["-x", "cl", "-cl-std=CL1.2", "-Xclang", "-finclude-default-header", "-fsyntax-only", "-Wall", "-Wextra", "-Wundef",
         "-Werror", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-variable",
         # clang follows local variables as if one work-item both wrote and read them.
         "-Wno-sometimes-uninitialized", "-Wno-conditional-uninitialized", "-Wno-sign-compare",
         "-Wno-unknown-pragmas"]
INCLUDE = re.compile(r'^#include "([^"]+)"')


def assemble(name, seen):
    """The text of a file with its includes put in, each once, as lib/program/source.c does it."""
    if name in seen:
        return []
    seen.append(name)
    lines = [f'#line 1 "{name}"']
    with open(os.path.join(CL, name), encoding="ascii") as f:
        for number, line in enumerate(f.read().split("\n"), 1):
            inner = INCLUDE.match(line)
            if inner:
                lines += assemble(inner.group(1), seen) + [f'#line {number + 1} "{name}"']
            else:
                lines.append(line)
    return lines


def defines(options):
    return dict(word[2:].split("=", 1) for word in options.split())


def settings(options):
    """The values of the macros. Kernels test flags by bits, so each bit that may be set is a value of its own."""
    for name, value in defines(options).items():
        if name.endswith("_FLAGS") and value.isdigit():
            yield from ((f"{name} & {1 << bit:#x}", int(value) >> bit & 1) for bit in range(32))
        else:
            yield name, value


def pairwise(sets):
    """A few of the sets, in which every pair of values that occurs in all of them occurs."""
    pairs = {}
    for options in sets:
        items = sorted(settings(options))
        pairs[options] = {*itertools.combinations(items, 2), *items}
    wanted, chosen = set().union(*pairs.values()), []
    # The set with the most pairs that are still wanted comes next. What a set is worth only falls: it is counted anew
    # when it comes up.
    worth = [(-len(pairs[options]), options) for options in sets]
    heapq.heapify(worth)
    while wanted:
        _, options = worth[0]
        now = (-len(pairs[options] & wanted), options)
        if now > worth[0]:
            heapq.heapreplace(worth, now)
            continue
        heapq.heappop(worth)
        wanted -= pairs[options]
        chosen.append(options)
    return chosen or list(sets)[:1]


def gates(text):
    """Macros that have an #error if they are not defined."""
    found = set()
    for condition in re.findall(r"^#\s*if(.*)\n#\s*error", text, re.M):
        found |= set(re.findall(r"ndef\s+(\w+)|!\s*defined\s*\(?\s*(\w+)", "if" + condition))
    return {a or b for a, b in found}


def compile_one(clang, file, text, options):
    # Inline PTX needs a target that knows it, and a keyword that clang's OpenCL C does not have; vload_half of that
    # target is declared with the extension only.
    nvptx = ["-target", "nvptx64-unknown-nvcl", "-Dasm=__asm__", "-Xclang", "-cl-ext=+cl_khr_fp16"]
    target = nvptx if re.search(r"\basm\b", text) else ["-target", "spir64"]
    run = subprocess.run([clang, *FLAGS, *target, *options.split(), "-"], input=text, capture_output=True, text=True)
    return None if run.returncode == 0 else f"{file}: {options}\n{run.stderr}"


def recipes(program):
    run = subprocess.run([program], capture_output=True, text=True)
    by_kernel, entries = {}, {}
    for line in sorted(set(run.stdout.split("\n"))):
        if line:
            _, entry, file, options, _ = line.split("\t")
            by_kernel.setdefault((file, entry), set()).add(options)
            entries.setdefault(file, set()).add(entry)
    return by_kernel, [f"recipes: {line}" for line in run.stderr.split("\n") if line]


def main(program):
    clang = shutil.which("clang") or shutil.which("clang-15") or shutil.which("clang-14")
    if not clang:
        skip("clang is not installed (Debian package clang): kernels are only checked by the driver")
    by_kernel, complaints = recipes(program)
    reached, jobs, macros = [], [], {}
    for (file, entry), sets in sorted(by_kernel.items()):
        seen = []
        text = "\n".join(assemble(file, seen)) + "\n"
        reached += seen
        if not re.search(rf"\bvoid\s+{entry}\s*\(", text):
            complaints.append(f"{file}: has no kernel {entry}")
        macros.setdefault((file, text), set()).update(name for options in sets for name in defines(options))
        # Builtins of one vendor's chips are for the offline compilers.
        jobs += [(clang, file, text, options) for options in pairwise({s for s in sets if "EMULATED=0" not in s})]
    for (file, text), names in macros.items():
        for name in sorted(names - gates(text)):
            complaints.append(f"{file}: {name} has no #ifndef {name} with an #error that says what it is")
        for name in sorted(names):
            code = [line for line in text.split("\n") if not re.match(r"\s*(//|#\s*error)", line) and f"ndef {name}" not in line]
            if not re.search(rf"\b{name}\b", re.sub(r"defined\s*\(?\s*\w+", "", "\n".join(code))):
                complaints.append(f"{file}: {name} is given, but not used")
    for name in tree(".cl"):
        if name.startswith("cl/") and name[3:] not in reached:
            complaints.append(f"{name}: no kernel table uses it")
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        complaints += filter(None, pool.map(lambda job: compile_one(*job), jobs))
    print(f"{sum(map(len, by_kernel.values()))} sets of macros for {len(by_kernel)} kernels, {len(jobs)} of them compiled")
    return finish(len(jobs), complaints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
