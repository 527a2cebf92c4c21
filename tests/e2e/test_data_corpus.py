"""farseek data dedup, decontaminate, filter and mix, against what the same definitions give in Python; tools/parquet2jsonl.py."""
import collections
import json
import random
import re
import subprocess
import sys

import pytest

from conftest import ROOT

VOCABULARY = [f"{a}{b}" for a in "abcdefgh" for b in ("an", "or", "it", "us", "em")]


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def read(path):
    return [json.loads(x) for x in path.read_text().splitlines()]


def words(text):
    return re.findall(r"[\u2e80-\U0010ffff]|[A-Za-z0-9\u0080-\u2e7f]+", text.lower())


def grams(text, n):
    w = words(text)
    return {tuple(w[i : i + n]) for i in range(len(w) - n + 1)} or {tuple(w)}


def run(farseek, command, *args):
    return json.loads(farseek("data", command, *args, "--json"))


def test_of_equal_words_the_first_stays(farseek, tmp_path):
    records = [{"text": "one two"}, {"text": "One two"}, {"text": "one two", "id": 2}, {"prompt": "one two", "answer": "x"}, {"text": "one two\nx"},
               {"messages": [{"role": "user", "content": "one two"}]}]
    a, b = write(tmp_path / "a.jsonl", records[:4]), write(tmp_path / "b.jsonl", records[4:])
    assert run(farseek, "dedup", a, b, tmp_path / "out.jsonl") == {"out": str(tmp_path / "out.jsonl"), "read": 6, "kept": 3, "duplicates": 3}
    assert read(tmp_path / "out.jsonl") == [records[0], records[1], records[3]]


def test_near_duplicates_are_those_of_high_jaccard(farseek, tmp_path):
    r = random.Random(4)
    texts = []
    for _ in range(300):
        base = [r.choice(VOCABULARY) for _ in range(r.randint(30, 200))]
        texts.append(" ".join(base))
        for _ in range(r.randint(0, 3)):
            changed = [r.choice(VOCABULARY) if r.random() < r.choice([0.002, 0.02, 0.1]) else w for w in base]
            texts.append(" ".join(changed).upper())
    r.shuffle(texts)
    file, out = write(tmp_path / "in.jsonl", [{"text": t, "i": i} for i, t in enumerate(texts)]), tmp_path / "out.jsonl"
    counts = run(farseek, "dedup", file, out, "--near", "--threads", 1)
    kept = {x["i"] for x in read(out)}
    sets = [grams(t, 5) for t in texts]
    jaccard = lambda i, k: len(sets[i] & sets[k]) / len(sets[i] | sets[k])
    nearest = lambda i: max((jaccard(i, k) for k in kept if k < i), default=0)
    for i in range(len(texts)):
        assert i in kept or nearest(i) > 0.65, (i, nearest(i))
        assert i not in kept or nearest(i) < 0.93, (i, nearest(i))
    assert counts["kept"] == len(kept) and counts["near-duplicates"] > 80
    for threads in (2, 3):
        other = tmp_path / f"{threads}.jsonl"
        run(farseek, "dedup", file, other, "--near", "--threads", threads)
        assert other.read_bytes() == out.read_bytes()
    few = run(farseek, "dedup", file, tmp_path / "low.jsonl", "--near", "--threshold", 0.5)
    assert few["kept"] < counts["kept"]


def test_letters_are_the_same_in_every_locale(farseek, tmp_path, monkeypatch):
    """In Turkish the small letter of I is no i."""
    if subprocess.run(["localedef", "-i", "tr_TR", "-f", "ISO-8859-9", tmp_path / "tr_TR.ISO-8859-9"], capture_output=True).returncode:
        pytest.skip("localedef knows no tr_TR")
    sentence = "it is in the middle of this city that I wait with him"
    file = write(tmp_path / "in.jsonl", [{"text": sentence}, {"text": sentence.upper()}])
    for locale in ("C", "tr_TR.ISO-8859-9"):
        monkeypatch.setenv("LOCPATH", str(tmp_path))
        monkeypatch.setenv("LC_ALL", locale)
        assert run(farseek, "dedup", file, tmp_path / "out.jsonl", "--near")["near-duplicates"] == 1
        assert run(farseek, "filter", file, tmp_path / "out.jsonl", "--stop-words-min", 4)["kept"] == 2
        assert run(farseek, "filter", file, tmp_path / "out.jsonl", "--stop-words-min", 5)["kept"] == 0


