"""What a browser does on the hub's pages: signing in, forms, and that nobody else can send them. No script runs in any of it."""
import html.parser
import http.client
import os
import re
import sqlite3
import urllib.parse

import pytest

from test_hub import Hub
from test_hub_pages import HOSTILE, Page


class Forms(html.parser.HTMLParser):
    """The forms of a page: action, and what a browser would send of each as it stands."""

    def __init__(self, text):
        super().__init__()
        self.forms, self.select, self.area = [], None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "form":
            self.forms.append((a.get("method", "get"), a["action"], {}))
            return
        fields = self.forms[-1][2] if self.forms else {}
        if tag == "input" and "name" in a:
            fields[a["name"]] = a.get("value", "")
        elif tag == "textarea":
            self.area, fields[a["name"]] = a["name"], ""
        elif tag == "select":
            self.select = a["name"]
        elif tag == "option" and self.select and ("selected" in a or self.select not in fields):
            fields[self.select] = a.get("value")

    def handle_endtag(self, tag):
        if tag in ("select", "textarea"):
            self.select = self.area = None

    def handle_data(self, data):
        if self.area:
            self.forms[-1][2][self.area] = data.removeprefix("\n")
        elif self.select and self.forms[-1][2].get(self.select, "") is None:
            self.forms[-1][2][self.select] = data

    def of(self, action):
        (form,) = [f for f in self.forms if f[1] == action and f[0] == "post"]
        return dict(form[2])


def multipart(fields, files):
    """The body and the headers of a form with files, as browsers send it."""
    escaped = lambda s: s.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    body = b""
    for name, value in fields.items():
        body += f'--b7x\r\nContent-Disposition: form-data; name="{escaped(name)}"\r\n\r\n{value}\r\n'.encode()
    for name, data in files:
        body += f'--b7x\r\nContent-Disposition: form-data; name="files"; filename="{escaped(name)}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode() + data + b"\r\n"
    return body + b"--b7x--\r\n", {"Content-Type": "multipart/form-data; boundary=b7x"}


class Browser:
    """Cookies, pages, forms."""

    def __init__(self, hub):
        self.hub, self.cookies, self.path, self.text, self.headers = hub, {}, "/", "", []

    def send(self, method, path, body=None, headers=None, follow=True):
        c = http.client.HTTPConnection("127.0.0.1", self.hub.port, timeout=60)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | (headers or {})
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        c.request(method, path, body, headers)
        r = c.getresponse()
        self.text, self.status, self.headers, self.path = r.read().decode(), r.status, r.getheaders(), path
        for name, value in self.headers:
            if name == "Set-Cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.split(";")[0]
        c.close()
        if r.status == 303 and follow:
            return self.send("GET", dict(self.headers)["Location"])
        return self

    def get(self, path, status=200):
        assert self.send("GET", path).status == status, (path, self.status, self.text[-300:])
        return self

    def post(self, action, want=200, csrf=None, headers=None, **fields):
        """The form of this page, with some fields filled in."""
        form = Forms(self.text).of(action)
        assert set(fields) <= set(form), (fields, form)
        form.update(fields)
        if csrf is not None:
            form["csrf"] = csrf
        assert self.send("POST", action, urllib.parse.urlencode(form), headers).status == want, (action, self.status, self.text[-300:])
        return self

    def login(self, token, to="/"):
        return self.get("/login?to=" + urllib.parse.quote(to, safe="")).post("/login", token=token)

    def actions(self):
        return [f[1] for f in Forms(self.text).forms if f[0] == "post"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    for name in ("bob", "carol"):
        setattr(h, name, h.run("user", "add", name).strip())
    h.repo("admin/model")
    assert h.commit("admin/model", {"a.txt": b"one\ntwo\n", "b.txt": b"b\n"}).status == 200
    yield h
    h.stop()


@pytest.fixture
def admin(hub):
    return Browser(hub).login(hub.token)


@pytest.fixture
def bob(hub):
    return Browser(hub).login(hub.bob)


def test_signing_in_and_out(hub):
    b = Browser(hub).get("/login?to=%2Fadmin%2Fmodel")
    assert b.post("/login", 403, token="hf_" + "x" * 40) and "no such token" in b.text and "farseek_session" not in b.cookies
    b.send("POST", "/login", urllib.parse.urlencode(Forms(b.text).of("/login") | {"token": " " + hub.bob + "\n"}))
    assert b.path == "/admin/model" and "bob" in Page(b.text).text
    secret = b.cookies["farseek_session"]
    with sqlite3.connect(hub.data / "hub.db", timeout=60) as db:
        assert secret.encode() not in b"".join(bytes(row[0]) for row in db.execute("SELECT hash FROM sessions"))
    raw = Browser(hub).get("/login")
    form = urllib.parse.urlencode(Forms(raw.text).of("/login") | {"token": hub.bob})
    c = http.client.HTTPConnection("127.0.0.1", hub.port)
    c.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"farseek_login={raw.cookies['farseek_login']}"})
    r = c.getresponse()
    (cookie,) = [v for k, v in r.getheaders() if k == "Set-Cookie" and v.startswith("farseek_session=")]
    assert r.status == 303 and "; HttpOnly; SameSite=Strict" in cookie and "Secure" not in cookie and "Path=/;" in cookie
    c.close()
    b.get("/settings").post("/logout")
    assert b.path == "/" and "Sign in" in b.text
    b.cookies["farseek_session"] = secret  # kept by somebody
    assert "Sign in" in b.get("/").text


