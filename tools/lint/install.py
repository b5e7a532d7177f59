#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a user of clmoe does: installs it, compiles a program against it by pkg-config (shared, static, as C++), and runs
that; or has it as a subproject of a meson project: install.py BUILD_FOLDER MESON..."""
import glob
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

from common import ROOT, finish, tree

USER = os.path.join(ROOT, "tests/install/user.c")
PROJECT = """project('user', 'c', default_options: ['c_std=c11'])
clmoe = dependency('clmoe', version: '>= 0', fallback: ['clmoe', 'clmoe_dep'])
executable('user', 'user.c', dependencies: clmoe)
"""


def call(command, **options):
    run = subprocess.run(command, capture_output=True, text=True, **options)
    if run.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{run.stdout}{run.stderr}")
    return run.stdout


def pkg_config(pc, prefix, *options):
    # Only the last option differs from a system where clmoe is installed for good: the prefix is the scratch folder's.
    paths = os.pathsep.join(filter(None, [os.path.dirname(pc), os.environ.get("PKG_CONFIG_PATH")]))
    command = ["pkg-config", f"--define-variable=prefix={prefix}", *options, "clmoe"]
    return shlex.split(call(command, env={**os.environ, "PKG_CONFIG_PATH": paths}))


def installed(build, meson, scratch):
    """Names of the steps that worked."""
    stage = os.path.join(scratch, "stage")
    call([*meson, "install", "-C", build, "--destdir", stage, "--no-rebuild", "--tags", "devel,runtime"])
    pc = glob.glob(f"{stage}/**/clmoe.pc", recursive=True)[0]
    with open(pc, encoding="utf-8") as f:
        prefix = stage + next(line for line in f if line.startswith("prefix=")).strip()[len("prefix="):]
    folder = os.path.dirname(glob.glob(f"{stage}/**/libclmoe.so", recursive=True)[0])
    flags, libs = pkg_config(pc, prefix, "--cflags"), pkg_config(pc, prefix, "--libs")
    static = [os.path.join(folder, "libclmoe.a")] + [
        f for f in pkg_config(pc, prefix, "--libs", "--static") if f != "-lclmoe"]
    cc, cxx = shlex.split(os.environ.get("CC", "cc")), shlex.split(os.environ.get("CXX", "c++"))
    ways = {"shared": [*cc, "-std=c11", USER], "static": [*cc, "-std=c11", USER], "c++": [*cxx, "-x", "c++", USER, "-x", "none"]}
    for name, compile_it in ways.items():
        program = os.path.join(scratch, name)
        call([*compile_it, "-Wall", "-Wextra", "-Werror", "-o", program, *flags, *(static if name == "static" else libs)])
        print(name, call([program], env={**os.environ, "LD_LIBRARY_PATH": "" if name == "static" else folder}).strip())
        yield name
    versions = {os.path.basename(f) for f in glob.glob(f"{folder}/libclmoe.so*")}
    if not any(v.count(".") == 2 for v in versions):
        raise RuntimeError(f"no libclmoe.so.N among {versions}")
    yield "soversion"


def as_subproject(meson, scratch):
    project = os.path.join(scratch, "project")
    inner = os.path.join(project, "subprojects/clmoe")
    for name in tree():
        if name.startswith(("include/", "lib/", "cl/", "tools/", "meson")) and not name.startswith("tools/demo/"):
            os.makedirs(os.path.dirname(os.path.join(inner, name)), exist_ok=True)
            shutil.copy(os.path.join(ROOT, name), os.path.join(inner, name))
    shutil.copy(USER, project)
    with open(os.path.join(project, "meson.build"), "w", encoding="utf-8") as f:
        f.write(PROJECT)
    build = os.path.join(scratch, "subproject-build")
    call([*meson, "setup", build, project, "--wrap-mode=nodownload", "-Dclmoe:tests=disabled", "-Dclmoe:tools=disabled",
          "-Dbuildtype=debugoptimized"])
    call(["ninja", "-C", build])
    print("subproject", call([os.path.join(build, "user")]).strip())
    yield "subproject"


def main(build, meson):
    done, complaints = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for steps in (installed(build, meson, scratch), as_subproject(meson, scratch)):
            try:
                done += steps
            except (RuntimeError, IndexError, OSError, StopIteration) as error:
                complaints.append(f"after {', '.join(done) or 'nothing'}: {error}")
    return finish(len(done) + len(complaints), complaints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
