#!/usr/bin/env python3
"""Loss and gradients of low-rank pairs by torch and PEFT in float64: tests/vectors/lora_grads.json.

    python tools/make_lora_vectors.py

Needs torch, transformers, peft, safetensors. The adapters and their models are those of tests/vectors. Of each pair's gradients the file
holds the Euclidean norm and some elements spread over the tensor."""
import json
import pathlib

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors"
ADAPTERS = ["qwen2_all", "qwen2_rslora", "qwen2_tied_head", "llama3_bf16", "ds_v3_attention"]
LENGTH, SAMPLES = 48, 6


def ids_of(vocab, seed=7):
    """What tests/unit/test_trainer.c draws."""
    out = []
    for _ in range(LENGTH):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out.append((seed >> 8) % vocab)
    return out


def main():
    found = {}
    for name in ADAPTERS:
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
            g = p.grad.reshape(-1)
            at = [i * (g.numel() - 1) // (SAMPLES - 1) for i in range(SAMPLES)]
            grads[key.replace(".default.", ".")] = {"l2": g.norm().item(), "at": at, "values": [g[i].item() for i in at]}
        found[name] = {"base": base, "ids": ids, "loss": loss.item(), "grads": grads}
        print(name, loss.item(), len(grads))
    (VECTORS / "lora_grads.json").write_text(json.dumps(found, indent=0).replace("\n", "") + "\n")


if __name__ == "__main__":
    main()
