#!/usr/bin/env python3
"""ds_v4_mtp: make_ds_v4_mtp.py OUT. The model ds_v4 of this folder with a random multi-token-prediction layer behind it,
and float64 answers of the numpy forward below, which was written from DeepSeek-V4's description and the structure of
class MTPBlock in its released inference/model.py; transformers does not read mtp.*. The forward of the main model is
held to ds_v4's expected.json, transformers' own answers. Keys of expected.json as in the other fixtures; mtp as in
ds_v3, and chain: the layer fed its own streams and likeliest token again, 3 times.
Needs: pip install numpy."""
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
rng = np.random.default_rng(20260424)


def read(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__")
    return {name: (e["dtype"], e["shape"], raw[8 + n + e["data_offsets"][0]:8 + n + e["data_offsets"][1]]) for name, e in header.items()}


def write(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def values(tensors):
    w = {}
    for name, (dtype, shape, data) in tensors.items():
        if dtype == "BF16":
            a = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            a = np.frombuffer(data, {"F32": "<f4", "I64": "<i8"}[dtype])
        w[name] = a.reshape(shape) if dtype == "I64" else a.reshape(shape).astype(np.float64)
    return w


def random_like(like, mean=0.0, std=None):
    dtype, shape, _ = like
    a = (mean + rng.standard_normal(shape) * (shape[-1] ** -0.5 if std is None else std)).astype(np.float32)
    return dtype, shape, (a.view(np.uint32) >> 16).astype("<u2").tobytes() if dtype == "BF16" else a.tobytes()


def mtp_tensors(tensors, d):
    """A layer of ratio 0 and with a router bias, and what stands around it."""
    out = {}
    for name, t in tensors.items():
        if name.startswith("layers.0.") and "tid2eid" not in name:
            norm = name.endswith("norm.weight")
            out["mtp.0." + name[9:]] = random_like(t, 1.0 if norm else 0.0, 0.1 if norm else None if len(t[1]) > 1 else 0.5)
    for site in ("attn", "ffn"):
        out[f"mtp.0.hc_{site}_scale"] = random_like(("F32", [3], None), 1.0, 0.1)
    out["mtp.0.ffn.gate.bias"] = random_like(("F32", [tensors["layers.0.ffn.gate.weight"][1][0]], None), std=0.2)
    for name in ("e_proj", "h_proj"):
        out[f"mtp.0.{name}.weight"] = random_like(("BF16", [d, d], None))
    for name in ("enorm", "hnorm", "norm"):
        out[f"mtp.0.{name}.weight"] = random_like(("BF16", [d], None), 1.0, 0.1)
    for name in ("hc_head_fn", "hc_head_base"):
        out[f"mtp.0.{name}"] = random_like(tensors[name], std=0.3)
    out["mtp.0.hc_head_scale"] = random_like(("F32", [1], None), 1.0, 0.1)
    return out


# ---- the forward ----
def rms(x, g, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * (1 if g is None else g)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def frequencies(c, compressed):
    d, base = c["qk_rope_head_dim"], c["compress_rope_theta"] if compressed else c["rope_theta"]
    i = np.arange(d // 2)
    plain = base ** (-2.0 * i / d)
    if not compressed:
        return plain
    s = c["rope_scaling"]
    at = lambda turns: d * math.log(s["original_max_position_embeddings"] / (2 * math.pi * turns)) / (2 * math.log(base))
    low, high = max(math.floor(at(s["beta_fast"])), 0), min(math.ceil(at(s["beta_slow"])), d - 1)
    ramp = np.clip((i - low) / (high - low if high > low else 0.001), 0, 1)
    return (1 - ramp) * plain + ramp * plain / s["factor"]


def rotate(x, positions, inv, rope, sign=1):
    """The last rope elements of x [..., T, d], pairs side by side."""
    a = sign * positions[:, None] * inv
    p, q = x[..., -rope::2], x[..., -rope + 1::2]
    both = np.stack([p * np.cos(a) - q * np.sin(a), q * np.cos(a) + p * np.sin(a)], -1)
    return np.concatenate([x[..., :-rope], both.reshape(*x.shape[:-1], rope)], -1)


def best_mask(scores, k):
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, np.argsort(-scores, -1, kind="stable")[..., :k], True, -1)
    return mask


class Model:
    def __init__(self, c, w):
        self.c, self.w, self.eps = c, w, c["rms_norm_eps"]

    def mix(self, X, name):
        """pre, post and comb of a place, from the streams X [T, n, D]."""
        c, w, n, T = self.c, self.w, self.c["hc_mult"], len(X)
        m = rms(X.reshape(T, -1), None, self.eps) @ w[name + "_fn"].T
        base, scale = w[name + "_base"], w[name + "_scale"]
        pre = sigmoid(m[:, :n] * scale[0] + base[:n]) + c["hc_eps"]
        if m.shape[1] == n:
            return pre
        post = 2 * sigmoid(m[:, n:2 * n] * scale[1] + base[n:2 * n])
        comb = softmax((m[:, 2 * n:] * scale[2] + base[2 * n:]).reshape(T, n, n)) + c["hc_eps"]
        comb = comb / (comb.sum(1, keepdims=True) + c["hc_eps"])
        for _ in range(c["hc_sinkhorn_iters"] - 1):
            comb = comb / (comb.sum(2, keepdims=True) + c["hc_eps"])
            comb = comb / (comb.sum(1, keepdims=True) + c["hc_eps"])
        return pre, post, comb

    def place(self, X, name, norm, sublayer):
        pre, post, comb = self.mix(X, name)
        y = sublayer(rms((pre[..., None] * X).sum(1), self.w[norm], self.eps))
        return post[..., None] * y[:, None] + np.einsum("tjk,tjd->tkd", comb, X)

    def entries(self, h, p, ratio, width):
        w, n = self.w, len(h) // ratio
        if not n:
            return np.zeros((0, width))
        kv = (h @ w[p + "wkv.weight"].T)[:n * ratio].reshape(n, ratio, -1)
        gate = (h @ w[p + "wgate.weight"].T)[:n * ratio].reshape(n, ratio, -1) + w[p + "ape"]
        if kv.shape[-1] == 2 * width:  # two series: the first of the window before, the second of its own
            before = np.zeros((n, ratio, width)), np.full((n, ratio, width), -np.inf)
            before[0][1:], before[1][1:] = kv[:-1, :, :width], gate[:-1, :, :width]
            kv, gate = np.concatenate([before[0], kv[..., width:]], 1), np.concatenate([before[1], gate[..., width:]], 1)
        return rms((softmax(gate, 1) * kv).sum(1), w[p + "norm.weight"], self.eps)

    def attention(self, h, p, ratio):
        c, w, T = self.c, self.w, len(h)
        heads, d, rope, pos = c["num_attention_heads"], c["head_dim"], c["qk_rope_head_dim"], np.arange(T)
        turn = lambda x, at, sign=1: rotate(x, at, frequencies(c, ratio > 0), rope, sign)
        low = rms(h @ w[p + "wq_a.weight"].T, w[p + "q_norm.weight"], self.eps)
        q = turn(rms((low @ w[p + "wq_b.weight"].T).reshape(T, heads, d), None, self.eps).transpose(1, 0, 2), pos)
        kv = turn(rms(h @ w[p + "wkv.weight"].T, w[p + "kv_norm.weight"], self.eps), pos)
        seen = (pos <= pos[:, None]) & (pos > pos[:, None] - c["sliding_window"])
        if ratio:
            old = self.entries(h, p + "compressor.", ratio, d)
            at = np.arange(len(old)) * ratio
            visible = np.arange(len(old)) < ((pos + 1) // ratio)[:, None]
            if ratio == 4:
                ih, iw, ip = c["index_n_heads"], c["index_head_dim"], p + "indexer."
                keys = turn(self.entries(h, ip + "compressor.", ratio, iw), at)
                iq = turn((low @ w[ip + "wq_b.weight"].T).reshape(T, ih, iw).transpose(1, 0, 2), pos)
                weights = h @ w[ip + "weights_proj.weight"].T * (ih * iw) ** -0.5
                score = np.einsum("hts,th->ts", np.maximum(iq @ keys.T, 0), weights)
                visible = visible & best_mask(np.where(visible, score, -np.inf), min(c["index_topk"], len(old)))
            kv, seen = np.concatenate([kv, turn(old, at)]), np.concatenate([seen, visible], 1)
        s = np.where(seen, q @ kv.T * d ** -0.5, -np.inf)
        sink = np.broadcast_to(w[p + "attn_sink"][:, None, None], (heads, T, 1))
        o = turn(softmax(np.concatenate([s, sink], -1))[..., :-1] @ kv, pos, -1)
        o = o.transpose(1, 0, 2).reshape(T, c["o_groups"], -1)
        groups = w[p + "wo_a.weight"].reshape(c["o_groups"], -1, o.shape[-1])
        return np.einsum("tgi,goi->tgo", o, groups).reshape(T, -1) @ w[p + "wo_b.weight"].T

    def expert(self, h, p):
        limit, w = self.c["swiglu_limit"], self.w
        g, u = np.minimum(h @ w[p + "w1.weight"].T, limit), np.clip(h @ w[p + "w3.weight"].T, -limit, limit)
        return (g * sigmoid(g) * u) @ w[p + "w2.weight"].T

    def experts(self, h, p, ids, hashed):
        c, w = self.c, self.w
        score = np.sqrt(np.log1p(np.exp(h @ w[p + "gate.weight"].T)))
        if hashed:
            chosen = np.zeros(score.shape, bool)
            np.put_along_axis(chosen, w[p + "gate.tid2eid"][ids], True, -1)
        else:
            chosen = best_mask(score + w[p + "gate.bias"], c["num_experts_per_tok"])
        part = np.where(chosen, score, 0)
        part = part / (part.sum(-1, keepdims=True) + 1e-20) * c["routed_scaling_factor"]
        return sum(part[:, e:e + 1] * self.expert(h, p + f"experts.{e}.") for e in range(score.shape[1])) + self.expert(h, p + "shared_experts.")

    def block(self, X, p, ratio, ids, hashed):
        X = self.place(X, p + "hc_attn", p + "attn_norm.weight", lambda h: self.attention(h, p + "attn.", ratio))
        return self.place(X, p + "hc_ffn", p + "ffn_norm.weight", lambda h: self.experts(h, p + "ffn.", ids, hashed))

    def head(self, X, p):
        x = (self.mix(X, p + "hc_head")[..., None] * X).sum(1)
        return rms(x, self.w[p + "norm.weight"], self.eps) @ self.w["head.weight"].T

    def streams(self, ids):
        c = self.c
        X = np.repeat(self.w["embed.weight"][ids][:, None], c["hc_mult"], 1)
        for l in range(c["num_hidden_layers"]):
            X = self.block(X, f"layers.{l}.", c["compress_ratios"][l], ids, l < c["num_hash_layers"])
        return X

    def mtp(self, X, next_ids):
        """Streams of the layer from the model's before its hc_head, and the ids one further."""
        w, p = self.w, "mtp.0."
        e = rms(w["embed.weight"][next_ids], w[p + "enorm.weight"], self.eps) @ w[p + "e_proj.weight"].T
        h = rms(X, w[p + "hnorm.weight"], self.eps) @ w[p + "h_proj.weight"].T
        return self.block(e[:, None] + h, p, 0, next_ids, False)


def chain(m, ids, n):
    """Tokens that the layer predicts behind ids and one greedy token, each from the streams of the one before."""
    X = m.streams(ids)
    ids = np.append(ids, m.head(X, "")[-1].argmax())
    H, out, steps = X, [int(ids[-1])], ids[1:]
    for _ in range(n):
        Y = m.mtp(H, steps)
        out.append(int(m.head(Y, "mtp.0.")[-1].argmax()))
        H, steps = np.concatenate([H, Y[-1:]]), np.append(steps, out[-1])
    return out


def main():
    out = Path(sys.argv[1]) / "ds_v4_mtp"
    out.mkdir(parents=True, exist_ok=True)
    c = json.loads((HERE / "ds_v4" / "config.json").read_text()) | {"num_nextn_predict_layers": 1}
    e = json.loads((HERE / "ds_v4" / "expected.json").read_text())
    tensors = read(HERE / "ds_v4" / "model.safetensors")
    tensors |= mtp_tensors(tensors, c["hidden_size"])
    m, ids = Model(c, values(tensors)), np.array(e["prompt"])
    X = m.streams(ids)
    main_error = np.abs(m.head(X, "")[-1] - e["logits"]["last"]).max()
    assert main_error < 1e-6, main_error
    z = m.head(m.mtp(X[:-1], ids[1:]), "mtp.0.")
    top = np.argsort(-z, -1, kind="stable")[:, :10]
    margin = np.sort(z, -1)[:, -1] - np.sort(z, -1)[:, -2]
    print(f"main model: {main_error:.1e} from transformers; logits of the layer: std {z.std():.2f}, smallest margin {margin.min():.1e}")
    write(out / "model.safetensors", tensors)
    (out / "config.json").write_text(json.dumps(c, indent=1))
    keep = {k: e[k] for k in ("prompt", "logits", "greedy", "short")}
    (out / "expected.json").write_text(json.dumps(keep | {
        "model": "ds_v4_mtp",
        "mtp": {"last_logits": z[-1].tolist(), "top10_ids": top.tolist(), "top10_logits": np.take_along_axis(z, top, -1).tolist()},
        "chain": {"prompt": e["prompt"][:40], "tokens": chain(m, ids[:40], 3)}}))


main()
