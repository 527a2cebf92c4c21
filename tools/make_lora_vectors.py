#!/usr/bin/env python3
"""Loss and gradients of low-rank pairs by torch and PEFT in float64: tests/vectors/lora_grads.json.

    python tools/make_lora_vectors.py [NAME...]     (default: all)

Needs torch, transformers, peft, safetensors. The adapters and their models are those of tests/vectors; ds_v3_mtp is made here. Of each pair's gradients the file
holds the Euclidean norm and some elements spread over the tensor."""
import json
import pathlib
import sys

import make_mtp_vectors
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors"
ADAPTERS = ["qwen2_all", "qwen2_rslora", "qwen2_tied_head", "llama3_bf16", "ds_v3_attention", "ds_v3_router"]
LENGTH, SAMPLES = 48, 6


def experts_apart(name="ds_v3_ffn"):
    """Pairs of each feed-forward linear, experts one by one, which transformers 5 keeps as one parameter: of the merged matrices' gradients G
    those of the pairs are s G A^T and s B^T G."""
    config = json.loads((VECTORS / "adapters" / name / "adapter_config.json").read_text())
    base, s = "ds_v3", config["lora_alpha"] / config["r"]
    model = AutoModelForCausalLM.from_pretrained(VECTORS / base, dtype=torch.float64, experts_implementation="eager")
    file = {k: v.double() for k, v in load_file(VECTORS / "adapters" / name / "adapter_model.safetensors").items()}
    parameters, places = dict(model.named_parameters()), {}
    for key in (k for k in file if k.endswith(".lora_A.weight")):
        linear = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a, b = file[key], file[key.replace("lora_A", "lora_B")]
        p, at = place_of(parameters, linear)
        with torch.no_grad():
            p[at] += s * b @ a
        places[key] = (p, at, a, b)
    ids = ids_of(model.config.vocab_size)
    logits = model(torch.tensor([ids])).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    loss.backward()
    grads = {}
    for key, (p, at, a, b) in places.items():
        g = p.grad[at]
        grads[key] = describe(s * b.T @ g)
        grads[key.replace("lora_A", "lora_B")] = describe(s * g @ a.T)
    return {"base": base, "ids": ids, "loss": loss.item(), "grads": grads}


def place_of(parameters, linear):
    """The parameter that holds a linear, and where in it."""
    if ".experts." not in linear:
        return parameters[f"{linear}.weight"], (slice(None),)
    stem, _, rest = linear.partition(".experts.")
    e, part = rest.split(".")
    p = parameters[f"{stem}.experts.{'down_proj' if part == 'down_proj' else 'gate_up_proj'}"]
    half = p.shape[1] // 2
    return p, (int(e), slice(None) if part == "down_proj" else slice(0, half) if part == "gate_proj" else slice(half, None))


