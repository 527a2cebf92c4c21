"""farseek quantize: types and who gets them, equal bytes, the Hub's fp8 and fp4, refusals; and llama-quantize beside it, when
FARSEEK_LLAMA_QUANTIZE names that program of llama.cpp."""
import importlib
import json
import os
import subprocess
import sys

import pytest

from conftest import VECTORS, interrupted

np = pytest.importorskip("numpy")
st = pytest.importorskip("safetensors.numpy")
gguf = pytest.importorskip("gguf")

sys.path.insert(0, str(VECTORS))
TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K", "IQ4_NL", "IQ4_XS"]
MIXTURES = ["Q2_K", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "Q4_0", "Q5_1", "Q8_0"]
N_LAYERS, D, FF = 8, 256, 512
LLAMA = os.environ.get("FARSEEK_LLAMA_QUANTIZE")
needs_llama = pytest.mark.skipif(not LLAMA, reason="FARSEEK_LLAMA_QUANTIZE names no llama-quantize of llama.cpp")


@pytest.fixture(scope="session")
def model(farseek, tmp_path_factory):
    """A folder with a random model of rows of 256 and 512, and its F32 GGUF."""
    out, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (300, D), "model.norm.weight": (D,), "lm_head.weight": (300, D)}
    for i in range(N_LAYERS):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm.weight": (D,), p + "post_attention_layernorm.weight": (D,), p + "self_attn.q_proj.weight": (D, D),
                   p + "self_attn.k_proj.weight": (64, D), p + "self_attn.v_proj.weight": (64, D), p + "self_attn.o_proj.weight": (D, D),
                   p + "mlp.gate_proj.weight": (FF, D), p + "mlp.up_proj.weight": (FF, D), p + "mlp.down_proj.weight": (D, FF)}
    st.save_file({k: (rng.normal(size=v) * 0.05 + (len(v) == 1)).astype(np.float32) for k, v in shapes.items()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=300, hidden_size=D, intermediate_size=FF, num_hidden_layers=N_LAYERS,
        num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, bos_token_id=0,
        eos_token_id=1, tie_word_embeddings=False)))
    farseek("convert", out, out / "f32.gguf", "--no-tokenizer")
    return out


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def values(t):
    return gguf.dequantize(t.data, t.tensor_type).astype(np.float64).ravel()


def rmse(got, want, weights=None):
    e = (values(got) - values(want)) ** 2
    return float(np.sqrt(np.mean(e if weights is None else e * weights)))


@pytest.fixture(scope="session")
def quantized(farseek, model, tmp_path_factory):
    made = {}

    def get(kind, *args):
        if (kind, *args) not in made:
            made[(kind, *args)] = tmp_path_factory.mktemp("q") / "m.gguf"
            farseek("quantize", model / "f32.gguf", made[(kind, *args)], "--type", kind, *args)
        return made[(kind, *args)]

    return get


@pytest.mark.parametrize("kind", TYPES)
def test_pure_types(farseek, model, quantized, kind):
    """Every matrix has the type; it is nearer than gguf's own encoder where that has one, and the model runs."""
    path = quantized(kind, "--pure")
    want, got = tensors(model / "f32.gguf"), tensors(path)
    name = {"Q3_K_S": "Q3_K", "Q4_K_S": "Q4_K", "Q5_K_S": "Q5_K"}.get(kind, kind)
    assert want.keys() == got.keys()
    for k, t in got.items():
        assert t.tensor_type.name == (name if len(t.shape) > 1 else "F32"), k
        if len(t.shape) == 1:
            assert np.array_equal(t.data, want[k].data)
    a = want["blk.3.ffn_up.weight"]
    error = rmse(got["blk.3.ffn_up.weight"], a) / 0.05
    bits = t_bits(name)
    assert error < 2.2 * 2.0 ** -bits, error
    if name in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        ref = gguf.dequantize(gguf.quantize(np.array(a.data), gguf.GGMLQuantizationType[name]), gguf.GGMLQuantizationType[name])
        assert error * 0.05 < float(np.sqrt(np.mean((ref.ravel() - values(a)) ** 2)))
    assert json.loads(farseek("logits", path, "--ids", "1,2,3", "--json"))["top_ids"]


def t_bits(name):
    return {"IQ4_NL": 4, "IQ4_XS": 4}.get(name) or int(name[1])


