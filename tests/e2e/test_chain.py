"""farseek train with a chain of stages: a recipe alone makes everything, to the bit through kills; what is done is stepped over, what another
recipe made is refused, and what is wrong is named before anything runs."""
import json
import random
import shutil
import subprocess
import time

import pytest

from conftest import VECTORS, killed
from test_run import BINARY

MODEL = {"data": {"kind": "shards", "files": ["tokens"], "pack": "whole", "length": 256, "tokenizer": "words"}, "batch": {"rows": 4, "micro_rows": 2},
         "schedule": {"lr": 4e-3, "warmup": 1, "decay": 2}}
STAGES = [
    {"name": "made", "stage": "make", "task": "chain", "count": 400, "min": 1, "max": 2, "traced": 0.3, "split": "train"},
    {"name": "test", "stage": "make", "task": "chain", "count": 20, "min": 1, "max": 2, "split": "test", "seed": 9, "distinct": True},
    {"name": "once", "stage": "dedup", "files": ["made"]},
    {"name": "clean", "stage": "decontaminate", "files": ["once"], "against": ["test"]},
    {"name": "mixed", "stage": "mix", "files": {"clean": 3, "made": 1}, "count": 300},
    {"name": "words", "stage": "tokenizer", "files": ["mixed"], "vocab_size": 257, "special": ["<eos>"], "eos": "<eos>", "pre": "gpt-2", "digits": True},
    {"name": "tokens", "stage": "tokenize", "tokenizer": "words", "files": ["mixed"], "format": "none", "eos": "<eos>"},
    {"name": "base", "stage": "pretrain", "steps": 4, "checkpoint_every": 2, "model": {"config": "config.json", "init_std": 0.02}, **MODEL},
    {"name": "cold", "stage": "sft", "steps": 3, "model": {"from": "base"}, **MODEL},
    {"name": "rl", "stage": "grpo", "steps": 3, "checkpoint_every": 1, "model": {"from": "cold"}, "task": {"name": "chain", "min": 1, "max": 2},
     "policy": {"prompts": 2, "group": 4, "max_tokens": 8, "prompt_max": 16}, "schedule": {"kind": "constant", "lr": 1e-3}},
    {"name": "score", "stage": "eval", "model": "rl", "suite": "test", "max_tokens": 8},
    {"name": "small", "stage": "quantize", "model": "rl", "type": "Q8_0"},
]


def write(folder, name="chain.yaml", **changes):
    """changes: the stage's name to what is set in it."""
    stages = json.loads(json.dumps(STAGES))
    for s in stages:
        s.update(changes.get(s["name"], {}))
    (folder / name).write_text(json.dumps({"seed": 3, "out": "out", "stages": stages}))
    return folder / name


def config(folder):
    c = json.loads((VECTORS / "ds_v3" / "config.json").read_text())
    c.update(hidden_size=64, num_hidden_layers=2, vocab_size=257, intermediate_size=96, n_routed_experts=8, num_experts_per_tok=2,
             num_nextn_predict_layers=0, eos_token_id=0, bos_token_id=0)
    (folder / "config.json").write_text(json.dumps(c))


