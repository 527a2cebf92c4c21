#!/usr/bin/env python3
"""Farseek's training, sampling and policy steps beside PyTorch and TRL on the same models: A and B of bench/train.c.

  train_peers.py [--program build/bench/train] [--runs 3] [--only TEST,...] [--precision f32|bf16] [--lock FILE] [--realtime] [--out bench/results/train_peers]
  train_peers.py --report OUT

Run by a Python that has torch, transformers, trl and datasets. Every test runs once for each program in turn, --runs times, each in a
fresh process on all cores: OUT.csv has medians, least and most, peak memory of the processes, and the share of the CPUs that others
took; OUT.md the table. Three runs take about ten minutes on two cores.

train   forward, backward and fused AdamW over random ids; A 16 rows of 256 tokens, B 4 of 512; PyTorch in f32 and in bf16 autocast
sample  A writes 64 tokens behind 64 that it reads, 1 or 64 sequences; Farseek draws at temperature 1 and keeps log-probabilities,
        transformers' generate is greedy, in f32 and in bf16
grpo    a step of A: 8 prompts of about 6 tokens, 8 completions of 64 tokens each, rewards, loss, gradient, AdamW; TRL's GRPOTrainer in
        f32 and with bf16=True, its steps behind the first
"""
import argparse
import contextlib
import csv
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers import ROOT, busy_seconds, cpu_name, locked  # noqa: E402

# test: (arguments of both programs, unit, title)
TESTS = {
    "train A": (("train", "A", 16), "tok/s", "training A"),
    "train B": (("train", "B", 4), "tok/s", "training B"),
    "sample 1": (("sample", "A", 1), "tok/s", "sampling A, 1 sequence"),
    "sample 64": (("sample", "A", 64), "tok/s", "sampling A, 64 sequences"),
    "grpo": (("grpo", "A", 64), "s", "GRPO step of A, 8x8x64"),
}
MUST = {  # (precision, test): (factor, of the peer's precision), or a number of tokens/s
    ("f32", "train A"): [(1.0, "bf16"), (1.2, "f32")],
    ("f32", "train B"): [(1.0, "bf16"), (1.2, "f32")],
    ("bf16", "train A"): [8000],
    ("bf16", "train B"): [1800],
    ("f32", "sample 1"): [2000],
    ("bf16", "sample 64"): [15000],
    ("f32", "grpo"): [(3.5, "f32")],
    ("bf16", "grpo"): [(5.0, "f32")],
}
PEER = {"train": "PyTorch", "sample": "transformers", "grpo": "TRL"}


# ---- Farseek ----

def farseek(program, kind, model, n, precision):
    threads = os.cpu_count()
    if kind == "train":
        command = [program, "bench", model, precision, n, threads, 5 if model == "A" else 3]
    elif kind == "sample":
        command = [program, "sample", model, precision, n, threads, 20 if n == 1 else 5]
    else:
        command = [program, "grpo", model, precision, threads, 5]
    return command, lambda text: value_of(list(csv.DictReader(text.splitlines()))[0])


def value_of(row):
    return float(row["ms_step"]) / 1e3 if "ms_sampling" in row else float(row["tokens_s"])


# ---- the peer: this file in a process of its own, which prints one JSON object ----

def build(model):
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    common = dict(moe_intermediate_size=96, n_shared_experts=1, n_group=1, topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=True,
                  first_k_dense_replace=1, qk_rope_head_dim=16, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=0,
                  eos_token_id=1, pad_token_id=2, attn_implementation="sdpa")
    shapes = {
        "A": dict(vocab_size=4096, hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4,
                  n_routed_experts=8, num_experts_per_tok=2, q_lora_rank=96, kv_lora_rank=64, qk_nope_head_dim=32, v_head_dim=32),
        "B": dict(vocab_size=8192, hidden_size=512, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8,
                  n_routed_experts=16, num_experts_per_tok=4, q_lora_rank=192, kv_lora_rank=128, qk_nope_head_dim=48, v_head_dim=64),
    }
    return DeepseekV3ForCausalLM(DeepseekV3Config(**common, **shapes[model]))


