"""Tiny llama models that say what a test wants: one-hot embeddings, a layer of zeros, and a head in which the last token
alone decides the next one. Written with nothing but the standard library."""
import json
import struct

SPECIALS = ["<｜begin▁of▁sentence｜>", "<|im_end|>", "<|im_start|>", "<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>",
            "<start_of_turn>", "<end_of_turn>"]
EOS = 1
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
GEMMA = ("{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
         "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
         "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")
R1 = "{% for m in messages %}<｜User｜>{{ m.content }}{% endfor %}<｜Assistant｜><think>\n</think>"


def alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(other)}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_model(folder, chain, loop=False, template=CHATML, fork=(), ctx=512, end=EOS, config=None, use_regex=False):
    """chain: the pieces (bytes) the model says after a prompt, each its own token; then it ends, or with loop begins
    again. fork: pieces that stand in place of the first one with equal probability. end: the token that ends an answer. config:
    more of tokenizer_config.json. use_regex: text is cut by GPT-2's expression, which a GGUF has a name for."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = alphabet()
    vocab = {letters[b]: len(SPECIALS) + b for b in range(256)}
    first = len(SPECIALS) + 256
    pieces = [p.encode() if isinstance(p, str) else p for p in [*chain, *fork]]
    ids = []
    for i, p in enumerate(pieces):
        if p.decode(errors="replace") in SPECIALS:
            ids.append(SPECIALS.index(p.decode()))
            continue
        key = "".join(letters[b] for b in p)
        vocab.setdefault(key, first + i)
        ids.append(vocab[key])
    size = (first + len(pieces) + 15) // 16 * 16
    start = vocab[letters[10]]  # the prompts of ChatML and of R1 ("<think>\n") end with a line end
    following = {}
    main, other = ids[: len(chain)], ids[len(chain):]
    following[start] = [main[0], *other]
    for a, b in zip(main, main[1:]):
        following[a] = [b]
    for a in other:
        following[a] = [main[1] if len(main) > 1 else end]
    following[main[-1]] = [main[0] if loop else end]
    for b in range(256):  # whatever a text ends with, the chain begins after it
        following.setdefault(len(SPECIALS) + b, following[start])
    head = [0.0] * (size * size)
    for a, nexts in following.items():
        for b in nexts:
            head[b * size + a] = 10.0
    one_hot = [float(i == j) for i in range(size) for j in range(size)]
    model_config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": size, "hidden_size": size,
              "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 16,
              "max_position_embeddings": ctx, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False,
              "bos_token_id": 0, "eos_token_id": EOS, "hidden_act": "silu", "torch_dtype": "float32"}
    layer = "model.layers.0."
    shapes = {"self_attn.q_proj": [64, size], "self_attn.k_proj": [32, size], "self_attn.v_proj": [32, size],
              "self_attn.o_proj": [size, 64], "mlp.gate_proj": [16, size], "mlp.up_proj": [16, size], "mlp.down_proj": [size, 16]}
    tensors = {"model.embed_tokens.weight": ([size, size], one_hot), "lm_head.weight": ([size, size], head),
               "model.norm.weight": ([size], [1.0] * size)}
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"{layer}{name}.weight"] = ([size], [1.0] * size)
    for name, shape in shapes.items():
        tensors[f"{layer}{name}.weight"] = (shape, [0.0] * (shape[0] * shape[1]))
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(model_config))
    added = [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": "think" not in s} for i, s in enumerate(SPECIALS)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(({"chat_template": template} if template else {}) | (config or {})))
    return folder
