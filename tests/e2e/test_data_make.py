"""farseek data make and data check, with the arithmetic done again in Python."""
import collections
import json
import os
import re
import shutil
import time

import pytest

from conftest import ROOT, interrupted, until_caught

TASKS = ("facts", "chain", "multiply", "sort", "countdown")


def make(farseek, out, task, *options):
    farseek("data", "make", task, out, *options)
    return [json.loads(line) for line in out.read_text().splitlines()]


def facts(r):
    a, op, b = re.fullmatch(r"(\d+)([-+*])(\d+)=", r["prompt"]).groups()
    assert int(r["answer"]) == eval(f"{a}{op}{b}") >= 0 and r["trace"] == "" and max(len(a), len(b)) <= r["level"]


def chain(r):
    values, value = [], int(r["prompt"][0])
    for op, n in re.findall(r"([-+*])(\d)", r["prompt"]):
        value = {"+": value + int(n), "-": value - int(n), "*": value * int(n)}[op] % 10
        values.append(value)
    assert re.fullmatch(r"\d([-+*]\d)+=", r["prompt"]) and len(values) == r["level"]
    assert int(r["answer"]) == value and r["trace"] in ("", "".join(f"{v}>" for v in ["", *values[:-1]]))


def multiply(r):
    a, b = (int(x[::-1]) for x in r["prompt"][:-1].split("*"))
    assert int(r["answer"][::-1]) == a * b and not r["answer"].endswith("0") and len(str(a)) == len(str(b)) == r["level"]
    if r["trace"]:
        total = 0
        assert re.fullmatch(r">[^>]+>", r["trace"])
        for i, step in enumerate(r["trace"].strip(">").split("=")):
            parts = [int(x[::-1]) for x in step.split("+")]
            assert i == 0 or parts[0] == total
            total = sum(parts)
        assert total == a * b


def carries(r):
    """Step k multiplies digit k % n of the one number by digit k // n of the other, and adds what stands in that place and the row's carry."""
    a, b = ([int(d) for d in x] for x in r["prompt"][:-1].split("*"))
    n, places, carry = len(a), [0] * 2 * len(a), 0
    steps = re.findall(r"([a-y])(\d)(\d)(\d)(\d)", r["trace"])
    assert r["trace"] == ">" + "".join(map("".join, steps)) + ">" and len(steps) == n * n == r["level"] ** 2
    for k, (letter, *digits) in enumerate(steps):
        row, i = divmod(k, n)
        low, high, digit, top = map(int, digits)
        product = a[i] * b[row]
        carry = carry if i else 0
        assert ord(letter) - ord("a") == k and low + 10 * high == product
        assert digit + 10 * top == product + places[row + i] + carry
        places[row + i], carry = digit, top
        if i == n - 1:
            places[row + n] = top
    value = "".join(map(str, places))
    assert r["answer"] == (value[:-1] if value.endswith("0") else value)


def sort(r):
    numbers = [int(x) for x in r["prompt"][:-1].split(" ")]
    assert [int(x) for x in r["answer"].split(" ")] == sorted(numbers) and len(numbers) == r["level"]
    if r["trace"]:
        assert re.fullmatch(r">[^>]*>", r["trace"])
        steps = [[int(x) for x in s.split(" ")] for s in r["trace"].strip(">").split(",") if s]
        assert steps == [sorted(numbers[: i + 1]) for i in range(len(numbers) - 1)]