def peer_train(model, n, precision):
    import torch
    m = build(model).train()
    optimizer = torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    x = torch.randint(3, m.config.vocab_size, (n, 512 if model == "B" else 256), generator=torch.Generator().manual_seed(1))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
            loss = m(input_ids=x, labels=x, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    return x.numel() / statistics.median(seconds[2:])


def peer_sample(model, n, precision):
    import torch
    m = build(model).eval()
    if precision == "bf16":
        m = m.to(torch.bfloat16)
    x = torch.randint(3, m.config.vocab_size, (n, 64))
    seconds = []
    with torch.inference_mode():
        for _ in range(5):
            start = time.perf_counter()
            m.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=64, min_new_tokens=64, do_sample=False, pad_token_id=2)
            seconds.append(time.perf_counter() - start)
    return n * 64 / statistics.median(seconds[1:])


def peer_grpo(model, n, precision):
    import random

    from datasets import Dataset
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    words = ["<bos>", "<eos>", "<pad>"] + [chr(i) for i in range(32, 127)]
    words += [f"<x{i}>" for i in range(4096 - len(words))]
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    t.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    t.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left")
    rng = random.Random(0)
    problems = [(rng.randint(0, 99), rng.randint(0, 99)) for _ in range(256)]
    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            ends.append(time.perf_counter())

    def reward(prompts, completions, answer, **_):
        return [float(any(d in c for d in a)) + 0.01 * random.random() for c, a in zip(completions, answer)]

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(output_dir=folder, use_cpu=True, bf16=precision == "bf16", fp16=False, per_device_train_batch_size=n, num_generations=8,
                            max_completion_length=64, max_steps=4, learning_rate=1e-4, beta=0.0, logging_steps=100, save_strategy="no", report_to=[],
                            temperature=1.0, gradient_checkpointing=False, disable_tqdm=True, generation_kwargs={"min_new_tokens": 64})
        GRPOTrainer(model=build(model), reward_funcs=reward, args=config, processing_class=tokenizer, callbacks=[Clock()],
                    train_dataset=Dataset.from_list([{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a, b in problems])).train()
    return statistics.median(b - a for a, b in zip(ends, ends[1:]))


def be_peer(kind, model, n, precision):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers
    value = {"train": peer_train, "sample": peer_sample, "grpo": peer_grpo}[kind](model, int(n), precision)
    version = {"train": torch.__version__, "sample": transformers.__version__}.get(kind)
    if not version:
        import trl
        version = trl.__version__
    print(json.dumps({"value": value, "version": version.split("+")[0]}))


# ---- both in turn ----

def run(command):
    """stdout, peak MiB, share of the machine's CPU time that others used."""
    before, start = busy_seconds(), time.time()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        p = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if p.returncode:
            sys.exit(f"{' '.join(map(str, command))}: exit {p.returncode}\n{err.read()[-2000:]}")
        seconds = time.time() - start
        others = max(0, busy_seconds() - before - usage.ru_utime - usage.ru_stime) / (seconds * os.cpu_count())
        return out.read(), usage.ru_maxrss / 1024, others


def measure(args):
    describe = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    prefix = ["chrt", "-f", "1"] if args.realtime else []
    samples, versions = {}, {}
    for i in range(args.runs):
        for test, (arguments, unit, _) in TESTS.items():
            if args.only and test not in args.only:
                continue
            for precision in [args.precision] if args.precision else ["f32", "bf16"]:
                order = ["farseek", PEER[arguments[0]]]
                for name in order if i % 2 == 0 else order[::-1]:
                    if name == "farseek":
                        command, read = farseek(args.program, *arguments, precision)
                    else:
                        command, read = [sys.executable, __file__, "--peer", *arguments, precision], None
                    with locked(args.lock):
                        text, mib, others = run([*prefix, *command])
                    if read:
                        value, versions[name] = read(text), describe
                    else:
                        got = json.loads(text.splitlines()[-1])
                        value, versions[name] = got["value"], got["version"]
                    samples.setdefault((test, precision, name), []).append((value, mib, others))
                    print(f"{i + 1}/{args.runs} {test} {precision} {name}: {value:.3f} {unit}, {mib:.0f} MiB (others {100 * others:.0f} % of the CPUs)",
                          file=sys.stderr, flush=True)
    rows = []
    for (test, precision, name), got in samples.items():
        xs = sorted(x for x, _, _ in got)
        rows.append({"test": test, "precision": precision, "program": name, "version": versions[name], "threads": os.cpu_count(),
                     "median": f"{statistics.median(xs):.3f}", "min": f"{xs[0]:.3f}", "max": f"{xs[-1]:.3f}", "unit": TESTS[test][1],
                     "peak_mib": f"{statistics.median(m for _, m, _ in got):.0f}", "runs": len(xs),
                     "others_percent": f"{100 * statistics.median(o for _, _, o in got):.0f}", "cpu": cpu_name(),
                     "date": datetime.date.today().isoformat()})
    with open(f"{args.out}.csv", "w", newline="") as f:
        w = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        w.writeheader()
        w.writerows(rows)
    return rows


# ---- the table ----

def number(x):
    return f"{x:,.0f}" if x >= 100 else f"{x:.2f}"


def ratio(unit, ours, theirs):
    return theirs / ours if unit == "s" else ours / theirs


def judge(test, precision, unit, ours, peer):
    """What is asked, and whether it holds."""
    said = []
    for must in MUST.get((precision, test), []):
        if isinstance(must, tuple):
            factor, of = must
            if of not in peer:
                continue
            got = ratio(unit, ours, peer[of])
            said.append(f"{factor:.1f}x of {of}: {got:.2f}x{'' if got >= factor else ', missed'}")
        else:
            said.append(f"{number(must)}{'' if ours >= must else ', missed'}")
    return "; ".join(said)


def write_table(out, rows):
    text = "| test | precision | farseek | peer | ratio | must | peak MiB, farseek / peer |\n|---|---|---|---|---|---|---|\n"
    for test, (arguments, unit, title) in TESTS.items():
        found = {(r["program"], r["precision"]): r for r in rows if r["test"] == test}
        name = PEER[arguments[0]]
        peer = {p: float(found[name, p]["median"]) for p in ("f32", "bf16") if (name, p) in found}
        for precision in ("f32", "bf16"):
            if ("farseek", precision) not in found or (name, precision) not in found:
                continue
            a, b = found["farseek", precision], found[name, precision]
            ours, theirs = float(a["median"]), float(b["median"])
            cells = [f"{number(float(r['median']))} ({number(float(r['min']))}-{number(float(r['max']))})" for r in (a, b)]
            text += (f"| {title}, {unit} | {precision} | {cells[0]} | {name} {b['version']}: {cells[1]} | {ratio(unit, ours, theirs):.2f}x | "
                     f"{judge(test, precision, unit, ours, peer)} | {a['peak_mib']} / {b['peak_mib']} |\n")
    pathlib.Path(f"{out}.md").write_text(text)
    print(text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", type=pathlib.Path, default=ROOT / "build/bench/train")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--only", type=lambda s: s.split(","))
    p.add_argument("--precision", choices=("f32", "bf16"), help="only in this one")
    p.add_argument("--lock", type=pathlib.Path)
    p.add_argument("--realtime", action="store_true")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/train_peers")
    p.add_argument("--report", type=pathlib.Path)
    p.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peer:
        return be_peer(*args.peer)
    if args.report:
        return write_table(args.report, list(csv.DictReader(open(f"{args.report}.csv"))))
    if unknown := set(args.only or []) - set(TESTS):
        p.error(f"no such test: {', '.join(sorted(unknown))}; there are {', '.join(TESTS)}")
    write_table(args.out, measure(args))


if __name__ == "__main__":
    main()
