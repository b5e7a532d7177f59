# SPDX-License-Identifier: MIT
"""clmoe generate from outside: text, score, picture, and models that are broken."""
import json
import os
import pathlib
import re
import shutil
import sys
import unittest
import xml.etree.ElementTree

import command

DEMO = pathlib.Path(sys.argv[2]).resolve()
REFERENCE = json.loads((DEMO / "reference.json").read_text())
GREEDY = ("--temperature", 0)

# What reference.py writes with the rule of text.h: past 256 bytes the last 128 are read again. The closest choice of
# these was by 0.035.
SLID = ("In the beginning God created", " the word of God and of his promise.\n"
        "And the LORD said unto Moses, Speak unto the children of Israel, and say unto them, Thus saith the LORD, "
        "Behold, I will give thee the land of Egypt for a memorial unto the LORD, and to the house of Israel for ever.\n"
        "And the LORD said unto Moses, Speak unto the children of Israel, and")


def split(raw, change):
    """The file with its header changed by `change`, which may return bytes of data to append."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + size:]


class Generate(command.CommandTest):
    def test_greedy(self):
        for sample in REFERENCE["greedy"]:
            out = self.good("generate", "--prompt", sample["prompt"], "--tokens", len(sample["continuation"]), *GREEDY)
            self.assertTrue(out.startswith(sample["prompt"] + sample["continuation"] + "\n"), out)
            self.assertRegex(out, r"\n64 tokens in [0-9.]+ s, [0-9.]+ tokens/s on .+, dense products by \w+\n")

    def test_past_the_context(self):
        prompt, text = SLID
        out = self.good("generate", "--prompt", prompt, "--tokens", len(text), *GREEDY)
        self.assertEqual(out[:len(prompt) + len(text) + 1], prompt + text + "\n")

    def test_long_prompt(self):
        """Only the end of it is seen: 384 bytes become 128."""
        prompt = (DEMO / "heldout.txt").read_text()[:384]
        whole = self.good("generate", "--prompt", prompt, "--tokens", 20, *GREEDY)
        end = self.good("generate", "--prompt", prompt[-128:], "--tokens", 20, *GREEDY)
        self.assertEqual(whole[384:404], end[128:148])

    def test_seed_repeats(self):
        first = self.good("generate", "--tokens", 60)
        seed = re.search(r", seed (\d+)\n", first).group(1)
        again = self.good("generate", "--tokens", 60, "--seed", seed)
        other = self.good("generate", "--tokens", 60, "--seed", int(seed) + 1)
        text = first.rsplit("tokens in", 1)[0]
        self.assertEqual(text, again.rsplit("tokens in", 1)[0])
        self.assertNotEqual(text, other.rsplit("tokens in", 1)[0])

    def test_score(self):
        """Eight windows, by reference.py."""
        with open(self.path("part.txt"), "wb") as f:
            f.write((DEMO / "heldout.txt").read_bytes()[:2048])
        out = self.good("generate", "--score", "part.txt")
        found = re.match(r"([0-9.]+) bits per byte over 2040 bytes of part.txt\n", out)
        self.assertAlmostEqual(float(found.group(1)), 1.464477, delta=1e-4)

    def test_formats(self):
        """By quantised.py; w2 has rows of 128, so that q6_k is q8_0 there."""
        with open(self.path("part.txt"), "wb") as f:
            f.write((DEMO / "heldout.txt").read_bytes()[:2048])
        out = self.good("generate", "--score", "part.txt", "--quant", "int8")
        self.assertAlmostEqual(float(out.split()[0]), 1.463812, delta=1e-5)
        self.assertIn("\nexperts at 8.17 bits a weight\n", out)
        out = self.good("generate", "--tokens", 4, "--quant", "q6_k", *GREEDY)
        self.assertIn("\nexperts at 7.21 bits a weight\n", out)
        self.assertNotIn("bits a weight", self.good("generate", "--tokens", 4, *GREEDY))

    def test_picture(self):
        out = self.good("generate", "--tokens", 8, "--prompt", "A & <B>", "--svg", "e.svg", "--seed", 3)
        rows = re.findall(r"^ +([0-3])  ((?: +\d+){8}) $", out, re.M)
        self.assertEqual([r[0] for r in rows], list("0123"))
        for _, shares in rows:
            self.assertAlmostEqual(sum(map(int, shares.split())), 100, delta=4)
        svg = xml.etree.ElementTree.parse(self.path("e.svg")).getroot()
        space = "{http://www.w3.org/2000/svg}"
        self.assertEqual(svg.tag, space + "svg")
        texts = [t.text for t in svg.iter(space + "text")]
        self.assertTrue(any('8 bytes written after "A & <B>", seed 3' in t for t in texts), texts)
        self.assertIn("share of the layer's choices, in %", texts)
        cells = [t.text for t in svg.iter(space + "title") if t.text.startswith("layer")]
        self.assertEqual(len(cells), 4 * 8)
        choices = [re.fullmatch(r"layer (\d), expert \d: (\d+) choices, [0-9.]+ %", c).groups() for c in cells]
        for layer in "0123":
            # seven bytes of prompt, and all but the last of those written
            self.assertEqual(sum(int(n) for l, n in choices if l == layer), 2 * (7 + 7))
        self.assertEqual(sorted(os.listdir(self.folder.name)), ["e.svg"])

    def test_svg_nowhere(self):
        """Known before anything is written."""
        code, out, err = self.run_command("generate", "--tokens", 1, "--svg", "no/such/e.svg")
        self.assertEqual((code, out, err.count("\n")), (1, "", 1), err)
        self.assertIn("no/such/e.svg", err)

    def test_help(self):
        self.assertRegex(self.good("generate", "--help"), r"(?s)Dense products run by \w+.*--score.*example:")

    def bad(self, args, message):
        code, out, err = self.run_command("generate", *args)
        self.assertEqual((code, out, err.count("\n")), (2, "", 1), (args, err))
        self.assertIn(message, err)

    def test_bad_usage(self):
        for name in ("empty", "one"):
            with open(self.path(name), "w") as f:
                f.write("x" * (name == "one"))
        for args, message in (
                (("--temperature", -1), "--temperature: expected 0 or more, got -1"),
                (("--temperature", "nan"), "--temperature"),
                (("--temperature", "warm"), "--temperature"),
                (("--quant", "q4_7"), "--quant: expected one of q8_0|"),
                (("--tokens", 0), "--tokens: expected an integer in 1.."),
                (("--tokens", -5), "--tokens"),
                (("--seed", -1), "--seed"),
                (("--prompt", ""), "--prompt: expected one byte or more"),
                (("--device", "no such device"), 'no device matches "no such device"'),
                (("--model", "nowhere"), "nowhere/config.json"),
                (("--model", ""), "config.json"),
                (("--model", "x" * 5000), "too long"),
                (("--score", "nothing.txt"), "nothing.txt"),
                (("--score", "."), "."),
                (("--score", "empty"), "empty: fewer than 2 bytes"),
                (("--score", "one"), "one: fewer than 2 bytes"),
                (("word",), '"word" is one operand too many'),
                (("--sed", 1), 'no option "--sed"')):
            with self.subTest(args=args):
                self.bad(args, message)

    def copy_model(self):
        folder = pathlib.Path(self.path("model"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(DEMO / "config.json", folder)
        return folder

    def test_bad_config(self):
        config = json.loads((DEMO / "config.json").read_text())
        for key, value, message in (
                ("model_type", "llama", "model_type"),
                ("model_type", None, "model_type"),
                ("hidden_act", "gelu", "hidden_act"),
                ("rope_scaling", {"type": "yarn"}, "rope_scaling: not supported"),
                ("vocab_size", 32000, "vocab_size"),
                ("hidden_size", 0, "hidden_size"),
                ("hidden_size", 250, "multiples of 16"),
                ("hidden_size", 512, "expected the shape (256, 512), got (256, 256)"),
                ("intermediate_size", 64, "w1.weight: expected the shape (64, 256), got (128, 256)"),
                ("intermediate_size", "big", "intermediate_size"),
                ("num_hidden_layers", 5, 'no tensor "model.layers.4.'),
                ("num_hidden_layers", -1, "num_hidden_layers"),
                ("num_attention_heads", 0, "num_attention_heads"),
                ("num_key_value_heads", 16, "num_key_value_heads"),
                ("num_key_value_heads", 3, "no multiple"),
                ("num_key_value_heads", 4, "k_proj.weight: expected the shape (128, 256)"),
                ("head_dim", 64, "q_proj.weight: expected the shape (512, 256)"),
                ("num_local_experts", 9, "gate.weight: expected the shape (9, 256)"),
                ("num_local_experts", 5000, "num_local_experts"),
                ("num_experts_per_tok", 9, "num_experts_per_tok"),
                ("num_experts_per_tok", 0, "num_experts_per_tok"),
                ("max_position_embeddings", 100000, "max_position_embeddings"),
                ("max_position_embeddings", 100, "multiples of 16"),
                ("sliding_window", 64, "sliding_window"),
                ("rms_norm_eps", -1, "rms_norm_eps"),
                ("rope_theta", "no", "rope_theta"),
                ("tie_word_embeddings", False, 'no tensor "lm_head.weight"')):
            with self.subTest(key=key, value=value):
                folder = self.copy_model()
                (folder / "model.safetensors").symlink_to(DEMO / "model.safetensors")
                (folder / "config.json").write_text(json.dumps(dict(config, **{key: value})))
                self.bad(("--model", "model"), message)

    def test_score_needs_the_window(self):
        folder = self.copy_model()
        (folder / "model.safetensors").symlink_to(DEMO / "model.safetensors")
        config = json.loads((DEMO / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(dict(config, max_position_embeddings=128)))
        self.bad(("--model", "model", "--score", DEMO / "heldout.txt"), "a context of 128 bytes is too short")

    def test_broken_weights(self):
        raw = (DEMO / "model.safetensors").read_bytes()
        norm, down = "model.norm.weight", "model.layers.3.block_sparse_moe.experts.7.w2.weight"

        def reshape(header):
            header[down]["shape"] = [128, 256]

        def rename(header):
            header["model.other.weight"] = header.pop(norm)

        def retype(header):
            header[norm]["dtype"] = "I16"

        def mix(header):
            header[down]["dtype"] = "F16"

        for name, data, message in (
                ("missing", None, "model.safetensors"),
                ("empty", b"", "model.safetensors"),
                ("cut in the length", raw[:5], "model.safetensors"),
                ("cut in the header", raw[:500], "model.safetensors"),
                ("cut in the data", raw[:-1000], "model.safetensors"),
                ("no header", (8).to_bytes(8, "little") + b"nonsense" + raw[16:], "model.safetensors"),
                ("another shape", split(raw, reshape), "w2.weight: expected the shape (256, 128), got (128, 256)"),
                ("a name gone", split(raw, rename), 'no tensor "model.norm.weight"'),
                ("integers", split(raw, retype), "model.norm.weight: expected F32, F16 or BF16, got I16"),
                ("two types", split(raw, mix), "w2.weight: f16, but the embedding is bf16")):
            with self.subTest(name=name):
                folder = self.copy_model()
                if data is not None:
                    (folder / "model.safetensors").write_bytes(data)
                self.bad(("--model", "model"), message)

    def test_weights_without_numbers(self):
        raw = bytearray((DEMO / "model.safetensors").read_bytes())
        size = int.from_bytes(raw[:8], "little")
        at, end = json.loads(raw[8:8 + size])["model.norm.weight"]["data_offsets"]
        raw[8 + size + at:8 + size + end] = b"\xff\x7f" * ((end - at) // 2)
        (self.copy_model() / "model.safetensors").write_bytes(raw)
        code, _, err = self.run_command("generate", "--model", "model", "--tokens", 1)
        self.assertEqual((code, err), (1, "clmoe generate: model: the logits are not finite numbers\n"))


if __name__ == "__main__":
    command.main([Generate])
