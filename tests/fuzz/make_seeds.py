#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/{safetensors,gguf,config,index,scales,tokens,metrics}: small right files for the fuzzers to start from.
Needs: pip install numpy gguf. The output is committed; run this again when a format gains a feature."""
import json
import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter
from gguf.quants import quantize

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


def put(kind, name, data):
    (CORPUS / kind).mkdir(parents=True, exist_ok=True)
    (CORPUS / kind / name).write_bytes(data)


def safetensors(tensors, metadata=None, align=1):
    header, at, blob = {"__metadata__": metadata} if metadata else {}, 0, b""
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % align)
    return struct.pack("<Q", len(text)) + text + blob


put("safetensors", "two", safetensors([("b", "F32", [2, 3], bytes(24)), ("a.weight", "BF16", [4], bytes(8))], {"format": "pt"}))
put("safetensors", "types", safetensors([("s", "F8_E4M3", [], b"8"), ("i", "I64", [1], bytes(8)), ("e", "F16", [0, 2], b"")]))
put("safetensors", "none", safetensors([]))
put("scales", "ragged", safetensors([("x.weight", "F8_E4M3", [3, 4], bytes(range(12))), ("x.weight_scale_inv", "F32", [2, 2], bytes(16))]))
put("scales", "v4", safetensors([("x.weight", "F8_E4M3", [2, 2], bytes(4)), ("x.scale", "F8_E8M0", [1, 1], b"\x7f")]))
put("scales", "fp4", safetensors([("x.weight", "I8", [2, 17], bytes(range(34))), ("x.scale", "F8_E8M0", [2, 2], b"\x7f\0\xfe\x80")]))

for path in sorted((HERE.parent / "vectors").glob("*/config.json")):
    put("config", path.parent.name, json.dumps(json.loads(path.read_text())).encode())
base = dict(model_type="qwen3", vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=64)
put("config", "new_rope", json.dumps(dict(base, rope_parameters=dict(rope_theta=1e6, rope_type="yarn", factor=2.0, attention_factor=1.1))).encode())
put("config", "longrope", json.dumps(dict(base, eos_token_id=[1, 2], rope_scaling=dict(type="longrope", long_factor=[1.0, 2], short_factor=[1]))).encode())

put("index", "whole", json.dumps({"metadata": {"total_size": 12}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}).encode())
put("index", "half", json.dumps({"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}).encode())

TOKENS = json.dumps(dict(vocabulary="0" * 64, vocab_size=8, tokens=3, learnt=2, documents=2, shards=[dict(file="tokens-00001.safetensors")])).encode()
put("tokens", "two", TOKENS + b"\0" + safetensors([("ends", "I64", [2], struct.pack("<2q", 1, 3)), ("tokens", "I32", [3], struct.pack("<3i", 1, 7, 2)), ("learn", "U8", [3], b"\0\1\1")], align=8))
put("metrics", "curves", b"".join(json.dumps({"step": k, "loss": 1 / k, "reward/format": k, "reward/together": None, "load/3": [k, 2, 3]}).encode() + b"\n" for k in range(1, 5)))


def gguf(name, arch, values, tensors):
    path = CORPUS / "gguf" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    w = GGUFWriter(path, arch)
    for key, value in values.items():
        if isinstance(value, str):
            w.add_string(key, value)
        elif isinstance(value, bool):
            w.add_bool(key, value)
        elif isinstance(value, float):
            w.add_float32(key, value)
        elif isinstance(value, list):
            w.add_array(key, value)
        else:
            w.add_uint32(key, value)
    for tensor, shape, kind in tensors:
        a = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        if kind == T.F32:
            w.add_tensor(tensor, a)
        else:
            w.add_tensor(tensor, quantize(a, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


gguf("llama", "llama", {
    "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": 32, "llama.feed_forward_length": 32,
    "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 8, "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0,
    "tokenizer.ggml.tokens": ["a", "b", "c"], "tokenizer.ggml.token_type": [1, 1, 3], "tokenizer.ggml.eos_token_id": 2,
}, [("token_embd.weight", (3, 32), T.F32), ("blk.0.attn_q.weight", (32, 32), T.Q8_0), ("blk.0.attn_k.weight", (16, 32), T.Q4_0),
    ("blk.0.attn_norm.weight", (32,), T.F32), ("output.weight", (3, 32), T.BF16)])
gguf("deepseek", "deepseek2", {
    "deepseek2.block_count": 2, "deepseek2.nextn_predict_layers": 1, "deepseek2.context_length": 64, "deepseek2.vocab_size": 3,
    "deepseek2.embedding_length": 8, "deepseek2.feed_forward_length": 8, "deepseek2.attention.head_count": 2,
    "deepseek2.attention.kv_lora_rank": 6, "deepseek2.attention.key_length_mla": 5, "deepseek2.attention.value_length_mla": 4,
    "deepseek2.rope.dimension_count": 2, "deepseek2.expert_count": 2, "deepseek2.expert_used_count": 1,
    "deepseek2.expert_feed_forward_length": 4, "deepseek2.expert_gating_func": 2, "deepseek2.expert_weights_norm": True,
    "deepseek2.expert_weights_scale": 2.5, "deepseek2.rope.scaling.type": "yarn", "deepseek2.rope.scaling.factor": 4.0,
    "deepseek2.rope.scaling.yarn_log_multiplier": 0.1,
}, [("blk.0.ffn_up_exps.weight", (2, 4, 8), T.F32), ("blk.0.exp_probs_b.bias", (2,), T.F32), ("blk.0.attn_k_b.weight", (2, 6, 3), T.F32),
    ("blk.1.nextn.eh_proj.weight", (8, 16), T.F32)])
gguf("deepseek4", "deepseek4", {
    "deepseek4.block_count": 3, "deepseek4.nextn_predict_layers": 1, "deepseek4.context_length": 64, "deepseek4.vocab_size": 3,
    "deepseek4.embedding_length": 8, "deepseek4.attention.head_count": 2, "deepseek4.attention.head_count_kv": 1,
    "deepseek4.attention.key_length": 6, "deepseek4.attention.q_lora_rank": 4, "deepseek4.rope.dimension_count": 2,
    "deepseek4.attention.sliding_window": 16, "deepseek4.attention.output_group_count": 2, "deepseek4.attention.output_lora_rank": 4,
    "deepseek4.attention.compress_ratios": [0, 4, 0], "deepseek4.hyper_connection.count": 4, "deepseek4.hash_layer_count": 1,
    "deepseek4.hyper_connection.sinkhorn_iterations": 20, "deepseek4.attention.indexer.head_count": 2,
    "deepseek4.attention.indexer.key_length": 4, "deepseek4.attention.indexer.top_k": 4, "deepseek4.swiglu_clamp_exp": [10.0, 10.0],
    "deepseek4.expert_count": 2, "deepseek4.expert_used_count": 1, "deepseek4.expert_feed_forward_length": 4,
    "deepseek4.expert_gating_func": 4,
}, [("blk.0.ffn_up_exps.weight", (2, 4, 8), T.F32), ("blk.1.exp_probs_b.bias", (2,), T.F32), ("blk.1.attn_compressor_ape.weight", (4, 12), T.F32),
    ("blk.2.nextn.enorm.weight", (8,), T.F32), ("output_hc_fn.weight", (4, 32), T.F32)])
gguf("llama3", "llama", {
    "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": 8, "llama.feed_forward_length": 8,
    "llama.attention.head_count": 2, "llama.vocab_size": 3, "general.alignment": 64,
}, [("rope_freqs.weight", (2,), T.F32), ("blk.0.ffn_up.weight", (8, 8), T.F32)])
