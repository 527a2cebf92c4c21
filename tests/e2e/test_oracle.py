"""Every architecture against transformers' float64 answers, and against itself: one hash of the logits whatever the
threads, chunks, instruction set or neighbours are. Fixtures: tests/vectors/README.md."""
import json

import pytest

from conftest import VECTORS

MODELS = ["ds_v2_lite", "ds_v2_group", "ds_v3", "ds_v3_fp8", "qwen2", "qwen2_tied", "qwen3", "llama3", "llama_linear",
          "long_qwen2", "long_ds_v2_lite", "long_ds_v3", "ds_v32", "long_ds_v32", "deepseek_moe", "ds_v4",
          "long_ds_v4", "ds_v4_fp4", "ds_v4_mtp"]
MTP = ["ds_v3", "ds_v4_mtp"]
TOLERANCE = 2e-4  # the aim; its condition is 1e-3


def expected(model):
    return json.loads((VECTORS / model / "expected.json").read_text())


def isas(farseek):
    return json.loads(farseek("doctor", "--json"))["isa"]


def max_error(got, want):
    """Largest distance of the last vector and of every position's ten best."""
    worst = max(abs(a - b) for a, b in zip(got["last"], want["last"], strict=True))
    assert len(got["top_ids"]) == len(want["top_ids"])
    for ids, values, want_ids, want_values in zip(got["top_ids"], got["top_logits"], want["top_ids"], want["top_logits"], strict=True):
        have = dict(zip(ids, values))
        for i, v in zip(want_ids, want_values, strict=True):
            assert i in have or abs(v - values[-1]) < TOLERANCE, "an id of the ten best is missing"
            worst = max(worst, abs(have.get(i, values[-1]) - v))
    return worst


@pytest.mark.parametrize("model", MODELS)
def test_logits_equal_the_reference(logits, model):
    e = expected(model)
    got = logits(VECTORS / model, e["prompt"], "--greedy", 24)
    want = dict(last=e["logits"]["last"], top_ids=e["logits"]["top10_ids"], top_logits=e["logits"]["top10_logits"])
    error = max_error(got, want)
    print(f"{model}: largest difference {error:.1e}")
    assert error < TOLERANCE
    assert got["greedy"] == e["greedy"]["tokens"]
    short = logits(VECTORS / model, e["short"]["prompt"])
    assert max(abs(a - b) for a, b in zip(short["last"], e["short"]["last"], strict=True)) < TOLERANCE


@pytest.mark.parametrize("model", MTP)
def test_mtp_equals_the_reference(logits, model):
    e = expected(model)
    got = logits(VECTORS / model, e["prompt"], "--mtp")["mtp"]
    want = dict(last=e["mtp"]["last_logits"], top_ids=e["mtp"]["top10_ids"], top_logits=e["mtp"]["top10_logits"])
    error = max_error(got, want)
    print(f"{model}, MTP: largest difference {error:.1e}")
    assert error < TOLERANCE


@pytest.mark.parametrize("model", MODELS)
def test_equal_bits(farseek, model, tmp_path):
    e = expected(model)
    ids = ",".join(map(str, e["prompt"]))
    neighbours = tmp_path / "batch.json"
    neighbours.write_text(json.dumps({"batch": [e["prompt"][::-1], e["prompt"][:5], [3]]}))

    def run(*args):
        mtp = ["--mtp"] if model in MTP and "--batch-with" not in args else []
        return farseek("logits", VECTORS / model, "--ids", ids, "--greedy", 24, "--json", *mtp, *args)

    want = run("--threads", 1)
    for args in (["--threads", t] for t in (2, 3)):
        assert run(*args) == want, args
    for chunk in (1, 7, 64, 256):
        assert run("--chunk", chunk) == want, f"chunk {chunk}"
    assert run("--mmap") == want, "mapped"
    assert run("--mmap", "--chunk", 3, "--threads", 3) == want, "mapped"
    for isa in isas(farseek):
        assert run("--isa", isa, "--chunk", 64) == want, isa
        assert run("--isa", isa, "--threads", 2) == want, isa
    plain = json.loads(want)
    plain.pop("mtp", None)
    for chunk in (5, 64):
        assert json.loads(run("--batch-with", neighbours, "--chunk", chunk)) == plain, f"neighbours, chunk {chunk}"
