"""The same model in every format: safetensors in one file and sharded, GGUF in F32, BF16, split and of the older form.
Configuration field by field, weights bit by bit as f32; what they compute is in test_twins.py."""
import json
import os
import struct
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
    assert len(found) >= 3
    if model == "ds_v4_mtp":  # its old form joins e_proj and h_proj: other tensors of the same values, whose answers test_twins holds
        del found["old.gguf"]
    for form, path in found.items():
        r = subprocess.run([TOOL, VECTORS / model, path], capture_output=True, text=True)
        assert r.returncode == 0, f"{form}: {r.stdout}"


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], raw[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]]) for k, v in header.items()}


def write_model(folder, config, tensors):
    header, blob = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + blob)
    return folder


def exponents(scales):
    """The power of two below each F32 scale, as F8_E8M0."""
    return bytes(struct.unpack("<I", scales[i : i + 4])[0] >> 23 & 255 for i in range(0, len(scales), 4))


def test_scales_that_are_powers_of_two_have_the_bits_of_f32_scales(farseek, tmp_path):
    """V3's fp8 fixture with every scale rounded to a power of two, stored as F32 and as V4 stores it. A NaN is refused."""
    config = (VECTORS / "ds_v3_fp8" / "config.json").read_text()
    ids = ",".join(map(str, json.loads((VECTORS / "ds_v3_fp8" / "expected.json").read_text())["prompt"]))
    as_f32, as_e8m0 = {}, {}
    for name, (dtype, shape, data) in read_safetensors(VECTORS / "ds_v3_fp8" / "model.safetensors").items():
        as_f32[name] = as_e8m0[name] = (dtype, shape, data)
        if name.endswith("_scale_inv"):
            e = exponents(data)
            as_f32[name] = (dtype, shape, b"".join(struct.pack("<I", b << 23) for b in e))
            del as_e8m0[name]
            as_e8m0[name.replace("weight_scale_inv", "scale")] = ("F8_E8M0", shape, e)
    logits = lambda path, **how: farseek("logits", path, "--ids", ids, "--greedy", 4, "--json", **how)
    want = logits(write_model(tmp_path / "f32", config, as_f32))
    assert logits(write_model(tmp_path / "e8m0", config, as_e8m0)) == want
    assert logits(VECTORS / "ds_v3_fp8") != want
    name = "model.layers.0.mlp.down_proj.scale"
    as_e8m0[name] = (*as_e8m0[name][:2], b"\xff" + as_e8m0[name][2][1:])
    r = logits(write_model(tmp_path / "nan", config, as_e8m0), check=False)
    assert r.returncode != 0 and "the scales of tensor 'model.layers.0.mlp.down_proj.weight' hold a NaN" in r.stderr
