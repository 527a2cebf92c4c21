"""farseek perplexity: against transformers on SmolLM2 (tests/vectors/make_smollm2_perplexity.py), and against the definitions of
docs/perplexity.md in numpy on the logits that it saves."""
import json
import math
import struct

import numpy as np
import pytest
import safetensors.numpy

import scripted
from conftest import VECTORS
from test_smollm2 import smollm2  # noqa: F401: the fixture

TEXT = "The quick brown fox jumps over the lazy dog. " * 9 + "Żółw.\n"


def model(folder, pieces=("a", "b"), bos=False, noise=0):
    """A small model whose every weight counts, the same but for the noise; a byte is a token."""
    scripted.write_model(folder, pieces)
    rng, other = np.random.default_rng(1), np.random.default_rng(2)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    for name, t in tensors.items():
        if "norm" not in name:
            tensors[name] = (0.15 * rng.standard_normal(t.shape) + noise * other.standard_normal(t.shape)).astype(np.float32)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    if bos:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        first = scripted.SPECIALS[0]
        tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": first, "type_id": 0}},
                                                                                  {"Sequence": {"id": "A", "type_id": 0}}],
                                       "pair": [], "special_tokens": {first: {"id": first, "ids": [0], "tokens": [first]}}}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("perplexity")
    (folder / "text").write_text(TEXT)
    return model(folder / "one"), model(folder / "two", noise=0.02), folder / "text"


@pytest.fixture
def measure(farseek):
    return lambda *args, **kw: json.loads(farseek("perplexity", *args, "--json", **kw))


def saved(path):
    """Header numbers, ids, and rows of a file of --save-logits."""
    data = path.read_bytes()
    v, ctx, first, stride, n, zero = struct.unpack_from("<6I", data, 8)
    n_ids = (n - 1) * stride + ctx
    assert data[:8] == b"FSLOGIT1" and zero == 0
    ids = np.frombuffer(data, "<i4", n_ids, 32)
    rows = np.frombuffer(data, "<f4", offset=32 + 4 * n_ids).reshape(n, ctx - 1 - first, v)
    return (v, ctx, first, stride, n), ids, rows.astype(np.float64)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_transformers_finds_the_same(measure, smollm2, tmp_path):
    vectors = json.loads((VECTORS / "smollm2_perplexity.json").read_text())
    (tmp_path / "text").write_text(vectors["text"])
    worst = 0
    for want in vectors["cases"]:
        got = measure(smollm2, tmp_path / "text", "--ctx", want["ctx"], "--stride", want["stride"], "--exact-activations")
        assert (got["tokens"], got["scored_tokens"]) == (vectors["tokens"], want["scored_tokens"])
        worst = max(worst, *(abs(got[k] - want[k]) / want[k] for k in ("perplexity", "nll", "nll_error")))
    print(f"largest relative difference {worst:.1e}")
    assert worst < 1e-4


