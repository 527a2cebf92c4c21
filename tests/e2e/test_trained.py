"""What a training moves: frozen parameters keep their bytes, groups have rates of their own, averages are models beside the weights."""
import fnmatch
import json
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from conftest import ROOT, killed
from test_run import BINARY
from test_train import STEPS, folder, losses, recipe, result  # noqa: F401: folder is a fixture

GLOBS = ["model.embed_tokens.weight", "*.experts.[0-2].*", "*.self_attn.q_*", "*norm.weight", "*.e_score_correction_bias"]


def tensors(path):
    return safetensors.numpy.load_file(path / "model.safetensors")


@pytest.fixture
def start(farseek, folder):  # noqa: F811
    farseek("train", recipe(folder, "start.yaml", out="start", steps=2, checkpoint_every=0))
    return folder / "start" / "step-00000002"


def test_frozen_parameters_keep_their_bytes(farseek, folder, start):  # noqa: F811
    changes = dict(model={"from": str(start)}, freeze=GLOBS, steps=12, checkpoint_every=5)
    farseek("train", recipe(folder, "a.yaml", out="a", **changes), "--threads", 1)
    before, after = tensors(start), tensors(folder / "a" / "step-00000012")
    frozen = {name for name in before if any(fnmatch.fnmatchcase(name, glob) for glob in GLOBS)}
    assert 20 < len(frozen) < len(before) - 10
    for name, value in before.items():
        assert (value.tobytes() == after[name].tobytes()) == (name in frozen), name
    state = safetensors.numpy.load_file(folder / "a" / "step-00000012" / "optimizer" / "model.safetensors")
    assert set(state) == {f"{name}.{part}" for name in before.keys() - frozen for part in "mv"}
    farseek("train", recipe(folder, "b.yaml", out="b", **changes, batch__micro_rows=1), "--threads", 3, "--isa", "scalar")
    assert result(folder / "a", 12) == result(folder / "b", 12)
    shutil.rmtree(folder / "b" / "step-00000012")
    farseek("train", folder / "b.yaml", "--resume")
    assert result(folder / "a", 12) == result(folder / "b", 12)


def test_a_group_of_rate_zero_stays(farseek, folder, start):  # noqa: F811
    groups = [{"match": "*.mlp.*", "lr_scale": 0, "weight_decay": 0.5}, {"match": "*.down_proj.weight", "lr_scale": 0.25}]
    farseek("train", recipe(folder, model={"from": str(start)}, optimizer={"groups": groups}, loss={"mtp_weight": 0.3}, steps=3), "--threads", 1)
    before, after = tensors(start), tensors(folder / "out" / "step-00000003")
    for name, value in before.items():
        stays = ".mlp." in name and not name.endswith("down_proj.weight")
        assert np.array_equal(value, after[name]) == stays, name


def test_averages_follow_and_are_a_model(farseek, folder, logits):  # noqa: F811
    path = recipe(folder, average=0.9, steps=6, checkpoint_every=1)
    farseek("train", path)
    steps = [folder / "out" / f"step-{i:08d}" for i in range(1, 7)]
    rest = np.float32(1 - 0.9)
    want = tensors(steps[0] / "average")
    assert any(not np.array_equal(value, tensors(steps[0])[name]) for name, value in want.items())
    for step in steps[1:]:
        weights, got = tensors(step), tensors(step / "average")
        for name, value in weights.items():
            moved = want[name] + rest * (value - want[name])
            want[name] = value if name.endswith("correction_bias") else moved.astype(np.float32)
            assert got[name].tobytes() == want[name].tobytes(), name
    assert logits(steps[5] / "average", [10, 11, 12])["last"] != logits(steps[5], [10, 11, 12])["last"]
    shutil.rmtree(steps[5])
    farseek("train", path, "--resume")
    for name, value in tensors(steps[5] / "average").items():
        assert value.tobytes() == want[name].tobytes(), name


@pytest.mark.parametrize("changes,word", [
    ({"freeze": ["*.q_prof.*"]}, "q_prof"), ({"freeze": ["*"]}, "nothing is left"), ({"freeze": "*"}, "freeze"), ({"freeze": [3]}, "freeze"),
    ({"optimizer": {"groups": [{"lr_scale": 2}]}}, "match"), ({"optimizer": {"groups": [{"match": "*", "lr_scales": 2}]}}, "'lr_scale'"),
    ({"optimizer": {"groups": [{"match": "x"}]}}, "'x'"), ({"average": 1.5}, "average")])
