#!/usr/bin/env python3
"""Scores of the arms of an R1 recipe (recipes/r1-t0, recipes/r1-t1) as CSV.

    tools/r1_results.py SEED=FOLDER... > results.csv

FOLDER is the out of controls.yaml or recipe.yaml. Reads the completions of its eval stages, named ARM-greedy, ARM-sampled (temperature 1)
and ARM-harder (greedy, more operations than were trained); a long reply is one that begins with the mark of a trace.
With --table prints the means over seeds and their ranges, as README.md has them."""
import collections
import csv
import json
import pathlib
import re
import sys

ORDER = ("base-2", "rl", "mini", "a", "b", "c", "short-2", "d")
HOW = ("greedy", "sampled", "harder")
COLUMNS = ("seed", "arm", "how", "operations", "problems", "completions", "pass1", "any_right", "long_share", "pass1_long", "pass1_short", "tokens", "truncated")


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def score(rows):
    right = [r["verdict"] == "right" for r in rows]
    long = [r["output"].startswith(">") for r in rows]
    problems = {r["problem"] for r in rows}
    solved = {r["problem"] for r, x in zip(rows, right) if x}
    return {
        "problems": len(problems), "completions": len(rows), "pass1": mean(right), "any_right": len(solved) / len(problems), "long_share": mean(long),
        "pass1_long": mean(x for x, y in zip(right, long) if y), "pass1_short": mean(x for x, y in zip(right, long) if not y),
        "tokens": mean(r["tokens"] for r in rows), "truncated": mean(not r["stopped"] for r in rows),
    }


def read(seed, folder):
    for file in sorted(pathlib.Path(folder).glob("*.jsonl")):
        arm, _, how = file.stem.rpartition("-")
        if how not in HOW or not arm:
            continue
        rows = [json.loads(line) for line in file.open()]
        levels = collections.defaultdict(list)
        for r in rows:
            levels[len(re.findall(r"[-+*]", r["prompt"]))].append(r)
        for level, some in [("all", rows), *sorted(levels.items())]:
            yield {"seed": seed, "arm": arm, "how": how, "operations": level, **score(some)}


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
    print("| arm | greedy pass@1 | tokens | long | sampled pass@1 | pass@4 | tokens | long | right when long | right when short |\n|" + "---|" * 10)
    for arm in arms:
        cells = [spread(r[key] for r in groups[arm, how, "all"]) for how, keys in
                 (("greedy", ("pass1", "tokens", "long_share")), ("sampled", ("pass1", "any_right", "tokens", "long_share", "pass1_long", "pass1_short"))) for key in keys]
        print(f"| {arm} | " + " | ".join(cells) + " |")
    levels = sorted({r["operations"] for r in rows if r["operations"] != "all"})
    print("\n| operations | " + " | ".join(map(str, levels)) + " |\n|" + "---|" * (len(levels) + 1))
    for arm in arms:
        cells = [spread(r["pass1"] for how in ("greedy", "harder") for r in groups[arm, how, level]) for level in levels]
        print(f"| {arm} | " + " | ".join(cells) + " |")


def main():
    table = "--table" in sys.argv
    rows = [row for word in sys.argv[1:] if word != "--table" for row in read(*word.split("=", 1))]
    if not rows:
        sys.exit(__doc__)
    if table:
        return tables(rows)
    out = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    out.writeheader()
    for row in rows:
        out.writerow({key: text(row[key]) for key in COLUMNS})


if __name__ == "__main__":
    main()
