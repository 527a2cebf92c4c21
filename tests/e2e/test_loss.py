"""farseek loss: every trainable fixture against transformers' float64 losses and gradient norms, and against itself: one hash
of all gradients whatever the threads, the instruction set or the micro-batch are. Fixtures: tests/vectors/README.md."""
import json

import pytest

from conftest import VECTORS

MODELS = ["qwen2", "qwen2_tied", "qwen3", "llama3", "llama_linear", "ds_v2_lite", "ds_v2_group", "ds_v3", "ds_v3_fp8", "long_qwen2",
          "long_ds_v2_lite", "long_ds_v3"]
LOSS_TOLERANCE = 2e-6  # the condition is 1e-5
BF16_TOLERANCE = 1e-2  # relative
NORM_TOLERANCE = 1e-5  # relative; the condition is 1e-3


def isas(farseek):
    return json.loads(farseek("doctor", "--json"))["isa"]


@pytest.fixture
def rows(tmp_path):
    """A batch file of the rows given."""

    def write(batch):
        path = tmp_path / "rows.json"
        path.write_text(json.dumps({"batch": batch}))
        return path

    return write


@pytest.mark.parametrize("model", MODELS)
def test_loss_and_gradients_equal_the_reference(farseek, rows, model):
    want = json.loads((VECTORS / model / "expected.json").read_text())["train"]
    got = json.loads(farseek("loss", VECTORS / model, "--batch", rows(want["batch"]), "--json"))
    worst = {name: abs(got["grad_l2"][name] - norm) / max(norm, 1e-12) for name, norm in want["grad_l2"].items()}
    print(f"{model}: loss off by {abs(got['loss'] - want['loss']):.1e}, norms by {max(worst.values()):.1e}")
    assert abs(got["loss"] - want["loss"]) < LOSS_TOLERANCE
    assert {name: w for name, w in worst.items() if w >= NORM_TOLERANCE} == {}
    assert abs(got["grad_global_norm"] - want["grad_global_norm"]) < NORM_TOLERANCE * want["grad_global_norm"]


@pytest.mark.parametrize("model", MODELS)
def test_equal_bits(farseek, rows, model):
    batch = json.loads((VECTORS / model / "expected.json").read_text())["train"]["batch"]
    path = rows([batch[0], batch[1][:17], batch[1][: 8 if model.startswith("long") else None], batch[0][:3]])
    extra = ["--mtp-weight", 0.3, "--balance-weight", 1e-3] if model == "ds_v3" else []

    def run(*args):
        return farseek("loss", VECTORS / model, "--batch", path, "--json", *extra, *args)

    want = run("--threads", 1)
    assert len(json.loads(want)["grad_sha256"]) == 64
    for threads in (2, 3):
        assert run("--threads", threads) == want, f"{threads} threads"
    for n in (1, 2, 3):
        assert run("--micro-batch", n) == want, f"micro-batches of {n} rows"
    for isa in isas(farseek):
        assert run("--isa", isa, "--threads", 2) == want, isa


@pytest.mark.parametrize("model", MODELS)
def test_bf16(farseek, rows, model):
    """Class RN1-bf16: the loss is the reference's within 1 %, the bits are those of every thread count, cut and instruction set."""
    want = json.loads((VECTORS / model / "expected.json").read_text())["train"]

    def run(batch, *args):
        return json.loads(farseek("loss", VECTORS / model, "--batch", rows(batch), "--precision", "bf16", "--json", *args))

    got = run(want["batch"])
    print(f"{model}: loss off by {abs(got['loss'] - want['loss']) / want['loss']:.1e}")
    assert 0 < abs(got["loss"] - want["loss"]) < BF16_TOLERANCE * want["loss"]
    batch = [want["batch"][0], want["batch"][1][:17], want["batch"][1][: 8 if model.startswith("long") else None], want["batch"][0][:3]]
    first = run(batch, "--threads", 1)
    assert run(batch, "--threads", 3, "--micro-batch", 1) == first
    assert run(batch, "--threads", 2, "--micro-batch", 2) == first
    for isa in isas(farseek):
        assert run(batch, "--isa", isa, "--threads", 2) == first, isa


def test_gradients_are_what_the_rows_say(farseek, rows):
    """The hash sees an id, the order of rows and the weight of a loss."""
    batch = json.loads((VECTORS / "ds_v3" / "expected.json").read_text())["train"]["batch"]
    model = VECTORS / "ds_v3"

    def grad(batch, *args):
        return json.loads(farseek("loss", model, "--batch", rows(batch), "--json", *args))["grad_sha256"]

    changed = [batch[0], batch[1][:-1] + [batch[1][-1] ^ 1]]
    seen = [grad(batch), grad(changed), grad(batch, "--mtp-weight", 0.3), grad(batch, "--balance-weight", 0.1)]
    assert len(set(seen)) == len(seen)


def test_loss_alone(farseek, rows):
    want = json.loads((VECTORS / "ds_v3" / "expected.json").read_text())["train"]
    path = rows(want["batch"])
    full = json.loads(farseek("loss", VECTORS / "ds_v3", "--batch", path, "--mtp-weight", 1, "--json"))
    got = json.loads(farseek("loss", VECTORS / "ds_v3", "--batch", path, "--mtp-weight", 1, "--json", "--no-grad"))
    assert got == {"loss": full["loss"], "mtp_loss": full["mtp_loss"]}
    assert farseek("loss", VECTORS / "ds_v3", "--batch", path).startswith(f"loss {full['loss']:.6f}\ngradient norm ")


@pytest.mark.parametrize("content,word", [("{}", "batch"), ('{"batch":[]}', "batch"), ('{"batch":[[1]]}', "row 0"), ('{"batch":[[1,2],"x"]}', "row 1"),
                                          ('{"batch":[[1,-2]]}', "row 0"), ('{"batch":[[1,99999]]}', "99999"), ('{"batch":[[1,2],[1.5,2]]}', "row 1")])
def test_a_bad_batch_is_a_sentence(farseek, tmp_path, content, word):
    path = tmp_path / "bad.json"
    path.write_text(content)
    r = farseek("loss", VECTORS / "qwen2", "--batch", path, check=False)
    assert r.returncode in (1, 2) and word in r.stderr and not r.stdout


def test_what_cannot_be_trained_is_named(farseek, rows):
    r = farseek("loss", VECTORS / "ds_v4", "--batch", rows([[1, 2, 3]]), check=False)
    assert r.returncode == 1 and "deepseek_v4" in r.stderr
