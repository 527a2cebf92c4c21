"""What a training moves: frozen parameters keep their bytes, groups have rates of their own, averages are models beside the weights."""
import fnmatch
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

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