def test_cookies_are_for_tls_alone_behind_it(tmp_path):
    h = Hub(tmp_path / "data", "--url", "https://hub.example.org")
    b = Browser(h)
    h.port = listening(h.process.pid)
    b.get("/login").post("/login", token=h.token)
    assert b.get("/settings").status == 200
    b.post("/logout")
    b.get("/login")
    assert all("; Secure" in v for k, v in b.headers if k == "Set-Cookie") and [k for k, _ in b.headers].count("Set-Cookie") == 1
    h.stop()


def listening(pid):
    """The port that the process listens at."""
    inodes = {os.readlink(f"/proc/{pid}/fd/{f}") for f in os.listdir(f"/proc/{pid}/fd")}
    for line in open(f"/proc/{pid}/net/tcp").read().splitlines()[1:]:
        w = line.split()
        if w[3] == "0A" and f"socket:[{w[9]}]" in inodes:
            return int(w[1].split(":")[1], 16)
    raise AssertionError("it listens nowhere")


@pytest.mark.parametrize("to", ["//evil.example/", "/\\evil.example", "https://evil.example/", "javascript:alert(1)", "/a\r\nSet-Cookie: x=y", ""])
def test_signing_in_leads_to_pages_of_ours_only(hub, to):
    b = Browser(hub).login(hub.bob, to)
    assert b.path == "/"


def test_a_session_ends_with_its_token(hub):
    token = hub.run("token", "add", "bob", "--name", "short").strip()
    b = Browser(hub).login(token)
    assert "bob" in b.get("/settings").text
    hub.run("token", "revoke", "bob", "--name", "short")
    assert "Sign in" in b.get("/admin/model").text
    assert b.get("/settings").path.startswith("/login")
    form = {"csrf": "0" * 64}
    assert b.send("POST", "/-/models/admin/model/like", urllib.parse.urlencode(form)).status == 403


def test_a_session_may_no_more_than_its_token(hub):
    token = hub.run("token", "add", "admin", "--name", "ro", "--role", "read").strip()
    b = Browser(hub).login(token)
    assert b.get("/admin/model").actions() == [] and b.get("/admin/model/discussions").actions() == []
    assert b.get("/settings").actions() == ["/logout", "/settings/sessions/end"]
    csrf = Forms(b.text).of("/logout")["csrf"]
    for path, fields in (("/settings/tokens", {"name": "x", "role": "write"}), ("/-/models/admin/model/like", {}), ("/-/models/admin/model/settings", {"visibility": "private"}),
                         ("/-/models/admin/model/delete", {"confirm": "admin/model"}), ("/-/models/admin/model/discussions", {"title": "x", "description": ""}),
                         ("/new", {"name": "by-ro", "type": "model"}), ("/settings/tokens/revoke", {"id": "1"}), ("/settings/profile", {"fullname": "x"})):
        assert b.send("POST", path, urllib.parse.urlencode({"csrf": csrf, **fields})).status == 403, path
    assert hub.ask("GET", "/api/models/admin/model").json()["private"] is False
    assert b.get("/admin/model/settings", 403)


