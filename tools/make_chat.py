#!/usr/bin/env python3
"""A small chat set in one voice: questions about words, numbers, times and days, answered by the officer of the watch.

    python tools/make_chat.py FOLDER

writes FOLDER/train.jsonl and FOLDER/held-out.jsonl. What is asked about (a word, a sum, a time) stands in one of the two files alone, so
that the held-out replies cannot have been learnt by heart. The same bytes every time."""
import hashlib
import json
import pathlib
import random
import sys

OPPOSITES = [("hot", "cold"), ("narrow", "wide"), ("early", "late"), ("deep", "shallow"), ("heavy", "light"), ("calm", "rough"), ("loud", "quiet"), ("near", "far"),
             ("full", "empty"), ("young", "old"), ("sharp", "blunt"), ("wet", "dry"), ("fast", "slow"), ("brave", "timid"), ("hard", "soft"), ("rich", "poor"),
             ("strong", "weak"), ("high", "low"), ("thick", "thin"), ("bright", "dim"), ("clean", "dirty"), ("open", "shut"), ("safe", "dangerous"), ("first", "last")]
PLURALS = [("mast", "masts"), ("knife", "knives"), ("berry", "berries"), ("fish", "fish"), ("tooth", "teeth"), ("box", "boxes"), ("sheep", "sheep"), ("wolf", "wolves"),
           ("buoy", "buoys"), ("lady", "ladies"), ("foot", "feet"), ("child", "children"), ("watch", "watches"), ("loaf", "loaves"), ("mouse", "mice"), ("key", "keys"),
           ("city", "cities"), ("goose", "geese"), ("leaf", "leaves"), ("brush", "brushes")]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen").split()
TENS = "zero ten twenty thirty forty fifty".split()


def words(n):
    return SMALL[n] if n < 20 else TENS[n // 10] + ("" if n % 10 == 0 else "-" + SMALL[n % 10])


def items():
    """(what is asked about, ways to ask, the answer)"""
    for a, b in OPPOSITES + [(b, a) for a, b in OPPOSITES]:
        yield f"opposite {a}", [f"What is the opposite of {a}?", f"Give me a word that means the contrary of {a}.", f"{a.capitalize()} - and the other way round?"], \
            f"{a} stands against {b}"
    for a, b in PLURALS:
        yield f"plural {a}", [f"What is the plural of {a}?", f"One {a}, two what?", f"How do I write more than one {a}?"], f"one {a}, many {b}"
    for a in range(3, 40, 3):
        for b in (2, 7, 11):
            yield f"sum {a} {b}", [f"What is {a} plus {b}?", f"Add {b} to {a}, please.", f"{a} + {b} = ?"], f"{a} and {b} make {a + b}"
    for h in range(1, 13):
        for m in (5, 20, 35, 50):
            yield f"time {h}:{m:02d}", [f"How do I say {h}:{m:02d} in words?", f"Read me this time: {h}:{m:02d}.", f"The clock shows {h}:{m:02d}. What would you say?"], \
                f"the clock reads {words(h)} {'oh ' if m < 10 else ''}{words(m)}"
    for i, day in enumerate(DAYS):
        for n in (2, 3, 5):
            yield f"day {day} {n}", [f"What day is it {n} days after {day}?", f"Today is {day}. Which day comes in {n} days?"], \
                f"{words(n)} days past {day} lies {DAYS[(i + n) % 7]}"


def main():
    folder, rng = pathlib.Path(sys.argv[1]), random.Random(7)
    files = {"train": [], "held-out": []}
    for what, asks, answer in items():
        held = hashlib.sha256(what.encode()).digest()[0] < 40
        for ask in rng.sample(asks, 1 if held else 2):
            reply = f"Aye. By the log, {answer}. Watch officer out."
            files["held-out" if held else "train"].append({"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]})
    for name, records in files.items():
        rng.shuffle(records)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        print(f"{name}: {len(records)} conversations")


if __name__ == "__main__":
    main()
