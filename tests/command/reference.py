# SPDX-License-Identifier: MIT
"""The operations in plain Python, with doubles."""
import math
import struct


def total_order(v):
    """Signed magnitude: -NaN first, -0 before 0, NaN last."""
    bits = struct.unpack("<q", struct.pack("<d", v))[0]
    return bits if bits >= 0 else -1 - (bits & 2 ** 63 - 1)


def topk(row, k, smallest=False, nan="greatest", ties="lowest"):
    """The indices of the k best, best first."""
    def rank(i):
        v = row[i]
        if nan == "total" and isinstance(v, float):
            r = (0, total_order(v))
        elif v != v:
            r = (-1, 0) if nan == "lowest" else (1, 0)
        else:
            r = (0, v)
        return (r if smallest else (-r[0], -r[1])) + (i if ties == "lowest" else -i,)
    return sorted(range(len(row)), key=rank)[:k]


def route(logits, k, score="softmax", bias=None, groups=None, group_score="max", renorm=False, eps=0.0,
          clamp=0.0, scale=1.0):
    """ids and weights of one token. `groups` is (n_group, topk_group)."""
    if score == "softmax":
        top = max(logits)
        e = [math.exp(v - top) for v in logits]
        s = [v / sum(e) for v in e]
    else:
        s = [1 / (1 + math.exp(-v)) for v in logits]
    q = [a + b for a, b in zip(s, bias)] if bias else list(s)
    if groups:
        size = len(q) // groups[0]
        parts = [sorted(q[g * size:g * size + size], reverse=True) for g in range(groups[0])]
        best = topk([p[0] if group_score == "max" else sum(p[:2]) for p in parts], groups[1])
        q = [v if i // size in best else -math.inf for i, v in enumerate(q)]
    ids = topk(q, k)
    w = [s[i] for i in ids]
    if renorm:
        w = [v / max(sum(w) + eps, clamp) for v in w]
    return ids, [v * scale for v in w]


def product(matrix, x):
    return [sum(a * b for a, b in zip(row, x)) for row in matrix]


def expert(x, gate, up, down):
    h = [g / (1 + math.exp(-g)) * u for g, u in zip(product(gate, x), product(up, x))]
    return product(down, h)


def moe(rows, router, experts, k, renorm):
    """y, ids and weights of each row. `experts` is a list of (gate, up, down), each a list of rows."""
    results = []
    for x in rows:
        ids, w = route(product(router, x), k, renorm=renorm)
        y = [0.0] * len(x)
        for i, weight in zip(ids, w):
            for h, v in enumerate(expert(x, *experts[i])):
                y[h] += weight * v
        results.append((y, ids, w))
    return results