def test_every_form_wants_the_session_s_own_sign(hub, admin, bob):
    """CSRF: the cookie alone changes nothing, nor does another's sign, nor JSON, nor another site's page."""
    seen = 0
    csrf_of_bob = Forms(bob.get("/settings").text).of("/logout")["csrf"]
    admin.get("/admin/model/discussions").post("/-/models/admin/model/discussions", title="a talk", description="x")
    talk = admin.path
    for page in ("/settings", "/new", "/admin/model", "/admin/model/settings", "/admin/model/discussions", talk):
        admin.get(page)
        for method, action, fields in Forms(admin.text).forms:
            if method != "post":
                continue
            assert re.fullmatch("[0-9a-f]{64}", fields["csrf"]), (page, action)
            for csrf in ("", "0" * 64, csrf_of_bob, fields["csrf"][:-1]):
                form = urllib.parse.urlencode(fields | {"csrf": csrf, "confirm": "admin/model"})
                assert admin.send("POST", action, form).status == 403, (page, action, csrf)
            good = urllib.parse.urlencode(fields)
            for site in ("http://evil.example", "null"):
                assert admin.send("POST", action, good, {"Origin": site}).status == 403, action
            assert admin.send("POST", action, good, {"Content-Type": "text/plain"}).status == 400, action
            nobody = Browser(hub)
            assert nobody.send("POST", action, good).status == 403, action
            assert nobody.send("POST", action, good, {"Authorization": "Bearer " + hub.token}).status == 403, action
            seen += 1
    assert seen > 12
    # the API's calls take no cookie
    for method, path, body in (("POST", "/api/repos/create", '{"name": "forged"}'), ("POST", "/api/models/admin/model/like", ""), ("PUT", "/api/models/admin/model/settings", '{"private": true}'),
                               ("DELETE", "/api/repos/delete", '{"name": "model"}')):
        assert admin.send(method, path, body, {"Content-Type": "application/json"}).status in (401, 404), path
    assert hub.ask("GET", "/api/models/admin/model").json()["private"] is False
    # signing in is a form of ours, too: nobody signs somebody in as himself
    other = Browser(hub)
    assert other.send("POST", "/login", urllib.parse.urlencode({"token": hub.bob, "csrf": "0" * 64, "to": "/"})).status == 403 and "farseek_session" not in other.cookies


def test_tokens_are_made_shown_once_and_revoked(hub, bob):
    bob.get("/settings").post("/settings/tokens", name=HOSTILE[:90], role="read")
    (token,) = set(re.findall(r"hf_[A-Za-z0-9]{40}", bob.text))
    assert ("Cache-Control", "no-store") in bob.headers
    assert hub.ask("GET", "/api/whoami-v2", token=token).json()["auth"]["accessToken"]["role"] == "read"
    assert token not in bob.get("/settings").text and "script" not in {t for t, _ in Page(bob.text).elements}
    forms = [f[2] for f in Forms(bob.text).forms if f[1] == "/settings/tokens/revoke"]
    assert bob.send("POST", "/settings/tokens/revoke", urllib.parse.urlencode(forms[-1])).status == 200
    assert hub.ask("GET", "/api/whoami-v2", token=token).status == 401
    # of one's own alone
    assert bob.send("POST", "/settings/tokens/revoke", urllib.parse.urlencode(forms[-1] | {"id": "1"})).status == 404
    assert hub.ask("GET", "/api/whoami-v2").status == 200


