#!/usr/bin/env python3
"""A random model of DeepSeek-V3's architecture for speed alone: dsv3mini.py OUT.gguf TOKENIZER.gguf [SEED]

2.18 G parameters, 0.43 G of them active: 13 layers (engines take 26 and 27 for V2-Lite), 64 experts of which a token gets
six, one shared, and the real sizes of a latent attention head, so that every engine runs the kernels it has for V3. The
norms are ones; the spread of every other weight keeps activations near one. Words and merges come from TOKENIZER.gguf, filled up to the
vocabulary. Needs the packages gguf and numpy; writes F16, 4.4 GB, row by row of the file."""
import sys

import gguf
import numpy as np

VOCAB, HIDDEN, LAYERS, DENSE_LAYERS, HEADS = 102400, 1024, 13, 1, 16
Q_LORA, KV_LORA, ROPE, NOPE, V_HEAD = 512, 512, 64, 128, 128
EXPERTS, CHOSEN, SHARED, EXPERT_FFN, DENSE_FFN = 64, 6, 2, 768, 4096
ONES, F32, F16 = "ones", "f32", "f16"


def tensors():
    """(name, shape, kind) in the order of the file."""
    yield "token_embd", (VOCAB, HIDDEN), F16
    yield "output_norm", (HIDDEN,), ONES
    yield "output", (VOCAB, HIDDEN), F16
    for layer in range(LAYERS):
        name = f"blk.{layer}.".__add__
        yield name("attn_norm"), (HIDDEN,), ONES
        yield name("attn_q_a"), (Q_LORA, HIDDEN), F16
        yield name("attn_q_a_norm"), (Q_LORA,), ONES
        yield name("attn_q_b"), (HEADS * (NOPE + ROPE), Q_LORA), F16
        yield name("attn_kv_a_mqa"), (KV_LORA + ROPE, HIDDEN), F16
        yield name("attn_kv_a_norm"), (KV_LORA,), ONES
        yield name("attn_k_b"), (HEADS, KV_LORA, NOPE), F16
        yield name("attn_v_b"), (HEADS, V_HEAD, KV_LORA), F16
        yield name("attn_output"), (HIDDEN, HEADS * V_HEAD), F16
        yield name("ffn_norm"), (HIDDEN,), ONES
        if layer < DENSE_LAYERS:
            parts = {"": (DENSE_FFN, ())}
        else:
            yield name("ffn_gate_inp"), (EXPERTS, HIDDEN), F32
            yield name("exp_probs_b.bias"), (EXPERTS,), F32
            parts = {"_exps": (EXPERT_FFN, (EXPERTS,)), "_shexp": (SHARED * EXPERT_FFN, ())}
        for part, (width, several) in parts.items():
            yield name("ffn_gate" + part), several + (width, HIDDEN), F16
            yield name("ffn_up" + part), several + (width, HIDDEN), F16
            yield name("ffn_down" + part), several + (HIDDEN, width), F16


def values(rng, name, shape, kind):
    if kind == ONES:
        return np.ones(shape, np.float32)
    spread = 0.01 if name.endswith("bias") else 0.02 if name == "token_embd" else shape[-1] ** -0.5
    x = rng.standard_normal(shape, np.float32)
    x *= np.float32(spread)
    return x if kind == F32 else x.astype(np.float16)


def words(source):
    """Tokens, their types and the merges of another GGUF, with unused tokens behind."""
    reader = gguf.GGUFReader(source)
    field = lambda name: [reader.fields["tokenizer.ggml." + name].parts[i] for i in reader.fields["tokenizer.ggml." + name].data]
    tokens, types = [bytes(t) for t in field("tokens")][:VOCAB], [int(t[0]) for t in field("token_type")][:VOCAB]
    unused = range(len(tokens), VOCAB)
    return (tokens + [b"<unused%d>" % i for i in unused], types + [int(gguf.TokenType.UNUSED)] * len(unused),
            [bytes(m).decode() for m in field("merges")])


def file_name(name):
    return name if name.endswith("bias") else name + ".weight"


def header(w, name, source):
    w.add_name(name)
    w.add_vocab_size(VOCAB)
    w.add_context_length(32768)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_leading_dense_block_count(DENSE_LAYERS)
    w.add_feed_forward_length(DENSE_FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(1)
    w.add_q_lora_rank(Q_LORA)
    w.add_kv_lora_rank(KV_LORA)
    w.add_key_length(KV_LORA + ROPE)
    w.add_value_length(KV_LORA)
    w.add_key_length_mla(NOPE + ROPE)
    w.add_value_length_mla(V_HEAD)
    w.add_rope_dimension_count(ROPE)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_expert_count(EXPERTS)
    w.add_expert_used_count(CHOSEN)
    w.add_expert_shared_count(SHARED)
    w.add_expert_feed_forward_length(EXPERT_FFN)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_expert_weights_norm(True)
    w.add_expert_weights_scale(2.5)
    tokens, types, merges = words(source)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("deepseek-v3")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(False)


def main():
    out, source = sys.argv[1:3]
    rng = np.random.default_rng(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    w = gguf.GGUFWriter(out, "deepseek2")
    header(w, "dsv3mini", source)
    for name, shape, kind in tensors():
        dtype = np.dtype(np.float16 if kind == F16 else np.float32)
        w.add_tensor_info(file_name(name), shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for name, shape, kind in tensors():
        w.write_tensor_data(values(rng, name, shape, kind))
    w.close()


if __name__ == "__main__":
    main()
