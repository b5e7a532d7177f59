#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The shared library exports the functions the public headers declare with CLMOE_API and nothing else; and it calls no
OpenCL function that the layer of the fault tests cannot make fail: exports.py LIBRARY"""
import re
import shutil
import subprocess
import sys

from common import finish, read, skip, tree

DECLARATION = re.compile(r"^CLMOE_API\b[^;]*?\b(clmoe_\w+)\s*\(", re.M)


def symbols(library, *options):
    out = subprocess.run(["nm", "-D", "--format=posix", *options, library], capture_output=True, text=True, check=True).stdout
    return {line.split()[0].split("@")[0] for line in out.split("\n") if line}


def main(library):
    if not shutil.which("nm"):
        skip("nm is not installed (Debian package binutils)")
    headers = [n for n in tree(".h") if n.startswith("include/clmoe/")]
    declared = {name for h in headers for name in DECLARATION.findall(read(h))}
    exported = symbols(library, "--defined-only")
    called = {s for s in symbols(library, "--undefined-only") if re.match(r"cl[A-Z]", s)}
    layered = set(re.findall(r"PUT\((cl\w+)\)", read("tests/fault/layer.c")))
    complaints = [f"{name}: declared but not exported" for name in sorted(declared - exported)]
    complaints += [f"{name}: exported but not declared with CLMOE_API" for name in sorted(exported - declared)]
    complaints += [f"{name}: called by the library, unknown to tests/fault/layer.c" for name in sorted(called - layered)]
    return finish(len(declared | exported | called), complaints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
