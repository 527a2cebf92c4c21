"""--adapter: LoRA adapters made by PEFT against transformers in float64, equal bits, and refusals by name."""
import json
import shutil
import subprocess
import sys

import pytest

from conftest import VECTORS

ADAPTERS = VECTORS / "adapters"
NAMES = sorted(p.name for p in ADAPTERS.iterdir() if p.is_dir())
TOLERANCE = 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_peft(logits, name):
    e = json.loads((ADAPTERS / name / "expected.json").read_text())
    base = VECTORS / e["base"]
    got = logits(base, e["prompt"], "--adapter", ADAPTERS / name)
    worst = max(abs(a - b) for a, b in zip(got["last"], e["last"], strict=True))
    for ids, values, want_ids, want_values in zip(got["top_ids"], got["top_logits"], e["top10_ids"], e["top10_logits"], strict=True):
        have = dict(zip(ids, values))
        worst = max([worst] + [abs(have[i] - v) for i, v in zip(want_ids, want_values, strict=True) if i in have])
    assert worst < TOLERANCE
    plain = logits(base, e["prompt"])
    assert max(abs(a - b) for a, b in zip(plain["last"], e["last"], strict=True)) > 100 * TOLERANCE, "the adapter changes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_equal_bits(farseek, name, tmp_path):
    e = json.loads((ADAPTERS / name / "expected.json").read_text())
    neighbours = tmp_path / "batch.json"
    neighbours.write_text(json.dumps({"batch": [e["prompt"][::-1], e["prompt"][:5], [3]]}))

    def run(*args):
        return farseek("logits", VECTORS / e["base"], "--adapter", ADAPTERS / name, "--ids", ",".join(map(str, e["prompt"])), "--greedy", 8,
                       "--json", *args)

    want = run("--threads", 1)
    for args in (["--threads", 2], ["--threads", 3], ["--chunk", 1], ["--chunk", 7], ["--mmap"], ["--batch-with", neighbours]):
        assert run(*args) == want, args
    for isa in json.loads(farseek("doctor", "--json"))["isa"]:
        assert run("--isa", isa, "--chunk", 5) == want, isa


