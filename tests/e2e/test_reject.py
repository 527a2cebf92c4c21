"""farseek data reject: what a model says rightly becomes records, the same ones whatever runs it and however often it is killed; as a stage, the
records teach the model."""
import collections
import json
import signal
import subprocess
import time

import pytest

import scripted
from test_chain import config
from test_run import BINARY


def read(path):
    return [json.loads(x) for x in path.read_text().splitlines()]


def suite(path, *items):
    path.write_text("".join(json.dumps(x) + "\n" for x in items))
    return path


@pytest.fixture(scope="module")
def coin(tmp_path_factory):
    """Says 8 or 3, each half of the time."""
    return scripted.write_model(tmp_path_factory.mktemp("coin") / "m", ["8"], fork=["3"])


@pytest.fixture
def problems(tmp_path):
    return suite(tmp_path / "p.jsonl", *[{"prompt": f"{i}?", "answer": "8"} for i in range(30)])


def test_right_completions_are_kept(farseek, tmp_path, coin, problems):
    out = tmp_path / "out.jsonl"
    counts = json.loads(farseek("data", "reject", coin, problems, out, "--samples", 8, "--repeats", "--json"))
    said = read(out)
    farseek("eval", coin, problems, "--samples", 8, "--temperature", 1, "--top-p", 1, "-o", tmp_path / "all.jsonl")
    right = [(x["problem"], x["sample"]) for x in read(tmp_path / "all.jsonl") if x["verdict"] == "right"]  # the same draws
    assert [(x["problem"], x["sample"]) for x in said] == right and all(x["answer"] == "8" and x["prompt"] == f"{x['problem']}?" for x in said)
    assert counts["right"] == counts["kept"] == len(right) and counts["completions"] == 240 and abs(counts["acceptance"] - len(right) / 240) < 1e-6
    assert counts["solved"] == len({p for p, _ in right}) and 0.35 < counts["acceptance"] < 0.65
    # alike, so one of each problem stays; sample k is the same however many are drawn
    counts = json.loads(farseek("data", "reject", coin, problems, out, "--samples", 8, "--json"))
    assert counts["repeats"] == len(right) - counts["solved"] and [x["sample"] for x in read(out)] == [min(k for q, k in right if q == p) for p in sorted({p for p, _ in right})]
    farseek("data", "reject", coin, problems, out, "--samples", 3, "--repeats")
    assert [(x["problem"], x["sample"]) for x in read(out)] == [(p, k) for p, k in right if k < 3]
    farseek("data", "reject", coin, problems, out, "--samples", 8, "--repeats", "--keep", 2)
    assert collections.Counter(x["problem"] for x in read(out)) == {p: min(2, n) for p, n in collections.Counter(p for p, _ in right).items()}
    farseek("data", "reject", coin, problems, out, "--samples", 8, "--repeats", "--rate-min", 0.3, "--rate-max", 0.5)
    share = collections.Counter(p for p, _ in right)
    assert {x["problem"] for x in read(out)} == {p for p, n in share.items() if 0.3 <= n / 8 <= 0.5}


