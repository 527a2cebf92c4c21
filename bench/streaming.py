#!/usr/bin/env python3
"""Farseek beside llama.cpp on a model that is larger than the memory both may use: docs/streaming.md.

  streaming.py --farseek build/farseek --model LARGE.gguf [--llama FOLDER] [--memory GIB] [--runs 5] [-p 512] [-n 32]
               [--case NAME] [--prefix COMMAND] --out bench/results/streaming.csv

Each run is a fresh process in a memory cgroup of --memory GiB (made under /sys/fs/cgroup, so it needs root), the engines in turn,
with the file's pages dropped from the page cache before. FOLDER holds llama-bench, whose weights are left in the map, its
way for such a model. bench/large_moe.py makes the model. Lines are added to the CSV; medians go to stdout. --prefix stands before every
command, as for a lock."""
import argparse
import csv
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIELDS = ["date", "commit", "machine", "case", "engine", "memory_gib", "prompt_tokens", "tokens", "pp_tok_s", "tg_tok_s", "peak_mib",
          "disk_gb_s", "slots", "experts", "pp_read_gb", "pp_needed_gb", "tg_hit_rate", "tg_needed_mb_token", "tg_read_mb_token", "guesses_right", "tg_disk_share"]


class Group:
    """A memory cgroup, of version 2 or 1."""

    def __init__(self, n_bytes):
        self.v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        self.path = pathlib.Path("/sys/fs/cgroup" if self.v2 else "/sys/fs/cgroup/memory") / "farseek_streaming"
        self.path.mkdir(exist_ok=True)
        (self.path / ("memory.max" if self.v2 else "memory.limit_in_bytes")).write_text(str(n_bytes))

    def run(self, command):
        enter = f"echo $$ > {self.path}/cgroup.procs && exec " + " ".join(map(shlex.quote, map(str, command)))
        return subprocess.run(["sh", "-c", enter], capture_output=True, text=True)

    def close(self):
        self.path.rmdir()


def drop_pages(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def farseek(a, group):
    r = group.run([*a.prefix, a.farseek, "bench", a.model, "-p", a.p, "-n", a.n, "-r", 1, "--memory", f"{a.memory}GiB", "--json"])
    if r.returncode:
        raise SystemExit(f"farseek: {r.stderr}")
    x = json.loads(r.stdout)
    return {"pp_tok_s": x["pp_tok_s"], "tg_tok_s": x["tg_tok_s"], "peak_mib": x["rss_mib"], "disk_gb_s": round(x["limit_disk_bytes_s"] / 1e9, 3),
            "slots": x["expert_slots"], "experts": x["experts"], "pp_read_gb": round(x["pp_read_bytes"] / 1e9, 3),
            "pp_needed_gb": round(x["pp_needed_bytes"] / 1e9, 3), "tg_hit_rate": x["tg_hit_rate"],
            "tg_needed_mb_token": round(x["tg_needed_bytes"] / a.n / 1e6, 1), "tg_read_mb_token": round(x["tg_read_bytes"] / a.n / 1e6, 1),
            "guesses_right": round(x["tg_guessed_right"] / max(1, x["tg_guessed"]), 3), "tg_disk_share": x["tg_disk_share"]}


def llama(a, group):
    r = group.run([*a.prefix, pathlib.Path(a.llama) / "llama-bench", "-m", a.model, "-p", a.p, "-n", a.n, "-r", 1, "-t", os.cpu_count(), "-fa", "on",
                   "-lm", "mmap", "--repack", 0, "--no-warmup", "-o", "json"])
    if r.returncode:
        raise SystemExit(f"llama-bench: {r.stderr[-2000:]}")
    rows = json.loads(r.stdout)
    return {"pp_tok_s": next(x["avg_ts"] for x in rows if x["n_prompt"]), "tg_tok_s": next(x["avg_ts"] for x in rows if x["n_gen"])}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--farseek", default=ROOT / "build" / "farseek")
    p.add_argument("--llama")
    p.add_argument("--model", required=True)
    p.add_argument("--memory", type=float, default=4)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("-p", type=int, default=512)
    p.add_argument("-n", type=int, default=32)
    p.add_argument("--case", default="uniform")
    p.add_argument("--prefix", type=shlex.split, default=[])
    p.add_argument("--out", type=pathlib.Path, required=True)
    a = p.parse_args()
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    engines = {"farseek": farseek, **({"llama.cpp": llama} if a.llama else {})}
    rows = []
    group = Group(int(a.memory * 2**30))
    new = not a.out.exists()
    with open(a.out, "a", newline="") as f:
        w = csv.DictWriter(f, FIELDS)
        if new:
            w.writeheader()
        for _ in range(a.runs):
            for name, run in engines.items():
                drop_pages(a.model)
                row = {"date": datetime.date.today().isoformat(), "commit": commit, "machine": f"{cpu}, {os.cpu_count()} CPUs", "case": a.case,
                       "engine": name, "memory_gib": a.memory, "prompt_tokens": a.p, "tokens": a.n, **run(a, group)}
                w.writerow(row)
                f.flush()
                rows.append(row)
                print(", ".join(f"{k} {row[k]}" for k in FIELDS[4:] if k in row), flush=True)
    group.close()
    for name in engines:
        mine = [r for r in rows if r["engine"] == name]
        print(name, ", ".join(f"{k} {statistics.median(r[k] for r in mine):.2f} ({min(r[k] for r in mine):.2f}-{max(r[k] for r in mine):.2f})"
                              for k in FIELDS if k in mine[0] and isinstance(mine[0][k], float)))


if __name__ == "__main__":
    main()
