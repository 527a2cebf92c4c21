"""Records of trainings: what pretraining, fine-tuning and learning from rewards leave with each checkpoint, farseek verify of it, and doing
it again, whole and by segments, on every instruction set."""
import hashlib
import json
import random
import re
import shutil
import struct

import pytest

from conftest import ROOT, VECTORS
from test_lineage import H, safetensors_root, tree, verify

STAGES = {"base": 8, "tuned": 4, "rl": 4}  # steps


@pytest.fixture(scope="module")
def made(farseek, tmp_path_factory):
    """A base from nothing, tuned on replies, then reinforced; checkpoints every second step; the last one signed."""
    out = tmp_path_factory.mktemp("retrain")
    farseek("data", "make", "chain", out / "data.jsonl", "-n", 400, "--min", 1, "--max", 2, "--traced", 0.3, "--split", "train")
    farseek("tokenizer", "train", out / "data.jsonl", out / "tok", "--vocab-size", 257, "--special", "<eos>", "--eos", "<eos>", "--pre", "gpt-2", "--digits")
    farseek("data", "tokenize", out / "tok", out / "data.jsonl", out / "shards", "--format", "none", "--eos", "<eos>")
    config = json.loads((VECTORS / "ds_v3" / "config.json").read_text())
    config.update(hidden_size=32, num_hidden_layers=2, vocab_size=257, intermediate_size=48, n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16,
                  num_nextn_predict_layers=0, eos_token_id=0, bos_token_id=0)
    (out / "config.json").write_text(json.dumps(config))
    data = {"files": ["shards"], "kind": "shards", "pack": "whole", "length": 256}
    base = {"stage": "pretrain", "seed": 2, "steps": 8, "out": "base", "checkpoint_every": 2, "model": {"config": "config.json", "init_std": 0.02},
            "data": {**data, "tokenizer": "tok/tokenizer.json"}, "batch": {"rows": 2}, "schedule": {"lr": 4e-3, "warmup": 2, "decay": 2}, "loss": {"bias_rate": 1e-3}}
    tuned = {"stage": "sft", "seed": 3, "steps": 4, "out": "tuned", "checkpoint_every": 2, "trace_every": 1, "licence": "MIT", "signed_off_by": "Ada <ada@example.org>", "model": {"from": "base/step-00000008"}, "data": data,
             "batch": {"rows": 2}, "schedule": {"kind": "cosine", "lr": 1e-3}, "average": 0.5}
    rl = {"stage": "grpo", "seed": 5, "steps": 4, "out": "rl", "checkpoint_every": 2, "model": {"from": "tuned/step-00000004"},
          "task": {"name": "chain", "min": 1, "max": 2, "seed": 9}, "rewards": {"well_formed": 0.1}, "schedule": {"kind": "constant", "lr": 2e-3},
          "policy": {"prompts": 2, "group": 4, "max_tokens": 6, "prompt_max": 16, "updates": 2}}
    for name, recipe in (("base", base), ("tuned", tuned), ("rl", rl)):
        (out / f"{name}.yaml").write_text(json.dumps(recipe))
        farseek("train", out / f"{name}.yaml")
    farseek("sign", "--new-key", out / "me", "--no-password")
    for name in STAGES:
        farseek("sign", last(out, name), "--key", out / "me.key")
    return out


def last(made, name):
    return made / name / f"step-{STAGES[name]:08d}"


def lines(model, key):
    record = model / "farseek.rec" if model.is_dir() else model.with_name(model.name + ".rec")
    return [line[len(key) + 1:] for line in record.read_text().splitlines() if line.startswith(key + " ")]


def row_hash(row):
    """As src/lineage/trace.h writes it."""
    plain = b"\3" + struct.pack("<Qdf", row["step"], float.fromhex(row["loss"]), float.fromhex(row["grad_norm"]))
    return H(plain + (b"\1" + bytes.fromhex(row["weights"]) + bytes.fromhex(row["state"]) if "weights" in row else b"\0"))


