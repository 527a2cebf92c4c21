"""farseek convert: to GGUF and back, every fixture with equal bits; tokenizers both ways; what other programs read."""
import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from conftest import VECTORS, interrupted
from test_oracle import MODELS as ALL
from test_tokenizer import tokenizer_file, vectors

MODELS = ALL

sys.path.insert(0, str(VECTORS))

KEYS = """model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads
max_position_embeddings rms_norm_eps rope_theta tie_word_embeddings bos_token_id eos_token_id q_lora_rank kv_lora_rank qk_nope_head_dim
qk_rope_head_dim v_head_dim n_routed_experts n_shared_experts num_experts_per_tok moe_intermediate_size first_k_dense_replace moe_layer_freq
topk_method scoring_func norm_topk_prob routed_scaling_factor num_nextn_predict_layers architectures head_dim hidden_act index_n_heads
index_head_dim index_topk o_groups o_lora_rank sliding_window num_hash_layers compress_ratios compress_rope_theta hc_mult hc_sinkhorn_iters
hc_eps swiglu_limit""".split()


@pytest.fixture(scope="session")
def converted(farseek, tmp_path_factory):
    """converted(model) -> (the GGUF, the folder made of that); made once."""
    made = {}

    def get(model):
        if model not in made:
            out = tmp_path_factory.mktemp(model)
            farseek("convert", VECTORS / model, out / "m.gguf")
            farseek("convert", out / "m.gguf", out / "hub", "--shard-size", "0.0001")
            made[model] = out / "m.gguf", out / "hub"
        return made[model]

    return get


def answer(farseek, path, ids, *args):
    return farseek("logits", path, "--ids", ",".join(map(str, ids)), "--greedy", 8, "--json", "--exact-activations", *args)


@pytest.mark.parametrize("model", MODELS)
def test_equal_bits_there_and_back(farseek, converted, model):
    ids = json.loads((VECTORS / model / "expected.json").read_text())["prompt"]
    mtp = ["--mtp"] if model in ("ds_v3", "ds_v4_mtp") else []
    want = answer(farseek, VECTORS / model, ids, *mtp)
    gguf, hub = converted(model)
    assert answer(farseek, gguf, ids, *mtp) == want
    assert answer(farseek, hub, ids, *mtp) == want
    assert (hub / "model.safetensors.index.json").exists() and len(list(hub.glob("model-*.safetensors"))) > 1


@pytest.mark.parametrize("model", MODELS)
def test_config_comes_back(converted, model):
    want, got = (json.loads((p / "config.json").read_text()) for p in (VECTORS / model, converted(model)[1]))
    for key in KEYS:
        if key in want and not (key == "sliding_window" and want["model_type"] != "deepseek_v4"):  # qwen's does nothing
            assert got[key] == want[key], key
    scaling, back = want.get("rope_scaling") or {}, got.get("rope_scaling") or {}
    for key, value in scaling.items():
        if key == "attn_factor":  # which nobody reads
            continue
        assert back[key] == value, key
    assert bool(scaling) == bool(back)
    ids = json.loads((converted(model)[1] / "generation_config.json").read_text())
    assert ids == {"bos_token_id": want["bos_token_id"], "eos_token_id": [want["eos_token_id"]]}


@pytest.fixture(scope="session")
def twins():
    """What make_gguf_twins.py knows: readers and names of its own."""
    return importlib.import_module("make_gguf_twins")


def read_folder(twins, folder):
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= twins.read_tensors(file)
    return tensors


@pytest.mark.parametrize("model", MODELS)
def test_every_tensor_comes_back(converted, twins, model):
    np = pytest.importorskip("numpy")
    want, got = read_folder(twins, VECTORS / model), read_folder(twins, converted(model)[1])
    assert got.keys() == want.keys()
    for name, a in want.items():
        assert got[name].dtype == a.dtype and np.array_equal(got[name], a), name


def dtypes(twins, folder):
    return {name: entry["dtype"] for file in folder.glob("*.safetensors") for name, entry in twins.read_header(file)[0].items()}


