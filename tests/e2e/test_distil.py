"""The stages distil and on_policy_distil: a student learns a teacher's distribution, on data or on what it samples itself. Values as the logits of both
models give them; equal bits over threads, instruction sets, micro-batches and kills."""
import json
import random
import shutil
import time

import numpy as np
import pytest
import safetensors.numpy

from conftest import VECTORS, killed
from test_lineage import verify
from test_run import BINARY
from test_train import result

STEPS = 6


def config(**changes):
    c = json.loads((VECTORS / "ds_v3" / "config.json").read_text())
    c.update(hidden_size=48, num_hidden_layers=2, vocab_size=257, intermediate_size=80, n_routed_experts=8, num_experts_per_tok=2,
             num_nextn_predict_layers=0, eos_token_id=0, bos_token_id=0)
    return {**c, **changes}


def write(folder, name, **changes):
    r = {"stage": "distil", "seed": 5, "steps": STEPS, "out": "d", "checkpoint_every": 2, "model": {"config": "student.json", "init_std": 0.02},
         "teacher": {"from": "base/step-00000012"}, "data": {"files": ["shards"], "kind": "shards", "pack": "whole", "length": 256, "tokenizer": "tok"},
         "batch": {"rows": 4, "micro_rows": 4}, "optimizer": {"weight_decay": 0}, "schedule": {"kind": "constant", "lr": 3e-3}}
    on_policy = changes.pop("on_policy", False)
    if on_policy:
        r.update(stage="on_policy_distil", task={"name": "chain", "min": 1, "max": 2, "seed": 9},
                 policy={"prompts": 8, "group": 2, "max_tokens": 8, "prompt_max": 16, "sequences": 16, "micro_tokens": 1024}, model={"from": "start/step-00000002"})
        if on_policy == "mixed":
            r["teacher"]["lambda"] = 0.5
            del r["data"]["tokenizer"]
        else:
            del r["data"], r["batch"]
    for key, value in changes.items():
        section, _, inner = key.rpartition("__")
        target = r.setdefault(section, {}) if section else r
        target.pop(inner, None) if value is None else target.__setitem__(inner, value)
    (folder / name).write_text(json.dumps(r))
    return folder / name


@pytest.fixture(scope="module")
def folder(farseek, tmp_path_factory):
    """A teacher of DeepSeek-V3's shape, and a smaller student of llama's that has seen next to nothing."""
    out = tmp_path_factory.mktemp("distil")
    farseek("data", "make", "chain", out / "data.jsonl", "-n", 1500, "--min", 1, "--max", 2, "--traced", 0.3, "--split", "train")
    farseek("tokenizer", "train", out / "data.jsonl", out / "tok", "--vocab-size", 257, "--special", "<eos>", "--eos", "<eos>", "--pre", "gpt-2", "--digits")
    farseek("data", "tokenize", out / "tok", out / "data.jsonl", out / "shards", "--format", "none", "--eos", "<eos>")
    (out / "config.json").write_text(json.dumps(config()))
    (out / "student.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 257,
                                                  "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
                                                  "rms_norm_eps": 1e-6, "eos_token_id": 0, "bos_token_id": 0, "tie_word_embeddings": True, "rope_theta": 10000.0}))
    common = {"data": {"files": ["shards"], "kind": "shards", "pack": "whole", "length": 256, "tokenizer": "tok"}, "batch": {"rows": 8, "micro_rows": 4},
              "schedule": {"lr": 4e-3, "warmup": 2, "decay": 2}}
    for name, steps, shape in (("base", 12, "config.json"), ("start", 2, "student.json")):
        (out / f"{name}.yaml").write_text(json.dumps({"stage": "pretrain", "steps": steps, "out": name, "model": {"config": shape, "init_std": 0.02}, **common}))
        farseek("train", out / f"{name}.yaml")
    return out


def trace(out, key):
    return [float.fromhex(json.loads(x)[key]) for x in (out / "trace.jsonl").read_text().splitlines()]


def test_the_teacher_is_learnt(farseek, folder):
    farseek("train", write(folder, "long.yaml", out="long", steps=40, checkpoint_every=0))
    got = trace(folder / "long", "divergence")
    assert got[0] > 0.5 and got[-1] < 0.4 * got[0], got
    metrics = [json.loads(x) for x in (folder / "long" / "metrics.jsonl").read_text().splitlines()]
    assert abs(metrics[0]["loss/divergence"] - got[0]) < 1e-6