@pytest.mark.parametrize("name", STAGES)
def test_a_record_tells_how_it_was_made(made, name):
    model = last(made, name)
    assert (lines(model, "licence"), lines(model, "signed-off-by")) == ((["MIT"], ["Ada <ada@example.org>"]) if name == "tuned" else ([], []))
    assert lines(model, "verb") == [{"base": "pretrain", "tuned": "sft", "rl": "grpo"}[name]]
    before = {"tuned": "base", "rl": "tuned"}.get(name)
    if before:
        parent = last(made, before)
        record = hashlib.sha256((parent / "farseek.rec").read_bytes()).hexdigest()
        assert lines(model, "parent") == [f"{safetensors_root(parent / 'model.safetensors')} {record}"] and not lines(model, "init")
    else:
        assert lines(model, "init") == ["2 normal"] and not lines(model, "parent")
    rows = [json.loads(x) for x in (model / "trace.jsonl").read_text().splitlines()]
    assert len(rows) == STAGES[name] and (model / "trace.jsonl").read_bytes() == (made / name / "trace.jsonl").read_bytes()
    root, steps, every = lines(model, "trace")[0].split()
    assert root == tree([row_hash(r) for r in rows]).hex() and int(steps) == STAGES[name]
    for r in rows:  # the roots are those of the checkpoints that were kept
        kept = made / name / f"step-{r['step']:08d}" / "model.safetensors"
        assert ("weights" in r) == (r["step"] % 2 == 0 or name == "tuned" or r["step"] % int(every) == 0)
        assert not kept.exists() or r["weights"] == safetensors_root(kept)
    assert lines(model, "result")[0].split()[0] == rows[-1]["weights"] and lines(model, "state")[0].split()[0] == rows[-1]["state"]
    data = dict(reversed(line.split(" ", 1)) for line in lines(model, "data"))
    assert data["tokenizer"] == hashlib.sha256((made / "tok" / "tokenizer.json").read_bytes()).hexdigest()
    if name != "rl":
        assert data["shards shards"] == hashlib.sha256((made / "shards" / "index.json").read_bytes()).hexdigest() and "tokens" in data
    recipe = dict(line.split(" ", 1) for line in lines(model, "recipe"))
    assert recipe["optimizer.beta2"] == "0.95" and recipe["stage"] == lines(model, "verb")[0] and recipe["trace_every"] == every
    assert "out" not in recipe and "batch.micro_rows" not in recipe and "policy.micro_tokens" not in recipe
    if name == "rl":
        assert recipe["policy.updates"] == "2" and recipe["task.test_share"] and recipe["policy.epsilon_high"] == "0.2"


def test_a_licence_goes_on_to_what_is_made_of_it(farseek, made, tmp_path):
    farseek("quantize", last(made, "tuned"), tmp_path / "small", "--type", "FP8", "--signed-off-by", "Bo <bo@example.org>")
    assert (lines(tmp_path / "small", "licence"), lines(tmp_path / "small", "signed-off-by")) == (["MIT"], ["Bo <bo@example.org>"])
    farseek("convert", tmp_path / "small", tmp_path / "other.gguf", "--no-tokenizer", "--licence", "Apache-2.0")
    assert (lines(tmp_path / "other.gguf", "licence"), lines(tmp_path / "other.gguf", "signed-off-by")) == (["Apache-2.0"], [])
    assert verify(farseek, tmp_path / "other.gguf", "--rerun", tmp_path / "small")[0] == 0
    r = farseek("quantize", last(made, "tuned"), tmp_path / "bad", "--type", "FP8", "--signed-off-by", "Bo", check=False)
    assert r.returncode != 0 and "signed-off-by Bo" in r.stderr and not (tmp_path / "bad").exists()


