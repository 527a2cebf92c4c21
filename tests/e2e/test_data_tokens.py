"""farseek data tokenize and data rows: what is learnt, what lies in the shards, and rows as functions of seed and number."""
import json

import pytest

np = pytest.importorskip("numpy")
st = pytest.importorskip("safetensors.numpy")
WORDS = "alpha beta gamma delta seven rivers run to the sea and back again".split()
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OWN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture(scope="module")
def tokenizer(farseek, tmp_path_factory):
    """A small tokenizer with markers; tokenizers(template) is a folder whose configuration has that chat template."""
    base = tmp_path_factory.mktemp("tokenizer")
    (base / "words.txt").write_text(" ".join(WORDS * 9))

    def make(template=None):
        folder = base / str(len(list(base.iterdir())))
        farseek("tokenizer", "train", base / "words.txt", folder, "--vocab-size", 330, "--special",
                "<|endoftext|>;<|im_start|>;<|im_end|>;<s>;</s>;<｜begin▁of▁sentence｜>;<｜end▁of▁sentence｜>;<｜User｜>;<｜Assistant｜>;<think>;</think>",
                "--bos", "<s>", "--eos", "</s>")
        if template:
            config = json.loads((folder / "tokenizer_config.json").read_text())
            (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
        return folder

    return make


def tokenize(farseek, tmp_path, folder, records, *options, name="shards"):
    """The documents (ids, learn) of the shards made from the records."""
    file, out = tmp_path / "records.jsonl", tmp_path / name
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    farseek("data", "tokenize", folder, file, out, *options)
    index, documents = json.loads((out / "index.json").read_text()), []
    for shard in index["shards"]:
        t = st.load_file(out / shard["file"])
        assert len(t["tokens"]) == len(t["learn"]) == t["ends"][-1] == shard["tokens"] and len(t["ends"]) == shard["documents"]
        for begin, end in zip([0, *t["ends"][:-1]], t["ends"]):
            documents.append((t["tokens"][begin:end].tolist(), t["learn"][begin:end].tolist()))
    assert index["tokens"] == sum(len(i) for i, _ in documents) and index["learnt"] == sum(sum(l) for _, l in documents)
    assert index["documents"] == len(documents)
    return documents


def text(farseek, folder, ids):
    return json.loads(farseek("detokenize", folder / "tokenizer.json", "--json", stdin=json.dumps({"ids": [ids]})))["texts"][0]


def learnt(farseek, folder, document):
    return text(farseek, folder, [i for i, l in zip(*document) if l])


def test_documents_are_learnt_whole(farseek, tokenizer, tmp_path):
    folder = tokenizer()
    (ids, learn), = tokenize(farseek, tmp_path, folder, [{"text": "seven rivers </s> run"}])
    want = json.loads(farseek("tokenize", folder / "tokenizer.json", "--json", "--no-special", stdin=json.dumps({"texts": ["seven rivers </s> run"]})))["ids"][0]
    assert ids == [3, *want, 4] and learn == [0] + [1] * (len(want) + 1) and 4 not in want
    (ids, learn), = tokenize(farseek, tmp_path, folder, [{"text": "x"}], "--no-bos", "--eos", "<|endoftext|>", name="b")
    assert ids[-1] == 0 and learn == [1, 1]


def test_of_problems_trace_and_answer_are_learnt(farseek, tokenizer, tmp_path):
    folder = tokenizer()
    document, = tokenize(farseek, tmp_path, folder, [{"prompt": "3+4*2=", "trace": "7>", "answer": "4"}])
    assert text(farseek, folder, document[0]) == "<s>3+4*2=7>4</s>" and learnt(farseek, folder, document) == "7>4</s>"


def test_marks_become_tokens_when_asked_for(farseek, tokenizer, tmp_path):
    folder, record = tokenizer(), {"prompt": "<think>=", "trace": "<think>a</think>", "answer": "b"}
    plain, = tokenize(farseek, tmp_path, folder, [record])
    marked, = tokenize(farseek, tmp_path, folder, [record], "--marks", name="marked")
    assert text(farseek, folder, plain[0]) == text(farseek, folder, marked[0]) and 9 not in plain[0]
    assert marked[0].count(9) == marked[0].count(10) == 1 and marked[1][marked[0].index(9)] == 1


CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "alpha?"}, {"role": "assistant", "content": "beta"},
        {"role": "user", "content": "more <|im_end|>"}, {"role": "assistant", "content": "gamma delta"}]


