"""farseek tokenizer train against Hugging Face tokenizers: the same merges from its trainer, the same ids from its encoder."""
import json
import pathlib
import random
import subprocess

import pytest

from conftest import ROOT

tokenizers = pytest.importorskip("tokenizers")
PRES = ("gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-v3")
TEXTS = ["Hello, world! It's 1234567 o'clock.", "日本語とひらがな、한국어 и русский", "e\u0301 café naïve", "\n\n\t  indented\r\n  code();\n", "",
         "emoji 👩‍🚀🎉 a\u0000b", "x = {'a': [1, 2.50, -3e10]}", "    " * 9, "ＷＩＤＥ ½ ² ٣٤", "aaaaaaaaaaaaaaaaaaaaaaa", "<|start|>x<|end|>"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Prose, code, other scripts; no special token's text."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    pages = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "src" / "text").glob("*.c")) + [pathlib.Path(__file__)]
    path.write_text("".join(p.read_text() for p in pages).replace("<|", "<!") + "Привет мир. " * 40 + "日本語のテキスト。" * 30, newline="")
    return path


def hugging_face_training(ours, texts, vocab_size, min_frequency):
    """What BpeTrainer makes of the texts (or of a file's lines) behind the same pre-tokenizer and normaliser."""
    hf = tokenizers.Tokenizer.from_file(str(ours))
    special = [t["content"] for t in json.loads(ours.read_text())["added_tokens"]]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special, show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    hf.model = tokenizers.models.BPE()
    if isinstance(texts, pathlib.Path):
        hf.train([str(texts)], trainer)
    else:
        hf.train_from_iterator(texts, trainer)
    return json.loads(hf.to_str())["model"]


def assert_same_model(ours, theirs):
    ours = json.loads(ours.read_text())["model"]
    merges = lambda m: [x.split(" ") if isinstance(x, str) else list(x) for x in m["merges"]]
    assert merges(ours) == merges(theirs)
    assert ours["vocab"] == theirs["vocab"]


@pytest.mark.parametrize("pre", PRES)
def test_merges_are_hugging_faces(farseek, corpus, tmp_path, pre):
    for options, by_line, vocab_size, min_frequency in [([], False, 3000, 2), (["--lines", "--digits"], True, 1000, 5), (["--lines"], True, 30000, 0)]:
        out = tmp_path / "tokenizer.json"
        answer = farseek("tokenizer", "train", corpus, out, "--pre", pre, "--vocab-size", vocab_size, "--min-frequency", min_frequency,
                         "--special", "<|start|>;<|end|>", "--threads", 2, *options)
        assert answer.startswith(f"{out}: ")
        assert_same_model(out, hugging_face_training(out, corpus if by_line else [corpus.read_text()], vocab_size, min_frequency))


@pytest.mark.parametrize("seed", range(6))
def test_ties_and_repeats_are_hugging_faces(farseek, tmp_path, seed):
    """Words of two or three letters: pairs overlap, and counts are equal all the time."""
    r = random.Random(seed)
    file, out = tmp_path / "words.txt", tmp_path / "t.json"
    word = lambda: "".join(r.choice("ab" if r.random() < 0.9 else "abc") for _ in range(r.randint(1, 14)))
    file.write_text("".join(" ".join(word() for _ in range(12)) + "\n" for _ in range(200)))
    farseek("tokenizer", "train", file, out, "--vocab-size", 3000, "--min-frequency", seed % 3, "--lines")
    assert_same_model(out, hugging_face_training(out, file, 3000, seed % 3))


@pytest.mark.parametrize("pre", PRES)
def test_ids_are_hugging_faces(farseek, corpus, tmp_path, pre):
    folder = tmp_path / "t"
    farseek("tokenizer", "train", corpus, folder, "--pre", pre, "--vocab-size", 2000, "--special", "<|pad|>", "--bos", "<|start|>", "--eos", "<|end|>")
    hf = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    lines = TEXTS + corpus.read_text().splitlines()[::7]
    ours = json.loads(farseek("tokenize", folder / "tokenizer.json", "--json", stdin=json.dumps({"texts": lines})))["ids"]
    assert ours == [hf.encode(x, add_special_tokens=False).ids for x in lines]
    back = json.loads(farseek("detokenize", folder / "tokenizer.json", "--json", stdin=json.dumps({"ids": ours})))["texts"]
    assert back == [hf.decode(ids, skip_special_tokens=False) for ids in ours]
    assert hf.encode("x").ids[0] == hf.token_to_id("<|start|>") == 1
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert (config["bos_token"], config["eos_token"], config["add_bos_token"]) == ("<|start|>", "<|end|>", True)


def test_records_train_as_their_words(farseek, corpus, tmp_path):
    lines = [x for x in corpus.read_text().split("\n") if x]
    records, out = tmp_path / "corpus.jsonl", tmp_path / "t.json"
    kinds = [lambda x: {"text": x}, lambda x: {"messages": [{"role": "user", "content": x}]}, lambda x: {"prompt": x, "answer": x}]
    records.write_text("".join(json.dumps(kinds[i % 3](x)) + "\n" for i, x in enumerate(lines)))
    farseek("tokenizer", "train", records, out, "--vocab-size", 2000)
    texts = [x if i % 3 < 2 else x + "\n" + x for i, x in enumerate(lines)]
    assert_same_model(out, hugging_face_training(out, texts, 2000, 2))


@pytest.mark.parametrize("args, code, word", [
    (["--vocab-size", "300", "--special", ";".join(f"<|{i}|>" for i in range(60))], 2, "316"),
    (["--special", "x"], 2, "'x'"), (["--pre", "llama9"], 2, "llama9"),
])
def test_wrong_settings_are_a_sentence(farseek, corpus, tmp_path, args, code, word):
    r = farseek("tokenizer", "train", corpus, tmp_path / "t.json", *args, check=False)
    assert r.returncode == code and word in r.stderr and r.stderr.count("\n") == 1 and not (tmp_path / "t.json").exists(), r.stderr


def test_a_missing_file_or_a_bad_record_leaves_nothing(farseek, tmp_path):
    r = farseek("tokenizer", "train", tmp_path / "none.txt", tmp_path / "t.json", check=False)
    assert r.returncode == 1 and "none.txt" in r.stderr
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"txt": "no"}\n')
    r = farseek("tokenizer", "train", bad, tmp_path / "t.json", check=False)
    assert r.returncode == 1 and "line 2" in r.stderr and [p.name for p in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_group_of_commands_explains_itself(farseek):
    assert "usage: farseek tokenizer train" in farseek("tokenizer", "--help") and "usage: farseek tokenizer train" in farseek("help", "tokenizer", "train")
    for words, hint in [(["tokenizer"], "another word: train"), (["tokenizer", "trian"], "'tokenizer train'")]:
        r = farseek(*words, check=False)
        assert r.returncode == 2 and hint in r.stderr, r.stderr


def test_completions_know_groups(farseek, tmp_path):
    script = tmp_path / "complete"
    script.write_text(farseek("help", "--completion", "bash"))
    for typed, want in [(["tokeni"], "tokenize tokenizer"), (["data", "de"], "dedup decontaminate"), (["data", "dedup", "--ne"], "--near"),
                        (["data", "filter", "--rules", ""], "none gopher")]:
        words = " ".join(f"'{w}'" for w in ["farseek", *typed])
        probe = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _farseek; echo ${{COMPREPLY[@]}}"
        assert subprocess.run(["bash", "-c", probe], capture_output=True, text=True).stdout == want + "\n"
    assert "'data dedup')" in farseek("help", "--completion", "zsh")
    assert "__fish_seen_subcommand_from data; and __fish_seen_subcommand_from dedup' -l near" in farseek("help", "--completion", "fish")