def countdown(r):
    numbers, target = r["prompt"].split("=")
    numbers = sorted(int(x) for x in numbers.split(" "))
    assert len(numbers) == r["level"] and sorted(map(int, re.findall(r"\d+", r["answer"]))) == numbers
    assert (eval(r["answer"]) == int(target)) == r["solved"]
    assert r["trace"].endswith("<answer>")
    if not r["trace"].startswith("<think>"):
        return
    tries = re.fullmatch(r"<think>(.*)</think><answer>", r["trace"])[1].split(";")
    assert len(tries) == r["tries"] and len(set(tries)) == len(tries)
    for i, t in enumerate(tries):
        left = collections.Counter(numbers)
        for a, op, b, v in re.findall(r"(\d+)([-+*])(\d+)=(\d+)", t):
            assert eval(f"{a}{op}{b}") == int(v)
            left.subtract([int(a), int(b)])
            assert min(left.values()) >= 0
            left[int(v)] += 1
        assert t.count(",") == len(numbers) - 2 and +left == collections.Counter([int(v)])
        assert (int(v) == int(target)) == (r["solved"] and i == len(tries) - 1)


@pytest.mark.parametrize("task", TASKS)
def test_every_record_is_right(farseek, tmp_path, task):
    records = make(farseek, tmp_path / "a.jsonl", task, "-n", 1500, "--seed", 11, "--traced", 0.6)
    for i, r in enumerate(records):
        globals()[task](r)
        assert (r["task"], r["index"]) == (task, i)
    levels = collections.Counter(r["level"] for r in records)
    assert max(levels.values()) < 1.5 * min(levels.values())
    later = make(farseek, tmp_path / "b.jsonl", task, "-n", 100, "--seed", 11, "--traced", 0.6, "--first", 500)
    assert later == records[500:600]
    assert make(farseek, tmp_path / "c.jsonl", task, "-n", 100, "--seed", 12) != records[:100]


def test_products_are_written_with_carries(farseek, tmp_path):
    options = ["--min", 1, "--max", 5, "-n", 1500, "--seed", 11]
    records = make(farseek, tmp_path / "a.jsonl", "multiply", *options, "--carries", "--traced", 0.6)
    for r in records:
        if r["trace"]:
            carries(r)
    assert {r["level"] for r in records} == {1, 2, 3, 4, 5} and 800 < sum(r["trace"] != "" for r in records) < 1000
    plain = make(farseek, tmp_path / "b.jsonl", "multiply", *options, "--traced", 0.6)
    assert [(r["prompt"], r["answer"]) for r in plain] == [(r["prompt"], r["answer"]) for r in records]  # another trace, the same problems
    assert farseek("data", "check", "multiply", tmp_path / "a.jsonl") == f"{tmp_path / 'a.jsonl'}: 1500 records, 1500 right, 0 well-formed, 0 wrong\n"


def test_budgets_set_how_long_a_search_is(farseek, tmp_path):
    mean = {}
    for budget in ("1", "4", "16", "4,16"):
        records = make(farseek, tmp_path / "a.jsonl", "countdown", "-n", 400, "--budgets", budget)
        assert max(r["tries"] for r in records) == int(budget.split(",")[-1])
        mean[budget] = sum(r["solved"] for r in records) / 400
    assert mean["1"] < mean["4"] < mean["4,16"] < mean["16"]


@pytest.mark.parametrize("task", TASKS)
def test_train_and_test_share_no_prompt(farseek, tmp_path, task):
    train = make(farseek, tmp_path / "train.jsonl", task, "-n", 2000, "--split", "train", "--seed", 1)
    test = make(farseek, tmp_path / "test.jsonl", task, "-n", 300, "--max", 4, "--split", "test", "--seed", 2, "--distinct")
    assert not {r["prompt"] for r in train} & {r["prompt"] for r in test}
    assert len({r["prompt"] for r in test}) == 300
    seen = make(farseek, tmp_path / "any.jsonl", task, "-n", 3000, "--seed", 2, "--distinct")
    share = len({r["prompt"] for r in seen} - {r["prompt"] for r in make(farseek, tmp_path / "t.jsonl", task, "-n", 3000, "--seed", 2, "--split", "train")})
    assert share > 0


