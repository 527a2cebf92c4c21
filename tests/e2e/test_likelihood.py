"""farseek eval on suites of multiple choice and of texts: what is printed is what the logits of the same tokens give."""
import json
import math

import numpy as np
import pytest

import scripted
from test_distil import every_logit, log_softmax
from test_eval import score, suite
from test_grpo import folder  # noqa: F401: a small trained model


@pytest.fixture(scope="module")
def coin(tmp_path_factory):
    """After a line end it says 8 or 3, each half of the time; then it ends."""
    return scripted.write_model(tmp_path_factory.mktemp("coin") / "m", ["8"], fork=["3"])


def read(path):
    return [json.loads(x) for x in path.read_text().splitlines()]


def test_choices_by_a_known_model(farseek, tmp_path, coin):
    s = suite(tmp_path / "s.jsonl", {"prompt": "a\n", "choices": ["8", "x"], "answer": 0}, {"prompt": "a\n", "choices": ["y", "3"], "answer": "3"},
              {"prompt": "b\n", "choices": ["8", "z"], "answer": 1}, {"prompt": "b", "choices": ["\n3", "\nxx"], "answer": 0})
    r = score(farseek, coin, s, "-o", tmp_path / "o.jsonl")
    assert r["problems"] == 4 and r["right"] == r["right_byte"] == 0.75 and abs(r["right_error"] - math.sqrt(0.75 * 0.25 / 3)) < 1e-6
    out = read(tmp_path / "o.jsonl")
    assert [x["chosen"] for x in out] == [0, 1, 0, 0] and [x["answer"] for x in out] == [0, 1, 1, 0]
    assert out[0]["log_likelihood"][0] == out[1]["log_likelihood"][1] > out[0]["log_likelihood"][1] + 10  # half of the time each; the line end counts with both
    assert "multiple choice" in farseek("eval", coin, s) and score(farseek, coin, s, "--count", 2)["right"] == 1



def test_values_are_the_logits(farseek, logits, folder, tmp_path):  # noqa: F811
    model = folder / "base" / "step-00000008"
    items = [{"prompt": "3+4*2=", "choices": ["7>4", "4", "4>7>1>1"], "answer": 1}, {"prompt": "3+4*2= ", "choices": ["7", "5"], "answer": 0}]
    farseek("eval", model, suite(tmp_path / "s.jsonl", *items), "-o", tmp_path / "o.jsonl")
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(model / "tokenizer.json"))
    for item, got in zip(items, read(tmp_path / "o.jsonl")):
        n = len(tokenizer.encode(item["prompt"].rstrip(), add_special_tokens=False).ids)
        want = []
        for c in item["choices"]:
            ids = tokenizer.encode(item["prompt"] + c, add_special_tokens=False).ids
            p = log_softmax(every_logit(logits(model, ids, "--top", 257)))
            want.append(sum(p[i - 1, ids[i]] for i in range(n, len(ids))))
        assert np.allclose(got["log_likelihood"], want, rtol=0, atol=1e-6 * len(want)), (got, want)
        assert got["chosen"] == int(np.argmax(want)) and got["chosen_byte"] == int(np.argmax([w / len(c) for w, c in zip(want, item["choices"])]))
    texts = [{"text": "3+4*2=7>4"}, {"text": "1+1=2"}, {"text": "9-" * 700}]  # the last is longer than the context
    r = score(farseek, model, suite(tmp_path / "t.jsonl", *texts), "-o", tmp_path / "o.jsonl")
    nll, ctx = [], json.loads((model / "config.json").read_text())["max_position_embeddings"]
    for t in texts:
        ids, total = tokenizer.encode(t["text"], add_special_tokens=False).ids, 0
        for at in range(0, len(ids), ctx):
            piece = ids[at:at + ctx]
            if len(piece) > 1:
                p = log_softmax(every_logit(logits(model, piece, "--top", 257)))
                total -= sum(p[i - 1, piece[i]] for i in range(1, len(piece)))
        nll.append(total)
    out = read(tmp_path / "o.jsonl")
    assert np.allclose([x["nll"] for x in out], nll, rtol=1e-6) and len(tokenizer.encode(texts[2]["text"]).ids) > ctx
    n = sum(x["tokens"] for x in out)
    assert r["tokens"] == n and r["bytes"] == sum(len(t["text"]) for t in texts)
    assert abs(r["perplexity"] / math.exp(sum(nll) / n) - 1) < 1e-5 and abs(r["bits_byte"] / (sum(nll) / r["bytes"] / math.log(2)) - 1) < 1e-5
    for way in (("--threads", 1), ("--isa", "scalar", "--threads", 3)):
        assert {**score(farseek, model, tmp_path / "t.jsonl", *way), "seconds": 0} == {**r, "seconds": 0}


@pytest.mark.parametrize("line, word", [
    ({"prompt": "a", "choices": ["x"], "answer": 0}, "two choices"), ({"prompt": "a", "choices": ["x", "y"], "answer": 2}, "the answer is no index"),
    ({"prompt": "a", "choices": ["x", "y"], "answer": "z"}, "none of the choices"), ({"prompt": "a", "choices": ["x", 1], "answer": 0}, "choice 1 is no text"),
    ({"choices": ["x", "y"], "answer": 0}, "no prompt"), ({"text": 5}, "no text"), ({"text": ""}, "nothing to foretell"),
    ({"prompt": "a" * 600, "choices": ["x", "y"], "answer": 0}, "fit")])
def test_what_cannot_be_measured(farseek, tmp_path, coin, line, word):
    r = farseek("eval", coin, suite(tmp_path / "s.jsonl", line), "-o", tmp_path / "out.jsonl", check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr
    assert not list(tmp_path.glob("out*"))
