"""Distillation: values and gradients of TRL's generalized_jsd_loss (GKD) in f64 on random logits, mixed with torch's cross entropy.
Writes distil.json. Run with trl 1.16 and torch: python tests/vectors/make_distil_vectors.py"""
import json
import pathlib

import torch
import torch.nn.functional as F
import trl
from trl.experimental.gkd.gkd_trainer import GKDTrainer

torch.manual_seed(7)
cases = []
for n, spread in ((5, 1.0), (17, 3.0), (100, 6.0)):
    for beta in (0.0, 1.0, 0.5, 0.1):
        for temperature, weight in ((1.0, 1.0), (2.0, 1.0), (0.7, 0.4), (1.0, 0.25)):
            student = (torch.randn(n) * spread).float()
            teacher = (torch.randn(n) * spread + 0.5 * student).float()
            target = int(torch.randint(n, ()))
            z = student.double().requires_grad_()
            t = teacher.double()
            kl = GKDTrainer.generalized_jsd_loss(z[None, None], t[None, None], labels=torch.tensor([[target]]), beta=beta, temperature=temperature)
            ce = F.cross_entropy(z[None], torch.tensor([target]))
            (weight * kl + (1 - weight) * ce).backward()
            cases.append({"beta": beta, "temperature": temperature, "weight": weight, "target": target, "student": student.tolist(), "teacher": teacher.tolist(),
                          "kl": kl.item(), "ce": ce.item(), "gradient": [float(f"{x:.9g}") for x in z.grad.tolist()]})
out = pathlib.Path(__file__).with_name("distil.json")
out.write_text(json.dumps({"trl": trl.__version__, "torch": torch.__version__, "cases": cases}).replace("}, {", "},\n{") + "\n")
