# SPDX-License-Identifier: MIT
"""The demo language model in PyTorch: a Mixtral over bytes, as a function of its weights.

Weights are a dict under the names of a Mixtral checkpoint, but with a layer's experts
stacked: "experts.w1" and "experts.w3" are [E*I, H], "experts.w2" is [H, E*I]. All experts
run on every token as one wide SwiGLU whose hidden units are weighted by gamma, zero for
the experts not chosen: plain products, which is the fastest form at this size.
"""
import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


def load_config(path):
    config = json.loads(path.read_text())
    assert config["num_attention_heads"] == config["num_key_value_heads"]
    assert config["tie_word_embeddings"] and config["hidden_act"] == "silu"
    return config


def shapes(config):
    """Name to shape of every weight."""
    hidden = config["hidden_size"]
    wide = config["num_local_experts"] * config["intermediate_size"]
    found = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        found[name + "input_layernorm.weight"] = (hidden,)
        for part in "qkvo":
            found[name + f"self_attn.{part}_proj.weight"] = (hidden, hidden)
        found[name + "post_attention_layernorm.weight"] = (hidden,)
        moe = name + "block_sparse_moe."
        found[moe + "gate.weight"] = (config["num_local_experts"], hidden)
        found[moe + "experts.w1"] = (wide, hidden)
        found[moe + "experts.w3"] = (wide, hidden)
        found[moe + "experts.w2"] = (hidden, wide)
    found["model.norm.weight"] = (hidden,)
    return found


def init_weights(config, device):
    """Normal weights of deviation 0.02, smaller where a branch joins the residual stream."""
    weights = {}
    into_stream = 1 / math.sqrt(2 * config["num_hidden_layers"])
    for name, shape in shapes(config).items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape, device=device)
        else:
            scale = into_stream if name.endswith(("o_proj.weight", "w2")) else 1.0
            weights[name] = torch.randn(shape, device=device) * 0.02 * scale
    return weights


def rotate(x, theta):
    """RoPE over [..., T, D], pairing element i with i + D/2."""
    length, width = x.shape[-2:]
    rate = theta ** (-torch.arange(0, width, 2, device=x.device).float() / width)
    angle = torch.arange(length, device=x.device).float()[:, None] * rate
    angle = torch.cat((angle, angle), dim=-1)
    low, high = x.float().chunk(2, dim=-1)
    return x * angle.cos() + torch.cat((-high, low), dim=-1) * angle.sin()


def attention(weights, name, x, config):
    heads = config["num_attention_heads"]
    query, key, value = (
        F.linear(x, weights[f"{name}{part}_proj.weight"]).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in "qkv")
    query, key = rotate(query, config["rope_theta"]), rotate(key, config["rope_theta"])
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return F.linear(mixed.transpose(1, 2).flatten(-2), weights[name + "o_proj.weight"])


def route(weights, name, x, config):
    """Scores of all experts, and ids and gamma of the chosen ones, best first; fp32 always."""
    with torch.autocast(x.device.type, enabled=False):
        scores = F.linear(x.float(), weights[name + "gate.weight"]).softmax(dim=-1)
    ordered, ids = scores.sort(dim=-1, descending=True, stable=True)
    chosen = config["num_experts_per_tok"]
    gamma = ordered[..., :chosen]
    return scores, ids[..., :chosen], gamma / gamma.sum(dim=-1, keepdim=True)


def moe(weights, name, x, config):
    scores, ids, gamma = route(weights, name, x, config)
    dense = torch.zeros_like(scores).scatter(-1, ids, gamma)
    hidden = F.silu(F.linear(x, weights[name + "experts.w1"]))
    hidden = hidden * F.linear(x, weights[name + "experts.w3"])
    hidden = hidden.unflatten(-1, (dense.shape[-1], -1)) * dense.unsqueeze(-1).to(hidden.dtype)
    return F.linear(hidden.flatten(-2), weights[name + "experts.w2"]), (scores, ids, gamma)


def forward(weights, tokens, config, dropout=0.0):
    """Logits [B, T, V] for tokens [B, T], and each layer's (scores, ids, gamma)."""
    def drop(branch):
        return F.dropout(branch, dropout) if dropout else branch

    def norm(x, name):
        return F.rms_norm(x, x.shape[-1:], weights[name], config["rms_norm_eps"])

    x = drop(weights["model.embed_tokens.weight"][tokens])
    routes = []
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        normed = norm(x, name + "input_layernorm.weight")
        x = x + drop(attention(weights, name + "self_attn.", normed, config))
        normed = norm(x, name + "post_attention_layernorm.weight")
        branch, taken = moe(weights, name + "block_sparse_moe.", normed, config)
        x = x + drop(branch)
        routes.append(taken)
    x = norm(x, "model.norm.weight")
    return F.linear(x, weights["model.embed_tokens.weight"]), routes


def save(weights, path, config):
    """Writes a Mixtral checkpoint in bf16, one tensor per expert."""
    size = config["intermediate_size"]
    tensors = {}
    for name, weight in weights.items():
        weight = weight.detach().to("cpu", torch.bfloat16)
        stem, _, kind = name.rpartition(".")
        if kind == "weight":
            tensors[name] = weight
            continue
        for expert, part in enumerate(weight.split(size, dim=1 if kind == "w2" else 0)):
            tensors[f"{stem}.{expert}.{kind}.weight"] = part.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def load(path, config, device="cpu"):
    """The fp32 weights of a checkpoint that save() wrote."""
    tensors = {name: tensor.float() for name, tensor in load_file(path, device).items()}
    weights = {}
    for name in shapes(config):
        stem, _, kind = name.rpartition(".")
        if kind == "weight":
            weights[name] = tensors[name]
            continue
        parts = [tensors[f"{stem}.{expert}.{kind}.weight"]
                 for expert in range(config["num_local_experts"])]
        weights[name] = torch.cat(parts, dim=1 if kind == "w2" else 0)
    return weights


def rounded(weights):
    """The weights as a checkpoint holds them: rounded to bf16, then fp32 again."""
    return {name: weight.detach().bfloat16().float() for name, weight in weights.items()}