def test_mixtures_give_more_to_some(quantized):
    kinds = {k: t.tensor_type.name for k, t in tensors(quantized("Q4_K_M")).items()}
    more = [0, 3, 6, 7]  # the first and last eighth, and every third between
    assert kinds["output.weight"] == "Q6_K" and kinds["token_embd.weight"] == "Q4_K"
    for i in range(N_LAYERS):
        want = "Q6_K" if i in more else "Q4_K"
        assert kinds[f"blk.{i}.attn_v.weight"] == kinds[f"blk.{i}.ffn_down.weight"] == want, i
        assert kinds[f"blk.{i}.attn_q.weight"] == kinds[f"blk.{i}.ffn_up.weight"] == "Q4_K"
    field = gguf.GGUFReader(quantized("Q4_K_M")).get_field
    assert field("general.file_type").contents() == 15 and field("general.quantization_version").contents() == 2


def test_equal_bytes_for_any_threads_and_from_either_form(farseek, model, tmp_path):
    outs = []
    for i, (source, threads) in enumerate([("f32.gguf", 1), ("f32.gguf", 3), (".", 2)]):
        outs.append(tmp_path / f"{i}.gguf")
        farseek("quantize", model / source, outs[-1], "--type", "Q4_K_M", "-t", threads, "--no-tokenizer")
    assert outs[0].read_bytes() == outs[1].read_bytes()
    a, b = tensors(outs[0]), tensors(outs[2])
    assert a.keys() == b.keys()
    for k in a:
        assert a[k].tensor_type == b[k].tensor_type and np.array_equal(a[k].data, b[k].data), k


def test_metadata_and_integers_stay(farseek, tmp_path):
    subprocess.run([sys.executable, VECTORS / "make_gguf_twins.py", tmp_path, "ds_v4_fp4"], check=True, capture_output=True)
    source = tmp_path / "ds_v4_fp4" / "mxfp4.gguf"
    farseek("quantize", source, tmp_path / "q.gguf", "--type", "MXFP4")
    a, b = gguf.GGUFReader(source), gguf.GGUFReader(tmp_path / "q.gguf")
    for key, field in a.fields.items():
        if not key.startswith("GGUF.") and key != "general.file_type":
            assert b.get_field(key).contents() == field.contents(), key
    a, b = tensors(source), tensors(tmp_path / "q.gguf")
    for k, t in a.items():
        if "_exps." in k or "tid2eid" in k or "hc_" in k or len(t.shape) == 1:
            assert b[k].tensor_type == t.tensor_type and np.array_equal(b[k].data, t.data), k
    assert b["blk.0.attn_output_b.weight"].tensor_type.name == "Q8_0"
    assert b["blk.0.attn_q_b.weight"].tensor_type.name == "F16"  # rows of 48


@pytest.mark.parametrize("name", ["ds_v3", "ds_v32", "ds_v4", "deepseek_moe", "qwen2_tied"])
def test_every_architecture_runs_quantised(farseek, logits, tmp_path, name):
    ids = json.loads((VECTORS / name / "expected.json").read_text())["prompt"]
    farseek("quantize", VECTORS / name, tmp_path / "q.gguf", "--type", "Q8_0")
    kinds = {t.tensor_type.name for t in tensors(tmp_path / "q.gguf").values()}
    assert "Q8_0" in kinds
    got, want = logits(tmp_path / "q.gguf", ids), logits(VECTORS / name, ids)
    assert np.corrcoef(got["last"], want["last"])[0, 1] > 0.95  # a token may choose another expert


def test_rules(farseek, model, quantized, tmp_path):
    got = tensors(quantized("Q4_0", "--tensor-type", r"blk\.[0-3]\..*up=Q8_0;_up=BF16;attn_(q|k)=Q6_K"))
    assert got["blk.2.ffn_up.weight"].tensor_type.name == "Q8_0" and got["blk.4.ffn_up.weight"].tensor_type.name == "BF16"
    assert got["blk.7.attn_k.weight"].tensor_type.name == "Q6_K" and got["blk.7.attn_v.weight"].tensor_type.name == "Q4_0"
    for rules, says in (("nothing=Q8_0", "no matrix falls under the rule 'nothing=Q8_0'"), ("up=Q9", "ends in no type"), ("up", "is not REGEX=TYPE"),
                        ("(=Q8_0", "no regular expression"), ("=Q8_0", "is not REGEX=TYPE")):
        assert says in refused(farseek, model / "f32.gguf", tmp_path / "x.gguf", "--tensor-type", rules)
    assert "rows of 64, which Q4_K" in refused(farseek, VECTORS / "qwen2", tmp_path / "x.gguf", "--tensor-type", "attn_q=Q4_K", "--no-tokenizer")
    assert not list(tmp_path.iterdir())


def refused(farseek, *args):
    r = farseek("quantize", *args, check=False)
    assert r.returncode in (1, 2) and not r.stdout
    return r.stderr