@pytest.mark.parametrize("template, options, end", [(CHATML, [], "<|im_end|>\n"), (None, ["--format", "chatml"], "<|im_end|>"), (OWN, [], "</s>"),
                                                    (None, ["--format", "deepseek-v3"], "<｜end▁of▁sentence｜>")])
def test_of_conversations_the_replies_are_learnt(farseek, tokenizer, tmp_path, template, options, end):
    folder = tokenizer(template)
    records = [{"messages": CHAT}, {"prompt": "alpha?", "answer": "beta"}]
    whole, problem = tokenize(farseek, tmp_path, folder, records, *options)
    assert learnt(farseek, folder, whole).replace("\n", "") == f"beta{end}gamma delta{end}".replace("\n", "")
    assert learnt(farseek, folder, problem).replace("\n", "") == f"beta{end}".replace("\n", "")
    ask = {"messages": CHAT[:4], "add_generation_prompt": True}
    prompt = json.loads(farseek("template", folder, "--json", *options, stdin=json.dumps(ask)))["ids"]
    last = len(whole[1]) - whole[1][::-1].index(0)
    assert whole[0][:last] == prompt


def test_reasoning_that_a_later_prompt_drops_makes_samples_of_their_own(farseek, tokenizer, tmp_path):
    folder = tokenizer()
    chat = [{"role": "user", "content": "alpha?"}, {"role": "assistant", "content": "beta", "reasoning_content": "hm"}, {"role": "user", "content": "more"},
            {"role": "assistant", "content": "gamma", "reasoning_content": "so"}]
    first, second = tokenize(farseek, tmp_path, folder, [{"messages": chat}], "--format", "deepseek-r1")
    assert "hm" in learnt(farseek, folder, first) and "beta" in learnt(farseek, folder, first)
    assert "so" in learnt(farseek, folder, second) and "hm" not in text(farseek, folder, second[0]) and "beta" not in learnt(farseek, folder, second)


def rows(farseek, shards, *options):
    return [json.loads(line) for line in farseek("data", "rows", shards, *options).splitlines()]


