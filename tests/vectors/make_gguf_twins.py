#!/usr/bin/env python3
"""Writes the models of this folder again in the other formats that hold the same numbers.

    make_gguf_twins.py OUT [MODEL...]      (all models when none is named)

    OUT/MODEL/f32.gguf       every tensor F32 (fp8 weights as fl(q * scale))
    OUT/MODEL/bf16.gguf      matrices BF16, the rest F32; not for fp8 models, whose products are no bf16 numbers
    OUT/MODEL/q8_0.gguf      matrices whose rows are multiples of 32 Q8_0; other numbers, for the quantised kernels
    OUT/MODEL/old.gguf       MLA only: attn_kv_b in one piece and head lengths as llama.cpp wrote them before April 2025
    OUT/MODEL/split/         f32.gguf in parts of 20 tensors
    OUT/MODEL/sharded/       safetensors in three shards with an index

Names, shapes and metadata are those of llama.cpp's converter: MLA's kv_b split into k_b (transposed a head) and v_b,
llama's q and k rows permuted, llama3 scaling as rope_freqs.weight, experts in one 3-d tensor.
Needs: pip install numpy gguf.
"""
import json
import math
import re
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, RopeScalingType
from gguf.quants import quantize

HERE = Path(__file__).parent
DTYPES = {"F32": "<f4", "BF16": "<u2", "F8_E4M3": "u1"}


