"""Records of data: what every stage that is no training leaves beside what it makes, farseek verify of it, doing it again, and the way from a model back
to the seeds it was made from."""
import hashlib
import json
import random
import shutil

import pytest

from test_chain import STAGES as CHAIN, config
from test_lineage import tensor_root, tree, verify

STAGES = CHAIN[:4] + [
    {"name": "good", "stage": "filter", "files": ["clean"], "rules": "gopher", "words_min": 1, "word_length_min": 0, "word_length_max": 100, "letter_words_min": 0, "stop_words_min": 0,
     "symbols_max": 5}
] + CHAIN[4:] + [
    {"name": "searches", "stage": "make", "task": "countdown", "count": 20},
    {"name": "right", "stage": "check", "task": "countdown", "file": "searches"},
    {"name": "near", "stage": "dedup", "files": ["made", "searches"], "near": True, "threshold": 0.7},
    {"name": "kept", "stage": "reject", "model": "rl", "problems": "test", "samples": 4, "max_tokens": 8, "rate_max": 0.9},
    {"name": "sampled", "stage": "eval", "model": "rl", "suite": "test", "max_tokens": 8, "samples": 2, "seed": 7},
]
DATA = {s["name"]: s["stage"] for s in STAGES if s["stage"] not in ("pretrain", "sft", "grpo", "quantize")}


@pytest.fixture(scope="module")
def made(farseek, tmp_path_factory):
    out = tmp_path_factory.mktemp("records")
    config(out)
    (out / "chain.yaml").write_text(json.dumps({"seed": 3, "out": "out", "stages": STAGES}))
    farseek("train", out / "chain.yaml")
    return out / "out"


def beside(made, name):
    """What a stage made, its record, its recipe."""
    folder = made / name
    if folder.is_dir():
        return folder, folder / "farseek.rec", folder / "recipe.yaml"
    return made / f"{name}.jsonl", made / f"{name}.jsonl.rec", made / f"{name}.jsonl.yaml"


def lines(record, key):
    return [line[len(key) + 1:] for line in record.read_text().splitlines() if line.startswith(key + " ")]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def root(of):
    """As docs/RN1.md has it: each file counts as a tensor of its bytes."""
    files = sorted((p for p in of.iterdir() if p.name not in ("farseek.rec", "recipe.yaml")), key=lambda p: p.name.encode()) if of.is_dir() else [of]
    return tree([tensor_root(p.name if of.is_dir() else "data", "U8", [p.stat().st_size], p.read_bytes()) for p in files]).hex()


def sources(made, name):
    stage = next(s for s in STAGES if s["name"] == name)
    files = [*stage.get("files", [])] + [stage[k] for k in ("problems", "suite", "file") if k in stage]
    return [made / f"{f}.jsonl" for f in files]


@pytest.mark.parametrize("name", DATA)
def test_a_record_tells_how_data_was_made(made, name):
    of, record, recipe = beside(made, name)
    assert lines(record, "verb") == [{"eval": "eval", "tokenize": "tokenise"}.get(DATA[name], "data")]
    files = [p for p in of.iterdir() if p not in (record, recipe)] if of.is_dir() else [of]
    assert lines(record, "result") == [f"{root(of)} {len(files)} {sum(p.stat().st_size for p in files)}"]
    assert sorted(lines(record, "file")) == sorted(f"{sha256(p)} {p.name}" for p in files)
    said = [line for line in lines(record, "data") if line.split(" ")[1] == "source"]
    assert said == [f"{sha256(p)} source {p.name}" for p in sources(made, name)]
    made_by = dict(line.split(" ") for line in lines(record, "made"))
    assert all(made_by[sha256(p)] == sha256(beside(made, p.stem)[1]) for p in sources(made, name))
    told = dict(line.split(" ", 1) for line in lines(record, "recipe"))
    assert told["stage"] == DATA[name] and not {"threads", "json", "out", "batch"} & set(told)
    if name in ("kept", "score", "sampled"):
        parent = made / "rl" / "step-00000003"
        assert lines(record, "parent")[0].split(" ")[1] == sha256(parent / "farseek.rec")
        assert told["max-tokens"] == "8" and told["kv-type"] == "f32" and told["temperature"] == {"kept": "1", "score": "0", "sampled": "0.6"}[name]
    if name == "made":  # a default of the task is written out
        assert told["target-max"] == "200" and told["traced"] == "0.3" and told["seed"] == "3"
    if name == "searches":
        assert told["budgets"] == '"2,4,8,16"' and told["min"] == "3"
    assert recipe.read_text().splitlines()[0] == f"# record {sha256(record)}"


@pytest.mark.parametrize("name", DATA)
def test_done_again(farseek, made, name, tmp_path):
    rc, r = verify(farseek, beside(made, name)[0], "--rerun", "--data", made, "--work", tmp_path, "--isa", "scalar", "--threads", 3)
    assert rc == 0 and r["good"] and r["rerun"] and r["wrong"] == [] and not list(tmp_path.iterdir()), r


