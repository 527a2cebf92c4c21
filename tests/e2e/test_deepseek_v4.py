"""What only deepseek_v4 can have wrong in a file, each refused in one sentence. What it computes is in test_oracle.py."""
import json
import math
import shutil
import struct

import pytest

from conftest import VECTORS


def copied(tmp_path, config=None, tensors=None, model="ds_v4"):
    """The model with changed keys of config.json, and with tensors[name](header entry, its bytes) applied."""
    folder = tmp_path / "model"
    shutil.copytree(VECTORS / model, folder)
    c = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(c | (config or {})))
    data = bytearray((folder / "model.safetensors").read_bytes())
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    for name, change in (tensors or {}).items():
        begin, end = (8 + n + at for at in header[name]["data_offsets"])
        data[begin:end] = change(data[begin:end])
    (folder / "model.safetensors").write_bytes(data)
    return folder


def put(offset, value, kind):
    def change(data):
        struct.pack_into(kind, data, offset, value)
        return data
    return change


NAN = float("nan")
CASES = {
    "an_expert_that_is_not_there": (None, {"layers.1.ffn.gate.tid2eid": put(8 * 33, 8, "<q")}, "holds 8, allowed are 0 to 7"),
    "a_negative_expert": (None, {"layers.0.ffn.gate.tid2eid": put(0, -1, "<q")}, "holds -1"),
    "a_nan_among_sinks": (None, {"layers.2.attn.attn_sink": put(4, NAN, "<f")}, "layers.2.attn.attn_sink"),
    "a_nan_in_the_ape": (None, {"layers.2.attn.compressor.ape": put(4, NAN, "<f")}, "layers.2.attn.compressor.ape"),
    "an_unknown_ratio": ({"compress_ratios": [0, 0, 4, 8, 4, 0]}, None, "compress_ratios[3] is 8"),
    "more_hash_layers": ({"num_hash_layers": 3}, None, "layers.2.ffn.gate.tid2eid"),
    "more_tokens_than_the_hash_table": ({"vocab_size": 321}, None, "embed.weight"),
    "another_window_of_the_compressor": ({"compress_ratios": [0, 0, 128, 128, 4, 0]}, None, "compressor.wkv"),
    "no_indexer": ({"index_n_heads": 0}, None, "index_n_heads"),
    "an_index_narrower_than_its_rope": ({"index_head_dim": 4}, None, "index_head_dim 4"),
    "more_streams": ({"hc_mult": 8}, None, "hc_attn_fn"),
    "low_ranks_of_half_a_panel": ({"o_lora_rank": 8}, None, "o_lora_rank 8"),
    "two_key_value_heads": ({"num_key_value_heads": 2}, None, "one key-value head"),
    "another_router": ({"scoring_func": "sigmoid"}, None, "sqrtsoftplus"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_file_is_refused_by_name(farseek, tmp_path, name):
    config, tensors, says = CASES[name]
    r = farseek("logits", copied(tmp_path, config, tensors), "--ids", "1,2", check=False)
    assert r.returncode > 0 and not r.stdout
    assert says in r.stderr and r.stderr.count("\n") == 1, r.stderr


MTP_CASES = {
    "a_nan_in_h_proj": (None, {"mtp.0.h_proj.weight": put(0, b"\xff\x7f", "2s")}, "mtp.0.h_proj.weight"),
    "a_layer_that_compresses": ({"compress_ratios": [0, 0, 4, 128, 4, 4]}, None, "compress_ratios[5] is 4"),
    "no_such_layer": ({"num_nextn_predict_layers": 0}, None, "no multi-token-prediction layer"),
}


@pytest.mark.parametrize("name", MTP_CASES)
def test_a_wrong_layer_that_predicts_ahead_is_refused_by_name(farseek, tmp_path, name):
    config, tensors, says = MTP_CASES[name]
    folder = copied(tmp_path, config, tensors, "ds_v4_mtp")
    r = farseek("logits", folder, "--ids", "1,2", "--mtp", check=False)
    assert r.returncode > 0 and says in r.stderr and r.stderr.count("\n") == 1, r.stderr
    assert farseek("logits", folder, "--ids", "1,2")  # where nobody asks for it, it is not read


def test_an_adapter_of_another_model_is_refused(farseek):
    r = farseek("logits", VECTORS / "ds_v4", "--ids", "1,2", "--adapter", VECTORS / "adapters" / "qwen2_all", check=False)
    assert r.returncode == 1 and "belongs to no linear of the model" in r.stderr


def others(row):
    """Two experts that the row of two does not hold."""
    held = struct.unpack("<2q", row)
    return struct.pack("<2q", *[e for e in range(8) if e not in held][:2])


def test_a_token_chooses_the_experts_of_hash_layers(logits, tmp_path):
    """The table is what routes: with another row for token 3 the logits change from where it stands, and not before."""
    folder = copied(tmp_path, None, {"layers.0.ffn.gate.tid2eid": lambda d: d[:48] + others(d[48:64]) + d[64:]})
    ids = [9, 8, 3, 7]
    want, got = logits(VECTORS / "ds_v4", ids), logits(folder, ids)
    assert got["top_logits"][:2] == want["top_logits"][:2]
    assert got["top_logits"][2] != want["top_logits"][2] and got["last"] != want["last"]


def test_inspect_knows_the_parts(farseek):
    r = json.loads(farseek("inspect", VECTORS / "ds_v4", "--json", "--tensors"))
    tensors = [t for t in r["tensors"] if not t["name"].endswith("tid2eid")]
    assert r["parameters"] == sum(math.prod(t["shape"]) for t in tensors) == sum(p["parameters"] for p in r["parts"].values())
    size, n = 64, 4
    assert r["parts"]["embedding"]["parameters"] == r["parts"]["head"]["parameters"] == 320 * size
    assert r["parts"]["hyper-connections"]["parameters"] == 10 * (24 * n * size + 24 + 3) + n * n * size + n + 1
    assert r["parts"]["router"]["parameters"] == 5 * 8 * size + 3 * 8
    assert "dense mlp" not in r["parts"] and "other" not in r["parts"]
    borders = 3  # 2 * 4 * (32 + 16) floats every 128 tokens: 2 and 1 whole floats a token
    assert r["kv_bytes_per_token"] == 4 * (5 * 32 + 2 * (8 + 4 + borders) + 1)
    open_windows = 2 * (40 * 2 * 2 * (32 + 16)) + 160 * 2 * 32
    assert r["memory"]["kv"] == r["kv_bytes_per_token"] * r["memory"]["ctx"] + 4 * open_windows
    assert "a window of 16" in farseek("inspect", VECTORS / "ds_v4")