def every_logit(answer):
    """[T, V] from the best of each position, which are all."""
    ids, values = np.array(answer["top_ids"]), np.array(answer["top_logits"], dtype=np.float64)
    z = np.empty_like(values)
    np.put_along_axis(z, ids, values, -1)
    return z


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("beta, temperature", [(0, 1), (1, 1), (0.3, 2)])
def test_the_value_is_that_of_both_models_logits(farseek, logits, folder, tmp_path, beta, temperature):
    """Step 1 by numpy in f64, from the logits that farseek logits gives of teacher and student."""
    rng = random.Random(1)
    ids = [[rng.randrange(1, 257) for _ in range(n)] for n in (7, 40, 100, 105)]  # with their end tokens one row
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"ids": x}) + "\n" for x in ids))
    r = write(folder, "v.yaml", out=str(tmp_path / "v"), steps=1, data={"files": [str(tmp_path / "rows.jsonl")], "kind": "ids", "length": 256}, batch={"rows": 1},
              model={"from": "start/step-00000002"}, teacher__beta=beta, teacher__temperature=temperature)
    farseek("train", r)
    total = n = 0
    for x in ids:
        t, s = (log_softmax(every_logit(logits(folder / m, x, "--top", 257)) / temperature) for m in ("base/step-00000012", "start/step-00000002"))
        mixed = np.logaddexp(np.log(beta) + t, np.log1p(-beta) + s) if 0 < beta < 1 else None
        kl = lambda p, q: (np.exp(p) * (p - q)).sum(-1)
        d = kl(t, s) if beta == 0 else kl(s, t) if beta == 1 else beta * kl(t, mixed) + (1 - beta) * kl(s, mixed)
        total, n = total + d.sum(), n + len(d)
    got = trace(tmp_path / "v", "divergence")[0]
    assert abs(got - total / n) < 2e-6 * max(1, total / n), (got, total / n)


@pytest.mark.parametrize("changes", [{}, {"teacher__beta": 0.5, "teacher__temperature": 2, "teacher__weight": 0.5}, {"on_policy": True}, {"on_policy": "mixed"}])
def test_one_end_whatever_runs_it(farseek, folder, tmp_path, changes):
    farseek("train", write(folder, "a.yaml", out=str(tmp_path / "a"), **changes))
    want = result(tmp_path / "a", STEPS)
    micro = {"policy__micro_tokens": 256, "policy__sequences": 3} if "on_policy" in changes else {}
    micro.update({"batch__micro_rows": 1} if changes.get("on_policy") is not True else {})
    for i, (args, more) in enumerate([(["--threads", 1], {}), (["--threads", 3, "--isa", "scalar"], micro), (["--isa", "avx2"], {})]):
        farseek("train", write(folder, "b.yaml", out=str(tmp_path / f"b{i}"), **changes, **more), *args)
        assert result(tmp_path / f"b{i}", STEPS) == want


@pytest.mark.parametrize("changes", [{}, {"on_policy": True}, {"on_policy": "mixed"}])
def test_killed_at_any_moment(farseek, folder, tmp_path, changes):
    start = time.monotonic()
    farseek("train", write(folder, "w.yaml", out=str(tmp_path / "w"), **changes))
    whole_s = time.monotonic() - start
    path = write(folder, "k.yaml", out=str(tmp_path / "k"), **changes)
    killed([*BINARY, "train", path, "--resume"], random.Random(4), (0.05, 0.7), whole_s, lambda: shutil.rmtree(tmp_path / "k"), times=12, at_least=1)
    farseek("train", path, "--resume")
    assert result(tmp_path / "k", STEPS) == result(tmp_path / "w", STEPS)


def test_its_own_teacher_teaches_nothing(farseek, folder, tmp_path):
    base = folder / "base" / "step-00000012"
    for beta in (0, 1):
        out = tmp_path / f"same{beta}"
        farseek("train", write(folder, "s.yaml", out=str(out), steps=2, model={"from": "base/step-00000012"}, teacher__beta=beta))
        assert trace(out, "divergence") == [0, 0] and trace(out, "grad_norm") == [0, 0]
        a, b = (safetensors.numpy.load_file(p / "model.safetensors") for p in (base, out / "step-00000002"))
        assert all((a[k] == b[k]).all() for k in a)


def test_on_its_own_samples(farseek, folder, tmp_path):
    farseek("train", write(folder, "o.yaml", on_policy=True, out=str(tmp_path / "o"), steps=60, checkpoint_every=0))
    got = trace(tmp_path / "o", "loss")
    assert np.mean(got[-5:]) < 0.5 * np.mean(got[:5]), got


def rows(out):
    return [json.loads(x) for x in (out / "trace.jsonl").read_text().splitlines()]


