#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The folders of lib/ are the stages of a call, and includes only point down that list. A file of lib/ includes
headers of its own folder, of folders below, and public ones; never anything of cl/, tests/ or tools/."""
import os
import re
import sys

from common import finish, read, tree

ORDER = ["api", "op", "plan", "kernel", "program", "device", "base"]
SYSTEM = {
    "assert.h", "ctype.h", "errno.h", "float.h", "inttypes.h", "limits.h", "math.h", "stdarg.h", "stdatomic.h", "stdbool.h",
    "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h", "CL/cl.h", "CL/cl_ext.h", "OpenCL/cl.h",
}
BEYOND_ISO_C = {"lib/program/disk.c"}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)


def complaint(name, kind, path):
    folder = name.split("/")[1]
    if kind == "<":
        allowed = path in SYSTEM or name in BEYOND_ISO_C
        return None if allowed else f"includes <{path}>: lib/ is ISO C and OpenCL, the rest is in program/disk.c"
    if "/" not in path:
        return None if os.path.exists(os.path.join("lib", folder, path)) else f'"{path}" is not in lib/{folder}/'
    target = path.split("/")[0]
    if target == "clmoe":
        return None if os.path.exists(os.path.join("include", path)) else f'"{path}" is not in include/'
    if target not in ORDER or ".." in path:
        return f'includes "{path}", which is not in lib/'
    if ORDER.index(target) < ORDER.index(folder):
        return f'includes "{path}", but {target}/ is above {folder}/ in the order {", ".join(ORDER)}'
    return None


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    complaints, files = [], [n for n in tree(".c", ".h") if n.startswith("lib/")]
    for name in files:
        if name.split("/")[1] not in ORDER:
            complaints.append(f"{name}: its folder is not one of {', '.join(ORDER)}")
            continue
        for kind, path in INCLUDE.findall(read(name)):
            why = complaint(name, kind, path)
            if why:
                complaints.append(f"{name}: {why}")
    for name in (n for n in tree(".h") if n.startswith("include/")):
        files.append(name)
        for kind, path in INCLUDE.findall(read(name)):
            if kind == '"' and not os.path.exists(os.path.join("include/clmoe", path)):
                complaints.append(f'{name}: includes "{path}", which is not a public header')
    return finish(len(files), complaints)


if __name__ == "__main__":
    sys.exit(main())
