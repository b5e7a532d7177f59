#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Copies the first C program of README.md to a file, so that it is built and run as it stands: readme.py README OUT"""
import re
import sys

with open(sys.argv[1], encoding="utf-8") as readme:
    program = re.search(r"^```c\n(.*?)^```$", readme.read(), re.S | re.M)
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write(program.group(1))