def test_fp4_comes_back_as_it_was(farseek, twins, tmp_path):
    """The bytes of codes and scales: in one file, so that they can be compared."""
    farseek("convert", VECTORS / "ds_v4_fp4", tmp_path / "m.gguf")
    farseek("convert", tmp_path / "m.gguf", tmp_path / "hub")
    (want, a), (got, b) = (twins.read_header(p / "model.safetensors") for p in (VECTORS / "ds_v4_fp4", tmp_path / "hub"))
    experts = [name for name in want if ".ffn.experts." in name]
    assert len(experts) == 3 * 6 * 3 * 2
    for name in experts:
        assert want[name]["dtype"] == got[name]["dtype"] and want[name]["shape"] == got[name]["shape"], name
        assert a[slice(*want[name]["data_offsets"])] == b[slice(*got[name]["data_offsets"])], name
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["expert_dtype"] == "fp4" and config["quantization_config"]["weight_block_size"] == [128, 128]
    farseek("convert", tmp_path / "m.gguf", tmp_path / "bf16", "--type", "BF16")
    assert "quantization_config" not in json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert set(dtypes(twins, tmp_path / "bf16").values()) == {"BF16", "F32", "I64"}
    ids = json.loads((VECTORS / "ds_v4_fp4" / "expected.json").read_text())["prompt"]
    assert answer(farseek, tmp_path / "bf16", ids) == answer(farseek, VECTORS / "ds_v4_fp4", ids)


@pytest.mark.parametrize("model,kind", [("ds_v3_fp8", "F32"), ("ds_v4_fp4", "BF16")])
def test_fp8_becomes_the_smallest_type_that_holds_it(converted, model, kind):
    """V3's scales are any numbers, V4's are powers of two, times which an e4m3 is a bf16."""
    gguf = pytest.importorskip("gguf")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(converted(model)[0]).tensors}
    name = "blk.1.attn_q_a.weight" if model == "ds_v4_fp4" else "blk.0.attn_q_a.weight"
    assert kinds[name] == kind
    if model == "ds_v4_fp4":
        assert {v for k, v in kinds.items() if "_exps." in k} == {"MXFP4"} and kinds["blk.0.ffn_gate_tid2eid.weight"] == "I32"


@pytest.mark.parametrize("model", MODELS)
def test_names_and_keys_are_those_of_llama_cpp(converted, twins, tmp_path, model):
    """Against make_gguf_twins.py, which was written by llama.cpp's converter: every tensor, shape and key."""
    gguf = pytest.importorskip("gguf")
    c = json.loads((VECTORS / model / "config.json").read_text())
    twins.write_gguf(tmp_path / "twin.gguf", c, twins.read_tensors(VECTORS / model / "model.safetensors"), gguf.GGMLQuantizationType.F32,
                     old=c["model_type"] == "deepseek_v4")  # e_proj and h_proj in one, as llama.cpp has them
    want, got = gguf.GGUFReader(tmp_path / "twin.gguf"), gguf.GGUFReader(converted(model)[0])
    shapes = [{t.name: list(t.shape) for t in r.tensors} for r in (want, got)]
    assert shapes[0] == shapes[1]
    ours = {"general.file_type", *(f"{got.get_field('general.architecture').contents()}.{k}" for k in (
        "attention.key_length", "attention.value_length", "embedding_length_out", "leading_dense_block_count",
        "attention.q_lora_rank"))}
    for key, field in want.fields.items():
        if not key.startswith("GGUF."):
            assert got.get_field(key).contents() == pytest.approx(field.contents()) if isinstance(field.contents(), float) \
                else got.get_field(key).contents() == field.contents(), key
    extra = got.fields.keys() - want.fields.keys()
    assert extra <= ours, extra - ours


def test_mtp_can_stay_behind(farseek, converted, tmp_path):
    ids = json.loads((VECTORS / "ds_v3" / "expected.json").read_text())["prompt"]
    farseek("convert", VECTORS / "ds_v3", tmp_path / "m.gguf", "--no-mtp")
    farseek("convert", converted("ds_v3")[0], tmp_path / "hub", "--no-mtp")
    for path in (tmp_path / "m.gguf", tmp_path / "hub"):
        assert answer(farseek, path, ids) == answer(farseek, VECTORS / "ds_v3", ids)
        assert farseek("logits", path, "--ids", "1,2", "--mtp", check=False).returncode != 0
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["num_nextn_predict_layers"] == 0


