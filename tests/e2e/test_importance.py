"""farseek quantize --imatrix TEXT: sums against a llama written in numpy, llama-imatrix beside it when FARSEEK_LLAMA_IMATRIX names that program
of llama.cpp, what the sums change, equal bytes, records, refusals."""
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import safetensors.numpy

import scripted
from conftest import VECTORS, interrupted

gguf = pytest.importorskip("gguf")
LLAMA = os.environ.get("FARSEEK_LLAMA_IMATRIX")
TEXT = "".join(chr(32 + (i * i // 7 + 3 * i) % 90) for i in range(1700)) + "Żółw.\n"
CTX = 96  # of the small models, and so of their windows


def tensors(path):
    return {t.name: np.array(t.data, np.float64) for t in gguf.GGUFReader(path).tensors}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A llama whose every weight counts; a byte is a token."""
    folder = scripted.write_model(tmp_path_factory.mktemp("small"), ["a", "b"], ctx=CTX)
    rng, file = np.random.default_rng(1), folder / "model.safetensors"
    x = {k: (0.15 * rng.standard_normal(t.shape) + ("norm" in k)).astype(np.float32) for k, t in safetensors.numpy.load_file(file).items()}
    safetensors.numpy.save_file(x, file)
    return folder


def with_tokenizer(fixture, folder):
    """A fixture that can read: a byte is a token."""
    scripted.write_model(folder, ["a", "b"])
    for name in ("model.safetensors", "config.json"):
        shutil.copy(VECTORS / fixture / name, folder / name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | dict(max_position_embeddings=CTX)) if fixture == "llama3" else json.dumps(config))
    return folder


def sums_in_numpy(folder, ids):
    """Squares of every linear's input, summed over the windows [n, CTX]: the Hub's llama, in float64."""
    w = {k: v.astype(np.float64) for k, v in safetensors.numpy.load_file(folder / "model.safetensors").items()}
    heads, kv, d = 4, 2, 16
    sums = {}

    def see(name, x):
        sums[name] = sums.get(name, 0) + (x * x).sum(0)
        return x @ w[f"model.layers.0.{name}.weight"].T if not name.startswith("lm_head") else None

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w[name]

    def rope(x):
        angle = np.arange(CTX)[:, None, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
        a, b = x[..., :d // 2], x[..., d // 2:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    for window in ids:
        x = w["model.embed_tokens.weight"][window]
        h = norm(x, "model.layers.0.input_layernorm.weight")
        q, k, v = (see(f"self_attn.{n}_proj", h).reshape(CTX, -1, d) for n in "qkv")
        q, k, v = rope(q), np.repeat(rope(k), heads // kv, 1), np.repeat(v, heads // kv, 1)
        s = np.einsum("ihd,jhd->hij", q, k) / d ** 0.5 + np.triu(np.full((CTX, CTX), -np.inf), 1)
        p = np.exp(s - s.max(-1, keepdims=True))
        o = np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v).reshape(CTX, -1)
        x = x + see("self_attn.o_proj", o)
        h = norm(x, "model.layers.0.post_attention_layernorm.weight")
        gate, up = see("mlp.gate_proj", h), see("mlp.up_proj", h)
        x = x + see("mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
        see("lm_head", norm(x, "model.norm.weight"))
    return sums


HUB = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
       "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def test_sums_are_those_of_numpy(farseek, small, text, tmp_path):
    matrix = tmp_path / "i.gguf"
    farseek("quantize", small, tmp_path / "q.gguf", "--type", "Q8_0", "--no-tokenizer", "--imatrix", text, "--save-imatrix", matrix)
    ids = [len(scripted.SPECIALS) + b for b in TEXT.encode()]
    n = len(ids) // CTX
    want = sums_in_numpy(small, np.array(ids[:n * CTX]).reshape(n, CTX))
    got = tensors(matrix)
    assert len(got) == 2 * len(want)
    for name in [f"blk.0.{k}.weight" for k in HUB] + ["output.weight"]:
        hub = "lm_head" if name == "output.weight" else HUB[name.split(".")[2]]
        assert got[name + ".counts"].tolist() == [[n * CTX]], name
        np.testing.assert_allclose(got[name + ".in_sum2"][0], want[hub], rtol=2e-5, err_msg=name)
    field = gguf.GGUFReader(matrix).get_field
    assert field("general.type").contents() == "imatrix" and field("imatrix.datasets").contents() == ["calibration.txt"]
    assert field("imatrix.chunk_count").contents() == n and field("imatrix.chunk_size").contents() == CTX


def test_a_text_is_as_good_as_its_matrix_and_threads_move_nothing(farseek, small, text, tmp_path):
    outs = [tmp_path / f"{i}.gguf" for i in range(4)]
    how = ["--type", "Q4_0", "--no-tokenizer"]
    for i, threads in enumerate((1, 3)):
        farseek("quantize", small, outs[i], *how, "--imatrix", text, "--save-imatrix", tmp_path / f"i{i}.gguf", "-t", threads)
    farseek("quantize", small, outs[2], *how, "--imatrix", tmp_path / "i0.gguf")
    farseek("quantize", small, outs[3], *how)
    assert (tmp_path / "i0.gguf").read_bytes() == (tmp_path / "i1.gguf").read_bytes()
    assert outs[0].read_bytes() == outs[1].read_bytes() == outs[2].read_bytes() != outs[3].read_bytes()
    # what counts is nearer: the output's error over these inputs
    sums, f32 = tensors(tmp_path / "i0.gguf"), safetensors.numpy.load_file(small / "model.safetensors")
    for name in ["blk.0.attn_output.weight"]:  # the others have rows of 272
        want = f32[f"model.layers.0.{HUB[name.split('.')[2]]}.weight"]
        error = []
        for path in (outs[0], outs[3]):
            t = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
            error.append(float((((gguf.dequantize(t.data, t.tensor_type) - want) ** 2) * sums[name + ".in_sum2"]).sum()))
        assert error[0] < 0.99 * error[1], (name, error)


@pytest.mark.parametrize("fixture, counts", [("ds_v3", ["attn_k_b", "attn_v_b", "attn_kv_b", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"]),
                                             ("ds_v32", ["indexer.attn_q_b", "attn_v_b"]), ("ds_v4_mtp", ["attn_output_a", "ffn_down_exps", "attn_q_b"]),
                                             ("deepseek_moe", ["attn_q", "ffn_down_exps"]), ("qwen2_tied", ["attn_output"])])
def test_every_architecture(farseek, text, tmp_path, fixture, counts):
    folder = with_tokenizer(fixture, tmp_path / "m")
    r = farseek("quantize", folder, tmp_path / "q.gguf", "--type", "Q4_0", "--no-tokenizer", "--imatrix", text, "--save-imatrix", tmp_path / "i.gguf",
                check=False)
    assert r.returncode == 0 and r.stderr.startswith("importance: 3 windows of 512 tokens")
    got, config = tensors(tmp_path / "i.gguf"), json.loads((folder / "config.json").read_text())
    for name in counts:
        c, s = got[f"blk.1.{name}.weight.counts"], got[f"blk.1.{name}.weight.in_sum2"]
        assert s.shape[0] == c.shape[0] and (s >= 0).all() and s.sum() > 0
        if "_exps" in name:
            assert c.sum() == 1536 * config["num_experts_per_tok"]
        else:
            assert (c == (1536 * config.get("o_groups", 0) if name == "attn_output_a" else 1536)).all(), name
    if config.get("num_nextn_predict_layers"):
        last = config["num_hidden_layers"]
        assert got[f"blk.{last}.ffn_down_exps.weight.counts"].sum() == 3 * 511 * config["num_experts_per_tok"]
    if config.get("tie_word_embeddings"):
        assert got["token_embd.weight.counts"].tolist() == [[1536]]
    assert json.loads(farseek("logits", tmp_path / "q.gguf", "--ids", "1,2,3", "--json"))["top_ids"]


def test_experts_that_saw_little(farseek, text, tmp_path):
    """Counted in a sentence; gate and up of an expert without tokens are quantised by what the others saw, its down as without importance."""
    folder = with_tokenizer("ds_v3", tmp_path / "m")
    file = folder / "model.safetensors"
    import importlib
    import sys
    sys.path.insert(0, str(VECTORS))
    twins = importlib.import_module("make_gguf_twins")
    x = {k: np.array(v, np.float32) for k, v in twins.read_tensors(file).items()}
    for k in x:
        if k.endswith("e_score_correction_bias"):
            x[k][5] = -100
    safetensors.numpy.save_file(x, file)
    r = farseek("quantize", folder, tmp_path / "q.gguf", "--type", "Q4_0", "--no-tokenizer", "--imatrix", text, "--save-imatrix", tmp_path / "i.gguf",
                check=False)
    layers = [i for i in range(4) if f"blk.{i}.ffn_gate_exps.weight.counts" in tensors(tmp_path / "i.gguf")]
    counts = np.concatenate([tensors(tmp_path / "i.gguf")[f"blk.{i}.ffn_gate_exps.weight.counts"].ravel() for i in layers])
    assert r.returncode == 0
    assert f"; of {counts.size} experts {(counts == 0).sum()} were chosen by no token and {((counts > 0) & (counts < 32)).sum()} by fewer than 32\n" in r.stderr
    assert (counts == 0).sum() >= len(layers)
    farseek("quantize", folder, tmp_path / "plain.gguf", "--type", "Q4_0", "--no-tokenizer")
    got, plain = ({t.name: np.array(t.data) for t in gguf.GGUFReader(tmp_path / n).tensors} for n in ("q.gguf", "plain.gguf"))
    assert not np.array_equal(got["blk.1.ffn_gate_exps.weight"][5], plain["blk.1.ffn_gate_exps.weight"][5])
    assert np.array_equal(got["blk.1.ffn_down_exps.weight"][5], plain["blk.1.ffn_down_exps.weight"][5])


def test_it_is_recorded_and_done_again(farseek, small, text, tmp_path):
    farseek("quantize", small, tmp_path / "q.gguf", "--type", "Q4_1", "--no-tokenizer", "--imatrix", text)
    record = (tmp_path / "q.gguf.rec").read_text()
    assert "imatrix\n" in record and "recipe importance text, windows of 512\n" in record
    r = json.loads(farseek("verify", tmp_path / "q.gguf", "--rerun", small, "--work", tmp_path, "--imatrix", text, "--json"))
    assert r["rerun"] and not r["wrong"]
    assert not [p for p in tmp_path.iterdir() if "imatrix" in p.name]


def test_refusals_leave_nothing(farseek, small, text, tmp_path):
    short = tmp_path / "short"
    short.write_text("a short text")

    def refused(*args, model=small):
        r = farseek("quantize", model, tmp_path / "q.gguf", "--type", "Q4_0", "--no-tokenizer", *args, check=False)
        assert r.returncode in (1, 2)
        return r.stderr

    assert "needs a longer text" in refused("--imatrix", short)
    assert "no such file" in refused("--imatrix", tmp_path / "none").lower()
    assert "there is none" in refused("--save-imatrix", tmp_path / "i.gguf")
    assert "has no tokenizer" in refused("--imatrix", text, model=VECTORS / "ds_v3")
    farseek("quantize", small, tmp_path / "x.gguf", "--type", "Q4_0", "--no-record", "--no-tokenizer", "--imatrix", text, "--save-imatrix", tmp_path / "i.gguf")
    assert "is an importance matrix already" in refused("--imatrix", tmp_path / "i.gguf", "--save-imatrix", tmp_path / "j.gguf")
    r = farseek("quantize", VECTORS / "ds_v3", tmp_path / "hub", "--type", "FP8", "--imatrix", text, check=False)
    assert r.returncode == 2 and "--imatrix is for GGUF" in r.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.gguf", "short", "x.gguf"]


def test_ctrl_c_leaves_nothing(farseek, small, tmp_path):
    (tmp_path / "long.txt").write_text(TEXT * 4000)
    run = os.environ.get("FARSEEK", "build/farseek").split()
    interrupted([*run, "quantize", small, tmp_path / "q.gguf", "--type", "Q4_0", "--no-tokenizer", "--imatrix", tmp_path / "long.txt"],
                lambda p: list(tmp_path.glob("q.gguf.imatrix*")), (tmp_path / "q.gguf").unlink, more_s=1)
    assert [q.name for q in tmp_path.iterdir()] == ["long.txt"]


@pytest.mark.skipif(not LLAMA, reason="FARSEEK_LLAMA_IMATRIX names no llama-imatrix of llama.cpp")
@pytest.mark.parametrize("fixture", ["small", "llama3", "ds_v3", "deepseek_moe"])
def test_sums_are_those_of_llama_imatrix(farseek, small, text, tmp_path, fixture):
    """Where both have a matrix; llama.cpp leaves out the head."""
    folder = small if fixture == "small" else with_tokenizer(fixture, tmp_path / "m")
    convert = scripted.write_model(tmp_path / "t", ["a", "b"], use_regex=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(convert / name, folder / name)
    farseek("convert", folder, tmp_path / "f32.gguf", "--no-mtp")
    farseek("quantize", tmp_path / "f32.gguf", tmp_path / "q.gguf", "--type", "Q8_0", "--imatrix", text, "--save-imatrix", tmp_path / "ours.gguf")
    ours = tensors(tmp_path / "ours.gguf")
    window = gguf.GGUFReader(tmp_path / "ours.gguf").get_field("imatrix.chunk_size").contents()
    r = subprocess.run([LLAMA, "-m", tmp_path / "f32.gguf", "-f", text, "-o", tmp_path / "theirs.gguf", "-c", str(window), "-b", str(window), "--no-ppl",
                        "-ctk", "f32", "-ctv", "f32", "-fa", "off"],
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-2000:]
    theirs, worst = tensors(tmp_path / "theirs.gguf"), (0, "")
    names = [k.removesuffix(".in_sum2") for k in theirs if k.endswith(".in_sum2") and "ffn_gate_inp" not in k]  # which nobody quantises
    assert len(names) > 6
    for name in names:
        (a, n), (b, m) = ((x[name + ".in_sum2"].ravel(), x[name + ".counts"].ravel()) for x in (ours, theirs))
        if fixture == "ds_v3" and "_exps" in name:  # near ties of the router fall otherwise for a token in a hundred
            assert np.abs(n - m).sum() < 0.03 * m.sum() == 0.03 * n.sum(), name
            continue
        assert np.array_equal(n, m) or (name.endswith("_b.weight") and set(n) == set(m)), name  # theirs: one count for all heads
        worst = max(worst, (float(np.abs(a - b).max() / b.max()), name))
    print(f"{fixture}: {len(names)} matrices, the largest difference {worst[0]:.2g} of the largest sum, {worst[1]}")
    assert worst[0] < (5e-2 if fixture == "ds_v3" else 1e-2)
