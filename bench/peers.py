#!/usr/bin/env python3
"""Farseek beside llama.cpp and ik_llama.cpp on the same files: what README's table and chart show.

  peers.py --farseek build/farseek --limits build/bench/limits --models FOLDER
           [--llama FOLDER --llama-version b11434] [--ik FOLDER --ik-version 8337e4c] [--runs 5] [--only TEST,...] [--lock FILE] [--realtime] [--out bench/results/peers]

The folders hold the peers' llama-bench and llama-batched-bench, built by hand for this CPU; FOLDER the models, those that
are missing are made: smollm2-135m-q4_1.gguf where `make run` keeps it, dsv3mini-*.gguf by bench/dsv3mini.py and the
llama-quantize that lies beside llama-bench. Every test runs once for each engine in turn, --runs times, each in a fresh
process; OUT.csv has the medians, OUT.md the table, OUT.svg the chart. `peers.py --report OUT` draws the last two again.

Each peer has the flags that were fastest for it (flags), and ik_llama.cpp's llama-batched-bench must feed random ids: as
released it writes token 0 in every sequence, so that all of them meet the same experts. Where others use the machine, the
share of CPU time they took stands in the CSV; --realtime runs all but the test with a core taken before everyone else
(chrt -f 1, for root), --lock holds a lock on FILE during each run, so that other measurements can wait for it."""
import argparse
import csv
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODELS = {"smollm2-135m-q4_1": "SmolLM2-135M Q4_1", "dsv3mini-q8_0": "MoE 2.2B Q8_0", "dsv3mini-q4_k_m": "MoE 2.2B Q4_K_M"}
MOE = ["dsv3mini-q8_0", "dsv3mini-q4_k_m"]
ENGINES = ["farseek", "ik_llama.cpp", "llama.cpp"]
# test: (models, unit, title)
TESTS = {
    "pp512": (list(MODELS), "tok/s", "read 512"),
    "tg128": (list(MODELS), "tok/s", "write 128"),
    "pp4096": (MOE[1:], "tok/s", "read 4096"),
    "tg32@4096": (MOE[1:], "tok/s", "write 32 behind 4096"),
    "batch8": (MOE[1:], "tok/s", "8 sequences write"),
    "batch32": (MOE[1:], "tok/s", "32 sequences write"),
    "tg64 busy": (MOE[1:], "tok/s", "write 64, one core taken"),
    "tg64 1 thread": (MOE[1:], "tok/s", "write 64, one thread"),
    "load": (MOE, "s", "start, load, first token, exit"),
    "memory": (list(MODELS), "MiB", "peak memory of read 512, write 128"),
}
# Tests that one process answers together.
GROUPS = {"pp512": ("pp512", "tg128", "memory"), "batch8": ("batch8",), "batch32": ("batch32",), "load": ("load",), "tg64 busy": ("tg64 busy",),
          "tg64 1 thread": ("tg64 1 thread",), "tg32@4096": ("tg32@4096",), "pp4096": ("pp4096",)}


def flags(engine, model):
    if engine == "llama.cpp":
        return {"-fa": "1"}
    if engine == "ik_llama.cpp":
        return {"-fa": "1", **({"-mla": "3", "-rtr": "1", "-thp": "1"} if model in MOE else {})}
    return {}


@contextlib.contextmanager
def locked(path):
    with open(path, "a") if path else contextlib.nullcontext() as f:
        if path:
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


def busy_seconds():
    v = [int(x) for x in open("/proc/stat").readline().split()[1:9]]
    return (sum(v) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def run(command, taken=0):
    """Runs it in an empty folder, since peers leave logs. stdout, seconds, peak MiB, share of the machine's CPU time that others used; taken: that of core_taken."""
    before = busy_seconds()
    start = time.time()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, tempfile.TemporaryDirectory() as folder:
        p = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err, cwd=folder)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.time() - start
        out.seek(0)
        err.seek(0)
        text = out.read()
        if p.returncode:
            sys.exit(f"{' '.join(map(str, command))}: exit {p.returncode}\n{err.read()[-2000:]}")
        # ik_llama.cpp's llama-batched-bench writes its table to stderr
        text += err.read() if any("batched" in str(c) for c in command) else ""
    others = max(0, busy_seconds() - before - usage.ru_utime - usage.ru_stime) / (seconds * os.cpu_count()) - taken
    return text, seconds, usage.ru_maxrss / 1024, max(0, others)


