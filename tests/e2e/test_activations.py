"""Quantised activations (RN1 section 6): models whose weights are GGUF blocks against a float64 model of the definition
(block_models.py), and against themselves: one answer on every instruction set, chunk, thread count and neighbour."""
import json

import numpy as np
import pytest

from block_models import TYPES, Dense, Experts, T
from conftest import VECTORS

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 97, 300, 23, 8, 46, 264, 33, 83]
MODELS_MAX = 12
KINDS = [(t,) for t in TYPES] + [tuple(TYPES)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(Dense or Experts, types, seed) -> the model and its file."""
    folder, known = tmp_path_factory.mktemp("blocks"), {}

    def make(form, kinds, seed=0):
        if (form, kinds, seed) not in known:
            model, path = form(kinds, seed), folder / f"{form.__name__}-{len(known)}.gguf"
            model.save(path)
            known[form, kinds, seed] = model, path
        return known[form, kinds, seed]

    return make


@pytest.mark.parametrize("kinds", KINDS, ids=lambda k: "+".join(t.name for t in k) if len(k) == 1 else "mixed")
@pytest.mark.parametrize("form", [Dense, Experts])
def test_is_the_definition(logits, made, form, kinds):
    """Both modes. An activation next to the middle of two codes or two bf16 may fall to the other one in float64, after which many
    do: one of MODELS_MAX models must be free of that, and none may be as far as the other mode is."""
    for exact in (False, True):
        errors = []
        while not errors or errors[-1] > 2e-5 and len(errors) < MODELS_MAX:
            model, path = made(form, kinds, len(errors))
            got = logits(path, IDS, *(["--exact-activations"] if exact else []))
            assert got["activations"] == ("exact" if exact or kinds == (T.IQ3_S,) and form is Dense else "q8")
            want, other = model.logits(IDS, exact)[-1], model.logits(IDS, not exact)[-1]
            errors.append(np.abs(got["last"] - want).max())
            step = np.abs(want - other).max()
            print(f"{form.__name__} exact={exact}: {errors[-1]:.1e} from the definition, {step:.1e} between the modes")
            assert errors[-1] < max(step, 2e-5)
        assert errors[-1] <= 2e-5


@pytest.mark.parametrize("kinds", KINDS, ids=lambda k: "+".join(t.name for t in k) if len(k) == 1 else "mixed")
@pytest.mark.parametrize("form", [Dense, Experts])
def test_equal_bits(farseek, made, tmp_path, form, kinds):
    _, path = made(form, kinds)
    run = lambda *args: farseek("logits", path, "--ids", ",".join(map(str, IDS)), "--greedy", 8, "--json", *args)
    want = run("--threads", 1, "--isa", "scalar")
    for isa in json.loads(farseek("doctor", "--json"))["isa"]:
        assert run("--isa", isa, "--chunk", 7, "--threads", 2) == want
        assert run("--isa", isa, "--threads", 3) == want
        assert run("--isa", isa, "--mmap", "--chunk", 7, "--threads", 2) == want
    assert run("--sandbox") == want  # experts are packed at their first use
    assert run("--sandbox", "--mmap") == want
    beside = tmp_path / "batch.json"
    beside.write_text(json.dumps({"batch": [[7, 8, 9], IDS[::-1], [300] * 30]}))
    assert run("--batch-with", beside) == want
    assert run("--batch-with", beside, "--chunk", 1, "--threads", 2) == want


@pytest.mark.parametrize("form", [Dense, Experts])
def test_equal_bits_over_several_blocks_of_keys(farseek, made, tmp_path, form):
    """Attention of both classes behind hundreds of tokens: bits of one class do not move, and the classes differ."""
    _, path = made(form, (T.Q4_0, T.Q8_0))
    ids, beside = np.random.default_rng(5).integers(0, 320, 541), tmp_path / "batch.json"
    beside.write_text(json.dumps({"batch": [[7, 8, 9], ids[:300].tolist()]}))
    run = lambda *args: farseek("logits", path, "--ids", ",".join(map(str, ids)), "--greedy", 5, "--json", *args)
    want = {kv: run("--threads", 1, "--isa", "scalar", "--kv-type", kv) for kv in ("f32", "bf16", "q8")}
    assert run() == want["bf16"] and json.loads(want["bf16"])["kv_type"] == "bf16"
    answers = {kv: json.loads(w) for kv, w in want.items()}
    assert all(a["kv_type"] == kv for kv, a in answers.items())
    assert len({json.dumps(a["last"]) for a in answers.values()}) == 3
    for kv in want:
        for isa in json.loads(farseek("doctor", "--json"))["isa"]:
            assert run("--kv-type", kv, "--isa", isa, "--threads", 2) == want[kv]
        for args in (["--chunk", 100, "--threads", 3], ["--chunk", 1, "--threads", 2], ["--batch-with", beside, "--threads", 2]):
            assert run("--kv-type", kv, *args) == want[kv]


def test_cache_type_is_named(farseek, logits, made):
    """Exact activations keep an f32 cache unless they are asked not to; the cache of bf16 takes half the memory."""
    _, path = made(Experts, (T.Q4_0,))
    exact = logits(path, IDS, "--exact-activations")
    assert exact["kv_type"] == "f32" and logits(path, IDS, "--exact-activations", "--kv-type", "bf16")["kv_type"] == "bf16"
    r = farseek("logits", path, "--ids", "1", "--kv-type", "f16", check=False)
    assert r.returncode and "f32|bf16|q8" in r.stderr
    report = json.loads(farseek("inspect", path, "--json"))
    assert report["kv_type"] == "bf16" and report["kv_bytes_per_token"] == 2 * 2 * (256 + 16)
    report = logits(path, IDS, "--kv-type", "q8")
    assert report["kv_type"] == "q8"


@pytest.mark.parametrize("model", ["ds_v32", "ds_v4"])
@pytest.mark.parametrize("kv, word", [("bf16", "bf16"), ("q8", "8-bit")])
def test_attention_that_chooses_keys_has_one_cache(farseek, model, kv, word):
    r = farseek("logits", VECTORS / model, "--ids", "1", "--kv-type", kv, check=False)
    assert r.returncode and f"no {word} cache" in r.stderr


@pytest.mark.parametrize("model", ["qwen3", "ds_v2_lite"])
def test_rows_of_8_bits_come_near(logits, model):
    ids, where = list(range(3, 43)), VECTORS / model
    exact, eight = (np.array(logits(where, ids, "--kv-type", kv)["last"]) for kv in ("f32", "q8"))
    assert 0 < np.abs(exact - eight).max() < 0.05 * np.abs(exact).max()