def test_the_shortest_half(farseek, tmp_path):
    """Says 8, or a word and then 8: both are right, one is longer."""
    m = scripted.write_model(tmp_path / "m", ["8"], fork=["so "])
    config = json.loads((m / "config.json").read_text())
    p = suite(tmp_path / "p.jsonl", *[{"prompt": f"{i}?", "answer": "8"} for i in range(12)])
    assert config["vocab_size"]
    counts = json.loads(farseek("data", "reject", m, p, tmp_path / "all.jsonl", "--samples", 9, "--repeats", "--judge", "maths", "--json"))
    farseek("data", "reject", m, p, tmp_path / "half.jsonl", "--samples", 9, "--repeats", "--shortest", 0.5, "--judge", "maths")
    everything, half = read(tmp_path / "all.jsonl"), read(tmp_path / "half.jsonl")
    assert counts["kept"] == len(everything)
    for i in range(12):
        mine = sorted((x["tokens"], x["sample"]) for x in everything if x["problem"] == i)
        assert sorted(x["sample"] for x in half if x["problem"] == i) == sorted(k for _, k in mine[:(len(mine) + 1) // 2])


def test_traces_and_answers(farseek, tmp_path):
    """What was said is trace and answer again, one behind the other."""
    m = scripted.write_model(tmp_path / "m", ["7>", "4>", "3"])
    farseek("data", "make", "chain", tmp_path / "c.jsonl", "-n", 60)
    farseek("data", "reject", m, tmp_path / "c.jsonl", tmp_path / "out.jsonl", "--samples", 1)
    said = read(tmp_path / "out.jsonl")
    assert 2 <= len(said) < 20 and all((x["task"], x["trace"], x["answer"]) == ("chain", "7>4>", "3") for x in said)
    assert json.loads(farseek("data", "check", "chain", tmp_path / "out.jsonl", "--json"))["right"] == len(said)
    words = scripted.write_model(tmp_path / "w", ["It is ", "1/2"])
    p = suite(tmp_path / "p.jsonl", {"prompt": "half?", "answer": "1/2"}, {"prompt": "Half?", "answer": "0.5"}, {"prompt": "third?", "answer": "1/3"})
    farseek("data", "reject", words, p, tmp_path / "out.jsonl", "--samples", 2)
    assert [(x["prompt"], x.get("trace"), x["answer"]) for x in read(tmp_path / "out.jsonl")] == [("half?", "It is ", "1/2"), ("Half?", None, "It is 1/2")]
    counts = json.loads(farseek("data", "reject", words, p, tmp_path / "out.jsonl", "--samples", 1, "--max-tokens", 2, "--json"))
    assert (counts["right"], counts["cut off"], counts["kept"]) == (0, 3, 0)  # what has no end is not learnt


def test_one_result_whatever_runs_it(farseek, tmp_path, coin, problems):
    want = None
    for i, way in enumerate([(), ("--threads", 1, "--batch", 1), ("--isa", "scalar", "--batch", 7), ("--kv-type", "f32")]):
        farseek("data", "reject", coin, problems, tmp_path / f"{i}.jsonl", "--samples", 5, *way)
        want = want or (tmp_path / "0.jsonl").read_bytes()
        assert (tmp_path / f"{i}.jsonl").read_bytes() == want
    farseek("data", "reject", coin, problems, tmp_path / "o.jsonl", "--samples", 5, "--seed", 1)
    assert (tmp_path / "o.jsonl").read_bytes() != want
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.state"))


def test_killed_at_any_moment(farseek, tmp_path, coin):
    p = suite(tmp_path / "p.jsonl", *[{"prompt": f"{i}?", "answer": "8"} for i in range(1500)])
    farseek("data", "reject", coin, p, tmp_path / "whole.jsonl", "--samples", 4)
    command = [*BINARY, "data", "reject", coin, p, tmp_path / "k.jsonl", "--samples", "4", "--json"]
    def done():
        """Problems of the state, as they are now."""
        state = tmp_path / "k.jsonl.state"
        return json.loads(state.read_text())["problems"] if state.exists() else 0

    seen = [0]
    for _ in range(30):  # each time a little further
        q = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while done() <= seen[-1] and q.poll() is None:
            time.sleep(0.01)
        q.send_signal(signal.SIGKILL)
        q.wait()
        seen.append(done())
        if q.returncode == 0:  # it came to its end before it was looked at: once more
            (tmp_path / "k.jsonl").unlink()
            seen = [0]
        if len(seen) == 4:
            break
    assert 0 < seen[1] < seen[2] < seen[3] < 1500
    farseek("data", "reject", coin, p, tmp_path / "k.jsonl", "--samples", 4)
    assert (tmp_path / "k.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    # what another sampling left is not taken
    (tmp_path / "o.jsonl.state").write_text(json.dumps({"key": "0" * 64, "problems": 5, "bytes": 3}))
    (tmp_path / "o.jsonl.part").write_text("{}\n")
    farseek("data", "reject", coin, p, tmp_path / "o.jsonl", "--samples", 4)
    assert (tmp_path / "o.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_distilled_by_its_traces(farseek, tmp_path):
    """A chain: a teacher learns a task, answers problems, and a smaller student learns the right answers."""
    config(tmp_path)
    student = json.loads((tmp_path / "config.json").read_text())
    student.update(hidden_size=48, num_hidden_layers=1, first_k_dense_replace=1)
    (tmp_path / "student.json").write_text(json.dumps(student))
    learn = {"data": {"kind": "shards", "files": ["tokens"], "pack": "whole", "length": 256, "tokenizer": "words"}, "batch": {"rows": 4, "micro_rows": 2},
             "schedule": {"lr": 6e-3, "warmup": 2, "decay": 10}}
    form = {"stage": "tokenize", "tokenizer": "words", "format": "none", "eos": "<eos>"}
    stages = [
        {"name": "made", "stage": "make", "task": "facts", "count": 600, "max": 1, "split": "train", "test_share": 0.3},
        {"name": "asked", "stage": "make", "task": "facts", "count": 60, "max": 1, "split": "train", "test_share": 0.3, "distinct": True},
        {"name": "words", "stage": "tokenizer", "files": ["made"], "vocab_size": 257, "special": ["<eos>"], "eos": "<eos>", "pre": "gpt-2", "digits": True},
        {"name": "tokens", **form, "files": ["made"]},
        {"name": "teacher", "stage": "pretrain", "steps": 40, "model": {"config": "config.json", "init_std": 0.02}, **learn},
        {"name": "traces", "stage": "reject", "model": "teacher", "problems": "asked", "samples": 4, "max_tokens": 6},
        {"name": "taught", **form, "files": ["traces"]},
        {"name": "start", "stage": "pretrain", "steps": 1, "model": {"config": "student.json", "init_std": 0.02}, **learn},
        {"name": "student", "stage": "sft", "steps": 40, "model": {"from": "start"}, **{**learn, "data": {**learn["data"], "files": ["taught"]}}},
        {"name": "before", "stage": "eval", "model": "start", "suite": "asked", "max_tokens": 6},
        {"name": "after", "stage": "eval", "model": "student", "suite": "asked", "max_tokens": 6},
    ]
    (tmp_path / "r.yaml").write_text(json.dumps({"seed": 3, "out": "out", "stages": stages}))
    farseek("train", tmp_path / "r.yaml")
    result = {n: json.loads((tmp_path / "out" / f"{n}.json").read_text())["result"] for n in ("traces", "before", "after")}
    assert result["traces"]["kept"] >= 10 and result["traces"]["acceptance"] > 0.05
    assert result["before"]["pass_1"] < 0.1 and result["after"]["pass_1"] > result["before"]["pass_1"] + 0.1, result


@pytest.mark.parametrize("line, args, word", [({"text": "x"}, (), "no problem"), ({"prompt": "x", "answer": "y"}, ("--judge", "task"), "no task"),
                                              ({"prompt": "x", "answer": "y"}, ("--max-tokens", 100000), "context"), ({"prompt": "x", "answer": "y"}, ("--samples", 0), "--samples")])
def test_what_cannot_be_sampled(farseek, tmp_path, coin, line, args, word):
    r = farseek("data", "reject", coin, suite(tmp_path / "s.jsonl", line), tmp_path / "out.jsonl", *args, check=False)
    assert r.returncode in (1, 2) and word in r.stderr and not (tmp_path / "out.jsonl").exists()
