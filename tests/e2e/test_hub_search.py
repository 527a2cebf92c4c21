"""One search over several hubs: who does not answer, late, without end or with lies costs its own rows alone."""
import concurrent.futures
import http.server
import json
import socket
import threading
import time

import pytest
from huggingface_hub.hf_api import ModelInfo

from conftest import until
from test_hub import Hub
from test_hub_mirror import copy


class Liar:
    """An address that answers as a test says: say is bytes, or a function of the handler."""

    def __init__(self, say):
        self.asked = []
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                liar.asked.append((self.path, dict(self.headers)))
                if callable(say):
                    return say(self)
                self.send_response(200)
                self.send_header("Content-Length", str(len(say)))
                self.end_headers()
                self.wfile.write(say)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def endless(h):
    h.send_response(200)
    h.end_headers()
    try:
        h.wfile.write(b"[")
        while True:
            h.wfile.write(b'{"id":"a/b"},' * 1000)
    except OSError:
        pass


def stalls(h):
    h.send_response(200)
    h.end_headers()
    h.wfile.write(b"[")
    h.wfile.flush()
    time.sleep(60)


def sends_on(h):
    h.send_response(302)
    h.send_header("Location", "http://127.0.0.1:1/api/models")
    h.end_headers()


ROW = {"id": "liar/model", "sha": "a" * 40, "private": False, "downloads": 1, "likes": 2, "tags": ["t"], "lastModified": "2026-01-31T09:30:00.000Z"}


@pytest.fixture(scope="module")
def hubs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    made = {}
    for name in ("here", "near", "dead"):
        made[name] = Hub(folder / name, *(["--peers-private"] if name == "here" else []))
    for h, name in ((made["here"], "own-tiny"), (made["near"], "their-tiny")):
        h.repo(f"admin/{name}")
        h.run("user", "add", "someone")
    made["near"].repo("admin/hidden-tiny", private=True)
    made["near"].repo("admin/set-tiny", type="dataset")
    made["dead"].stop()
    yield made
    made["here"].stop()
    made["near"].stop()


@pytest.fixture
def peers(hubs):
    """Makes those, and no others, the peers of here; a server of a Liar's is closed afterwards."""
    here, added, closed = hubs["here"], [], []

    def add(*urls):
        for x in urls:
            if isinstance(x, Liar):
                closed.append(x)
            added.append(x if isinstance(x, str) else x.url)
            here.run("peer", "add", added[-1])

    yield add
    for url in added:
        here.run("peer", "rm", url)
    for x in closed:
        x.close()


def search(hub, what="tiny", type="models", query="", token=True, sure=()):
    """sure: hubs that answer, on a busy machine perhaps not within the second that they have; then they are asked again."""
    for _ in range(20):
        begin = time.monotonic()
        r = hub.ask("GET", f"/api/{type}?search={what}&federated=1{query}", token=token)
        r.seconds = time.monotonic() - begin
        assert r.status == 200, r.body
        if not {f"{x.url} (it did not answer in time)" for x in sure} & set(said(r, "Unanswered")):
            break
    return r


def elsewhere(hub, what, *sure):
    """The same as a page."""
    for _ in range(20):
        page = hub.ask("GET", f"/?search={what}&federated=1").body.decode()
        if not any(f"{x.url}: it did not answer in time" in page for x in sure):
            break
    return page


def said(r, name):
    return r.headers.get_all("X-Farseek-" + name) or []


def test_peers_are_asked_side_by_side(hubs, peers):
    here, near = hubs["here"], hubs["near"]
    slow, late = [Liar(stalls) for _ in range(5)], [Liar(lambda h: time.sleep(60)) for _ in range(5)]
    peers(hubs["dead"].url, *slow, near.url, *late)
    r = search(here, sure=[near])
    rows = {x["id"]: x["origins"] for x in r.json()}
    assert rows == {"admin/own-tiny": [here.url], "admin/their-tiny": [near.url]}
    assert said(r, "Answered") == [near.url]
    assert sorted(said(r, "Unanswered")) == sorted([f"{hubs['dead'].url} (it cannot be reached)", *(f"{x.url} (it did not answer in time)" for x in slow + late)])
    assert r.seconds < 9, "the slow ones are not waited for one after the other, a second each"
    assert [x["id"] for x in search(here, type="datasets", sure=[near]).json()] == ["admin/set-tiny"]
    assert search(here, "nothing-of-that-name").json() == []