@pytest.fixture(scope="module")
def shards(farseek, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    records = [{"text": " ".join(WORDS[(i * 7 + k * k) % 13] for k in range(1 + i * i % 23))} for i in range(90)]
    return path / "shards", tokenize(farseek, path, tokenizer(), records, "--shard-size", 0.001)


def target_pairs(documents):
    return sorted((i, t) for ids, learn in documents for i, t in zip(ids, [x if l else -1 for x, l in zip(ids[1:], learn[1:])] + [-1]))


def test_every_epoch_holds_every_document_once(farseek, shards):
    folder, documents = shards
    total = sum(len(i) for i, _ in documents)
    assert len(json.loads((folder / "index.json").read_text())["shards"]) > 3
    n = total // 48
    cut = rows(farseek, folder, "-l", 48, "-n", 2 * n, "--seed", 5)
    for epoch in (0, 1):
        mine = cut[epoch * n : (epoch + 1) * n]
        stream, found = [i for r in mine for i in r["ids"]], []
        while len(stream) > 0:
            match = [d for d, _ in documents if stream[: len(d)] == d]
            if not match:
                assert len(stream) < max(len(d) for d, _ in documents)
                break
            found.append(match[0])
            stream = stream[len(match[0]) :]
        assert [r["epoch"] for r in mine] == [epoch] * n and len(found) > len(documents) - 8
        for r in mine:
            assert [b for b, _ in r["pieces"]] == [sum(k for _, k in r["pieces"][:j]) for j in range(len(r["pieces"]))] and sum(k for _, k in r["pieces"]) == 48
            for b, k in r["pieces"]:
                assert r["targets"][b : b + k - 1] == r["ids"][b + 1 : b + k]
    assert cut[0]["ids"] != cut[n]["ids"]


def test_whole_documents_stay_whole(farseek, shards):
    folder, documents = shards
    length = max(len(i) for i, _ in documents)
    got = rows(farseek, folder, "-l", length, "-n", 200, "--pack", "whole", "--seed", 5)
    first = [r for r in got if r["epoch"] == 0]
    assert len(got) > len(first) > 0
    pieces = [(r["ids"][b : b + k], r["targets"][b : b + k]) for r in first for b, k in r["pieces"]]
    assert sorted(ids for ids, _ in pieces) == sorted(ids for ids, _ in documents)
    assert sorted(zip((i for ids, _ in pieces for i in ids), (t for _, ts in pieces for t in ts))) == target_pairs(documents)
    for r, after in zip(first, first[1:]):
        used = sum(k for _, k in r["pieces"])
        assert set(r["targets"][used:]) <= {-1} and used + after["pieces"][0][1] > length
    short = rows(farseek, folder, "-l", 16, "-n", 5, "--pack", "whole")
    assert all(k <= 16 for r in short for _, k in r["pieces"])


@pytest.mark.parametrize("pack", ["cut", "whole"])
def test_a_row_is_a_function_of_seed_and_number(farseek, shards, pack):
    folder = shards[0]
    all_rows = rows(farseek, folder, "-l", 64, "-n", 120, "--pack", pack, "--seed", 9)
    assert all_rows[-1]["epoch"] > 1
    for k in (0, 1, 17, 118, 55):
        assert rows(farseek, folder, "-l", 64, "--first", k, "--pack", pack, "--seed", 9) == [all_rows[k]]
    assert rows(farseek, folder, "-l", 64, "--pack", pack, "--seed", 8) != [all_rows[0]]


@pytest.mark.parametrize("record, word", [({"messages": [{"role": "user", "content": "x"}]}, "no assistant"), ({"text": 1}, "line 1"),
                                          ({"messages": [{"role": "robot", "content": "x"}]}, "robot")])
def test_what_cannot_be_trained_on_leaves_nothing(farseek, tokenizer, tmp_path, record, word):
    (tmp_path / "r.jsonl").write_text(json.dumps(record) + "\n")
    r = farseek("data", "tokenize", tokenizer(), tmp_path / "r.jsonl", tmp_path / "out", "--format", "chatml", check=False)
    assert r.returncode == 1 and word in r.stderr and "line 1" in r.stderr and [p.name for p in tmp_path.iterdir()] == ["r.jsonl"], r.stderr


def test_shards_that_are_not_sound_are_refused(farseek, tokenizer, tmp_path):
    tokenize(farseek, tmp_path, tokenizer(), [{"text": "alpha beta"}, {"text": "gamma"}])
    file = tmp_path / "shards" / "tokens-00001.safetensors"
    good = st.load_file(file)
    for change, word in [({"tokens": good["tokens"] + 1000}, "the vocabulary has"), ({"ends": good["ends"][::-1].copy()}, "ends at"),
                         ({"ends": good["ends"] - 1}, "ends at"), ({"learn": good["learn"][1:]}, "marks"), ({"ends": good["ends"].astype(np.int32)}, "'ends'")]:
        st.save_file({**good, **change}, file)
        r = farseek("data", "rows", tmp_path / "shards", "-l", 2, check=False)
        assert r.returncode == 1 and word in r.stderr and r.stderr.count("\n") == 1, r.stderr
    file.unlink()
    r = farseek("data", "rows", tmp_path / "shards", check=False)
    assert r.returncode == 1 and "tokens-00001" in r.stderr
