#!/usr/bin/env python3
"""tiny_tokenizer.json and its vectors, by Hugging Face tokenizers: make_tiny_tokenizer.py OUTDIR

Several hundred merges over a few sentences; every kind of component the reader knows is in one of the variants, which
share the vocabulary: the vectors name the changes made to the file."""
import copy
import json
import random
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers, AddedToken, Regex

out = sys.argv[1]
R = random.Random(7)
TEXT = """The quick brown fox jumps over the lazy dog. Models are trained on text; text is bytes, and bytes are merged.
We hold 1234 numbers, 56 words and 7890 reasons: it's what they've said, isn't it? I'll see, I'd say, you're right.
def main(argc, argv):\n    return sum(i * i for i in range(argc))\n\n\tprint("hello, world")\r\n
深度求索 人工智能 你好，世界。 Привет, мир! Γειά σου Κόσμε. déjà vu, naïve coöperation, Ærøskøbing. 😀 👍🏽 ½ ² ٣٤٥
the them then there these they this that than thank think thing things thinking another other mother brother
""" * 3
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                      show_progress=False, special_tokens=["<s>", "</s>"]))
    t.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("Ωmega", normalized=True), AddedToken("<t", normalized=False),
                  AddedToken("wide", single_word=True, normalized=False), AddedToken("<l>", lstrip=True, normalized=False),
                  AddedToken("<r>", rstrip=True, normalized=False), AddedToken("ga\u0323", normalized=True)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A $B", special_tokens=[("<s>", 0), ("</s>", 1)])
    return json.loads(t.to_str())


BASE = train()
SPLIT = lambda pattern, behavior, invert=False: {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
BYTES = lambda prefix=False, regex=False: {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}
SEQ = lambda *steps: {"type": "Sequence", "pretokenizers": list(steps)}
VARIANTS = {
    "base": {},
    "pairs": {"model.merges": [m.split(" ") if isinstance(m, str) else m for m in BASE["model"]["merges"]]},
    "spaced": {"model.merges": [m if isinstance(m, str) else " ".join(m) for m in BASE["model"]["merges"]]},
    "nfc": {"normalizer": {"type": "NFC"}},
    "nfc_sequence": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}},
    "ignore_merges": {"model.ignore_merges": True},
    "gpt2": {"pre_tokenizer": BYTES(False, True)},
    "gpt2_prefix": {"pre_tokenizer": BYTES(True, True)},
    "digits": {"pre_tokenizer": SEQ({"type": "Digits", "individual_digits": True}, BYTES(False, True))},
    "digits_grouped_prefix": {"pre_tokenizer": SEQ({"type": "Digits", "individual_digits": False}, BYTES(True, True))},
    "removed": {"pre_tokenizer": SEQ(SPLIT({"String": " "}, "Removed"), BYTES())},
    "previous": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"[aeiou]"}, "MergedWithPrevious"), BYTES())},
    "next": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\s"}, "MergedWithNext"), BYTES())},
    "contiguous": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\p{P}"}, "Contiguous"), BYTES())},
    "invert": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\p{L}+|\s"}, "Isolated", True), BYTES())},
    "inverted_removed": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\w+"}, "Removed", True), BYTES())},
    "inverted_previous": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\d|\p{Lu}"}, "MergedWithPrevious", True), BYTES())},
    "inverted_next": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\d|\p{Lu}"}, "MergedWithNext", True), BYTES())},
    "empty_matches": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"o*"}, "Isolated"), BYTES())},
    "empty_matches_previous": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"o*"}, "MergedWithPrevious"), BYTES())},
    "line_ends": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\s+$"}, "Isolated"), SPLIT({"Regex": r"^\w"}, "Isolated"), BYTES())},
    "spaces": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\s"}, "Isolated"), SPLIT({"Regex": r"[^\s\w]"}, "Isolated"), BYTES())},
    "scripts": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"\p{Han}+|\p{Greek}|\p{^L}|\x{e9}|\u00EF|[\x41-\x{43}\]\-]"}, "Isolated"), BYTES())},
    "atomic": {"pre_tokenizer": SEQ(SPLIT({"Regex": r"(?>a|ab)c|(?<=t)h|(?<!t)e|x*+y|.\n"}, "Isolated"), BYTES())},
    "deepseek_llm": {"pre_tokenizer": SEQ(SPLIT({"Regex": "[\r\n]"}, "Isolated"), SPLIT({"Regex": r"\s?\p{L}+"}, "Isolated"), SPLIT({"Regex": r"\s?\p{P}+"}, "Isolated"), SPLIT({"Regex": "[一-龥ࠀ-一가-퟿]+"}, "Isolated"), {"type": "Digits", "individual_digits": True}, BYTES())},
}
POOL = TEXT.split(" ")[:120] + ["<s>", "</s>", "<tool>", "<t", "<tool", "Ωmega", "wide", "wider", "<l>", " <l>", "\n <l>", "<r> ", "<r>\t\n", "café",
        "cafe\u0301", "g\u1ea1", "ga\u0323", "ga\u0323s", "o", "oo", "ooo", "foo boo", " ", "  ", "\n", "\r\n", " \n ", "\t", "\u00a0", "\u0085", "\u180e", "\u200b", "\u2028",
        "\u3000", "\u001c", "\ufeff", "\x00", "123", "12", "1", "Ⅷ", "²", "'S", "'ſ", "\u212a", "ǅ", "_", "\u200d", "\u0300", "\u0345", "AbC", "]-[", "$1", "a\nb",
        "x\ny \n", "abc", "acb", "the", "xxy", "龥龦", "ʰ", "\u0903", "٣", "1٣2", "ﬃ", "İ", "<s", "\U0002db34", "\U0001f600", "e\u0301\u0323", "\u1100\u1161\u11a8"]


def texts(n):
    res = [""] + POOL
    while len(res) < n:
        res.append("".join(R.choice(POOL) + R.choice(["", "", " ", " ", "\n", "  "]) for _ in range(R.randint(1, 8))))
    return list(dict.fromkeys(res))


cases = []
for name, changes in VARIANTS.items():
    j = copy.deepcopy(BASE)
    for key, value in changes.items():
        o = j
        *path, last = key.split(".")
        for p in path:
            o = o[p]
        o[last] = value
    t = Tokenizer.from_str(json.dumps(j))
    rows = []
    for s in texts(420) if name == "base" else R.sample(texts(420), 170):
        t.encode_special_tokens = False
        row = {"text": s, "ids": t.encode(s, add_special_tokens=False).ids}
        t.encode_special_tokens = True
        plain = t.encode(s, add_special_tokens=False).ids
        if plain != row["ids"]:
            row["no_special"] = plain
        decoded = t.decode(row["ids"], skip_special_tokens=False)
        if decoded != s:
            row["decoded"] = decoded
        rows.append(row)
    cases.append({"name": name, "changes": changes, "rows": rows})
with open(f"{out}/tiny_tokenizer.json", "w") as f:
    json.dump(BASE, f, ensure_ascii=False, indent=0)
with open(f"{out}/tiny_tokenizer_ids.json", "w") as f:
    json.dump({"made_by": "tests/vectors/make_tiny_tokenizer.py, tokenizers " + __import__("tokenizers").__version__, "variants": cases}, f, separators=(",", ":"))
print(sum(len(c["rows"]) for c in cases), "rows")