def test_other_browsers_are_signed_out(hub, bob):
    other = Browser(hub).login(hub.bob)
    bob.get("/settings").post("/settings/sessions/end")
    assert "Sign out" in bob.get("/settings").text and "Sign in" in other.get("/").text


def test_a_repository_from_its_birth_to_its_end(hub, bob, admin):
    hub.run("org", "add", "team", "bob")
    bob.get("/new")
    assert '<option>team</option>' in bob.text
    bob.post("/new", name="mine", type="dataset", organization="team", visibility="private")
    assert bob.path == "/datasets/team/mine" and "private" in Page(bob.text).text
    assert Browser(hub).get(bob.path, 404)
    bob.get("/datasets/team/mine/settings")
    bob.post("/-/datasets/team/mine/settings", description="What <b>it</b> is " + HOSTILE, visibility="public", gated="auto")
    assert hub.ask("GET", "/api/datasets/team/mine", token=hub.carol).json()["gated"] == "auto"
    p = Page(Browser(hub).get("/datasets/team/mine").text)
    assert "What <b>it</b> is" in p.text and not {t for t, _ in p.elements} & {"script", "b2"} and [a for t, a in p.elements if t == "img"] == []
    assert "What <b>it</b> is" in Page(Browser(hub).get("/datasets").text).text
    bob.get("/datasets/team/mine/settings")
    bob.get("/new").post("/new", 409, name="mine", type="dataset", organization="team")
    bob.get("/new").post("/new", 400, name="../x")
    bob.get("/datasets/team/mine/settings").post("/-/datasets/team/mine/move", toRepo="bob/yours")
    assert bob.path == "/datasets/bob/yours"
    bob.get("/datasets/bob/yours/settings")
    form = Forms(bob.text).of("/-/datasets/bob/yours/delete")
    assert bob.post("/-/datasets/bob/yours/delete", 400, confirm="yours").status == 400
    assert hub.ask("GET", "/api/datasets/bob/yours", token=hub.bob).status == 200
    carol = Browser(hub).login(hub.carol)
    assert carol.get("/datasets/bob/yours/settings", 403)
    csrf = Forms(carol.get("/settings").text).of("/logout")["csrf"]
    assert carol.send("POST", "/-/datasets/bob/yours/delete", urllib.parse.urlencode({"csrf": csrf, "confirm": "bob/yours"})).status == 403
    assert bob.send("POST", "/-/datasets/bob/yours/delete", urllib.parse.urlencode(form | {"confirm": "bob/yours"})).status == 200 and bob.path == "/bob"
    assert hub.ask("GET", "/api/datasets/bob/yours", token=hub.bob).status == 404


def test_likes(hub, bob):
    before = hub.ask("GET", "/api/models/admin/model").json()["likes"]
    bob.get("/admin/model").post("/-/models/admin/model/like")
    assert bob.path == "/admin/model" and hub.ask("GET", "/api/models/admin/model").json()["likes"] == before + 1
    bob.post("/-/models/admin/model/unlike")
    assert hub.ask("GET", "/api/models/admin/model").json()["likes"] == before


def test_a_discussion(hub, bob, admin):
    bob.get("/admin/model/discussions").post("/-/models/admin/model/discussions", title="T " + HOSTILE, description="*hi* " + HOSTILE)
    at = bob.path
    act = "/-/models" + at
    assert re.fullmatch(r"/admin/model/discussions/\d+", at)
    bob.post(act + "/comment", comment="one\r\n\r\n`two`\r\n" + HOSTILE)
    p = Page(bob.text)
    assert not {t for t, _ in p.elements} & {"script", "img"} and "one" in p.text and ("em", {}) in p.elements
    # only the author and who may write may do these
    carol = Browser(hub).login(hub.carol).get(at)
    assert [a for a in carol.actions() if act in a] == [act + "/comment"]
    csrf = Forms(carol.text).of(act + "/comment")["csrf"]
    edit = [a for a in bob.actions() if a.endswith("/edit")][0]
    for a, fields in ((act + "/status", {"status": "closed"}), (act + "/title", {"title": "x"}), (edit, {"content": "x"}), (edit.replace("edit", "hide"), {})):
        assert carol.send("POST", a, urllib.parse.urlencode({"csrf": csrf, **fields})).status == 403, a
    bob.get(at).post(edit, content="altered </textarea><script>alert(1)</script>")
    assert "altered" in Page(bob.text).text and "edited" in bob.text and "script" not in {t for t, _ in Page(bob.text).elements}
    assert Forms(bob.text).of(edit)["content"] == "altered </textarea><script>alert(1)</script>"
    bob.post(act + "/title", title="Another")
    assert "Another" in Page(bob.text).text
    bob.post(act + "/status", status="closed")
    assert "closed" in Page(bob.text).text and Forms(bob.text).of(act + "/status")["status"] == "open"
    bob.post(act + "/status")
    admin.get(at).post(edit.replace("edit", "hide"))
    assert "hidden" in Page(admin.text).text and "altered" not in Page(bob.get(at).text).text


