"""The stage grpo of farseek train: learning from rewards on problems of a task, to the bit through threads, instruction sets, micro-batches
and kills; and pretraining on token shards."""
import json
import random
import shutil
import time

import pytest
import safetensors.numpy

from conftest import VECTORS, killed
from test_run import BINARY
from test_train import result

STEPS = 6


def write(folder, name, **changes):
    r = {
        "stage": "grpo", "seed": 5, "steps": STEPS, "out": "rl", "checkpoint_every": 2,
        "model": {"from": "base/step-00000008"}, "task": {"name": "chain", "min": 1, "max": 2, "seed": 9},
        "rewards": {"right": 1, "well_formed": 0.1}, "optimizer": {"weight_decay": 0}, "schedule": {"kind": "constant", "lr": 2e-3},
        "policy": {"loss": "dr_grpo", "prompts": 4, "group": 8, "max_tokens": 8, "prompt_max": 16, "sequences": 16, "micro_tokens": 1024},
    }
    for key, value in changes.items():
        section, _, inner = key.rpartition("__")
        target = r.setdefault(section, {}) if section else r
        target.pop(inner, None) if value is None else target.__setitem__(inner, value)
    (folder / name).write_text(json.dumps(r))
    return folder / name


@pytest.fixture(scope="module")
def folder(farseek, tmp_path_factory):
    """A model of DeepSeek-V3's shape that has seen a little of the task, from token shards."""
    out = tmp_path_factory.mktemp("grpo")
    farseek("data", "make", "chain", out / "data.jsonl", "-n", 1500, "--min", 1, "--max", 2, "--traced", 0.3, "--split", "train")
    farseek("tokenizer", "train", out / "data.jsonl", out / "tok", "--vocab-size", 257, "--special", "<eos>", "--eos", "<eos>", "--pre", "gpt-2", "--digits")
    farseek("data", "tokenize", out / "tok", out / "data.jsonl", out / "shards", "--format", "none", "--eos", "<eos>")
    config = json.loads((VECTORS / "ds_v3" / "config.json").read_text())
    config.update(hidden_size=48, num_hidden_layers=2, vocab_size=257, intermediate_size=80, n_routed_experts=8, num_experts_per_tok=2,
                  num_nextn_predict_layers=0, eos_token_id=0, bos_token_id=0)
    (out / "config.json").write_text(json.dumps(config))
    (out / "base.yaml").write_text(json.dumps({
        "stage": "pretrain", "steps": 8, "out": "base", "model": {"config": "config.json", "init_std": 0.02},
        "data": {"files": ["shards"], "kind": "shards", "pack": "whole", "length": 256, "tokenizer": "tok/tokenizer.json"}, "batch": {"rows": 8, "micro_rows": 4},
        "schedule": {"lr": 4e-3, "warmup": 2, "decay": 2}}))
    farseek("train", out / "base.yaml")
    return out


def test_shards_are_learnt_to_the_bit(farseek, folder, tmp_path):
    first = (folder / "base" / "trace.jsonl").read_text()
    losses = [float.fromhex(json.loads(x)["loss"]) for x in first.splitlines()]
    assert losses[0] > 4 and losses[-1] < losses[0] - 1  # of a prompt nothing is learnt, of 257 tokens eleven are in answers
    for name in ("config.json", "shards", "tok"):
        (tmp_path / name).symlink_to(folder / name)
    r = json.loads((folder / "base.yaml").read_text())
    r["batch"]["micro_rows"] = 1
    (tmp_path / "base.yaml").write_text(json.dumps(r))
    farseek("train", tmp_path / "base.yaml", "--threads", 3, "--isa", "avx2")
    assert (tmp_path / "base" / "trace.jsonl").read_text() == first
    plan = json.loads(farseek("train", tmp_path / "base.yaml", "--dry-run", "--json"))
    assert plan["documents"] == 1500 and plan["tokens"] == json.loads((folder / "shards" / "index.json").read_text())["tokens"]


