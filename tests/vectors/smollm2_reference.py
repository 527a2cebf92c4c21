"""SmolLM2 (or another llama) as transformers runs it, float32, on the weights of a GGUF dequantised by PyPI gguf."""
import os

import gguf, numpy as np, torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM


def load(path):
    """The model and its tokenizer."""
    r = gguf.GGUFReader(path)
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
    tok = AutoTokenizer.from_pretrained(os.path.dirname(path) or ".", gguf_file=os.path.basename(path))
    return m, tok
