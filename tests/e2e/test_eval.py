"""farseek eval over models that say what a test wants: pass@1 and pass@k from what was said, judged by task, value or text."""
import json
import math

import pytest

import scripted


def suite(path, *items):
    path.write_text("".join(json.dumps(x) + "\n" for x in items))
    return path


def score(farseek, *args):
    return json.loads(farseek("eval", *args, "--json"))


@pytest.fixture(scope="module")
def coin(tmp_path_factory):
    """Says 8 or 3, each half of the time."""
    return scripted.write_model(tmp_path_factory.mktemp("coin") / "m", ["8"], fork=["3"])


def test_greedy_answers_are_counted(farseek, tmp_path):
    m = scripted.write_model(tmp_path / "m", ["The answer is ", "1/2", "."])
    s = suite(tmp_path / "s.jsonl", {"prompt": "half?", "answer": "0.5"}, {"prompt": "third?", "answer": "1/3"}, {"prompt": "half!", "answer": "\\frac{2}{4}"})
    r = score(farseek, m, s, "-o", tmp_path / "out.jsonl")
    assert (r["problems"], r["samples"], r["temperature"]) == (3, 1, 0) and abs(r["pass_1"] - 2 / 3) < 1e-6 and r["truncated"] == 0
    assert abs(r["pass_1_error"] - math.sqrt(2 / 3 * 1 / 3 * 3 / 2 / 3)) < 1e-6  # of the mean of 1, 0, 1
    out = [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [x["verdict"] for x in out] == ["right", "well-formed", "right"] and all(x["output"] == "The answer is 1/2." and x["tokens"] == 4 for x in out)
    assert score(farseek, m, s, "--judge", "exact")["pass_1"] == 0
    assert score(farseek, m, s, "--count", 1)["pass_1"] == 1
    assert score(farseek, m, s, "--max-tokens", 3)["truncated"] == 1
    assert "pass@1       0.6667" in farseek("eval", m, s)


def test_samples_and_pass_at_k(farseek, tmp_path, coin):
    s = suite(tmp_path / "s.jsonl", *[{"prompt": f"{i}?", "answer": "8"} for i in range(20)])
    r = score(farseek, coin, s, "--samples", 16, "--temperature", 1, "--top-p", 1, "-o", tmp_path / "out.jsonl")
    out = [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()]
    right = [sum(x["verdict"] == "right" for x in out if x["problem"] == i) for i in range(20)]
    assert 0.4 < r["pass_1"] < 0.6 and abs(r["pass_1"] - sum(right) / 320) < 1e-6 and r["pass_k"] == 1 and r["k"] == 16
    r4 = score(farseek, coin, s, "--samples", 16, "--temperature", 1, "--top-p", 1, "--pass-k", 4)
    assert abs(r4["pass_k"] - sum(1 - math.comb(16 - c, 4) / math.comb(16, 4) for c in right) / 20) < 1e-6
    for way in (("--batch", 1), ("--threads", 1), ("--isa", "scalar"), ("--batch", 7, "--threads", 3)):
        other = score(farseek, coin, s, "--samples", 16, "--temperature", 1, "--top-p", 1, *way)
        assert {k: v for k, v in other.items() if k not in ("seconds", "k", "pass_k")} == {k: v for k, v in r.items() if k not in ("seconds", "k", "pass_k")}
    assert score(farseek, coin, s, "--samples", 16, "--temperature", 1, "--seed", 1)["pass_1"] != r["pass_1"]


def test_memory_and_cache(farseek, tmp_path, coin):
    s = suite(tmp_path / "s.jsonl", {"prompt": "1?", "answer": "8"})
    assert score(farseek, coin, s, "--kv-type", "bf16", "--memory", "64MiB")["problems"] == 1
    r = farseek("eval", coin, s, "--memory", "100B", check=False)
    assert r.returncode != 0 and "the limit is 0 MiB" in r.stderr, r.stderr


def test_a_records_task_judges(farseek, tmp_path, coin):
    farseek("data", "make", "chain", tmp_path / "c.jsonl", "-n", 40, "--split", "test")
    items = [json.loads(x) for x in (tmp_path / "c.jsonl").read_text().splitlines()]
    r = score(farseek, coin, tmp_path / "c.jsonl", "-o", tmp_path / "out.jsonl")
    said = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["output"]
    assert r["well_formed"] == 1 and abs(r["pass_1"] - sum(x["answer"] == said for x in items) / 40) < 1e-6


@pytest.mark.parametrize("line, args, word", [
    ({"messages": [{"role": "user", "content": "x"}]}, (), "no problem"), ({"prompt": "x", "answer": "y"}, ("--judge", "task"), "no task"), ({"prompt": "x", "answer": "y"}, ("--samples", 4, "--temperature", 0), "greedy"),
    ({"prompt": "x", "answer": "y"}, ("--samples", 4, "--pass-k", 5), "pass@5"), ({"prompt": "x", "answer": "y"}, ("--max-tokens", 100000), "context")])
def test_what_cannot_be_measured(farseek, tmp_path, coin, line, args, word):
    r = farseek("eval", coin, suite(tmp_path / "s.jsonl", line), "-o", tmp_path / "out.jsonl", *args, check=False)
    assert r.returncode in (1, 2) and word in r.stderr and not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob("out*"))
