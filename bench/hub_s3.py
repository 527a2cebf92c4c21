#!/usr/bin/env python3
"""What farseek hub serve makes of an S3 store, beside a hub with files and the store by itself, in turns: python3 bench/hub_s3.py build/farseek FOLDER [MIB] > bench/results/hub_s3.csv
FOLDER is on the disk to measure; curl, boto3 and a store are needed: moto's server, or S3_ENDPOINT, S3_BUCKET and AWS's variables for keys. New random bytes each time. Uploads by the hub and by
boto3 go in parts of 8 MiB, the hub's four at a time, boto3's ten; downloads are one request, but boto3's, which asks for parts too. The hub's cache is emptied before a download."""
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time

import boto3
from botocore.config import Config

import hub_server

RUNS = 5
farseek, folder, mib = sys.argv[1], pathlib.Path(sys.argv[2]).resolve() / "hub-s3", int(sys.argv[3]) if len(sys.argv) > 3 else 256


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def curl(*args):
    subprocess.run(["curl", "-sf", "-o", "/dev/null", *args], check=True)


class Hub:
    def __init__(self, name, *options):
        self.data = folder / name
        self.server, self.url, self.token = hub_server.start(farseek, self.data, *options)

    def ask(self, method, path, body, kind="application/json"):
        c = http.client.HTTPConnection(self.url.split("//")[1])
        c.request(method, path, body if isinstance(body, str) else json.dumps(body), {"Authorization": "Bearer " + self.token, "Content-Type": kind})
        r = c.getresponse()
        data = r.read()
        assert r.status == 200, data
        return json.loads(data) if data else None

    def put(self, repo, oid):
        self.ask("POST", "/api/repos/create", {"name": repo})
        want = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": file.stat().st_size}]}
        href = self.ask("POST", f"/admin/{repo}.git/info/lfs/objects/batch", want)["objects"][0]["actions"]["upload"]["href"]
        took = seconds(lambda: curl("-T", file, href))
        lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": "w.bin", "oid": oid, "size": file.stat().st_size}}]
        self.ask("POST", f"/api/models/admin/{repo}/commit/main", "\n".join(map(json.dumps, lines)), "application/x-ndjson")
        return took

    def get(self, repo):
        for cached in (self.data / "cache").glob("*"):
            cached.unlink()
        return seconds(lambda: curl("-H", "Authorization: Bearer " + self.token, f"{self.url}/admin/{repo}/resolve/main/w.bin"))

    def forget(self, repo):
        self.ask("DELETE", "/api/repos/delete", {"name": repo})
        subprocess.run([farseek, "hub", "gc", "--age", "0", "--data", self.data], check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        self.server.terminate()
        self.server.wait()


def start_store():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.1)
    raise SystemExit("moto's server did not start")


shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
file, got = folder / "file", folder / "got"
endpoint, bucket, store, hubs = os.environ.get("S3_ENDPOINT"), os.environ.get("S3_BUCKET", "hub"), None, []
kind = os.environ.get("S3_STORE", "a store") if endpoint else "moto"
try:
    if not endpoint:
        store, endpoint = start_store()
        os.environ.update({"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"})
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(proxies={}, signature_version="s3v4", s3={"addressing_style": "path"}))
    if store:
        s3.create_bucket(Bucket=bucket)
    in_s3 = Hub("s3", "--blobs", f"s3://{bucket}/bench-{os.getpid()}", "--s3-endpoint", endpoint)
    hubs.append(in_s3)
    in_files = Hub("files")
    hubs.append(in_files)
    rates = {}

    def note(what, took):
        rates.setdefault(what, []).append(mib / took)

    for i in range(RUNS):
        with open(file, "wb") as f:
            for _ in range(mib):
                f.write(os.urandom(1 << 20))
        with open(file, "rb") as f:
            oid = hashlib.file_digest(f, "sha256").hexdigest()
        os.sync()
        note("PUT by curl through the hub to the store", in_s3.put(f"r{i}", oid))
        note("PUT by boto3 to the store itself", seconds(lambda: s3.upload_file(str(file), bucket, f"direct/{i}")))
        note("PUT by curl to a hub with files", in_files.put(f"r{i}", oid))
        note("GET by curl through the hub from the store", in_s3.get(f"r{i}"))
        link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": f"direct/{i}"})
        note("GET by curl from the store itself", seconds(lambda: curl(link)))
        note("GET by boto3 from the store itself", seconds(lambda: s3.download_file(bucket, f"direct/{i}", str(got))))
        note("GET by curl from a hub with files", in_files.get(f"r{i}"))
        s3.delete_object(Bucket=bucket, Key=f"direct/{i}")
        for h in (in_s3, in_files):
            h.forget(f"r{i}")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    print("date,commit,machine,store,mib,what,unit,median,least,most,runs")
    for what, values in rates.items():
        print(f'{datetime.date.today()},{commit},"{model}, {os.cpu_count()} CPUs",{kind},{mib},{what},MiB/s,{statistics.median(values):.4g},{min(values):.4g},{max(values):.4g},{len(values)}', flush=True)
finally:
    for h in hubs:
        h.stop()
    if store:
        store.terminate()
        store.wait()
    shutil.rmtree(folder, ignore_errors=True)
