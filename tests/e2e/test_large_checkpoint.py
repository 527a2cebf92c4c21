"""A checkpoint of DeepSeek-V3's size, 91 991 tensors in 163 sparse shards, is inspected in less than 2 s of CPU and 300 MiB."""
import json
import os
import struct
import subprocess

import pytest

from test_run import BINARY

D, LAYERS, EXPERTS, SHARDS = 7168, 61, 256, 163
CONFIG = dict(
    architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", vocab_size=129280, hidden_size=D, intermediate_size=18432, moe_intermediate_size=2048,
    num_hidden_layers=LAYERS, num_nextn_predict_layers=1, num_attention_heads=128, num_key_value_heads=128, n_routed_experts=EXPERTS, n_shared_experts=1,
    num_experts_per_tok=8, first_k_dense_replace=3, moe_layer_freq=1, n_group=8, topk_group=4, topk_method="noaux_tc", scoring_func="sigmoid",
    norm_topk_prob=True, routed_scaling_factor=2.5, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    max_position_embeddings=163840, rms_norm_eps=1e-6, rope_theta=10000, hidden_act="silu", attention_bias=False, tie_word_embeddings=False,
    rope_scaling=dict(type="yarn", factor=40, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0),
    quantization_config=dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=[128, 128]), bos_token_id=0, eos_token_id=1)


def tensors():
    """(name, dtype, shape) of the release."""
    up = lambda n: (n + 127) // 128

    def linear(name, n, k):
        yield name + ".weight", "F8_E4M3", (n, k)
        yield name + ".weight_scale_inv", "F32", (up(n), up(k))

    def ffn(name, width):
        yield from linear(name + ".gate_proj", width, D)
        yield from linear(name + ".up_proj", width, D)
        yield from linear(name + ".down_proj", D, width)

    yield "model.embed_tokens.weight", "BF16", (129280, D)
    for i in range(LAYERS + 1):
        p = f"model.layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield p + name + ".weight", "BF16", (D,)
        for name, n, k in (("q_a_proj", 1536, D), ("q_b_proj", 24576, 1536), ("kv_a_proj_with_mqa", 576, D), ("kv_b_proj", 32768, 512), ("o_proj", D, 16384)):
            yield from linear(p + "self_attn." + name, n, k)
        yield p + "self_attn.q_a_layernorm.weight", "BF16", (1536,)
        yield p + "self_attn.kv_a_layernorm.weight", "BF16", (512,)
        if i < 3:
            yield from ffn(p + "mlp", 18432)
        else:
            yield p + "mlp.gate.weight", "BF16", (EXPERTS, D)
            yield p + "mlp.gate.e_score_correction_bias", "F32", (EXPERTS,)
            yield from ffn(p + "mlp.shared_experts", 2048)
            for e in range(EXPERTS):
                yield from ffn(p + f"mlp.experts.{e}", 2048)
    p = f"model.layers.{LAYERS}."
    for name in ("enorm", "hnorm", "shared_head.norm"):
        yield p + name + ".weight", "BF16", (D,)
    yield p + "eh_proj.weight", "BF16", (D, 2 * D)
    yield p + "embed_tokens.weight", "BF16", (129280, D)
    yield p + "shared_head.head.weight", "BF16", (129280, D)
    yield "model.norm.weight", "BF16", (D,)
    yield "lm_head.weight", "BF16", (129280, D)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder, size = tmp_path_factory.mktemp("v3"), {"F8_E4M3": 1, "BF16": 2, "F32": 4}
    every = list(tensors())
    shards, index, total = [{} for _ in range(SHARDS)], {}, 0
    ends = [0] * SHARDS
    for i, (name, dtype, shape) in enumerate(every):
        s = i * SHARDS // len(every)
        n = size[dtype]
        for d in shape:
            n *= d
        shards[s][name] = {"dtype": dtype, "shape": shape, "data_offsets": [ends[s], ends[s] + n]}
        ends[s] += n
        total += n
        index[name] = f"model-{s + 1:05d}-of-{SHARDS:06d}.safetensors"
    for s, header in enumerate(shards):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = folder / f"model-{s + 1:05d}-of-{SHARDS:06d}.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        try:
            os.truncate(path, 8 + len(text) + ends[s])
        except OSError as e:
            pytest.skip(f"no room for a sparse file of {ends[s]} bytes: {e}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder, len(every), total


# Of a child by itself: what resource says of all children is the largest of any.
ALONE = ("import json, resource, subprocess, sys; out = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True).stdout; "
         "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(json.dumps([out, u.ru_utime + u.ru_stime, u.ru_maxrss / 1024]))")


def test_inspect_reads_headers_alone(checkpoint):
    folder, n, total = checkpoint
    assert n == 91991 and total > 200e9
    r = subprocess.run(["python3", "-c", ALONE, *BINARY, "inspect", str(folder), "--json"], capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, r.stderr
    out, cpu, peak = json.loads(r.stdout)
    print(f"{n} tensors, {total / 1e9:.0f} GB: {cpu:.2f} s, {peak:.0f} MiB")
    said = json.loads(out)
    assert sum(part["tensors"] for part in said["parts"].values()) == n and said["bytes"] == total
    assert cpu < 2 and peak < 300
