# SPDX-License-Identifier: MIT
"""What the lints share: the tree's files and the closing line."""
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = {".git", "subprojects", "__pycache__"}


def tree(*endings):
    """Paths relative to ROOT of the files that end so (all without endings), build folders left out."""
    command = ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True) if shutil.which("git") else None
    if listed and listed.returncode == 0:
        names = [n for n in listed.stdout.split("\n") if n and os.path.isfile(os.path.join(ROOT, n))]
    else:  # not a checkout, or no git: a release archive
        names = []
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [f for f in folders if f not in SKIPPED and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return sorted(n for n in names if not endings or n.endswith(endings))


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def finish(checked, complaints):
    """Prints the complaints and the closing line; the exit status."""
    for complaint in complaints:
        print(complaint)
    if not checked:
        print("nothing was checked")
        return 1
    bad = len({c.split(":")[0] for c in complaints})
    print(f"{checked - min(bad, checked)} passed, {bad} failed")
    return 1 if complaints else 0


def skip(why):
    """Meson's exit status for a test that cannot run, with the reason."""
    print(f"SKIPPED: {why}")
    sys.exit(77)
