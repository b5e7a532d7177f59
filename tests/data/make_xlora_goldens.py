#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints xlora_goldens.h: what PEFT's own X-LoRA layer makes of one batch, for each way to set it.

Run where torch and peft are installed:  make_xlora_goldens.py > xlora_goldens.h
The test needs neither. Inputs are multiples of 1/64, so that they are the same numbers in fp32 and in the doubles that
PEFT computes with here.
"""
import sys
import types

import peft
import torch
from peft import LoraConfig, XLoraConfig
from peft.tuners import lora
from peft.tuners.xlora.classifier import TemperatureScaledSoftmax
from peft.tuners.xlora.layer import XLoraLinearLayer

BATCH, LENGTH, LAYERS, ADAPTERS, IN, OUT = 2, 3, 2, 4, 12, 7
RANKS, ALPHAS = [3, 2, 3, 1], [6, 2, 3, 4]
SETTINGS = [  # name, softmax, temperature, top-k, softmax over the kept, weight, one scaling for all layers, layer
    ("softmax", True, 1.0, 2, False, 1.0, False, 0),
    ("softmax, temperature 0.5", True, 0.5, 2, False, 1.0, False, 0),
    ("softmax, the other layer", True, 1.0, 2, False, 1.0, False, 1),
    ("softmax, one scaling for all layers", True, 1.0, 3, False, 1.0, True, 1),
    ("all adapters, global weight", True, 1.0, None, False, 0.375, False, 1),
    ("plain values", False, 1.0, 2, False, 1.0, False, 0),
    ("softmax over the kept", False, 1.0, 2, True, 1.5, False, 1),
    ("both softmaxes", True, 1.0, 3, True, 2.0, False, 0),
    ("both softmaxes, temperature 2", True, 2.0, 2, True, 1.0, False, 1),
]


def numbers(*shape):
    return torch.randint(-128, 129, shape).double() / 64


def linear():
    """A LoRA layer of PEFT with adapters of several ranks."""
    base = torch.nn.Linear(IN, OUT, bias=False).double()
    base.weight.data = numbers(OUT, IN)
    layer = lora.Linear(base, "0", config=LoraConfig(r=RANKS[0], lora_alpha=ALPHAS[0]), r=RANKS[0], lora_alpha=ALPHAS[0])
    for i in range(1, ADAPTERS):
        config = LoraConfig(r=RANKS[i], lora_alpha=ALPHAS[i])
        layer.update_layer(str(i), r=RANKS[i], lora_alpha=ALPHAS[i], config=config)
    layer.set_adapter([str(i) for i in range(ADAPTERS)])
    for i in range(ADAPTERS):
        layer.lora_A[str(i)].weight.data = numbers(RANKS[i], IN)
        layer.lora_B[str(i)].weight.data = numbers(OUT, RANKS[i])
    return layer.double().eval()


def run(layer, x, z, setting):
    _, softmax, temperature, k, kept, weight, shared, number = setting
    config = XLoraConfig(hidden_size=IN, adapters={}, enable_softmax=softmax, enable_softmax_topk=kept, top_k_lora=k,
                         softmax_temperature=temperature, global_scaling_weight=weight, layerwise_scalings=not shared)
    scalings = z[:, :, :1].expand(-1, -1, LAYERS, -1) if shared else z
    if softmax:
        scalings = TemperatureScaledSoftmax(temperature)(scalings)
    model = types.SimpleNamespace(disabled=False)
    with torch.no_grad():
        return XLoraLinearLayer(model, layer, layer.forward, number, config).forward(x, scalings=scalings)


def array(name, values):
    print(f"static const float xlora_{name}[] = {{")
    line = ""
    for v in values.flatten().tolist():
        text = "%.8g" % v
        piece = text + ("f," if any(c in text for c in ".e") else ",")
        if len(line) + len(piece) > 110:
            print("    " + line.rstrip())
            line = ""
        line += piece + " "
    print("    " + line.rstrip())
    print("};")


def padded(layer, which):
    """All adapters' A [r, IN] or B [OUT, r] in one array, padded to the largest rank with numbers that must not be used."""
    top = max(RANKS)
    parts = []
    for i in range(ADAPTERS):
        part = getattr(layer, which)[str(i)].weight.data
        full = torch.full((top, IN) if which == "lora_A" else (OUT, top), 1000.0).double()
        full[: part.shape[0], : part.shape[1]] = part
        parts.append(full)
    return torch.stack(parts)


def main():
    torch.manual_seed(5)
    layer, x, z = linear(), numbers(BATCH, LENGTH, IN), numbers(BATCH, LENGTH, LAYERS, ADAPTERS)
    print("// SPDX-License-Identifier: MIT\n//")
    print(f"// Written by make_xlora_goldens.py beside this file with peft {peft.__version__}, torch {torch.__version__}.")
    print("// clang-format off\n")
    print(f"enum {{ XLORA_TOKENS = {BATCH * LENGTH}, XLORA_LAYERS = {LAYERS}, XLORA_ADAPTERS = {ADAPTERS},")
    print(f"       XLORA_IN = {IN}, XLORA_OUT = {OUT}, XLORA_RANK = {max(RANKS)} }};\n")
    print("static const int xlora_ranks[] = {%s};" % ", ".join(map(str, RANKS)))
    array("scale", torch.tensor([a / r for a, r in zip(ALPHAS, RANKS)]))
    array("a", padded(layer, "lora_A"))
    array("b", padded(layer, "lora_B"))
    array("x", x)
    array("scalings", z)
    array("w", layer.base_layer.weight.data)
    array("base", layer.base_layer(x).detach())
    print("\nstatic const struct xlora_golden {")
    print("    const char *name;\n    int softmax;\n    float temperature;\n    int topk, kept_softmax;\n    float weight;")
    print("    int layer; // of the scalings; -1: those of layer 0 are everybody's\n    float y[XLORA_TOKENS * XLORA_OUT];")
    print("} xlora_goldens[] = {")
    for s in SETTINGS:
        name, softmax, temperature, k, kept, weight, shared, number = s
        y = run(layer, x, z, s).flatten().tolist()
        print(f'    {{"{name}", {int(softmax)}, {temperature}f, {k or ADAPTERS}, {int(kept)}, {weight}f, '
              f"{-1 if shared else number},")
        values = ["%.8gf" % v if "." in "%.8g" % v else "%.8g" % v for v in y]
        for i in range(0, len(values), OUT):
            print(("     {" if i == 0 else "      ") + ", ".join(values[i:i + OUT]) + ("}}," if i + OUT >= len(values) else ","))
    print("};")


if __name__ == "__main__":
    sys.exit(main())