def test_the_stock_client_reads_the_rows(hubs, peers):
    peers(hubs["near"].url)
    models = [ModelInfo(**x) for x in search(hubs["here"], sure=[hubs["near"]]).json()]
    assert {m.id for m in models} == {"admin/own-tiny", "admin/their-tiny"} and all(m.last_modified.year > 2000 for m in models)


def test_what_two_hubs_have_alike_stands_once(hubs, peers):
    here, near = hubs["here"], hubs["near"]
    near.repo("admin/copied-twin")
    copy(here, near, "admin/copied-twin")
    peers(near.url)
    [row] = search(here, "twin", sure=[near]).json()  # what is listed of a copy is what was copied
    assert row["origins"] == [here.url, near.url]
    assert near.commit("admin/copied-twin", {"a": b"a"}).status == 200
    rows = search(here, "twin", sure=[near]).json()  # another commit is another row
    assert [x["origins"] for x in rows] == [[here.url], [near.url]] and rows[0]["sha"] != rows[1]["sha"]
    page = elsewhere(here, "twin", near)
    assert page.count(f'href="{near.url}/admin/copied-twin"') == 1
    copy(here, near, "admin/copied-twin")
    assert near.url not in elsewhere(here, "twin", near).split("Elsewhere")[1]


def test_no_token_and_no_second_hop(hubs, peers):
    spy = Liar(json.dumps([ROW]).encode())
    peers(spy)
    search(hubs["here"], "tiny", query="&filter=a%26b&author=admin&sort=likes&limit=7&full=true&federated=1&token=x")
    [(path, headers)] = spy.asked
    assert path == "/api/models?limit=7&search=tiny&author=admin&sort=likes&filter=a%26b"
    assert not {"authorization", "cookie", "x-forwarded-for"} & {k.lower() for k in headers}
    assert hubs["here"].token not in str(headers)


def test_rubbish_is_dropped(hubs, peers):
    bad = [{"id": "no-owner"}, {"id": "a/<script>"}, {"id": "a/../b"}, {"id": 7}, "text", None, [], {"id": "a/b", "sha": "xyz"}, {"id": "a/b", "private": True}, {"id": "a/b", "downloads": -1},
           {"id": "a/b", "downloads": 1 << 60}, {"id": "a/b", "private": "no"}]
    odd = {"id": "odd/one", "sha": None, "lastModified": "2026-02-31T00:00:00Z", "createdAt": "x", "tags": ["fine", 3, "x" * 300], "pipeline_tag": "a\nb", "gated": "perhaps", "cardData": {"x": 1}}
    liar = Liar(json.dumps([*bad, ROW, odd]).encode())
    peers(liar)
    rows = [x for x in search(hubs["here"], sure=[liar]).json() if liar.url in x["origins"]]
    assert [x["id"] for x in rows] == ["liar/model", "odd/one"]
    assert rows[0] == {"id": "liar/model", "modelId": "liar/model", "author": "liar", "sha": "a" * 40, "lastModified": ROW["lastModified"], "private": False, "gated": False, "downloads": 1,
                       "likes": 2, "tags": ["t"], "origins": [liar.url]}
    assert rows[1] == {"id": "odd/one", "modelId": "odd/one", "author": "odd", "private": False, "gated": False, "downloads": 0, "likes": 0, "tags": ["fine"], "origins": [liar.url]}


@pytest.mark.parametrize("say", [b"rubbish", b"{}", b"[" * 100000, b'[{"id":"a/b"}' * 10, endless, sends_on, lambda h: h.send_error(500), lambda h: h.wfile.write(b"\0\1\2")],
                         ids=["text", "object", "deep", "broken", "endless", "redirect", "500", "no-http"])
def test_one_that_lies_costs_its_own_rows(hubs, peers, say):
    liar, near = Liar(say), hubs["near"]
    peers(liar, near.url)
    r = search(hubs["here"], sure=[near])
    assert {x["id"] for x in r.json()} == {"admin/own-tiny", "admin/their-tiny"}
    assert said(r, "Answered") == [near.url] and len(said(r, "Unanswered")) == 1 and said(r, "Unanswered")[0].startswith(liar.url)
    assert r.seconds < 20  # a second