def test_a_pull_request(hub, bob, admin):
    bob.get("/admin/model/discussions").post("/-/models/admin/model/discussions", title="Better", description="", kind="pull request")
    at = bob.path
    act, num = "/-/models" + at, bob.path.split("/")[-1]
    assert "Nothing yet" in bob.text and "refs/pr/" + num in bob.text and act + "/merge" not in bob.actions()
    hostile = f"<script>{num}</script>"
    assert hub.commit("admin/model", {"a.txt": b"one\nTWO <script>\n", "sub/new " + HOSTILE.replace("/", "") + ".txt": hostile.encode()}, hub.bob, "refs%2Fpr%2F" + num, summary=HOSTILE).status == 200
    p = Page(bob.get(at).text)
    assert ("span", {"class": "add"}) in p.elements and "+TWO <script>" in p.text and "-two" in p.text and "script" not in {t for t, _ in p.elements}
    assert HOSTILE in p.text
    admin.get(at).post(act + "/merge")
    assert "merged" in Page(admin.text).text and hub.ask("GET", "/admin/model/resolve/main/a.txt").body == b"one\nTWO <script>\n"
    assert "+TWO <script>" in Page(admin.text).text and act + "/merge" not in admin.actions()  # what it changed is still to be seen
    # two that change the same line
    for text in (b"one\nthree\n", b"one\nfour\n"):
        bob.get("/admin/model/discussions").post("/-/models/admin/model/discussions", title="Conflict", description="", kind="pull request")
        assert hub.commit("admin/model", {"a.txt": text}, hub.bob, "refs%2Fpr%2F" + bob.path.split("/")[-1]).status == 200
    second = bob.path
    first = second.rsplit("/", 1)[0] + "/" + str(int(second.split("/")[-1]) - 1)
    admin.get(second)
    csrf = Forms(admin.text).of("/-/models" + second + "/merge")
    admin.get(first).post("/-/models" + first + "/merge")
    assert "1 file changed on both sides" in Page(admin.get(second).text).text and "/-/models" + second + "/merge" not in admin.actions()
    assert admin.send("POST", "/-/models" + second + "/merge", urllib.parse.urlencode(csrf)).status == 409


def test_broken_forms(hub, bob):
    csrf = Forms(bob.get("/settings").text).of("/logout")["csrf"]
    for body in ("csrf=%zz", "a" * 10, "&".join(f"f{i}=x" for i in range(100)), "csrf=" + csrf + "&title=%ff%fe", b"\0\1\2"):
        assert bob.send("POST", "/-/models/admin/model/discussions", body).status in (400, 403), body
    assert bob.send("POST", "/-/models/admin/model/discussions", urllib.parse.urlencode({"csrf": csrf, "title": "", "description": ""})).status == 400
    assert bob.send("POST", "/-/models/admin/model/discussions", urllib.parse.urlencode({"csrf": csrf, "title": "x" * 400})).status == 400
    assert bob.send("POST", "/-/nothing/admin/model/like", urllib.parse.urlencode({"csrf": csrf})).status == 404
    for cookie in ("", "x", "farseek_session", "a" * 43, "../" * 14 + "x", bob.cookies["farseek_session"][:-1] + "-"):
        other = Browser(hub)
        other.cookies["farseek_session"] = cookie
        assert "Sign in" in other.get("/").text


