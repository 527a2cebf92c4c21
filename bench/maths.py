"""The maths checker beside math-verify on the known answers of benchmarks: python3 bench/maths.py FILE.jsonl...

Each line has an answer (answer or final_answer) and perhaps a solution. Three pairs of each: the answer with itself in a box, with the next line's
answer, with the solution. Prints a line a file, the verdicts that differ, and CPU time a pair."""
import json
import logging
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from math_verify import parse, verify

FARSEEK = pathlib.Path(__file__).resolve().parents[1] / "build" / "farseek"
logging.disable(logging.CRITICAL)


def first(x):
    return first(x[0]) if isinstance(x, list) and x else "" if x is None or x == [] else str(x)


def pairs(path):
    rows = [json.loads(x) for x in open(path)]
    known = [first(r.get("answer", r.get("final_answer"))).strip().strip("$") for r in rows]
    for i, r in enumerate(rows):
        if known[i]:
            yield known[i], f"so it is \\boxed{{{known[i]}}}."
            if known[(i + 1) % len(known)]:
                yield known[i], f"so it is $ {known[(i + 1) % len(known)]} $."
            if "\\boxed" in first(r.get("solution")):
                yield known[i], first(r["solution"])


def ours(all_pairs):
    with tempfile.TemporaryDirectory() as folder:
        file, right = pathlib.Path(folder) / "in.jsonl", pathlib.Path(folder) / "right.jsonl"
        file.write_text("".join(json.dumps({"prompt": str(i), "answer": a, "output": o}) + "\n" for i, (a, o) in enumerate(all_pairs)))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([FARSEEK, "data", "check", "maths", file, right], check=True, stdout=subprocess.DEVNULL)
        equal = {int(json.loads(x)["prompt"]) for x in open(right)}
        return [i in equal for i in range(len(all_pairs))], resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def theirs(answer, output):
    try:
        return bool(verify(parse(f"${answer}$"), parse(output)))
    except Exception:
        return False


total, same, cpu = 0, 0, [0, 0]
for path in sys.argv[1:]:
    all_pairs = list(pairs(path))
    mine, seconds = ours(all_pairs)
    start = time.process_time()
    other = [theirs(*p) for p in all_pairs]
    cpu = [cpu[0] + seconds, cpu[1] + time.process_time() - start]
    agree = sum(a == b for a, b in zip(mine, other))
    total, same = total + len(all_pairs), same + agree
    print(f"{path}: {agree} of {len(all_pairs)} verdicts agree")
    for (a, o), x, y in zip(all_pairs, mine, other):
        if x != y:
            print(f"  {'equal here' if x else 'equal there'}: {a!r} and {o[-80:]!r}")
print(f"{same} of {total}, {100 * same / total:.2f} %; {1e6 * cpu[0] / total:.0f} us of CPU a pair, math-verify {1e6 * cpu[1] / total:.0f}")