def test_lambda_0_is_distillation_on_the_data(farseek, folder, tmp_path):
    """Every step has the rows that the stage distil has there, and moves the weights to the same bits."""
    for weight in (1, 0.5):
        common = {"teacher__weight": weight, "teacher__beta": 1, "model": {"from": "start/step-00000002"}}
        farseek("train", write(folder, "l.yaml", out=str(tmp_path / f"d{weight}"), **common))
        farseek("train", write(folder, "l.yaml", out=str(tmp_path / f"o{weight}"), on_policy="mixed", teacher__lambda=0, **common))
        a, b = tmp_path / f"d{weight}", tmp_path / f"o{weight}"
        assert result(a, STEPS)[:2] == result(b, STEPS)[:2]
        for x, y in zip(rows(a), rows(b), strict=True):
            assert y["read"] and (x["divergence"], x["loss"], x["grad_norm"], x["lr"]) == (y["loss"], y["cross_entropy"], y["grad_norm"], y["lr"])
            assert x.get("weights") == y.get("weights") and x.get("state") == y.get("state")


def test_lambda_1_is_as_if_it_were_not_there(farseek, folder, tmp_path):
    farseek("train", write(folder, "l.yaml", out=str(tmp_path / "a"), on_policy=True))
    farseek("train", write(folder, "l.yaml", out=str(tmp_path / "b"), on_policy=True, teacher__lambda=1))
    assert result(tmp_path / "a", STEPS) == result(tmp_path / "b", STEPS)
    record = result(tmp_path / "a", STEPS)[3]
    assert "recipe teacher.beta 1\n" in record and not any(word in record for word in ("lambda", "recipe data.", "recipe batch."))


def test_lambda_between(farseek, folder, tmp_path):
    """Both kinds of steps; more where lambda is larger, and those of the smaller among them; cut in the middle and gone on with, the same bits."""
    read = {}
    for share in (0.3, 0.5, 0.7):
        out = tmp_path / f"l{share}"
        farseek("train", write(folder, "l.yaml", out=str(out), on_policy="mixed", steps=12, teacher__lambda=share))
        read[share] = {x["step"] for x in rows(out) if "read" in x}
        assert all(("cross_entropy" in x) != ("reward" in x) for x in rows(out))
        metrics = {x["step"]: x for x in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())}
        assert {k for k, x in metrics.items() if "loss/cross_entropy" in x} == read[share] and all("loss" in x for x in metrics.values())
    assert set(range(1, 13)) > read[0.3] >= read[0.5] >= read[0.7] and 0 < len(read[0.7]) < len(read[0.3])
    out, want = tmp_path / "l0.5", result(tmp_path / "l0.5", 12)
    for step in (2, 6):
        cut = tmp_path / f"cut{step}"
        shutil.copytree(out, cut, ignore=lambda _, names: [x for x in names if x.startswith("step-") and int(x[5:]) > step])
        assert "step-00000002" in {x.name for x in cut.iterdir()} and not (cut / "step-00000012").exists()
        farseek("train", write(folder, "m.yaml", out=str(out), on_policy="mixed", steps=12, teacher__lambda=0.5), "--out", cut, "--resume")
        assert result(cut, 12) == want


@pytest.mark.parametrize("changes", [
    {}, {"task": {"file": "data.jsonl", "format": "none", "judge": "exact", "seed": 9}, "policy__prompt_max": 64,
         "data": {"files": ["more.jsonl", "data.jsonl"], "length": 256}}])
def test_a_record_of_both_kinds_of_steps(farseek, folder, tmp_path, changes):
    """Its files are found again, each for what it was: the problems among them, though they are data too."""
    farseek("data", "make", "chain", folder / "more.jsonl", "-n", 200, "--min", 1, "--max", 2, "--seed", 3)
    farseek("train", write(folder, "r.yaml", out=str(tmp_path / "r"), on_policy="mixed", **changes))
    kinds = ["read" in x for x in rows(tmp_path / "r")]
    assert True in kinds and False in kinds
    model = tmp_path / "r" / f"step-{STEPS:08d}"
    record = (model / "farseek.rec").read_text()
    assert all(x in record for x in ("recipe teacher.lambda 0.5\n", "recipe batch.rows 4\n", "recipe data.length 256\n"))
    names = [x.split(" ", 2)[2] for x in record.splitlines() if x.startswith("data ")]
    assert names == ["tokenizer", *(["source data.jsonl", "tokens", "source more.jsonl", "source data.jsonl"] if changes else ["tokens", "shards shards"])]
    for run in (["--rerun"], ["--segment", "2/3", "--isa", "scalar", "--threads", 3]):
        rc, r = verify(farseek, model, *run, "--data", folder)
        assert rc == 0 and r["good"] and r["rerun"], (run, r)


