"""An adapter that farseek trained is PEFT's: it loads there without a word about its keys, and gives the engine's logits. Skipped where
peft, torch or transformers are missing (they are no requirements of the tests)."""
import json
import random
import warnings

import pytest

from conftest import VECTORS

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

CASES = [
    ("qwen2", {"r": 4, "alpha": 8, "targets": ["all-linear"]}),
    ("llama3", {"r": 3, "alpha": 4.5, "rslora": True, "targets": ["q_proj", "down_proj", "lm_head"]}),
    ("ds_v3", {"r": 4, "alpha": 8, "targets": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]}),
    ("ds_v3", {"r": 2, "alpha": 8, "targets": ["q_a_proj", "*.mlp.experts.*"]}),
]


@pytest.mark.parametrize("base,lora", CASES)
def test_peft_loads_what_was_trained(farseek, logits, tmp_path, base, lora):
    vocab, rng = json.loads((VECTORS / base / "config.json").read_text())["vocab_size"], random.Random(3)
    with open(tmp_path / "data.jsonl", "w") as f:
        for _ in range(40):
            f.write(json.dumps({"ids": [rng.randrange(vocab) for _ in range(30)]}) + "\n")
    (tmp_path / "recipe.yaml").write_text(json.dumps({
        "stage": "pretrain", "seed": 1, "steps": 3, "out": "out", "model": {"from": str(VECTORS / base)}, "lora": lora,
        "data": {"files": ["data.jsonl"], "kind": "ids", "length": 256}, "batch": {"rows": 1}, "optimizer": {"weight_decay": 0},
        "schedule": {"kind": "constant", "lr": 3e-2}}))
    farseek("train", tmp_path / "recipe.yaml", "--threads", 1)
    adapter, ids = tmp_path / "out" / "step-00000003", [rng.randrange(vocab) for _ in range(20)]
    model = transformers.AutoModelForCausalLM.from_pretrained(VECTORS / base, dtype=torch.float64, experts_implementation="eager")
    with torch.no_grad():
        plain = model(torch.tensor([ids])).logits[0, -1].numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that are missing or not its own
            tuned = peft.PeftModel.from_pretrained(model, adapter).double().eval()
        want = tuned(torch.tensor([ids])).logits[0, -1].numpy()
    got = np.array(logits(VECTORS / base, ids, "--adapter", adapter)["last"], np.float64)
    moved = np.abs(want - plain).max()
    assert moved > 0.05, "the adapter does nothing"
    assert np.abs(got - want).max() < 1e-4 * max(1, np.abs(want).max())
