# SPDX-License-Identifier: MIT
"""What must fail: exit code, one line on stderr that says why, and every file as it was."""
import json
import os
import random
import struct

import command
from arrays import Array, count, npy_bytes, save_npy, save_safetensors

MIXTRAL = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_size": 3,
           "intermediate_size": 2, "num_hidden_layers": 2, "hidden_act": "silu"}
V3 = {"model_type": "deepseek_v3", "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
      "routed_scaling_factor": 2.5}
V2 = dict(V3, model_type="deepseek_v2", topk_method="group_limited_greedy")

CONFIGS = {
    "mixtral": MIXTRAL,
    "v3": V3,
    "v2": V2,
    "no-type": {k: v for k, v in MIXTRAL.items() if k != "model_type"},
    "unknown": dict(MIXTRAL, model_type="mamba"),
    "no-k": {k: v for k, v in MIXTRAL.items() if k != "num_experts_per_tok"},
    "k-5": dict(MIXTRAL, num_experts_per_tok=5),
    "k-0": dict(MIXTRAL, num_experts_per_tok=0),
    "k-text": dict(MIXTRAL, num_experts_per_tok="two"),
    "experts-0": dict(MIXTRAL, num_local_experts=0),
    "experts-5000": dict(MIXTRAL, num_local_experts=5000),
    "norm-text": dict(MIXTRAL, model_type="qwen3_moe", norm_topk_prob="yes"),
    "tanh": dict(MIXTRAL, scoring_func="tanh"),
    "3-groups": dict(V3, n_group=3),
    "3-of-2-groups": dict(V3, topk_group=3),
    "small-groups": dict(V3, n_group=4),
    "v2-method": dict(V2, topk_method="magic"),
    "scale-0": dict(V3, routed_scaling_factor=0),
    "scale-text": dict(V3, routed_scaling_factor="big"),
}

# Files for --options.
OPTIONS = {
    "o-key": {"like": "mixtral", "expert": 4},
    "o-like": {"like": "llama5"},
    "o-like-common": {"like": "common"},
    "o-like-number": {"like": 5},
    "o-missing": {"topk": 2},
    "o-missing-one": {"experts": 4},
    "o-cases": {"like": "mixtral", "cases": []},
    "o-case": {"like": "mixtral", "cases": {"hidden_act": "silu"}},
    "o-case-value": {"like": "mixtral", "cases": {"hidden_act": {"gelu": {}, "relu": {}}}},
    "o-case-list": {"like": "mixtral", "cases": {"hidden_act": {"silu": [1]}}},
    "o-case-number": {"like": "mixtral", "cases": {"hidden_act": {"silu": 5}}},
    "o-case-like": {"like": "mixtral", "cases": {"hidden_act": {"silu": {"like": "dbrx"}}}},
    "o-case-within": {"like": "mixtral", "cases": {"hidden_act": {"silu": {"within": "text_config"}}}},
    "o-within": {"like": "mixtral", "within": ["text_config"]},
    "o-select-bias": {"like": "mixtral", "select_bias": 5},
    "o-router-bias": {"like": "mixtral", "router_bias": True},
    "o-names": {"like": "mixtral", "router_bias": []},
    "o-block": {"like": "mixtral", "block": [5, "model.layers.{L}.block_sparse_moe."]},
    "o-alpha": {"like": "mixtral", "alpha": 0},
    "o-null-k": {"like": "mixtral", "topk": [None, 2]},
    "o-bias": {"like": "mixtral", "router_bias": "bias"},
    "o-absent": {"like": "mixtral", "experts": "$n_experts|e"},
    "o-object": {"like": "mixtral", "topk": {}},
    "o-score": {"like": "mixtral", "score": "hard"},
    "o-renorm": {"like": "mixtral", "renorm": "max"},
    "o-glu": {"like": "mixtral", "glu": "apart"},
    "o-router": {"like": "mixtral", "router": 5},
    "o-down": {"like": "mixtral", "down_proj": None},
    "o-long": {"like": "mixtral", "down_proj": "x" * 5000},
    "o-first": {"like": "mixtral", "first": 1},
    "o-last": {"like": "mixtral", "first": 0, "last": "$num_local_experts", "step": 2},
    "o-offset": {"like": "mixtral", "step": 2, "offset": 2},
    "o-only": {"like": "mixtral", "only": [1, 2]},
    "o-only-text": {"like": "mixtral", "only": ["0"]},
    "o-except": {"like": "mixtral", "except": [1, 0]},
    "o-kinds": {"like": "mixtral", "kinds": "ME"},
    "o-kinds-number": {"like": "mixtral", "kinds": 3},
    "o-shared": {"like": "mixtral", "shared": "one"},
}

TOPK_OUT = "-k 1 --values out.npy"
SCATTER_OUT = "-n 9 --out out.npy"
ROUTE_OUT = "--ids out.npy --weights out2.npy"
MOE_OUT = "--layer 0 --input h.npy --output out.npy"


