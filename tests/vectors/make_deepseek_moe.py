#!/usr/bin/env python3
"""deepseek_moe: make_deepseek_moe.py OUT. A tiny random model of DeepSeekMoE-16B's architecture (model_type deepseek, no
class in transformers) and float64 answers of the numpy forward below, written from arXiv 2401.06066 and the released
modeling_deepseek.py. Keys of expected.json as in the other fixtures."""
import json, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file

C = {"architectures": ["DeepseekForCausalLM"], "model_type": "deepseek", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 112,
     "moe_intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "n_shared_experts": 2,
     "n_routed_experts": 8, "num_experts_per_tok": 3, "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": False,
     "scoring_func": "softmax", "hidden_act": "silu", "max_position_embeddings": 1280, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
     "tie_word_embeddings": False, "attention_bias": False, "bos_token_id": 0, "eos_token_id": 1}
rng = np.random.default_rng(20241124)
D, H, K, I, M, S = 64, 4, 2, 112, 24, 48
hd = D // H


def weights():
    w = {}
    add = lambda name, *shape, mean=0.0, std=None: w.__setitem__(name, (mean + rng.standard_normal(shape) * (std or shape[-1] ** -0.5)).astype(np.float32))
    ffn = lambda p, n: [add(p + "gate_proj.weight", n, D), add(p + "up_proj.weight", n, D), add(p + "down_proj.weight", D, n)]
    add("model.embed_tokens.weight", 320, D, std=1.0)
    for l in range(3):
        p = f"model.layers.{l}."
        add(p + "input_layernorm.weight", D, mean=1.0, std=0.1), add(p + "post_attention_layernorm.weight", D, mean=1.0, std=0.1)
        for n, rows in (("q", D), ("k", K * hd), ("v", K * hd), ("o", D)):
            add(p + f"self_attn.{n}_proj.weight", rows, D)
        if l == 0:
            ffn(p + "mlp.", I)
            continue
        add(p + "mlp.gate.weight", 8, D)
        for e in range(8):
            ffn(p + f"mlp.experts.{e}.", M)
        ffn(p + "mlp.shared_experts.", S)
    add("model.norm.weight", D, mean=1.0, std=0.1), add("lm_head.weight", 320, D, std=0.4)
    return w


def forward(w, ids):
    w = {k: v.astype(np.float64) for k, v in w.items()}
    T = len(ids)
    rms = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g
    mlp = lambda p, x: ((lambda g: g / (1 + np.exp(-g)))(x @ w[p + "gate_proj.weight"].T) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T
    a = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, hd, 2) / hd)
    cos, sin = np.cos(a), np.sin(a)
    rope = lambda x: np.concatenate([x[..., :hd // 2] * cos - x[..., hd // 2:] * sin, x[..., hd // 2:] * cos + x[..., :hd // 2] * sin], -1)
    x = w["model.embed_tokens.weight"][ids]
    for l in range(3):
        p = f"model.layers.{l}."
        h = rms(x, w[p + "input_layernorm.weight"])
        heads = lambda n, k: (h @ w[p + f"self_attn.{n}_proj.weight"].T).reshape(T, k, hd).transpose(1, 0, 2)
        q, k, v = rope(heads("q", H)), np.repeat(rope(heads("k", K)), H // K, 0), np.repeat(heads("v", K), H // K, 0)
        s = np.where(np.tril(np.ones((T, T), bool)), q @ k.transpose(0, 2, 1) * hd ** -0.5, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True))
        x = x + (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(T, D) @ w[p + "self_attn.o_proj.weight"].T
        h = rms(x, w[p + "post_attention_layernorm.weight"])
        if l == 0:
            x = x + mlp(p + "mlp.", h)
            continue
        z = h @ w[p + "mlp.gate.weight"].T
        z = np.exp(z - z.max(-1, keepdims=True))
        z /= z.sum(-1, keepdims=True)
        y = mlp(p + "mlp.shared_experts.", h)
        for t in range(T):
            for e in np.argsort(-z[t], kind="stable")[:3]:
                y[t] += z[t, e] * mlp(p + f"mlp.experts.{e}.", h[t:t + 1])[0]
        x = x + y
    return rms(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


out = Path(sys.argv[1]) / "deepseek_moe"
out.mkdir(parents=True, exist_ok=True)
w = weights()
prompt = [0] + [int(i) for i in rng.integers(2, 320, 43)]
z = forward(w, prompt)
top = np.argsort(-z, -1, kind="stable")[:, :10]
tokens = []
for _ in range(24):
    tokens.append(int(forward(w, prompt + tokens)[-1].argmax()))
save_file(w, out / "model.safetensors")
(out / "config.json").write_text(json.dumps(C, indent=1))
(out / "expected.json").write_text(json.dumps({
    "model": "deepseek_moe", "prompt": prompt, "logits": {"last": z[-1].tolist(), "top10_ids": top.tolist(), "top10_logits": np.take_along_axis(z, top, -1).tolist()},
    "greedy": {"tokens": tokens}, "short": {"prompt": prompt[:7], "last": forward(w, prompt[:7])[-1].tolist()}}))