def test_a_quantised_teacher(farseek, folder, tmp_path):
    farseek("convert", folder / "base" / "step-00000012", tmp_path / "t.gguf", "--type", "BF16")
    farseek("train", write(folder, "q.yaml", out=str(tmp_path / "q"), steps=1, teacher={"from": str(tmp_path / "t.gguf")}))
    farseek("train", write(folder, "q.yaml", out=str(tmp_path / "f"), steps=1))
    a, b = trace(tmp_path / "q", "divergence")[0], trace(tmp_path / "f", "divergence")[0]
    assert a != b and abs(a - b) < 0.01 * b


def test_as_stages_of_a_chain(farseek, folder, tmp_path):
    (tmp_path / "student.json").write_text((folder / "student.json").read_text())
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for name in ("tok", "shards"):
        (tmp_path / name).symlink_to(folder / name)
    keys = ("steps", "model", "data", "batch", "schedule")
    base = json.loads((folder / "base.yaml").read_text())
    distil = json.loads(write(folder, "x.yaml", steps=2, teacher={"from": "base", "beta": 0.1}).read_text())
    own = json.loads(write(folder, "x.yaml", on_policy=True, steps=2, model={"from": "taught"}, teacher={"from": "base"}).read_text())
    mixed = json.loads(write(folder, "x.yaml", on_policy="mixed", steps=2, model={"from": "taught"}, teacher__from="base", teacher__lambda=0).read_text())
    stages = [{"name": "base", "stage": "pretrain", **{k: base[k] for k in keys}, "steps": 3}, {"name": "taught", **{k: v for k, v in distil.items() if k != "out"}},
              {"name": "own", **{k: v for k, v in own.items() if k != "out"}}, {"name": "mixed", **{k: v for k, v in mixed.items() if k != "out"}}]
    (tmp_path / "r.yaml").write_text(json.dumps({"out": "out", "stages": stages}))
    assert farseek("train", tmp_path / "r.yaml", "--dry-run").count("parameters ") == 4
    farseek("train", tmp_path / "r.yaml")
    assert len(trace(tmp_path / "out" / "own", "loss")) == 2 and len(trace(tmp_path / "out" / "mixed", "cross_entropy")) == 2 and "<h2>taught " in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("changes, word", [
    ({"teacher": None}, "teacher.from is missing"), ({"teacher__beta": 2}, "teacher.beta"), ({"teacher__form": 1}, "did you mean 'from'"),
    ({"teacher__from": "nowhere"}, "nowhere"), ({"on_policy": True, "rewards": {"right": 1}}, "unknown key 'rewards'"),
    ({"on_policy": True, "policy__epsilon_low": 1}, "policy.epsilon_low"), ({"stage": "pretrain"}, "unknown key 'teacher'"),
    ({"on_policy": "mixed", "teacher__lambda": 1.5}, "teacher.lambda is no number from 0 to 1"),
    ({"on_policy": "mixed", "teacher__lambda": -0.1}, "teacher.lambda is no number from 0 to 1"),
    ({"on_policy": "mixed", "data": None}, "data.files is missing"), ({"on_policy": "mixed", "data__length": None}, "data.length is missing"),
    ({"on_policy": "mixed", "batch": None}, "batch.rows is missing"), ({"on_policy": "mixed", "policy": None}, "policy.prompts is missing"),
    ({"on_policy": "mixed", "teacher__lambda": 1}, "with teacher.lambda 1 every step does"),
    ({"on_policy": True, "batch": {"rows": 4}}, "with teacher.lambda 1 every step does"),
    ({"on_policy": "mixed", "data__files": ["no.jsonl"], "data__kind": "text"}, "no.jsonl"), ({"teacher__lambda": 0.5}, "unknown key 'teacher.lambda'")])
def test_what_is_wrong_is_named(farseek, folder, tmp_path, changes, word):
    r = farseek("train", write(folder, "n.yaml", out=str(tmp_path / "n"), **changes), check=False)
    assert r.returncode in (1, 2) and word in r.stderr, r.stderr


def test_another_vocabulary_is_refused(farseek, folder, tmp_path):
    other = tmp_path / "t"
    other.mkdir()
    for f in (folder / "base" / "step-00000012").iterdir():
        if f.is_file():
            (other / f.name).write_bytes(f.read_bytes())
    t = json.loads((other / "tokenizer.json").read_text())
    vocab = t["model"]["vocab"]
    a, b = list(vocab)[5:7]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (other / "tokenizer.json").write_text(json.dumps(t))
    r = farseek("train", write(folder, "n.yaml", out=str(tmp_path / "n"), teacher={"from": str(other)}), check=False)
    assert r.returncode == 1 and "another vocabulary" in r.stderr
