#!/usr/bin/env python3
"""Scores of the arms of an R1 recipe (recipes/r1-t0, recipes/r1-t1, recipes/r1-t2) as CSV.

    tools/r1_results.py [results.csv] SEED=FOLDER... > more.csv

FOLDER is the out of controls.yaml or recipe.yaml; what is known of other seeds can be given as a file. Reads the completions of its eval stages, named ARM-greedy, ARM-sampled (temperature 1)
and ARM-harder (greedy, more operations than were trained); a long reply is one that begins with the mark of a trace. Of countdown: one that
tries more than once, and for operations stands how many of the ways to combine the numbers, in their order, reach the target, or how many numbers
are given where some problems have four; beside it tries a reply, the share of steps that are computed right, how often the search ends at a try
that hits the target and at one that misses it, and the share of replies that are right after a try that missed.
With --table prints the means over seeds and their ranges, as README.md has them."""
import collections
import csv
import itertools
import json
import pathlib
import re
import sys

ORDER = ("base-2", "base-1", "base", "cold", "rl", "rl-150", "mini", "again", "last", "half-alone", "half", "half-kl", "a", "b", "c", "short-2", "d")
HOW = ("greedy", "sampled", "harder")
COLUMNS = ("seed", "arm", "how", "operations", "problems", "completions", "pass1", "any_right", "long_share", "pass1_long", "pass1_short", "tokens", "truncated")
SEARCH = ("tries", "steps_right", "stop_hit", "stop_miss", "turned")
STEP = re.compile(r"(\d+)([-+*])(\d+)=(\d+)")


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def apply(a, op, b):
    return a + b if op == "+" else a - b if op == "-" else a * b


def ways(prompt):
    """How many of countdown's orders and operations reach the target: 27 for three numbers, no difference negative."""
    numbers, target = prompt.split("=")

    def count(items):
        if len(items) == 1:
            return items[0] == int(target)
        n = 0
        for i, j in itertools.combinations(range(len(items)), 2):
            rest = [x for k, x in enumerate(items) if k not in (i, j)]
            low, high = sorted((items[i], items[j]))
            n += sum(count([*rest, apply(high, op, low)]) for op in "+-*")
        return n
    return count([int(x) for x in numbers.split()])


def is_countdown(row):
    return " " in row["prompt"]


def n_numbers(row):
    return len(row["prompt"].split())


def level(row):
    """Ways of countdown, digits of a factor, operations of a chain."""
    product = re.fullmatch(r"(\d\d+)\*\d+=", row["prompt"])
    return min(ways(row["prompt"]), 5) if is_countdown(row) else len(product[1]) if product else len(re.findall(r"[-+*]", row["prompt"]))


def is_long(row):
    return ";" in row["output"] if is_countdown(row) else row["output"].startswith(">")


def search(rows):
    """What the traces of countdown do."""
    tries, steps, stops, turned = [], [], {True: [], False: []}, []
    for r in rows:
        thought, closed, _ = r["output"].removeprefix("<think>").partition("</think>")
        target, some = r["prompt"].split("=")[1], thought.split(";")
        tries.append(len(some))
        steps += [apply(int(a), op, int(b)) == int(c) for a, op, b, c in STEP.findall(thought)]
        hits = [x.rpartition("=")[2] == target for x in some]
        for i, hit in enumerate(hits[:None if closed else -1]):
            stops[hit].append(i == len(hits) - 1)
        turned.append(r["verdict"] == "right" and len(some) > 1 and hits[-1])
    return {"tries": mean(tries), "steps_right": mean(steps), "stop_hit": mean(stops[True]), "stop_miss": mean(stops[False]), "turned": mean(turned)}


