#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains, records and verifies the demo language model.

    python3 train.py --data DIR --minutes 4.5 --out DIR    train; DIR/train.txt is data.py's
    python3 train.py --record                              model.safetensors -> reference.json
    python3 train.py --verify                              check it again, in numpy
"""
import argparse
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F

import model
import reference

HERE = pathlib.Path(__file__).resolve().parent
WINDOW = 256
BALANCE = 0.01
EVALUATIONS = 24
GREEDY_PROMPTS = ("And it came to pass, when ", "Behold, ")
GREEDY_BYTES = 64
LOGITS_PROMPT = "In the beginning God created"


def read_bytes(path, device):
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8).to(device).long()


def balance_loss(routes):
    """Mean over layers of E * sum_e f_e * P_e: 1 where experts share the work evenly."""
    losses = []
    for scores, ids, _ in routes:
        experts = scores.shape[-1]
        share = F.one_hot(ids, experts).float().mean(dim=(0, 1, 2))
        losses.append(experts * (share * scores.mean(dim=(0, 1))).sum())
    return torch.stack(losses).mean()


@torch.no_grad()
def evaluate(weights, text, config):
    """Bits per byte, scored bytes, and each layer's use of its experts, in fp32.

    The text is cut into windows of 256 bytes; each byte but a window's first is predicted
    from those before it in the window. A last window of 2 bytes or more is scored too.
    """
    bits, scored = 0.0, 0
    counts = torch.zeros(config["num_hidden_layers"], config["num_local_experts"])
    whole = len(text) // WINDOW * WINDOW
    batches = list(text[:whole].view(-1, WINDOW).split(64))
    if len(text) - whole >= 2:
        batches.append(text[None, whole:])
    for tokens in batches:
        logits, routes = model.forward(weights, tokens, config)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(),
                               reduction="none")
        bits += loss.double().sum().item() / math.log(2)
        scored += loss.numel()
        for layer, (_, ids, _) in enumerate(routes):
            counts[layer] += ids.flatten().bincount(minlength=counts.shape[1]).cpu()
    return bits / scored, scored, counts / counts.sum(dim=1, keepdim=True)


def make_optimizer(weights, args):
    matrices = [weight for weight in weights.values() if weight.ndim > 1]
    vectors = [weight for weight in weights.values() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": args.decay},
              {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95),
                             fused=args.device == "cuda")


def rate_at(progress, peak):
    """2 % of the time as warm-up, then half a cosine down to zero."""
    warm = 0.02
    if progress < warm:
        return peak * progress / warm
    return peak * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2


def train_step(weights, optimizer, text, config, args):
    start = torch.randint(len(text) - WINDOW, (args.batch, 1), device=args.device)
    tokens = text[start + torch.arange(WINDOW + 1, device=args.device)]
    with torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
        logits, routes = model.forward(weights, tokens[:, :-1], config, args.dropout)
    loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
    (loss + BALANCE * balance_loss(routes)).backward()
    torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach() / math.log(2)


def train(args, config):
    """Trains until time or steps are up; keeps the checkpoint that is best on the held-out text."""
    torch.manual_seed(args.seed)
    text = read_bytes(args.data / "train.txt", args.device)
    held = read_bytes(HERE / "heldout.txt", args.device)
    weights = model.init_weights(config, args.device)
    for weight in weights.values():
        weight.requires_grad_()
    print(f"{sum(weight.numel() for weight in weights.values())} weights", flush=True)
    optimizer = make_optimizer(weights, args)
    best, step, evaluations = {"heldout": math.inf}, 0, 0
    progress, started = 0.0, time.monotonic()
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(progress, args.rate)
        loss = train_step(weights, optimizer, text, config, args)
        step += 1
        seconds = time.monotonic() - started
        progress = max(seconds / (60 * args.minutes), step / args.steps if args.steps else 0)
        if progress * EVALUATIONS < evaluations + 1:
            continue
        evaluations = int(progress * EVALUATIONS)
        frozen = model.rounded(weights)
        score, _, _ = evaluate(frozen, held, config)
        print(f"{seconds:6.1f} s  step {step}  batch {loss.item():.4f}  held-out {score:.4f}",
              flush=True)
        if score < best["heldout"]:
            best = {"heldout": score, "step": step, "seconds": seconds}
            model.save(frozen, args.out / "model.safetensors", config)
    frozen = model.load(args.out / "model.safetensors", config, args.device)
    best["train"], _, _ = evaluate(frozen, text[:2 ** 20], config)
    best.update(steps=step, tokens=step * args.batch * WINDOW, torch=torch.__version__)
    print(json.dumps(best), flush=True)


@torch.no_grad()
def greedy(weights, prompt, config):
    """The likeliest continuation, and the smallest lead of a winner over its runner-up."""
    tokens, lead = list(prompt.encode()), math.inf
    for _ in range(GREEDY_BYTES):
        logits = model.forward(weights, torch.tensor([tokens]), config)[0][0, -1]
        first, second = logits.topk(2).values.tolist()
        lead = min(lead, first - second)
        tokens.append(logits.argmax().item())
    text = bytes(tokens[len(prompt):]).decode("latin-1")
    return {"prompt": prompt, "continuation": text, "smallest_lead": round(lead, 5)}


@torch.no_grad()
def record(config):
    """Writes reference.json from model.safetensors."""
    weights = model.load(HERE / "model.safetensors", config)
    score, scored, usage = evaluate(weights, read_bytes(HERE / "heldout.txt", "cpu"), config)
    for layer, shares in enumerate(usage.tolist()):
        print(f"layer {layer} experts:", " ".join(f"{share:6.1%}" for share in shares))
    tokens = torch.tensor([list(LOGITS_PROMPT.encode())])
    logits, routes = model.forward(weights, tokens, config)
    largest = logits[0, -1].topk(8)
    found = {
        "torch": torch.__version__.partition("+")[0],
        "bits_per_byte_means": " ".join(evaluate.__doc__.split("\n\n")[1].split()),
        "bits_per_byte": score,
        "scored_bytes": scored,
        "greedy": [greedy(weights, prompt, config) for prompt in GREEDY_PROMPTS],
        "last_position": {
            "prompt": LOGITS_PROMPT,
            "first_logits": logits[0, -1, :8].tolist(),
            "largest_logits": largest.values.tolist(),
            "largest_ids": largest.indices.tolist(),
            "router_ids": [ids[0, -1].tolist() for _, ids, _ in routes],
            "gamma": [gamma[0, -1].tolist() for _, _, gamma in routes],
        },
    }
    (HERE / "reference.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"{score:.5f} bits per byte over {scored} bytes")
    for sample in found["greedy"]:
        print(sample)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write reference.json")
    parser.add_argument("--verify", action="store_true", help="check reference.json in numpy")
    parser.add_argument("--data", type=pathlib.Path, default=HERE, help="folder of train.txt")
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--minutes", type=float, default=4.5)
    parser.add_argument("--steps", type=int, help="the most steps, where time allows them")
    parser.add_argument("--batch", type=int, default=128, help="windows of 256 bytes a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    config = model.load_config(HERE / "config.json")
    if args.record:
        record(config)
    elif args.verify:
        reference.verify()
    else:
        train(args, config)


if __name__ == "__main__":
    main()