def test_a_model_of_another_kind_is_refused_by_name(farseek, tmp_path):
    (tmp_path / "m").mkdir()
    config = json.loads((VECTORS / "qwen2" / "config.json").read_text()) | dict(model_type="mamba")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    os.symlink(VECTORS / "qwen2" / "model.safetensors", tmp_path / "m" / "model.safetensors")
    assert "model_type 'mamba' cannot be converted" in refused(farseek, tmp_path / "m", tmp_path / "m.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("model", ["qwen2", "llama3", "ds_v3_fp8"])
@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
def test_types(farseek, tmp_path, model, kind):
    """Every value is the nearest of the type: by numpy."""
    np, gguf = pytest.importorskip("numpy"), pytest.importorskip("gguf")
    farseek("convert", VECTORS / model, tmp_path / "t.gguf", "--type", kind)
    farseek("convert", VECTORS / model, tmp_path / "f32.gguf", "--type", "F32")
    read = lambda p: {t.name: t for t in gguf.GGUFReader(tmp_path / p).tensors}
    got, exact = read("t.gguf"), read("f32.gguf")
    assert got.keys() == exact.keys() and len(got) > 20
    for name, t in got.items():
        want = np.array(exact[name].data, np.float32)
        matrix = len(t.shape) > 1 and "ffn_gate_inp" not in name
        assert t.tensor_type.name == (kind if matrix else "F32"), name
        if t.tensor_type.name == "BF16":
            bits = want.view(np.uint32).astype(np.uint64)
            nearest = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
            assert (np.array(t.data).view(np.uint16).reshape(nearest.shape) == nearest).all(), name
        else:
            assert (np.array(t.data) == want.astype(t.data.dtype)).all(), name


def test_block_formats_become_what_they_mean(farseek, tmp_path):
    subprocess.run([sys.executable, VECTORS / "make_gguf_twins.py", tmp_path, "qwen3", "ds_v3"], check=True, capture_output=True)
    for model in ("qwen3", "ds_v3"):
        farseek("convert", tmp_path / model / "q8_0.gguf", tmp_path / model / "hub")
        assert answer(farseek, tmp_path / model / "hub", [3, 1, 4, 1, 5]) == answer(farseek, tmp_path / model / "q8_0.gguf", [3, 1, 4, 1, 5], "--exact-activations")
    farseek("convert", tmp_path / "ds_v3" / "old.gguf", tmp_path / "ds_v3" / "old")
    assert answer(farseek, tmp_path / "ds_v3" / "old", [3, 1, 4]) == answer(farseek, VECTORS / "ds_v3", [3, 1, 4])


def refused(farseek, *args):
    r = farseek("convert", *args, check=False)
    assert r.returncode in (1, 2) and not r.stdout
    return r.stderr


def test_refusals(farseek, converted, tmp_path):
    gguf, hub = converted("qwen2")
    assert "already" in refused(farseek, gguf, tmp_path / "x.gguf")
    assert "already" in refused(farseek, hub, tmp_path / "x")
    assert "exists" in refused(farseek, hub, gguf)
    assert "cannot create" in refused(farseek, hub, tmp_path / "no" / "x.gguf")
    assert "folder" in refused(farseek, gguf, tmp_path / "no" / "x")
    for change, word in ((dict(rope_scaling=dict(rope_type="dynamic", factor=2.0)), "rope_type"),
                         (dict(rope_scaling=dict(rope_type="yarn", factor=2.0, attention_factor=3.0)), "attention_factor")):
        folder = tmp_path / word
        folder.mkdir()
        os.symlink(VECTORS / "qwen2" / "model.safetensors", folder / "model.safetensors")
        config = json.loads((VECTORS / "qwen2" / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        assert word in refused(farseek, folder, tmp_path / "x.gguf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attention_factor", "rope_type"]


@pytest.mark.parametrize("limit", [2000, 40000, 150000])
def test_a_full_disk_leaves_nothing(farseek, converted, tmp_path, limit):
    run = os.environ.get("FARSEEK", "build/farseek").split()
    code = f"import resource,signal,os,sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},)*2); os.execvp(sys.argv[1], sys.argv[1:])"
    gguf, _ = converted("qwen2")
    for source, out in ((VECTORS / "qwen2", "m.gguf"), (gguf, "hub")):
        r = subprocess.run([sys.executable, "-c", code, *run, "convert", source, tmp_path / out], capture_output=True, text=True)
        assert r.returncode == 1 and "cannot write" in r.stderr, r.stderr
        assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(farseek, tmp_path):
    """A model large enough to be caught half-way: one layer over and over."""
    np, st = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    config = json.loads((VECTORS / "qwen2" / "config.json").read_text()) | dict(vocab_size=150000, hidden_size=256)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "config.json").write_text(json.dumps(config | dict(num_hidden_layers=1)))
    tensors = {"model.embed_tokens.weight": np.zeros((150000, 256), np.float32), "lm_head.weight": np.zeros((150000, 256), np.float32)}
    st.save_file(tensors, tmp_path / "big" / "model.safetensors")
    run = os.environ.get("FARSEEK", "build/farseek").split()
    interrupted([*run, "convert", tmp_path / "big", tmp_path / "out.gguf", "--type", "F16"], lambda p: list(tmp_path.glob("out.gguf.tmp*")),
                (tmp_path / "out.gguf").unlink)
    assert [q.name for q in tmp_path.iterdir()] == ["big"]


def test_transformers_reads_ours(converted):
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("transformers")
    for model in ("qwen2", "llama3", "qwen3", "ds_v2_lite", "ds_v3", "ds_v32", "ds_v4"):
        ids = torch.tensor([json.loads((VECTORS / model / "expected.json").read_text())["prompt"]])
        with torch.no_grad():
            a, b = (tf.AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32)(ids).logits for p in (VECTORS / model, converted(model)[1]))
        assert torch.equal(a, b), model


def fake_model(folder, tokenizer, n_vocab, **more):
    """qwen2's layers under a larger vocabulary: enough to carry a tokenizer."""
    np, st = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    folder.mkdir()
    config = json.loads((VECTORS / "qwen2_tied" / "config.json").read_text()) | dict(vocab_size=n_vocab) | more
    (folder / "config.json").write_text(json.dumps(config))
    torch_st = pytest.importorskip("safetensors.torch")
    tensors = {k: v.float().numpy() for k, v in torch_st.load_file(VECTORS / "qwen2_tied" / "model.safetensors").items()}
    tensors["model.embed_tokens.weight"] = np.random.default_rng(0).normal(size=(n_vocab, config["hidden_size"])).astype(np.float32)
    st.save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").write_bytes(pathlib.Path(tokenizer).read_bytes())


def tokenize(farseek, path, texts):
    return json.loads(farseek("tokenize", path, "--json", stdin=json.dumps({"texts": texts})))["ids"]


@pytest.mark.parametrize("kind", ["deepseek", "llama3"])
def test_tokenizer_there_and_back(farseek, tmp_path, kind):
    """The published tokenizers: our GGUF, our tokenizer.json of it, and Hugging Face tokenizers with that give the vectors' ids."""
    file, n = tokenizer_file(kind), {"deepseek": 129280, "llama3": 128256}[kind]
    bos = json.loads(file.read_text())["added_tokens"][0]["id"]
    fake_model(tmp_path / "m", file, n, bos_token_id=bos)
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(dict(chat_template="{{ 'hi' }} é", add_bos_token=True)))
    farseek("convert", tmp_path / "m", tmp_path / "m.gguf")
    farseek("convert", tmp_path / "m.gguf", tmp_path / "hub")
    cases = vectors(kind)
    for path in (tmp_path / "m.gguf", tmp_path / "hub"):
        assert tokenize(farseek, path, [c["text"] for c in cases]) == [c["ids"] for c in cases]
    config = json.loads((tmp_path / "hub" / "tokenizer_config.json").read_text())
    assert config["chat_template"] == "{{ 'hi' }} é" and config["add_bos_token"] is True
    added = {t["id"]: (t["content"], t["special"]) for t in json.loads(file.read_text())["added_tokens"]}
    ours = json.loads((tmp_path / "hub" / "tokenizer.json").read_text())
    assert {t["id"]: (t["content"], t["special"]) for t in ours["added_tokens"]} == added
    tokenizers = pytest.importorskip("tokenizers")
    t = tokenizers.Tokenizer.from_file(str(tmp_path / "hub" / "tokenizer.json"))
    for c in cases:
        assert t.encode(c["text"], add_special_tokens=False).ids == c["ids"]
    assert t.encode("a").ids[0] == bos