def score(rows):
    right = [r["verdict"] == "right" for r in rows]
    long = [is_long(r) for r in rows]
    problems = {r["problem"] for r in rows}
    solved = {r["problem"] for r, x in zip(rows, right) if x}
    return {
        "problems": len(problems), "completions": len(rows), "pass1": mean(right), "any_right": len(solved) / len(problems), "long_share": mean(long),
        "pass1_long": mean(x for x, y in zip(right, long) if y), "pass1_short": mean(x for x, y in zip(right, long) if not y),
        "tokens": mean(r["tokens"] for r in rows), "truncated": mean(not r["stopped"] for r in rows),
        **(search(rows) if is_countdown(rows[0]) else {}),
    }


def read(seed, folder):
    for file in sorted(pathlib.Path(folder).glob("*.jsonl")):
        arm, _, how = file.stem.rpartition("-")
        if how not in HOW or not arm:
            continue
        rows = [json.loads(line) for line in file.open()]
        levels = collections.defaultdict(list)
        four = is_countdown(rows[0]) and any(n_numbers(r) > 3 for r in rows)
        for r in rows:
            levels[n_numbers(r) if four else level(r)].append(r)
        for name, some in [("all", rows), *sorted(levels.items())]:
            yield {"seed": seed, "arm": arm, "how": how, "operations": name, **score(some)}


def number(value):
    return None if value == "" else int(value) if value.isdigit() else float(value) if re.fullmatch(r"-?[0-9.]+", value) else value


def known(path):
    with open(path, newline="") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def text(value):
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else value


def spread(values):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else "")


def tables(rows):
    groups = collections.defaultdict(list)
    for r in rows:
        groups[r["arm"], r["how"], r["operations"]].append(r)
    arms = sorted({r["arm"] for r in rows}, key=lambda arm: (ORDER.index(arm) if arm in ORDER else len(ORDER), arm))
    columns = [("greedy", "pass1", "greedy pass@1"), ("greedy", "tokens", "tokens"), ("greedy", "long_share", "long"), ("sampled", "pass1", "sampled pass@1"),
               ("sampled", "any_right", "pass@4"), ("sampled", "tokens", "tokens"), ("sampled", "long_share", "long"), ("sampled", "pass1_long", "right when long"),
               ("sampled", "pass1_short", "right when short")]
    if "tries" in rows[0]:
        columns = [("greedy", "pass1", "greedy pass@1"), ("greedy", "tokens", "tokens"), ("greedy", "truncated", "cut off"), ("sampled", "pass1", "sampled pass@1"),
                   ("sampled", "any_right", "pass@16"), ("sampled", "tokens", "tokens"), ("sampled", "tries", "tries"), ("sampled", "turned", "right after a miss"),
                   ("sampled", "stop_hit", "ends at a hit"), ("sampled", "stop_miss", "ends at a miss"), ("sampled", "steps_right", "steps right")]
    print("| arm | " + " | ".join(name for _, _, name in columns) + " |\n|" + "---|" * (len(columns) + 1))
    for arm in arms:
        cells = [spread(r[key] for r in groups[arm, how, "all"]) for how, key, _ in columns]
        print(f"| {arm} | " + " | ".join(cells) + " |")
    levels = sorted({r["operations"] for r in rows if r["operations"] != "all"})
    print(f"\n| {'ways' if 'tries' in rows[0] else 'operations'} | " + " | ".join(map(str, levels)) + " |\n|" + "---|" * (len(levels) + 1))
    for arm in arms:
        cells = [spread(r["pass1"] for how in ("greedy", "harder") for r in groups[arm, how, level]) for level in levels]
        print(f"| {arm} | " + " | ".join(cells) + " |")


def main():
    table = "--table" in sys.argv
    rows = [row for word in sys.argv[1:] if word != "--table" for row in (read(*word.split("=", 1)) if "=" in word else known(word))]
    if not rows:
        sys.exit(__doc__)
    if table:
        return tables(rows)
    columns = COLUMNS + (SEARCH if "tries" in rows[0] else ())
    out = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    out.writeheader()
    for row in rows:
        out.writerow({key: text(row[key]) for key in columns})


if __name__ == "__main__":
    main()
