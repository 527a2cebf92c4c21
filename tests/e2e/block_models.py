"""Small random models whose weights are GGUF blocks, and what they answer by RN1 sections 1, 4, 4a and 6, in float64.

    block_models.py OUT      writes OUT/dense.gguf and OUT/experts.gguf, in which every linear has another type

Types that the gguf package quantises are quantised by it; the blocks of the others are random bytes with sane scales."""
import itertools
import pathlib
import sys
import zlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize

VOCAB, D, LAYERS, HEADS, FF = 320, 256, 2, 4, 512
EPS = 1e-6
MLA = dict(q_lora=256, kv_lora=256, nope=32, rope=16, v=64, experts=8, used=3, shared=1, ff=256, scaling=2.5)

# Where a type's block keeps its f16 scale, and its f16 minimum as a share of that scale that makes the mean zero.
SCALES = {T.Q2_K: (80, 82, 1.5), T.Q3_K: (108, None, 0), T.Q4_K: (0, 2, 7.5), T.Q5_K: (0, 2, 15.5), T.Q6_K: (208, None, 0),
          T.IQ4_XS: (0, None, 0), T.IQ4_NL: (0, None, 0), T.IQ3_S: (0, None, 0)}
BY_PACKAGE = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.MXFP4]
TYPES = BY_PACKAGE + list(SCALES)
EXACT_ONLY = {T.IQ3_S}  # no integer kernel: section 1 on dequantised values