@contextlib.contextmanager
def core_taken():
    """Another process that computes on the last CPU."""
    spinner = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{os.cpu_count() - 1}}})\nwhile True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        spinner.kill()
        spinner.wait()


class Farseek:
    def __init__(self, program):
        self.program = program

    def command(self, path, model, test):
        if test == "load":
            return [self.program, "logits", path, "--ids", 1, "--json"]
        bench = [self.program, "bench", path, "--json", "--no-limits", "-r", 1]
        return bench + {"pp512": ["-p", 512, "-n", 128], "pp4096": ["-p", 4096, "-n", 0], "tg32@4096": ["-p", 0, "-n", 32, "-d", 4096],
                        "batch8": ["-p", 0, "-n", 32, "-d", 64, "--batch", 8], "batch32": ["-p", 0, "-n", 32, "-d", 64, "--batch", 32],
                        "tg64 busy": ["-p", 0, "-n", 64], "tg64 1 thread": ["-p", 0, "-n", 64, "-t", 1]}[test]

    def values(self, text, test):
        r = json.loads(text)
        return {"pp": r.get("pp_tok_s"), "tg": r.get("tg_tok_s"), "ops_s": r.get("pp_ops_s"), "bytes_s": r.get("tg_bytes_s")}


class Llama:
    """Both peers: ik_llama.cpp forked from llama.cpp."""

    def __init__(self, name, folder):
        self.name, self.folder = name, pathlib.Path(folder)

    def command(self, path, model, test):
        options = flags(self.name, model)
        threads = 1 if test == "tg64 1 thread" else os.cpu_count()
        if test.startswith("batch"):
            n = int(test[5:])
            values = [o for k, v in options.items() for o in ([k] if k in ("-rtr", "-thp") else [k, "on" if k == "-fa" else v])]
            return [self.folder / "llama-batched-bench", "-m", path, "-t", threads, "-tb", threads, "-c", n * 128, "-b", 2048, "-ub", 512,
                    "-npp", 64, "-ntg", 32, "-npl", n, *values]
        bench = [self.folder / "llama-bench", "-m", path, "-t", threads, "-r", 1, "-o", "json", *[o for kv in options.items() for o in kv]]
        deep = ["-p", 0, "-n", 0, "-gp", "4096,32"] if self.name.startswith("ik") else ["-p", 0, "-n", 32, "-d", 4096]
        cold = ["-w", 0] if self.name.startswith("ik") else ["--no-warmup"]
        return bench + {"pp512": ["-p", 512, "-n", 128], "pp4096": ["-p", 4096, "-n", 0], "tg32@4096": deep, "tg64 busy": ["-p", 0, "-n", 64],
                        "tg64 1 thread": ["-p", 0, "-n", 64], "load": ["-p", 0, "-n", 1, *cold]}[test]

    def values(self, text, test):
        if test.startswith("batch"):
            rows = [[x.strip() for x in line.split("|")[1:-1]] for line in text.splitlines() if re.match(r"\|\s*64 \|\s*32 \|", line)]
            return {"tg": float(rows[0][7])}
        found = {}
        for r in json.loads(text[text.index("["):]):
            found["tg" if r["n_gen"] else "pp"] = r["avg_ts"]
        return found


def make_models(folder, llama):
    folder.mkdir(parents=True, exist_ok=True)
    small = folder / "smollm2-135m-q4_1.gguf"
    if not small.exists():
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "farseek"
        shutil.copy(cache / "SmolLM2-135M-Instruct.Q4_1.gguf", small)
    f16 = folder / "dsv3mini-f16.gguf"
    for model in MOE:
        path = folder / (model + ".gguf")
        if path.exists():
            continue
        if not f16.exists():
            subprocess.run([sys.executable, ROOT / "bench/dsv3mini.py", f16, small], check=True)
        subprocess.run([pathlib.Path(llama) / "llama-quantize", f16, folder / "part", model.split("-")[1].upper()], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "part").rename(path)


def measure_limits(program, best):
    """What the machine can on all CPUs, into best: name and rate, where it is more than before."""
    for r in csv.DictReader(run(program)[0].splitlines()):
        if int(r["threads"]) == os.cpu_count():
            best[r["what"]] = max(best.get(r["what"], 0), float(r["rate"]))


