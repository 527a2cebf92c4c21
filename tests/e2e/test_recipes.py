"""R1 in miniature, recipes/r1-*, and recipes/mtp: each is read whole; tier T0 of R1-Zero in miniature is run from its seed to the hash that README.md names, and what
it shows is held to: GRPO takes greedy pass@1 from at most .30 to at least .90 and replies grow, for the exact answer alone."""
import hashlib
import json
import re
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from conftest import ROOT
from test_run import BINARY

RECIPES = ROOT / "recipes"
T0 = RECIPES / "r1-t0"


def load(path):
    """A recipe's values. 1e-3 is a number in YAML 1.2; PyYAML takes it for a text."""
    def numbers(v):
        if isinstance(v, dict):
            return {k: numbers(x) for k, x in v.items()}
        if isinstance(v, list):
            return [numbers(x) for x in v]
        return float(v) if isinstance(v, str) and re.fullmatch(r"[0-9.]+e-?[0-9]+", v) else v
    return numbers(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("recipe", sorted([*RECIPES.glob("r1-*/*.yaml"), RECIPES / "mtp" / "recipe.yaml"]), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_recipe_is_read_whole(farseek, recipe, tmp_path):
    plan = farseek("train", recipe, "--dry-run", "--out", tmp_path / "out")
    assert "parameters" in plan and not (tmp_path / "out").exists()
    controls = recipe.with_name("controls.yaml" if recipe.stem == "recipe" else f"{recipe.stem}-controls.yaml")
    if controls.exists():  # the controls stand on the very same base and policy
        stages = load(recipe)["stages"]
        assert load(controls)["stages"][:len(stages)] == stages


def is_test(task, prompt):
    """A function of the prompt alone: docs/data.md"""
    return (int(hashlib.sha256(task.encode() + b"\0" + prompt.encode()).hexdigest()[:16], 16) >> 12) / 2**52 < 0.1


def small(stages):
    """The same stages with a few problems and steps."""
    for s in stages:
        for key, most in (("count", 60), ("steps", 2), ("samples", 2), ("checkpoint_every", 2)):
            if key in s:
                s[key] = min(s[key], most)
        for key in ("warmup", "decay"):
            if key in s.get("schedule", {}):
                s["schedule"][key] = 1
        if "policy" in s:
            s["policy"].update(prompts=2, group=2)
        if "batch" in s:
            s["batch"] = {"rows": 2}


def test_tier_t2_runs_from_end_to_end_in_small(farseek, tmp_path):
    """Two steps of each training, up to where a policy would have to be right: rejection sampling keeps nothing of such a model."""
    recipe = load(RECIPES / "r1-t2" / "recipe.yaml")
    small(recipe["stages"])
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    shutil.copy(RECIPES / "r1-t2" / "config.json", tmp_path)
    farseek("train", tmp_path / "recipe.yaml", "--until", "kept")
    done = {p.stem for p in (tmp_path / "run").glob("*.json")}
    assert {"searches", "ended", "tried", "cold-greedy", "rl-sampled", "kept"} <= done
    ended = lines(tmp_path / "run" / "ended.jsonl")
    assert ended and all(r["solved"] and r["trace"].startswith("<think>") for r in ended)
    tokens = json.loads((tmp_path / "run" / "ended-tokens" / "index.json").read_text())
    assert tokens["documents"] == len(ended)


def test_t1_multiplies_in_small(farseek, tmp_path):
    """Two steps of each training: what is learnt goes digit by digit, what is asked is three digits long and never learnt."""
    recipe = load(RECIPES / "r1-t1" / "multiply.yaml")
    small(recipe["stages"])
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    shutil.copy(RECIPES / "r1-t1" / "config.json", tmp_path)
    farseek("train", tmp_path / "recipe.yaml")
    made = {name: lines(tmp_path / "run" / f"{name}.jsonl") for name in ("traces", "mixed", "test", "harder", "rl-greedy", "mini-greedy")}
    assert all(re.fullmatch(r">(?:[a-i]\d{4}){9}>", r["trace"]) for r in made["traces"]) and {r["trace"] for r in made["test"]} == {""}
    assert {r["level"] for r in made["test"]} == {3} and {r["level"] for r in made["harder"]} == {4}
    assert [r["prompt"] for r in made["mini-greedy"]] == [r["prompt"] for r in made["rl-greedy"]] == [r["prompt"] for r in made["test"]]
    for name in ("traces", "mixed", "test", "harder"):
        assert all(is_test("multiply", r["prompt"]) == (name in ("test", "harder")) for r in made[name])
    rl = next(s for s in recipe["stages"] if s["stage"] == "grpo")  # its task draws training prompts
    assert rl["task"] == {"name": "multiply", "min": 3, "max": 3, "seed": 3} and "rewards" not in rl


@pytest.fixture(scope="module")
def t0(farseek, tmp_path_factory):
    out = tmp_path_factory.mktemp("t0") / "run"
    farseek("train", T0 / "recipe.yaml", "--out", out, timeout=3000)
    return out


def result(t0, name):
    return json.loads((t0 / f"{name}.json").read_text())["result"]


def lines(path):
    return [json.loads(x) for x in path.read_text().splitlines()]


def test_reward_alone_makes_replies_long_and_right(t0):
    before, after = result(t0, "base-2-greedy"), result(t0, "rl-greedy")
    assert before["pass_1"] <= 0.30 and after["pass_1"] >= 0.90, (before, after)
    assert before["length"] < 3.5 and after["length"] > 8 and after["truncated"] == 0
    assert result(t0, "rl-sampled")["pass_1"] > result(t0, "base-2-sampled")["pass_1"] + 0.5
    assert result(t0, "rl-harder")["pass_1"] < after["pass_1"]  # nothing of more operations was trained
    steps = lines(t0 / "rl" / "metrics.jsonl")
    assert steps[0]["reward"] < 0.4 and sum(m["reward"] for m in steps[-10:]) > 9
    assert steps[0]["length"] < 4 and sum(m["length"] for m in steps[-10:]) > 80


def test_one_seed_one_model(t0):
    for line in (T0 / "SHA256SUMS").read_text().splitlines():
        want, name = line.split("  ")
        assert hashlib.sha256((t0 / name).read_bytes()).hexdigest() == want, name


def test_no_test_prompt_was_trained(t0):
    def prompts(name):
        return {r["prompt"] for r in lines(t0 / f"{name}.jsonl")}

    tested, trained = prompts("test") | prompts("harder"), prompts("traces") | prompts("mixed")
    assert len(tested) == 1024 + 512 and len(trained) > 100000 and not tested & trained
    assert all(is_test("chain", p) for p in tested) and not any(is_test("chain", p) for p in trained)  # of GRPO's prompts too: its task draws training prompts
    rl = next(s for s in load(T0 / "recipe.yaml")["stages"] if s["stage"] == "grpo")
    assert rl["task"]["name"] == "chain" and "test_share" not in rl["task"] and rl.get("rewards", {"right": 1}) == {"right": 1}


@pytest.mark.parametrize("name, n, isa", [("base-1", 10, "scalar"), ("base-1", 40, "avx2"), ("rl", 2, "scalar"), ("rl", 6, "avx2")])
def test_its_steps_are_the_same_on_every_instruction_set(t0, tmp_path, name, n, isa):
    """The first steps of a stage, with other threads; then the run is killed."""
    stages = {s["name"]: s for s in load(T0 / "recipe.yaml")["stages"]}
    stage = {k: v for k, v in stages[name].items() if k != "name"}
    stage.update(seed=1, out=str(tmp_path / "out"))
    if name == "rl":
        stage["model"] = {"from": str(t0 / "base-2" / f"step-{stages['base-2']['steps']:08d}")}
    else:
        stage["model"]["config"] = str(T0 / "config.json")
        stage["data"].update(files=[str(t0 / "traces-tokens")], tokenizer=str(t0 / "letters"))
    (tmp_path / "one.yaml").write_text(json.dumps(stage))
    trace = tmp_path / "out" / "trace.jsonl"
    p = subprocess.Popen([*BINARY, "train", tmp_path / "one.yaml", "--isa", isa, "--threads", "3"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while p.poll() is None and time.monotonic() < deadline and not (trace.exists() and trace.read_text().count("\n") >= n):
        time.sleep(0.05)
    p.send_signal(signal.SIGKILL)
    p.wait()
    got, want = trace.read_text().splitlines(), (t0 / name / "trace.jsonl").read_text().splitlines()
    assert len(got) >= n and got[:n] == want[:n]
