"""llama.cpp, unmodified, on what farseek convert writes: the same greedy tokens in F32.

FARSEEK_LLAMA_COMPLETION names its program llama-completion, which the tree does not build; without it these tests are skipped.
The fixtures get a vocabulary of tokens "<000>", "<001>", ... that text names one by one."""
import importlib
import json
import os
import re
import subprocess
import sys

import pytest

from conftest import VECTORS
from test_oracle import MODELS as ALL

PROGRAM = os.environ.get("FARSEEK_LLAMA_COMPLETION")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="FARSEEK_LLAMA_COMPLETION names no llama-completion of llama.cpp")
N = 24
# llama.cpp scores a group of experts by its two best in V2 too, where the model has the best alone.
OTHER_MODEL_THERE = ["ds_v2_group"]
MODELS = [m for m in ALL if m not in OTHER_MODEL_THERE and not m.startswith("long_")]
sys.path.insert(0, str(VECTORS))


def wider_indexer(config, source, folder):
    """The indexer again with heads of 64, random: llama.cpp rotates them by a Hadamard matrix of at least that."""
    np, st = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    width = config["index_head_dim"] = 64
    tensors = importlib.import_module("make_gguf_twins").read_tensors(source / "model.safetensors")
    for name, a in tensors.items():
        part = name.partition(".indexer.")[2]
        if part.startswith(("k_norm.", "compressor.norm")):
            shape = (width,)
        elif part == "compressor.ape":
            shape = a.shape[0], 2 * width
        elif part:
            rows = {"wq_b": config["index_n_heads"] * width, "wk": width, "weights_proj": a.shape[0]}
            shape = rows.get(part.partition(".")[0], 2 * width), a.shape[1]
        if part:
            tensors[name] = (rng.normal(size=shape) / shape[-1] ** 0.5 + part.endswith("norm.weight")).astype(np.float32)
    st.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")
    config.pop("quantization_config", None)
    config.pop("expert_dtype", None)


def with_vocabulary(source, folder):
    """source with a tokenizer.json of one added token for each id."""
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    if config.get("index_head_dim", 64) < 64:
        wider_indexer(config, source, folder)
    else:
        os.symlink(source / "model.safetensors", folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    added = [dict(id=i, content=f"<{i:03}>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
             for i in range(config["vocab_size"])]
    (folder / "tokenizer.json").write_text(json.dumps(dict(version="1.0", added_tokens=added, normalizer=None, model=dict(
        type="BPE", vocab={}, merges=[]), pre_tokenizer=dict(type="ByteLevel", add_prefix_space=False, use_regex=True), decoder=dict(type="ByteLevel"))))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(add_bos_token=False)))
    return config


def continues(gguf, ids):
    """The greedy tokens that llama.cpp puts behind ids, to the end of text or N."""
    r = subprocess.run([PROGRAM, "-m", gguf, "-p", "".join(f"<{i:03}>" for i in ids), "-n", str(N), "--temp", "0", "-no-cnv",
                        "--no-display-prompt", "--no-warmup", "-t", "1", "-c", "512", "-ctk", "f32", "-ctv", "f32", "-fa", "off"],
                       capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=300)
    assert r.returncode == 0, r.stderr[-2000:]
    return [int(i) for i in re.findall(r"<(\d\d\d)>", r.stdout)]


@pytest.mark.parametrize("model", MODELS)
def test_same_greedy_tokens(farseek, logits, tmp_path, model):
    config = with_vocabulary(VECTORS / model, tmp_path / "m")
    farseek("convert", tmp_path / "m", tmp_path / "m.gguf", "--type", "F32", "--no-mtp")
    e = json.loads((VECTORS / model / "expected.json").read_text())
    want = logits(tmp_path / "m", e["prompt"], "--greedy", N)["greedy"]
    assert want == e["greedy"]["tokens"][:N] or "index_head_dim" in config
    if config["eos_token_id"] in want:
        want = want[:want.index(config["eos_token_id"]) + 1]
    assert len(want) > 3, "the model ends at once"
    for _ in range(10):  # it may leave before its log's thread has printed the last of them
        got = continues(tmp_path / "m.gguf", e["prompt"])
        assert got == want[:len(got)]
        if len(got) == len(want):
            return
    pytest.fail(f"llama.cpp printed {len(got)} of {len(want)} tokens")