@pytest.mark.parametrize("model", ["qwen3", "ds_v2_lite", "ds_v32", "deepseek_moe"])
def test_equals_the_merged_model(logits, tmp_path, model):
    """Every linear of a layer has a pair: the model with it answers as the one whose weights are W + scale * B A."""
    torch, st = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    torch.manual_seed(1)
    weights, pairs = {k: v.float() for k, v in st.load_file(VECTORS / model / "model.safetensors").items()}, {}
    for name in [k for k in weights if k.endswith("_proj.weight") or k.endswith("_proj_with_mqa.weight") or ".indexer.wq_b" in k]:
        w = weights[name]
        a, b = torch.randn(3, w.shape[1]) * 0.1, torch.randn(w.shape[0], 3) * 0.1
        stem = "base_model.model." + name.removesuffix(".weight")
        pairs[stem + ".lora_A.weight"], pairs[stem + ".lora_B.weight"] = a, b
        weights[name] = (w.double() + 2 * (b.double() @ a.double())).float()
    assert len(pairs) > 20
    for folder in ("adapter", "merged"):
        (tmp_path / folder).mkdir()
    st.save_file(pairs, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", r=3, lora_alpha=6)))
    st.save_file(weights, tmp_path / "merged" / "model.safetensors")
    shutil.copy(VECTORS / model / "config.json", tmp_path / "merged")
    ids = json.loads((VECTORS / model / "expected.json").read_text())["prompt"]
    got, want, plain = logits(VECTORS / model, ids, "--adapter", tmp_path / "adapter"), logits(tmp_path / "merged", ids), logits(VECTORS / model, ids)
    assert max(abs(a - b) for a, b in zip(got["last"], want["last"], strict=True)) < 2e-4
    assert max(abs(a - b) for a, b in zip(got["last"], plain["last"], strict=True)) > 0.01


def rewritten(tmp_path, name, change):
    """The adapter with other tensors: change(tensors) edits them."""
    st = pytest.importorskip("safetensors.numpy")
    folder = changed(tmp_path, name)
    tensors = st.load_file(folder / "adapter_model.safetensors")
    change(tensors)
    st.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def refusal(farseek, model, folder):
    r = farseek("logits", VECTORS / model, "--ids", "1,2", "--adapter", folder, check=False)
    assert r.returncode == 1 and not r.stdout
    return r.stderr


def test_grouped_output_of_v4_is_refused(farseek, tmp_path):
    """PEFT cannot run it unmerged either."""
    np = pytest.importorskip("numpy")
    stem = "base_model.model.model.layers.0.self_attn.o_a_proj.lora_"
    shapes = {"A": (2, 64), "B": (32, 2)}
    folder = tmp_path / "adapter"
    folder.mkdir()
    pytest.importorskip("safetensors.numpy").save_file({f"{stem}{k}.weight": np.ones(v, np.float32) for k, v in shapes.items()},
                                                       folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", r=2, lora_alpha=2)))
    assert "an adapter of 'layers.0.attn.wo_a'" in refusal(farseek, "ds_v4", folder)


def test_experts_in_one_parameter_must_fit(farseek, tmp_path):
    np = pytest.importorskip("numpy")
    name = "base_model.model.model.layers.2.mlp.experts.lora_"

    def fewer(t):  # a rank of 2 for 32 columns would be 16 experts, which is right; 4 are missing
        t[name + "A.weight"], t[name + "B.weight"] = t[name + "A.weight"][:-8].copy(), t[name + "B.weight"][:, :-8].copy()

    def more(t):
        t[name + "A.weight"], t[name + "B.weight"] = (np.concatenate([t[name + k + ".weight"]] * 2, "AB".index(k)) for k in "AB")

    assert "the adapter's pair of 'model.layers.2.mlp.experts.down_proj'" in refusal(farseek, "ds_v3", rewritten(tmp_path, "ds_v3_down", fewer))
    assert "lora_A.weight' belongs to no linear" in refusal(farseek, "ds_v3", rewritten(tmp_path, "ds_v3_down", more))
    other = changed(tmp_path, "ds_v3_down", rank_pattern={"down_proj": 3})
    assert "with r 3" in refusal(farseek, "ds_v3", other)


def test_whole_tensors_must_fit(farseek, tmp_path):
    np = pytest.importorskip("numpy")
    head, norm = "base_model.model.lm_head.weight", "base_model.model.model.norm.weight"

    def put(**tensors):
        return lambda t: t.update({f"base_model.model.{k.replace('__', '.')}": v for k, v in tensors.items()})

    for change, says in ((put(lm_head__weight=np.ones((3, 64), np.float32)), f"'{head}' is [3, 64], the model's [320, 64]"),
                         (put(lm_foot__weight=np.ones((3, 64), np.float32)), "lm_foot.weight' is none of the model's"),
                         (put(model__norm__weight=np.ones(64, np.int64)), f"'{norm}' is I64, the model's"),
                         (put(model__norm__weight=np.ones(64, np.int32)), f"'{norm}' is I32; F32, BF16 and F16"),
                         (put(model__base_layer__weight=np.ones(64, np.float32)), "nor a whole one"),
                         (lambda t: t.pop(head), "modules_to_save names 'lm_head'")):
        assert says in refusal(farseek, "qwen2", rewritten(tmp_path, "qwen2_saved", change))
    (folder := tmp_path / "tied").mkdir()
    vocab, d = (json.loads((VECTORS / "qwen2_tied" / "config.json").read_text())[k] for k in ("vocab_size", "hidden_size"))
    pytest.importorskip("safetensors.numpy").save_file({"base_model.model.model.embed_tokens.weight": np.ones((vocab, d), np.float32)},
                                                       folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", r=2, lora_alpha=2)))
    assert "is one of two that the model ties" in refusal(farseek, "qwen2_tied", folder)


def test_mtp_stays(logits):
    e = json.loads((ADAPTERS / "ds_v3_attention" / "expected.json").read_text())
    assert "mtp" in logits(VECTORS / "ds_v3", e["prompt"], "--adapter", ADAPTERS / "ds_v3_attention", "--mtp")


def test_split_up_projections(farseek, tmp_path):
    """A GGUF holds kv_b_proj as k_b (transposed) and v_b: the adapter of the whole merges to the same bits."""
    subprocess.run([sys.executable, VECTORS / "make_gguf_twins.py", tmp_path, "ds_v3"], check=True, capture_output=True)
    run = lambda model: farseek("logits", model, "--ids", "5,6,7,8", "--adapter", ADAPTERS / "ds_v3_attention", "--json")
    assert run(tmp_path / "ds_v3" / "f32.gguf") == run(VECTORS / "ds_v3")


def changed(tmp_path, name="qwen2_all", **keys):
    folder = tmp_path / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ADAPTERS / name, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config.update(keys)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("key,value", [
    ("use_dora", True), ("modules_to_save", ["lm_head"]), ("modules_to_save", 7), ("rank_pattern", {"q_proj": "x"}), ("rank_pattern", {"(": 8}),
    ("rank_pattern", [1]), ("alpha_pattern", {"q_proj": -1}), ("rank_pattern", {"(([a-z0-9._]+)+)+[!?]": 2}),
    ("fan_in_fan_out", True), ("bias", "all"), ("lora_bias", True), ("layer_replication", [[0, 1]]),
    ("trainable_token_indices", [1]), ("init_lora_weights", "pissa"), ("peft_type", "IA3"), ("r", 0), ("r", 5), ("lora_alpha", "x"),
    ("lora_alpha", None), ("use_rslora", 2),
])
def test_refused_by_name(farseek, tmp_path, key, value):
    r = farseek("logits", VECTORS / "qwen2", "--ids", "1,2", "--adapter", changed(tmp_path, **{key: value}), check=False)
    assert r.returncode == 1 and not r.stdout
    assert key in r.stderr or (key, value) == ("r", 5) and "with r 5" in r.stderr or "takes too long" in r.stderr


def test_of_another_model(farseek, tmp_path):
    r = farseek("logits", VECTORS / "llama3", "--ids", "1,2", "--adapter", ADAPTERS / "qwen2_all", check=False)
    assert r.returncode == 1 and "the adapter's pair of 'model.layers.0." in r.stderr
    r = farseek("logits", VECTORS / "qwen2", "--ids", "1,2", "--adapter", ADAPTERS / "ds_v3_kv_b", check=False)
    assert r.returncode == 1 and "kv_b_proj.lora_A.weight' belongs to no linear of the model" in r.stderr
    (folder := tmp_path / "none").mkdir()
    r = farseek("logits", VECTORS / "qwen2", "--ids", "1,2", "--adapter", folder, check=False)
    assert r.returncode == 1 and "adapter_config.json" in r.stderr


def test_run_takes_it(farseek):
    r = farseek("run", VECTORS / "qwen2", "hi", "--adapter", ADAPTERS / "qwen2_all", check=False)
    assert "adapter" not in r.stderr  # the fixture has no chat format, which is what run says
    r = farseek("run", VECTORS / "qwen2", "hi", "--adapter", ADAPTERS / "llama3_bf16", check=False)
    assert r.returncode == 1 and "adapter" in r.stderr
