"""Training a tokenizer, side by side with Hugging Face tokenizers' BpeTrainer: python3 bench/tokenizer_train.py FILE [VOCAB_SIZE]

Both train on FILE's lines with the split expressions of deepseek-v3, alternating; the table shows medians of three runs, wall time with all
CPUs, files read and written. Stops when the merges differ."""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import tokenizers

farseek = pathlib.Path(__file__).resolve().parents[1] / "build" / "farseek"
file, vocab_size = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 32000
ours, theirs = [], []
with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "t.json"
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([farseek, "tokenizer", "train", file, out, "--vocab-size", str(vocab_size), "--lines"], check=True, stdout=subprocess.DEVNULL)
        ours.append(time.monotonic() - start)
        hf = tokenizers.Tokenizer.from_file(str(out))
        hf.model = tokenizers.models.BPE()
        start = time.monotonic()
        hf.train([file], tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, show_progress=False,
                                                        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
        hf.save(str(pathlib.Path(folder) / "hf.json"))
        theirs.append(time.monotonic() - start)
        merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads((pathlib.Path(folder) / "hf.json").read_text())["model"]["merges"]]
        assert json.loads(out.read_text())["model"]["merges"] == merges, "other merges"
mib = pathlib.Path(file).stat().st_size / 2**20
print("program,MiB,tokens,seconds,min,max")
for name, t in (("farseek", ours), (f"tokenizers {tokenizers.__version__}", theirs)):
    print(f"{name},{mib:.1f},{vocab_size},{statistics.median(t):.2f},{min(t):.2f},{max(t):.2f}")
