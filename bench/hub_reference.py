#!/usr/bin/env python3
"""The plainest hub that the stock Python client can be measured against: python3 bench/hub_reference.py FOLDER HUB TOKEN NGINX prints its address.
It stores what it is sent and keeps it, computes the SHA-256 of an LFS object as it comes and of xorbs when their shard comes, as every hub must, and that is all: no xorb's own hash, no terms.
Downloads it sends to NGINX, which serves FOLDER: FOLDER/w.bin by plain HTTP, pieces of xorbs by Xet.
It asks HUB, where the repository whose name it is asked for has the same file, for the file's Xet hash and reconstruction, and fetches a piece of a xorb from there once."""
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import sys
import time
import urllib.parse

folder, hub, token, nginx = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
COMMIT = "1" * 40


def ask(path, **headers):
    c = http.client.HTTPConnection(urllib.parse.urlsplit(hub).netloc)
    c.request("HEAD" if "/resolve/" in path else "GET", path, headers=headers)
    r = c.getresponse()
    return r, r.read()


def access(repo):
    return json.loads(ask(f"/api/models{repo}/xet-read-token/main", Authorization="Bearer " + token)[1])["accessToken"]


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, body, status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for k, v in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self):
        """Every piece of the request's body."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while n := int(self.rfile.readline(), 16):
                yield self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            left -= len(piece)
            yield piece

    def store(self, digest):
        """The body into a file, and into digest; the file's path when it is on the disk."""
        path = folder / f"up-{time.monotonic_ns()}"
        with open(path, "wb") as f:
            for piece in self.body():
                if digest:
                    digest.update(piece)
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        return path

    def here(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def do_PUT(self):
        digest = hashlib.sha256()
        self.store(digest)
        self.reply({}, 200 if digest.hexdigest() == self.path.rsplit("/", 1)[1] else 422)

    def do_POST(self):
        if self.path.startswith("/v1/xorbs/"):
            xorbs.append(self.store(None))
            return self.reply({"was_inserted": True})
        data = b"".join(self.body())
        if self.path.startswith(("/v1/shards", "/v2/shards")):
            while xorbs:
                with open(xorbs[0], "rb") as f:
                    hashlib.file_digest(f, "sha256")
                xorbs.pop(0)
            return self.reply(b'{"type":"result"}\n', Content_Type="application/x-ndjson") if "/v2/" in self.path else self.reply({"result": 1})
        if "/preupload/" in self.path:
            return self.reply({"files": [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False, "oid": None} for f in json.loads(data)["files"]]})
        if self.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(data)
            if "xet" in asked["transfers"]:
                return self.reply({"transfer": "xet", "objects": [o | {"actions": {"upload": {"href": self.here()}}} for o in asked["objects"]]})
            return self.reply({"transfer": "basic", "objects": [o | {"actions": {"upload": {"href": f"{self.here()}/lfs/{o['oid']}"}}} for o in asked["objects"]]})
        if "/commit/" in self.path:
            repo = re.match("/api/models(.*)/commit/", self.path)[1]
            return self.reply({"success": True, "commitOid": COMMIT, "commitUrl": f"{self.here()}{repo}/commit/{COMMIT}", "hookOutput": ""})
        return self.reply({"error": "not here"}, 404)

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if found := re.fullmatch("/api/models(.*)/xet-(?:read|write)-token/.*", path):
            names = {"accessToken": "X-Xet-Access-Token", "exp": "X-Xet-Token-Expiration", "casUrl": "X-Xet-Cas-Url"}
            given = {"accessToken": found[1], "exp": int(time.time()) + 3600, "casUrl": self.here()}
            return self.reply(given, **{names[k]: str(v) for k, v in given.items()})
        if "/resolve/" in path:
            known, _ = ask(path, Authorization="Bearer " + token)
            keep = {k: v for k, v in known.getheaders() if k in ("ETag", "X-Linked-ETag", "X-Linked-Size", "X-Xet-Hash", "Accept-Ranges")}
            repo = path.split("/resolve/")[0]
            return self.reply(b"", 302, **keep, X_Repo_Commit=COMMIT, Location=f"{nginx}/w.bin", Link=f'<{self.here()}/api/models{repo}/xet-read-token/{COMMIT}>; rel="xet-auth"')
        if "/v2/reconstructions/" in path:
            wanted = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
            r, data = ask(path, Authorization="Bearer " + access(self.headers["Authorization"].removeprefix("Bearer ")), **wanted)
            if r.status == 200:
                data = json.loads(data)
                for name, pieces in data["xorbs"].items():
                    for p in pieces:
                        p["url"] = self.piece(name, p)
            return self.reply(data, r.status)
        return self.reply({"error": "not here"}, 404)

    do_HEAD = do_GET

    def piece(self, name, p):
        """nginx's address of the xorb, in whose file these ranges are from now on."""
        for r in (r["bytes"] for r in p["ranges"]):
            if (name, r["start"], r["end"]) not in held:
                data = ask(p["url"].removeprefix(hub), Range=f"bytes={r['start']}-{r['end']}")[1]
                with open(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644), "wb") as f:
                    f.seek(r["start"])
                    f.write(data)
                held.add((name, r["start"], r["end"]))
        return f"{nginx}/{name}"


held, xorbs = set(), []
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
