#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Text of source files: a licence line, no tabs or trailing blanks, plain ASCII in C, no notes to self, no paths of the
machine it was written on."""
import re
import sys

from common import finish, read, tree

SOURCES = (".c", ".h", ".cl", ".py", ".sh", ".build")
ASCII = (".c", ".h", ".cl")
NOTES = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
PATHS = re.compile(r"(?<![\w.$}])/(?:home|root|work|Users|mnt)/[\w.]")
LICENCE = "SPDX-License-Identifier: MIT"
DATA = ("tools/demo/", "tests/data/")


def complaints_of(name):
    text = read(name)
    if not name.endswith(".build") and LICENCE not in "\n".join(text.split("\n")[:3]):
        yield f"{name}:1: no line \"{LICENCE}\" at the top"
    if text and not text.endswith("\n"):
        yield f"{name}: no newline at the end"
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line:
            yield f"{name}:{number}: a tab"
        if line != line.rstrip():
            yield f"{name}:{number}: blanks at the end of the line"
        if name.endswith(ASCII) and not line.isascii():
            yield f"{name}:{number}: not ASCII: {line.encode('ascii', 'replace').decode()}"
        if NOTES.search(line):
            yield f"{name}:{number}: a note to self: {line.strip()}"
        if PATHS.search(line):
            yield f"{name}:{number}: a path of one machine: {line.strip()}"
        if len(line) > 130:
            yield f"{name}:{number}: {len(line)} characters"


def main():
    files = [n for n in tree(*SOURCES) if not n.startswith(DATA)]
    return finish(len(files), [c for name in files for c in complaints_of(name)])


if __name__ == "__main__":
    sys.exit(main())
