#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The demo model once more in numpy alone, to check what train.py recorded.

It shares nothing with model.py: it reads the file's bytes itself and runs each expert on
the tokens routed to it, applying gamma to the expert's output row.
"""
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
WINDOW = 256


def read_safetensors(path):
    """Name to fp32 array, of a file of BF16 tensors."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        assert entry["dtype"] == "BF16"
        first, last = entry["data_offsets"]
        bits = np.frombuffer(raw[start + first:start + last], dtype="<u2")
        found[name] = (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    return found


class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = read_safetensors(folder / "model.safetensors")

    def norm(self, x, name):
        mean = np.mean(x * x, axis=-1, keepdims=True)
        scale = 1 / np.sqrt(mean + np.float32(self.config["rms_norm_eps"]))
        return x * scale * self.weights[name]

    def heads(self, x, name):
        """[B, T, H] to [B, heads, T, D] by one projection."""
        x = x @ self.weights[name].T
        split = x.reshape(*x.shape[:2], self.config["num_attention_heads"], -1)
        return split.transpose(0, 2, 1, 3)

    def rotate(self, x):
        length, width = x.shape[-2:]
        rate = self.config["rope_theta"] ** (-np.arange(0, width, 2) / width)
        angle = np.arange(length)[:, None] * rate
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        low, high = np.split(x, 2, axis=-1)
        return np.concatenate((low * cos - high * sin, high * cos + low * sin), axis=-1)

    def attention(self, x, name):
        query = self.rotate(self.heads(x, name + "q_proj.weight"))
        key = self.rotate(self.heads(x, name + "k_proj.weight"))
        value = self.heads(x, name + "v_proj.weight")
        scores = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(query.shape[-1]))
        future = np.triu(np.ones(scores.shape[-2:], dtype=bool), 1)
        mixed = softmax(np.where(future, np.float32(-np.inf), scores)) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ self.weights[name + "o_proj.weight"].T

    def moe(self, x, name):
        """The layer's output, and the chosen ids of each token, best first."""
        rows = x.reshape(-1, x.shape[-1])
        scores = softmax(rows @ self.weights[name + "gate.weight"].T)
        chosen = self.config["num_experts_per_tok"]
        ids = np.argsort(-scores, axis=-1, kind="stable")[:, :chosen]
        gamma = np.take_along_axis(scores, ids, axis=-1)
        gamma /= gamma.sum(axis=-1, keepdims=True)
        out = np.zeros_like(rows)
        for expert in range(scores.shape[-1]):
            token, slot = np.nonzero(ids == expert)
            w1, w2, w3 = (self.weights[f"{name}experts.{expert}.w{part}.weight"]
                          for part in (1, 2, 3))
            gate = rows[token] @ w1.T
            hidden = gate / (1 + np.exp(-gate)) * (rows[token] @ w3.T)
            out[token] += gamma[token, slot, None] * (hidden @ w2.T)
        return out.reshape(x.shape), ids.reshape(*x.shape[:-1], -1)

    def forward(self, tokens):
        """Logits [B, T, V] of tokens [B, T], and each layer's ids [B, T, k]."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        taken = []
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            normed = self.norm(x, name + "input_layernorm.weight")
            x = x + self.attention(normed, name + "self_attn.")
            normed = self.norm(x, name + "post_attention_layernorm.weight")
            branch, ids = self.moe(normed, name + "block_sparse_moe.")
            x = x + branch
            taken.append(ids)
        x = self.norm(x, "model.norm.weight")
        return x @ self.weights["model.embed_tokens.weight"].T, taken


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def bits_per_byte(model, text):
    """As reference.json defines it; also the number of scored bytes."""
    bits, scored = 0.0, 0
    for start in range(0, len(text) - 1, WINDOW):
        tokens = np.frombuffer(text[start:start + WINDOW], dtype=np.uint8)[None]
        logits = model.forward(tokens)[0][0, :-1].astype(np.float64)
        taken = softmax(logits)[np.arange(len(logits)), tokens[0, 1:]]
        bits -= np.log2(taken).sum()
        scored += len(taken)
    return bits / scored, scored


def greedy(model, prompt, count):
    tokens = list(prompt.encode())
    for _ in range(count):
        tokens.append(int(model.forward(np.array([tokens]))[0][0, -1].argmax()))
    return bytes(tokens[len(prompt):]).decode("latin-1")


def verify():
    """Checks every number of reference.json; ends the program with an error if one is off."""
    model = Model(HERE)
    recorded = json.loads((HERE / "reference.json").read_text())
    score, scored = bits_per_byte(model, (HERE / "heldout.txt").read_bytes())
    print(f"bits per byte {score:.6f}, recorded {recorded['bits_per_byte']:.6f}")
    last = recorded["last_position"]
    logits, taken = model.forward(np.frombuffer(last["prompt"].encode(), dtype=np.uint8)[None])
    final = logits[0, -1]
    checks = {
        "bits_per_byte": abs(score - recorded["bits_per_byte"]) < 1e-4,
        "scored_bytes": scored == recorded["scored_bytes"],
        "first_logits": np.allclose(final[:8], last["first_logits"], rtol=0, atol=1e-3),
        "largest_logits": np.allclose(final[last["largest_ids"]], last["largest_logits"],
                                      rtol=0, atol=1e-3),
        "router_ids": [ids[0, -1].tolist() for ids in taken] == last["router_ids"],
    }
    for sample in recorded["greedy"]:
        again = greedy(model, sample["prompt"], len(sample["continuation"]))
        checks[f"greedy {sample['prompt']!r}"] = again == sample["continuation"]
    for name, held in checks.items():
        print("ok  " if held else "BAD ", name)
    if not all(checks.values()):
        sys.exit("reference.json does not hold")


if __name__ == "__main__":
    verify()