# ---- files ----

def upload(browser, page, files, want=200, csrf=None, **fields):
    browser.get(page)
    (action,) = [a for _, a, _ in Forms(browser.text).forms if "/upload/" in a]
    form = Forms(browser.text).of(action)
    form.pop("files")
    assert set(fields) <= set(form), form
    body, headers = multipart({**form, **fields, **({"csrf": csrf} if csrf is not None else {})}, files)
    browser.send("POST", action, body, headers)
    assert browser.status == want, (browser.status, browser.text[-400:])
    return browser


def test_files_are_uploaded(hub, bob):
    repo = hub.repo("browsed", hub.bob)
    large = os.urandom(3_000_000)
    upload(bob, f"/{repo}/upload/main/", [("README.md", b"# hello\r\nthere\r\n"), ("data/a b.txt", b"text"), ("w.bin", large), ("empty.bin", b""), ("notes", b"\0binary")], summary="by a browser")
    assert bob.path == f"/{repo}/tree/main/" and "w.bin" in bob.text
    files = {x["path"]: x for x in hub.ask("GET", f"/api/models/{repo}/tree/main?recursive=1").json()}
    assert {"README.md", "data/a b.txt", "w.bin", "empty.bin", "notes"} <= set(files)
    assert files["w.bin"]["lfs"]["size"] == len(large) and "lfs" in files["notes"] and "lfs" not in files["README.md"] and files["empty.bin"]["size"] == 0
    assert hub.ask("GET", f"/{repo}/resolve/main/w.bin").body == large
    assert hub.ask("GET", f"/{repo}/resolve/main/README.md").body == b"# hello\r\nthere\r\n"
    assert hub.ask("GET", f"/{repo}/resolve/main/data/a%20b.txt").body == b"text"
    assert hub.ask("GET", f"/api/models/{repo}/commits/main").json()[0]["title"] == "by a browser"
    assert hub.ask("GET", f"/api/models/{repo}/commits/main").json()[0]["authors"][0]["user"] == "bob"
    # into a folder, the same object once more; nothing chosen in the second field
    upload(bob, f"/{repo}/upload/main/data", [("copy.bin", large), ("", b"")])
    assert bob.path == f"/{repo}/tree/main/data" and "copy.bin" in bob.text
    assert hub.ask("GET", f"/api/models/{repo}/commits/main").json()[0]["title"] == "Upload data/copy.bin"
    upload(bob, f"/{repo}/upload/main/", [("x.txt", b"1"), ("y.txt", b"2")], folder="/deep/er/")
    assert hub.ask("GET", f"/api/models/{repo}/commits/main").json()[0]["title"] == "Upload 2 files"
    assert hub.ask("GET", f"/{repo}/resolve/main/deep/er/y.txt").body == b"2"


def test_files_are_proposed(hub, bob, admin):
    repo = hub.repo("proposed-to")
    before = hub.ask("GET", f"/api/models/{repo}").json()["sha"]
    bob.get(f"/{repo}/upload/main/")
    assert "a commit to main" not in bob.text
    upload(bob, f"/{repo}/upload/main/", [("a.txt", b"a")], summary="please take it")
    assert bob.path == f"/{repo}/discussions/1" and "please take it" in bob.text
    assert hub.ask("GET", f"/api/models/{repo}").json()["sha"] == before
    assert hub.ask("GET", f"/{repo}/resolve/refs%2Fpr%2F1/a.txt").body == b"a"
    # a browser that says otherwise
    body, headers = multipart({**{k: v for k, v in Forms(bob.get(f"/{repo}/upload/main/").text).of(f"/-/models/{repo}/upload/main").items() if k != "files"}, "how": "commit"}, [("b.txt", b"b")])
    assert bob.send("POST", f"/-/models/{repo}/upload/main", body, headers).status == 403
    assert hub.ask("GET", f"/api/models/{repo}").json()["sha"] == before


