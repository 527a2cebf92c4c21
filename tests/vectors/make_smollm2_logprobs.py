#!/usr/bin/env python3
"""SmolLM2-135M-Instruct's log-probabilities by transformers, in float32, on the weights of the Q4_1 GGUF dequantised by
PyPI gguf.  make_smollm2_logprobs.py MODEL.gguf > smollm2_logprobs.json   (needs torch, transformers, gguf)
For each of ten prompts: ids, and of every position the ten best ids with their log-probabilities."""
import json, sys
import torch
from smollm2_reference import load

PROMPTS = [
    "The capital of France is",
    "Once upon a time there was a little",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "1, 2, 3, 4, 5, 6,",
    "The mitochondria is the powerhouse of the cell. It produces",
    "Water boils at 100 degrees Celsius, which is",
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
    "In 1969 the first humans walked on the Moon. " * 6,
    "Dear Sir or Madam,\n\nI am writing to you about",
    "Zażółć gęślą jaźń — 你好，世界！ Привет",
]
m, tok = load(sys.argv[1])
cases = []
for text in PROMPTS:
    ids = tok(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        lp = torch.log_softmax(m(torch.tensor([ids])).logits[0].float(), -1)
    top = lp.topk(10, -1)
    cases.append(dict(text=text, ids=ids, top_ids=top.indices.tolist(), top_logprobs=[[round(x, 6) for x in row] for row in top.values.tolist()]))
json.dump(dict(note="transformers %s, torch %s, float32" % (__import__("transformers").__version__, torch.__version__), cases=cases), sys.stdout)
