"""The same model in every format: safetensors in one file and sharded, GGUF in F32, BF16, split and of the older form.
Configuration field by field, weights bit by bit as f32; what they compute is in test_twins.py."""
import os
import subprocess
import sys

import pytest

from conftest import ROOT, VECTORS

TOOL = os.environ.get("SAME_WEIGHTS", str(ROOT / "build" / "tools" / "same_weights"))
MODELS = sorted(p.parent.name for p in VECTORS.glob("*/model.safetensors"))
FORMS = ["f32.gguf", "bf16.gguf", "old.gguf", "split/f32-00001-of-*.gguf", "sharded"]


@pytest.fixture(scope="session")
def twins(tmp_path_factory):
    """A folder with every model of tests/vectors in all the forms that make_gguf_twins.py knows."""
    out = tmp_path_factory.mktemp("twins")
    subprocess.run([sys.executable, VECTORS / "make_gguf_twins.py", out], check=True)
    return out


def forms(twins, model):
    return {form: path for form in FORMS for path in (twins / model).glob(form)}


@pytest.mark.parametrize("model", MODELS)
def test_every_form_holds_the_same_configuration_and_weights(twins, model):
    if not os.path.exists(TOOL):
        subprocess.run(["make", "-s", "-C", ROOT, "build/tools/same_weights"], check=True)
    found = forms(twins, model)
    assert len(found) >= (1 if model.endswith("ds_v32") else 4)
    for form, path in found.items():
        r = subprocess.run([TOOL, VECTORS / model, path], capture_output=True, text=True)
        assert r.returncode == 0, f"{form}: {r.stdout}"