def add_shares(rows, limits):
    """Of the int8 peak for reading, of the memory for writing; each row's reached is in operations or bytes a second."""
    for r in rows:
        limit = limits["multiply-add int8" if r["test"].startswith("pp") else "read huge pages"] * 1e9
        r["percent_of_limit"] = f"{100 * float(r['reached']) / limit:.1f}" if r["reached"] else ""
        r["read_gb_s"], r["int8_gop_s"] = f"{limits['read huge pages']:.1f}", f"{limits['multiply-add int8']:.0f}"


def measure(args):
    engines = {"farseek": Farseek(args.farseek)}
    describe = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    versions = {"farseek": args.farseek_version or subprocess.run(describe, capture_output=True, text=True).stdout.strip()}
    for name, folder, version in (("ik_llama.cpp", args.ik, args.ik_version), ("llama.cpp", args.llama, args.llama_version)):
        if folder:
            engines[name], versions[name] = Llama(name, folder), version
    make_models(args.models, args.llama)
    limits = {}
    rows = []
    for model in MODELS:
        path = args.models / (model + ".gguf")
        with locked(args.lock):
            measure_limits((["chrt", "-f", "1"] if args.realtime else []) + [args.limits], limits)
        for group, tests in GROUPS.items():
            if model not in TESTS[group][0] or (args.only and not set(tests) & set(args.only)):
                continue
            samples = {}
            for i in range(args.runs):
                order = list(engines)
                for name in order[i % len(order):] + order[:i % len(order)]:
                    command = engines[name].command(path, model, group)
                    busy = group == "tg64 busy"
                    if args.realtime and not busy:
                        command = ["chrt", "-f", "1", *command]
                    with locked(args.lock), core_taken() if busy else contextlib.nullcontext():
                        text, seconds, mib, others = run(command, taken=1 / os.cpu_count() if busy else 0)
                    value = engines[name].values(text, group)
                    got = {"load": seconds} if group == "load" else {"pp512": value.get("pp"), "tg128": value.get("tg"), "memory": mib} \
                        if group == "pp512" else {group: value.get("pp" if group == "pp4096" else "tg")}
                    for test, x in got.items():
                        samples.setdefault((test, name), []).append((x, others, value))
                    print(f"{model} {i + 1}/{args.runs} {name}: " + ", ".join(f"{t} {x:.2f}" for t, x in got.items()) +
                          f" (others {100 * others:.0f} % of the CPUs)", file=sys.stderr, flush=True)
            for (test, name), got in samples.items():
                xs = sorted(x for x, _, _ in got)
                key = "ops_s" if test.startswith("pp") else "bytes_s"
                token = [v[key] / x for x, _, v in got if v.get(key)] if group not in ("load", "tg64 busy", "tg64 1 thread") and test != "memory" else []
                reached = f"{statistics.median(xs) * statistics.median(token):.0f}" if token else ""
                rows.append({"model": model, "test": test, "engine": name, "version": versions[name],
                             "flags": " ".join(f"{k} {v}" for k, v in flags(name, model).items()), "threads": 1 if "1 thread" in test else os.cpu_count(),
                             "median": f"{statistics.median(xs):.2f}", "min": f"{xs[0]:.2f}", "max": f"{xs[-1]:.2f}", "unit": TESTS[test][1],
                             "reached": reached, "percent_of_limit": "", "runs": len(xs), "others_percent": f"{100 * statistics.median(o for _, o, _ in got):.0f}",
                             "read_gb_s": "", "int8_gop_s": "", "cpu": cpu_name(),
                             "date": datetime.date.today().isoformat()})
            add_shares(rows, limits)
            write_csv(args.out, rows)
    return rows


def existing(path):
    return pathlib.Path(path).resolve(strict=True)


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()}, {os.cpu_count()} cores"
    return platform.machine()


def write_csv(out, rows):
    with open(f"{out}.csv", "w", newline="") as f:
        w = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        w.writeheader()
        w.writerows(rows)


# ---- table and chart ----

def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def lines_of(rows):
    """(model, test, {engine: row}) in the order of the tables above."""
    for model in MODELS:
        for test in TESTS:
            found = {r["engine"]: r for r in rows if r["model"] == model and r["test"] == test}
            if found:
                yield model, test, found


