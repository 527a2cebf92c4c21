#!/usr/bin/env python3
"""SmolLM2-135M-Instruct's perplexity of a text by transformers, on the dequantised weights of the Q4_1 GGUF in float64.
make_smollm2_perplexity.py MODEL.gguf > smollm2_perplexity.json   (needs torch, transformers, gguf)
The definition is that of docs/perplexity.md, written down a second time."""
import json, math, sys
import torch
from smollm2_reference import load

TEXT = """Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and \
dedicated to the proposition that all men are created equal.

Now we are engaged in a great civil war, testing whether that nation, or any nation so conceived and so dedicated, can long \
endure. We are met on a great battle-field of that war. We have come to dedicate a portion of that field, as a final resting \
place for those who here gave their lives that that nation might live. It is altogether fitting and proper that we should do this.

But, in a larger sense, we can not dedicate -- we can not consecrate -- we can not hallow -- this ground. The brave men, living \
and dead, who struggled here, have consecrated it, far above our poor power to add or detract. The world will little note, nor \
long remember what we say here, but it can never forget what they did here. It is for us the living, rather, to be dedicated \
here to the unfinished work which they who fought here have thus far so nobly advanced. It is rather for us to be here dedicated \
to the great task remaining before us -- that from these honored dead we take increased devotion to that cause for which they \
gave the last full measure of devotion -- that we here highly resolve that these dead shall not have died in vain -- that this \
nation, under God, shall have a new birth of freedom -- and that government of the people, by the people, for the people, shall \
not perish from the earth.
"""
m, tok = load(sys.argv[1])
m = m.double()
ids = tok(TEXT, add_special_tokens=False)["input_ids"]
cases = []
for ctx, stride in (64, 0), (33, 0), (100, 40):
    step, scored = (stride, stride) if stride else (ctx, ctx - 1 - ctx // 2)
    nll, at = [], 0
    while at + ctx <= len(ids):
        window = torch.tensor([ids[at : at + ctx]])
        with torch.no_grad():
            lp = torch.log_softmax(m(window).logits[0], -1)
        nll += [-lp[i, window[0, i + 1]].item() for i in range(ctx - 1 - scored, ctx - 1)]
        at += step
    mean = sum(nll) / len(nll)
    error = math.sqrt(sum((x - mean) ** 2 for x in nll) / (len(nll) - 1) / len(nll))
    cases.append(dict(ctx=ctx, stride=stride, scored_tokens=len(nll), nll=mean, nll_error=error, perplexity=math.exp(mean)))
json.dump(dict(note="transformers %s, torch %s, float64" % (__import__("transformers").__version__, torch.__version__), text=TEXT,
               tokens=len(ids), cases=cases), sys.stdout, indent=1)
