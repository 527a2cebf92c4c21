"""convert --adapter: adapters that PEFT made become part of the model; against PEFT's own logits and its merge_and_unload."""
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import VECTORS
from test_adapter import ADAPTERS, NAMES, TOLERANCE, changed, rewritten

np = pytest.importorskip("numpy")
st = pytest.importorskip("safetensors.numpy")


def expected(name):
    return json.loads((ADAPTERS / name / "expected.json").read_text())


def merge(farseek, base, out, adapter, *args):
    r = farseek("convert", base, out, "--adapter", adapter, *args, check=False)
    assert r.returncode == 0, r.stderr
    return out


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def tensors(twins, folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= twins.read_tensors(file)
    return found


@pytest.fixture(scope="module")
def twins():
    sys.path.insert(0, str(VECTORS))
    return importlib.import_module("make_gguf_twins")


@pytest.mark.parametrize("out", ["hub", "m.gguf"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_peft_and_the_adapter_beside_the_model(farseek, logits, tmp_path, name, out):
    """Dense, MLA, experts one by one and in one parameter, routers, a tied head, whole tensors, rsLoRA, patterns."""
    e = expected(name)
    base = VECTORS / e["base"]
    got = logits(merge(farseek, base, tmp_path / out, ADAPTERS / name, "--type", "F32"), e["prompt"])["last"]
    assert distance(got, e["last"]) < TOLERANCE
    assert distance(got, logits(base, e["prompt"], "--adapter", ADAPTERS / name)["last"]) < TOLERANCE
    assert distance(got, logits(base, e["prompt"])["last"]) > 100 * TOLERANCE, "the adapter changes nothing"


@pytest.mark.parametrize("name", ["ds_v3_attention", "llama3_bf16", "qwen2_saved", "ds_v3_mtp"])
def test_a_gguf_takes_it_as_the_hubs_files_do(farseek, logits, twins, tmp_path, name):
    """k_b and v_b of MLA, interleaved rows of llama, the layer that predicts ahead: the folder made of a GGUF with the adapter has the values of that made
    of the base."""
    e = expected(name)
    farseek("convert", VECTORS / e["base"], tmp_path / "base.gguf", "--type", "F32")
    merge(farseek, tmp_path / "base.gguf", tmp_path / "a", ADAPTERS / name, "--type", "F32")
    merge(farseek, VECTORS / e["base"], tmp_path / "b", ADAPTERS / name, "--type", "F32")
    a, b = tensors(twins, tmp_path / "a"), tensors(twins, tmp_path / "b")
    assert a.keys() == b.keys()
    for key in a:
        assert np.array_equal(a[key].astype(np.float32), b[key].astype(np.float32)), key


def test_split_projections_of_v4(farseek, twins, tmp_path):
    """e_proj and h_proj, side by side in a GGUF, and a pair for each."""
    rng = np.random.default_rng(3)
    d = json.loads((VECTORS / "ds_v4_mtp" / "config.json").read_text())["hidden_size"]
    pairs = {}
    for name in ("e_proj", "h_proj"):
        pairs[f"base_model.model.mtp.0.{name}.lora_A.weight"] = rng.normal(size=(2, d)).astype(np.float32)
        pairs[f"base_model.model.mtp.0.{name}.lora_B.weight"] = rng.normal(size=(d, 2)).astype(np.float32)
    adapter = write_adapter(tmp_path / "adapter", pairs, r=2, lora_alpha=3)
    merge(farseek, VECTORS / "ds_v4_mtp", tmp_path / "m.gguf", adapter, "--type", "F32")
    farseek("convert", tmp_path / "m.gguf", tmp_path / "back", "--type", "F32")
    merge(farseek, VECTORS / "ds_v4_mtp", tmp_path / "hub", adapter, "--type", "F32")
    farseek("convert", VECTORS / "ds_v4_mtp", tmp_path / "base.gguf", "--type", "F32")
    merge(farseek, tmp_path / "base.gguf", tmp_path / "late", adapter, "--type", "F32")
    base = tensors(twins, VECTORS / "ds_v4_mtp")
    for folder in ("back", "hub", "late"):
        got = tensors(twins, tmp_path / folder)
        for name in ("e_proj", "h_proj"):
            a, b = (pairs[f"base_model.model.mtp.0.{name}.lora_{k}.weight"].astype(np.float64) for k in "AB")
            want = base[f"mtp.0.{name}.weight"].astype(np.float64) + 1.5 * (b @ a)
            assert np.abs(got[f"mtp.0.{name}.weight"] - want).max() < 1e-5, folder


def write_adapter(folder, pairs, **config):
    folder.mkdir()
    st.save_file(pairs, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", **config)))
    return folder


def nearest_bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def test_each_sum_is_rounded_once(farseek, twins, tmp_path):
    """The default of a BF16 model is BF16: the nearest of the F32 that --type F32 gives, which is the float64 sum to its last places. Tensors without a pair stay."""
    base, name = VECTORS / "llama3", "llama3_bf16"
    dtypes = {k: v["dtype"] for k, v in twins.read_header(base / "model.safetensors")[0].items()}
    plain, pairs = tensors(twins, base), twins.read_tensors(ADAPTERS / name / "adapter_model.safetensors")
    config = json.loads((ADAPTERS / name / "adapter_config.json").read_text())
    bf16, f32 = (tensors(twins, merge(farseek, base, tmp_path / kind, ADAPTERS / name, "--type", kind)) for kind in ("keep", "F32"))
    got = {k: v["dtype"] for k, v in twins.read_header(tmp_path / "keep" / "model.safetensors")[0].items()}
    assert got == {k: dtypes[k] for k in got} and got.keys() == dtypes.keys()
    n = 0
    for key, w in plain.items():
        a, b = (pairs.get(f"base_model.model.{key.removesuffix('.weight')}.lora_{k}.weight") for k in "AB")
        if a is None:
            assert np.array_equal(bf16[key], w), key
            continue
        scale = config["lora_alpha"] / a.shape[0]
        want = w.astype(np.float64) + scale * (b.astype(np.float64) @ a.astype(np.float64))
        assert np.abs(f32[key] - want).max() <= 1e-6 * max(1, np.abs(want).max()), key
        assert np.array_equal(bf16[key], nearest_bf16(f32[key])), key
        n += 1
    assert n > 4


def test_several_with_factors(farseek, twins, tmp_path):
    a, b = ADAPTERS / "qwen2_all", ADAPTERS / "qwen2_rslora"
    merge(farseek, VECTORS / "qwen2", tmp_path / "one", a, "--type", "F32")
    merge(farseek, VECTORS / "qwen2", tmp_path / "half", f"{a}=0.5", "--type", "F32")
    merge(farseek, tmp_path / "one", tmp_path / "later", f"{b}=-2", "--type", "F32")
    merge(farseek, VECTORS / "qwen2", tmp_path / "both", f"{a};{b}=-2", "--type", "F32")
    base, one, half, later, both = (tensors(twins, p) for p in (VECTORS / "qwen2", *(tmp_path / x for x in ("one", "half", "later", "both"))))
    moved = 0
    for key, w in base.items():
        assert np.array_equal(later[key], both[key]), key  # in their order, in f32
        d1, d2 = one[key].astype(np.float64) - w, half[key].astype(np.float64) - w
        assert np.abs(d1 - 2 * d2).max() < 1e-5
        moved += np.abs(d1).max() > 0.01
    assert moved > 4
    for text in ("=2", f"{a}=x", f"{a}=", f"{a}=inf", ";", f"{tmp_path}/none"):
        r = farseek("convert", VECTORS / "qwen2", tmp_path / "no", "--adapter", text, check=False)
        assert r.returncode in (1, 2) and not (tmp_path / "no").exists() and r.stderr.count("\n") == 1, text


def header_of(file):
    data = file.read_bytes()
    return json.loads(data[8:8 + int.from_bytes(data[:8], "little")])


def make_adapter(folder, base):
    """A pair for the linears of every layer, by the shapes of the base; of V4 for q_a and every second expert."""
    rng, pairs = np.random.default_rng(1), {}
    projections = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    for name, entry in header_of(VECTORS / base / "model.safetensors").items():
        (out, n), parts = entry.get("shape", [0, 0]) if len(entry.get("shape", [])) == 2 else (0, 0), name.split(".")
        stem = name.removesuffix(".weight")
        if name.endswith(".attn.wq_a.weight") and parts[0] == "layers":
            stem = f"model.layers.{parts[1]}.self_attn.q_a_proj"
        elif ".ffn.experts." in name and name.endswith(".weight") and parts[0] == "layers":
            if int(parts[4]) % 2:
                continue
            stem, n = f"model.layers.{parts[1]}.mlp.experts.{parts[4]}.{projections[parts[5]]}", 2 * n  # two codes a byte
        elif not (name.endswith("_proj.weight") and name.startswith("model.layers.")):
            continue
        pairs[f"base_model.model.{stem}.lora_A.weight"] = (rng.normal(size=(2, n)) * 0.1).astype(np.float32)
        pairs[f"base_model.model.{stem}.lora_B.weight"] = (rng.normal(size=(out, 2)) * 0.1).astype(np.float32)
    assert len(pairs) > 20
    return write_adapter(folder, pairs, r=2, lora_alpha=4)


@pytest.mark.parametrize("base,kind", [("ds_v3_fp8", "F32"), ("ds_v4_fp4", "BF16")])
def test_fp8_and_fp4_bases(farseek, logits, twins, tmp_path, base, kind):
    """Values that fp8 and fp4 stand for, plus the pairs; config.json no longer says fp8. Experts without a pair keep their codes in a GGUF's own tensor alone."""
    config, adapter = json.loads((VECTORS / base / "config.json").read_text()), make_adapter(tmp_path / "adapter", base)
    ids = json.loads((VECTORS / base / "expected.json").read_text())["prompt"]
    merge(farseek, VECTORS / base, tmp_path / "keep", adapter)
    got = json.loads((tmp_path / "keep" / "config.json").read_text())
    assert "quantization_config" in config and "quantization_config" not in got and "expert_dtype" not in got
    head = header_of(tmp_path / "keep" / "model.safetensors")
    layer = "layers.0.attn.wq_a.weight" if base == "ds_v4_fp4" else "model.layers.0.self_attn.q_a_proj.weight"
    assert head[layer]["dtype"] == kind and not any(k.endswith("_scale_inv") or k.endswith(".scale") for k in head)
    want = logits(VECTORS / base, ids, "--adapter", adapter)["last"]
    assert distance(want, logits(VECTORS / base, ids)["last"]) > 0.05
    merge(farseek, VECTORS / base, tmp_path / "f32", adapter, "--type", "F32")
    merge(farseek, VECTORS / base, tmp_path / "m.gguf", adapter, "--type", "F32")
    farseek("convert", VECTORS / base, tmp_path / "base.gguf")
    merge(farseek, tmp_path / "base.gguf", tmp_path / "late", adapter, "--type", "F32")
    merge(farseek, VECTORS / base, tmp_path / "keep.gguf", adapter)
    for out in ("f32", "m.gguf", "late"):
        assert distance(logits(tmp_path / out, ids)["last"], want) < 1e-3, out
    for out in ("keep", "keep.gguf"):
        assert distance(logits(tmp_path / out, ids)["last"], want) < (1e-3 if kind == "F32" else 0.3), out


def test_config_and_texts_stay(farseek, tmp_path):
    """Every other key, and the files beside the weights."""
    base = tmp_path / "qwen2_tied"
    shutil.copytree(VECTORS / "qwen2_tied", base)
    (base / "expected.json").unlink()
    config = json.loads((base / "config.json").read_text()) | dict(my_key=[1, {"a": None}], torch_dtype="bfloat16")
    config.pop("dtype", None)
    (base / "config.json").write_text(json.dumps(config))
    (base / "generation_config.json").write_text('{"temperature": 0.3, "eos_token_id": [2, 5]}')
    (base / "chat_template.jinja").write_text("{{ 'x' }}")
    merge(farseek, base, tmp_path / "out", ADAPTERS / "qwen2_tied_head", "--type", "F32")
    got = json.loads((tmp_path / "out" / "config.json").read_text())
    assert got == config | dict(torch_dtype="float32", tie_word_embeddings=False)
    assert (tmp_path / "out" / "generation_config.json").read_text() == (base / "generation_config.json").read_text()
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ 'x' }}"


def test_mtp_left_out(farseek, logits, tmp_path):
    e = expected("ds_v3_mtp")
    for out in ("hub", "m.gguf"):
        merge(farseek, VECTORS / "ds_v3", tmp_path / out, ADAPTERS / "ds_v3_mtp", "--type", "F32", "--no-mtp")
        assert distance(logits(tmp_path / out, e["prompt"])["last"], e["last"]) < TOLERANCE
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["num_nextn_predict_layers"] == 0


def test_record_is_done_again(farseek, tmp_path):
    """Base and adapters are the parents; on every instruction set the same root; a changed adapter, factor or configuration is found."""
    base, one, two = VECTORS / "ds_v3", tmp_path / "one", tmp_path / "two"
    for name, folder in (("ds_v3_attention", one), ("ds_v3_experts", two)):
        shutil.copytree(ADAPTERS / name, folder)
    out = merge(farseek, base, tmp_path / "out", f"{one};{two}=0.25")
    lines = (out / "farseek.rec").read_text().splitlines()
    assert lines[1] == "verb merge" and sum(s.startswith("parent ") for s in lines) == 3 and "recipe factors 1,0.25" in lines
    assert sum(s.startswith("data ") and s.endswith(" adapter-config") for s in lines) == 2
    assert "verified" not in farseek("verify", out)
    for isa in json.loads(farseek("doctor", "--json"))["isa"]:
        for threads in (1, 3):
            said = farseek("verify", out, "--rerun", base, one, two, "--isa", isa, "--threads", threads)
            assert "done again, the same root" in said and said.count("good   parent") == 3
    r = farseek("verify", out, "--rerun", base, two, one, check=False)
    assert r.returncode == 1 and "the parent's root is" in r.stdout
    r = farseek("verify", out, "--rerun", base, one, two, two, check=False)
    assert r.returncode != 0 and "ADAPTER" in r.stderr
    r = farseek("verify", out, "--rerun", base, one, check=False)
    assert r.returncode != 0 and "name it behind" in r.stderr
    config = json.loads((one / "adapter_config.json").read_text())
    (one / "adapter_config.json").write_text(json.dumps(config | dict(lora_alpha=config["lora_alpha"] + 1)))
    r = farseek("verify", out, "--rerun", base, one, two, check=False)
    assert r.returncode == 1 and "adapter_config.json of" in r.stdout and "done again" not in r.stdout
    (one / "adapter_config.json").write_bytes((ADAPTERS / "ds_v3_attention" / "adapter_config.json").read_bytes())
    text = (out / "farseek.rec").read_text()
    (out / "farseek.rec").write_text(text.replace("factors 1,0.25", "factors 1,0.5"))
    r = farseek("verify", out, "--rerun", base, one, two, check=False)
    assert r.returncode == 1 and "differs" in r.stdout
    for bad in ("factors 1", "factors 1,0.25,1", "factors 1,x", "factors 1,inf"):
        (out / "farseek.rec").write_text(text.replace("factors 1,0.25", bad))
        r = farseek("verify", out, "--rerun", base, one, two, check=False)
        assert r.returncode == 1 and "the record's factors are" in r.stderr, bad


def test_a_trained_adapter_is_found_by_its_record(farseek, tmp_path):
    """train, merge, verify --rerun and --lineage: the adapter is found in --data; a merge with another base is said."""
    (tmp_path / "base").mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copy(VECTORS / "ds_v3" / file, tmp_path / "base")
    vocab = json.loads((VECTORS / "ds_v3" / "config.json").read_text())["vocab_size"]
    with open(tmp_path / "data.jsonl", "w") as f:
        for i in range(40):
            f.write(json.dumps({"ids": [(i * 7 + k * k) % vocab for k in range(30)]}) + "\n")
    (tmp_path / "recipe.yaml").write_text(json.dumps({
        "stage": "pretrain", "seed": 1, "steps": 3, "out": "out", "model": {"from": "base"},
        "lora": {"r": 4, "alpha": 8, "targets": ["q_a_proj", "kv_b_proj", "o_proj", "mlp.gate", "*.mlp.experts.*", "eh_proj"]}, "loss": {"mtp_weight": 0.3},
        "data": {"files": ["data.jsonl"], "kind": "ids", "length": 256}, "batch": {"rows": 1}, "optimizer": {"weight_decay": 0},
        "schedule": {"kind": "constant", "lr": 3e-2}}))
    farseek("train", tmp_path / "recipe.yaml", "--threads", 1)
    adapter, out = tmp_path / "out" / "step-00000003", tmp_path / "merged"
    r = farseek("convert", tmp_path / "base", out, "--adapter", adapter, "--type", "F32", check=False)
    assert r.returncode == 0 and not r.stderr
    ids = "5,6,7,8,9,10"
    a, b, c = (json.loads(farseek("logits", *x, "--ids", ids, "--json"))["last"] for x in ((out,), (tmp_path / "base", "--adapter", adapter), (tmp_path / "base",)))
    assert distance(a, b) < 2e-4 and distance(a, c) > 0.05
    said = farseek("verify", out, "--rerun", tmp_path / "base", "--data", tmp_path)
    assert "done again, the same root" in said and said.count("good   parent") == 2
    said = farseek("verify", out, "--lineage", "--data", tmp_path)
    assert f"{adapter}: pretrain" in said and said.count("begins with parent") == 2
    other = tmp_path / "other"
    merge(farseek, tmp_path / "base", other, ADAPTERS / "ds_v3_down")
    r = farseek("convert", other, tmp_path / "again", "--adapter", adapter, check=False)
    assert r.returncode == 0 and "was trained on another model, by its record" in r.stderr


def test_another_base_by_name_is_said(farseek, tmp_path):
    folder = changed(tmp_path, base_model_name_or_path="someone/else\x1b[31m-7B")
    r = farseek("convert", VECTORS / "qwen2", tmp_path / "out", "--adapter", folder, check=False)
    assert r.returncode == 0 and r.stderr.count("\n") == 1 and "was trained on 'someone/else" in r.stderr and "\x1b" not in r.stderr
    r = farseek("convert", VECTORS / "qwen2", tmp_path / "out2", "--adapter", changed(tmp_path, base_model_name_or_path="someone/Qwen2"), check=False)
    assert r.returncode == 0 and not r.stderr


def test_a_stage_of_a_chain(farseek, tmp_path):
    """A stage before stands for the adapter's folder."""
    shutil.copytree(VECTORS / "ds_v3", tmp_path / "base")
    with open(tmp_path / "data.jsonl", "w") as f:
        f.writelines(json.dumps({"ids": [(i * 5 + k) % 300 for k in range(30)]}) + "\n" for i in range(40))
    (tmp_path / "chain.yaml").write_text(json.dumps({"seed": 1, "out": "chain", "stages": [
        {"name": "tune", "stage": "pretrain", "steps": 2, "model": {"from": "base"}, "lora": {"r": 2, "alpha": 4, "targets": ["o_proj"]},
         "data": {"files": ["data.jsonl"], "kind": "ids", "length": 256}, "batch": {"rows": 1}, "optimizer": {"weight_decay": 0},
         "schedule": {"kind": "constant", "lr": 1e-2}},
        {"name": "merged", "stage": "convert", "model": "base", "adapter": "tune", "type": "F32"}]}))
    farseek("train", tmp_path / "chain.yaml", "--threads", 1)
    assert "verb merge" in (tmp_path / "chain" / "merged" / "farseek.rec").read_text()
    farseek("convert", tmp_path / "base", tmp_path / "out", "--adapter", tmp_path / "chain" / "tune" / "step-00000002", "--type", "F32")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "chain" / "merged" / "model.safetensors").read_bytes()


def refused(farseek, tmp_path, base, adapter, *args, out="out"):
    r = farseek("convert", base, tmp_path / out, "--adapter", adapter, *args, check=False)
    assert r.returncode in (1, 2) and not r.stdout and r.stderr.count("\n") == 1
    assert not list(tmp_path.glob(out + "*"))
    return r.stderr


@pytest.mark.parametrize("out", ["out", "out.gguf"])
@pytest.mark.parametrize("key,value", [("use_dora", True), ("fan_in_fan_out", True), ("bias", "all"), ("init_lora_weights", "pissa"), ("peft_type", "IA3"), ("r", 5),
                                       ("modules_to_save", ["lm_head"]), ("layer_replication", [[0, 1]]), ("trainable_token_indices", [1])])
def test_refused_by_name(farseek, tmp_path, key, value, out):
    said = refused(farseek, tmp_path, VECTORS / "qwen2", changed(tmp_path, **{key: value}), out=out)
    assert key in said or (key == "r" and "with r 5" in said)


def test_refusals(farseek, tmp_path):
    assert "the adapter's pair of 'model.layers.0." in refused(farseek, tmp_path, VECTORS / "llama3", ADAPTERS / "qwen2_all")
    assert "kv_b_proj.lora_A.weight' belongs to no linear" in refused(farseek, tmp_path, VECTORS / "qwen2", ADAPTERS / "ds_v3_kv_b")
    farseek("convert", VECTORS / "qwen2", tmp_path / "base.gguf")
    assert "is GGUF already" in refused(farseek, tmp_path, tmp_path / "base.gguf", ADAPTERS / "qwen2_all", out="out.gguf")

    def poison(value, key="B"):
        def change(t):
            name = next(k for k in t if k.endswith(f"lora_{key}.weight"))
            t[name][0, 0] = value
        return change

    for key in "AB":
        for value in (np.nan, np.inf):
            folder = rewritten(tmp_path, "qwen2_all", poison(value, key))
            assert "holds a number that is not finite" in refused(farseek, tmp_path, VECTORS / "qwen2", folder, "--no-record")
    huge = rewritten(tmp_path, "qwen2_all", lambda t: t.update({k: np.full_like(v, 1e18) for k, v in t.items()}))
    assert "with its adapter holds a number that is not finite" in refused(farseek, tmp_path, VECTORS / "qwen2", f"{huge}=1e4")
    assert "too large for F16" in refused(farseek, tmp_path, VECTORS / "qwen2", huge, "--type", "F16")
    assert "cannot be scaled by 2" in refused(farseek, tmp_path, VECTORS / "qwen2", f"{ADAPTERS / 'qwen2_saved'}=2")
    assert "another adapter has replaced" in refused(farseek, tmp_path, VECTORS / "qwen2", f"{ADAPTERS / 'qwen2_saved'};{ADAPTERS / 'qwen2_saved'}")
    no_b = rewritten(tmp_path, "qwen2_all", lambda t: t.pop(next(k for k in t if k.endswith("lora_B.weight"))))
    assert "but not lora_B" in refused(farseek, tmp_path, VECTORS / "qwen2", no_b)
    embedding = rewritten(tmp_path, "qwen2_all", lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((4, 320), np.float32)}))
    assert "neither lora_A nor lora_B of a linear" in refused(farseek, tmp_path, VECTORS / "qwen2", embedding)