def test_refusals(farseek, model, tmp_path):
    out = tmp_path / "x.gguf"
    assert "'Q9_Z' is no type" in refused(farseek, model, out, "--type", "Q9_Z")
    assert "exists already" in refused(farseek, model, model / "f32.gguf")
    assert "OUT must end in .gguf" in refused(farseek, model, tmp_path / "x")
    assert "OUT must be a folder" in refused(farseek, model, out, "--type", "FP8")
    assert "convert the GGUF first" in refused(farseek, model / "f32.gguf", tmp_path / "x", "--type", "FP8")
    assert "for the experts of deepseek_v4" in refused(farseek, model, tmp_path / "x", "--type", "FP4")
    assert "stored as fp8 already" in refused(farseek, VECTORS / "ds_v3_fp8", tmp_path / "x", "--type", "FP8")
    bad = {k: np.array(v) for k, v in st.load_file(model / "model.safetensors").items()}
    bad["model.layers.2.mlp.up_proj.weight"][3, 5] = np.inf
    (tmp_path / "m").mkdir()
    st.save_file(bad, tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "config.json").write_bytes((model / "config.json").read_bytes())
    assert "'blk.2.ffn_up.weight' holds a number that Q4_0" in refused(farseek, tmp_path / "m", out, "--type", "Q4_0", "--no-tokenizer")
    assert "'model.layers.2.mlp.up_proj.weight' holds a number" in refused(farseek, tmp_path / "m", tmp_path / "x", "--type", "FP8")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("kind", ["FP8", "FP8_UE8M0"])
def test_fp8_as_the_hub_has_it(farseek, logits, tmp_path, kind):
    twins = importlib.import_module("make_gguf_twins")
    farseek("quantize", VECTORS / "ds_v3", tmp_path / "q", "--type", kind)
    header, data = twins.read_header(tmp_path / "q" / "model.safetensors")
    want, got = (twins.read_tensors(p / "model.safetensors") for p in (VECTORS / "ds_v3", tmp_path / "q"))
    assert want.keys() == got.keys()
    stored = {k for k, e in header.items() if e["dtype"] == "F8_E4M3"}
    assert stored == {k for k in want if k.startswith("model.layers.") and k.split(".")[-2].endswith(("_proj", "_proj_with_mqa")) and "eh_proj" not in k}
    for k, a in want.items():
        if k not in stored:
            assert np.array_equal(a, got[k]), k
            continue
        begin, end = header[k + "_scale_inv"]["data_offsets"]
        scale = np.frombuffer(data[begin:end], np.float32).reshape(header[k + "_scale_inv"]["shape"])
        assert kind == "FP8" or (np.frexp(scale)[0] == 0.5).all()
        full = np.repeat(np.repeat(scale, 128, 0), 128, 1)[:a.shape[0], :a.shape[1]]
        assert (np.abs(a - got[k]) <= np.maximum(np.abs(a) / 16, full * 2.0 ** -10) * 1.0001).all(), k  # half a unit of four bits
        assert np.abs(got[k] / full).max() < 448.001
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert config["quantization_config"]["weight_block_size"] == [128, 128] and config["model_type"] == "deepseek_v3"
    ids = json.loads((VECTORS / "ds_v3" / "expected.json").read_text())["prompt"]
    assert np.corrcoef(logits(tmp_path / "q", ids)["last"], logits(VECTORS / "ds_v3", ids)["last"])[0, 1] > 0.95


