#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes families/: small random checkpoints of each model family, with what its own code computes from them.

Run where torch, transformers, onnx and onnxruntime are installed:  make_families.py [FAMILY...]
The tests need none of them.

families/FAMILY/ holds config.json and the tensors of one layer's expert block as transformers saves them, and
golden.safetensors: for f32 and for bf16 an input x, the block's output y, the router's logits, and the ids and weights
of the chosen experts, each row sorted by id since some routers give them in no order. Weights are the same in both (bf16,
save those that a family keeps in f32). Inputs are such that the choice does not change, and is the same in both types,
when every element of x is changed by up to MARGIN of it, and weights change by no more than WEIGHTS of the largest.

families/onnx_*/ are onnxruntime's operator MoE on a CPU, in f32: its attributes are in config.json, its inputs are the
tensors, and options.json describes it to the command. It shows no ids.
"""
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile

import onnx
import onnxruntime
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "families")
LAYER = 1
MARGIN, WEIGHTS, TRIALS = 0.01, 0.1, 30

SMALL = {"vocab_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
         "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
HEADS = dict(SMALL, head_dim=8)
LATENT = dict(HEADS, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8)

# family: (its classes' name, options of its config)
FAMILIES = {
    "mixtral": ("Mixtral", dict(HEADS, hidden_size=24, intermediate_size=13, num_local_experts=5,
                                num_experts_per_tok=2)),
    "qwen2_moe": ("Qwen2Moe", dict(HEADS, hidden_size=27, moe_intermediate_size=14, intermediate_size=30, num_experts=6,
                                   shared_expert_intermediate_size=19, num_experts_per_tok=3, decoder_sparse_step=2)),
    "qwen3_moe": ("Qwen3Moe", dict(HEADS, hidden_size=32, moe_intermediate_size=12, intermediate_size=30, num_experts=8,
                                   num_experts_per_tok=3, norm_topk_prob=True, mlp_only_layers=[0])),
    "qwen3_next": ("Qwen3Next", dict(HEADS, hidden_size=24, moe_intermediate_size=11, intermediate_size=30,
                                     shared_expert_intermediate_size=13, num_experts=9, num_experts_per_tok=4,
                                     norm_topk_prob=True, layer_types=["full_attention", "full_attention"])),
    "olmoe": ("Olmoe", dict(HEADS, hidden_size=26, intermediate_size=15, num_experts=7, num_experts_per_tok=4)),
    "deepseek_v2": ("DeepseekV2", dict(LATENT, hidden_size=28, moe_intermediate_size=12, intermediate_size=30,
                                       n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
                                       topk_method="group_limited_greedy", n_shared_experts=2,
                                       routed_scaling_factor=1.75, first_k_dense_replace=1)),
    "deepseek_v3": ("DeepseekV3", dict(LATENT, hidden_size=33, moe_intermediate_size=13, intermediate_size=30,
                                       n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
                                       n_shared_experts=1, routed_scaling_factor=2.5, first_k_dense_replace=1)),
    "glm4_moe": ("Glm4Moe", dict(HEADS, hidden_size=30, moe_intermediate_size=15, intermediate_size=30,
                                 n_routed_experts=6, num_experts_per_tok=3, n_group=1, topk_group=1,
                                 n_shared_experts=1, routed_scaling_factor=1.5, first_k_dense_replace=1)),
    "glm4_moe_lite": ("Glm4MoeLite", dict(LATENT, hidden_size=25, moe_intermediate_size=12, intermediate_size=30,
                                          n_routed_experts=5, num_experts_per_tok=2, n_group=1, topk_group=1,
                                          n_shared_experts=1, routed_scaling_factor=1.8)),
    "dots1": ("Dots1", dict(HEADS, hidden_size=26, moe_intermediate_size=11, intermediate_size=30, n_routed_experts=7,
                            num_experts_per_tok=3, n_group=1, topk_group=1, n_shared_experts=2,
                            routed_scaling_factor=2.5, norm_topk_prob=True, first_k_dense_replace=1)),
    "gpt_oss": ("GptOss", dict(HEADS, hidden_size=28, intermediate_size=17, num_local_experts=6,
                               num_experts_per_tok=3)),
    "gpt_oss_mxfp4": ("GptOss", dict(HEADS, hidden_size=32, intermediate_size=32, num_local_experts=4,
                                     num_experts_per_tok=2)),
    "granitemoe": ("GraniteMoe", dict(HEADS, hidden_size=32, intermediate_size=13, num_local_experts=7,
                                      num_experts_per_tok=3)),
    "llama4": ("Llama4", {
        "text_config": dict(HEADS, hidden_size=30, intermediate_size=14, intermediate_size_mlp=20, num_local_experts=5,
                            num_experts_per_tok=1, interleave_moe_layer_step=2),
        "vision_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
                          "vision_output_dim": 8, "image_size": 8, "patch_size": 4, "projector_input_dim": 8,
                          "projector_output_dim": 8}}),
    "phimoe": ("Phimoe", dict(HEADS, hidden_size=26, intermediate_size=13, num_local_experts=6,
                              num_experts_per_tok=2, router_jitter_noise=0.1)),  # 0.01 leaves one expert at a time
    "jamba": ("Jamba", dict(SMALL, hidden_size=24, intermediate_size=17, num_experts=5, num_experts_per_tok=2,
                            attn_layer_period=2, attn_layer_offset=1, mamba_d_state=4, mamba_dt_rank=4)),
    "dbrx": ("Dbrx", {"d_model": 24, "n_heads": 2, "n_layers": 2, "max_seq_len": 64, "vocab_size": 32,
                      "attn_config": {"kv_n_heads": 1, "clip_qkv": 8, "rope_theta": 10000.0},
                      "ffn_config": {"ffn_hidden_size": 13, "moe_num_experts": 5, "moe_top_k": 2, "hidden_size": 24}}),
    "minimax": ("MiniMax", dict(HEADS, hidden_size=28, intermediate_size=13, num_local_experts=6,
                                num_experts_per_tok=2)),
    "minimax_m2": ("MiniMaxM2", dict(HEADS, hidden_size=29, intermediate_size=14, num_local_experts=7,
                                     num_experts_per_tok=3)),
    "ernie4_5_moe": ("Ernie4_5_Moe", dict(HEADS, hidden_size=28, moe_intermediate_size=13, intermediate_size=30,
                                          moe_num_experts=6, moe_k=3, moe_num_shared_experts=2,
                                          moe_layer_start_index=1)),
    "hunyuan_v1_moe": ("HunYuanMoEV1", dict(HEADS, hidden_size=26, intermediate_size=14, num_experts=6,
                                            moe_topk=[2, 3])),
    "lfm2_moe": ("Lfm2Moe", dict(SMALL, hidden_size=30, moe_intermediate_size=13, intermediate_size=30, num_experts=8,
                                 num_experts_per_tok=3, num_dense_layers=1, layer_types=["full_attention", "conv"])),
    "nemotron_h": ("NemotronH", dict(HEADS, hidden_size=28, moe_intermediate_size=13, intermediate_size=30,
                                     n_routed_experts=6, num_experts_per_tok=3, routed_scaling_factor=2.5,
                                     moe_shared_expert_intermediate_size=21, mamba_num_heads=2, mamba_head_dim=8,
                                     ssm_state_size=4, n_groups=1, layers_block_type=["full_attention", "moe"])),
}
FAMILIES["nemotron_h_latent"] = ("NemotronH", dict(FAMILIES["nemotron_h"][1], moe_latent_size=17))
SHARDED = {"qwen3_moe": "12KB", "deepseek_v3": "16KB"}
KEPT_F32 = {"bias": ("e_score_correction_bias", "expert_bias"), "ernie4_5_moe": ("gate.weight",),
            "hunyuan_v1_moe": ("gate.wg.weight",)}


def model_class(family, name):
    return getattr(transformers, name + ("ForConditionalGeneration" if family == "llama4" else "ForCausalLM"))


def find_block(family, model):
    """The expert block and its router."""
    if family == "dbrx":
        block = model.transformer.blocks[LAYER].ffn
    elif family == "llama4":
        block = model.language_model.model.layers[LAYER].feed_forward
    else:
        layer = model.model.layers[LAYER]
        block = next(b for b in (getattr(layer, n, None) for n in ("mlp", "block_sparse_moe", "feed_forward", "mixer"))
                     if b is not None)
    return block, block.router if hasattr(block, "router") else block.gate


def randomise(family, block):
    """Numbers that make every option matter: outputs of about 1, clamps that are met, biases that change the choice."""
    for name, p in list(block.named_parameters()) + list(block.named_buffers()):
        if name.endswith(KEPT_F32["bias"]):
            value = torch.randn(p.shape) * 0.15 - 0.1
        elif name.endswith("bias"):
            value = torch.randn(p.shape) * 0.5
        else:
            value = torch.randn(p.shape) * (2.5 if "gate.w" in name or "router" in name else 1.8) * 28 ** -0.5
        kept = name.endswith(KEPT_F32["bias"] + KEPT_F32.get(family, ()))
        p.data = value if kept else value.to(torch.bfloat16)


def fill_mxfp4(folder):
    """Replaces the experts' weights by random blocks, and says so in the config as the hub does."""
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, k, n = tensors.pop(name).shape
        tensors[name + "_blocks"] = torch.randint(0, 256, (experts, n, k // 32, 16), dtype=torch.uint8)
        tensors[name + "_scales"] = torch.randint(122, 126, (experts, n, k // 32), dtype=torch.uint8)
    save_file(tensors, path, {"format": "pt"})
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    with open(path, "w") as f:
        json.dump(config, f, indent=2)


def save_model(family, name, options, folder):
    """A whole random model."""
    model = model_class(family, name)(getattr(transformers, name + "Config")(**options))
    randomise(family, find_block(family, model)[0])
    model.save_pretrained(folder, max_shard_size=SHARDED.get(family, "1GB"))
    if family == "gpt_oss_mxfp4":
        fill_mxfp4(folder)


def load_block(family, name, folder, dtype):
    how = {"quantization_config": transformers.Mxfp4Config(dequantize=True)} if family == "gpt_oss_mxfp4" else {}
    model = model_class(family, name).from_pretrained(folder, dtype=dtype, **how).eval()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    if how:
        model = model.to(dtype)
    return find_block(family, model)


def run_router(family, block, router, x):
    """logits, ids and weights, sorted by id."""
    seen = {}
    if family == "llama4":
        scores, logits = router(x[0])
        weights, ids = scores.topk(router.top_k)
    else:
        hooks = [router.register_forward_hook(lambda m, args, out: seen.update(logits=out)),
                 block.experts.register_forward_pre_hook(lambda m, args: seen.update(ids=args[1], weights=args[2]))]
        block(x)
        for hook in hooks:
            hook.remove()
        logits = seen["logits"][0] if isinstance(seen["logits"], tuple) else seen["logits"]
        ids, weights = seen["ids"], seen["weights"]
    order = ids.argsort(-1)
    return logits, ids.gather(-1, order).to(torch.int32), weights.gather(-1, order).float()


def run_block(block, x):
    y = block(x)
    return (y[0] if isinstance(y, tuple) else y).reshape(x.shape)


def stable(family, blocks, x):
    wanted = None
    for dtype, (block, router) in blocks.items():
        for trial in range(TRIALS):
            change = 1 + (2 * torch.rand(x.shape) - 1) * MARGIN * (trial > 0)
            _, ids, weights = run_router(family, block, router, (x * change).to(dtype))
            wanted = wanted or (ids, weights)
            if not torch.equal(ids, wanted[0]) or (weights - wanted[1]).abs().max() > WEIGHTS * weights.max():
                return False
    return True


def make_golden(family, blocks):
    hidden = next(iter(blocks.values()))[1].weight.shape[-1] if family not in ("dbrx", "hunyuan_v1_moe") else None
    if hidden is None:
        hidden = next(blocks[torch.float32][1].parameters()).shape[-1]
    tokens = 5 + hidden % 5
    for _ in range(3000):
        rows = []
        while len(rows) < tokens:  # token by token, as the choice of each is its own
            row = torch.randn(1, 1, hidden).to(torch.bfloat16).float()
            if stable(family, blocks, row):
                rows.append(row)
        x = torch.cat(rows, 1)
        if stable(family, blocks, x):
            break
    golden = {}
    for dtype, (block, router) in blocks.items():
        prefix = {torch.float32: "f32.", torch.bfloat16: "bf16."}[dtype]
        logits, ids, weights = run_router(family, block, router, x.to(dtype))
        golden.update({prefix + "x": x.to(dtype)[0], prefix + "y": run_block(block, x.to(dtype))[0],
                       prefix + "logits": logits, prefix + "ids": ids, prefix + "weights": weights})
    return {name: t.contiguous() for name, t in golden.items()}


def copy_block(folder, out):
    """The block's tensors, in the files where they are."""
    def wanted(name):
        return any(f".{part}.{LAYER}." in name for part in ("layers", "blocks")) and \
            not any(part in name for part in ("norm", "attn", "conv.", "mamba", "vision"))
    places = {}
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")):
        with safe_open(os.path.join(folder, file), "pt") as f:
            tensors = {n: f.get_tensor(n) for n in f.keys() if wanted(n)}
        if tensors:
            save_file(tensors, os.path.join(out, file), {"format": "pt"})
        places.update({n: file for n in tensors})
    if len(set(places.values())) > 1:
        with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": dict(sorted(places.items()))}, f, indent=1)
            f.write("\n")
    shutil.copy(os.path.join(folder, "config.json"), out)
    with open(os.path.join(out, "config.json"), "a") as f:
        f.write("\n")


def make(family):
    name, options = FAMILIES[family]
    torch.manual_seed(sum(map(ord, family)))
    out = os.path.join(ROOT, family)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_model(family, name, options, folder)
        blocks = {t: load_block(family, name, folder, t) for t in (torch.float32, torch.bfloat16)}
        golden = make_golden(family, blocks)
        copy_block(folder, out)
    save_file(golden, os.path.join(out, "golden.safetensors"),
              {"made_with": " ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "transformers"))})


# The attributes of onnxruntime's operator. Its CPU kernel knows no other activations and layouts.
ONNX = {
    "onnx_relu": {"activation_type": "relu", "normalize_routing_weights": 0, "k": 2},
    "onnx_gelu": {"activation_type": "gelu", "normalize_routing_weights": 1, "k": 3},
    "onnx_swiglu": {"activation_type": "swiglu", "normalize_routing_weights": 1, "k": 3, "swiglu_fusion": 1,
                    "activation_alpha": 1.5, "activation_beta": 0.75, "swiglu_limit": 2.0},
}
# How --options puts it.
ONNX_OPTIONS = {
    "layers": 2, "hidden": "$hidden_size", "inter": "$inter_size", "experts": "$num_experts", "topk": "$k",
    "renorm": "$normalize_routing_weights", "block": "", "router": "router", "glu": "none",
    "gate_up_proj": "fc1_experts_weights", "up_proj": "fc1_experts_weights", "gate_up_proj_bias": "fc1_experts_bias",
    "down_proj": "fc2_experts_weights", "down_proj_bias": "fc2_experts_bias",
    "cases": {"activation_type": {
        "relu": {"act": "relu"}, "silu": {"act": "silu"}, "gelu": {"act": "gelu_pytorch_tanh"},
        "swiglu": {"act": "silu", "glu": "interleaved", "alpha": "$activation_alpha", "up_add": "$activation_beta",
                   "gate_max": "$swiglu_limit", "up_max": "$swiglu_limit"}}},
}
ONNX_SIZES = {"hidden_size": 27, "inter_size": 14, "num_experts": 6}


def run_onnx(attributes, inputs):
    def info(name, array):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
    node = onnx.helper.make_node("MoE", list(inputs), ["y"], domain="com.microsoft", **attributes)
    graph = onnx.helper.make_graph([node], "moe", [info(*i) for i in inputs.items()], [info("y", inputs["x"])])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[
        onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: array.numpy() for name, array in inputs.items()})[0])


def make_onnx(name):
    torch.manual_seed(sum(map(ord, name)))
    hidden, inter, experts = ONNX_SIZES.values()
    rows = inter * (2 if "swiglu_fusion" in ONNX[name] else 1)
    out = os.path.join(ROOT, name)
    tensors = {"fc1_experts_weights": torch.randn(experts, rows, hidden) * 0.3,
               "fc1_experts_bias": torch.randn(experts, rows) * 0.5,
               "fc2_experts_weights": torch.randn(experts, hidden, inter) * 0.3,
               "fc2_experts_bias": torch.randn(experts, hidden) * 0.5, "router": torch.randn(experts, hidden) * 0.5}
    tensors = {n: t.to(torch.bfloat16) for n, t in tensors.items()}
    x, wide = torch.randn(7, hidden), {n: t.float() for n, t in tensors.items()}
    logits = x @ wide.pop("router").T
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    save_file(tensors, os.path.join(out, "model.safetensors"))
    save_file({"f32.x": x, "f32.y": run_onnx(ONNX[name], {"x": x, "logits": logits, **wide})},
              os.path.join(out, "golden.safetensors"),
              {"made_with": "onnxruntime " + importlib.metadata.version("onnxruntime")})
    for file, content in {"config": {"model_type": "onnx", **ONNX_SIZES, **ONNX[name]}, "options": ONNX_OPTIONS}.items():
        with open(os.path.join(out, file + ".json"), "w") as f:
            json.dump(content, f, indent=2)
            f.write("\n")


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for family in sys.argv[1:] or [*FAMILIES, *ONNX]:
        (make_onnx if family in ONNX else make)(family)
        print(family, flush=True)


if __name__ == "__main__":
    main()