def write_table(out, rows):
    engines = [e for e in ENGINES if any(r["engine"] == e for r in rows)]
    versions = {r["engine"]: r["version"] for r in rows}
    text = "| model | test | " + " | ".join(f"{e} {versions[e]}" for e in engines) + " | beside the better peer | share of the limit |\n"
    text += "|---|---|" + "---|" * (len(engines) + 2) + "\n"
    for model, test, found in lines_of(rows):
        unit = TESTS[test][1]
        values = {e: float(found[e]["median"]) for e in engines if e in found}
        peers = [v for e, v in values.items() if e != "farseek"]
        ratio = ""
        if peers and "farseek" in values:
            ratio = f"{values['farseek'] / max(peers):.2f}x" if unit == "tok/s" else f"{min(peers) / values['farseek']:.2f}x"
        share = found["farseek"]["percent_of_limit"] if "farseek" in found else ""
        cells = [f"{number(values[e])} ({number(float(found[e]['min']))}-{number(float(found[e]['max']))})" if e in values else "" for e in engines]
        text += f"| {MODELS[model]} | {TESTS[test][2]}, {unit} | " + " | ".join(cells) + f" | {ratio} | {share + ' %' if share else ''} |\n"
    open(f"{out}.md", "w").write(text)


def write_chart(out, rows):
    colours = {"farseek": "#1f6feb", "ik_llama.cpp": "#9a6700", "llama.cpp": "#8c959f"}
    engines = [e for e in ENGINES if any(r["engine"] == e for r in rows)]
    shown = [(m, t, f) for m, t, f in lines_of(rows) if TESTS[t][1] == "tok/s"]
    bar, gap, left, width, right = 12, 14, 220, 420, 90
    y, body, last = 64, [], None
    for model, test, found in shown:
        if model != last:
            body.append(f'<text x="16" y="{y + 12}" font-weight="600">{MODELS[model]}</text>')
            y += 24
            last = model
        most = max(float(r["median"]) for r in found.values())
        middle = y + (bar * len([e for e in engines if e in found])) / 2 + 4
        body.append(f'<text x="{left - 10}" y="{middle:.0f}" text-anchor="end">{TESTS[test][2]}</text>')
        for e in engines:
            if e not in found:
                continue
            v, lo, hi = (float(found[e][k]) for k in ("median", "min", "max"))
            w = max(1, v / most * width)
            body.append(f'<rect x="{left}" y="{y}" width="{w:.1f}" height="{bar - 2}" fill="{colours[e]}"><title>{e}: {number(v)} tokens/s '
                        f'({number(lo)} - {number(hi)})</title></rect>')
            body.append(f'<text x="{left + w + 5:.1f}" y="{y + bar - 3}" font-size="10">{number(v)}</text>')
            y += bar
        y += gap
    legend, x = [], 16
    versions = {r["engine"]: r["version"] for r in rows}
    for e in engines:
        label = f"{e} {versions[e]}"
        legend.append(f'<rect x="{x}" y="36" width="10" height="10" fill="{colours[e]}"/><text x="{x + 15}" y="45">{label}</text>')
        x += 30 + 7 * len(label)
    total = left + width + right
    first = rows[0]
    head = (f'<text x="16" y="24" font-size="15" font-weight="600">Tokens a second, more is better</text>'
            f'<text x="16" y="{y + 6}" font-size="10" fill="#57606a">{first["cpu"]}; medians of {first["runs"]}; each group is scaled to its fastest; {first["date"]}</text>')
    open(f"{out}.svg", "w").write(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {y + 20}" width="{total}" height="{y + 20}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1f2328" role="img" aria-label="Tokens a second of {", ".join(engines)}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{head}{"".join(legend)}\n' + "\n".join(body) + "\n</svg>\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--farseek", type=existing, default=ROOT / "build/farseek")
    p.add_argument("--limits", type=existing, default=ROOT / "build/bench/limits")
    p.add_argument("--models", type=lambda path: pathlib.Path(path).resolve())
    p.add_argument("--farseek-version", help="default: what git describes")
    for peer in ("llama", "ik"):
        p.add_argument(f"--{peer}", type=existing)
        p.add_argument(f"--{peer}-version", default="")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--only", type=lambda s: s.split(","))
    p.add_argument("--lock")
    p.add_argument("--realtime", action="store_true")
    p.add_argument("--out", default=ROOT / "bench/results/peers")
    p.add_argument("--report", metavar="OUT")
    args = p.parse_args()
    if args.report:
        rows, args.out = list(csv.DictReader(open(f"{args.report}.csv"))), args.report
    elif args.models:
        rows = measure(args)
    else:
        p.error("--models is missing")
    write_table(args.out, rows)
    write_chart(args.out, rows)
    print(open(f"{args.out}.md").read(), end="")


if __name__ == "__main__":
    main()