def test_a_model_is_followed_back_to_its_seeds(farseek, made):
    model = made / "small.gguf"
    rc, r = verify(farseek, model, "--lineage", "--data", made, "--rerun")
    assert rc == 0 and r["good"], r
    seen = {e["path"].removeprefix(f"{made}/"): e for e in r["lineage"]}
    assert set(seen) == {"rl/step-00000003", "cold/step-00000003", "base/step-00000004", "tokens", "words", "mixed.jsonl", "clean.jsonl", "once.jsonl", "made.jsonl", "test.jsonl"}
    assert all(e["good"] and e["rerun"] for e in seen.values()) and len(r["lineage"]) == len(seen)
    said = farseek("verify", model, "--lineage", "--data", made)
    assert "begins with weights drawn from seed 3 normal" in said and "begins with seed 3" in said and "begins with seed 9" in said
    made_by = dict(line.split(" ") for line in lines(made / "base" / "step-00000004" / "farseek.rec", "made"))
    assert made_by[sha256(made / "tokens" / "index.json")] == sha256(made / "tokens" / "farseek.rec")
    r = farseek("verify", model, "--lineage", check=False)
    assert r.returncode == 2 and "--data" in r.stderr


def test_a_break_in_the_lineage_is_named(farseek, made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    model = out / "rl" / "step-00000003"
    (out / "made.jsonl.rec").unlink()
    rc, r = verify(farseek, model, "--lineage", "--data", out)
    assert rc == 1 and any("source made.jsonl" in w and "not there" in w for w in r["wrong"]), r
    # another record of the same bytes is another history
    farseek("data", "make", "chain", out / "made.jsonl", "-n", 400, "--min", 1, "--max", 2, "--traced", 0.3, "--split", "train", "--seed", 3, "--target-max", 300)
    assert sha256(out / "made.jsonl") == sha256(made / "made.jsonl")
    rc, r = verify(farseek, model, "--lineage", "--data", out)
    assert rc == 1 and any("made.jsonl" in w and "is not that which" in w for w in r["wrong"]), r
    # data that no command made begins a lineage
    (out / "own.jsonl").write_text((made / "made.jsonl").read_text())
    farseek("data", "dedup", out / "own.jsonl", out / "own-once.jsonl")
    (out / "made.jsonl").unlink()
    said = farseek("verify", out / "own-once.jsonl", "--lineage", "--data", out)
    assert "begins with data 'source own.jsonl'" in said


def flip(path, rng):
    raw = bytearray(path.read_bytes())
    at = rng.randrange(len(raw))
    raw[at] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)
    return at


def test_one_flipped_bit_is_found_and_named(farseek, made, tmp_path):
    """In the data, in its record, in its recipe's file: without doing anything again."""
    rng, names = random.Random(5), [n for n in DATA if beside(made, n)[0].is_dir() or beside(made, n)[0].stat().st_size]
    for i in range(120):
        name = names[i % len(names)]
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").mkdir()
        for p in beside(made, name):
            if p.is_dir():
                shutil.copytree(p, tmp_path / "out" / name)
            elif p.exists() and not (tmp_path / "out" / name).is_dir():
                shutil.copy(p, tmp_path / "out")
        of, record, recipe = beside(tmp_path / "out", name)
        what = rng.choice(["data", "record", "recipe"])
        path = {"record": record, "recipe": recipe}.get(what) or (rng.choice([p for p in sorted(of.iterdir()) if p not in (record, recipe)]) if of.is_dir() else of)
        before = record.read_bytes()
        flip(path, rng)
        r = farseek("verify", of, "--json", check=False)
        said = " ".join(json.loads(r.stdout)["wrong"]) if r.stdout else r.stderr
        assert r.returncode != 0, (name, what, path)
        if what == "data":
            assert f"file '{path.name}' differs" in said, said
        elif what == "recipe":
            assert recipe.name + ", line " in said, said
        elif r.stdout:  # a record that can be read: the line of its recipe, or that it is not the one
            lines_of = lambda text: [x for x in text.decode(errors="replace").splitlines() if x.startswith("recipe ")]
            changed = [x for x, y in zip(lines_of(record.read_bytes()), lines_of(before)) if x != y]
            assert recipe.name + ", line " in said or "differs" in said or "missing" in said, said
            assert not changed or len(lines_of(record.read_bytes())) != len(lines_of(before)) or changed[0].split(" ", 1)[1].replace(" ", ": ", 1) in said, (changed, said)
        else:
            assert said, (name, path)