def with_mtp(name="ds_v3_mtp", rank=2, alpha=4, weight=0.5):
    """Pairs of routers, eh_proj and the head, and of some linears of every layer, that of multi-token prediction too; and the loss that has it."""
    model, n, norms, eh_proj = make_mtp_vectors.build()
    parameters, file, places = dict(model.named_parameters()) | {f"model.layers.{n}.eh_proj.weight": eh_proj}, {}, {}
    linears = ["lm_head", f"model.layers.{n}.eh_proj"]
    for i, layer in enumerate(model.model.layers):
        linears += [f"model.layers.{i}.self_attn.{part}" for part in ("q_a_proj", "kv_b_proj")]
        if hasattr(layer.mlp, "experts"):
            linears += [f"model.layers.{i}.mlp.{part}" for part in ("gate", "experts.1.gate_proj", "experts.1.up_proj", "experts.1.down_proj")]
    torch.manual_seed(17)
    for linear in linears:
        p, at = place_of(parameters, linear)
        out, cols = p[at].shape
        a, b = (torch.randn(rank, cols) * 0.2).bfloat16().float(), (torch.randn(out, rank) * 0.2).bfloat16().float()
        with torch.no_grad():
            p[at] += alpha / rank * b.double() @ a.double()
        key = f"base_model.model.{linear}.lora_A.weight"
        file |= {key: a, key.replace("lora_A", "lora_B"): b}
        places[key] = (p, at, a.double(), b.double())
    folder = VECTORS / "adapters" / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(file, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", r=rank, lora_alpha=alpha, base_model_name_or_path="ds_v3",
        target_modules=sorted(x for x in linears if not x.endswith(".gate")), target_parameters=[f"{x}.weight" for x in linears if x.endswith(".gate")])) + "\n")
    ids = ids_of(model.config.vocab_size)
    loss, mtp = make_mtp_vectors.losses(model, n, norms, eh_proj, torch.tensor([ids]))
    (loss + weight * mtp).backward()
    grads, s = {}, alpha / rank
    for key, (p, at, a, b) in places.items():
        grads[key], grads[key.replace("lora_A", "lora_B")] = describe(s * b.T @ p.grad[at].double()), describe(s * p.grad[at].double() @ a.T)
    prompt = json.loads((VECTORS / "ds_v3" / "expected.json").read_text())["prompt"]
    model.model.layers = model.model.layers[:n]  # the model by itself, whose last layer this is not
    with torch.no_grad():
        logits = model(torch.tensor([prompt]), use_cache=False).logits[0]
    top = logits.topk(10)
    (folder / "expected.json").write_text(json.dumps(dict(
        base="ds_v3", prompt=prompt, last=[float(f"{x:.9g}") for x in logits[-1].tolist()], top10_ids=top.indices.tolist(),
        top10_logits=[[float(f"{x:.9g}") for x in row] for row in top.values.tolist()])))
    return {"base": "ds_v3", "ids": ids, "weight": weight, "loss": loss.item(), "mtp_loss": mtp.item(), "grads": grads}


def describe(g):
    g = g.reshape(-1)
    at = [i * (g.numel() - 1) // (SAMPLES - 1) for i in range(SAMPLES)]
    return {"l2": float(f"{g.norm().item():.9g}"), "at": at, "values": [float(f"{g[i].item():.9g}") for i in at]}


def ids_of(vocab, seed=7):
    """What tests/unit/test_trainer.c draws."""
    out = []
    for _ in range(LENGTH):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out.append((seed >> 8) % vocab)
    return out


def main():
    path = VECTORS / "lora_grads.json"
    wanted = sys.argv[1:] or ADAPTERS + ["ds_v3_ffn", "ds_v3_mtp"]
    found = json.loads(path.read_text()) if sys.argv[1:] else {}
    for name in (name for name in ADAPTERS if name in wanted):
        base = json.loads((VECTORS / "adapters" / name / "adapter_config.json").read_text())["base_model_name_or_path"]
        model = AutoModelForCausalLM.from_pretrained(VECTORS / base, dtype=torch.float64, experts_implementation="eager")
        model = PeftModel.from_pretrained(model, VECTORS / "adapters" / name, is_trainable=True).double().eval()
        ids = ids_of(model.config.vocab_size)
        logits = model(torch.tensor([ids])).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
        loss.backward()
        grads = {}
        for key, p in model.named_parameters():
            if p.grad is None:
                continue
            grads[key.replace(".default.", ".")] = describe(p.grad)
        found[name] = {"base": base, "ids": ids, "loss": loss.item(), "grads": grads}
        print(name, loss.item(), len(grads))
    if "ds_v3_ffn" in wanted:
        found["ds_v3_ffn"] = experts_apart()
    if "ds_v3_mtp" in wanted:
        found["ds_v3_mtp"] = with_mtp()
    path.write_text(json.dumps(found, indent=0).replace("\n", "") + "\n")


if __name__ == "__main__":
    main()