def block(layer=0, experts=4, hidden=3, inter=2, dtype="f32", **instead):
    """The tensors of one Mixtral layer; `instead` replaces some, or leaves them out where it is None."""
    prefix = "model.layers.%d.block_sparse_moe." % layer
    shapes = {"gate": (experts, hidden)}
    for e in range(experts):
        shapes.update({"experts.%d.w1" % e: (inter, hidden), "experts.%d.w3" % e: (inter, hidden),
                       "experts.%d.w2" % e: (hidden, inter)})
    tensors = {name: Array(dtype, shape, [0] * (shape[0] * shape[1])) for name, shape in shapes.items()}
    tensors.update({key.replace("_", "."): array for key, array in instead.items()})
    return {prefix + name + ".weight": array for name, array in tensors.items() if array}


# name: (config.json, tensors or None for no file)
MODELS = {
    "m": (MIXTRAL, block()),
    "m-no-weights": (MIXTRAL, None),
    "m-qwen2": (dict(MIXTRAL, model_type="qwen2_moe", num_experts=4, moe_intermediate_size=2), block()),
    "m-unknown": (dict(MIXTRAL, model_type="llama"), block()),
    "m-act": (dict(MIXTRAL, hidden_act="snake"), block()),
    "m-no-hidden": ({k: v for k, v in MIXTRAL.items() if k != "hidden_size"}, block()),
    "m-inter-0": (dict(MIXTRAL, intermediate_size=0), block()),
    "m-layers": (dict(MIXTRAL, num_hidden_layers="all"), block()),
    "m-no-router": (MIXTRAL, block(gate=None)),
    "m-missing": (MIXTRAL, block(experts_3_w2=None)),
    "m-shape": (MIXTRAL, block(experts_1_w3=Array("f32", (3, 2), [0] * 6))),
    "m-flat": (MIXTRAL, block(experts_1_w3=Array("f32", (6,), [0] * 6))),
    "m-router-shape": (MIXTRAL, block(gate=Array("f32", (5, 3), [0] * 15))),
    "m-f64": (MIXTRAL, block(dtype="f64")),
    "m-square-bias": (MIXTRAL, dict(block(), **{"model.layers.0.block_sparse_moe.bias": Array("f32", (2, 2), [0] * 4)})),
    "m-mixed": (MIXTRAL, block(experts_2_w1=Array("f16", (2, 3), [0] * 6))),
}



def mxfp4(**instead):
    """The same of a gpt-oss layer in MXFP4."""
    shapes = {"router.weight": (4, 32), "router.bias": (4,), "experts.gate_up_proj_bias": (4, 64),
              "experts.down_proj_bias": (4, 32)}
    tensors = {name: Array("bf16", shape, [0] * count(shape)) for name, shape in shapes.items()}
    for name, shape in {"experts.gate_up_proj_blocks": (4, 64, 1, 16), "experts.gate_up_proj_scales": (4, 64, 1),
                        "experts.down_proj_blocks": (4, 32, 1, 16), "experts.down_proj_scales": (4, 32, 1)}.items():
        tensors[name] = Array("u8", shape, [0] * count(shape))
    tensors.update({"experts." + name: array for name, array in instead.items()})
    return {"model.layers.0.mlp." + name: array for name, array in tensors.items() if array}


GPT_OSS = dict(MIXTRAL, model_type="gpt_oss", hidden_size=32, intermediate_size=32)
MODELS.update({
    "mx-narrow": (dict(GPT_OSS, intermediate_size=16), mxfp4()),
    "mx-odd": (dict(GPT_OSS, hidden_size=32, intermediate_size=33), mxfp4(gate_up_proj_blocks=None,
               gate_up_proj=Array("bf16", (4, 32, 66), [0] * 4 * 32 * 66),
               gate_up_proj_bias=Array("f32", (4, 66), [0] * 264))),
    "mx-no-scales": (GPT_OSS, mxfp4(down_proj_scales=None)),
    "mx-scales": (GPT_OSS, mxfp4(down_proj_scales=Array("u8", (4, 32), [0] * 128))),
    "mx-dtype": (GPT_OSS, mxfp4(down_proj_scales=Array("i8", (4, 32, 1), [0] * 128))),
    "mx-bias": (GPT_OSS, mxfp4(down_proj_bias=Array("bf16", (4, 33), [0] * 132))),
    "mx-bias-flat": (GPT_OSS, mxfp4(down_proj_bias=Array("bf16", (128,), [0] * 128))),
})

