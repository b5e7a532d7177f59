#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every public header compiles alone, as C11 and as C++: headers.py CC... -- CXX...

Warnings are errors, pedantic ones too. The OpenCL headers come from pkg-config as system headers."""
import os
import shlex
import subprocess
import sys

from common import ROOT, finish, skip, tree

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Wconversion", "-Werror", "-fsyntax-only"]


def opencl_flags():
    found = subprocess.run(["pkg-config", "--cflags", "OpenCL"], capture_output=True, text=True)
    return [f.replace("-I", "-isystem", 1) for f in shlex.split(found.stdout)]


def main(args):
    split = args.index("--")
    compilers = [("C", args[:split], ["-x", "c", "-std=c11"]), ("C++11", args[split + 1:], ["-x", "c++", "-std=c++11"]),
                 ("C++20", args[split + 1:], ["-x", "c++", "-std=c++20"])]
    if not args[split + 1:]:
        skip("there is no C++ compiler")
    headers = [n for n in tree(".h") if n.startswith("include/clmoe/")]
    complaints, checked = [], 0
    for header in headers:
        for language, compiler, flags in compilers:
            text = f'#include "{header[len("include/"):]}"\n'
            command = [*compiler, *flags, *WARNINGS, "-I", os.path.join(ROOT, "include"), *opencl_flags(), "-"]
            run = subprocess.run(command, input=text, capture_output=True, text=True)
            checked += 1
            if run.returncode:
                complaints.append(f"{header} as {language}: {run.stderr}")
    return finish(checked, complaints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