def read_header(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return header, raw[8 + n:]


def e4m3_table():
    values = np.zeros(256, np.float32)
    for b in range(256):
        exp, frac, sign = b >> 3 & 15, b & 7, -1.0 if b & 128 else 1.0
        values[b] = sign * ((1 + frac / 8) * 2.0 ** (exp - 7) if exp else frac / 8 * 2.0 ** -6)
        if b & 127 == 127:
            values[b] = np.nan
    return values


def read_tensors(path):
    """All tensors as f32, fp8 with its scales applied."""
    header, data = read_header(path)
    tensors, raw = {}, {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        a = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        raw[name] = (entry["dtype"], a)
    for name, (dtype, a) in raw.items():
        if name.endswith("_scale_inv"):
            continue
        if dtype == "BF16":
            a = (a.astype(np.uint32) << 16).view(np.float32)
        elif dtype == "F8_E4M3":
            scale = raw[name + "_scale_inv"][1]
            scale = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: a.shape[0], : a.shape[1]]
            a = e4m3_table()[a] * scale.astype(np.float32)
        tensors[name] = a
    return tensors


BLOCK = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "eh_proj": "nextn.eh_proj", "embed_tokens": "nextn.embed_tokens", "enorm": "nextn.enorm", "hnorm": "nextn.hnorm",
    "shared_head.norm": "nextn.shared_head_norm", "shared_head.head": "nextn.shared_head_head",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
ARCH = {"deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2"}
GGUF_MODELS = {"llama", "qwen2", "qwen3", *ARCH}  # the others are only sharded


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_freqs(c, head_dim):
    s, theta = c["rope_scaling"], c["rope_theta"]
    low = s["original_max_position_embeddings"] / s["low_freq_factor"]
    high = s["original_max_position_embeddings"] / s["high_freq_factor"]
    out = []
    for i in range(0, head_dim, 2):
        wavelen = 2 * math.pi * theta ** (i / head_dim)
        if wavelen < high:
            out.append(1.0)
        elif wavelen > low:
            out.append(s["factor"])
        else:
            smooth = (s["original_max_position_embeddings"] / wavelen - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
            out.append(1 / ((1 - smooth) / s["factor"] + smooth))
    return np.array(out, np.float32)


def gguf_tensors(c, tensors, old):
    out, experts = {}, {}
    heads = c["num_attention_heads"]
    for name, a in tensors.items():
        if name in TOP:
            out[TOP[name]] = a
            continue
        layer, rest = re.match(r"model\.layers\.(\d+)\.(.*)$", name).groups()
        m = re.match(r"mlp\.experts\.(\d+)\.(\w+)_proj\.weight$", rest)
        if m:
            experts.setdefault(f"blk.{layer}.ffn_{m[2]}_exps.weight", {})[int(m[1])] = a
            continue
        if rest == "mlp.gate.e_score_correction_bias":
            out[f"blk.{layer}.exp_probs_b.bias"] = a
            continue
        stem, kind = rest.rsplit(".", 1)
        if c["model_type"] == "llama" and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            a = permute(a, heads if stem.endswith("q_proj") else c["num_key_value_heads"])
        if stem == "self_attn.kv_b_proj" and not old:
            nope, v = c["qk_nope_head_dim"], c["v_head_dim"]
            both = a.reshape(heads, nope + v, c["kv_lora_rank"])
            out[f"blk.{layer}.attn_k_b.weight"] = np.ascontiguousarray(both[:, :nope].transpose(0, 2, 1))
            out[f"blk.{layer}.attn_v_b.weight"] = np.ascontiguousarray(both[:, nope:])
            continue
        out[f"blk.{layer}.{BLOCK[stem]}.{kind}"] = a
    for name, parts in experts.items():
        out[name] = np.stack([parts[e] for e in range(len(parts))])
    scaling = c.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        out["rope_freqs.weight"] = llama3_freqs(c, c["head_dim"])
    return out


def add_metadata(w, c, old):
    heads, nextn = c["num_attention_heads"], c.get("num_nextn_predict_layers", 0)
    w.add_block_count(c["num_hidden_layers"] + nextn)
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_vocab_size(c["vocab_size"])
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    if c["model_type"] in ARCH:
        nope, rope, v, lora = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
        w.add_kv_lora_rank(lora)
        if c["q_lora_rank"]:
            w.add_q_lora_rank(c["q_lora_rank"])
        w.add_head_count_kv(heads if old else 1)
        w.add_key_length(nope + rope if old else lora + rope)
        w.add_value_length(v if old else lora)
        if not old:
            w.add_key_length_mla(nope + rope)
            w.add_value_length_mla(v)
        w.add_rope_dimension_count(rope)
        w.add_leading_dense_block_count(c["first_k_dense_replace"])
        w.add_expert_count(c["n_routed_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_shared_count(c["n_shared_experts"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        w.add_expert_weights_scale(c["routed_scaling_factor"])
        w.add_expert_weights_norm(c["norm_topk_prob"])
        w.add_uint32("deepseek2.expert_gating_func", 2 if c["scoring_func"] == "sigmoid" else 1)
        if c["n_group"] > 1:
            w.add_uint32("deepseek2.expert_group_count", c["n_group"])
            w.add_uint32("deepseek2.expert_group_used_count", c["topk_group"])
        if nextn:
            w.add_uint32("deepseek2.nextn_predict_layers", nextn)
    else:
        w.add_head_count_kv(c["num_key_value_heads"])
        if "head_dim" in c:
            w.add_key_length(c["head_dim"])
            w.add_value_length(c["head_dim"])
        w.add_rope_dimension_count(c.get("head_dim", c["hidden_size"] // heads))
    scaling = c.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "linear":
        w.add_rope_scaling_type(RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(scaling["factor"])
    elif kind == "yarn":
        w.add_rope_scaling_type(RopeScalingType.YARN)
        w.add_rope_scaling_factor(scaling["factor"])
        w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        if "mscale_all_dim" in scaling:
            w.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])


def write_gguf(path, c, tensors, matrix_type, old=False, split_max_tensors=0):
    w = GGUFWriter(path, ARCH.get(c["model_type"], c["model_type"]), split_max_tensors=split_max_tensors)
    add_metadata(w, c, old)
    for name, a in gguf_tensors(c, tensors, old).items():
        a = np.ascontiguousarray(a, dtype=np.float32)
        plain = a.ndim == 1 or "ffn_gate_inp" in name or matrix_type == T.F32 or (matrix_type == T.Q8_0 and a.shape[-1] % 32)
        if plain:
            w.add_tensor(name, a)
        else:
            w.add_tensor(name, quantize(a, matrix_type), raw_dtype=matrix_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_sharded(folder, source):
    header, data = read_header(source / "model.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "config.json", folder)
    names, weight_map = sorted(header), {}
    for i in range(3):
        shard, entries, blobs, at = f"model-{i + 1:05}-of-00003.safetensors", {}, [], 0
        for name in names[i::3]:
            begin, end = header[name]["data_offsets"]
            entries[name] = dict(header[name], data_offsets=[at, at + end - begin])
            blobs.append(data[begin:end])
            at += end - begin
            weight_map[name] = shard
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        (folder / shard).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    index = {"metadata": {"total_size": len(data)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_ggufs(target, c, tensors):
    (target / "split").mkdir(exist_ok=True)
    write_gguf(target / "f32.gguf", c, tensors, T.F32)
    write_gguf(target / "q8_0.gguf", c, tensors, T.Q8_0)
    write_gguf(target / "split" / "f32.gguf", c, tensors, T.F32, split_max_tensors=20)
    if "quantization_config" not in c:
        write_gguf(target / "bf16.gguf", c, tensors, T.BF16)
    if c["model_type"] in ARCH:
        write_gguf(target / "old.gguf", c, tensors, T.F32, old=True)


def main():
    out = Path(sys.argv[1])
    models = sys.argv[2:] or sorted(p.parent.name for p in HERE.glob("*/model.safetensors"))
    for model in models:
        c = json.loads((HERE / model / "config.json").read_text())
        tensors = read_tensors(HERE / model / "model.safetensors")
        target = out / model
        target.mkdir(parents=True, exist_ok=True)
        if c["model_type"] in GGUF_MODELS:
            write_ggufs(target, c, tensors)
        write_sharded(target / "sharded", HERE / model)


main()
