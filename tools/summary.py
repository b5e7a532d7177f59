#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the closing line of each suite in the given logs, and the sum of Check's: summary.py LOG...

A closing line is Check's ("100%: Checks: 12, Failures: 0, Errors: 0") or the plain one ("12 passed, 0 failed"). A log
without any, or with a suite that ran nothing, is a failure. What says that it cannot run here ("SKIPPED: why") is
listed."""
import os
import re
import sys

CHECK = re.compile(r"^(\d+%): Checks: (\d+), Failures: (\d+), Errors: (\d+)\s*$")
PLAIN = re.compile(r"^(?:\S+: )?(\d+) passed, (\d+) failed(, \d+ skipped)?\s*$")
SKIPPED = re.compile(r"^SKIPPED: (.*)$")
NAME = re.compile(r"^(?:Running suite\(s\): |=+ \d+/\d+ =+|test:\s+)(.*)$")


def closing_lines(path):
    """(suite, line, passed, failed, whether it is Check's) for each closing line of a log; passed is None for what did not
    run."""
    suite = ""
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            line = line.rstrip("\n")
            named = NAME.match(line)
            if named and named.group(1):
                suite = named.group(1).strip()
            check, plain, skipped = CHECK.match(line), PLAIN.match(line), SKIPPED.match(line)
            if check:
                ran, bad = int(check.group(2)), int(check.group(3)) + int(check.group(4))
                yield suite, line, ran - bad, bad, True
            elif plain:
                yield suite, line, int(plain.group(1)), int(plain.group(2)), False
            elif skipped:
                yield suite, f"not run: {skipped.group(1)}", None, None, False


def main(paths):
    total, total_bad, broken = 0, 0, False
    for path in paths:
        run = os.path.splitext(os.path.basename(path))[0]
        rows = list(closing_lines(path)) if os.path.exists(path) else []
        if not rows:
            print(f"{run}: no closing line: nothing ran")
            broken = True
        for suite, line, good, bad, of_check in rows:
            print(f"{run} / {suite}")
            print(line)
            if good is None:
                continue
            broken |= good + bad == 0 or bad > 0
            if of_check:
                total += good
                total_bad += bad
    print("all of Check's suites together:")
    print(f"{100 * total // max(1, total + total_bad)}%: Checks: {total + total_bad}, Failures: {total_bad}, Errors: 0")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