def test_one_end_whatever_runs_it(farseek, folder):
    write(folder, "a.yaml")
    farseek("train", folder / "a.yaml")
    want = result(folder / "rl", STEPS)
    trace = [json.loads(x) for x in want[2].splitlines()]
    assert len(trace) == STEPS and all(0 <= float.fromhex(x["reward"]) <= 1 for x in trace)
    metrics = [json.loads(x) for x in (folder / "rl" / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == list(range(1, STEPS + 1)) and {"reward", "length", "entropy", "flat_groups"} <= set(metrics[0])
    assert list((folder / "rl").glob("events.out.tfevents.*"))
    farseek("report", folder / "rl", "-o", folder / "report.html")
    for i, (args, changes) in enumerate([(["--threads", 1], {}), (["--threads", 3, "--isa", "scalar"], dict(policy__sequences=5)), (["--isa", "avx2"], dict(policy__micro_tokens=256, policy__keep_mib=0))]):
        write(folder, f"b{i}.yaml", out=f"rl{i}", **changes)
        farseek("train", folder / f"b{i}.yaml", *args)
        assert result(folder / f"rl{i}", STEPS) == want
    # the result is an ordinary model that says what it learnt
    farseek("data", "make", "chain", folder / "test.jsonl", "-n", 20, "--min", 1, "--max", 2, "--split", "test")
    r = json.loads(farseek("eval", folder / "rl" / f"step-{STEPS:08d}", folder / "test.jsonl", "--json"))
    assert r["problems"] == 20


def test_an_adapter_learns_from_rewards(farseek, folder):
    """Completions are drawn with the pairs as they are: a log-probability that is not the trained one would stop the first step."""
    changes = dict(lora={"r": 4, "alpha": 8, "targets": ["q_b_proj", "kv_b_proj", "o_proj", "mlp.gate", "*.mlp.experts.*"]}, steps=3, policy__beta=0.02)
    names = ("adapter_model.safetensors", "adapter_config.json", "optimizer/model.safetensors", "../trace.jsonl")

    def end(out):
        return [(folder / out / "step-00000003" / name).read_bytes() for name in names]
    farseek("train", write(folder, "la.yaml", out="la", **changes), "--threads", 1)
    farseek("train", write(folder, "lb.yaml", out="lb", **changes, policy__micro_tokens=2048), "--threads", 2, "--isa", "scalar")
    assert end("la") == end("lb")
    pairs = safetensors.numpy.load_file(folder / "la" / "step-00000003" / "adapter_model.safetensors")
    assert len(pairs) == 2 * (2 + 2 + 2 + 1 + 8 * 3) and sum(value.any() for value in pairs.values()) > len(pairs) // 2
    shutil.rmtree(folder / "lb" / "step-00000003")
    farseek("train", folder / "lb.yaml", "--resume")
    assert end("la") == end("lb")


def test_a_prompt_begins_as_it_does_in_training_and_in_eval(farseek, folder, tmp_path):
    """With what the tokenizer puts first: a chain of one operation is four tokens and <eos>, which is this tokenizer's bos too."""
    farseek("tokenizer", "train", folder / "data.jsonl", tmp_path / "tok", "--vocab-size", 257, "--special", "<eos>", "--bos", "<eos>", "--eos", "<eos>",
            "--pre", "gpt-2", "--digits")
    model = {"from": str(folder / "base/step-00000008"), "tokenizer": str(tmp_path / "tok" / "tokenizer.json")}
    for room, fits in ((4, False), (5, True)):
        path = write(folder, "p.yaml", steps=1, out=str(tmp_path / f"p{room}"), task__max=1, policy__prompt_max=room, model=model)
        r = farseek("train", path, check=False)
        assert (r.returncode == 0) == fits and ("a prompt of 5 tokens" in r.stderr) != fits, r.stderr


def test_a_dry_run_tells_what_a_run_takes(farseek, folder, tmp_path):
    for name, changes in (("one", {}), ("referred", dict(policy__beta=0.01))):
        write(folder, "d.yaml", steps=1, out=str(tmp_path / name), **changes)
        plan = farseek("train", folder / "d.yaml", "--dry-run")
        assert not (tmp_path / name).exists()
        told = farseek("train", folder / "d.yaml", check=False).stderr
        plan, time = plan.split("time ")
        assert "memory " in plan and told.startswith(plan), (plan, told)
        assert float(time.split(" s a step")[0]) > 0 and "for 1 steps" in time
    write(folder, "d.yaml", steps=1, out=str(tmp_path / "judged"), rewards__program=["sh", "-c", "touch started; cat"])
    assert "time " not in farseek("train", folder / "d.yaml", "--dry-run") and not (folder / "started").exists()  # others' programs are not started


def test_killed_at_any_moment(farseek, folder):
    write(folder, "k0.yaml", out="k0")
    start = time.monotonic()
    farseek("train", folder / "k0.yaml")
    whole_s = time.monotonic() - start
    want = result(folder / "k0", STEPS)
    write(folder, "k.yaml", out="k")
    killed([*BINARY, "train", folder / "k.yaml", "--resume"], random.Random(4), (0.05, 0.9), whole_s, lambda: shutil.rmtree(folder / "k"), times=40, at_least=1)
    farseek("train", folder / "k.yaml", "--resume")
    assert result(folder / "k", STEPS) == want


@pytest.mark.parametrize("changes", [dict(policy__loss="grpo", policy__scale="group", policy__beta=0.01), dict(policy__loss="gspo", policy__updates=2),
                                     dict(policy__loss="cispo", policy__epsilon_high=5, policy__scale="batch"), dict(policy__loss="dapo", policy__mask_truncated=True),
                                     dict(policy__loss="bnpo", policy__temperature=0.8), dict(rewards__random=0.5, task__name="sort", task__max=3, policy__prompt_max=32),
                                     dict(precision="bf16", policy__beta=0.01)])
def test_every_loss_runs(farseek, folder, tmp_path, changes):
    out = tmp_path / "out"
    write(folder, "c.yaml", steps=2, out=str(out), **changes)
    farseek("train", folder / "c.yaml")
    assert len((out / "trace.jsonl").read_text().splitlines()) == 2


def rewards_of(folder, farseek, tmp_path, name, **changes):
    """The rewards of one step's completions: means and what the trace holds."""
    write(folder, "r.yaml", steps=1, out=str(tmp_path / name), **changes)
    farseek("train", folder / "r.yaml")
    return json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])