# (command line, exit code, part of the message)
TABLE = [
    ("", 2, "usage: clmoe COMMAND"),
    ("topkk", 2, 'no command "topkk"'),
    ("--topk", 2, 'no command "--topk"'),
    ("info x", 2, '"x" is one operand too many'),
    ("info --jsn", 2, 'no option "--jsn"'),
    ("info --json=1", 2, "--json takes no value"),
    ("info --device", 2, "--device needs a value"),
    ("info --device warp9", 2, 'no device matches "warp9"'),
    ("info --device 99", 2, 'no device matches "99"'),
    ("info --device 99999999999999999999", 2, "no device matches"),
    ("topk", 2, "expected X.npy"),
    ("topk x.npy", 2, "-k is required"),
    ("topk x.npy x.npy -k 1", 2, "operand too many"),
    ("topk x.npy -k", 2, "-k needs a value"),
    ("topk x.npy -k two", 2, '-k: expected an integer in 0..2147483648, got "two"'),
    ("topk x.npy -k 1.5", 2, "-k: expected an integer"),
    ("topk x.npy -k -1", 2, "-k: expected an integer"),
    ("topk x.npy -k 3000000000", 2, "-k: expected an integer"),
    ("topk x.npy -k 99999999999999999999", 2, "-k: expected an integer"),
    ("topk x.npy --k 1", 2, 'no option "--k"'),
    ("topk x.npy -values v.npy -k 1", 2, 'no option "-values"'),
    ("topk x.npy -k 5 --values out.npy", 2, "x.npy: k = 5, but rows have 4 elements"),
    ("topk x.npy -k 1 --order up", 2, '--order: expected one of sorted|index|any, got "up"'),
    ("topk x.npy -k 1 --order sort", 2, "--order: expected one of"),
    ("topk x.npy -k 1 --nan first", 2, "--nan: expected one of greatest|lowest"),
    ("topk x.npy -k 1 --smallest=yes", 2, "--smallest takes no value"),
    ("topk x.npy -k 1 --fill 1", 2, "belong to --dense"),
    ("topk x.npy -k 1 --dense out.npy --fill blue", 2, '--fill: expected a number, got "blue"'),
    ("topk x.npy -k 1 --dense out.npy --scale nan", 2, "--scale: expected a number"),
    ("topk x.npy -k 1 --dense out.npy --scale inf", 2, "--scale: expected a number"),
    ("topk x.npy -k 1 --dense out.npy --scale 0", 2, "--scale: expected a factor other than 0"),
    ("topk x.npy -k 1 --dense out.npy --scale 1e-60", 2, "--scale: expected a factor other than 0"),
    ("topk x.npy -k 1 --dense out.npy --scale 1e60", 2, "--scale: expected a factor"),
    ("topk x.npy -k 1 --values out.npy --indices out.npy", 2,
     "--values and --indices would write to the same file"),
    ("topk x.npy -k 1 --values out.npy --mask ./out.npy", 2,
     "--values and --mask would write to the same file"),
    ("topk x.npy -k 1 --values old.npy --dense link.npy", 2,
     "--values and --dense would write to the same file"),
    ("topk x.npy -k 1 --values o.safetensors:a --indices o.safetensors:b", 2, "would write to the same file"),
    ("topk x.npy -k 1 --values out", 2, "--values: out: expected FILE.npy or FILE.safetensors:TENSOR"),
    ("topk x.npy -k 1 --values out.safetensors", 2, "names no tensor"),
    ("topk x.npy -k 1 --values out.safetensors:", 2, "no tensor name after ':'"),
    ("topk x.npy -k 1 --values=", 2, "--values"),
    ("topk x.npy -k 1 --indices old.npy --values gone/out.npy", 1, "gone/out.npy"),
    ("topk x.npy -k 1 --values old.npy --indices folder.npy", 1, "folder.npy: is a directory"),
    ("topk x.npy -k 1 --values old.npy --device warp9", 2, 'no device matches "warp9"'),
    ("topk gone.npy " + TOPK_OUT, 2, "gone.npy: cannot open"),
    ("topk folder.npy " + TOPK_OUT, 2, "folder.npy"),
    ("topk x.txt " + TOPK_OUT, 2, "x.txt: expected FILE.npy"),
    ("topk empty.npy " + TOPK_OUT, 2, "empty.npy: is empty"),
    ("topk text.npy " + TOPK_OUT, 2, "text.npy: is not an npy file"),
    ("topk cut.npy " + TOPK_OUT, 2, "cut.npy: shape (2, 4) of f32 needs 32 bytes of data, the file has 31"),
    ("topk long.npy " + TOPK_OUT, 2, "long.npy: shape (2, 4) of f32 needs 32 bytes of data, the file has 33"),
    ("topk big-endian.npy " + TOPK_OUT, 2, "big-endian"),
    ("topk huge.npy " + TOPK_OUT, 2, "huge.npy: shape"),
    ("topk bool.npy " + TOPK_OUT, 2, "bool.npy: holds bool, which has no dtype on the device"),
    ("topk f64.npy -k 1 --dense out.npy --scale 2", 2, "--scale: f64 is not scaled"),
    ("topk i.npy -k 1 --dense out.npy --fill 0.5", 2, "--fill: expected one of the numbers of i32, got 0.5"),
    ("topk u16.npy -k 9 --pad --pad-value -1 --values out.npy", 2, "--pad-value: expected one of the numbers of u16"),
    ("topk x.npy -k 9 --pad-value 1 --values out.npy", 2, "x.npy: k = 9, but rows have 4 elements; --pad allows it"),
    ("topk x.npy -k 1 --pad-value 1 --values out.npy", 2, "--pad-value belongs to --pad"),
    ("topk x.npy -k 1 --ties first", 2, "--ties: expected one of lowest|highest"),
    ("topk x.npy -k 1 --index-dtype i16", 2, "--index-dtype: expected one of i32|i64"),
    ("topk x.npy -k 1 --axis 2 --values out.npy", 2, "x.npy: no axis 2 in 2 dimensions"),
    ("topk x.npy -k 1 --axis -3 --values out.npy", 2, "x.npy: no axis -3 in 2 dimensions"),
    ("topk x.npy -k 1 --axis 9", 2, "--axis: expected an integer in -8..7"),
    ("topk x.npy -k 1 --threshold out.npy --cut out.npy", 2, "would write to the same file"),
    ("topk v2.npy " + TOPK_OUT, 2, "--bf16"),
    ("topk scalar.npy " + TOPK_OUT, 2, "scalar.npy: a single number"),
    ("topk narrow.npy -k 0 --values out.npy", 2, "narrow.npy: rows of 0 elements"),
    ("topk t.safetensors " + TOPK_OUT, 2, "names no tensor"),
    ("topk t.safetensors:no " + TOPK_OUT, 2, 'no tensor "no" among 1 (the first is "x")'),
    ("topk cut.safetensors:x " + TOPK_OUT, 2, "cut.safetensors"),
    ("scatter x.npy " + SCATTER_OUT, 2, "expected VALUES.npy INDICES.npy"),
    ("scatter x.npy i.npy --out out.npy", 2, "-n is required"),
    ("scatter x.npy i.npy -n 9", 2, "--out is required"),
    ("scatter x.npy i.npy -n 0 --out out.npy", 2, "-n: expected an integer in 1..2147483647"),
    ("scatter x.npy i.npy -n 3 --out out.npy", 2, "i.npy: element 3 is 3, but rows get 3 elements"),
    ("scatter x.npy x.npy " + SCATTER_OUT, 2, "x.npy"),
    ("scatter i.npy i.npy --scale 2 " + SCATTER_OUT, 2, "scale = 2, slot_scale = 0, column_scale = 0 with dtype i32"),
    ("scatter i.npy i.npy --fill 1.5 " + SCATTER_OUT, 2, "--fill: expected one of the numbers of i32, got 1.5"),
    ("scatter u16.npy i.npy --fill -1 " + SCATTER_OUT, 2, "--fill: expected one of the numbers of u16, got -1"),
    ("scatter i.npy i.npy --fill nan " + SCATTER_OUT, 2, "--fill: expected one of the numbers of i32"),
    ("scatter bool.npy i.npy " + SCATTER_OUT, 2, "bool.npy: holds bool"),
    ("scatter x.npy i.npy --mode max " + SCATTER_OUT, 2, "--mode: expected one of set|mask|add|multiply"),
    ("scatter x.npy i.npy -x x.npy " + SCATTER_OUT, 2, "-x belongs to --mode mask, add and multiply"),
    ("scatter x.npy i.npy --mode mask -x x.npy --out out.npy", 2, "--mode mask takes INDICES.npy alone"),
    ("scatter i.npy --mode mask --out out.npy", 2, "-x is required"),
    ("scatter i.npy --mode mask -x x.npy " + SCATTER_OUT, 2, "-n belongs to --mode set"),
    ("scatter i.npy --mode mask -x x.npy", 2, "--out is required"),
    ("scatter i.npy --mode mask -x h1.npy --out out.npy", 2, "h1.npy has shape (3,), but i.npy has shape (2, 4)"),
    ("scatter i.npy --mode mask -x h.npy --out out.npy", 2, "i.npy: element 3 is 3, but rows get 3 elements"),
    ("scatter i32x3.npy --mode add -x narrow.npy --out out.npy", 2, "narrow.npy: rows of 0 elements"),
    ("scatter x.npy i.npy --mode add -x x.npy --fill 1 --out out.npy", 2, "--fill belongs to --mode set and mask"),
    ("scatter f64.npy i.npy --mode add -x x.npy --out out.npy", 2, "x.npy holds f32, but f64.npy holds f64"),
    ("scatter i.npy --mode multiply -x f64.npy --out out.npy", 2, "adds or multiplies f32, f16 and bf16, not f64"),
    ("scatter i-big.npy --mode mask -x x.npy --out out.npy", 2,
     "i-big.npy: element 0 is 1099511627776, but rows get 4 elements"),
    ("scatter x.npy h.npy " + SCATTER_OUT, 2, "h.npy"),
    ("scatter x.npy i6.npy " + SCATTER_OUT, 2, "x.npy has shape (2, 4), but i6.npy has shape (2, 3)"),
    ("scatter x.npy i-big.npy " + SCATTER_OUT, 2, "i-big.npy"),
    ("scatter x.npy i.npy --scale 0 " + SCATTER_OUT, 2, "--scale: expected a factor other than 0"),
    ("scatter x.npy i.npy --bitmask b.npy " + SCATTER_OUT, 2, 'no option "--bitmask"'),
    ("route x.npy --config mixtral.json --ids out.npy", 2, "--config, --ids and --weights are required"),
    ("route x.npy " + ROUTE_OUT, 2, "--config, --ids and --weights are required"),
    ("route x.npy --config mixtral.json --ids out.npy --weights out.npy", 2, "would write to the same file"),
    ("route x.npy --config mixtral.json --ids out.npy --weights o2.npy --counts out.npy", 2,
     "--ids and --counts would write to the same file"),
    ("route x.npy --config gone.json " + ROUTE_OUT, 2, "gone.json: cannot open"),
    ("route x.npy --config x.npy " + ROUTE_OUT, 2, "x.npy"),
    ("route x.npy --config no-type.json " + ROUTE_OUT, 2, "model_type: missing"),
    ("route x.npy --config unknown.json " + ROUTE_OUT, 2,
     'model_type: "mamba" is not known; --options can describe it, with at least experts and inter, or like and one of '
     'mixtral, qwen2_moe, '),
    ("route x.npy --config no-k.json " + ROUTE_OUT, 2, "num_experts_per_tok: missing"),
    ("route x.npy --config k-5.json " + ROUTE_OUT, 2,
     "num_experts_per_tok: expected an integer in 1..4, got 5"),
    ("route x.npy --config k-0.json " + ROUTE_OUT, 2,
     "num_experts_per_tok: expected an integer in 1..4, got 0"),
    ("route x.npy --config k-text.json " + ROUTE_OUT, 2,
     'num_experts_per_tok: expected an integer in 1..4, got "two"'),
    ("route x.npy --config experts-0.json " + ROUTE_OUT, 2,
     "num_local_experts: expected an integer in 1..4096"),
    ("route x.npy --config experts-5000.json " + ROUTE_OUT, 2,
     "num_local_experts: expected an integer in 1..4096"),
    ("route x.npy --config norm-text.json " + ROUTE_OUT, 2, "norm_topk_prob: expected true or false"),
    ("route x.npy --config tanh.json " + ROUTE_OUT, 2, "scoring_func: expected one of softmax"),
    ("route h.npy --config mixtral.json " + ROUTE_OUT, 2,
     "h.npy: rows of 3 logits, but mixtral.json has 4 experts"),
    ("route i.npy --config mixtral.json " + ROUTE_OUT, 2, "i.npy: holds i32"),
    ("route x.npy --config mixtral.json --bias b4.npy " + ROUTE_OUT, 2,
     "--bias: mixtral has no selection bias"),
    ("route x.npy --config v3.json " + ROUTE_OUT, 2,
     "--bias is required: deepseek_v3 selects with e_score_correction_bias, and ."),
    ("route x.npy --config v3.json --bias x.npy " + ROUTE_OUT, 2, "x.npy: shape (2, 4), expected (4,)"),
    ("route x.npy --config v3.json --bias gone.npy " + ROUTE_OUT, 2, "gone.npy: cannot open"),
    ("route x.npy --config 3-groups.json --bias b4.npy " + ROUTE_OUT, 2,
     "n_group: 4 experts do not make 3 equal groups"),
    ("route x.npy --config 3-of-2-groups.json --bias b4.npy " + ROUTE_OUT, 2,
     "topk_group: expected an integer in 1..2"),
    ("route x.npy --config small-groups.json --bias b4.npy " + ROUTE_OUT, 2,
     "topk_group: 1 groups of 1 experts"),
    ("route x.npy --config v2-method.json " + ROUTE_OUT, 2,
     "topk_method: expected one of greedy, group_limited_greedy"),
    ("route x.npy --config scale-0.json --bias b4.npy " + ROUTE_OUT, 2, "routed_scaling_factor"),
    ("route x.npy --config scale-text.json --bias b4.npy " + ROUTE_OUT, 2,
     "routed_scaling_factor: expected a number"),
    ("moe --model m --layer 0 --input h.npy", 2, "--model, --layer, --input and --output are required"),
    ("moe --model m --input h.npy --output out.npy", 2, "--model, --layer, --input and --output are required"),
    ("moe m " + MOE_OUT, 2, '"m" is one operand too many'),
    ("moe --model gone " + MOE_OUT, 2, "gone/config.json: cannot open"),
    ("moe --model x.npy " + MOE_OUT, 2, "x.npy/config.json"),
    ("moe --model m --layer -1 --input h.npy --output out.npy", 2, "--layer: expected an integer"),
    ("moe --model m --layer 2 --input h.npy --output out.npy", 2, "--layer: 2, but the model has layers 0..1"),
    ("moe --model m --layer 1 --input h.npy --output out.npy", 2, "layer 1 has no experts"),
    ("moe --model m --layer 0 --input x.npy --output out.npy", 2,
     "x.npy: shape (2, 4), expected (T, 3) or (B, T, 3)"),
    ("moe --model m --layer 0 --input h1.npy --output out.npy", 2, "h1.npy: shape (3,), expected (T, 3)"),
    ("moe --model m --layer 0 --input h4.npy --output out.npy", 2,
     "h4.npy: shape (1, 1, 1, 3), expected (T, 3)"),
    ("moe --model m --layer 0 --input gone.npy --output out.npy", 2, "gone.npy: cannot open"),
    ("moe --model m --layer 0 --input i6.npy --output out.npy", 2, "i6.npy: holds i32"),
    ("moe --model m --ids out.npy " + MOE_OUT, 2, "--output and --ids would write to the same file"),
    ("moe --model m --ids old.npy --weights gone/out.npy " + MOE_OUT, 1, "gone/out.npy"),
    ("moe --model m --experts-per-buffer 0 " + MOE_OUT, 2,
     "--experts-per-buffer: expected an integer in 1..4096"),
    ("moe --model m --device-budget 0 " + MOE_OUT, 2, "--device-budget: expected an integer in 1.."),
    ("moe --model m --device-budget 9 --experts-per-buffer 2 " + MOE_OUT, 2,
     "--experts-per-buffer and --device-budget cannot both be given"),
    ("moe --model m --device warp9 " + MOE_OUT, 2, 'no device matches "warp9"'),
    ("moe --model m-no-weights " + MOE_OUT, 2, "m-no-weights: holds neither model.safetensors nor"),
    ("moe --model m-qwen2 " + MOE_OUT, 2, 'no tensor "model.layers.0.mlp.gate.weight": layer 0 has no experts'),
    ("moe --model m-unknown " + MOE_OUT, 2, 'model_type: "llama" is not known'),
    ("moe --model m-act " + MOE_OUT, 2, "hidden_act: expected one of silu"),
    ("moe --model m-no-hidden " + MOE_OUT, 2, "hidden_size: missing"),
    ("moe --model m-inter-0 " + MOE_OUT, 2, "intermediate_size: expected an integer in 1.."),
    ("moe --model m-layers " + MOE_OUT, 2, 'num_hidden_layers: expected an integer in 1..1048576, got "all"'),
    ("moe --model m-no-router " + MOE_OUT, 2, "layer 0 has no experts"),
    ("moe --model m-missing " + MOE_OUT, 2, 'no tensor "model.layers.0.block_sparse_moe.experts.3.w2.weight"'),
    ("moe --model m-shape " + MOE_OUT, 2,
     'experts.1.w3.weight" has shape (3, 2), expected (2, 3) by config.json'),
    ("moe --model m-flat " + MOE_OUT, 2, 'experts.1.w3.weight" has shape (6,), expected (2, 3)'),
    ("moe --model m-router-shape " + MOE_OUT, 2, 'gate.weight" has shape (5, 3), expected (4, 3)'),
    ("moe --model m-f64 " + MOE_OUT, 2, "holds f64, expected f32, f16 or bf16"),
    ("moe --model m-mixed " + MOE_OUT, 2, 'experts.2.w1.weight" holds f16, but other experts\' weights f32'),
    ("moe --model mx-narrow --layer 0 --input h32.npy --output out.npy", 2,
     'gate_up_proj_blocks" has shape (4, 64, 1, 16), expected (4, 32, 1, 16)'),
    ("moe --model mx-odd --layer 0 --input h32.npy --output out.npy", 2,
     'down_proj_blocks": rows of 33 do not make blocks of 32'),
    ("moe --model mx-no-scales --layer 0 --input h32.npy --output out.npy", 2, "no tensor"),
    ("moe --model mx-scales --layer 0 --input h32.npy --output out.npy", 2,
     'down_proj_scales" has shape (4, 32), expected (4, 32, 1)'),
    ("moe --model mx-dtype --layer 0 --input h32.npy --output out.npy", 2, 'down_proj_scales" holds I8, expected U8'),
    ("moe --model mx-bias --layer 0 --input h32.npy --output out.npy", 2, "has shape (4, 33), expected (4, 32)"),
    ("moe --model mx-bias-flat --layer 0 --input h32.npy --output out.npy", 2, "has shape (128,), expected (4, 32)"),
    ("moe --model m --options gone.json " + MOE_OUT, 2, "gone.json: cannot open"),
    ("moe --model m --options x.npy " + MOE_OUT, 2, "x.npy: line 1 column 1"),
    ("moe --model m --options o-key.json " + MOE_OUT, 2, 'o-key.json: "expert" is no key of a description'),
    ("moe --model m --options o-like.json " + MOE_OUT, 2, "like: expected one of mixtral, "),
    ("moe --model m --options o-like-common.json " + MOE_OUT, 2, 'got "common"'),
    ("moe --model m --options o-like-number.json " + MOE_OUT, 2, "got 5"),
    ("moe --model m --options o-missing.json " + MOE_OUT, 2, "o-missing.json: missing: experts, inter"),
    ("moe --model m --options o-missing-one.json " + MOE_OUT, 2, "o-missing-one.json: missing: inter"),
    ("moe --model m --options o-cases.json " + MOE_OUT, 2, "cases: expected an object, got a list"),
    ("moe --model m --options o-case.json " + MOE_OUT, 2, 'cases: hidden_act: expected an object, got "silu"'),
    ("moe --model m --options o-case-value.json " + MOE_OUT, 2,
     'm/config.json: hidden_act: expected one of gelu, relu, got "silu"'),
    ("moe --model m --options o-case-list.json " + MOE_OUT, 2,
     "o-case-list.json: cases: hidden_act: silu: expected an object, got a list"),
    ("moe --model m --options o-case-number.json " + MOE_OUT, 2, "silu: expected an object, got 5"),
    ("moe --model m --options o-case-like.json " + MOE_OUT, 2, '"like" is no key of a case'),
    ("moe --model m --options o-case-within.json " + MOE_OUT, 2, '"within" is no key of a case'),
    ("moe --model m --options o-within.json " + MOE_OUT, 2, "within: expected a key of config.json, got a list"),
    ("moe --model m --options o-select-bias.json " + MOE_OUT, 2, "select_bias: expected a tensor's name, got 5"),
    ("route x.npy --config mixtral.json --options o-select-bias.json " + ROUTE_OUT, 2, "a tensor's name, got 5"),
    ("moe --model m --options o-router-bias.json " + MOE_OUT, 2, "router_bias: expected a tensor's name, got true"),
    ("moe --model m --options o-names.json " + MOE_OUT, 2, "router_bias: expected a tensor's name, got a list"),
    ("moe --model m --options o-block.json " + MOE_OUT, 2, "block: expected a tensor's name, got a list"),
    ("moe --model m --options o-alpha.json " + MOE_OUT, 2, "alpha: expected a number in 1.17549435e-38.."),
    ("moe --model m --options o-null-k.json " + MOE_OUT, 2, "topk: missing, expected an integer"),
    ("moe --model m-square-bias --options o-bias.json " + MOE_OUT, 2, 'bias" has shape (2, 2), expected (4,)'),
    ("moe --model m --options o-absent.json " + MOE_OUT, 2,
     "m/config.json: n_experts|e: missing, expected an integer in 1..4096"),
    ("moe --model m --options o-object.json " + MOE_OUT, 2,
     "o-object.json: topk: expected an integer in 1..4, got an object"),
    ("moe --model m --options o-score.json " + MOE_OUT, 2, "score: expected one of softmax, sigmoid"),
    ("moe --model m --options o-renorm.json " + MOE_OUT, 2, "renorm: expected one of none, sum"),
    ("moe --model m --options o-glu.json " + MOE_OUT, 2, "glu: expected one of none, gate_up"),
    ("moe --model m --options o-router.json " + MOE_OUT, 2, "router: expected a tensor's name, got 5"),
    ("moe --model m --options o-down.json " + MOE_OUT, 2, "down_proj: missing, expected a tensor's name"),
    ("moe --model m --options o-long.json " + MOE_OUT, 2, 'no tensor "model.layers.0.block_sparse_moe.xxxx'),
    ("moe --model m --options o-first.json " + MOE_OUT, 2, "o-first.json: first: layer 0 has no experts"),
    ("moe --model m --options o-last.json " + MOE_OUT, 2, "step: layer 0 has no experts"),
    ("moe --model m --options o-offset.json " + MOE_OUT, 2, "offset: expected an integer in 0..1, got 2"),
    ("moe --model m --options o-only.json " + MOE_OUT, 2, "only: layer 0 has no experts"),
    ("moe --model m --options o-only-text.json " + MOE_OUT, 2, "only: expected a list of layers"),
    ("moe --model m --options o-except.json " + MOE_OUT, 2, "except: layer 0 has no experts"),
    ("moe --model m --options o-kinds.json " + MOE_OUT, 2, "kinds: layer 0 has no experts"),
    ("moe --model m --options o-kinds-number.json " + MOE_OUT, 2, "kinds: expected a list of kinds of layers, got 3"),
    ("moe --model m --options o-shared.json " + MOE_OUT, 2, 'shared: expected true or false, got "one"'),
    ("route x.npy --config mixtral.json --options o-missing.json " + ROUTE_OUT, 2, "missing: experts, inter"),
    ("moe --model m-cut " + MOE_OUT, 2, "m-cut/model.safetensors"),
    ("moe --model m-index " + MOE_OUT, 2, "model-1.safetensors: cannot open"),
    ("moe --model m-escape " + MOE_OUT, 2, "expected a file name without '/'"),
]


