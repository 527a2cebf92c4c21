#!/usr/bin/env python3
"""What the stock Python client gets from farseek hub serve: python3 bench/hub_clients.py build/farseek FOLDER [MIB] > bench/results/hub_clients.csv
FOLDER is on the disk to measure; huggingface_hub, hf-xet and nginx-light are needed. New random bytes each time, a process and a cache each, in turn with the plainest hub there can be
(hub_reference.py), which bounds what the client can reach on this machine. Every leg is also compared one to one with the reference's beside it.

Downloads are measured four times a run. Of plain ones the client makes one of two ways: it reads 64 KiB at a time and collects pieces of 10 MiB: while every read is full, pieces end where
reads end; once one was not, or had the answer's head before it, every piece is copied once more, into new pages. Which it is depends on when the client wakes up, and its page faults tell it:
the rows "pieces copied once more" have the downloads that went that way, and are missing where all went one way."""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import hub_server

RUNS, DOWNLOADS = 15, 4
farseek, folder, mib = sys.argv[1], pathlib.Path(sys.argv[2]).resolve() / "hub-clients", int(sys.argv[3]) if len(sys.argv) > 3 else 256

LEG = """
import resource, sys, time
import huggingface_hub as h
what, path, repo = sys.argv[1:]
begin = time.perf_counter()
if what == "up":
    h.upload_file(path_or_fileobj=path, path_in_repo="w.bin", repo_id=repo)
else:
    h.hf_hub_download(repo, "w.bin", local_dir=path)
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""

shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
(folder / "nginx").mkdir()
nginx = hub_server.nginx(folder / "nginx")
if not nginx:
    raise SystemExit("nginx is not installed: the reference's downloads come from it")
server, url, token = hub_server.start(farseek, folder / "data")
reference = subprocess.Popen([sys.executable, pathlib.Path(__file__).with_name("hub_reference.py"), folder / "nginx", url, token, hub_server.NGINX], stdout=subprocess.PIPE, text=True)
reference_url = reference.stdout.readline().strip()


def leg(url, what, path, repo, xet):
    home = folder / "home"
    env = os.environ | {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "0" if xet else "1"}
    os.sync()  # what was written before is not written during this
    out = subprocess.run([sys.executable, "-c", LEG, what, path, repo], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    shutil.rmtree(home, ignore_errors=True)
    seconds, faults = out.split()[-2:]
    return mib / float(seconds), int(faults)


try:
    rates, plain = {}, []
    for i in range(RUNS):
        for xet in (False, True):
            file, repo, got, how = folder / "file", f"admin/{'x' if xet else 'p'}{i}", folder / "got", "by Xet" if xet else "by HTTP"
            file.write_bytes(os.urandom(mib << 20))
            subprocess.run(["curl", "-sf", "-o", "/dev/null", "-H", "Authorization: Bearer " + token, "-H", "Content-Type: application/json", "-d", f'{{"name": "{repo.split("/")[1]}"}}',
                            url + "/api/repos/create"], check=True)
            shutil.copy(file, folder / "nginx" / "w.bin")
            hubs = ((url, ""), (reference_url, ", reference"))[:: 1 if i % 2 else -1]
            for at, where in hubs:
                rates.setdefault(f"the client's upload {how}{where}", []).append(leg(at, "up", file, repo, xet)[0])
            if xet:
                begin = time.perf_counter()
                subprocess.run(["curl", "-sf", "-o", "/dev/null", "-H", "Authorization: Bearer " + token, f"{url}/{repo}/resolve/main/w.bin"], check=True)
                rates.setdefault("GET by curl of what came by Xet", []).append(mib / (time.perf_counter() - begin))
            for n in range(1 + DOWNLOADS):  # the first for the pages and the reference's xorbs
                for at, where in hubs[:: 1 if n % 2 else -1]:
                    rate, faults = leg(at, "down", got, repo, xet)
                    assert (got / "w.bin").read_bytes() == file.read_bytes()
                    shutil.rmtree(got)
                    if n:
                        rates.setdefault(f"the client's download {how}{where}", []).append(rate)
                    if n and not xet:
                        plain.append((faults, where, rate))
    ratios = {what: [a / b for a, b in zip(rates[what], beside)] for what in rates if (beside := rates.get(what + ", reference"))}
    copied = min(plain)[0] + (mib << 20) // os.sysconf("SC_PAGE_SIZE") // 2  # half of what a copy of the file takes
    for faults, where, rate in plain:
        if faults > copied:
            rates.setdefault(f"the client's download by HTTP, pieces copied once more{where}", []).append(rate)
    print("what,unit,median,least,most,runs")
    for what, values in rates.items():
        print(f"{what},MiB/s,{statistics.median(values):.4g},{min(values):.4g},{max(values):.4g},{len(values)}")
    for what, values in ratios.items():
        print(f"{what} to the reference's,ratio,{statistics.median(values):.3f},{min(values):.3f},{max(values):.3f},{len(values)}")
finally:
    for process in reference, nginx, server:
        process.terminate()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
