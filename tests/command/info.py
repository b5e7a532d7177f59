# SPDX-License-Identifier: MIT
"""clmoe info, and what every subcommand has."""
import json

import command


class Info(command.CommandTest):
    def test_text(self):
        self.assertIn("features:", self.good("info"))

    def test_json(self):
        devices = json.loads(self.good("info", "--json", "--device", "cpu"))
        self.assertEqual(len(devices), 1)
        self.assertGreater(devices[0]["max_alloc"], 0)
        for row in devices[0]["kernels"]:
            self.assertTrue(row["kernel"].startswith(row["op"] + ": "), row)

    def test_version(self):
        self.assertRegex(self.good("--version"), r"^clmoe \d+\.\d+\.\d+\n$")

    def test_help(self):
        commands = [line.split()[0] for line in self.good("--help").splitlines() if line.startswith("  ")]
        self.assertIn("info", commands)
        for name in commands:
            text = self.good(name, "--help")
            self.assertIn("usage: clmoe " + name, text)
            self.assertIn("example:\n  clmoe " + name, text)
            self.assertIn("--device", text)


if __name__ == "__main__":
    command.main([Info])
