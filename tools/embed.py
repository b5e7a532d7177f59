#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns .cl files into a C table of {path, text} rows that ends with NULLs: embed.py HEADER TYPE TABLE ROOT OUTPUT FILE...

HEADER declares TYPE and TABLE; paths are relative to ROOT."""
import os
import sys


def c_lines(text):
    for line in text.splitlines(keepends=True):
        # ISO C knows trigraphs, so a question mark is written as an escape too.
        escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?").replace("\n", "\\n")
        yield f'     "{escaped}"'


def main(header, row_type, table, root, output, *files):
    with open(output, "w", encoding="ascii") as out:
        out.write(f'#include "{header}"\n\nconst struct {row_type} {table}[] = {{\n')
        for name in sorted(files):
            path = os.path.relpath(name, root).replace(os.sep, "/")
            with open(name, encoding="ascii") as f:
                body = "\n".join(c_lines(f.read()))
            out.write(f'    {{"{path}",\n{body}}},\n')
        out.write("    {NULL, NULL},\n};\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