def test_uploads_that_are_refused(hub, bob, admin):
    repo = hub.repo("guarded", hub.bob)
    page = f"/{repo}/upload/main/"
    at = lambda: hub.ask("GET", f"/api/models/{repo}").json()["sha"]
    before = at()
    upload(bob, page, [("a.txt", b"a")], 403, csrf="0" * 64)
    upload(bob, page, [("a.txt", b"a")], 403, csrf=Forms(admin.get("/settings").text).forms[-1][2]["csrf"])
    upload(bob, page, [("", b"")], 400)
    for name in ("../a", "/a", ".git/config", "a/../b", "a\\b", "a//b", "x" * 3000):
        upload(bob, page, [(name, b"a")], 400)
    upload(bob, page, [("a.txt", b"a")], 400, folder="../up")
    upload(bob, page, [(f"{i}", b"") for i in range(1001)], 400)
    upload(bob, page, [("a.txt", b"a")], 400, summary="s" * 40_000)
    body, headers = multipart({"csrf": "x"}, [])
    assert bob.send("POST", f"/-/models/{repo}/upload/main", body[:-10], headers).status == 400
    assert bob.send("POST", f"/-/models/{repo}/upload/main", b"csrf=x").status == 400
    assert bob.send("POST", f"/-/models/{repo}/upload/main", *multipart({}, [("a", b"b")]), follow=False).status == 403
    form = {k: v for k, v in Forms(bob.get(page).text).of(f"/-/models/{repo}/upload/main").items() if k != "files"}
    body, headers = multipart({}, [("a", b"b")])  # the file before what says who sends it
    assert bob.send("POST", f"/-/models/{repo}/upload/main", body[:-9] + multipart(form, [])[0], headers).status == 403
    body, headers = multipart(form, [("a", b"b")])
    assert bob.send("POST", f"/-/models/{repo}/upload/main", body, {**headers, "Origin": "http://evil.example"}).status == 403
    assert at() == before
    hub.run("quota", "bob", "--limit", "1MB")
    upload(bob, page, [("w.bin", os.urandom(2_000_000))], 413)
    hub.run("quota", "bob", "--limit", "0")
    assert at() == before


# ---- organisations ----

def test_an_organisation(hub, bob, admin):
    bob.get("/settings")
    assert "/new/organisation" in bob.text
    bob.get("/new/organisation").post("/new/organisation", name="crew-b", fullname="The <crew>")
    assert bob.path == "/crew-b" and "The &lt;crew&gt;" in bob.text
    members = "/-/organisations/crew-b/members"
    form = [f for f in Forms(bob.text).forms if f[1] == members]
    assert [f[2]["user"] for f in form] == ["bob", "bob", ""]
    say = lambda browser, want=200, **f: browser.send("POST", members, urllib.parse.urlencode({"csrf": Forms(browser.get("/settings").text).forms[-1][2]["csrf"], **f})).status == want
    assert say(bob, user="admin", role="write") and hub.ask("GET", "/api/organizations/crew-b/members").status == 200
    assert hub.run("org", "list", "crew-b") == "admin\twrite\nbob\tadmin\n"
    assert say(bob, user="admin", role="read") and hub.run("org", "list", "crew-b") == "admin\tread\nbob\tadmin\n"
    # somebody has to administer it
    assert say(bob, 400, user="bob", role="read") and say(bob, 400, user="bob", role="")
    assert say(bob, 404, user="nobody-there", role="read") and say(bob, 400, user="admin", role="owner")
    assert say(bob, user="admin", role="admin") and say(bob, user="bob", role="read") and say(bob, 403, user="bob", role="admin")
    assert members not in bob.get("/crew-b").text and members in admin.get("/crew-b").text
    assert say(admin, user="bob", role="") and hub.run("org", "list", "crew-b") == "admin\tadmin\n"
    for name in ("crew-b", "bob", "settings", "a b", ""):
        bob.get("/new/organisation").post("/new/organisation", 400, name=name)