def test_what_is_wrong_is_named(farseek, folder, changes, word):  # noqa: F811
    r = farseek("train", recipe(folder, **changes), check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr
    assert not list(folder.glob("out/step-*"))


LORA = {"r": 4, "alpha": 8, "targets": ["q_a_proj", "q_b_proj", "kv_b_proj", "o_proj", "shared_experts.up_proj", "mlp.down_proj"]}


def adapter_result(out, step):
    last = out / f"step-{step:08d}"
    return [(last / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json", "optimizer/model.safetensors")] + [
        (out / "trace.jsonl").read_text()]


def test_an_adapter_is_one_end_too(farseek, folder, start, logits):  # noqa: F811
    changes = dict(model={"from": str(start)}, loss={"balance_weight": 1e-3}, lora=LORA, steps=12, checkpoint_every=4, schedule__lr=2e-2, average=0.5)
    farseek("train", recipe(folder, "a.yaml", out="a", **changes), "--threads", 1)
    adapter = folder / "a" / "step-00000012"
    assert sorted(f.name for f in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "average", "farseek.rec", "farseek.roots", "optimizer", "recipe.yaml",
                                                          "trace.jsonl", "training.json"]
    pairs = safetensors.numpy.load_file(adapter / "adapter_model.safetensors")
    linears = {"q_a_proj": 2, "q_b_proj": 2, "kv_b_proj": 2, "o_proj": 2, "shared_experts.up_proj": 1, "mlp.down_proj": 1}
    for linear, n in linears.items():
        names = [name for name in pairs if f".{linear}.lora_" in name]
        assert len(names) == 2 * n and all(np.any(pairs[name]) for name in names), linear
    assert len(pairs) == 2 * sum(linears.values())
    assert losses(folder / "a")[-1] < losses(folder / "a")[0]
    ids = [10, 11, 12, 13]
    plain, tuned, averaged = (logits(start, ids, *more)["last"] for more in ([], ["--adapter", adapter], ["--adapter", adapter / "average"]))
    assert plain != tuned and tuned != averaged and plain != averaged
    farseek("train", recipe(folder, "b.yaml", out="b", **changes, batch__micro_rows=1), "--threads", 3, "--isa", "scalar")
    assert adapter_result(folder / "a", 12) == adapter_result(folder / "b", 12)
    farseek("train", recipe(folder, "c.yaml", out="c", **changes, batch__micro_rows=2, recompute="layer"))
    assert adapter_result(folder / "a", 12) == adapter_result(folder / "c", 12)


def test_an_adapter_killed_and_resumed(farseek, folder, start):  # noqa: F811
    changes = dict(model={"from": str(start)}, loss={}, lora=LORA, steps=30, checkpoint_every=3)
    start_s = time.monotonic()
    farseek("train", recipe(folder, "whole.yaml", out="whole", **changes), "--threads", 1)
    whole_s = time.monotonic() - start_s
    path, out = recipe(folder, out="killed", **changes), folder / "killed"
    killed(lambda kills: [*BINARY, "train", path, "--resume", "--threads", 1 + kills % 2], random.Random(5), (0.05, 0.3), whole_s, lambda: shutil.rmtree(out), times=60, at_least=2, grow=0.02)
    farseek("train", path, "--resume")
    assert adapter_result(out, 30) == adapter_result(folder / "whole", 30)


def test_an_adapter_goes_on_from_another(farseek, folder, start):  # noqa: F811
    """At a rate of nothing the pairs that come out are those that went in; another scale, or pairs of other linears, are refused."""
    changes = dict(model={"from": str(start)}, loss={}, steps=2)
    farseek("train", recipe(folder, lora={**LORA, "targets": ["*.layers.0.self_attn.o_proj", "lm_head"], "rslora": True}, **changes), "--threads", 1)
    first = folder / "out" / "step-00000002"
    config = json.loads((first / "adapter_config.json").read_text())
    assert config["target_modules"] == ["lm_head", "model.layers.0.self_attn.o_proj"] and config["use_rslora"]
    lora = {"r": 4, "alpha": 8, "rslora": True, "targets": ["lm_head", "0.self_attn.o_proj"], "from": str(first)}
    same = dict(changes, optimizer={"weight_decay": 0}, schedule={"kind": "constant", "lr": 1e-30})
    farseek("train", recipe(folder, "more.yaml", out="more", lora=lora, **same), "--threads", 1)
    want, got = (safetensors.numpy.load_file(f / "adapter_model.safetensors") for f in (first, folder / "more" / "step-00000002"))
    assert want.keys() == got.keys() and all(np.array_equal(value, got[name]) for name, value in want.items())
    assert losses(folder / "more")[0] < losses(folder / "out")[0]
    for more, word in (({"alpha": 9}, "scale"), ({"r": 2}, "r 4"), ({"targets": ["lm_head"]}, "no linear"), ({"targets": ["q_a_proj"]}, "no pair")):
        r = farseek("train", recipe(folder, "bad.yaml", out="bad", lora={**lora, **more}, **same), check=False)
        assert r.returncode in (1, 2) and word in r.stderr, r.stderr


@pytest.mark.parametrize("lora,word", [
    ({"r": 4, "alpha": 8}, "lora.targets"), ({"alpha": 8, "targets": ["q_proj"]}, "lora.r"), ({"r": 4, "targets": ["q_proj"]}, "lora.alpha"),
    ({"r": 4, "alpha": 8, "targets": ["w_proj"]}, "no linear"),
    ({"rank": 4}, "lora.rank")])
def test_a_bad_lora_is_named(farseek, folder, start, lora, word):  # noqa: F811
    r = farseek("train", recipe(folder, model={"from": str(start)}, loss={}, lora=lora), check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr


def test_validation_is_the_loss_of_the_weights_at_hand(farseek, folder):  # noqa: F811
    """At the end it is what a run of rate nothing finds on those rows; micro-batches and resume change no bit; training is as without."""
    rng = random.Random(2)
    (folder / "held.jsonl").write_text("".join(json.dumps({"ids": [5 + (i * 2 + rng.randrange(90)) % 90 for i in range(40)]}) + "\n" for _ in range(20)))
    held = {"files": ["held.jsonl"], "every": 4, "rows": 2}
    path = recipe(folder, steps=10, checkpoint_every=5, validation=held)
    text = subprocess.run([*BINARY, "train", str(path), "--threads", "1"], stderr=subprocess.PIPE, text=True, check=True).stderr
    farseek("train", recipe(folder, "b.yaml", out="b", steps=10, checkpoint_every=5, validation=held, batch__micro_rows=1), "--threads", 2)
    farseek("train", recipe(folder, "c.yaml", out="c", steps=10, checkpoint_every=5), "--threads", 2)
    assert result(folder / "out", 10) == result(folder / "b", 10) and result(folder / "out", 10)[:2] == result(folder / "c", 10)[:2]
    lines = [json.loads(line) for line in (folder / "out" / "trace.jsonl").read_text().splitlines()]
    assert [i + 1 for i, line in enumerate(lines) if "validation" in line] == [4, 8, 10] and "start" in lines[0] and "start" not in lines[1]
    values = [float.fromhex(lines[0]["start"])] + [float.fromhex(lines[i]["validation"]) for i in (3, 7, 9)]
    assert values[3] < values[0]
    assert f"validation   loss {values[0]:.4f}" in text and f"validation {values[3]:.4f}" in text
    metrics = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    got = [(m["step"], np.float32(m["loss/validation"])) for m in metrics if "loss/validation" in m]
    assert got == list(zip([0, 4, 8, 10], np.float32(values)))
    check = recipe(folder, "d.yaml", out="d", model={"from": "out/step-00000010"}, steps=1, data={"files": ["held.jsonl"], "kind": "ids", "length": 256},
                   batch={"rows": 2}, schedule={"kind": "constant", "lr": 1e-30})
    farseek("train", check)
    assert losses(folder / "d")[0] == values[3]
    shutil.rmtree(folder / "b" / "step-00000010")
    farseek("train", folder / "b.yaml", "--resume")
    assert result(folder / "b", 10) == result(folder / "out", 10)


def test_muon_ends_in_one_end_too(farseek, folder):  # noqa: F811
    groups = [{"match": "*.q_b_proj.weight", "lr_scale": 0.5}]
    changes = dict(optimizer={"kind": "muon", "momentum": 0.9, "qk_clip": 0.05, "groups": groups}, steps=12, checkpoint_every=5, average=0.9)
    farseek("train", recipe(folder, "a.yaml", out="a", **changes), "--threads", 1)
    farseek("train", recipe(folder, "b.yaml", out="b", **changes, batch__micro_rows=1), "--threads", 3, "--isa", "scalar")
    assert result(folder / "a", 12) == result(folder / "b", 12)
    shutil.rmtree(folder / "b" / "step-00000012")
    farseek("train", folder / "b.yaml", "--resume")
    assert result(folder / "a", 12) == result(folder / "b", 12)
    state = safetensors.numpy.load_file(folder / "a" / "step-00000012" / "optimizer" / "model.safetensors")
    adams = {name[:-2] for name in state if name.endswith(".v")}
    assert "model.embed_tokens.weight" in adams and "model.layers.0.input_layernorm.weight" in adams
    assert not any("_proj" in name or "experts" in name for name in adams)
    assert losses(folder / "a")[-1] < losses(folder / "a")[0]
    farseek("train", recipe(folder, "c.yaml", out="c", **{**changes, "optimizer": {"kind": "muon", "momentum": 0.9, "groups": groups}}), "--threads", 1)
    assert losses(folder / "c")[0] == losses(folder / "a")[0] and losses(folder / "c")[2] != losses(folder / "a")[2]  # the rule was at work


@pytest.mark.parametrize("score", ["token", "gate"])
def test_esft_trains_the_experts_that_the_data_needs(farseek, folder, start, logits, score):  # noqa: F811
    changes = dict(model={"from": str(start)}, loss={"balance_weight": 1e-3, "bias_rate": 1e-3}, steps=8, checkpoint_every=3,
                   esft={"score": score, "p": 0.4 if score == "token" else 0.5, "rows": 4})
    farseek("train", recipe(folder, "a.yaml", out="a", **changes), "--threads", 1)
    found = json.loads((folder / "a" / "experts.json").read_text())
    assert found["score"] == score and found["tokens"] == 4 * 256 and list(found["layers"]) == ["1"]
    layer = found["layers"]["1"]
    order = sorted(range(8), key=lambda e: -layer["scores"][e])
    if score == "token":
        assert abs(sum(layer["scores"]) - 1) < 1e-5
    total = 0
    for i, e in enumerate(order):
        total += layer["scores"][e]
        if total >= found["p"]:
            break
    assert layer["experts"] == sorted(order[: i + 1]) and 0 < i + 1 < 8
    adapter = folder / "a" / "step-00000008"
    got = safetensors.numpy.load_file(adapter / "adapter_model.safetensors")
    names = {f"model.layers.1.mlp.experts.{e}.{part}_proj.weight" for e in layer["experts"] for part in ("gate", "up", "down")}
    assert set(got) == {f"base_model.model.{name}" for name in names}
    before = tensors(start)
    assert all(np.any(before[name] != got[f"base_model.model.{name}"]) for name in names)
    # saved with the model it is the same training, and the engine with the adapter is that model
    whole = recipe(folder, "b.yaml", out="b", **{**changes, "esft": {**changes["esft"], "save": "model"}}, batch__micro_rows=1)
    farseek("train", whole, "--threads", 2, "--isa", "scalar")
    after = tensors(folder / "b" / "step-00000008")
    for name, value in before.items():
        if "layers.2." not in name:  # the layer that predicts ahead is left out
            assert np.array_equal(after[name], got[f"base_model.model.{name}"] if name in names else value), name
    ids = [10, 11, 12, 13]
    assert logits(start, ids, "--adapter", adapter)["last"] == logits(folder / "b" / "step-00000008", ids)["last"] != logits(start, ids)["last"]
    shutil.rmtree(adapter)
    farseek("train", folder / "a.yaml", "--resume")
    again = safetensors.numpy.load_file(adapter / "adapter_model.safetensors")
    assert all(np.array_equal(again[name], value) for name, value in got.items())
    state = safetensors.numpy.load_file(adapter / "optimizer" / "model.safetensors")
    assert set(state) == {f"{name}.{part}" for name in names for part in "mv"}


@pytest.mark.parametrize("esft,word", [({"p": 0}, "esft.p"), ({"rows": 4}, "esft.p"), ({"p": 0.2, "score": "tokens"}, "tokens"), ({"p": 0.2, "save": "x"}, "esft.save")])
def test_a_bad_esft_is_named(farseek, folder, start, esft, word):  # noqa: F811
    r = farseek("train", recipe(folder, model={"from": str(start)}, loss={}, esft=esft), check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr


def test_the_recipe_of_a_chat_adapter(farseek, tmp_path):
    """Its data are what tools/make_chat.py writes, nothing is asked in both files, and the recipe is one."""
    folder = ROOT / "recipes" / "lora-smollm2"
    subprocess.run([sys.executable, ROOT / "tools" / "make_chat.py", tmp_path], check=True)
    asked = []
    for name in ("train.jsonl", "held-out.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
        asked.append({json.loads(line)["messages"][1]["content"] for line in (folder / name).read_text().splitlines()})
    assert len(asked[1]) > 20 and not asked[0] & asked[1]
    assert "== adapter: sft" in farseek("train", folder / "recipe.yaml", "--out", tmp_path / "run", "--dry-run")
