"""The hub's pages: what they show, to whom, and that nothing of a stranger's runs in them. FARSEEK_CHROMIUM names a browser to look with, too."""
import html.parser
import os
import re
import shutil
import struct
import subprocess
import urllib.parse
import zlib

import pytest

from conftest import VECTORS
from test_hub import Hub

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
CARD = f"""---
license: mit
tags: [reasoning, "<b>bold</b>"]
---
# A card
**bold** [file](sub/config.json) [up](../../../../login) [out](https://example.org/?a=1&b=2) [x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](data:text/html,<script>)
![pic](sub/pic.png) ![track](https://evil.example/track.png) ![t2](//evil.example/t.png)

| a | b |
|---|---|
| 1 | 2 |

{HOSTILE}

<iframe src="https://evil.example"></iframe> <style>*{{display:none}}</style> <a href="javascript:alert(3)">x</a>
[ref]: javascript:alert(4)
"""


def png(w, h):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((255, 0, 0)) * w for _ in range(h))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Page(html.parser.HTMLParser):
    """Every element and attribute, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, attr):
        return [a.get(attr) for t, a in self.elements if t == tag]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    for name in ("bob", "carol"):
        setattr(h, name, h.run("user", "add", name).strip())
    model = {"README.md": CARD.encode(), "sub/config.json": b'{"a": "<script>alert(5)</script>"}', "sub/pic.png": png(60, 20), "notes.md": b"# Notes\n<script>alert(6)</script>",
             "sub/more.md": b"[config](config.json) ![pic](./pic.png)",
             "small.safetensors": (VECTORS / "qwen2" / "model.safetensors").read_bytes(), "broken.gguf": b"GGUF but not really", f"odd {HOSTILE.replace('/', '')}.txt": b"odd"}
    h.repo("admin/model")
    assert h.commit("admin/model", model, summary=HOSTILE).status == 200
    r = h.ask("POST", "/api/models/admin/model/discussions", {"title": HOSTILE, "description": "*so* " + HOSTILE, "pullRequest": False})
    assert r.status == 200
    h.repo("carol/secret", h.carol, private=True)
    yield h
    h.stop()


def page(hub, path, token=None, status=200):
    r = hub.ask("GET", path, token=token)
    assert r.status == status, (path, r.status, r.body[:300])
    assert r.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in r.headers["Content-Security-Policy"] and r.headers["X-Content-Type-Options"] == "nosniff"
    p = Page(r.body.decode())
    assert not {t for t, _ in p.elements} & {"script", "iframe", "object", "embed", "base"}, path
    assert [t for t, _ in p.elements].count("style") == 0
    for _, attrs in p.elements:
        assert not [a for a in attrs if a.startswith("on")], (path, attrs)
        for a in ("href", "src", "action"):
            assert not (attrs.get(a) or "").strip().lower().startswith(("javascript:", "data:text", "vbscript:")), (path, attrs)
    return p


PAGES = ["/", "/?search=mod", "/?filter=reasoning", "/?search=" + urllib.parse.quote(HOSTILE), "/datasets", "/spaces", "/admin",
         "/admin/model", "/admin/model/tree/main", "/admin/model/tree/main/sub", "/admin/model/blob/main/sub/config.json", "/admin/model/blob/main/notes.md",
         "/admin/model/blob/main/small.safetensors", "/admin/model/blob/main/broken.gguf", "/admin/model/commits/main", "/admin/model/discussions", "/admin/model/discussions/1"]


@pytest.mark.parametrize("path", PAGES)
def test_nothing_of_a_stranger_s_runs(hub, path):
    page(hub, path)


def test_every_link_of_ours_leads_somewhere(hub):
    seen, todo = set(), ["/"]
    while todo:
        path = todo.pop()
        if path in seen or not path.startswith("/") or path.startswith("//") or "/resolve/" in path or path in ("/static/style.css",):
            continue
        seen.add(path)
        status = 404 if "nothing" in path else None
        r = hub.ask("GET", path, token=None)
        assert r.status == (status or 200) or re.fullmatch("/admin/model/blob/(main|[0-9a-f]{40})/login", path), (path, r.status)  # which the card names
        if r.status == 200 and r.headers["Content-Type"].startswith("text/html"):  # a torrent is none
            todo += [h.split("#")[0] for h in Page(r.body.decode()).all("a", "href") if h and not h.startswith("?")]
    assert len(seen) > 15


def test_a_card(hub):
    p = page(hub, "/admin/model")
    links = p.all("a", "href")
    assert "/admin/model/blob/main/sub/config.json" in links and "https://example.org/?a=1&b=2" in links
    assert p.all("img", "src").count("/admin/model/resolve/main/sub/pic.png") == 1
    assert not [s for s in p.all("img", "src") if s and "evil" in s]
    assert "table" in [t for t, _ in p.elements] and "license:mit" in p.text and "<b>bold</b>" in p.text
    r = hub.ask("GET", "/admin/model/resolve/main/sub/pic.png", token=None)
    assert r.headers["Content-Type"] == "image/png" and "sandbox" in r.headers["Content-Security-Policy"]


def test_files(hub):
    assert "small.safetensors" in page(hub, "/admin/model/tree/main").text
    p = page(hub, "/admin/model/blob/main/small.safetensors")
    assert "model.embed_tokens.weight" in p.text and "BF16" in p.text and "×" in p.text
    assert "parameters" in p.text and "format" in p.text
    assert "cannot be read" in page(hub, "/admin/model/blob/main/broken.gguf").text
    assert '<script>alert(5)</script>' in page(hub, "/admin/model/blob/main/sub/config.json").text
    for path in ("/admin/model/tree/main/nothing", "/admin/model/blob/main/sub", "/admin/model/blob/main/../x", "/admin/model/tree/nothing", "/admin/nothing", "/nobody", "/nobody/x",
                 "/admin/model/discussions/99", "/admin/model/discussions/x"):
        assert hub.ask("GET", path, token=None).status == 404, path


def test_links_of_a_file_are_of_its_folder_and_revision(hub):
    commit = hub.ask("GET", "/api/models/admin/model", token=None).json()["sha"]
    for rev in ("main", commit):
        p = page(hub, f"/admin/model/blob/{rev}/sub/more.md")
        assert f"/admin/model/blob/{rev}/sub/config.json" in p.all("a", "href")
        assert p.all("img", "src") == [f"/admin/model/resolve/{rev}/sub/pic.png"]
        for path in p.all("a", "href") + p.all("img", "src"):
            if "/sub/" in path:
                assert hub.ask("GET", path, token=None).status == 200


def test_turning_pages_keeps_the_search(tmp_path):
    hub = Hub(tmp_path / "data")
    hub.repo("admin/other")
    for i in range(31):
        hub.repo(f"admin/many-{i}")
    first = page(hub, "/?search=many")
    (older,) = [a["href"] for t, a in first.elements if t == "a" and a.get("rel") == "next"]
    second = page(hub, "/" + older)
    assert "admin/many-0" in second.text and "admin/other" not in second.text
    (newer,) = [a["href"] for t, a in second.elements if t == "a" and a.get("rel") == "prev"]
    assert page(hub, "/" + newer).text == first.text
    hub.stop()


def test_filters_and_orders(tmp_path):
    hub = Hub(tmp_path / "data")
    for name, card in (("a", "license: mit\npipeline_tag: text-generation\nlibrary_name: farseek"), ("b", "license: mit\npipeline_tag: fill-mask"), ("c", f"license: '{HOSTILE}'\nlibrary_name: farseek"), ("d", "license: secret-license")):
        hub.repo("admin/model-" + name, private=name == "d")
        assert hub.commit("admin/model-" + name, {"README.md": f"---\n{card}\n---\n# {name}\n".encode()}).status == 200
        hub.ask("GET", "/api/models/admin/model-" + name)
    names = lambda query, token=None: re.findall("admin/model-([a-d])(?=<)", hub.ask("GET", "/" + query, token=token).body.decode())
    assert names("") == ["c", "b", "a"] and names("", hub.token) == ["d", "c", "b", "a"]
    assert names("?task=text-generation") == ["a"] and names("?library=farseek") == ["c", "a"] and names("?license=mit") == ["b", "a"]
    assert names("?license=mit&task=fill-mask&library=") == ["b"] and names("?license=mit&library=none") == []
    assert names("?license=" + urllib.parse.quote(HOSTILE)) == ["c"]
    assert names("?sort=created") == ["c", "b", "a"]
    hub.ask("POST", "/api/models/admin/model-a/like")
    assert names("?sort=likes")[0] == "a" and names("?sort=downloads;drop") == ["c", "b", "a"]
    p = page(hub, "/?license=mit&sort=likes")
    assert "mit (2)" in p.text and "text-generation (1)" in p.text and "secret-license" not in p.text and HOSTILE in p.text
    assert [a["value"] for t, a in p.elements if t == "option" and "selected" in a] == ["mit", "likes"]
    hub.stop()


def test_the_history_of_a_file(hub):
    hub.repo("admin/history")
    for i, files in enumerate(({"a/x.txt": b"1"}, {"b.txt": b"1"}, {"a/x.txt": b"2"}, {"b.txt": b"2"})):
        assert hub.commit("admin/history", files, summary=f"change {i}").status == 200
    text = page(hub, "/admin/history/commits/main/a/x.txt").text
    assert re.findall(r"change \d", text) == ["change 2", "change 0"]
    assert re.findall(r"change \d", page(hub, "/admin/history/commits/main").text) == ["change 3", "change 2", "change 1", "change 0"]
    assert re.findall(r"change \d", page(hub, "/admin/history/commits/main/a").text) == ["change 2", "change 0"]
    assert "/admin/history/commits/main/a/x.txt" in page(hub, "/admin/history/blob/main/a/x.txt").all("a", "href")
    page(hub, "/admin/history/commits/main/../x", status=404)


def test_pages_of_accounts(hub):
    hub.run("org", "add", "crew", "bob")
    hub.run("org", "member", "crew", "carol", "--role", "read")
    p = page(hub, "/crew")
    assert "organisation crew" in p.text and "bob (admin)" in p.text and "carol (read)" in p.text
    assert "crew (admin)" in page(hub, "/bob").text and "/crew" in page(hub, "/bob").all("a", "href")


def test_who_sees_what(hub):
    for token, status in ((None, 404), (hub.bob, 404), (hub.carol, 200)):
        for path in ("/carol/secret", "/carol/secret/tree/main", "/carol/secret/commits/main", "/carol/secret/discussions"):
            page(hub, path, token, status)
        assert ("carol/secret" in page(hub, "/carol", token).text.replace(" ", "")) == (status == 200)
        assert ("carol/secret" in page(hub, "/", token).text) == (status == 200)
    assert page(hub, "/login").all("input", "name").count("token") == 1
    r = hub.ask("GET", "/login", token=hub.bob)
    assert r.status == 303 and r.headers["Location"] == "/"
    assert "bob" in page(hub, "/", hub.bob).text


def test_a_browser_shows_it(hub, tmp_path):
    browser = os.environ.get("FARSEEK_CHROMIUM") or shutil.which("chromium")
    if not browser:
        pytest.skip("no chromium here; FARSEEK_CHROMIUM may name one")
    shot = tmp_path / "card.png"
    r = subprocess.run([browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=600,900", f"--user-data-dir={tmp_path}/profile", f"--screenshot={shot}", hub.url + "/admin/model"],
                       capture_output=True, text=True, timeout=600)
    assert shot.exists(), r.stderr[-500:]
    # the red picture of the card is there: pixels of the screenshot, decoded here
    data, at, raw = shot.read_bytes(), 8, b""
    w, h = struct.unpack(">II", data[16:24])
    depth = {2: 3, 6: 4}[data[25]]
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        raw += data[at + 8:at + 8 + n] if kind == b"IDAT" else b""
        at += n + 12
    raw = zlib.decompress(raw)
    previous, red = bytearray(w * depth), 0
    for y in range(h):
        line, kind = bytearray(raw[y * (w * depth + 1) + 1:(y + 1) * (w * depth + 1)]), raw[y * (w * depth + 1)]
        for i in range(len(line)):
            a, b, c = (line[i - depth] if i >= depth else 0), previous[i], (previous[i - depth] if i >= depth else 0)
            if kind == 1:
                line[i] = line[i] + a & 255
            elif kind == 2:
                line[i] = line[i] + b & 255
            elif kind == 3:
                line[i] = line[i] + (a + b) // 2 & 255
            elif kind == 4:
                q = a + b - c
                pa, pb, pc = abs(q - a), abs(q - b), abs(q - c)
                line[i] = line[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c) & 255
        previous = line
        red += sum(line[x:x + 3] == b"\xff\0\0" for x in range(0, len(line), depth))
    assert red == 60 * 20
