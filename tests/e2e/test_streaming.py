"""Experts that stay on disk (--memory, --expert-slots): the same answers, within the memory that was given, or a sentence."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import numpy as np
import pytest

import block_models
from block_models import Experts, T
from conftest import VECTORS
from test_bad_files import SANITIZED, measure

IDS = "3,1,4,1,5,9,2,6,5,35,8,97,300,23,8,46,264,33,83"
SLOTS = re.compile(r"experts: (\d+) of (\d+) fit in memory")
EMULATED = "qemu" in os.environ.get("FARSEEK", "")


class Large(Experts):
    """Random codes, not kept as numbers."""

    def linear(self, name, *shape, kind=None):
        if kind == T.F32:
            return super().linear(name, *shape, kind=kind)
        blocks = self.rng.integers(0, 256, (int(np.prod(shape)) // 32, 34), dtype=np.uint8)
        blocks[:, :2] = np.float16(shape[-1] ** -0.5 / 73).reshape(1).view(np.uint8)
        self.tensors[name] = (blocks.reshape(*shape[:-1], -1), T.Q8_0, None)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """209 MB, of them 200 in two layers of 120 experts."""
    path = tmp_path_factory.mktemp("large") / "large.gguf"
    with pytest.MonkeyPatch.context() as p:
        p.setattr(block_models, "LAYERS", 3)
        p.setitem(block_models.MLA, "experts", 120)
        p.setitem(block_models.MLA, "ff", 1024)
        Large((T.Q8_0,), 0).save(path)
    return path


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")

    def make(kinds):
        path = folder / ("+".join(k.name for k in kinds) + ".gguf")
        if not path.exists():
            Experts(kinds, 0).save(path)
        return path

    return make


@pytest.mark.parametrize("model", [(T.Q8_0,), (T.Q4_K,), (T.Q4_K, T.Q6_K, T.Q4_0, T.IQ3_S, T.MXFP4),
                                   "ds_v2_lite", "ds_v3", "ds_v3_fp8", "ds_v32", "deepseek_moe", "ds_v4", "ds_v4_fp4", "ds_v4_mtp"],
                         ids=lambda m: m if isinstance(m, str) else "+".join(t.name for t in m))
def test_equal_bits(farseek, blocks, tmp_path, model):
    path = VECTORS / model if isinstance(model, str) else blocks(model)
    ids = ",".join(i for i in IDS.split(",") if int(i) < 256)
    mtp = ["--mtp"] if model == "ds_v4_mtp" else []
    run = lambda *args: farseek("logits", path, "--ids", ids, "--greedy", 8, "--json", *mtp, *args)
    want = run()
    needs = farseek("logits", path, "--ids", 1, "--expert-slots", 1, check=False)
    k = int(re.search(r"allowed are (\d+)", needs.stderr)[1]) if needs.returncode else 1
    beside = tmp_path / "batch.json"
    beside.write_text(json.dumps({"batch": [[7, 8, 9], [int(i) for i in ids.split(",")][::-1], [30] * 30]}))
    for slots in (k, k + 1, 2 * k + 1):
        for threads, chunk in ((1, 7), (2, 1), (3, 0)):
            assert run("--expert-slots", slots, "--threads", threads, "--chunk", chunk) == want
        assert run("--expert-slots", slots, "--batch-with", beside) == want
        if not isinstance(model, str):
            assert run("--expert-slots", slots, "--exact-activations") == run("--exact-activations")


@pytest.mark.parametrize("model, name", [("ds_v3", "ds_v3_experts"), ("ds_v3", "ds_v3_down"), ("ds_v4", "ds_v4_all")])
def test_experts_with_an_adapter(farseek, model, name):
    run = lambda *args: farseek("logits", VECTORS / model, *args, "--ids", "1,2,3,4,5,60,7", "--greedy", 4, "--json")
    adapted = run("--adapter", VECTORS / "adapters" / name)
    assert run("--adapter", VECTORS / "adapters" / name, "--expert-slots", 5, "--chunk", 3) == adapted != run()


def test_memory_is_what_was_given(farseek, large):
    want = farseek("logits", large, "--ids", IDS, "--greedy", 8, "--json")
    needs = farseek("run", large, "hi", "--raw", "--memory", "1MiB", check=False)
    least, limit = re.match(r"farseek: the model needs ([\d.]+) MiB with its experts on disk .*, the limit is ([\d.]+) MiB\n$",
                            needs.stderr).groups()
    assert needs.returncode == 1 and float(limit) == 1 and float(least) < 100
    for mib in (float(least) + 4, 100, 160):
        code, out, err, _, rss_kib = measure("logits", large, "--ids", IDS, "--greedy", 8, "--json", "--verbose", "--memory", f"{mib}MiB")
        slots, of = map(int, SLOTS.search(err).groups())
        assert code == 0 and out.decode() == want and of == 240 and slots <= (mib - float(least)) * 1.3 + 4
        if not SANITIZED and not EMULATED:
            assert rss_kib <= mib * 1024, f"{rss_kib} KiB with --memory {mib}MiB"
            assert slots > (mib - float(least)) * 1.1 - 3
    code, out, err, _, _ = measure("logits", large, "--ids", IDS, "--greedy", 8, "--json", "--verbose", "--memory", "4GiB")
    assert code == 0 and out.decode() == want and not err  # it fits


def test_bench_counts_what_streaming_costs(farseek, large):
    r = json.loads(farseek("bench", large, "-p", 32, "-n", 8, "-r", 2, "--no-limits", "--json", "--expert-slots", 60))
    expert = 3 * 256 * 1024 / 32 * 34
    assert r["expert_slots"] == 60 and r["experts"] == 240
    for part in ("pp", "tg"):
        assert 0 < r[part + "_hit_rate"] < 1 and 2 * r[part + "_needed_bytes"] % expert == 0
        assert r[part + "_read_bytes"] > 0 and r[part + "_guessed"] >= r[part + "_guessed_right"] > 0
    assert r["pp_needed_bytes"] <= 240 * expert  # once a step
    assert r["tg_needed_bytes"] <= 8 * 2 * 3 * expert
    text = farseek("bench", large, "-p", 32, "-n", 8, "-r", 1, "--memory", "100MiB")
    assert "experts, prompt" in text and "of what the disk allows" in text and "disk " in text


@pytest.mark.skipif(bool(SANITIZED) or EMULATED, reason="the sandbox needs the plain program on this kernel")
def test_the_sandbox_lets_experts_in(farseek, large):
    run = lambda *args: farseek("logits", large, "--ids", IDS, "--greedy", 4, "--json", *args)
    assert run("--expert-slots", 5, "--sandbox") == run()


def test_a_file_that_is_cut_short_meanwhile_is_a_sentence(large, tmp_path):
    """The last layer's experts go while a bench runs."""
    path = tmp_path / "cut.gguf"
    shutil.copy(large, path)
    command = os.environ.get("FARSEEK", "build/farseek").split()
    p = subprocess.Popen([*command, "bench", str(path), "-p", "16", "-n", "400", "-r", "100", "--no-limits", "--expert-slots", "6"],
                         stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def has_read():
        return int(re.search(r"^rchar: (\d+)", pathlib.Path(f"/proc/{p.pid}/io").read_text(), re.M)[1])

    while p.poll() is None and has_read() < 2 * os.path.getsize(path):  # it has come past what is read once
        time.sleep(0.01)
    os.truncate(path, os.path.getsize(path) // 4 * 3)
    out, err = p.communicate(timeout=600)
    assert p.returncode == 1 and not out
    assert re.match(r"farseek: tensor 'model\.layers\.\d\.mlp\.experts\.\d+\.\w+_proj\.weight': '.*cut\.gguf' ends at \d+, where \d+ bytes at \d+ "
                    r"were to be read\n$", err), err
