#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files have at most 800 lines, functions at most 100; tables of data are exempt."""
import ast
import re
import sys

from common import finish, read, tree

FILE_LINES = 800
FUNCTION_LINES = 100
DATA = ("tests/data/", "tools/demo/")


def without_text(source):
    """The source with comments, strings and characters blanked, line for line."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, source, flags=re.S)


def c_functions(source):
    """(first line, number of lines, name) of the blocks that follow a parameter list at the top level."""
    depth, head, start = 0, "", 0
    for number, line in enumerate(without_text(source).split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        for c in line:
            if c == "{":
                if depth == 0:
                    start = number
                depth += 1
            elif c == "}":
                depth -= 1
                if depth == 0:
                    if head.rstrip().endswith(")") and "(" in head:
                        yield start, number - start + 1, re.findall(r"(\w+)\s*\(", head)[-1]
                    head = ""
                continue
            elif depth == 0:
                head = "" if c == ";" else head + c
        if depth == 0:
            head += "\n"


def python_functions(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno - node.lineno + 1, node.name


def main():
    complaints, files = [], [n for n in tree(".c", ".h", ".cl", ".py") if not n.startswith(DATA)]
    for name in files:
        source = read(name)
        lines = source.count("\n")
        if lines > FILE_LINES:
            complaints.append(f"{name}: {lines} lines, {FILE_LINES} are allowed: split it by subject")
        functions = python_functions if name.endswith(".py") else c_functions
        for line, size, function in functions(source):
            if size > FUNCTION_LINES:
                complaints.append(f"{name}:{line}: {function} has {size} lines, {FUNCTION_LINES} are allowed")
    return finish(len(files), complaints)


if __name__ == "__main__":
    sys.exit(main())