def test_check_judges_outputs_and_keeps_the_right_ones(farseek, tmp_path):
    records = make(farseek, tmp_path / "a.jsonl", "chain", "-n", 90)
    for i, r in enumerate(records):
        r["output"] = (r["trace"] + r["answer"], str((int(r["answer"]) + 1) % 10), "I think " + r["answer"])[i % 3]
    file, kept = tmp_path / "outputs.jsonl", tmp_path / "right.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert farseek("data", "check", "chain", file, kept) == f"{file}: 90 records, 30 right, 30 well-formed, 30 wrong\n"
    assert [json.loads(x) for x in kept.read_text().splitlines()] == records[::3]
    assert json.loads(farseek("data", "check", "chain", file, "--json"))["right"] == 30


@pytest.mark.parametrize("args, word", [
    (["chian", "OUT"], "'chian'"), (["chain", "OUT", "--min", "9", "--max", "5"], "9 to 5"), (["countdown", "OUT", "--budgets", "2,x"], "2,x"),
    (["countdown", "OUT", "--max", "7"], "3 to 7"), (["chain", "OUT", "--min", "1", "--max", "1", "-n", "4000", "--distinct"], "different prompts"),
    (["chain", "OUT", "--split", "test", "--test-share", "0"], "none of 10000"), (["chain", "OUT", "--carries"], "carries are written of multiply"),
    (["multiply", "OUT", "--carries", "--max", "6"], "at most 5 digits"),
])
def test_wrong_settings_leave_nothing(farseek, tmp_path, args, word):
    r = farseek("data", "make", *[tmp_path / "out.jsonl" if a == "OUT" else a for a in args], check=False)
    assert r.returncode == 2 and word in r.stderr and not list(tmp_path.iterdir()), r.stderr


def test_maths_is_judged_by_value(farseek, tmp_path):
    rows = [("\\frac{1}{2}", "so \\boxed{0.5}", "right"), ("42", "The answer is 41.", "well-formed"), ("7", "no idea", "wrong"), ("1,000", "$10^3$", "right")]
    file, kept = tmp_path / "outputs.jsonl", tmp_path / "right.jsonl"
    file.write_text("".join(json.dumps({"prompt": "q", "answer": a, "output": o}) + "\n" for a, o, _ in rows))
    assert json.loads(farseek("data", "check", "maths", file, kept, "--json")) == {"out": str(file), "records": 4, "right": 2, "well-formed": 1, "wrong": 1}
    assert [json.loads(x)["answer"] for x in kept.read_text().splitlines()] == [a for a, _, v in rows if v == "right"]


@pytest.mark.parametrize("args", [["data", "make", "countdown", "OUT", "-n", "100000000"], ["data", "dedup", "BIG", "OUT", "--near"],
                                  ["data", "tokenize", "TOKENIZER", "BIG", "OUT"], ["tokenizer", "train", "BIG", "OUT"]])
def test_ctrl_c_leaves_nothing(farseek, tmp_path, tmp_path_factory, args):
    things = tmp_path_factory.mktemp("things")
    names = {"OUT": tmp_path / "out", "BIG": things / "big.jsonl", "TOKENIZER": things / "tokenizer"}
    if "BIG" in args:
        line = json.dumps({"text": "abc def ghi jkl mno pqr stu vwx yz " * 80}) + "\n"
        (things / "small.jsonl").write_text(line)
        farseek("tokenizer", "train", things / "small.jsonl", names["TOKENIZER"], "--vocab-size", 300)
        with open(names["BIG"], "w") as f:
            for i in range(20000):
                f.write(line.replace("abc", str(i)))
    command = os.environ.get("FARSEEK", str(ROOT / "build" / "farseek")).split()

    def under_way(p):
        until_caught(p)
        end = time.monotonic() + 0.2  # some have a file by then
        while time.monotonic() < end and not any(tmp_path.iterdir()):
            time.sleep(0.001)
        return True

    def forget():
        shutil.rmtree(names["OUT"]) if names["OUT"].is_dir() else names["OUT"].unlink()

    assert interrupted([*command, *(names.get(a, a) for a in args)], under_way, forget) == "farseek: interrupted\n"
    assert not list(tmp_path.iterdir())