def test_questions_of_evaluations_are_found(farseek, tmp_path):
    r = random.Random(5)
    sentence = lambda n: " ".join(r.choice(VOCABULARY) for _ in range(n))
    questions = [sentence(n) for n in (40, 25, 14, 13, 9, 5, 3, 1)]
    evaluation = write(tmp_path / "eval.jsonl", [{"prompt": q, "answer": "secret"} for q in questions])
    records = []
    for _ in range(400):
        text = sentence(r.randint(1, 60))
        if r.random() < 0.5:
            q = r.choice(questions).split()
            k = r.randint(1, len(q))
            at = r.randint(0, len(q) - k)
            text = f"{sentence(r.randint(0, 9))} {'. '.join(q[at : at + k]).upper()} {sentence(r.randint(0, 9))}"
        records.append({"text": text} if r.random() < 0.6 else {"prompt": text, "answer": "x"})
    records += [{"prompt": questions[-2], "answer": "y"}, {"messages": [{"role": "user", "content": questions[-1]}, {"role": "assistant", "content": "so"}]}]
    for n in (13, 8):
        out = tmp_path / f"out{n}.jsonl"
        counts = run(farseek, "decontaminate", write(tmp_path / "in.jsonl", records), out, "--against", f"{evaluation}", "--ngram", n)
        wanted = set().union(*(grams(q, n) if len(words(q)) >= n else {tuple(words(q))} for q in questions))
        short, long = {g for g in wanted if len(g) < 5}, {g for g in wanted if len(g) >= 5}

        def dirty(record):
            question = record.get("text") or record.get("prompt") or record["messages"][0]["content"]
            whole = question if "text" in record else question + "\n" + record.get("answer", "so")
            return any(grams(whole, k) & long for k in {len(g) for g in long}) or tuple(words(question)) in short or tuple(words(whole)) in short

        assert read(out) == [x for x in records if not dirty(x)]
        assert counts["contaminated"] == sum(map(dirty, records)) > 30 and counts["evaluation items"] == 8


GOOD = """The rivers run to the sea and that is where they end, with all that they have seen of the land. Nobody on the bridge knew why the lamps
were lit so early, or who had asked for them. In the mill above the town two men weighed flour until noon, then slept beside the wheel. It rained a
little; the road to the coast was soft and brown, and carts went slowly."""


@pytest.mark.parametrize("text, options, rule", [
    ("short one", ["--words-min", 3], "words-min"), ("a b c d " * 60, ["--words-max", 100], "words-max"), ("a b c", ["--word-length-min", 2], "word-length-min"),
    ("incomprehensibilities abound", ["--word-length-max", 9], "word-length-max"), ("1 2 3 four", ["--letter-words-min", 0.5], "letter-words-min"),
    ("# a # b", ["--symbols-max", 0.4], "symbols-max"), ("a...\nb\n", ["--ellipsis-lines-max", 0.4], "ellipsis-lines-max"),
    ("- a\n* b\nc", ["--bullet-lines-max", 0.6], "bullet-lines-max"), ("x\nx\ny\nx", ["--repeated-lines-max", 0.4], "repeated-lines-max"),
    ("a b c d e a b c d e a b c d e", ["--repeated-grams-max", 0.3], "repeated-grams-max"), ("plain words only", ["--stop-words-min", 1], "stop-words-min"),
    ("too short for gopher", ["--rules", "gopher"], "words-min"),
])
def test_a_rule_leaves_out_what_breaks_it(farseek, tmp_path, text, options, rule):
    out = tmp_path / "out.jsonl"
    counts = run(farseek, "filter", write(tmp_path / "in.jsonl", [{"text": text}, {"text": GOOD.strip()}]), out, *options)
    assert counts.get(rule) == 1, counts
    assert run(farseek, "filter", tmp_path / "in.jsonl", out)["kept"] == 2


def test_gopher_keeps_prose_and_a_rule_can_be_changed(farseek, tmp_path):
    prose = (ROOT / "docs" / "data.md").read_text().split("\n## ")[2]
    text = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 60 and not line.startswith(("|", "`")))
    file = write(tmp_path / "in.jsonl", [{"text": GOOD}, {"text": text}, {"text": prose[:40]}])
    counts = run(farseek, "filter", file, tmp_path / "out.jsonl", "--rules", "gopher")
    assert counts["read"] == 3 and counts["words-min"] == 1 and counts["kept"] >= 1
    assert run(farseek, "filter", file, tmp_path / "out.jsonl", "--rules", "gopher", "--words-min", 5000)["words-min"] == 3


