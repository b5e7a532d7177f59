#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""C files are as clang-format leaves them. Versions differ in details, so it must be the one the tree was made with."""
import re
import shutil
import subprocess
import sys

from common import ROOT, finish, skip, tree

VERSION = "14"


def find():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        if shutil.which(name):
            found = re.search(r"version (\d+)", subprocess.run([name, "--version"], capture_output=True, text=True).stdout)
            if found and found.group(1) == VERSION:
                return name
    return None


def main():
    tool = find()
    if not tool:
        skip(f"clang-format {VERSION} is not installed (Debian package clang-format-{VERSION})")
    files = [n for n in tree(".c", ".h") if not n.startswith(("tests/data/", "tools/demo/"))]
    run = subprocess.run([tool, "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True)
    bad = sorted({line.split(":")[0] for line in run.stderr.split("\n") if ": error:" in line})
    if run.returncode and not bad:
        print(run.stderr)
        bad = [tool]
    return finish(len(files), [f"{name}: run {tool} -i on it" for name in bad])


if __name__ == "__main__":
    sys.exit(main())
