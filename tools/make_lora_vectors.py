#!/usr/bin/env python3
"""Loss and gradients of low-rank pairs by torch and PEFT in float64: tests/vectors/lora_grads.json.

    python tools/make_lora_vectors.py [NAME...]     (default: all)

Needs torch, transformers, peft, safetensors. The adapters and their models are those of tests/vectors. Of each pair's gradients the file
holds the Euclidean norm and some elements spread over the tensor."""
import json
import pathlib
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors"
ADAPTERS = ["qwen2_all", "qwen2_rslora", "qwen2_tied_head", "llama3_bf16", "ds_v3_attention"]
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
        if ".experts." in linear:
            stem, _, rest = linear.partition(".experts.")
            e, part = int(rest.split(".")[0]), rest.split(".")[1]
            p = parameters[f"{stem}.experts.{'down_proj' if part == 'down_proj' else 'gate_up_proj'}"]
            at = (e, slice(None) if part == "down_proj" else slice(0, b.shape[0]) if part == "gate_proj" else slice(b.shape[0], None))
        else:
            p, at = parameters[f"{linear}.weight"], (slice(None),)
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
    wanted = sys.argv[1:] or ADAPTERS + ["ds_v3_ffn"]
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
    path.write_text(json.dumps(found, indent=0).replace("\n", "") + "\n")


if __name__ == "__main__":
    main()
