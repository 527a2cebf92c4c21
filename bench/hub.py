#!/usr/bin/env python3
"""farseek hub serve against what the machine can, in one run: python3 bench/hub.py build/farseek FOLDER [MIB] > bench/results/hub.csv
FOLDER is on the disk to measure; curl is needed, nginx-light if downloads are to be compared."""
import base64
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import hub_server

RUNS = 5
farseek, folder, mib = sys.argv[1], pathlib.Path(sys.argv[2]).resolve() / "hub-bench", int(sys.argv[3]) if len(sys.argv) > 3 else 1024


def row(what, unit, values):
    print(f"{what},{unit},{statistics.median(values):.4g},{min(values):.4g},{max(values):.4g},{len(values)}", flush=True)


def curl(*args):
    return subprocess.run(["curl", "-s", "-o", "/dev/null", *args], check=True, capture_output=True, text=True).stdout


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def shell(command):
    return lambda: subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
file = folder / "file"
with open(file, "wb") as f:
    for _ in range(mib):
        f.write(os.urandom(1 << 20))
oid = hashlib.file_digest(open(file, "rb"), "sha256").hexdigest()
server, url, token = hub_server.start(farseek, folder / "data")
port = int(url.rsplit(":", 1)[1])


def ask(method, path, body=None, kind="application/json"):
    c = http.client.HTTPConnection("127.0.0.1", port)
    c.request(method, path, json.dumps(body) if isinstance(body, dict) else body, {"Authorization": "Bearer " + token, "Content-Type": kind})
    r = c.getresponse()
    data = r.read()
    assert r.status == 200, data
    return json.loads(data)


def fetch(path):
    r = urllib.request.urlopen(urllib.request.Request(url + path, headers={"Authorization": "Bearer " + token}))
    r.read()
    return r


def pages(path):
    """The seconds that every page of a list took, each as its Link leads to the next."""
    took = []
    while path:
        begin = time.perf_counter()
        r = fetch(path)
        took.append(time.perf_counter() - begin)
        link = r.headers["Link"]
        path = link and link.split(url)[1].split(">")[0]
    return took


def commit(repo, lines):
    ask("POST", f"/api/models/admin/{repo}/commit/main", "\n".join(map(json.dumps, [{"key": "header", "value": {"summary": "x"}}, *lines])), "application/x-ndjson")


def rss():
    return int(open(f"/proc/{server.pid}/status").read().split("VmRSS:")[1].split()[0]) / 1024


def cpu():
    """Seconds of CPUs that the server has used."""
    used = open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


