#!/usr/bin/env python3
"""LoRA adapters made by PEFT on the fixtures, and the logits of transformers with them in float64.

    python make_adapter_vectors.py [OUT [NAME...]]     (default: all, into adapters/ beside this file)

Needs torch, transformers, peft, safetensors. Each adapter is random (a trained one has a B that is not zero either) and
small: a few linears, A and B in the dtype given. adapters/<name>/ holds adapter_config.json, adapter_model.safetensors
and expected.json: base (the fixture), prompt, last (logits of the last position), top10_ids, top10_logits."""
import json
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "adapters"

# name, base, target modules, more of LoraConfig, dtype of the file
CASES = [
    ("qwen2_all", "qwen2", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], dict(r=4, lora_alpha=8),
     torch.float32),
    ("qwen2_rslora", "qwen2", ["q_proj", "down_proj", "lm_head"], dict(r=3, lora_alpha=5, use_rslora=True), torch.float32),
    ("qwen2_tied_head", "qwen2_tied", ["lm_head", "v_proj"], dict(r=2, lora_alpha=2), torch.float32),
    ("llama3_bf16", "llama3", ["q_proj", "v_proj", "up_proj"], dict(r=8, lora_alpha=16), torch.bfloat16),
    ("llama3_rank", "llama3", ["o_proj"], dict(r=300, lora_alpha=300, layers_to_transform=[0]), torch.bfloat16),
    ("ds_v3_attention", "ds_v3", ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"], dict(r=4, lora_alpha=6), torch.float32),
    ("ds_v3_kv_b", "ds_v3", ["kv_b_proj"], dict(r=2, lora_alpha=4, layers_to_transform=[1]), torch.float32),
    ("qwen2_patterns", "qwen2", ["q_proj", "v_proj", "down_proj", "up_proj"], dict(
        r=4, lora_alpha=8, rank_pattern={"layers.0.mlp.down_proj": 7, r"^model\.layers\.1\..*(up|down)_proj": 2, "v_proj": 1},
        alpha_pattern={"q_proj": 3, r"layers\.\d\.self_attn\.v_proj": 1.5}), torch.float32),
    ("qwen2_saved", "qwen2", ["q_proj", "down_proj"], dict(r=2, lora_alpha=4, use_rslora=True, rank_pattern={"down_proj": 3}, modules_to_save=[
        "lm_head", "model.norm", "post_attention_layernorm", "0.mlp.gate_proj"]), torch.float32),
    ("ds_v3_experts", "ds_v3", ["q_a_proj"], dict(r=2, lora_alpha=4, rank_pattern={"experts.down_proj": 3}, alpha_pattern={"down_proj": 5},
                                                  target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), torch.bfloat16),
    ("ds_v3_down", "ds_v3", [], dict(r=2, lora_alpha=4, target_parameters=["mlp.experts.down_proj"]), torch.float32),
    ("ds_v4_all", "ds_v4", ["q_a_proj", "q_b_proj", "kv_proj", "o_b_proj", "gate_proj", "up_proj", "down_proj", "weights_proj"], dict(
        r=2, lora_alpha=3, modules_to_save=["lm_head", "input_layernorm", "gate"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), torch.bfloat16),
    ("ds_v3_router", "ds_v3", ["q_a_proj", "kv_b_proj"], dict(r=3, lora_alpha=6, target_parameters=["mlp.gate.weight"]), torch.float32),
]


def write_expected(folder, base, prompt, logits):
    top = logits.topk(10)
    (folder / "expected.json").write_text(json.dumps(dict(
        base=base, prompt=prompt, last=[float(f"{x:.9g}") for x in logits[-1].tolist()], top10_ids=top.indices.tolist(),
        top10_logits=[[float(f"{x:.9g}") for x in row] for row in top.values.tolist()])))


def prompt_of(base):
    return json.loads((HERE / base / "expected.json").read_text())["prompt"]


def load(base):
    return AutoModelForCausalLM.from_pretrained(HERE / base, dtype=torch.float64, experts_implementation="eager")


def main():
    for seed, (name, base, targets, more, dtype) in enumerate(CASES):
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        torch.manual_seed(seed)
        prompt = prompt_of(base)
        model = load(base)
        config = LoraConfig(target_modules=targets, task_type="CAUSAL_LM", base_model_name_or_path=base, **more)
        model = get_peft_model(model, config).double().eval()
        with torch.no_grad():
            for key, p in model.named_parameters():
                if ".lora_" in key:
                    std = 0.3 / config.r**0.5 if ".lora_A." in key else 0.3
                    p.copy_((torch.randn(p.shape, dtype=torch.float64) * std).to(dtype).double())
                elif ".modules_to_save." in key:
                    p.copy_((p + torch.randn(p.shape, dtype=torch.float64) * 0.3 * p.std()).to(dtype).double())
            logits = model(torch.tensor([prompt])).logits[0]
            plain = model.disable_adapter()
            with plain:
                moved = (model(torch.tensor([prompt])).logits[0] - logits).abs().max().item()
            for p in (p for key, p in model.named_parameters() if ".lora_" in key or ".modules_to_save." in key):
                p.data = p.data.to(dtype)
            for b in (b for key, b in model.named_buffers() if ".modules_to_save." in key and b.dtype == torch.float64):
                b.data = b.data.float()
        folder = OUT / name
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        config_file = folder / "adapter_config.json"
        saved = json.loads(config_file.read_text())
        saved["base_model_name_or_path"] = base
        saved["target_modules"] = sorted(targets)
        config_file.write_text(json.dumps(saved, indent=2) + "\n")
        write_expected(folder, base, prompt, logits)
        print(name, "moves the logits by up to", round(moved, 3))


def feed_forward(name="ds_v3_ffn", base="ds_v3", rank=2, alpha=4):
    """Every feed-forward linear, experts as one linear each, the names PEFT gives where the model keeps them so (transformers 4, DeepSeek's own code).
    transformers 5 has them as one parameter, so the reference is the merged model."""
    torch.manual_seed(99)
    model, prompt, file = load(base), prompt_of(base), {}
    for i, layer in enumerate(model.model.layers):
        weights = {}
        if hasattr(layer.mlp, "experts"):
            gate_up, down = layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj
            n = down.shape[2]
            for e in range(down.shape[0]):
                weights |= {f"experts.{e}.gate_proj": gate_up[e, :n], f"experts.{e}.up_proj": gate_up[e, n:], f"experts.{e}.down_proj": down[e]}
            weights |= {f"shared_experts.{key}": getattr(layer.mlp.shared_experts, key).weight for key in ("gate_proj", "up_proj", "down_proj")}
        else:
            weights |= {key: getattr(layer.mlp, key).weight for key in ("gate_proj", "up_proj", "down_proj")}
        for key, w in weights.items():
            a, b = (torch.randn(rank, w.shape[1]) * 0.3).bfloat16(), (torch.randn(w.shape[0], rank) * 0.3).bfloat16()
            key = f"base_model.model.model.layers.{i}.mlp.{key}"
            file[f"{key}.lora_A.weight"], file[f"{key}.lora_B.weight"] = a, b
            with torch.no_grad():
                w += alpha / rank * (b.double() @ a.double())
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(file, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", r=rank, lora_alpha=alpha,
                                                                target_modules=["gate_proj", "up_proj", "down_proj"])) + "\n")
    with torch.no_grad():
        write_expected(folder, base, prompt, model(torch.tensor([prompt])).logits[0])


main()
if not sys.argv[2:] or "ds_v3_ffn" in sys.argv[2:]:
    feed_forward()
