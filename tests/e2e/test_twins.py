"""Every fixture written again as GGUF (F32, BF16, MLA split and old, in two files) and as sharded safetensors gives the
bits of its safetensors."""
import json
import subprocess
import sys

import pytest

from conftest import VECTORS
from test_oracle import MODELS, MTP


@pytest.fixture(scope="session")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")
    subprocess.run([sys.executable, VECTORS / "make_gguf_twins.py", folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_equal_bits(farseek, twins, model):
    ids = ",".join(map(str, json.loads((VECTORS / model / "expected.json").read_text())["prompt"]))

    def run(path, *args):
        return farseek("logits", path, "--ids", ids, "--greedy", 8, "--json", "--exact-activations", *args)

    want = run(VECTORS / model)
    forms = [p for p in sorted((twins / model).glob("*.gguf")) if not p.name.startswith("q8")]
    forms += sorted((twins / model / "split").glob("*-00001-of-*.gguf")) + [twins / model / "sharded"]
    assert len(forms) >= 3  # f32, split, sharded; bf16 where it is exact
    for path in forms:
        assert run(path) == want, path
    for path in forms if model in MTP else []:
        assert run(path, "--mtp") == run(VECTORS / model, "--mtp"), path


@pytest.mark.parametrize("model", ["qwen3", "ds_v3"])
def test_blocks_have_equal_bits(farseek, twins, model):
    """Block-quantised weights: one answer on every instruction set, chunk and thread count."""
    ids = ",".join(map(str, json.loads((VECTORS / model / "expected.json").read_text())["prompt"]))
    run = lambda *args: farseek("logits", twins / model / "q8_0.gguf", "--ids", ids, "--greedy", 8, "--json", *args)
    for mode in [[], ["--exact-activations"]]:
        want = run("--threads", 1, "--isa", "scalar", *mode)
        for isa in json.loads(farseek("doctor", "--json"))["isa"]:
            assert run("--isa", isa, "--chunk", 7, *mode) == want
            assert run("--isa", isa, "--threads", 2, *mode) == want
            assert run("--isa", isa, "--mmap", *mode) == want
