#!/usr/bin/env python3
"""policy.json: TRL's policy losses and their gradients by torch, in float64, on random completions: make_policy_vectors.py OUT

Asks GRPOTrainer._compute_loss of the installed trl itself; the model is a table of log-probabilities."""
import json
import sys
import types
from collections import defaultdict

import torch
import trl
from trl import GRPOTrainer

torch.manual_seed(3)
R, T = 6, 11
CASES = []


class Trainer:
    """The attributes that _compute_loss reads."""

    _compute_loss = GRPOTrainer._compute_loss

    def __init__(self, logp, loss_type, level, **kw):
        self.logp = logp
        self.loss_type, self.importance_sampling_level = loss_type, level
        self.beta = kw.get("beta", 0.0)
        self.epsilon_low, self.epsilon_high = kw.get("epsilon_low", 0.2), kw.get("epsilon_high", 0.2)
        self.args = types.SimpleNamespace(delta=kw.get("delta"), use_bias_correction_kl=kw.get("kl_unbiased", False), steps_per_generation=1)
        self.max_completion_length = kw.get("max_tokens", T)
        self.top_entropy_quantile, self.off_policy_mask_threshold = 1.0, kw.get("off_policy")
        self.get_off_policy_mask = GRPOTrainer.get_off_policy_mask
        self.use_vllm = self._entropy_bonus_enabled = self.aux_loss_enabled = False
        self.current_gradient_accumulation_steps = 1
        self.model = types.SimpleNamespace(training=True)
        self.accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
        self._metrics = {"train": defaultdict(list)}
        self._metric_buffer = None

    def __getattr__(self, name):
        if name.startswith(("_log", "_record")):
            return lambda *a, **k: None
        raise AttributeError(name)

    def _get_per_token_logps_and_entropies(self, *a, **k):
        return self.logp, torch.zeros_like(self.logp), None


def case(kind, **kw):
    lengths = torch.randint(1, T + 1, (R,))
    mask = (torch.arange(T)[None] < lengths[:, None]).to(torch.float64)
    if kw.pop("holes", False):
        mask = mask * (torch.rand(R, T) > 0.3)
        mask[0] = 0  # a completion of which nothing counts
    logp = (-torch.rand(R, T, dtype=torch.float64) * 3).float().double().requires_grad_()
    old = (logp.detach() + torch.randn(R, T, dtype=torch.float64) * kw.pop("drift", 0.3)).float().double()
    ref = (logp.detach() + torch.randn(R, T, dtype=torch.float64) * 0.2).float().double()
    adv = torch.randn(R, dtype=torch.float64)
    trainer = Trainer(logp, "grpo" if kind == "gspo" else kind, "sequence" if kind == "gspo" else "token", **kw)
    ids = torch.zeros(R, T, dtype=torch.long)
    loss = trainer._compute_loss(None, dict(prompt_ids=ids[:, :1], prompt_mask=ids[:, :1] + 1, completion_ids=ids, completion_mask=mask,
                                            advantages=adv, old_per_token_logps=old, ref_per_token_logps=ref, num_items_in_batch=mask.sum()))
    loss.backward()
    rows = lambda x: [x[i, : lengths[i]].tolist() for i in range(R)]
    CASES.append(dict(kind=kind, epsilon_low=trainer.epsilon_low, epsilon_high=trainer.epsilon_high, delta=trainer.args.delta or 0, beta=trainer.beta,
                      kl_unbiased=trainer.args.use_bias_correction_kl, off_policy=trainer.off_policy_mask_threshold or 0, max_tokens=trainer.max_completion_length, logp=rows(logp.detach()), old=rows(old),
                      ref=rows(ref), mask=[[int(m) for m in r] for r in rows(mask)], advantages=adv.tolist(), loss=loss.item(), gradient=rows(logp.grad)))


for kind in ("grpo", "bnpo", "dr_grpo", "dapo", "gspo", "cispo"):
    for kw in (dict(), dict(drift=0.0), dict(beta=0.04), dict(beta=0.1, kl_unbiased=True), dict(epsilon_high=0.28, holes=True), dict(delta=1.5, drift=0.8),
               dict(max_tokens=64, beta=0.001, drift=1.0), dict(off_policy=0.05, drift=0.5), dict(off_policy=0.1, drift=1.0, beta=0.1, kl_unbiased=True, holes=True)):
        if kind == "cispo":
            kw = kw | dict(epsilon_high=2.0)
        case(kind, **kw)

adv = []
for scale in ("none", "group", "batch"):
    rewards = torch.rand(4, 5, dtype=torch.float64).round(decimals=1)
    rewards[2] = 0.3
    dev = rewards.std(1, keepdim=True) if scale == "group" else rewards.std()
    a = rewards - rewards.mean(1, keepdim=True)
    adv.append(dict(scale=scale, rewards=rewards.tolist(), advantages=(a if scale == "none" else a / (dev + 1e-4)).tolist()))
json.dump(dict(trl=trl.__version__, torch=torch.__version__, cases=CASES, advantages=adv), open(sys.argv[1], "w"))
print(len(CASES), "cases")