@pytest.mark.parametrize("ctx, stride", [(64, 0), (33, 0), (50, 7), (5, 4), (512, 0)])
def test_every_number_is_the_definition(measure, two, tmp_path, ctx, stride):
    one, other, text = two
    if ctx == 512:
        (tmp_path / "long").write_text(TEXT * 3)
        text = tmp_path / "long"
    args = (text, "--ctx", ctx, "--stride", stride)
    measure(other, *args, "--save-logits", tmp_path / "base")
    got = measure(one, *args, "--save-logits", tmp_path / "logits", "--kl", other)
    (v, c, first, step, n), ids, rows = saved(tmp_path / "logits")
    _, base_ids, base_rows = saved(tmp_path / "base")
    assert (c, step, first) == (ctx, stride or ctx, ctx - 1 - stride if stride else ctx // 2)
    assert n == (got["tokens"] - ctx) // step + 1 == got["windows"] and (ids == base_ids).all()

    lq, lp = log_softmax(rows), log_softmax(base_rows)
    right = np.array([ids[w * step + first + 1 : w * step + ctx] for w in range(n)])
    at = lambda x: np.take_along_axis(x, right[..., None], -1)[..., 0]
    nll, base_nll, kl = -at(lq), -at(lp), (np.exp(lp) * (lp - lq)).sum(-1)
    dp = np.exp(-nll) - np.exp(-base_nll)
    error = lambda x: x.std(ddof=1) / math.sqrt(x.size)
    same = (rows.argmax(-1) == base_rows.argmax(-1)).astype(float)
    close = lambda a, b: a == pytest.approx(b, rel=1e-10, abs=1e-13)
    assert got["scored_tokens"] == nll.size
    assert close(got["nll"], nll.mean()) and close(got["nll_error"], error(nll))
    assert close(got["perplexity"], math.exp(nll.mean())) and close(got["perplexity_error"], math.exp(nll.mean()) * error(nll))
    assert close(got["window_nll"], list(nll.mean(-1)))
    b = got["base"]
    assert close(b["perplexity"], math.exp(base_nll.mean())) and close(b["ratio"], math.exp((nll - base_nll).mean()))
    assert close(b["ratio_error"], b["ratio"] * error(nll - base_nll))
    assert close(b["kl"], kl.mean()) and close(b["kl_error"], error(kl)) and close(b["kl_min"], kl.min()) and close(b["kl_max"], kl.max())
    assert close(b["same_top"], same.mean()) and close(b["same_top_error"], error(same)) and 0 < same.mean() < 1
    assert close(b["dp"], dp.mean()) and close(b["dp_error"], error(dp)) and close(b["dp_rms"], math.sqrt((dp**2).mean()))
    for percent, value in b["kl_percentiles"].items():
        assert close(value, np.percentile(kl, float(percent)))

    # The saved file stands for the model, threads and windows at once change nothing, and a model is like itself.
    assert measure(one, *args, "--kl", tmp_path / "base")["base"] == b
    alone = measure(one, *args, "--chunks", 1, "--threads", 1, "--kl", tmp_path / "base")
    assert alone["window_nll"] == got["window_nll"][:1] and alone["windows"] == 1
    self = measure(one, *args, "--kl", tmp_path / "logits")["base"]
    assert (self["kl"], self["kl_max"], self["ratio"], self["same_top"], self["dp_rms"]) == (0, 0, 1, 1, 0)


def test_every_window_begins_as_the_tokenizer_says(measure, logits, tmp_path):
    """A window's first token gives way to the beginning-of-text token, as in llama.cpp."""
    m = model(tmp_path / "m", bos=True)
    measure(m, "-", "--ctx", 20, "--save-logits", tmp_path / "logits", stdin=TEXT)
    _, ids, rows = saved(tmp_path / "logits")
    assert ids[0] == 0 and 0 not in ids[1:]
    last = lambda ids: np.float32(logits(m, ids)["last"])
    assert (rows[1][-1] == last([0, *ids[21:39]])).all() and (rows[1][-1] != last(ids[20:39])).any()


def test_the_text_for_people(farseek, two):
    out = farseek("perplexity", two[0], two[2], "--ctx", 64, "--kl", two[1])
    for word in ("windows ", "perplexity ", "against ", "KL divergence ", "same best token "):
        assert f"\n{word}" in "\n" + out


def test_what_cannot_be_measured_is_said(farseek, two, tmp_path):
    one, other, text = two

    def fails(code, sentence, *args):
        r = farseek("perplexity", *args, check=False)
        assert r.returncode == code and r.stdout == "" and r.stderr.startswith("farseek: ") and r.stderr.count("\n") == 1
        assert sentence in r.stderr, r.stderr

    (tmp_path / "short").write_text("abc")
    fails(2, "has 3 tokens, one window has 512: a longer text, or a smaller --ctx", one, tmp_path / "short")
    fails(2, "--ctx is 513, the model was made for at most 512", one, text, "--ctx", 513)
    fails(2, "--stride is 64, a window has 64 tokens, so at most 63", one, text, "--ctx", 64, "--stride", 64)
    fails(1, "none'", one, tmp_path / "none")
    fails(1, "none'", one, text, "--ctx", 64, "--kl", tmp_path / "none")
    fails(1, "folder/x'", one, text, "--ctx", 64, "--save-logits", tmp_path / "folder" / "x")
    bigger = model(tmp_path / "bigger", pieces=[f"p{i}" for i in range(40)])
    fails(2, "they cannot be compared", one, text, "--ctx", 64, "--kl", bigger)
    fails(2, "make other tokens of the text", one, text, "--ctx", 64, "--kl", model(tmp_path / "bos", bos=True))
    farseek("perplexity", one, text, "--ctx", 64, "--save-logits", tmp_path / "saved")
    fails(2, "give the same --ctx and --stride", one, text, "--ctx", 65, "--kl", tmp_path / "saved")
    data = (tmp_path / "saved").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-1])
    fails(1, "cut short", one, text, "--ctx", 64, "--kl", tmp_path / "cut")
    (tmp_path / "nan").write_bytes(data[:-4] + struct.pack("<f", math.nan))
    fails(1, "the saved logits may be damaged", one, text, "--ctx", 64, "--kl", tmp_path / "nan", "--save-logits", tmp_path / "kept")
    (one / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    try:
        fails(1, "has no tokenizer", one, text)
    finally:
        (tmp_path / "tokenizer.json").rename(one / "tokenizer.json")
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name or p.name == "kept"]
