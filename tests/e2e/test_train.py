"""farseek train: a run's end is a function of its recipe and data alone. Equal bits over threads, instruction sets, micro-batches
and kills; checkpoints are ordinary models; what is wrong is named."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import safetensors.numpy

from conftest import VECTORS, interrupted
from test_run import BINARY

STEPS = 50


def recipe(folder, name="recipe.yaml", **changes):
    """Writes a recipe for a tiny model of DeepSeek-V3's shape; changes: "section.key" or "key"."""
    r = {
        "stage": "pretrain", "seed": 3, "steps": STEPS, "out": "out", "checkpoint_every": 10,
        "model": {"config": "config.json", "init_std": 0.02},
        "data": {"files": ["data.jsonl"], "kind": "ids", "length": 256},
        "batch": {"rows": 4, "micro_rows": 4},
        "schedule": {"kind": "wsd", "lr": 4e-3, "warmup": 5, "decay": 15},
        "loss": {"mtp_weight": 0.3, "balance_weight": 1e-3, "bias_rate": 1e-3},
    }
    for key, value in changes.items():
        section, _, inner = key.rpartition("__")
        target = r.setdefault(section, {}) if section else r
        if value is None:
            target.pop(inner, None)
        else:
            target[inner] = value
    (folder / name).write_text(json.dumps(r))  # YAML reads it
    return folder / name


@pytest.fixture
def folder(tmp_path):
    config = json.loads((VECTORS / "ds_v3" / "config.json").read_text())
    config.update(hidden_size=48, num_hidden_layers=2, vocab_size=96, intermediate_size=80, n_routed_experts=8, num_experts_per_tok=2)
    (tmp_path / "config.json").write_text(json.dumps(config))
    rng = random.Random(1)
    with open(tmp_path / "data.jsonl", "w") as f:
        for _ in range(400):
            start, step = rng.randrange(5, 90), rng.randrange(1, 4)
            f.write(json.dumps({"ids": [5 + (start + step * i) % 90 for i in range(rng.randrange(3, 60))]}) + "\n")
    return tmp_path


def result(out, step=STEPS):
    """Hashes of weights and optimiser state, the trace, the record."""
    last = out / f"step-{step:08d}"
    return [hashlib.sha256((last / name).read_bytes()).hexdigest() for name in ("model.safetensors", "optimizer/model.safetensors")] + [
        (out / "trace.jsonl").read_text(), (last / "farseek.rec").read_text()]


