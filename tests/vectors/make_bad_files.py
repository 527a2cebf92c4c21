"""Files that a stranger might make: one folder a case, each to be refused with a sentence.

    make_bad_files.py OUT       writes every case to OUT/NAME/ and prints what to run and what to expect

CASES maps a name to (build, command, says): build(folder) writes the files and returns the path to open; command is
`inspect`, `logits` or `tokenize`; says is a piece of the sentence. The classes behind the holes found in other GGUF readers are among
them: sums and products of sizes that wrap (CVE-2025-53630, CVE-2026-27940, CVE-2026-33298), tensors that claim more bytes
than the file has (CVE-2026-7482), padding that wraps, more blocks than an array has, indices from JSON below zero."""
import base64
import json
import pathlib
import random
import struct
import sys

# ---- containers ----

def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def packed(tensors):
    """A right file of {name: (dtype, shape)} with zeros; shapes of a few elements."""
    width = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1, "BOOL": 1, "F64": 8, "I64": 8}
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        n = width[dtype]
        for d in shape:
            n *= d
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    return safetensors(header, bytes(at))


U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def gstr(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def value(key, kind, v):
    pack = {U8: "<B", I8: "<b", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}
    return gstr(key) + struct.pack("<I", kind) + (gstr(v) if kind == STRING else v if isinstance(v, bytes) else struct.pack(pack[kind], v))


def strings(key, items, n=None):
    return gstr(key) + struct.pack("<IIQ", ARRAY, STRING, len(items) if n is None else n) + b"".join(map(gstr, items))


def tensor(name, ne, kind=0, offset=0, n_dims=None):
    return gstr(name) + struct.pack("<I", len(ne) if n_dims is None else n_dims) + b"".join(struct.pack("<Q", d) for d in ne) + \
        struct.pack("<IQ", kind, offset)


def gguf(values=(), tensors=(), data=0, n_tensors=None, n_values=None, version=3, magic=b"GGUF"):
    b = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                            len(values) if n_values is None else n_values) + b"".join(values) + b"".join(tensors)
    return b + bytes(-len(b) % 32) + bytes(data)


# ---- a right model of each kind, to be spoilt ----

