#!/usr/bin/env python3
"""SmolLM2-135M-Instruct's log-probabilities by transformers, in float32, on the weights of the Q4_1 GGUF dequantised by
PyPI gguf.  make_smollm2_logprobs.py MODEL.gguf > smollm2_logprobs.json   (needs torch, transformers, gguf)
For each of ten prompts: ids, and of every position the ten best ids with their log-probabilities."""
import json, sys
import gguf, numpy as np, torch
from transformers import LlamaConfig, LlamaForCausalLM

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
r = gguf.GGUFReader(sys.argv[1])
field = lambda k: r.fields[k].contents()
heads, kv, dim = field("llama.attention.head_count"), field("llama.attention.head_count_kv"), field("llama.embedding_length")
w = {t.name: np.asarray(gguf.dequantize(t.data, t.tensor_type), dtype=np.float32).reshape([int(x) for x in reversed(t.shape)]) for t in r.tensors}
unpermute = lambda x, n: x.reshape(n, x.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
c = LlamaConfig(vocab_size=w["token_embd.weight"].shape[0], hidden_size=dim, intermediate_size=field("llama.feed_forward_length"),
                num_hidden_layers=field("llama.block_count"), num_attention_heads=heads, num_key_value_heads=kv,
                rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), rope_theta=field("llama.rope.freq_base"),
                max_position_embeddings=field("llama.context_length"), tie_word_embeddings="output.weight" not in w)
m = LlamaForCausalLM(c).float().eval()
s = {"model.embed_tokens.weight": w["token_embd.weight"], "model.norm.weight": w["output_norm.weight"],
     "lm_head.weight": w.get("output.weight", w["token_embd.weight"])}
for i in range(c.num_hidden_layers):
    p, b = f"model.layers.{i}.", f"blk.{i}."
    for a, o in dict(q_proj="attn_q", k_proj="attn_k", v_proj="attn_v", o_proj="attn_output").items():
        x = w[b + o + ".weight"]
        s[p + f"self_attn.{a}.weight"] = unpermute(x, heads if a == "q_proj" else kv) if a in ("q_proj", "k_proj") else x
    for a in ("gate", "up", "down"):
        s[p + f"mlp.{a}_proj.weight"] = w[b + f"ffn_{a}.weight"]
    s[p + "input_layernorm.weight"], s[p + "post_attention_layernorm.weight"] = w[b + "attn_norm.weight"], w[b + "ffn_norm.weight"]
m.load_state_dict({k: torch.tensor(v) for k, v in s.items()}, strict=True)
# The tokenizer of the file is tested elsewhere; ids come from the vocabulary by transformers' own reading of it.
from transformers import AutoTokenizer
import os
tok = AutoTokenizer.from_pretrained(os.path.dirname(sys.argv[1]) or ".", gguf_file=os.path.basename(sys.argv[1]))
cases = []
for text in PROMPTS:
    ids = tok(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        lp = torch.log_softmax(m(torch.tensor([ids])).logits[0].float(), -1)
    top = lp.topk(10, -1)
    cases.append(dict(text=text, ids=ids, top_ids=top.indices.tolist(), top_logprobs=[[round(x, 6) for x in row] for row in top.values.tolist()]))
json.dump(dict(note="transformers %s, torch %s, float32" % (__import__("transformers").__version__, torch.__version__), cases=cases), sys.stdout)