def test_rewards_add_up(farseek, folder, tmp_path):
    zero = dict(rewards={"right": 0})
    assert rewards_of(folder, farseek, tmp_path, "zero", **zero)["reward"] == 0
    m = rewards_of(folder, farseek, tmp_path, "wrong", rewards={"right": 2, "wrong": -1, "well_formed": -1})
    assert abs(m["reward"] - (2 * m["right"] - (1 - m["right"]))) < 1e-6
    m = rewards_of(folder, farseek, tmp_path, "long", rewards={"right": 0, "overlong": 1, "overlong_tokens": 8})
    assert -1 <= m["reward"] < 0 and abs(m["reward"] + m["length"] / 8) < 1e-6  # -n / 8 for a completion of n <= 8 tokens
    m = rewards_of(folder, farseek, tmp_path, "repeat", rewards={"right": 0, "repetition": 1, "repetition_ngram": 1})
    assert m["reward"] < 0
    m = rewards_of(folder, farseek, tmp_path, "shorter", rewards={"right": 0, "shorter": 1})
    assert -0.5 <= m["reward"] < 0.5 and m["reward"] != 0
    m = rewards_of(folder, farseek, tmp_path, "cosine", rewards={"right": 1, "right_long": 0.5, "wrong_long": 0, "well_formed": 0})
    assert 0 <= m["reward"] <= m["right"]


