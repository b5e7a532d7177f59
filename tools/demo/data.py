#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the demo model's text: train.txt and heldout.txt, from Debian's bible-kjv.

    apt-get install bible-kjv
    python3 data.py --out DIR

A chapter is a line with its name ("Genesis 1"), then one verse a line, then an
empty line. Every 64th chapter is held out and never trained on.
"""
import argparse
import pathlib
import re
import subprocess

WHOLE_TEXT = "Gen1:1-Rev22:21"
WINDOW = 256
HELDOUT_STEP = 64
HELDOUT_FIRST = 40


def print_bible():
    """The program's own pretty print, with lines too long to be broken."""
    command = ["bible", "-l", "100000", WHOLE_TEXT]
    return subprocess.run(command, check=True, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL).stdout


def chapters(printed):
    """Chapters in order, each as one string that ends with an empty line."""
    found = []
    for line in printed.splitlines():
        verse = re.match(r" *\d+ (.*)", line) if line.startswith(" ") else None
        if verse:
            found[-1].append(verse.group(1).strip())
        elif line.strip():
            found.append([line.strip()])
    return ["\n".join(lines) + "\n\n" for lines in found]


def split(texts):
    """Training text, and the held-out chapters cut to whole windows."""
    held = [t for i, t in enumerate(texts) if i % HELDOUT_STEP == HELDOUT_FIRST]
    rest = [t for i, t in enumerate(texts) if i % HELDOUT_STEP != HELDOUT_FIRST]
    held = "".join(held).encode("ascii")
    return "".join(rest).encode("ascii"), held[:len(held) // WINDOW * WINDOW]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    out = parser.parse_args().out
    texts = chapters(print_bible())
    train, held = split(texts)
    (out / "train.txt").write_bytes(train)
    (out / "heldout.txt").write_bytes(held)
    print(f"{len(texts)} chapters: {len(train)} bytes to train on, {len(held)} held out")


if __name__ == "__main__":
    main()