def test_a_mix_has_its_weights_and_goes_through_each_file(farseek, tmp_path):
    a, b = write(tmp_path / "a.jsonl", [{"text": f"a{i}"} for i in range(50)]), write(tmp_path / "b.jsonl", [{"text": f"b{i}"} for i in range(7)])
    out = tmp_path / "out.jsonl"
    counts = run(farseek, "mix", f"{a}=3", f"{b}=1", out, "-n", 1000, "--seed", 2)
    got = [x["text"] for x in read(out)]
    assert counts == {"out": str(out), "records": 1000, str(a): sum(x[0] == "a" for x in got), str(b): sum(x[0] == "b" for x in got)}
    assert 690 < counts[str(a)] < 810
    for letter, n in (("a", 50), ("b", 7)):
        mine = [x for x in got if x[0] == letter]
        epochs = [mine[i : i + n] for i in range(0, len(mine) - n + 1, n)]
        assert all(len(set(e)) == n for e in epochs) and epochs[0] != epochs[1]
    run(farseek, "mix", f"{a}=3", f"{b}=1", tmp_path / "less.jsonl", "-n", 300, "--seed", 2)
    assert read(tmp_path / "less.jsonl") == read(out)[:300]
    run(farseek, "mix", f"{a}=3", f"{b}=1", tmp_path / "other.jsonl", "-n", 300, "--seed", 3)
    assert read(tmp_path / "other.jsonl") != read(out)[:300]


@pytest.mark.parametrize("args, code, word", [
    (["dedup", "BAD", "OUT"], 1, "line 2"), (["decontaminate", "GOOD", "OUT"], 2, "--against"), (["mix", "GOOD", "OUT", "-n", 3], 2, "FILE=WEIGHT"),
    (["mix", "GOOD=1", "OUT"], 2, "--count"), (["mix", "GOOD=-1", "OUT", "-n", 3], 2, "weight"), (["filter", "NONE", "OUT"], 1, "none.jsonl"),
    (["dedup", "GOOD", "NOWHERE", "--near"], 1, "cannot create"),
])
def test_what_is_wrong_is_a_sentence_and_leaves_nothing(farseek, tmp_path, args, code, word):
    write(tmp_path / "good.jsonl", [{"text": "x"}])
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{"text": 5}\n')
    names = {"BAD": "bad.jsonl", "GOOD": "good.jsonl", "OUT": "out.jsonl", "NONE": "none.jsonl", "NOWHERE": "no/out.jsonl"}
    for key, name in names.items():
        args = [re.sub(rf"^{key}(?==|$)", str(tmp_path / name), str(a)) for a in args]
    r = farseek("data", *args, check=False)
    assert r.returncode == code and word in r.stderr and r.stderr.count("\n") == 1, r.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl", "good.jsonl"]


def test_parquet_becomes_records(farseek, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow
    tool = [sys.executable, ROOT / "tools" / "parquet2jsonl.py"]
    chat = [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "so"}]
    parquet.write_table(pyarrow.table({"messages": [chat, chat[:1]], "id": [1, 2]}), tmp_path / "chat.parquet")
    parquet.write_table(pyarrow.table({"question": ["1+1", "2+2"], "solution": ["2", "4"]}), tmp_path / "qa.parquet")
    subprocess.run([*tool, tmp_path / "chat.parquet", tmp_path / "chat.jsonl", "--keep", "id"], check=True)
    assert read(tmp_path / "chat.jsonl") == [{"messages": chat, "id": 1}, {"messages": chat[:1], "id": 2}]
    subprocess.run([*tool, tmp_path / "qa.parquet", tmp_path / "qa.jsonl", "--prompt", "question", "--answer", "solution"], check=True)
    assert read(tmp_path / "qa.jsonl") == [{"prompt": "1+1", "answer": "2"}, {"prompt": "2+2", "answer": "4"}]
    assert run(farseek, "dedup", tmp_path / "chat.jsonl", tmp_path / "qa.jsonl", tmp_path / "out.jsonl")["kept"] == 4
    r = subprocess.run([*tool, tmp_path / "qa.parquet", tmp_path / "no.jsonl"], capture_output=True, text=True)
    assert r.returncode != 0 and "question, solution" in r.stderr and not (tmp_path / "no.jsonl").exists()