def test_a_program_gives_rewards(farseek, folder, tmp_path):
    """It is asked once a step, with prompt, completion and answer of every completion; what it says is the reward."""
    judge = folder / "judge.py"
    judge.write_text("#!/usr/bin/env python3\nimport json, pathlib, sys\n"
                     "lines = [json.loads(x) for x in sys.stdin]\n"
                     "open(sys.argv[1], 'a').write(json.dumps(lines) + '\\n')\n"
                     "for x in lines: print(len(x['completion']))\n")
    judge.chmod(0o755)
    m = rewards_of(folder, farseek, tmp_path, "p", rewards={"right": 0, "program": ["./judge.py", str(tmp_path / "log")], "program_weight": 0.5})
    asked = [json.loads(x) for x in (tmp_path / "log").read_text().splitlines()]
    assert len(asked) == 1 and len(asked[0]) == 32 and all(x["prompt"].endswith("=") and x["answer"].isdigit() for x in asked[0])
    assert abs(m["reward"] - 0.5 * sum(len(x["completion"]) for x in asked[0]) / 32) < 1e-6
    judge.write_text("#!/bin/sh\nexit 3\n")
    write(folder, "r.yaml", steps=1, out=str(tmp_path / "q"), rewards={"program": ["./judge.py"]})
    r = farseek("train", folder / "r.yaml", check=False)
    assert r.returncode == 1 and "ended with 3" in r.stderr and "step 1" in r.stderr
    judge.write_text("#!/bin/sh\nsleep 60\n")
    write(folder, "r.yaml", steps=1, out=str(tmp_path / "q"), rewards={"program": ["./judge.py"], "program_seconds": 0.2})
    r = farseek("train", folder / "r.yaml", check=False)
    assert r.returncode == 1 and "judge.py" in r.stderr


def test_dynamic_sampling(farseek, folder, tmp_path):
    plain = rewards_of(folder, farseek, tmp_path, "plain", rewards={"right": 1})
    changes = dict(rewards={"right": 1}, policy__resamples=4, policy__skip_flat=True)
    m = rewards_of(folder, farseek, tmp_path, "again", **changes)
    assert plain["flat_groups/resampled"] == 0 and m["flat_groups/resampled"] > 0 and m["flat_groups"] <= plain["flat_groups"]
    for i, (args, more) in enumerate([([], {}), (["--threads", 1, "--isa", "scalar"], dict(policy__sequences=3, policy__micro_tokens=256))]):
        write(folder, "r.yaml", out=str(tmp_path / f"e{i}"), **changes, **more)
        farseek("train", folder / "r.yaml", *args)
    assert result(tmp_path / "e0", STEPS) == result(tmp_path / "e1", STEPS)


def test_marks_may_be_special_tokens(farseek, tmp_path):
    """A model that always says <think>..</think><answer>1, the marks being special tokens of it: a completion is judged by all that it says."""
    import scripted

    m = scripted.write_model(tmp_path / "m", ["<think>", "a", "</think>", "<answer>", "1"])
    stage = {"stage": "grpo", "steps": 1, "out": "out", "model": {"from": "m"}, "task": {"name": "countdown", "min": 3, "max": 3, "number_max": 9, "target_max": 99},
             "rewards": {"right": 1, "well_formed": 0.25}, "policy": {"prompts": 2, "group": 2, "max_tokens": 8, "prompt_max": 64},
             "schedule": {"kind": "constant", "lr": 1e-6}}
    (tmp_path / "r.yaml").write_text(json.dumps(stage))
    farseek("train", tmp_path / "r.yaml")
    metrics = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert (metrics["length"], metrics["reward"]) == (6, 0.25), metrics


