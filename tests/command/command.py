# SPDX-License-Identifier: MIT
"""Runs the command in a folder of its own; the base of all its tests."""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

from arrays import Array, count, load_npy, save_npy

binary = None
programs = None


def random_rows(shape, dtype, seed):
    """With ties among them."""
    r = random.Random(seed)
    return Array(dtype, shape, [r.choice([r.gauss(0, 3), r.randrange(-3, 4)]) for _ in range(count(shape))]).rounded()


def broken_sources(folder, path):
    """The kernels, for CLMOE_CL_DIR, with one file that does not build."""
    shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cl"), folder)
    with open(os.path.join(folder, path), "w", encoding="utf-8") as f:
        f.write("kernel void broken() { does_not_parse }\n")
    return folder


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="clmoe-command-")
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run_command(self, *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=None):
        """Returns (exit code, stdout, stderr)."""
        env = dict(os.environ, CLMOE_CACHE_DIR=programs, **(env or {}))
        r = subprocess.run([binary] + [str(a) for a in args], cwd=self.folder.name, env=env,
                           stdout=stdout, stderr=stderr, timeout=600)
        return r.returncode, (r.stdout or b"").decode(), (r.stderr or b"").decode()

    def good(self, *args):
        code, out, err = self.run_command(*args)
        self.assertEqual((code, err), (0, ""), args)
        return out

    def save(self, name, array, **how):
        save_npy(self.path(name), array, **how)
        return name

    def load(self, name):
        return load_npy(self.path(name))

    def check_same(self, name, wanted):
        got = self.load(name)
        self.assertTrue(wanted.same(got), "%s: got %r, expected %r" % (name, got, wanted))

    def check_close(self, got, wanted, tolerance):
        self.assertEqual(len(got), len(wanted))
        for i, (g, w) in enumerate(zip(got, wanted)):
            self.assertLessEqual(abs(g - w), tolerance, "element %d: got %r, expected %r" % (i, g, w))


def main(cases):
    """Usage: SCRIPT COMMAND DEMO. A run of no test is a failure."""
    global binary, programs
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="clmoe-programs-") as programs:
        suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(c) for c in cases)
        result = unittest.TextTestRunner(verbosity=1).run(suite)
    bad = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed", flush=True)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > len(result.skipped) else 1)