def test_a_lie_is_found_by_doing_it_again(farseek, made, tmp_path):
    """Whoever writes another value into the record and everything that is hashed is told where the data departs."""
    def forge(name, old, new, change=None):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        shutil.copytree(made, tmp_path / "out")
        of, record, recipe = beside(tmp_path / "out", name)
        text = record.read_text()
        assert old in text
        text = text.replace(old, new)
        if change:
            before = sha256(of), root(of)
            of.write_text(change(of.read_text()))
            text = text.replace(before[0], sha256(of)).replace(before[1], root(of))
            text = text.replace(f" {len((beside(made, name)[0]).read_bytes())}\n", f" {of.stat().st_size}\n")
        record.write_text(text)
        as_yaml = "".join(line.split(" ", 1)[1].replace(" ", ": ", 1) + "\n" for line in text.splitlines() if line.startswith("recipe "))
        recipe.write_text(f"# record {sha256(record)}\n{as_yaml}")
        assert verify(farseek, of)[0] == 0
        rc, r = verify(farseek, of, "--rerun", "--data", made)
        assert rc == 1, r
        return " ".join(r["wrong"])

    assert "'made.jsonl' done again departs in line 1" in forge("made", "recipe seed 3", "recipe seed 4")
    assert "'mixed.jsonl' done again departs in line" in forge("mixed", "recipe weights 3,1", "recipe weights 1,3")
    assert "'sampled.jsonl' done again departs in line" in forge("sampled", "recipe seed 7", "recipe seed 8")
    assert "'once.jsonl' done again departs in line 5" in forge("once", "recipe ngram 5", "recipe ngram 5", lambda text: "".join(
        line.replace("1", "2", 1) if i == 4 else line for i, line in enumerate(text.splitlines(True))))
    assert "'tokenizer.json' done again departs" in forge("words", "recipe vocab-size 257", "recipe vocab-size 258")
    assert "'tokens-00001.safetensors' done again departs at byte" in forge("tokens", 'recipe eos "<eos>"', 'recipe eos "0"')
    model = tmp_path / "model"  # the parent's files count
    shutil.copytree(made / "rl" / "step-00000003", model)
    (model / "tokenizer_config.json").write_text("{}")
    rc, r = verify(farseek, made / "score.jsonl", "--rerun", model, "--data", made)
    assert rc == 1 and "tokenizer_config.json' is not the record's" in r["wrong"][0]
    rc, r = verify(farseek, made / "score.jsonl", "--rerun", made / "cold" / "step-00000003", "--data", made)
    assert rc == 1 and "the parent's root is" in r["wrong"][0]


def test_what_a_strangers_record_may_not_say(farseek, made, tmp_path):
    def refused(name, old, new):
        of, record, recipe = beside(tmp_path, name)
        shutil.copy(made / of.name, of)
        record.write_text(beside(made, name)[1].read_text().replace(old, new))
        recipe.unlink(missing_ok=True)
        r = farseek("verify", of, "--rerun", "--data", made, check=False)
        assert r.returncode != 0
        return r.stderr + r.stdout

    assert "does not know" in refused("made", "recipe seed 3\n", "recipe out /etc/x\nrecipe seed 3\n")
    assert "could be one" in refused("made", "recipe task chain", "recipe task --json")
    assert "no plain name" in refused("once", "source made.jsonl", "source ../made.jsonl")
    assert "does not know" in refused("made", "recipe stage make", "recipe stage quantize")


def test_equal_data_has_equal_records(farseek, made, tmp_path):
    farseek("data", "make", "chain", tmp_path / "made.jsonl", "-n", 400, "--min", 1, "--max", 2, "--traced", 0.3, "--split", "train", "--seed", 3)
    farseek("data", "dedup", tmp_path / "made.jsonl", tmp_path / "once.jsonl", "--threads", 3)
    farseek("eval", made / "rl" / "step-00000003", made / "test.jsonl", "--max-tokens", 8, "--seed", 3, "--threads", 1, "--isa", "scalar", "--batch", 3, "--out", tmp_path / "score.jsonl")
    for name in ("made", "once", "score"):
        assert beside(tmp_path, name)[1].read_bytes() == beside(made, name)[1].read_bytes()
    farseek("data", "dedup", tmp_path / "made.jsonl", tmp_path / "none.jsonl", "--no-record")
    assert not list(tmp_path.glob("none.jsonl.*"))


def test_data_is_signed_like_a_model(farseek, made, tmp_path):
    for p in beside(made, "made"):
        shutil.copy(p, tmp_path)
    farseek("sign", "--new-key", tmp_path / "me", "--no-password")
    farseek("sign", tmp_path / "made.jsonl", "--key", tmp_path / "me.key")
    rc, r = verify(farseek, tmp_path / "made.jsonl", "--key", tmp_path / "me.pub")
    assert rc == 0 and r["signature_checked"]
    (tmp_path / "made.jsonl.rec").write_text((tmp_path / "made.jsonl.rec").read_text().replace("seed 3", "seed 4"))
    assert verify(farseek, tmp_path / "made.jsonl", "--key", tmp_path / "me.pub")[0] == 1
    (tmp_path / "made.jsonl").write_text("{}\n")
    r = farseek("sign", tmp_path / "made.jsonl", "--key", tmp_path / "me.key", check=False)
    assert r.returncode == 1 and "not signed" in r.stderr