def test_problems_of_a_file_through_the_chat_format(farseek, tmp_path):
    """A chat model that says 8 or 3, each half of the time, learns what is right of both; judged by value."""
    import scripted

    scripted.write_model(tmp_path / "m", ["8"], fork=["3"])
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"{i}+{8 - i}?", "answer": "8.0"}) + "\n" for i in range(7)))
    stage = {"stage": "grpo", "steps": 30, "out": "out", "model": {"from": "m"}, "task": {"file": "p.jsonl", "seed": 4}, "optimizer": {"weight_decay": 0, "clip": 0},
             "policy": {"prompts": 4, "group": 4, "max_tokens": 4, "prompt_max": 64}, "schedule": {"kind": "constant", "lr": 0.2}}
    (tmp_path / "r.yaml").write_text(json.dumps(stage))
    farseek("train", tmp_path / "r.yaml")
    m = [json.loads(x) for x in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert 0.2 < m[0]["right"] < 0.8 and m[-1]["right"] == 1 and m[0]["length"] == 2, (m[0], m[-1])
    before, after = (json.loads(farseek("eval", tmp_path / x, tmp_path / "p.jsonl", "--samples", 8, "--temperature", 1, "--top-p", 1, "--json"))["pass_1"]
                     for x in ("m", "out/step-00000030"))
    assert 0.3 < before < 0.7 and after > 0.9
    stage.update(out="two", steps=2, task={"file": "p.jsonl", "judge": "exact"})  # "8" is not "8.0" as a text
    (tmp_path / "r.yaml").write_text(json.dumps(stage))
    farseek("train", tmp_path / "r.yaml")
    assert all(json.loads(x)["right"] == 0 for x in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines())


def test_a_file_is_gone_through_epoch_by_epoch(farseek, folder, tmp_path):
    """Every problem once an epoch, in another order; the same bits whatever runs it."""
    farseek("data", "make", "chain", folder / "nine.jsonl", "-n", 9, "--max", 3, "--distinct", "--seed", 2)
    log = folder / "log.sh"
    log.write_text("#!/bin/sh\ntee -a \"$1\" | sed 's/.*/1/'\n")
    log.chmod(0o755)
    want = None
    for i, (args, more) in enumerate([([], {}), (["--threads", 1, "--isa", "scalar"], dict(policy__micro_tokens=256, policy__sequences=3))]):
        write(folder, "f.yaml", out=str(tmp_path / f"f{i}"), steps=6, task={"file": "nine.jsonl", "seed": 5}, policy__prompts=3, policy__group=2, checkpoint_every=0,
              rewards={"right": 1, "program": ["./log.sh", str(tmp_path / f"log{i}")], "program_weight": 0}, **more)
        farseek("train", folder / "f.yaml", *args)
        want = want or result(tmp_path / "f0", 6)
        assert result(tmp_path / f"f{i}", 6)[:3] == want[:3]  # the record has the program's arguments
    asked = [json.loads(x)["prompt"] for x in (tmp_path / "log0").read_text().splitlines()][::2]
    everything = sorted(json.loads(x)["prompt"] for x in (folder / "nine.jsonl").read_text().splitlines())
    assert sorted(asked[:9]) == sorted(asked[9:]) == everything and asked[:9] != asked[9:]


@pytest.mark.parametrize("changes, word", [
    (dict(task={"file": "nowhere.jsonl"}), "nowhere.jsonl"), (dict(task={"file": "data.jsonl", "name": "chain"}), "exclude each other"),
    (dict(task={"file": "data.jsonl", "judge": "me"}), "task.judge 'me'"), (dict(task={"file": "data.jsonl", "format": "spoken"}), "spoken"), (dict(task={}), "task.name is missing"),
    (dict(rewards={"overlong": 1}), "overlong_tokens"), (dict(rewards={"thinks": 1}), "did you mean 'think'"), (dict(rewards={"program": []}), "rewards.program"),
    (dict(task__name="chess"), "no task 'chess'"), (dict(policy__los="grpo"), "did you mean 'loss'"), (dict(policy__loss="ppo"), "policy.loss 'ppo'"),
    (dict(data__files=["x"]), "unknown key 'data'"), (dict(policy__group=1), "policy.group"), (dict(policy__prompt_max=2), "prompt of"),
    (dict(policy__mask_truncated="yes"), "neither true nor false"), (dict(stage="ppo"), "stage 'ppo'"), (dict(policy__prompts=None), "policy.prompts is missing"),
    (dict(policy__max_tokens=100000), "context"), (dict(model={"config": "config.json"}), "model.tokenizer is missing")])
def test_what_is_wrong_is_named(farseek, folder, tmp_path, changes, word):
    write(folder, "w.yaml", out=str(tmp_path / "w"), **changes)
    r = farseek("train", folder / "w.yaml", check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr
