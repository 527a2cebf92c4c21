#!/usr/bin/env python3
"""Writes the models of this folder again in the other formats that hold the same numbers.

    make_gguf_twins.py OUT [MODEL...]      (all models when none is named)

    OUT/MODEL/f32.gguf       every tensor F32 (fp8 weights as fl(q * scale))
    OUT/MODEL/bf16.gguf      matrices BF16, the rest F32; where every number of theirs is a bf16 number
    OUT/MODEL/q8_0.gguf      matrices whose rows are multiples of 32 Q8_0; other numbers, for the quantised kernels
    OUT/MODEL/mxfp4.gguf     V4 with fp4 experts only: those as blocks of MXFP4, the rest F32
    OUT/MODEL/old.gguf       V2 and V3 only: attn_kv_b in one piece and head lengths as llama.cpp wrote them before April 2025
                             V4 with an MTP layer: its e_proj and h_proj side by side in eh_proj
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
DTYPES = {"F32": "<f4", "BF16": "<u2", "F8_E4M3": "u1", "F8_E8M0": "u1", "I8": "u1", "I64": "<i8"}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


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
    """All tensors as f32, fp8 and fp4 with their scales applied; integers as they are."""
    header, data = read_header(path)
    tensors, raw = {}, {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        a = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        raw[name] = (entry["dtype"], a)
    for name, (dtype, a) in raw.items():
        scale_dtype, scale = raw.get(name + "_scale_inv") or raw.get(re.sub("weight$", "scale", name), (None, None))
        if name.endswith("_scale_inv") or dtype == "F8_E8M0":
            continue
        if scale_dtype == "F8_E8M0":
            scale = np.ldexp(np.float32(1), scale.astype(int) - 127)
        if dtype == "BF16":
            a = (a.astype(np.uint32) << 16).view(np.float32)
        elif dtype == "F8_E4M3":
            scale = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: a.shape[0], : a.shape[1]]
            a = e4m3_table()[a] * scale.astype(np.float32)
        elif dtype == "I8":
            a = E2M1[np.stack([a & 15, a >> 4], -1).reshape(len(a), -1)]
            a = a * np.repeat(scale, 32, 1)[:, : a.shape[1]]
        tensors[name] = a
    return tensors


BLOCK = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.indexer.wq_b": "indexer.attn_q_b", "self_attn.indexer.wk": "indexer.attn_k", "self_attn.indexer.k_norm": "indexer.k_norm",
    "self_attn.indexer.weights_proj": "indexer.proj",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "eh_proj": "nextn.eh_proj", "embed_tokens": "nextn.embed_tokens", "enorm": "nextn.enorm", "hnorm": "nextn.hnorm",
    "shared_head.norm": "nextn.shared_head_norm", "shared_head.head": "nextn.shared_head_head",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
V4_TOP = {"embed.weight": "token_embd.weight", "norm.weight": "output_norm.weight", "head.weight": "output.weight",
          "hc_head_fn": "output_hc_fn.weight", "hc_head_base": "output_hc_base.weight", "hc_head_scale": "output_hc_scale.weight"}
V4_BLOCK = {
    "attn.attn_sink": "attn_sinks.weight", "attn.wq_a.weight": "attn_q_a.weight", "attn.q_norm.weight": "attn_q_a_norm.weight",
    "attn.wq_b.weight": "attn_q_b.weight", "attn.wkv.weight": "attn_kv.weight", "attn.kv_norm.weight": "attn_kv_a_norm.weight",
    "attn.wo_a.weight": "attn_output_a.weight", "attn.wo_b.weight": "attn_output_b.weight",
    "attn.indexer.wq_b.weight": "indexer.attn_q_b.weight", "attn.indexer.weights_proj.weight": "indexer.proj.weight",
    "attn_norm.weight": "attn_norm.weight", "ffn_norm.weight": "ffn_norm.weight", "ffn.gate.weight": "ffn_gate_inp.weight",
    "ffn.gate.bias": "exp_probs_b.bias", "ffn.gate.tid2eid": "ffn_gate_tid2eid.weight",
    "ffn.shared_experts.w1.weight": "ffn_gate_shexp.weight", "ffn.shared_experts.w2.weight": "ffn_down_shexp.weight",
    "ffn.shared_experts.w3.weight": "ffn_up_shexp.weight",
    **{f"hc_{site}_{part}": f"hc_{site}_{part}.weight" for site in ("attn", "ffn") for part in ("fn", "base", "scale")},
    **{f"{hub}.{part}": f"{gguf}_{name}.weight" for hub, gguf in [("attn.compressor", "attn_compressor"), ("attn.indexer.compressor", "indexer_compressor")]
       for part, name in [("wkv.weight", "kv"), ("wgate.weight", "gate"), ("ape", "ape"), ("norm.weight", "norm")]},
}
V4_MTP = {**{f"{n}.weight": f"nextn.{n}.weight" for n in ("e_proj", "h_proj", "enorm", "hnorm")}, "norm.weight": "nextn.shared_head_norm.weight",
          **{f"hc_head_{n}": f"nextn.hc_head_{n}.weight" for n in ("fn", "base", "scale")}}
V4_EXPERTS = {"w1": "gate", "w2": "down", "w3": "up"}
PERMUTED = {"llama", "deepseek"}  # the rows of q and k
ARCH = {"deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "deepseek_v32": "deepseek32", "deepseek_v4": "deepseek4"}


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


def v4_tensors(c, tensors, joined):
    out, experts = {}, {}
    for name, a in tensors.items():
        if name in V4_TOP:
            out[V4_TOP[name]] = a
            continue
        kind, layer, rest = re.match(r"(layers|mtp)\.(\d+)\.(.*)$", name).groups()
        if kind == "mtp":
            layer = c["num_hidden_layers"] + int(layer)
            if rest in V4_MTP:
                out[f"blk.{layer}.{V4_MTP[rest]}"] = a
                continue
        m = re.match(r"ffn\.experts\.(\d+)\.(w\d)\.weight$", rest)
        if m:
            experts.setdefault(f"blk.{layer}.ffn_{V4_EXPERTS[m[2]]}_exps.weight", {})[int(m[1])] = a
        else:
            out[f"blk.{layer}.{V4_BLOCK[rest]}"] = a
    for name in [n for n in out if joined and n.endswith("nextn.e_proj.weight")]:
        out[name.replace("e_proj", "eh_proj")] = np.concatenate([out.pop(name), out.pop(name.replace("e_proj", "h_proj"))], 1)
    return out | {name: np.stack([parts[e] for e in range(len(parts))]) for name, parts in experts.items()}


def gguf_tensors(c, tensors, old):
    if c["model_type"] == "deepseek_v4":
        return v4_tensors(c, tensors, old)
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
        if c["model_type"] in PERMUTED and stem in ("self_attn.q_proj", "self_attn.k_proj"):
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


def add_mla(w, c, old):
    nope, rope, v, lora = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    w.add_kv_lora_rank(lora)
    w.add_head_count_kv(c["num_attention_heads"] if old else 1)
    w.add_key_length(nope + rope if old else lora + rope)
    w.add_value_length(v if old else lora)
    if not old:
        w.add_key_length_mla(nope + rope)
        w.add_value_length_mla(v)
    if c["n_group"] > 1:
        w.add_expert_group_count(c["n_group"])
        w.add_expert_group_used_count(c["topk_group"])


def add_experts(w, c):
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_weights_scale(c.get("routed_scaling_factor", 1.0))
    w.add_expert_weights_norm(c["norm_topk_prob"])
    w.add_uint32(f"{w.arch}.expert_gating_func", {"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}[c["scoring_func"]])
    if "first_k_dense_replace" in c:
        w.add_leading_dense_block_count(c["first_k_dense_replace"])


def add_v4(w, c):
    w.add_head_count_kv(1)
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    w.add_sliding_window(c["sliding_window"])
    for key, name in [("attention.output_group_count", "o_groups"), ("attention.output_lora_rank", "o_lora_rank"),
                      ("hyper_connection.count", "hc_mult"), ("hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters"),
                      ("hash_layer_count", "num_hash_layers")]:
        w.add_uint32(f"{w.arch}.{key}", c[name])
    w.add_array(f"{w.arch}.attention.compress_ratios", c["compress_ratios"])
    w.add_float32(f"{w.arch}.attention.compress_rope_freq_base", c["compress_rope_theta"])
    w.add_float32(f"{w.arch}.hyper_connection.epsilon", c["hc_eps"])
    for kind in ("exp", "shexp"):
        w.add_array(f"{w.arch}.swiglu_clamp_{kind}", [float(c["swiglu_limit"])] * (c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0)))


def add_metadata(w, c, old):
    heads, nextn = c["num_attention_heads"], c.get("num_nextn_predict_layers", 0)
    w.add_block_count(c["num_hidden_layers"] + nextn)
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_head_count(heads)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_vocab_size(c["vocab_size"])
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    if "intermediate_size" in c:
        w.add_feed_forward_length(c["intermediate_size"])
    if c["model_type"] in ARCH:
        if c["model_type"] == "deepseek_v4":
            add_v4(w, c)
        else:
            add_mla(w, c, old)
        if c["q_lora_rank"]:
            w.add_q_lora_rank(c["q_lora_rank"])
        w.add_rope_dimension_count(c["qk_rope_head_dim"])
        if "index_n_heads" in c:
            w.add_indexer_head_count(c["index_n_heads"])
            w.add_indexer_key_length(c["index_head_dim"])
            w.add_indexer_top_k(c["index_topk"])
        if nextn:
            w.add_uint32(f"{w.arch}.nextn_predict_layers", nextn)
    else:
        w.add_head_count_kv(c["num_key_value_heads"])
        if "head_dim" in c:
            w.add_key_length(c["head_dim"])
            w.add_value_length(c["head_dim"])
        w.add_rope_dimension_count(c.get("head_dim", c["hidden_size"] // heads))
    if "n_routed_experts" in c:
        add_experts(w, c)
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
        if a.dtype == np.int64:
            w.add_tensor(name, a.astype(np.int32))
            continue
        a = np.ascontiguousarray(a, dtype=np.float32)
        plain = a.ndim == 1 or "ffn_gate_inp" in name or "hc_" in name or "_ape." in name or matrix_type == T.F32
        plain = plain or (matrix_type == T.Q8_0 and a.shape[-1] % 32) or (matrix_type == T.MXFP4 and "_exps" not in name)
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
    if all((a.view(np.uint32) & 0xFFFF == 0).all() for a in tensors.values() if a.ndim > 1 and a.dtype == np.float32):
        write_gguf(target / "bf16.gguf", c, tensors, T.BF16)
    if c.get("expert_dtype") == "fp4":
        write_gguf(target / "mxfp4.gguf", c, tensors, T.MXFP4)
    if "kv_lora_rank" in c and ARCH[c["model_type"]] == "deepseek2":
        write_gguf(target / "old.gguf", c, tensors, T.F32, old=True)
    if ARCH.get(c["model_type"]) == "deepseek4" and c["num_nextn_predict_layers"]:
        write_gguf(target / "old.gguf", c, tensors, T.F32, old=True)


def main():
    out = Path(sys.argv[1])
    models = sys.argv[2:] or sorted(p.parent.name for p in HERE.glob("*/model.safetensors"))
    for model in models:
        c = json.loads((HERE / model / "config.json").read_text())
        tensors = read_tensors(HERE / model / "model.safetensors")
        target = out / model
        target.mkdir(parents=True, exist_ok=True)
        write_ggufs(target, c, tensors)
        write_sharded(target / "sharded", HERE / model)


if __name__ == "__main__":
    main()