def test_fp4_as_v4_has_it(farseek, logits, tmp_path):
    twins = importlib.import_module("make_gguf_twins")
    farseek("quantize", VECTORS / "ds_v4", tmp_path / "q", "--type", "FP4")
    farseek("quantize", VECTORS / "ds_v4", tmp_path / "again", "--type", "FP4", "-t", 3)
    assert (tmp_path / "q" / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()
    header, _ = twins.read_header(tmp_path / "q" / "model.safetensors")
    like, _ = twins.read_header(VECTORS / "ds_v4_fp4" / "model.safetensors")
    for k, e in header.items():
        if k in like:
            assert e["dtype"] == like[k]["dtype"], k
    assert json.loads((tmp_path / "q" / "config.json").read_text())["expert_dtype"] == "fp4"
    got, want = twins.read_tensors(tmp_path / "q" / "model.safetensors"), twins.read_tensors(VECTORS / "ds_v4" / "model.safetensors")
    name = "layers.1.ffn.experts.3.w1.weight"
    assert np.sqrt(np.mean((got[name] - want[name]) ** 2)) < 0.13 * want[name].std()
    ids = json.loads((VECTORS / "ds_v4" / "expected.json").read_text())["prompt"]
    assert np.corrcoef(logits(tmp_path / "q", ids)["last"], logits(VECTORS / "ds_v4", ids)["last"])[0, 1] > 0.7


def imatrix(path, model, seed=0):
    """A file as llama-imatrix writes it, of random importance."""
    rng, w = np.random.default_rng(seed), gguf.GGUFWriter(path, "")
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["none"])
    w.add_uint32("imatrix.chunk_count", 4)
    w.add_uint32("imatrix.chunk_size", 512)
    sums = {}
    for k, t in tensors(model / "f32.gguf").items():
        if len(t.shape) > 1 and k != "token_embd.weight":
            sums[k] = np.exp(2 * rng.normal(size=int(t.shape[0]))).astype(np.float32)
            w.add_tensor(k + ".in_sum2", 8 * sums[k][None])
            w.add_tensor(k + ".counts", np.array([[8]], np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return sums


@pytest.mark.parametrize("kind", ["Q4_K_S", "Q3_K_S", "IQ4_XS", "Q4_0"])
def test_importance_moves_the_error(model, quantized, tmp_path_factory, kind):
    file = tmp_path_factory.mktemp("imatrix") / "i.gguf"
    weights = imatrix(file, model)
    want, plain, with_it = tensors(model / "f32.gguf"), tensors(quantized(kind, "--pure")), tensors(quantized(kind, "--pure", "--imatrix", file))
    for k in ("blk.5.ffn_down.weight", "blk.0.attn_q.weight"):
        w = np.tile(weights[k], want[k].data.shape[0])
        assert rmse(with_it[k], want[k], w) < 0.97 * rmse(plain[k], want[k], w), k


def llama_quantize(model, out, kind, *args):
    r = subprocess.run([LLAMA, *map(str, args), model / "f32.gguf", out, kind, "1"], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout[-1000:] + r.stderr[-1000:]
    return tensors(out)


@needs_llama
@pytest.mark.parametrize("kind", MIXTURES)
def test_same_choice_as_llama_quantize_and_no_larger_error(model, quantized, tmp_path, kind):
    want, got, ref = tensors(model / "f32.gguf"), tensors(quantized(kind)), llama_quantize(model, tmp_path / "q.gguf", kind)
    assert {k: t.tensor_type.name for k, t in got.items()} == {k: t.tensor_type.name for k, t in ref.items()}
    worst = max((rmse(got[k], want[k]) / rmse(ref[k], want[k]), k) for k in got if len(got[k].shape) > 1)
    print(f"{kind}: our error over theirs, worst tensor: {worst[0]:.3f} {worst[1]}")
    assert worst[0] <= 1


@needs_llama
@pytest.mark.parametrize("kind", ["Q2_K", "Q4_K_M", "Q5_K_M", "IQ4_XS", "Q4_0"])
def test_no_larger_error_by_importance(model, quantized, tmp_path_factory, kind):
    folder = tmp_path_factory.mktemp("imatrix")
    weights = imatrix(folder / "i.gguf", model, 1)
    want, got = tensors(model / "f32.gguf"), tensors(quantized(kind, "--imatrix", folder / "i.gguf"))
    ref = llama_quantize(model, folder / "q.gguf", kind, "--imatrix", folder / "i.gguf")
    pairs = [k for k in weights if got[k].tensor_type == ref[k].tensor_type]
    assert len(pairs) > 0.9 * len(weights)
    over = [(lambda w: rmse(got[k], want[k], w) / rmse(ref[k], want[k], w))(np.tile(weights[k], want[k].data.shape[0])) for k in pairs]
    print(f"{kind}: our weighted error over theirs: {min(over):.3f} to {max(over):.3f}")
    assert max(over) <= 1


def test_ctrl_c_leaves_nothing(farseek, tmp_path):
    config = json.loads((VECTORS / "qwen2" / "config.json").read_text()) | dict(vocab_size=20000, hidden_size=512, num_hidden_layers=1)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "config.json").write_text(json.dumps(config))
    st.save_file({k: np.random.default_rng(0).normal(size=(20000, 512)).astype(np.float32) for k in ("model.embed_tokens.weight", "lm_head.weight")},
                 tmp_path / "big" / "model.safetensors")
    run = os.environ.get("FARSEEK", "build/farseek").split()
    interrupted([*run, "quantize", tmp_path / "big", tmp_path / "out.gguf", "--type", "Q2_K"], lambda p: list(tmp_path.glob("out.gguf.tmp*")),
                (tmp_path / "out.gguf").unlink)
    assert [q.name for q in tmp_path.iterdir()] == ["big"]