@pytest.mark.parametrize("limit", [2000, 40000, 150000])
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    run = os.environ.get("FARSEEK", "build/farseek").split()
    code = f"import resource,signal,os,sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},)*2); os.execvp(sys.argv[1], sys.argv[1:])"
    for out in ("m.gguf", "hub"):
        r = subprocess.run([sys.executable, "-c", code, *run, "convert", VECTORS / "qwen2", tmp_path / out, "--adapter", ADAPTERS / "qwen2_all"],
                           capture_output=True, text=True)
        assert r.returncode == 1 and "cannot write" in r.stderr, r.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("signal_number,code", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_cut_off_half_way(farseek, tmp_path, signal_number, code):
    """Ctrl-C leaves nothing; kill -9 leaves a folder that is not OUT, and the next try makes the whole."""
    config = json.loads((VECTORS / "qwen2" / "config.json").read_text()) | dict(vocab_size=150000, hidden_size=256, num_hidden_layers=1)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "config.json").write_text(json.dumps(config))
    st.save_file({"model.embed_tokens.weight": np.zeros((150000, 256), np.float32), "lm_head.weight": np.zeros((150000, 256), np.float32)},
                 tmp_path / "big" / "model.safetensors")
    adapter = write_adapter(tmp_path / "adapter", {"base_model.model.lm_head.lora_A.weight": np.ones((16, 256), np.float32),
                                                   "base_model.model.lm_head.lora_B.weight": np.ones((150000, 16), np.float32)}, r=16, lora_alpha=16)
    run = os.environ.get("FARSEEK", "build/farseek").split()
    command = [*run, "convert", tmp_path / "big", tmp_path / "out", "--adapter", adapter, "--type", "BF16"]
    p = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("out.tmp*/*.safetensors*")) and p.poll() is None:
        time.sleep(0.001)
    p.send_signal(signal_number)
    assert p.wait(60) == code, p.stderr.read()
    left = {q.name for q in tmp_path.iterdir()} - {"big", "adapter"}
    assert "out" not in left and (code == -9 or not left)
    subprocess.run(command, check=True, capture_output=True)
    assert np.all(bf16_values(tmp_path / "out" / "model.safetensors", "lm_head.weight") == 16)


def bf16_values(file, name):
    data = file.read_bytes()
    n = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + n])[name]
    assert entry["dtype"] == "BF16"
    begin, end = entry["data_offsets"]
    return (np.frombuffer(data[8 + n + begin:8 + n + end], np.uint16).astype(np.uint32) << 16).view(np.float32)
