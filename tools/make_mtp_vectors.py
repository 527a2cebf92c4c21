#!/usr/bin/env python3
"""Loss and gradients of the multi-token-prediction layer of a tiny DeepSeek-V3 by torch in float64: tests/vectors/mtp_grads.json.

    python tools/make_mtp_vectors.py

Needs torch, transformers, safetensors. The model is tests/vectors/ds_v3. transformers has its decoder layers but not the multi-token-
prediction layer: row i of it is eh_proj of enorm(embedding of token i + 1) and hnorm(the final norm's output at i), one decoder layer,
shared_head.norm and the model's head, and foretells token i + 2 (DeepSeek-V3, arXiv 2412.19437, section 2.2). The gradients are of
cross entropy + WEIGHT * that of this layer. Of each tensor the file holds the Euclidean norm and some elements spread over it."""
import json
import pathlib

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors"
LENGTH, SAMPLES, WEIGHT = 40, 6, 0.5


def ids_of(vocab, seed=5):
    out = []
    for _ in range(LENGTH):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out.append((seed >> 8) % vocab)
    return out


class Norm(torch.nn.Module):
    def __init__(self, weight, eps):
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(weight), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def build():
    """The model with its MTP layer as one more decoder layer, and that layer's own norms and eh_proj."""
    folder = VECTORS / "ds_v3"
    config = AutoConfig.from_pretrained(folder)
    n = config.num_hidden_layers
    config.num_hidden_layers = n + 1  # the file's layer n is a decoder layer too
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager")
    model.eval()
    file = safe_open(folder / "model.safetensors", "pt")
    own = {name: file.get_tensor(f"model.layers.{n}.{name}.weight").double() for name in ("enorm", "hnorm", "eh_proj", "shared_head.norm")}
    norms = {name: Norm(w, config.rms_norm_eps) for name, w in own.items() if "norm" in name}
    return model, n, norms, torch.nn.Parameter(own["eh_proj"])


def losses(model, n, norms, eh_proj, ids):
    """Cross entropy of the model and of its MTP layer."""
    body = model.model

    def layers(x, which):
        positions = torch.arange(x.shape[1])[None]
        mask = torch.full((1, 1, x.shape[1], x.shape[1]), float("-inf"), dtype=torch.float64).triu(1)
        rope = body.rotary_emb(x, positions)
        for layer in which:
            x = layer(x, attention_mask=mask, position_ids=positions, position_embeddings=rope)
            x = x[0] if isinstance(x, tuple) else x
        return x

    h = body.norm(layers(body.embed_tokens(ids), body.layers[:n]))
    loss = torch.nn.functional.cross_entropy(model.lm_head(h)[0, :-1], ids[0, 1:])
    both = torch.cat([norms["enorm"](body.embed_tokens(ids[:, 1:])), norms["hnorm"](h[:, :-1])], -1)
    x = norms["shared_head.norm"](layers(both @ eh_proj.T, body.layers[n:]))
    return loss, torch.nn.functional.cross_entropy(model.lm_head(x)[0, :-1], ids[0, 2:])


def main():
    model, n, norms, eh_proj = build()
    ids = torch.tensor([ids_of(model.config.vocab_size)])
    loss, mtp = losses(model, n, norms, eh_proj, ids)
    (loss + WEIGHT * mtp).backward()

    grads = {}
    for name, p in model.named_parameters():
        if p.grad is None:
            continue
        if name.endswith("experts.gate_up_proj"):
            half = p.shape[1] // 2
            for e in range(p.shape[0]):
                grads[name.replace("gate_up_proj", f"{e}.gate_proj.weight")] = p.grad[e, :half]
                grads[name.replace("gate_up_proj", f"{e}.up_proj.weight")] = p.grad[e, half:]
        elif name.endswith("experts.down_proj"):
            for e in range(p.shape[0]):
                grads[name.replace("down_proj", f"{e}.down_proj.weight")] = p.grad[e]
        else:
            grads[name] = p.grad
    grads |= {f"model.layers.{n}.{name}.weight": norm.weight.grad for name, norm in norms.items()}
    grads[f"model.layers.{n}.eh_proj.weight"] = eh_proj.grad
    found = {}
    for name, g in sorted(grads.items()):
        g = g.reshape(-1)
        at = sorted({i * (g.numel() - 1) // (SAMPLES - 1) for i in range(SAMPLES)})
        found[name] = {"l2": g.norm().item(), "at": at, "values": [float(f"{g[i].item():.9g}") for i in at]}
    answer = {"ids": ids[0].tolist(), "weight": WEIGHT, "loss": loss.item(), "mtp_loss": mtp.item(), "grads": found}
    (VECTORS / "mtp_grads.json").write_text(json.dumps(answer) + "\n")
    print(loss.item(), mtp.item(), len(found))


if __name__ == "__main__":
    main()
