#!/usr/bin/env python3
"""Whether PEFT loads an adapter without a word about its keys, and gives the logits of farseek with it.

    python tools/check_adapter.py MODEL ADAPTER IDS [FARSEEK]

Needs numpy, torch, transformers, peft. MODEL is a folder in the Hub's layout, IDS as 1,4093,198. Prints the largest differences at the
last position: with and without the adapter, farseek and PEFT."""
import json
import subprocess
import sys
import warnings

import numpy as np
import peft
import torch
import transformers

base, adapter, ids = sys.argv[1:4]
farseek = sys.argv[4] if len(sys.argv) > 4 else "build/farseek"
rows = torch.tensor([[int(i) for i in ids.split(",")]])
model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
with torch.no_grad():
    plain = model(rows).logits[0, -1].double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tuned = peft.PeftModel.from_pretrained(model, adapter).eval()
    want = tuned(rows).logits[0, -1].double().numpy()
answer = subprocess.run([farseek, "logits", base, "--adapter", adapter, "--ids", ids, "--json"], capture_output=True, text=True, check=True).stdout
got = np.array(json.loads(answer)["last"])
print(f"the adapter moves the logits by up to {np.abs(want - plain).max():.3g}; farseek and PEFT differ by up to {np.abs(got - want).max():.2g}")
