#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns .cl files into a C table of {path, text} rows that ends with NULLs:
embed.py [--digest] HEADER TYPE TABLE ROOT OUTPUT FILE...

HEADER declares TYPE and TABLE; paths are relative to ROOT. With --digest a row ends with the SHA-256, in hexadecimal
digits, of what the file is made of: path, NUL, text, NUL of it and of each file that it includes, by path."""
import hashlib
import os
import re
import sys


def c_lines(text):
    for line in text.splitlines(keepends=True):
        # ISO C knows trigraphs, so a question mark is written as an escape too.
        escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?").replace("\n", "\\n")
        yield f'     "{escaped}"'


def closure(path, texts, seen):
    """The paths of a file and of all it includes."""
    if path not in seen:
        seen.add(path)
        for included in re.findall(r'^#include "([^"]+)"', texts[path], re.M):
            closure(included, texts, seen)
    return seen


def digest(path, texts):
    h = hashlib.sha256()
    for name in sorted(closure(path, texts, set())):
        h.update(f"{name}\0{texts[name]}\0".encode("ascii"))
    return h.hexdigest()


def main(header, row_type, table, root, output, *files, digests):
    texts = {}
    for name in files:
        with open(name, encoding="ascii") as f:
            texts[os.path.relpath(name, root).replace(os.sep, "/")] = f.read()
    with open(output, "w", encoding="ascii") as out:
        out.write(f'#include "{header}"\n\nconst struct {row_type} {table}[] = {{\n')
        for path in sorted(texts):
            body = "\n".join(c_lines(texts[path]))
            last = f',\n     "{digest(path, texts)}"' if digests else ""
            out.write(f'    {{"{path}",\n{body}{last}}},\n')
        out.write("    {NULL},\n};\n")


if __name__ == "__main__":
    args = sys.argv[1:]
    main(*[a for a in args if a != "--digest"], digests="--digest" in args)