@pytest.mark.parametrize("name", STAGES)
def test_done_again(farseek, made, name, tmp_path):
    isas = json.loads(farseek("doctor", "--json"))["isa"]
    n = STAGES[name] // 2
    runs = [("--rerun", "--isa", isa) for isa in isas] + [("--segment", f"{i}/{n}", "--isa", isas[i % len(isas)]) for i in range(1, n + 1)]
    runs += [("--segment", "1/1", "--threads", 3)]
    for run in runs:
        rc, r = verify(farseek, last(made, name), *run, "--data", made, "--work", tmp_path)
        assert rc == 0 and r["good"] and r["rerun"], (run, r)
        i, of = map(int, run[1].split("/")) if run[0] == "--segment" else (1, 1)
        assert (r["first"], r["last"]) == ((i - 1) * STAGES[name] // of + 1, i * STAGES[name] // of)
    assert not list(tmp_path.iterdir())
    r = farseek("verify", last(made, name), "--segment", f"1/{n + 1}", "--data", made, check=False)
    assert r.returncode == 2 and f"into {n}" in r.stderr
    r = farseek("verify", last(made, name), "--rerun", check=False)
    assert r.returncode == 2 and ("--data" in r.stderr)


def test_a_segment_of_the_training_behind_a_quantised_model(farseek, made, tmp_path):
    data = tmp_path / "made"
    shutil.copytree(made, data)
    farseek("quantize", data / "rl" / "step-00000004", tmp_path / "fp8", "--type", "FP8")
    farseek("convert", data / "rl" / "step-00000004", data / "whole.gguf")
    farseek("quantize", data / "whole.gguf", tmp_path / "q8.gguf", "--type", "Q8_0")
    for model, n in ((tmp_path / "fp8", 1), (tmp_path / "q8.gguf", 2)):
        for isa in json.loads(farseek("doctor", "--json"))["isa"]:
            rc, r = verify(farseek, model, "--segment", "2/2", "--data", data, "--isa", isa)
            assert rc == 0 and r["good"] and r["rerun"] and (r["first"], r["last"]) == (3, 4), r
        text = farseek("verify", model, "--segment", "1/2", "--data", data)
        assert text.count("done again, the same root") == n and "every row the trace's: steps 1 to 2 of 4" in text
    r = farseek("verify", tmp_path / "fp8", "--segment", "1/2", check=False)
    assert r.returncode == 2 and "--rerun wants the model" in r.stderr
    trace = data / "rl" / "step-00000004" / "trace.jsonl"
    rows = trace.read_text().splitlines()
    rows[2] = rows[2].replace('"loss":"', '"loss":"-', 1)
    trace.write_text("\n".join(rows) + "\n")
    rc, r = verify(farseek, tmp_path / "fp8", "--segment", "2/2", "--data", data)
    assert rc == 1 and not r["good"] and any("rl/step-00000004: " in w and "trace" in w for w in r["wrong"]), r


def test_an_earlier_checkpoint_has_its_own_record(farseek, made):
    rc, r = verify(farseek, made / "base" / "step-00000004", "--rerun", "--data", made)
    assert rc == 0 and r["last"] == 4


def test_a_lie_is_found_at_its_step(farseek, made, tmp_path):
    """Whoever writes another recipe, or another row, into everything that is hashed passes the hashes; doing it again tells where it departs."""
    def forge(change_record, change_trace=lambda text: text):
        model = tmp_path / "forged"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(last(made, "tuned"), model)
        (model / "farseek.rec.minisig").unlink()
        rec, recipe, trace = (model / "farseek.rec").read_text(), (model / "recipe.yaml").read_text(), (model / "trace.jsonl").read_text()
        (model / "recipe.yaml").write_text(change_record(recipe))
        (model / "trace.jsonl").write_text(change_trace(trace))
        rec = change_record(rec)
        for name in ("recipe.yaml", "trace.jsonl"):
            rec = re.sub(rf"file \w+ {name}", f"file {hashlib.sha256((model / name).read_bytes()).hexdigest()} {name}", rec)
        root = tree([row_hash(json.loads(x)) for x in (model / "trace.jsonl").read_text().splitlines()]).hex()
        rec = re.sub(r"trace \w{64}", f"trace {root}", rec)
        (model / "farseek.rec").write_text(rec)
        assert verify(farseek, model)[0] == 0
        rc, r = verify(farseek, model, "--rerun", "--data", made)
        assert rc == 1 and r["rerun"] is True, r
        return r["wrong"][0]

    same = lambda text: text
    said = forge(lambda text: text.replace("schedule.lr 0.001", "schedule.lr 0.002").replace("  lr: 0.001", "  lr: 0.002"))
    assert "step 1 is the first" in said and "weights, state" in said and "loss" not in said
    said = forge(lambda text: text.replace("recipe seed 3", "recipe seed 4").replace("seed: 3", "seed: 4"))
    assert "tokens" in said
    def other_loss(text):
        rows = text.splitlines()
        row = json.loads(rows[2])
        rows[2] = rows[2].replace(row["loss"], (float.fromhex(row["loss"]) + 2**-20).hex())
        return "\n".join(rows) + "\n"
    said = forge(same, other_loss)
    assert "step 3 is the first that departs from the trace: loss" in said
    def other_weights(text):
        rows = text.splitlines()
        weights = json.loads(rows[1])["weights"]
        rows[1] = rows[1].replace(weights, weights[::-1])
        return "\n".join(rows) + "\n"
    said = forge(same, other_weights)
    assert said.endswith("step 2 is the first that departs from the trace: weights")
    shutil.copytree(made / "tuned" / "step-00000002", tmp_path / "step-00000002")
    rc, r = verify(farseek, tmp_path / "forged", "--segment", "2/2", "--data", made)
    assert rc == 1 and "is not what the trace has at step 2: its weights" in r["wrong"][0]


def test_one_flipped_bit_is_found_and_named(farseek, made, tmp_path):
    """500 bits of a signed training: a weight, the optimiser's state, the recipe, the data, the trace, the record."""
    rng = random.Random(7)
    shutil.copytree(made, tmp_path / "m")
    places = []
    for name in ("tuned", "rl"):
        model = last(tmp_path / "m", name)
        places += [(model, model / f) for f in ("model.safetensors", "optimizer/model.safetensors", "recipe.yaml", "trace.jsonl", "farseek.rec")]
    places.append((last(tmp_path / "m", "tuned"), tmp_path / "m" / "shards" / "index.json"))
    for _ in range(500):
        model, path = rng.choice(places)
        before = path.read_bytes()
        at, tensor = rng.randrange(len(before)), None
        if path.name == "model.safetensors":
            base = 8 + struct.unpack("<Q", before[:8])[0]
            header = json.loads(before[8:base])
            tensor = rng.choice(sorted(k for k in header if k != "__metadata__"))
            at = base + rng.randrange(*header[tensor]["data_offsets"])
        if path.name == "farseek.rec":  # of the recipe's lines a value
            line = rng.choice([m for m in re.finditer(rb"^recipe (\S+) (\S+)$", before, re.M)])
            at = rng.randrange(*line.span(2))
        path.write_bytes(before[:at] + bytes([before[at] ^ 1 << rng.randrange(8)]) + before[at + 1:])
        data = ("--data", tmp_path / "m" / "shards") if path.name == "index.json" else ()
        r = farseek("verify", model, "--key", made / "me.pub", *data, check=False)
        path.write_bytes(before)
        said = r.stdout + r.stderr
        assert r.returncode == 1, (path, at, said)
        want = f"'{tensor}'" if path.parent.name != "optimizer" and tensor else {"model.safetensors": "optimiser's state", "index.json": "'shards shards'",
                                                                                "farseek.rec": "signature"}.get(path.name, path.name)
        assert want in said or (path.name == "farseek.rec" and "farseek.rec" in said), (path, at, said)
        if path.name == "farseek.rec" and "WRONG" in r.stdout and line.group(1) in before:
            assert "recipe.yaml, line" in said, said
    rc, r = verify(farseek, last(tmp_path / "m", "rl"), "--key", made / "me.pub")
    assert rc == 0 and r["signature_checked"]


def test_the_baseline_is_a_recipe(farseek, tmp_path):
    plan = farseek("train", ROOT / "recipes" / "baseline.yaml", "--dry-run", "--out", tmp_path / "run")
    assert "parameters   2808448" in plan and not (tmp_path / "run").exists()
