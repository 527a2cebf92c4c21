#!/usr/bin/env python3
"""Three steps of Muon on matrices of several shapes, by numpy in float64: tests/vectors/muon.json.

    python tools/make_muon_vectors.py

Weights and gradients are float32 numbers of a congruential generator that tests/unit/test_muon.c draws too. Of each result the file holds
the Euclidean norm and some elements. Where torch is there, the steps are compared with torch.optim.Muon, whose iteration runs in bfloat16."""
import json
import pathlib

import numpy as np

SHAPES = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "mlp.up_proj": (96, 64), "mlp.down_proj": (64, 96)}
LR, DECAY, MOMENTUM, STEPS, SAMPLES = 0.02, 0.1, 0.95, 3, 12


def draw(shape, seed):
    out = np.empty(shape[0] * shape[1], np.float32)
    for i in range(out.size):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out[i] = np.float32((seed >> 8) % 2001 - 1000) / np.float32(1024)
    return out.reshape(shape).astype(np.float64)


def orthogonal(u):
    x = u / (np.linalg.norm(u) + 1e-7)
    x = x.T if u.shape[0] > u.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x.T if u.shape[0] > u.shape[1] else x


def main():
    found = {}
    for number, (name, shape) in enumerate(SHAPES.items()):
        w, m = draw(shape, number), np.zeros(shape)
        first = w.copy()
        for step in range(STEPS):
            g = draw(shape, 100 * step + number + 10)
            m = MOMENTUM * m + g
            w = (1 - LR * DECAY) * w - LR * 0.2 * max(shape) ** 0.5 * orthogonal(g + MOMENTUM * m)
        flat = w.reshape(-1)
        at = [i * (flat.size - 1) // (SAMPLES - 1) for i in range(SAMPLES)]
        found[name] = {"shape": shape, "l2": np.linalg.norm(w), "moved": np.linalg.norm(w - first), "at": at, "values": [flat[i] for i in at]}
        try:
            import torch
        except ImportError:
            continue
        p = torch.nn.Parameter(torch.tensor(first))
        o = torch.optim.Muon([p], lr=LR, weight_decay=DECAY, momentum=MOMENTUM, nesterov=True, adjust_lr_fn="match_rms_adamw")
        for step in range(STEPS):
            p.grad = torch.tensor(draw(shape, 100 * step + number + 10))
            o.step()
        off = np.linalg.norm(p.detach().numpy() - w) / np.linalg.norm(w - first)
        print(f"{name}: torch.optim.Muon is {off:.2e} of the way off")
    path = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors" / "muon.json"
    path.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