def test_one_with_many_rows_hides_no_other(hubs, peers):
    liar = Liar(json.dumps([{**ROW, "id": f"liar/m{i}"} for i in range(3000)]).encode())
    peers(liar, hubs["near"].url)
    ids = [x["id"] for x in search(hubs["here"], sure=[liar, hubs["near"]]).json()]
    assert ids[:3] == ["admin/own-tiny", "liar/m0", "admin/their-tiny"] and len(ids) == 101


def test_private_addresses_are_not_asked_unless_allowed(tmp_path):
    spy = Liar(json.dumps([ROW]).encode())
    h = Hub(tmp_path / "data")
    try:
        h.run("peer", "add", spy.url)
        r = search(h)
        assert r.json() == [] and said(r, "Unanswered") == [f"{spy.url} (it cannot be reached)"] and spy.asked == []
    finally:
        h.stop()
        spy.close()


def test_one_client_cannot_have_the_peers_asked_without_end(tmp_path):
    spy = Liar(json.dumps([ROW]).encode())
    h = Hub(tmp_path / "data", "--peers-private")
    try:
        h.run("peer", "add", spy.url)
        begin = time.monotonic()
        statuses = [h.ask("GET", "/api/models?search=x&federated=1", token=None).status for _ in range(30)]
        n = statuses.count(200)
        assert set(statuses) == {200, 429} and statuses[:8] == [200] * 8 and n <= 11 + (time.monotonic() - begin) / 2  # of a guest
        until(lambda: len(spy.asked) >= n)
        assert len(spy.asked) == n

        def refused(path):  # or it may just be asked once more
            return next(r for r in (h.ask("GET", path, token=None) for _ in range(20)) if r.status == 429)

        assert refused("/api/models?search=x&federated=1").headers["Retry-After"]
        assert refused("/?search=x&federated=1"), "the page is no way around"
        assert h.ask("GET", "/api/models?search=x", token=None).status == 200
        assert search(h).status == 200, "who has a token is somebody else"
    finally:
        h.stop()
        spy.close()


def test_slow_peers_leave_the_server_free(tmp_path):
    slow = Liar(lambda h: time.sleep(60))
    h = Hub(tmp_path / "data", "--peers-private")
    try:
        h.run("peer", "add", slow.url)
        for tries in range(1, 6):  # a busy machine may be late
            with concurrent.futures.ThreadPoolExecutor(30) as pool:
                jobs = [pool.submit(h.ask, "GET", "/api/models?search=x&federated=1") for _ in range(30)]
                time.sleep(0.2)
                assert h.ask("GET", "/api/models").status == 200
                before = sum(not j.done() for j in jobs)
                replies = [j.result() for j in jobs]
            assert {r.status for r in replies} <= {200, 503} and sum(r.status == 200 for r in replies) >= 16
            assert len(slow.asked) <= 4 * tries, "a peer holds four requests at the most"
            assert any("too many searches wait for it" in str(r.headers.get_all("X-Farseek-Unanswered")) for r in replies)
            if before:
                break
        assert before, "it was answered when no search was under way any more"
        begin = time.monotonic()
    finally:
        h.stop()
        slow.close()
    assert time.monotonic() - begin < 40  # of the minute that the peer takes


def test_something_must_be_searched_for(hubs):
    for query in ("", "&limit=3", "&search=x&cursor=1.1"):
        assert hubs["here"].ask("GET", "/api/models?federated=1" + query).status == 400
    assert hubs["here"].ask("GET", "/?federated=1").status == 200


def test_the_page_asks_with_a_checkbox(hubs, peers):
    here, near = hubs["here"], hubs["near"]
    assert "federated" not in here.ask("GET", "/?search=tiny").body.decode(), "nobody to ask"
    liar = Liar(json.dumps([{**ROW, "tags": ["<b>"], "id": "liar/model"}]).encode())
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{s.getsockname()[1]}"
    peers(near.url, liar, dead)
    page = here.ask("GET", "/?search=tiny").body.decode()
    assert '<input type="checkbox" name="federated" value="1">' in page and "their-tiny" not in page
    page = elsewhere(here, "tiny", near, liar)
    assert ' checked>' in page and f'href="{near.url}/admin/their-tiny"' in page and f'href="{liar.url}/liar/model"' in page
    assert f"{dead}: it cannot be reached." in page and "hidden-tiny" not in page