def random_blocks(rng, shape, kind):
    """Random codes of a type, scaled so that the elements' spread is that of a usual weight."""
    elems, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (int(np.prod(shape)) // elems, size), dtype=np.uint8)
    at, at_min, share = SCALES[kind]

    def scale(d):
        blocks[:, at:at + 2] = np.float16(d).reshape(1).view(np.uint8)
        if at_min is not None:
            blocks[:, at_min:at_min + 2] = np.float16(d * share).reshape(1).view(np.uint8)

    scale(2.0 ** -8)
    spread = dequantize(blocks[:64], kind).std()
    scale(2.0 ** -8 * shape[-1] ** -0.5 / spread)
    return blocks.reshape(*shape[:-1], -1)


def is_quantised(kind):
    """Whether activations are quantised against a type, or by section 1."""
    return kind != T.F32 and kind not in EXACT_ONLY


def quantised(x):
    """x as its codes say it: blocks of 32, d = max(fl(A / 16319), fl(B / 127)), A the largest |x|, B that of the groups of
    four other than A's, round(fl(x / d)) times d."""
    blocks = x.astype(np.float32).reshape(*x.shape[:-1], x.shape[-1] // 32, 8, 4)
    largest = np.abs(blocks).max(-1)
    top = largest.argmax(-1)[..., None]
    rest = np.where(np.arange(8) == top, np.float32(0), largest).max(-1)
    d = np.maximum(largest.max(-1) / np.float32(16319), rest / np.float32(127))[..., None, None]
    q = np.rint(np.divide(blocks, d, out=np.zeros_like(blocks), where=d > 0))
    return (q.astype(np.float64) * d).reshape(x.shape)


class Model:
    """kinds: the types of the linears, in turn."""

    def __init__(self, kinds, seed):
        self.name = "+".join(k.name for k in kinds)
        self.kinds, self.rng, self.tensors = itertools.cycle(kinds), np.random.default_rng([seed, zlib.crc32(self.name.encode())]), {}

    def linear(self, name, *shape, kind=None):
        kind = kind or next(self.kinds)
        if shape[-1] % GGML_QUANT_SIZES[kind][0]:
            kind = T.Q8_0
        if kind in BY_PACKAGE or kind == T.F32:
            w = (self.rng.standard_normal(shape) * shape[-1] ** -0.5).astype(np.float32)
            data = w if kind == T.F32 else quantize(w, kind)
        else:
            data = random_blocks(self.rng, shape, kind)
        values = data if kind == T.F32 else dequantize(data, kind)
        self.tensors[name] = (data, kind, values.reshape(shape).astype(np.float64))

    def vector(self, name, n, mean=1.0):
        a = (mean + 0.1 * self.rng.standard_normal(n)).astype(np.float32)
        self.tensors[name] = (a, T.F32, a.astype(np.float64))

    def __getitem__(self, name):
        return self.tensors[name][2]

    def times(self, x, name, exact, part=slice(None)):
        """x W^T, part of it: a head."""
        _, kind, w = self.tensors[name]
        return (x if exact or not is_quantised(kind) else quantised(x)) @ w[part].T

    def narrow(self, exact):
        """Whether attention is of class RN1-bf16: where any product quantises its activations."""
        return not exact and any(is_quantised(kind) for _, kind, _ in self.tensors.values())

    def write(self, path, arch, add):
        w = GGUFWriter(path, arch)
        for key, value in [("block_count", LAYERS), ("context_length", 1024), ("embedding_length", D), ("attention.head_count", HEADS),
                           ("feed_forward_length", FF), ("vocab_size", VOCAB)]:
            w.add_uint32(f"{arch}.{key}", value)
        w.add_layer_norm_rms_eps(EPS)
        w.add_rope_freq_base(10000.0)
        add(w)
        for name, (data, kind, _) in self.tensors.items():
            w.add_tensor(name, data, raw_dtype=None if kind == T.F32 else kind)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def rms(x, w):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * w


def rope(x, half):
    """x [..., T, d], rotated by position."""
    d = x.shape[-1]
    angle = np.arange(x.shape[-2])[:, None] * 10000.0 ** (-2.0 * np.arange(d // 2) / d)
    a, b = (x[..., :d // 2], x[..., d // 2:]) if half else (x[..., 0::2], x[..., 1::2])
    u, v = a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)
    return np.concatenate([u, v], -1) if half else np.stack([u, v], -1).reshape(x.shape)


def softmax(s):
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def causal(s):
    n = s.shape[-1]
    return np.where(np.arange(n)[None] <= np.arange(n)[:, None], s, -np.inf)


def bf16(x):
    """To nearest even; no value here is as small as a denormal."""
    b = x.astype(np.float32).view(np.uint32)
    return ((b + 0x7FFF + (b >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def attention(q, k, v, scale, narrow):
    """Causal, one block of keys; narrow: class RN1-bf16."""
    if not narrow:
        return softmax(causal(q @ np.swapaxes(k, -1, -2) * scale)) @ v
    s = causal(bf16(q) @ np.swapaxes(bf16(k), -1, -2) * scale)
    p = bf16(np.exp(s - s.max(-1, keepdims=True)))
    return p @ bf16(v) / p.sum(-1, keepdims=True)


def swiglu(g, u):
    return g / (1 + np.exp(-g)) * u


def ffn(m, x, prefix, suffix, exact, part=slice(None)):
    g, u = (m.times(x, f"{prefix}ffn_{n}{suffix}.weight", exact, part) for n in ("gate", "up"))
    return m.times(swiglu(g, u), f"{prefix}ffn_down{suffix}.weight", exact, part)


class Dense(Model):
    """qwen2: grouped-query attention with biases."""

    def __init__(self, kinds, seed):
        super().__init__(kinds, seed)
        kv = D // 2
        self.linear("token_embd.weight", VOCAB, D)
        self.linear("output.weight", VOCAB, D)
        self.vector("output_norm.weight", D)
        for i in range(LAYERS):
            b = f"blk.{i}."
            for name, n in [("attn_q", D), ("attn_k", kv), ("attn_v", kv)]:
                self.linear(f"{b}{name}.weight", n, D)
                self.vector(f"{b}{name}.bias", n, mean=0)
            self.linear(b + "attn_output.weight", D, D)
            for name, shape in [("ffn_gate", (FF, D)), ("ffn_up", (FF, D)), ("ffn_down", (D, FF))]:
                self.linear(f"{b}{name}.weight", *shape)
            self.vector(b + "attn_norm.weight", D)
            self.vector(b + "ffn_norm.weight", D)

    def save(self, path):
        self.write(path, "qwen2", lambda w: w.add_head_count_kv(HEADS // 2))

    def logits(self, ids, exact=False):
        n, hd = len(ids), D // HEADS
        x = self["token_embd.weight"][ids]
        for i in range(LAYERS):
            b = f"blk.{i}."
            h = rms(x, self[b + "attn_norm.weight"])
            q, k, v = (self.times(h, f"{b}{p}.weight", exact) + self[f"{b}{p}.bias"] for p in ("attn_q", "attn_k", "attn_v"))
            q, k, v = (a.reshape(n, -1, hd).transpose(1, 0, 2) for a in (q, k, v))
            q, k, v = rope(q, True), np.repeat(rope(k, True), 2, 0), np.repeat(v, 2, 0)
            o = attention(q, k, v, hd ** -0.5, self.narrow(exact))
            x = x + self.times(o.transpose(1, 0, 2).reshape(n, -1), b + "attn_output.weight", exact)
            x = x + ffn(self, rms(x, self[b + "ffn_norm.weight"]), b, "", exact)
        return self.times(rms(x, self["output_norm.weight"]), "output.weight", exact)


class Experts(Model):
    """deepseek2 as V3: latent attention with k_b and v_b in blocks, a dense layer, a layer of experts."""

    def __init__(self, kinds, seed):
        super().__init__(kinds, seed)
        c = MLA
        self.linear("token_embd.weight", VOCAB, D)
        self.linear("output.weight", VOCAB, D)
        self.vector("output_norm.weight", D)
        for i in range(LAYERS):
            b = f"blk.{i}."
            self.linear(b + "attn_q_a.weight", c["q_lora"], D)
            self.vector(b + "attn_q_a_norm.weight", c["q_lora"])
            self.linear(b + "attn_q_b.weight", HEADS * (c["nope"] + c["rope"]), c["q_lora"])
            self.linear(b + "attn_kv_a_mqa.weight", c["kv_lora"] + c["rope"], D)
            self.vector(b + "attn_kv_a_norm.weight", c["kv_lora"])
            self.linear(b + "attn_k_b.weight", HEADS, c["kv_lora"], c["nope"])
            self.linear(b + "attn_v_b.weight", HEADS, c["v"], c["kv_lora"])
            self.linear(b + "attn_output.weight", D, HEADS * c["v"])
            self.vector(b + "attn_norm.weight", D)
            self.vector(b + "ffn_norm.weight", D)
            e, ff = ((c["experts"],), c["ff"]) if i else ((), FF)
            for name, shape in [("gate", (ff, D)), ("up", (ff, D)), ("down", (D, ff))]:
                self.linear(f"{b}ffn_{name}{'_exps' if i else ''}.weight", *e, *shape)
                if i:
                    self.linear(f"{b}ffn_{name}_shexp.weight", *shape)
            if i:
                self.linear(b + "ffn_gate_inp.weight", c["experts"], D, kind=T.F32)
                self.vector(b + "exp_probs_b.bias", c["experts"], mean=0)

    def save(self, path):
        c = MLA

        def add(w):
            w.add_head_count_kv(1)
            w.add_q_lora_rank(c["q_lora"])
            w.add_kv_lora_rank(c["kv_lora"])
            w.add_key_length(c["kv_lora"] + c["rope"])
            w.add_value_length(c["kv_lora"])
            w.add_key_length_mla(c["nope"] + c["rope"])
            w.add_value_length_mla(c["v"])
            w.add_rope_dimension_count(c["rope"])
            w.add_expert_count(c["experts"])
            w.add_expert_used_count(c["used"])
            w.add_expert_shared_count(c["shared"])
            w.add_expert_feed_forward_length(c["ff"])
            w.add_expert_weights_scale(c["scaling"])
            w.add_expert_weights_norm(True)
            w.add_uint32("deepseek2.expert_gating_func", 2)
            w.add_leading_dense_block_count(1)

        self.write(path, "deepseek2", add)

    def experts(self, x, b, exact):
        s = 1 / (1 + np.exp(-(x @ self[b + "ffn_gate_inp.weight"].T)))
        chosen = np.argsort(-(s + self[b + "exp_probs_b.bias"]), -1, kind="stable")[:, :MLA["used"]]
        y = ffn(self, x, b, "_shexp", exact)
        for e in range(MLA["experts"]):
            rows = (chosen == e).any(-1)
            weight = s[rows, e] / np.take_along_axis(s[rows], chosen[rows], -1).sum(-1) * MLA["scaling"]
            y[rows] += weight[:, None] * ffn(self, x[rows], b, "_exps", exact, e)
        return y

    def logits(self, ids, exact=False):
        c, n = MLA, len(ids)
        x = self["token_embd.weight"][ids]
        for i in range(LAYERS):
            b = f"blk.{i}."
            h = rms(x, self[b + "attn_norm.weight"])
            q = self.times(rms(self.times(h, b + "attn_q_a.weight", exact), self[b + "attn_q_a_norm.weight"]), b + "attn_q_b.weight", exact)
            q = q.reshape(n, HEADS, -1).transpose(1, 0, 2)
            kv = self.times(h, b + "attn_kv_a_mqa.weight", exact)
            lat, k_pe = rms(kv[:, :c["kv_lora"]], self[b + "attn_kv_a_norm.weight"]), rope(kv[:, c["kv_lora"]:], False)
            q_pe, o = rope(q[..., c["nope"]:], False), []
            for head in range(HEADS):
                q_lat = self.times(q[head, :, :c["nope"]], b + "attn_k_b.weight", exact, head)
                a = attention(np.concatenate([q_lat, q_pe[head]], -1), np.concatenate([lat, k_pe], -1), lat, (c["nope"] + c["rope"]) ** -0.5,
                              self.narrow(exact))
                o.append(self.times(a, b + "attn_v_b.weight", exact, head))
            x = x + self.times(np.concatenate(o, -1), b + "attn_output.weight", exact)
            h = rms(x, self[b + "ffn_norm.weight"])
            x = x + (self.experts(h, b, exact) if i else ffn(self, h, b, "", exact))
        return self.times(rms(x, self["output_norm.weight"]), "output.weight", exact)


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    Dense(TYPES, 0).save(out / "dense.gguf")
    Experts(TYPES, 0).save(out / "experts.gguf")


if __name__ == "__main__":
    main()
