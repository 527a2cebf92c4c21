"""An adapter that farseek trained is PEFT's: it loads there without a word about its keys, and gives the engine's logits; what farseek merges is what
merge_and_unload merges. Skipped where peft, torch or transformers are missing (they are no requirements of the tests)."""
import json
import random
import warnings

import pytest

from conftest import VECTORS

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
import safetensors.torch  # noqa: E402

CASES = [
    ("qwen2", {"r": 4, "alpha": 8, "targets": ["all-linear"]}, {}),
    ("llama3", {"r": 3, "alpha": 4.5, "rslora": True, "targets": ["q_proj", "down_proj", "lm_head"]}, {}),
    ("ds_v3", {"r": 4, "alpha": 8, "targets": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]}, {}),
    ("ds_v3", {"r": 2, "alpha": 8, "targets": ["q_a_proj", "*.mlp.experts.*"]}, {}),
    ("ds_v3", {"r": 3, "alpha": 6, "targets": ["q_a_proj", "mlp.gate"]}, {}),
    ("ds_v3", {"r": 2, "alpha": 4, "targets": ["eh_proj", "o_proj", "mlp.gate", "lm_head"]}, {"mtp_weight": 0.5, "balance_weight": 1e-3}),
]


@pytest.mark.parametrize("base,lora,loss", CASES)
def test_peft_loads_what_was_trained(farseek, logits, tmp_path, base, lora, loss):
    vocab, rng = json.loads((VECTORS / base / "config.json").read_text())["vocab_size"], random.Random(3)
    with open(tmp_path / "data.jsonl", "w") as f:
        for _ in range(40):
            f.write(json.dumps({"ids": [rng.randrange(vocab) for _ in range(30)]}) + "\n")
    (tmp_path / "recipe.yaml").write_text(json.dumps({
        "stage": "pretrain", "seed": 1, "steps": 3, "out": "out", "model": {"from": str(VECTORS / base)}, "lora": lora,
        "data": {"files": ["data.jsonl"], "kind": "ids", "length": 256}, "batch": {"rows": 1}, "optimizer": {"weight_decay": 0},
        "schedule": {"kind": "constant", "lr": 3e-2}, **({"loss": loss} if loss else {})}))
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
    names = set(safetensors.torch.load_file(adapter / "adapter_model.safetensors"))
    for target in lora["targets"]:  # of the multi-token-prediction layer, which transformers has not, the file tells all the same
        assert "*" in target or target == "all-linear" or any(f"{target}.lora_A" in name for name in names)
    assert any("eh_proj" in name for name in names) == ("mtp_weight" in loss)
    assert moved > 0.05, "the adapter does nothing"
    assert np.abs(got - want).max() < 1e-4 * max(1, np.abs(want).max())


@pytest.mark.parametrize("name", ["llama3_bf16", "llama3_rank", "qwen2_all", "qwen2_rslora", "qwen2_saved", "ds_v3_attention", "ds_v3_kv_b", "ds_v3_experts", "ds_v3_router"])
def test_merged_as_merge_and_unload_does(farseek, logits, tmp_path, name):
    """Its sums in float64 against ours of --type F32; of a bfloat16 model both round the sum once, to equal bits. Of target_parameters PEFT rounds the product,
    too, and ours are the nearest all the same."""
    adapter = VECTORS / "adapters" / name
    e = json.loads((adapter / "expected.json").read_text())
    for kind in ("F32", "BF16"):
        farseek("convert", VECTORS / e["base"], tmp_path / kind, "--adapter", adapter, "--type", kind)

    def load(path, dtype):
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, experts_implementation="eager")

    def last(model):
        with torch.no_grad():
            return model.double()(torch.tensor([e["prompt"]])).logits[0, -1].numpy()

    exact = peft.PeftModel.from_pretrained(load(VECTORS / e["base"], torch.float64), adapter).double().merge_and_unload()
    want, got, base = exact.state_dict(), load(tmp_path / "F32", torch.float64).state_dict(), load(VECTORS / e["base"], torch.float64).state_dict()
    assert want.keys() == got.keys()
    for key, w in want.items():
        assert (got[key] - w).abs().max() <= 2e-6 * max(1, w.abs().max()), key
    assert any((w - base[key]).abs().max() > 1e-3 for key, w in want.items())
    assert np.abs(np.array(logits(tmp_path / "F32", e["prompt"])["last"]) - last(exact)).max() < 1e-4

    theirs = peft.PeftModel.from_pretrained(load(VECTORS / e["base"], torch.bfloat16), adapter).merge_and_unload()
    ours = load(tmp_path / "BF16", torch.bfloat16)
    parameters = bool(json.loads((adapter / "adapter_config.json").read_text()).get("target_parameters"))
    for key, b in theirs.state_dict().items():
        a, b, w = ours.state_dict()[key].double(), b.double(), want[key]
        assert (a - b).abs().max() <= 2.0 ** -7 * b.abs().max(), key
        n_other = int((a != (w.float().bfloat16().double() if parameters and "mlp" in key and not key.endswith("bias") else b)).sum())
        assert n_other <= 1e-3 * a.numel(), key
    if not parameters:
        assert np.array_equal(last(ours), last(theirs))