def test_smollm2_becomes_a_folder(farseek, tmp_path):
    """A GGUF of llama.cpp's own converter (Q4_1), the whole model."""
    source = tokenizer_file("smollm2")
    farseek("convert", source, tmp_path / "hub", "--type", "BF16")
    cases = vectors("smollm2")
    assert tokenize(farseek, tmp_path / "hub", [c["text"] for c in cases]) == [c["ids"] for c in cases]
    tokenizers = pytest.importorskip("tokenizers")
    t = tokenizers.Tokenizer.from_file(str(tmp_path / "hub" / "tokenizer.json"))
    assert [t.encode(c["text"], add_special_tokens=False).ids for c in cases] == [c["ids"] for c in cases]
    ask = dict(stdin=json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
    assert farseek("template", tmp_path / "hub", "--json", **ask) == farseek("template", source, "--json", **ask)


def test_a_tokenizer_without_a_name_is_refused(farseek, tmp_path):
    fake_model(tmp_path / "m", VECTORS / "tiny_tokenizer.json", 1000)
    file = tmp_path / "m" / "tokenizer.json"
    tiny = json.loads(file.read_text())
    tiny["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}, {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False}]}
    file.write_text(json.dumps(tiny))
    assert "--no-tokenizer" in refused(farseek, tmp_path / "m", tmp_path / "m.gguf")
    farseek("convert", tmp_path / "m", tmp_path / "m.gguf", "--no-tokenizer")
    assert answer(farseek, tmp_path / "m.gguf", [1, 2, 3]) == answer(farseek, tmp_path / "m", [1, 2, 3])