def losses(out):
    return [float.fromhex(json.loads(line)["loss"]) for line in (out / "trace.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_one_end_whatever_runs_it(farseek, folder, precision):
    isas = json.loads(farseek("doctor", "--json"))["isa"]
    runs = [dict(threads=1), dict(threads=2), dict(threads=3, micro=1), dict(threads=2, micro=2), dict(threads=2, micro=3)]
    runs += [dict(threads=2, isa=isa) for isa in isas]
    want = None
    for i, run in enumerate(runs):
        path = recipe(folder, f"r{i}.yaml", out=f"out{i}", precision=precision, batch__micro_rows=run.get("micro", 4))
        farseek("train", path, "--threads", run["threads"], *(["--isa", run["isa"]] if "isa" in run else []))
        got = result(folder / f"out{i}")
        want = want or got
        assert got == want, run
        assert os.listdir(folder / f"out{i}" / f"step-{STEPS:08d}") and len(losses(folder / f"out{i}")) == STEPS
    assert losses(folder / "out0")[-1] < 0.6 * losses(folder / "out0")[0]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_recomputing_moves_no_bit(farseek, folder, precision):
    changes = dict(precision=precision, steps=12, average=0.9, optimizer={"kind": "muon", "qk_clip": 1})
    farseek("train", recipe(folder, "a.yaml", out="a", **changes), "--threads", 2)
    for i, (micro, threads) in enumerate([(4, 1), (1, 3)]):
        farseek("train", recipe(folder, f"b{i}.yaml", out=f"b{i}", recompute="layer", batch__micro_rows=micro, **changes), "--threads", threads)
        assert result(folder / f"b{i}", 12)[:3] == result(folder / "a", 12)[:3]
    assert "recompute" not in (folder / "b0" / "step-00000012" / "farseek.rec").read_text()  # of what moves no bit a record says nothing
    plans = [json.loads(farseek("train", recipe(folder, "p.yaml", recompute=how), "--dry-run", "--json"))["bytes"] for how in ("none", "layer")]
    assert plans[1] < plans[0]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_killed_at_any_moment(farseek, folder, precision):
    farseek("train", recipe(folder, "whole.yaml", out="whole", checkpoint_every=3, precision=precision), "--threads", 2)
    path, out = recipe(folder, out="killed", checkpoint_every=3, precision=precision), folder / "killed"
    rng, kills = random.Random(5), 0
    while not (out / f"step-{STEPS:08d}").exists() and kills < 60:
        done = max([int(d.name[5:]) for d in out.glob("step-????????")], default=0)
        upto, trace = done + rng.randrange(1, 9), out / "trace.jsonl"  # a few steps behind the checkpoint
        before = trace.stat().st_ino if trace.exists() else 0  # what the killed run wrote behind it goes
        p = subprocess.Popen([*BINARY, "train", str(path), "--resume", "--threads", str(1 + kills % 3)], stderr=subprocess.DEVNULL)
        while p.poll() is None and not (trace.exists() and trace.stat().st_ino != before and trace.read_bytes().count(b"\n") >= upto):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
            kills += 1
        assert p.wait() in (0, -signal.SIGKILL)
    assert kills >= 2, "the run was never killed"
    assert result(out) == result(folder / "whole")


def test_ctrl_c_leaves_a_checkpoint(farseek, folder):
    farseek("train", recipe(folder, "whole.yaml", out="whole", checkpoint_every=0))
    path, out = recipe(folder, out="stopped", checkpoint_every=0), folder / "stopped"
    trace = out / "trace.jsonl"
    interrupted([*BINARY, "train", path], lambda p: trace.exists() and trace.read_bytes().count(b"\n") >= 4, lambda: shutil.rmtree(out))
    assert [d for d in os.listdir(out) if d.startswith("step-")] != [f"step-{STEPS:08d}"]
    farseek("train", path, "--resume")
    assert result(out) == result(folder / "whole")


def test_a_checkpoint_is_a_model(farseek, logits, folder):
    """The engine runs it, its loss is the trainer's, and training goes on from it as from any model."""
    path = recipe(folder, steps=10)
    farseek("train", path)
    model = folder / "out" / "step-00000010"
    answer = logits(model, [10, 11, 12, 13], "--mtp")
    assert len(answer["last"]) == 96
    rows = folder / "rows.json"
    rows.write_text(json.dumps({"batch": [[10, 11, 12, 13, 14]]}))
    got = json.loads(farseek("loss", model, "--batch", rows, "--json", "--no-grad"))["loss"]
    last = logits(model, [10, 11, 12, 13])["last"]
    assert got > 0 and np.isfinite(last).all()
    farseek("train", recipe(folder, "more.yaml", out="more", model={"from": "out/step-00000010"}, steps=3))
    assert losses(folder / "more")[0] < losses(folder / "out")[0]


def test_a_checkpoint_names_its_class(farseek, folder):
    """Trained in bf16 it says so, and the engine runs it in that class: another one than that of f32, and near it."""
    farseek("train", recipe(folder, steps=10, precision="bf16"))
    model = folder / "out" / "step-00000010"
    assert json.loads((model / "training.json").read_text())["precision"] == "bf16"
    assert json.loads((model / "config.json").read_text())["farseek_precision"] == "bf16"
    assert "bf16" in farseek("train", recipe(folder, "plan.yaml", out="none", precision="bf16"), "--dry-run")
    one, other = (json.loads(farseek("logits", model, "--ids", "10,11,12,13", "--json", *more)) for more in ([], ["--precision", "bf16"]))
    assert (one["activations"], other["activations"], other["kv_type"]) == ("exact", "bf16", "bf16")
    assert one["last"] != other["last"] and np.allclose(one["last"], other["last"], atol=0.1)
    r = farseek("logits", model, "--ids", "10,11", "--precision", "bf16", "--kv-type", "f32", check=False)
    assert r.returncode == 2 and "RN1-bf16" in r.stderr


def test_text_by_a_tokenizer(farseek, folder):
    shutil.copy(VECTORS / "tiny_tokenizer.json", folder / "tokenizer.json")
    config = json.loads((folder / "config.json").read_text())
    config.update(vocab_size=4096, model_type="qwen3", num_key_value_heads=2, head_dim=16)
    for key in [k for k in config if k.startswith(("kv_", "q_l", "qk_", "n_", "num_exp", "moe", "first_k", "topk", "norm_topk", "scoring", "routed", "v_head", "num_next"))] + ["rope_scaling"]:
        config.pop(key)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": f"one two three {i} four five six"}) + "\n" for i in range(200)))
    path = recipe(folder, data={"files": ["text.jsonl"], "tokenizer": "tokenizer.json", "length": 256}, loss={}, steps=4)
    farseek("train", path)
    assert losses(folder / "out")[-1] < losses(folder / "out")[0]
    assert (folder / "out" / "step-00000004" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.fixture
def shards(farseek, folder):
    """Problems whose answers are to be learnt, as token shards, with their tokenizer's folder."""
    farseek("data", "make", "chain", folder / "problems.jsonl", "-n", 300, "--traced", 0.5, "--seed", 1)
    farseek("tokenizer", "train", folder / "problems.jsonl", folder / "digits", "--vocab-size", 300, "--digits", "--eos", "</s>")
    farseek("data", "tokenize", folder / "digits", folder / "problems.jsonl", folder / "tokens")
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = 320
    (folder / "config.json").write_text(json.dumps(config))
    return {"files": ["tokens"], "kind": "shards", "length": 256, "tokenizer": "digits/tokenizer.json"}


@pytest.mark.parametrize("pack", ["cut", "whole"])
def test_shards_teach_what_they_mark(farseek, logits, folder, shards, pack):
    """The first step's loss is the mean over the marked tokens of the rows that `data rows` shows, by the engine's logits."""
    farseek("train", recipe(folder, "start.yaml", out="start", data=shards, steps=1, loss={}))
    model = folder / "start" / "step-00000001"
    farseek("train", recipe(folder, stage="sft", model={"from": str(model)}, data={**shards, "pack": pack}, steps=1, loss={}, batch={"rows": 1}))
    row = json.loads(farseek("data", "rows", folder / "tokens", "--seed", 3, "--pack", pack))
    nll = []
    for begin, n in row["pieces"]:
        targets = row["targets"][begin : begin + n]
        if max(targets) < 0:
            continue
        answer = logits(model, row["ids"][begin : begin + n], "--top", 320)
        for ids, values, target in zip(answer["top_ids"], answer["top_logits"], targets, strict=True):
            if target >= 0:
                z = np.array(values, np.float64)
                nll.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[ids.index(target)])
    assert 0 < len(nll) < 256
    assert abs(losses(folder / "out")[0] - np.mean(nll)) < 1e-5


def test_shards_in_micro_batches(farseek, folder, shards):
    for n in (1, 4):
        farseek("train", recipe(folder, f"m{n}.yaml", out=f"m{n}", data={**shards, "pack": "whole"}, steps=12, batch__micro_rows=n, checkpoint_every=5))
    assert result(folder / "m1", 12) == result(folder / "m4", 12)
    assert losses(folder / "m1")[-1] < 0.9 * losses(folder / "m1")[0]
    shutil.rmtree(folder / "m1" / "step-00000012")
    farseek("train", folder / "m1.yaml", "--resume")
    assert result(folder / "m1", 12) == result(folder / "m4", 12)


def test_shards_of_another_vocabulary(farseek, folder, shards):
    shutil.copy(VECTORS / "tiny_tokenizer.json", folder / "tokenizer.json")
    r = farseek("train", recipe(folder, data={**shards, "tokenizer": "tokenizer.json"}), check=False)
    assert r.returncode == 1 and "vocabulary" in r.stderr
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    r = farseek("train", recipe(folder, data=shards), check=False)
    assert r.returncode == 1 and "vocabulary of" in r.stderr


def test_dry_run_writes_nothing(farseek, folder):
    path = recipe(folder)
    text = farseek("train", path, "--dry-run")
    assert text.startswith("shape ") and "\nparameters " in text and "GFLOP" in text and not (folder / "out").exists()
    plan = json.loads(farseek("train", path, "--dry-run", "--json"))
    farseek("train", recipe(folder, "two.yaml", steps=2))
    tensors = safetensors.numpy.load_file(folder / "out" / "step-00000002" / "model.safetensors")
    assert plan["parameters"] == sum(t.size for t in tensors.values())
    assert plan["documents"] == 400 and plan["tokens_step"] == 4 * 256 and 0 < plan["seconds_step"] < 60 and " s a step" in text
    assert plan["flop_token"] > 6 * plan["active"] * 0.9


def test_metrics_have_the_machines_share_and_the_experts_load(farseek, folder):
    lines = [json.loads(x) for x in farseek("train", recipe(folder, steps=3, checkpoint_every=0), "--json").splitlines()]
    metrics = [json.loads(x) for x in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    metrics = [m for m in metrics if "loss" in m]
    assert len(lines) == len(metrics) == 3
    for line, m in zip(lines, metrics):
        assert m["mfu"] > 0 and abs(line["mfu"] - m["mfu"]) < 1e-4
        loads = {k: v for k, v in m.items() if k.startswith("load/")}
        assert sorted(loads) == ["load/1", "load/2"]  # the first layer is dense, the last is MTP's
        for v in loads.values():  # shares of 4 * 256 tokens, two experts each, over the mean
            assert len(v) == 8 and abs(sum(v) - 8) < 1e-6 and all(abs(x * 256 - round(x * 256)) < 1e-3 for x in v)
        assert m["load"] == max(max(v) for v in loads.values()) > 1
    farseek("report", folder / "out", "-o", folder / "r.html")
    page = (folder / "r.html").read_text()
    assert all(f">{title}<" in page for title in ("load", "load/1", "load/2", "mfu"))


@pytest.mark.parametrize("changes,word", [
    ({"stepz": 5}, "'steps'"), ({"batch__rowz": 4}, "'rows'"), ({"stage": "sft"}, "model.from"), ({"stage": "stf"}, "stf"), ({"recompute": "all"}, "there are none, layer"), ({"data__pack": "half"}, "half"), ({"steps": None}, "steps"), ({"steps": -1}, "steps"),
    ({"data__length": 300}, "300"), ({"schedule__kind": "wsb"}, "wsb"), ({"schedule__lr": "high"}, "schedule.lr"),
    ({"data__files": ["nowhere.jsonl"]}, "nowhere.jsonl"), ({"model__config": None}, "config"), ({"data__kind": "text"}, "tokenizer"),
    ({"batch__rows": None}, "batch.rows"), ({"data__files": []}, "data.files")])
def test_a_bad_recipe_is_a_sentence(farseek, folder, changes, word):
    r = farseek("train", recipe(folder, **changes), check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr
    assert not list(folder.glob("out/step-*"))


def test_a_run_is_not_overwritten(farseek, folder):
    path = recipe(folder, steps=2)
    farseek("train", path)
    r = farseek("train", path, check=False)
    assert r.returncode == 2 and "--resume" in r.stderr
    other = recipe(folder, "other.yaml", steps=3)
    r = farseek("train", other, "--resume", check=False)
    assert r.returncode == 2 and "another recipe" in r.stderr


def test_no_nan_survives(farseek, folder):
    """A weight that overflows stops the run at its step; earlier checkpoints stay."""
    farseek("train", recipe(folder, steps=2))
    model = folder / "out" / "step-00000002"
    file = model / "model.safetensors"
    tensors = {k: v.copy() for k, v in safetensors.numpy.load_file(file).items()}
    tensors["model.layers.0.mlp.up_proj.weight"][:] = 3e38
    safetensors.numpy.save_file(tensors, file)
    r = farseek("train", recipe(folder, "more.yaml", out="more", model={"from": "out/step-00000002"}), check=False)
    assert r.returncode == 1 and "not those of its record" in r.stderr
    (model / "farseek.rec").unlink()
    r = farseek("train", recipe(folder, "more.yaml", out="more", model={"from": "out/step-00000002"}), check=False)
    assert r.returncode == 1 and re.search(r"step 1: rows 0 to 3 of the run: the loss of token \d+ of the step is .*'model\.layers\.0\.", r.stderr), r.stderr
    assert not list(folder.glob("more/step-*"))


def test_a_nan_on_the_way_leaves_the_checkpoint_before_it(farseek, folder):
    """A rate that is far too high: the run ends with step, rows and tensor named, the last checkpoint is whole and what its record says."""
    path = recipe(folder, checkpoint_every=1, optimizer={"clip": 0}, schedule={"kind": "constant", "lr": 100, "warmup": 0}, loss={}, batch={"rows": 1})
    r = farseek("train", path, check=False)
    said = r.stderr.splitlines()[-1]
    done = sorted(folder.glob("out/step-*"))
    assert r.returncode == 1 and done, r.stderr
    at = len(done)  # a step has one row
    assert re.search(rf"step {at + 1}[:,] rows {at} to {at} of the run: the (gradient|.*loss of token \d+) .*(a NaN|an infinity|not|inf).*", said), said
    tensors = re.findall(r"'(model\.[a-z0-9_.]+|lm_head\.weight)'", said)
    assert len(tensors) == 1 and any(name.startswith(tensors[0]) for name in safetensors.numpy.load_file(done[-1] / "model.safetensors")), said
    assert not list(folder.glob("out/*.part"))
    farseek("verify", done[-1])