class Bad(command.CommandTest):
    """Each line runs in a folder of good and bad files."""

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)

    def write_arrays(self):
        x = Array("f32", (2, 4), range(8))
        for name, array in {"x": x, "h": Array("f32", (2, 3), range(6)), "h32": Array("f32", (1, 32), range(32)),
                            "old": Array("f32", (1,), [7]),
                            "f64": Array("f64", (2, 4), range(8)), "u16": Array("u16", (2, 4), range(8)),
                            "v2": Array("bf16", (2, 4), range(8)), "scalar": Array("f32", (), [1]),
                            "narrow": Array("f32", (3, 0), []), "b4": Array("f32", (4,), [0] * 4),
                            "h1": Array("f32", (3,), range(3)), "h4": Array("f32", (1, 1, 1, 3), range(3)),
                            "bool": Array("bool", (2, 4), [1] * 8), "i32x3": Array("i32", (3, 1), [0] * 3),
                            "i": Array("i32", (2, 4), [0, 1, 2, 3] * 2), "i6": Array("i32", (2, 3), [0, 1, 2] * 2),
                            "i-big": Array("i64", (2, 4), [1 << 40] * 8)}.items():
            save_npy(self.path(name + ".npy"), array)
        save_npy(self.path("big-endian.npy"), x, descr=">f4")
        save_npy(self.path("huge.npy"), x, shape="(4611686018427387904, 8)")
        self.write("cut.npy", npy_bytes(x)[:-1])
        self.write("long.npy", npy_bytes(x) + b"\0")
        self.write("empty.npy", b"")
        self.write("text.npy", b"1 2 3\n")
        self.write("x.txt", npy_bytes(x))
        save_safetensors(self.path("t.safetensors"), {"x": x})
        self.write("cut.safetensors", struct.pack("<Q", 1000) + b"{}")

    def write_models(self):
        indices = {"m-index": "model-1.safetensors", "m-escape": "../m/model.safetensors"}
        for name, (config, tensors) in dict(MODELS, **{n: (MIXTRAL, None) for n in [*indices, "m-cut"]}).items():
            os.mkdir(self.path(name))
            self.write(name + "/config.json", json.dumps(config).encode())
            if tensors:
                save_safetensors(self.path(name + "/model.safetensors"), tensors)
        with open(self.path("m/model.safetensors"), "rb") as f:
            self.write("m-cut/model.safetensors", f.read()[:-1])
        for name, file in indices.items():
            self.write(name + "/model.safetensors.index.json", json.dumps({"weight_map": {"a": file}}).encode())

    def setUp(self):
        super().setUp()
        self.write_arrays()
        self.write_models()
        os.mkdir(self.path("folder.npy"))
        os.symlink("old.npy", self.path("link.npy"))
        for name, config in {**CONFIGS, **OPTIONS}.items():
            self.write(name + ".json", json.dumps(config).encode())

    def snapshot(self):
        files = {}
        for folder, _, names in os.walk(self.folder.name):
            for name in names:
                with open(os.path.join(folder, name), "rb") as f:
                    files[os.path.join(folder, name)] = f.read()
        return files

    def test_every_key_of_a_description(self):
        """Under each key some of many values: never a crash, always one line. No device is named so."""
        keys = [line.split()[0] for line in self.good("moe", "--help").partition("Keys:\n")[2].splitlines()]
        self.assertGreater(len(keys), 40)
        values = [-1, 0, 1.5, 2 ** 53, 1e300, True, "", "x", "$", "$x", "{L}{E}" * 200, [], {}, [[]], ["$"], ["$x", 7]]
        for i, key in enumerate(keys + ["like", "cases"]):
            for value in random.Random(i).sample(values, 3):
                self.write("hostile.json", json.dumps({"like": "mixtral", key: value}).encode())
                with self.subTest(key=key, value=value):
                    code, out, err = self.run_command(*("moe --model m --device warp9 --options hostile.json " +
                                                        MOE_OUT).split())
                    self.assertEqual((code, out), (2, ""), err)
                    self.assertRegex(err, r"\Aclmoe moe: [^\n]+\n\Z")

    def check_table(self, table):
        before = self.snapshot()
        for line, code, message in table:
            with self.subTest(line=line):
                got, out, err = self.run_command(*line.split())
                self.assertEqual((got, out), (code, ""), err)
                self.assertIn(message, err)
                if line:
                    self.assertRegex(err, r"\Aclmoe[^\n]*: [^\n]+\n\Z")
                self.assertEqual(self.snapshot(), before)

    def test_table(self):
        self.check_table(TABLE)

    def test_no_device(self):
        os.environ["OCL_ICD_VENDORS"] = os.environ["OCL_ICD_FILENAMES"] = self.path("folder.npy")
        try:
            for line in ("info", "topk x.npy -k 1 --values old.npy"):
                code, _, err = self.run_command(*line.split())
                self.assertEqual(code, 1)
                self.assertIn("no OpenCL device", err)
        finally:
            del os.environ["OCL_ICD_VENDORS"], os.environ["OCL_ICD_FILENAMES"]

    def test_full_stdout(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "w") as full:
            code, _, err = self.run_command("topk", "--help", stdout=full)
        self.assertEqual(code, 1)
        self.assertIn("cannot write to stdout", err)

    def test_full_device(self):
        if os.path.exists("/dev/full"):
            self.check_table([("topk x.npy -k 1 --values /dev/full", 1, "/dev/full: cannot")])


if __name__ == "__main__":
    command.main([Bad])