def made_by(out):
    """Every file that must not differ between runs."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and p.suffix in (".jsonl", ".safetensors", ".gguf")
            and p.name != "metrics.jsonl" or p.name in ("trace.jsonl", "tokenizer.json", "index.json")}


@pytest.fixture(scope="module")
def whole(farseek, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    config(folder)
    start = time.monotonic()
    farseek("train", write(folder))
    return folder, made_by(folder / "out"), time.monotonic() - start


def test_a_recipe_makes_everything(farseek, whole):
    folder, files, _ = whole
    assert {"made.jsonl", "tokens/index.json", "words/tokenizer.json", "base/step-00000002/model.safetensors", "rl/step-00000003/model.safetensors",
            "rl/trace.jsonl", "score.jsonl", "small.gguf"} <= set(files)
    out = folder / "out"
    result = {n: json.loads((out / f"{n}.json").read_text())["result"] for n in ("made", "test", "clean", "mixed", "words", "tokens", "score")}
    assert result["made"]["records"] == 400 and result["test"]["records"] == 20 and result["mixed"]["records"] == 300 and result["words"]["tokens"] == 257
    assert result["score"]["problems"] == 20 and result["tokens"]["documents"] == 300
    page = (out / "report.html").read_text()
    assert all(f"<h2>{s['name']} " in page for s in STAGES) and page.count("<svg") > 10 and "http" not in page.replace("http://www.w3.org", "")
    # what the commands make one by one
    farseek("data", "make", "chain", folder / "by_hand.jsonl", "-n", 400, "--min", 1, "--max", 2, "--traced", 0.3, "--split", "train", "--seed", 3)
    assert (folder / "by_hand.jsonl").read_bytes() == files["made.jsonl"]
    assert json.loads(farseek("eval", out / "rl" / "step-00000003", out / "test.jsonl", "--max-tokens", 8, "--json"))["pass_1"] == result["score"]["pass_1"]
    # nothing is made again
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "report.html"}
    farseek("train", folder / "chain.yaml")
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "report.html"}


def test_killed_at_any_moment(whole, tmp_path):
    folder, files, seconds = whole
    config(tmp_path)
    command = [*BINARY, "train", write(tmp_path), "--out", tmp_path / "k", "--threads", "1"]
    killed(command, random.Random(2), (0.02, 0.2), seconds, lambda: shutil.rmtree(tmp_path / "k"), times=10, at_least=3)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert {k: v for k, v in made_by(tmp_path / "k").items() if ".tmp." not in k} == files


def test_parts_of_a_chain(farseek, whole, tmp_path):
    folder, files, _ = whole
    config(tmp_path)
    path = write(tmp_path)
    r = farseek("train", path, "--stage", "once", check=False)
    assert r.returncode == 2 and "needs stage 'made'" in r.stderr
    farseek("train", path, "--until", "once")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jsonl")) == ["made.jsonl", "once.jsonl", "test.jsonl"]
    farseek("train", path, "--stage", "clean")
    assert (tmp_path / "out" / "clean.jsonl").read_bytes() == files["clean.jsonl"] and not (tmp_path / "out" / "mixed.jsonl").exists()
    r = farseek("train", path, "--stage", "baze", check=False)
    assert r.returncode == 2 and "did you mean 'base'" in r.stderr
    lines = farseek("train", path, "--stage", "mixed", "--json").splitlines()
    assert json.loads(lines[0])["result"]["records"] == 300


def test_another_recipe_is_refused(farseek, whole, tmp_path):
    folder, files, _ = whole
    config(tmp_path)
    shutil.copytree(folder / "out", tmp_path / "out")
    for changes, named in (({"made": {"count": 401}}, "made.jsonl"), ({"words": {"digits": False}}, "words"), ({"cold": {"steps": 2, "seed": 1}}, None)):
        r = farseek("train", write(tmp_path, **changes), check=False)
        assert r.returncode == 2 and "made by another recipe" in r.stderr and (not named or named in r.stderr)
    r = farseek("train", write(tmp_path), "--seed", 4, check=False)
    assert r.returncode == 2 and "made by another recipe" in r.stderr
    # a change is felt by the stages that need it, not by others
    (tmp_path / "out" / "once.json").unlink()
    (tmp_path / "out" / "once.jsonl").unlink()
    r = farseek("train", write(tmp_path, once={"near": True}), check=False)
    assert r.returncode == 2 and "clean.jsonl" in r.stderr
    # what nobody's stage made is left alone
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "made.jsonl").write_text("mine\n")
    r = farseek("train", write(tmp_path), "--out", tmp_path / "strange", check=False)
    assert r.returncode == 2 and "no stage of a recipe made it" in r.stderr and (tmp_path / "strange" / "made.jsonl").read_text() == "mine\n"


def test_a_dry_run_tells_every_stage(farseek, whole, tmp_path):
    config(tmp_path)
    text = farseek("train", write(tmp_path), "--dry-run")
    assert not (tmp_path / "out").exists()
    parts = text.split("== ")[1:]
    assert [p.split(":")[0] for p in parts] == [s["name"] for s in STAGES]
    assert "farseek data make chain" in parts[0] and "--seed=3" in parts[0] and "--seed=9" in parts[1]
    n = {tuple(p.splitlines()[1:3]) for p in parts[7:10]}
    assert len(n) == 1 and [line.split()[0] for line in n.pop()] == ["shape", "parameters"]
    folder, *_ = whole
    done = farseek("train", folder / "chain.yaml", "--dry-run").split("== ")[1:]
    assert all(", done" in p for p in done) and "300 documents" in done[7]
    assert done[7].splitlines()[1:3] == parts[7].splitlines()[1:3]


@pytest.mark.parametrize("changes, word", [
    ({"made": {"cuont": 1}}, "did you mean 'count'"), ({"made": {"count": -1}}, "allowed are 1"), ({"made": {"stage": "makes"}}, "did you mean 'make'"),
    ({"made": {"task": "chess"}}, "chess"), ({"made": {"threads": 2}}, "unknown key 'threads'"), ({"made": {"distinct": "yes"}}, "neither true nor false"),
    ({"once": {"files": "made"}}, "no list of files"), ({"once": {"files": ["cold"]}}, "does not come before"), ({"mixed": {"files": ["clean"]}}, "no mapping"),
    ({"base": {"stepz": 1}}, "stage 'base': unknown key 'stepz': did you mean 'steps'"), ({"base": {"out": "x"}}, "'out' is the chain's"),
    ({"once": {"name": "made"}}, "two stages are called 'made'"), ({"once": {"name": "a/b"}}, "stage 3 has no name"), ({"score": {"suite": None}}, "suite is missing"),
    ({"words": {"vocab_size": 3}}, "allowed are 257"), ({"rl": {"policy": {}}}, "policy.prompts is missing")])
def test_what_is_wrong_is_named(farseek, tmp_path, changes, word):
    config(tmp_path)
    r = farseek("train", write(tmp_path, **changes), check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr
    assert "chess" in word or not (tmp_path / "out").exists()  # the command itself knows the tasks


@pytest.mark.parametrize("head, word", [({"stages": []}, "1 to 64"), ({"stagez": 1}, "did you mean 'stages'"), ({"out": None}, "out is missing"), ({"seed": -1}, "seed")])
def test_a_bad_head_is_named(farseek, tmp_path, head, word):
    recipe = {"out": "out", "stages": STAGES, **head}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    r = farseek("train", tmp_path / "r.yaml", check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr
