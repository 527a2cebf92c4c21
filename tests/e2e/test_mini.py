"""farseek-mini, the model of the tree: it is what its card says, and it answers where no other model is there."""
import hashlib
import json
import os
import random
import re
import shutil
import subprocess

from conftest import ROOT
from test_run import BINARY

MINI = ROOT / "models" / "farseek-mini"
ASKED = "3+4*2-1*7+5-8*3+6"


def test_the_mini_is_as_good_as_its_card_says(farseek, tmp_path):
    farseek("data", "make", "chain", tmp_path / "test.jsonl", "-n", 1024, "--min", 8, "--max", 12, "--traced", 0, "--split", "test", "--distinct", "--seed", 1)
    r = json.loads(farseek("eval", MINI, tmp_path / "test.jsonl", "--max-tokens", 40, "--json"))
    said = re.search(r"greedy pass@1 of this file: ([0-9.]+)", (MINI / "README.md").read_text())[1]
    assert f"{r['pass_1']:.3f}" == said and r["pass_1"] >= 0.9
    first = [farseek("eval", MINI, tmp_path / "test.jsonl", "--max-tokens", 40, "--count", 48, "--out", tmp_path / isa, "--isa", isa) and (tmp_path / isa).read_text()
             for isa in json.loads(farseek("doctor", "--json"))["isa"]]
    assert first.count(first[0]) == len(first) > 1
    config = json.loads((MINI / "config.json").read_text())
    assert config["model_type"] == "deepseek_v3" and config["quantization_config"]["weight_block_size"] == [128, 128]
    assert "good" in farseek("verify", MINI)
    made = dict(line.split("  ")[::-1] for line in (ROOT / "recipes" / "r1-t1" / "SHA256SUMS").read_text().splitlines())
    assert hashlib.sha256((MINI / "model.safetensors").read_bytes()).hexdigest() == made["mini/model.safetensors"]


def test_a_bit_of_the_mini_that_flips_is_found(farseek, tmp_path):
    rng, named = random.Random(8), re.findall(r"^file \S+ (\S+)$", (MINI / "farseek.rec").read_text(), re.M)
    model = tmp_path / "mini"
    shutil.copytree(MINI, model)
    farseek("sign", "--new-key", tmp_path / "me", "--no-password")
    farseek("sign", model, "--key", tmp_path / "me.key")
    for _ in range(100):
        path = model / rng.choice(["model.safetensors", "farseek.rec", *named])
        good = path.read_bytes()
        begin = 8 + int.from_bytes(good[:8], "little") if path.suffix == ".safetensors" else 0  # the header's own bits may mean the same
        at = rng.randrange(begin, len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1:])
        r = farseek("verify", model, "--key", tmp_path / "me.pub", check=False)
        assert r.returncode != 0 and ("WRONG" in r.stdout or path.name in r.stderr), (path.name, at, r.stdout, r.stderr)
        path.write_bytes(good)
    assert "good" in farseek("verify", model)


def test_run_takes_the_mini_where_no_model_is_named(farseek, tmp_path):
    r = farseek("run", stdin=ASKED, check=False)
    assert r.returncode == 0 and "farseek-mini" in r.stderr
    value, said = 3, r.stdout.strip().split(">")
    for (op, n), step in zip(re.findall(r"([-+*])(\d)", ASKED), said[1:]):
        value = {"+": value + int(n), "-": value - int(n), "*": value * int(n)}[op] % 10
        assert step == str(value), r.stdout
    if len(BINARY) == 1:  # a program that lies elsewhere has none
        shutil.copy(BINARY[0], tmp_path / "farseek")
        r = farseek("run", stdin="hi", check=False, binary=str(tmp_path / "farseek"))
        assert r.returncode == 2 and "no model: farseek run MODEL" in r.stderr


def test_make_demo_checks_its_answers():
    r = subprocess.run(["make", "-s", "demo"], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"SEED": "3", "COUNT": "20"})
    said = re.findall(r"^([-+*\d]+=) (>\S+)   (right|well-formed|wrong)$", r.stdout, re.M)
    assert len(said) == 20 and sum(verdict == "right" for _, _, verdict in said) >= 16 and "pass@1" in r.stdout, r.stdout


def test_make_run_takes_the_mini_where_nothing_can_be_fetched(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    r = subprocess.run(["make", "-s", "run"], cwd=ROOT, input=ASKED, capture_output=True, text=True,
                       env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert r.returncode == 0 and "could not fetch" in r.stderr and r.stdout.startswith(">"), r.stderr
    assert list((tmp_path / "cache" / "farseek").iterdir()) == []
