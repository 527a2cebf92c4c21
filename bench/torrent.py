#!/usr/bin/env python3
"""How fast a large file is hashed for a torrent, against the machine's SHA-1 and SHA-256 on one thread (openssl speed, 16 KiB), in turns.

    bench/torrent.py [--mib 1024] [--runs 5] >bench/results/torrent.csv

`farseek hub torrent` over a hub with one file of random bytes, whose kept hashes are taken away before each run; seconds are the program's whole."""
import argparse
import os
import pathlib
import re
import resource
import sqlite3
import statistics
import subprocess
import tempfile
import time

import hub_server

ROOT = pathlib.Path(__file__).resolve().parents[1]
FARSEEK = os.environ.get("FARSEEK", str(ROOT / "build" / "farseek"))


def openssl(name):
    out = subprocess.run(["openssl", "speed", "-seconds", "1", "-bytes", "16384", "-mr", "-evp", name], check=True, capture_output=True, text=True).stdout
    return float(re.search(r"^\+F:.*:([0-9.]+)$", out, re.M)[1]) / 2**20


def make_hub(data, mib):
    """A hub with one repository, whose large file comes by push."""
    server, url, token = hub_server.start(FARSEEK, data)
    with tempfile.TemporaryDirectory(dir=pathlib.Path(data).parent) as folder:
        with open(pathlib.Path(folder, "w.bin"), "wb") as f:
            for _ in range(mib):
                f.write(os.urandom(1 << 20))
        subprocess.run([FARSEEK, "push", folder, "admin/w"], check=True, capture_output=True, env={**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": token})
    server.terminate()
    server.wait()


def torrent(data):
    db = sqlite3.connect(pathlib.Path(data, "hub.db"))
    db.execute("DELETE FROM torrents")
    db.execute("DELETE FROM torrent_pieces")
    db.commit()
    db.close()
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([FARSEEK, "hub", "torrent", "admin/w", "--data", data, "--url", "http://127.0.0.1", "--to", str(pathlib.Path(data).parent / "t")], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - begin, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


p = argparse.ArgumentParser()
p.add_argument("--mib", type=int, default=1024)
p.add_argument("--runs", type=int, default=5)
a = p.parse_args()
rows = []
with tempfile.TemporaryDirectory() as folder:
    data = str(pathlib.Path(folder, "data"))
    make_hub(data, a.mib)
    for _ in range(a.runs):
        sha1, sha256 = openssl("sha1"), openssl("sha256")
        wall, user, system = torrent(data)
        rows.append((a.mib / wall, 1 / (1 / sha1 + 1 / sha256), sha1, sha256, user, system))
print("what,unit,median,least,most,runs")
for i, (name, unit) in enumerate((("torrent of one large file", "MiB/s"), ("SHA-1 and SHA-256 one after the other", "MiB/s"), ("SHA-1", "MiB/s"), ("SHA-256", "MiB/s"), ("user", "s"), ("system", "s"))):
    x = [r[i] for r in rows]
    print(f"{name},{unit},{statistics.median(x):.4g},{min(x):.4g},{max(x):.4g},{len(x)}")