nginx = hub_server.nginx(folder)
try:
    print("what,unit,median,least,most,runs")
    put, cat, sha, get, peer = [], [], [], [], []
    for i in range(RUNS):
        ask("POST", "/api/repos/create", {"name": f"r{i}", "private": True})
        up = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": file.stat().st_size}]}
        if i:  # the same content again: as new
            (folder / "data" / "objects" / oid[:2] / oid[2:4] / oid).unlink()
        href = ask("POST", f"/admin/r{i}.git/info/lfs/objects/batch", up)["objects"][0]["actions"]["upload"]["href"]
        put.append(mib / seconds(lambda: curl("-T", file, href)))
        cat.append(mib / seconds(shell(f"cat {file} > {folder}/copy; sync {folder}/copy")))
        (folder / "copy").unlink()
        sha.append(mib / seconds(shell(f"openssl dgst -sha256 {file}")))
        commit(f"r{i}", [{"key": "lfsFile", "value": {"path": "w.bin", "oid": oid, "size": file.stat().st_size}}])
        get.append(float(curl("-w", "%{speed_download}", "-H", "Authorization: Bearer " + token, f"{url}/admin/r{i}/resolve/main/w.bin")) / 2**20)
        if nginx:
            peer.append(float(curl("-w", "%{speed_download}", hub_server.NGINX + "/file")) / 2**20)
    row("PUT by curl", "MiB/s", put)
    row("cat and sync", "MiB/s", cat)
    row("openssl dgst -sha256", "MiB/s", sha)
    row("GET by curl", "MiB/s", get)
    if peer:
        row("GET by curl from nginx", "MiB/s", peer)
    get, peer = [], []
    for i in range(9 if nginx else 0):  # the same object, which was read before, by both
        get.append(float(curl("-w", "%{speed_download}", "-H", "Authorization: Bearer " + token, f"{url}/admin/r{RUNS - 1}/resolve/main/w.bin")) / 2**20)
        peer.append(float(curl("-w", "%{speed_download}", f"{hub_server.NGINX}/data/objects/{oid[:2]}/{oid[2:4]}/{oid}")) / 2**20)
    if nginx:
        row("GET by curl, read before", "MiB/s", get)
        row("GET by curl from nginx, the same object", "MiB/s", peer)
    row("memory after that", "MiB", [rss()])
    ask("POST", "/api/repos/create", {"name": "small"})
    for n in (2500, 5000, 7500, 10000):
        lines = [{"key": "file", "value": {"path": f"d{i % 50}/f{n}-{i}", "content": base64.b64encode(b"%d" % i).decode(), "encoding": "base64"}} for i in range(2500)]
        row(f"commit of 2500 files to {n - 2500}", "s", [seconds(lambda: commit("small", lines))])
        row(f"tree of {n} files", "ms", [1e3 * seconds(lambda: ask("GET", "/api/models/admin/small/tree/main?recursive=true")) for _ in range(RUNS)])
    for n in (10000, 50000, 100000):
        ask("POST", "/api/repos/create", {"name": f"n{n}"})
        lines = [{"key": "file", "value": {"path": f"d{i % 100}/f{i}", "content": base64.b64encode(b"%d" % i).decode(), "encoding": "base64"}} for i in range(n)]
        before = cpu()
        took = seconds(lambda: commit(f"n{n}", lines))
        row(f"one commit of {n} files", "s", [took])
        row("the server's CPUs for it", "s", [cpu() - before])
        before = cpu()
        row("its tree, all pages", "s", [sum(pages(f"/api/models/admin/n{n}/tree/main?recursive=true"))])
        row("the server's CPUs for it", "s", [cpu() - before])
    for i in range(10000):
        ask("POST", "/api/repos/create", {"name": f"m{i:05}"})
        card = f"""---
license: {"mit" if i % 2 else "apache-2.0"}
library_name: {["transformers", "gguf", "peft"][i % 3]}
pipeline_tag: {["text-generation", "fill-mask", "feature-extraction", "translation"][i % 4]}
tags: [t{i % 50}, all]
---
# Model {i}
What it does, in a sentence."""
        commit(f"m{i:05}", [{"key": "file", "value": {"path": "README.md", "content": base64.b64encode(card.encode()).decode(), "encoding": "base64"}}])
    listed = [1e3 * t for t in pages("/api/models?limit=100")]
    assert len(listed) >= 100
    row("a page of 100 of 10000 repositories", "ms", listed)
    row("likewise in HTML", "ms", [1e3 * seconds(lambda: fetch(f"/?p={p}{sort}")) for sort in ("", "&sort=likes", "&search=m05", "&filter=t7", "&license=mit&task=fill-mask")
                                    for p in (0, 1, 50, 300)])
    clients = []
    for _ in range(2000):
        c = socket.create_connection(("127.0.0.1", port))
        c.send(b"GET /api/models?limit=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        c.recv(4096)
        clients.append(c)
    row("memory with 2000 idle clients", "MiB", [rss()])
    row("a request beside them", "ms", [1e3 * seconds(lambda: ask("GET", "/api/models?limit=1")) for _ in range(RUNS)])
finally:
    server.terminate()
    server.wait()
    if nginx:
        nginx.terminate()
        nginx.wait()
    shutil.rmtree(folder, ignore_errors=True)