D, V, I = 16, 32, 16
DENSE = {"model_type": "llama", "vocab_size": V, "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 1, "intermediate_size": I, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}


def dense_tensors():
    p = "model.layers.0."
    t = {"model.embed_tokens.weight": [V, D], "lm_head.weight": [V, D], "model.norm.weight": [D], p + "input_layernorm.weight": [D],
         p + "post_attention_layernorm.weight": [D], p + "self_attn.q_proj.weight": [D, D], p + "self_attn.k_proj.weight": [D // 2, D],
         p + "self_attn.v_proj.weight": [D // 2, D], p + "self_attn.o_proj.weight": [D, D], p + "mlp.gate_proj.weight": [I, D],
         p + "mlp.up_proj.weight": [I, D], p + "mlp.down_proj.weight": [D, I]}
    return {name: ("F32", shape) for name, shape in t.items()}


GGUF_DENSE = {"general.architecture": (STRING, "llama"), "llama.block_count": (U32, 1), "llama.context_length": (U32, 64),
              "llama.embedding_length": (U32, D), "llama.feed_forward_length": (U32, I), "llama.attention.head_count": (U32, 2),
              "llama.attention.head_count_kv": (U32, 1), "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5)}


def gguf_model(changes=None, more=(), rename=None):
    shapes = {"token_embd.weight": [D, V], "output.weight": [D, V], "output_norm.weight": [D], "blk.0.attn_norm.weight": [D],
              "blk.0.ffn_norm.weight": [D], "blk.0.attn_q.weight": [D, D], "blk.0.attn_k.weight": [D, D // 2],
              "blk.0.attn_v.weight": [D, D // 2], "blk.0.attn_output.weight": [D, D], "blk.0.ffn_gate.weight": [D, I],
              "blk.0.ffn_up.weight": [D, I], "blk.0.ffn_down.weight": [I, D]}
    values = dict(GGUF_DENSE, **(changes or {}))
    infos, at = [], 0
    for name, ne in shapes.items():
        infos.append(tensor((rename or {}).get(name, name), ne, 0, at))
        n = 4
        for d in ne:
            n *= d
        at += n + -n % 32
    return gguf([value(k, *v) for k, v in values.items() if v] + list(more), infos, at)


def file_case(command, says, content, name="model.gguf"):
    def build(folder):
        path = folder / name
        path.write_bytes(content() if callable(content) else content)
        return path
    return build, command, says


def hub(says, config=None, tensors=None, files=None, weights=None, command="logits"):
    """A folder with config.json (DENSE with changes; a value ... removes the key) and model.safetensors."""
    def build(folder):
        c = {k: v for k, v in dict(DENSE, **(config or {})).items() if v is not ...}
        t = {k: v for k, v in dict(dense_tensors(), **(tensors or {})).items() if v is not ...}
        (folder / "config.json").write_text(json.dumps(c))
        if weights is not False:
            (folder / "model.safetensors").write_bytes(weights or packed(t))
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content() if callable(content) else content if isinstance(content, bytes) else content.encode())
        return folder
    return build, command, says


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def st(says, header, data=b"", length=None, command="inspect"):
    return file_case(command, says, lambda: safetensors(header, data, length), "model.safetensors")


def index(says, weight_map, shards=None, raw=None):
    def build(folder):
        (folder / "config.json").write_text(json.dumps(DENSE))
        for name, content in (shards or {}).items():
            (folder / name).write_bytes(content)
        (folder / "model.safetensors.index.json").write_bytes(raw if raw is not None else json.dumps({"weight_map": weight_map}).encode())
        return folder
    return build, "inspect", says


def rope(says, **scaling):
    theta = scaling.pop("rope_theta", 10000.0)
    return hub(says, {"rope_theta": theta, "rope_scaling": scaling or None})


# ---- tokenizers ----

ALPHABET = {b: chr(b) if 0x21 <= b <= 0x7e or 0xa1 <= b <= 0xff and b != 0xad else None for b in range(256)}
for _n, _b in enumerate(b for b in range(256) if ALPHABET[b] is None):
    ALPHABET[_b] = chr(256 + _n)


def tokenizer_json(vocab=None, merges=(), **changes):
    model = {"type": "BPE", "vocab": vocab if vocab is not None else {ALPHABET[b]: b for b in range(256)}, "merges": list(merges)}
    t = {"model": model, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"}}
    t.update(changes)
    return json.dumps(t)


def tok(says, text=None, **kw):
    return hub(says, files={"tokenizer.json": text if text is not None else lambda: tokenizer_json(**kw).encode()})


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
                                                  {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}


def colliding_merges():
    """Pairs whose places in the table of merges are one long run: each is found at once, a pair that is not there only after
    the whole run. The hash is that of src/text/vocab.h."""
    n, slots = 3000, 8192
    vocab = {ALPHABET[b]: b for b in range(256)}
    taken, merges = set(), []
    for left in range(256):
        for right in range(256):
            k = (left << 32 | right) * 0x9e3779b97f4a7c15 & (1 << 64) - 1
            home = (k ^ k >> 29) & slots - 1
            if home < n and home not in taken:
                taken.add(home)
                merges.append((left, right))
    for left, right in merges:
        vocab[ALPHABET[left] + ALPHABET[right]] = len(vocab)
    return tokenizer_json(vocab, [f"{ALPHABET[a]} {ALPHABET[b]}" for a, b in merges]).encode()


HUGE = 1 << 63
MOE = {"model_type": "deepseek_v2", "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
       "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "topk_method": "greedy"}

V4 = {"model_type": "deepseek_v4", "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "q_lora_rank": 8,
      "qk_rope_head_dim": 4, "head_dim": 8, "o_groups": 2, "o_lora_rank": 16, "sliding_window": 8, "hc_mult": 2, "hc_sinkhorn_iters": 3,
      "compress_ratios": [4], "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4}

CASES = {
    # safetensors
    "st_empty": file_case("inspect", "has at least 8", b"", "model.safetensors"),
    "st_length_wraps": st("at most 100000000", {}, length=(1 << 64) - 1),
    "st_length_past_the_file": st("the header says", {}, length=1 << 20),
    "st_not_json": st("JSON", b'{"a" 1}'),
    "st_bomb_of_objects": file_case("inspect", "is not an object", lambda: safetensors(b'{"a":[' + b"{}," * 3_000_000 + b"{}]}"),
                                    "model.safetensors"),
    "st_bomb_in_an_entry": file_case("inspect", "has no dtype", lambda: safetensors(b'{"a":{"x":[' + b"{}," * 3_000_000 + b"{}]}}"),
                                     "model.safetensors"),
    "st_bomb_of_sizes": file_case("inspect", "dimensions", lambda: safetensors(
        b'{"a":{"dtype":"F32","shape":[' + b"1," * 2_000_000 + b'1],"data_offsets":[0,4]}}', bytes(4)), "model.safetensors"),
    "st_deep": file_case("inspect", "nesting", lambda: safetensors(b'{"a":{"x":' + b"[" * 1_000_000 + b"}}"), "model.safetensors"),
    "st_shape_wraps": st("overflows", {"a": entry(shape=[1 << 32, 1 << 32])}, bytes(4)),
    "st_shape_bytes_wrap": st("overflows", {"a": entry("F64", [999999999999999999, 18])}, bytes(8)),
    "st_negative_size": st("shape[0]", {"a": entry(shape=[-1])}, bytes(4)),
    "st_negative_offset": st("data_offsets[0]", {"a": entry(offsets=[-4, 0])}, bytes(4)),
    "st_out_of_file": st("the file has 4 bytes", {"a": entry(shape=[2], offsets=[0, 8])}, bytes(4)),
    "st_far_out_of_file": st("the file has", {"a": entry("U8", [1 << 59], [0, 1 << 59])}, bytes(4)),
    "st_overlap": st("overlap", {"a": entry(), "b": entry()}, bytes(4)),
    "st_hole": st("a hole", {"a": entry(), "b": entry(offsets=[8, 12])}, bytes(12)),
    "st_too_long": st("follow the last tensor", {"a": entry()}, bytes(1000)),
    "st_size_lies": st("its dtype and shape say", {"a": entry(shape=[2])}, bytes(4)),
    "st_name_twice": st("given twice", b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
    "st_name_with_nul": st("U+0000", {"a\0b": entry()}, bytes(4)),
    "st_name_not_utf8": st("UTF-8", b'{"a\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "st_dtype_unknown": st("not known", {"a": entry("F4")}, bytes(4)),
    # an index and its shards
    "index_lies": index("is not in shard", {"b": "s.safetensors"}, {"s.safetensors": packed({"a": ("F32", [1])})}),
    "index_hides": index("does not list", {"a": "s.safetensors"}, {"s.safetensors": packed({"a": ("F32", [1]), "b": ("F32", [1])})}),
    "index_twice": index("given twice", None, {"s.safetensors": packed({"a": ("F32", [1])})},
                         b'{"weight_map":{"a":"s.safetensors","a":"s.safetensors"}}'),
    "index_up": index("no plain file name", {"a": "../model.safetensors"}),
    "index_root": index("no plain file name", {"a": "/etc/passwd"}),
    "index_dot": index("no plain file name", {"a": ".."}),
    "index_backslash": index("no plain file name", {"a": "..\\x"}),
    "index_nul": index("no plain file name", {"a": "s\0.safetensors"}),
    "index_long": index("no plain file name", {"a": "s" * 300}),
    "index_number": index("no plain file name", {"a": 1}),
    "index_missing_shard": index("no such file", {"a": "none.safetensors"}),
    "index_no_map": index("weight_map", None, raw=b"{}"),
    "index_deep": index("nesting", None, raw=b'{"metadata":' + b"[" * 100000 + b"}"),
    "index_itself": index("header", {"a": "model.safetensors.index.json"}),
    # config.json
    "config_bomb": hub("would take over", files={"config.json": b'{"x":[' + b"{}," * 1_000_000 + b"{}]}"}),
    "config_deep": hub("JSON", files={"config.json": b'{"x":' + b"[" * 100000}),
    "config_layers": hub("'num_hidden_layers'", {"num_hidden_layers": 4_000_000_000}),
    "config_layers_negative": hub("'num_hidden_layers'", {"num_hidden_layers": -1}),
    "config_heads": hub("'num_attention_heads'", {"num_attention_heads": 1 << 31}),
    "config_heads_do_not_divide": hub("multiple", {"num_attention_heads": 8, "num_key_value_heads": 3, "head_dim": 2}),
    "config_kv_heads": hub("multiple", {"num_key_value_heads": 4}),
    "config_heads_times_dim": hub("2^22", {"num_attention_heads": 65536, "head_dim": 65536, "num_key_value_heads": 1}),
    "config_vocab": hub("'vocab_size'", {"vocab_size": 1 << 40}),
    "config_vocab_too_large": hub("the config says [33, 16]", {"vocab_size": 33}),
    "config_hidden": hub("the config says", {"hidden_size": 32, "head_dim": 8}),
    "config_eos": hub("eos_token_id is below", {"eos_token_id": V}),
    "config_eos_many": hub("more than 8 eos", {"eos_token_id": list(range(20))}),
    "config_generation_eos": hub("eos_token_id is below", files={"generation_config.json": '{"eos_token_id": 1000000}'}),
    "config_sampling": hub("make no sense", files={"generation_config.json": '{"top_p": -1}'}),
    "config_type_escapes": hub("model_type", {"model_type": "\x1b]0;x\x07"}),
    "config_type_unknown": hub("not supported", {"model_type": "plamo2"}),
    "config_theta_zero": rope("rope_theta", rope_theta=0),
    "config_theta_one_yarn": rope("not finite", rope_theta=1.0, type="yarn", factor=4.0, original_max_position_embeddings=4096),
    "config_longrope_of_one": rope("not finite", type="longrope", factor=4.0, original_max_position_embeddings=1, long_factor=[1.0] * 4,
                                   short_factor=[1.0] * 4),
    "config_longrope_tiny": rope("is a NaN", type="longrope", factor=4.0, original_max_position_embeddings=32, rope_theta=1e-300,
                                 long_factor=[1e-38] * 4, short_factor=[1e-38] * 4),
    "config_longrope_length": rope("need", type="longrope", factor=4.0, original_max_position_embeddings=32, long_factor=[1.0], short_factor=[1.0]),
    "config_factor_infinite": hub("factor", files={"config.json": json.dumps(DENSE)[:-1] + ',"rope_scaling":{"type":"linear","factor":1e999}}'}),
    "config_experts": hub("2^16", dict(MOE, n_routed_experts=4096, num_hidden_layers=1000)),
    "config_experts_taken": hub("at most n_routed_experts", dict(MOE, num_experts_per_tok=5)),
    "config_groups": hub("multiple of n_group", dict(MOE, n_group=3)),
    "config_dense_between": hub("'intermediate_size' is missing", dict(MOE, moe_layer_freq=2, intermediate_size=...)),
    "config_mla_dims": hub("over 4096", dict(MOE, kv_lora_rank=1 << 20)),
    "config_memory": hub("the config says", {"intermediate_size": 1 << 22}),
    "config_experts_ahead": hub("2^16", dict(MOE, n_routed_experts=4096, num_nextn_predict_layers=1000)),
    "v4_right_but_for_tensors": hub("is missing", V4, {}),
    "v4_ratios_short": hub("every layer", dict(V4, num_hidden_layers=2)),
    "v4_ratios_many": hub("compress_ratios", dict(V4, compress_ratios=[0] * 100000)),
    "v4_ratio_unknown": hub("compress_ratios[0] is 5", dict(V4, compress_ratios=[5])),
    "v4_ratio_negative": hub("compress_ratios", dict(V4, compress_ratios=[-4])),
    "v4_no_index": hub("index_n_heads", dict(V4, index_n_heads=0)),
    "v4_index_narrow": hub("index_head_dim", dict(V4, index_head_dim=2)),
    "v4_index_wide": hub("2^22", dict(V4, index_n_heads=65536, index_head_dim=65536)),
    "v4_groups": hub("o_groups", dict(V4, o_groups=3)),
    "v4_group_rank": hub("2^22", dict(V4, o_groups=2, o_lora_rank=1 << 22)),
    "v4_streams": hub("'hc_mult'", dict(V4, hc_mult=17)),
    "v4_iterations": hub("'hc_sinkhorn_iters'", dict(V4, hc_sinkhorn_iters=1 << 30)),
    "v4_rope_wide": hub("qk_rope_head_dim", dict(V4, qk_rope_head_dim=16)),
    "v4_window": hub("sliding_window", dict(V4, sliding_window=0)),
    "v4_theta": hub("compress_rope_theta", dict(V4, compress_rope_theta=-1)),
    "v4_clamp": hub("swiglu_limit", dict(V4, swiglu_limit=-1)),
    "tensor_missing": hub("is missing", tensors={"lm_head.weight": ...}),
    "tensor_shape": hub("the config says", tensors={"model.norm.weight": ("F32", [D - 1])}),
    "tensor_dims": hub("the config says", tensors={"model.norm.weight": ("F32", [1, D])}),
    "tensor_empty": hub("the config says", tensors={"model.norm.weight": ("F32", [0, D])}),
    "tensor_dtype": hub("holds no weights", tensors={"model.norm.weight": ("I64", [D])}),
    "tensor_scale_of_nothing": hub("scales no F8_E4M3", tensors={"x.weight_scale_inv": ("F32", [1, 1])}),
    "fp8_block": hub("weight_block_size", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 128]}}),
    "fp8_scales_short": hub("needs [2, 2]", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [8, 8]}},
                            {"lm_head.weight": ("F8_E4M3", [16, 16]), "lm_head.weight_scale_inv": ("F32", [1, 2])}),
    "fp8_scales_absent": hub("without its", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [8, 8]}},
                             {"lm_head.weight": ("F8_E4M3", [V, D])}),
    # tokenizer.json
    "tok_not_json": tok("JSON", "{"),
    "tok_sparse_id": tok("token id 4000000", vocab={"a": 4_000_000}),
    "tok_id_huge": tok("JSON", vocab={"a": 10 ** 30}),
    "tok_id_twice": tok("two tokens have id", vocab={"a": 0, "b": 0}),
    "tok_long_token": tok("at most", vocab={"a" * 9000: 0}),
    "tok_merge_unknown": tok("not in the vocabulary", merges=["a bc"]),
    "tok_merges_collide": hub("collide", files={"tokenizer.json": colliding_merges}),
    "tok_added_bomb": tok("would take over", b'{"added_tokens":[' + b"{}," * 1_000_000 + b"{}]}"),
    "tok_added_sparse": tok("token id 4000000", added_tokens=[{"id": 4_000_000, "content": "x"}]),
    "tok_added_deep": tok("nesting", b'{"added_tokens":' + b"[" * 1000000),
    "tok_split_unknown_group": tok("unknown group", pre_tokenizer=split("(?R)")),
    "tok_split_counts": tok("regular expression", pre_tokenizer=split("((((a{900}){900}){900}){900})")),
    "tok_split_nests": tok("regular expression", pre_tokenizer=split("(" * 1000 + "a" + ")" * 1000)),
    "tok_split_long": tok("regular expression", pre_tokenizer=split("a|" * 100000 + "b")),
    "tok_split_steps": tok("split steps", pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Digits"}] * 1000}),
    "tok_sequence_in_sequence": hub("nests deeper", files={"tokenizer.json": lambda: tokenizer_json(
        pre_tokenizer=json.loads('{"type":"Sequence","pretokenizers":[' * 20 + "{}" + "]}" * 20)).encode()}),
    "tok_template": tok("token id -5", post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}],
                                                       "special_tokens": {"x": {"ids": [-5]}}}),
    # tiktoken
    "tiktoken_not_base64": file_case("tokenize", "not a base64 word", b"Y%== 0\n", "bad.tiktoken"),
    "tiktoken_sparse_rank": file_case("tokenize", "token id 4000000", b"YQ== 4000000\n", "bad.tiktoken"),
    "tiktoken_long_tokens": file_case("tokenize", "not a base64 word", lambda: b"".join(
        b"%s %d\n" % (base64.b64encode(struct.pack("<I", i) * 2000), i) for i in range(100)), "bad.tiktoken"),
    "tiktoken_no_bytes": file_case("tokenize", "byte 0 has no rank", b"", "bad.tiktoken"),
    # GGUF
    "gguf_short": file_case("inspect", "24", b"GGUF\3\0\0\0"),
    "gguf_version": file_case("inspect", "version", gguf(version=9)),
    "gguf_big_endian": file_case("inspect", "big-endian", gguf(version=0x03000000)),
    "gguf_n_tensors": file_case("inspect", "cannot be in", gguf(n_tensors=(1 << 64) - 1)),
    "gguf_n_values": file_case("inspect", "cannot be in", gguf(n_values=(1 << 64) - 1)),
    "gguf_key_length": file_case("inspect", "ends inside", gguf([struct.pack("<Q", (1 << 64) - 1) + bytes(40)])),
    "gguf_string_length": file_case("inspect", "ends inside", gguf([gstr("k") + struct.pack("<IQ", STRING, (1 << 64) - 8) + bytes(40)])),
    "gguf_array_length": file_case("inspect", "ends inside", gguf([gstr("k") + struct.pack("<IIQ", ARRAY, U32, 1 << 62) + bytes(40)])),
    "gguf_array_of_strings": file_case("inspect", "ends inside", gguf([strings("k", [], 1 << 61) + bytes(40)])),
    "gguf_array_of_arrays": file_case("inspect", "not read", gguf([gstr("k") + struct.pack("<II", ARRAY, ARRAY) * 1000])),
    "gguf_type": file_case("inspect", "does not exist", gguf([gstr("k") + struct.pack("<I", 99) + bytes(40)])),
    "gguf_key_twice": file_case("inspect", "given twice", gguf([value("k", U8, 1)] * 2)),
    "gguf_key_empty": file_case("inspect", "no text", gguf([value("", U32, 1)] * 2)),
    "gguf_alignment_zero": file_case("inspect", "general.alignment", gguf([value("general.alignment", U32, 0)])),
    "gguf_alignment_wraps": file_case("inspect", "general.alignment", gguf([value("general.alignment", U64, HUGE)])),
    "gguf_alignment_odd": file_case("inspect", "power of two", gguf([value("general.alignment", U32, 33)])),
    "gguf_dims_wrap": file_case("inspect", "overflows", gguf(tensors=[tensor("a", [1 << 32, 1 << 32])], data=64)),
    "gguf_bytes_wrap": file_case("inspect", "overflows", gguf(tensors=[tensor("a", [1 << 62, 1])], data=64)),
    "gguf_bytes_of_blocks": file_case("inspect", "leaves the file", gguf(tensors=[tensor("a", [1 << 63, 1], 8)], data=64)),
    "gguf_sum_wraps": file_case("inspect", "leaves the file", gguf(tensors=[tensor("a", [8], 0, (1 << 64) - 32)], data=64)),
    "gguf_out_of_file": file_case("inspect", "leaves the file", gguf(tensors=[tensor("a", [1 << 40])], data=64)),
    "gguf_padded_out": file_case("inspect", "leaves the file", gguf(tensors=[tensor("a", [8], 0, 64)], data=64)),
    "gguf_overlap": file_case("inspect", "overlap", gguf(tensors=[tensor("a", [16]), tensor("b", [16], 0, 32)], data=128)),
    "gguf_unaligned": file_case("inspect", "no multiple", gguf(tensors=[tensor("a", [1], 0, 4)], data=64)),
    "gguf_n_dims": file_case("inspect", "dimensions", gguf(tensors=[tensor("a", [1], n_dims=1 << 31) + bytes(100)])),
    "gguf_blocks": file_case("inspect", "blocks of 256", gguf(tensors=[tensor("a", [8], 12)], data=256)),
    "gguf_ggml_type": file_case("inspect", "not read here", gguf(tensors=[tensor("a", [8], 4_000_000_000)], data=64)),
    "gguf_name_twice": file_case("inspect", "given twice", gguf(tensors=[tensor("a", [8]), tensor("a", [8], 0, 32)], data=64)),
    "gguf_name_with_nul": file_case("inspect", "no text", gguf(tensors=[tensor("a\0", [8])], data=64)),
    "gguf_block_count": file_case("logits", "num_hidden_layers", lambda: gguf_model({"llama.block_count": (U32, 513 * 1024)})),
    "gguf_block_count_wraps": file_case("logits", "llama.block_count", lambda: gguf_model({"llama.block_count": (U32, (1 << 32) - 1)})),
    "gguf_block_count_zero": file_case("logits", "llama.block_count", lambda: gguf_model({"llama.block_count": (U32, 0)})),
    "gguf_block_count_text": file_case("logits", "not an integer", lambda: gguf_model({"llama.block_count": (STRING, "1")})),
    "gguf_blocks_missing": file_case("logits", "is missing", lambda: gguf_model({"llama.block_count": (U32, 1000)})),
    "gguf_block_outside": file_case("logits", "no place", lambda: gguf_model(rename={"blk.0.attn_q.weight": "blk.4294967296.attn_q.weight"})),
    "gguf_head_count": file_case("logits", "num_attention_heads", lambda: gguf_model({"llama.attention.head_count": (U32, 1 << 30)})),
    "gguf_head_count_zero": file_case("logits", "head_count", lambda: gguf_model({"llama.attention.head_count": (U32, 0)})),
    "gguf_heads_array": file_case("logits", "not an integer", lambda: gguf_model(
        {"llama.attention.head_count": None}, [gstr("llama.attention.head_count") + struct.pack("<IIQI", ARRAY, U32, 1, 2)])),
    "gguf_kv_heads": file_case("logits", "multiple", lambda: gguf_model({"llama.attention.head_count_kv": (U32, 3)})),
    "gguf_rope_dims": file_case("logits", "rotated", lambda: gguf_model({"llama.rope.dimension_count": (U32, 1 << 30)})),
    "gguf_epsilon_nan": file_case("logits", "not finite", lambda: gguf_model({"llama.attention.layer_norm_rms_epsilon": (F32, float("nan"))})),
    "gguf_theta_infinite": file_case("logits", "not finite", lambda: gguf_model({"llama.rope.freq_base": (F32, float("inf"))})),
    "gguf_eos": file_case("logits", "eos_token_id", lambda: gguf_model({"tokenizer.ggml.eos_token_id": (U32, V)})),
    "gguf_eos_negative": file_case("logits", "eos_token_id", lambda: gguf_model({"tokenizer.ggml.eos_token_id": (I32, -1)})),
    "gguf_split_count": file_case("logits", "split.count", lambda: gguf_model({"split.count": (U32, 1 << 31), "split.no": (U32, 0)})),
    "gguf_split_name": file_case("logits", "its name must end", lambda: gguf_model({"split.count": (U32, 3), "split.no": (U32, 0)})),
    "gguf_architecture": file_case("logits", "general.architecture", lambda: gguf_model({"general.architecture": (STRING, "mmproj")})),
    "gguf_tok_model": file_case("logits", "tokenizer.ggml.model", lambda: gguf_model({"tokenizer.ggml.model": (STRING, "plamo2")})),
    "gguf_tok_tokens": file_case("logits", "not a list of strings", lambda: gguf_model(
        {"tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, "gpt-2"), "tokenizer.ggml.tokens": (U32, 1)})),
    "gguf_tok_types": file_case("logits", "does not give a number", lambda: gguf_model(
        {"tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, "gpt-2")},
        [strings("tokenizer.ggml.tokens", ["a", "b"]), gstr("tokenizer.ggml.token_type") + struct.pack("<IIQI", ARRAY, I32, 1, 1)])),
    "gguf_tok_merges": file_case("logits", "not two words", lambda: gguf_model(
        {"tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, "gpt-2")},
        [strings("tokenizer.ggml.tokens", ["a", "b"]), strings("tokenizer.ggml.merges", ["ab"])])),
    "gguf_experts": file_case("logits", "2^16", lambda: gguf_model(
        {"general.architecture": (STRING, "deepseek2"), **{k.replace("llama.", "deepseek2."): v for k, v in GGUF_DENSE.items() if "." in k and k != "general.architecture"},
         "deepseek2.block_count": (U32, 1000), "deepseek2.expert_count": (U32, 4096), "deepseek2.expert_used_count": (U32, 1),
         "deepseek2.expert_feed_forward_length": (U32, 1), "deepseek2.attention.kv_lora_rank": (U32, 8), "deepseek2.rope.dimension_count": (U32, 8),
         "deepseek2.attention.key_length": (U32, 16), "deepseek2.attention.value_length": (U32, 8)})),
}


# ---- right, but large or unusual ----

def moe_tensors(c):
    """The tensors of a deepseek_v2 or deepseek_v3 config, {name: shape}, without scales."""
    d, h, lora, rope = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"], c["qk_rope_head_dim"]
    q, v, mi = c["qk_nope_head_dim"] + rope, c["v_head_dim"], c["moe_intermediate_size"]
    t = {"model.embed_tokens.weight": [c["vocab_size"], d], "lm_head.weight": [c["vocab_size"], d], "model.norm.weight": [d]}

    def ffn(p, n):
        t.update({p + "gate_proj.weight": [n, d], p + "up_proj.weight": [n, d], p + "down_proj.weight": [d, n]})

    for layer in range(c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0)):
        p = f"model.layers.{layer}."
        t.update({p + "input_layernorm.weight": [d], p + "post_attention_layernorm.weight": [d], p + "self_attn.o_proj.weight": [d, h * v],
                  p + "self_attn.kv_a_proj_with_mqa.weight": [lora + rope, d], p + "self_attn.kv_a_layernorm.weight": [lora],
                  p + "self_attn.kv_b_proj.weight": [h * (q - rope + v), lora]})
        if c.get("q_lora_rank"):
            t.update({p + "self_attn.q_a_proj.weight": [c["q_lora_rank"], d], p + "self_attn.q_a_layernorm.weight": [c["q_lora_rank"]],
                      p + "self_attn.q_b_proj.weight": [h * q, c["q_lora_rank"]]})
        else:
            t[p + "self_attn.q_proj.weight"] = [h * q, d]
        if layer < c.get("first_k_dense_replace", 0) or layer % c.get("moe_layer_freq", 1):
            ffn(p + "mlp.", c["intermediate_size"])
        else:
            t[p + "mlp.gate.weight"] = [c["n_routed_experts"], d]
            if c["model_type"] == "deepseek_v3":
                t[p + "mlp.gate.e_score_correction_bias"] = [c["n_routed_experts"]]
            for e in range(c["n_routed_experts"]):
                ffn(f"{p}mlp.experts.{e}.", mi)
            if c.get("n_shared_experts"):
                ffn(p + "mlp.shared_experts.", mi * c["n_shared_experts"])
        if layer >= c["num_hidden_layers"]:
            t.update({p + "enorm.weight": [d], p + "hnorm.weight": [d], p + "eh_proj.weight": [d, 2 * d], p + "shared_head.norm.weight": [d],
                      p + "shared_head.head.weight": [c["vocab_size"], d], p + "embed_tokens.weight": [c["vocab_size"], d]})
    return t


def dense_between_experts(folder):
    """A dense layer behind an expert layer, far wider than the experts."""
    c = dict(DENSE, **MOE, num_hidden_layers=2, moe_layer_freq=2, first_k_dense_replace=0, intermediate_size=4096)
    rng, header, data = random.Random(1), {}, bytearray()
    for name, shape in moe_tensors(c).items():
        n = shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = entry("F32", shape, [len(data), len(data) + 4 * n])
        data += struct.pack(f"<{n}f", *(rng.uniform(-0.3, 0.3) for _ in range(n)))
    (folder / "config.json").write_text(json.dumps(c))
    (folder / "model.safetensors").write_bytes(safetensors(header, bytes(data)))
    return folder


V3 = {"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
      "num_key_value_heads": 128, "intermediate_size": 18432, "max_position_embeddings": 163840, "rms_norm_eps": 1e-6, "q_lora_rank": 1536,
      "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
      "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 576, "first_k_dense_replace": 3, "n_group": 8,
      "topk_group": 4, "num_nextn_predict_layers": 1, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
                                                                              "weight_block_size": [128, 128]}}


def large_checkpoint(folder, n_shards=163):
    """DeepSeek-V3's tensors in its 163 shards, the experts narrower: some 200 GB of files that hold nothing but headers."""
    tensors = {}
    for name, shape in moe_tensors(V3).items():
        quantised = len(shape) == 2 and "layers." in name and not any(x in name for x in ("mlp.gate.", "eh_proj", "head.head", "embed_"))
        tensors[name] = ("F8_E4M3" if quantised else "F32" if "bias" in name else "BF16", shape)
        if quantised:
            tensors[name + "_scale_inv"] = ("F32", [-(-n // 128) for n in shape])
    width = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
    names, weight_map, total = list(tensors), {}, 0
    for i in range(n_shards):
        file, header, at = f"model-{i + 1:05}-of-{n_shards:06}.safetensors", {}, 0
        for name in names[len(names) * i // n_shards:len(names) * (i + 1) // n_shards]:
            dtype, shape = tensors[name]
            n = width[dtype] * shape[0] * (shape[1] if len(shape) == 2 else 1)
            header[name] = entry(dtype, shape, [at, at + n])
            weight_map[name] = file
            at += n
        with open(folder / file, "wb") as f:
            f.truncate(f.write(safetensors(header)) + at)
        total += at
    (folder / "config.json").write_text(json.dumps(V3))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    return len(names), total


def main():
    for name, (build, command, says) in CASES.items():
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        print(f"farseek {command} {build(folder)}: {says}")


if __name__ == "__main__":
    main()
