"""Who may do what: every route of the hub asked by everybody, for public, private and gated repositories.

A new route needs a line in ROUTES: `need` says who is let in (see `expected`), `ok` what those read, `path` what stands for the braces behind
the repository, `body` what is sent. Several lines for one route are several requests."""
import base64
import collections
import dataclasses
import itertools
import json
import subprocess
import urllib.parse

import pytest

from test_hub import BINARY, Hub, Reply
from test_hub_pages import Page
from test_hub_pages_write import Browser, Forms, multipart

SECRET = b"the-words-that-only-readers-see"
KINDS = ("public", "private", "gated")
ROLES = {"reader": 1, "writer": 2, "manager": 3, "admin": 3}  # of the organisation team; admin is the hub's
# Tokens of narrower scope, and for which kinds of team's repositories they are: all that is team's, the private ones by name, none.
SCOPED = {"manager_in": KINDS, "manager_one": ("private",), "manager_out": (), "admin_one": ("private",)}
ACTORS = ("nobody", "other", "reader", "writer", "manager", "admin", "writer_ro", "manager_ro", "revoked", *SCOPED, "manager_in_ro")


@dataclasses.dataclass
class R:
    need: str
    ok: tuple = (200, 303)
    path: tuple = ()
    body: object = None
    query: str = ""
    prepare: object = None
    headers: dict = None
    files: object = None  # of a form


def line(**kw):
    return "\n".join(json.dumps(x) for x in ({"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": "f", "content": "eA==", "encoding": "base64", **kw}}))


def asked(case):  # somebody waits for an answer
    case.hub.ask("POST", f"{case.api}/ask-access", {}, token=case.hub.tokens["asker"])
    case.hub.ask("POST", f"{case.api}/user-access-request/handle", {"user": "asker", "status": "pending"})


def victim(case):
    case.name = f"victim{next(case.hub.numbers)}"
    case.hub.make("models", case.kind, case.name)
    return {"name": case.name, "organization": "team", "type": "model"}


def moved(case):
    victim(case)
    return {"fromRepo": f"team/{case.name}", "toRepo": f"team/{case.name}-moved", "type": "model"}


def fresh(case):
    return f"n{next(case.hub.numbers)}"


ND = {"Content-Type": "application/x-ndjson"}
REPO = "/api/{}/{}/{}"
FORM = "/-/{}/{}/{}"
HASH = "0" * 64
ROUTES = {
    "GET /api/whoami-v2": R("user"),
    "GET /api/users/{}/overview": R("any", path=("other",)),
    "GET /api/organizations/{}/overview": R("any", path=("team",)),
    "GET /api/organizations/{}/members": R("any", path=("team",)),
    "POST /api/repos/create": R("write in team", body=lambda c: {"name": fresh(c), "organization": "team"}),
    "DELETE /api/repos/delete": R("admin", body=victim),
    "POST /api/repos/move": R("admin", body=moved),
    "POST /api/validate-yaml": R("any", body={"content": "---\na: 1\n---\n", "repoType": "model"}),
    "GET /api/{}": R("any", path=("models",)),
    f"GET {REPO}": [R("read"), R("read", query="?blobs=True&securityStatus=True&expand[]=siblings")],
    f"GET {REPO}/revision/{{}}": R("read", path=("main",)),
    f"GET {REPO}/settings": R("read"),
    f"PUT {REPO}/settings": [R("admin", body={}), R("admin", body={"protectedBranches": ["main"], "protectedTags": [], "branchProtection": "default"})],
    f"POST {REPO}/duplicate": R("open team+", (409,), body=lambda c: {"repository": f"team/{c.name}"}),
    f"GET {REPO}/auth-check": R("open"),
    f"GET {REPO}/auth-check/write": R("write"),
    f"GET {REPO}/tree/{{}}/{{*}}": [R("read", path=("main", "")), R("read", path=("main", ""), query="?recursive=1&expand=1")],
    f"POST {REPO}/paths-info/{{}}": R("read", path=("main",), body={"paths": ["a.txt"], "expand": True}),
    f"GET {REPO}/refs": R("read"),
    f"GET {REPO}/commits/{{}}": R("read", path=("main",)),
    f"POST {REPO}/branch/{{*}}": [R("write", path=(fresh,), body={}), R("write", (403,), path=("main",), body={"startingPoint": "b", "overwrite": True})],
    f"DELETE {REPO}/branch/{{*}}": [R("write", (404,), path=("none",)), R("write", (403,), path=("main",))],
    f"POST {REPO}/tag/{{}}": R("write", path=("main",), body=lambda c: {"tag": fresh(c)}),
    f"DELETE {REPO}/tag/{{}}": R("write", (404,), path=("none",)),
    f"POST {REPO}/super-squash/{{}}": R("write", path=("b",), body={"message": "x"}),
    f"POST {REPO}/preupload/{{}}": [R("write", path=("main",), body={"files": []}), R("read+", path=("main",), body={"files": []}, query="?create_pr=1")],
    f"POST {REPO}/commit/{{}}": [R("write open", path=("main",), body=line(), headers=ND), R("open+", path=("main",), body=line(), headers=ND, query="?create_pr=1")],
    f"GET {REPO}/discussions": R("read"),
    f"POST {REPO}/discussions": R("read+", body={"title": "t", "description": "d"}),
    f"GET {REPO}/discussions/{{}}": [R("read", path=("1",)), R("read", path=("2",)), R("open", path=("2",), query="?diff=1")],
    f"POST {REPO}/discussions/{{}}/comment": R("read+", path=("1",), body={"comment": "c"}),
    f"POST {REPO}/discussions/{{}}/title": R("write", path=("1",), body={"title": "t"}),
    f"POST {REPO}/discussions/{{}}/status": R("write", path=("1",), body={"status": "open"}),
    f"POST {REPO}/discussions/{{}}/merge": R("write", (400,), path=("1",), body={}),
    f"POST {REPO}/discussions/{{}}/comment/{{}}/edit": R("author", path=("1", lambda c: c.comment), body={"content": "c"}),
    f"POST {REPO}/discussions/{{}}/comment/{{}}/hide": R("write", path=("1", lambda c: c.comment), body={}),
    f"POST {REPO}/like": R("read+"),
    f"DELETE {REPO}/like": R("read+"),
    f"GET {REPO}/likers": R("read"),
    f"GET {REPO}/xet-read-token/{{}}": R("open", path=("main",)),
    f"GET {REPO}/xet-write-token/{{}}": [R("write", path=("main",)), R("open+", path=("main",), query="?create_pr=1")],
    f"POST {REPO}/ask-access": R("read+", (200, 400), body={}),
    "POST /{}/{}/ask-access": R("read+", (200, 400), body={}),
    "POST /{}/{}/{}/ask-access": R("read+", (200, 400), body={}),
    f"POST {REPO}/user-access-request/cancel": R("read+", (200, 404), body={}),
    f"POST {REPO}/user-access-request/handle": R("write", (200, 400), body={"user": "asker", "status": "accepted"}, prepare=asked),
    f"POST {REPO}/user-access-request/grant": R("write", (200, 400), body={"user": "asker"}, prepare=asked),
    f"GET {REPO}/user-access-request/{{}}": R("write", (200, 400), path=("pending",)),
    "GET /api/settings/webhooks": R("user+"),
    "POST /api/settings/webhooks": R("user+", body=lambda c: {"url": "https://example.org/", "watched": [{"type": "user", "name": "other"}]}),
    "GET /api/settings/webhooks/{}": R("user+", (404,), path=("0",)),
    "POST /api/settings/webhooks/{}": R("user+", (404,), path=("0",), body={}),
    "DELETE /api/settings/webhooks/{}": R("user+", (404,), path=("0",)),
    "POST /api/settings/webhooks/{}/enable": R("user+", (404,), path=("0",), body={}),
    "POST /api/settings/webhooks/{}/disable": R("user+", (404,), path=("0",), body={}),
    f"GET {REPO}/advisories": R("read"),
    f"POST {REPO}/advisories": R("admin", body={"message": "m", "revision": "main"}),
    f"DELETE {REPO}/advisories/{{}}": R("admin", (404,), path=("0",)),
    f"GET {REPO}/lfs-files": R("open user"),
    f"POST {REPO}/lfs-files/batch": R("admin", body={"deletions": {"sha": [HASH]}}),
    f"POST {REPO}/lfs-files/duplicate": R("open+", (200, 403), body={"target": {"type": "model", "name": "team/public-models"}, "files": []}),
    "GET /api/{*}": R("any", (404,), path=("no/such/place",)),
    "GET /.well-known/farseek/{}": R("any", path=("refs",)),
    "PUT /lfs/objects/{}": R("link", path=(HASH,), body=b"x"),
    "GET /lfs/objects/{}": R("link", path=(HASH,)),
    "POST /lfs/objects/{}/verify": R("link", path=(HASH,), body={}),
    "PUT /lfs/parts/{}/{}": R("link", path=("x", "1"), body=b"x"),
    "POST /lfs/parts/{}": R("link", path=("x",), body={}),
    "POST /v1/xorbs/{}/{}": R("xet", path=("default", HASH), body=b"x"),
    "GET /v1/xorbs/{}/{}": R("xet", path=("default", HASH)),
    "POST /v1/shards": R("xet", body=b"x"),
    "POST /v2/shards": R("xet", body=b"x"),
    "GET /v1/chunks/{}/{}": R("xet", path=("default", HASH)),
    "GET /v2/reconstructions/{}": R("xet", path=(HASH,)),
    "GET /v1/reconstructions/{}": R("xet", path=(HASH,)),
    "GET /v1/files/{}": R("xet", path=(HASH,)),
    "GET /xet/data/{}": R("link", path=(HASH,)),
    "GET /{}/{}/resolve/{}/{*}": R("open", path=("main", "a.txt")),
    "GET /{}/{}/{}/resolve/{}/{*}": R("open", path=("main", "a.txt")),
    "GET /{}/{}/torrent/{}": R("open", path=("main",)),
    "GET /{}/{}/{}/torrent/{}": R("open", path=("main",)),
    "POST /{}/{}/info/lfs/objects/batch": [R("open", body={"operation": "download", "objects": []}), R("open+", body={"operation": "upload", "objects": []})],
    "POST /{}/{}/{}/info/lfs/objects/batch": [R("open", body={"operation": "download", "objects": []}), R("open+", body={"operation": "upload", "objects": []})],
    "GET /{}/{}/info/refs": [R("open", query="?service=git-upload-pack"), R("open+", query="?service=git-receive-pack")],
    "GET /{}/{}/{}/info/refs": [R("open", query="?service=git-upload-pack"), R("open+", query="?service=git-receive-pack")],
    "POST /{}/{}/git-upload-pack": R("open", body=b"0000"),
    "POST /{}/{}/{}/git-upload-pack": R("open", body=b"0000"),
    "POST /{}/{}/git-receive-pack": R("open+", body=b"0000"),
    "POST /{}/{}/{}/git-receive-pack": R("open+", body=b"0000"),
    "GET /": R("any"),
    "GET /datasets": R("any"),
    "GET /spaces": R("any"),
    "GET /static/style.css": R("any"),
    "GET /login": R("any", (200, 303)),
    "POST /login": R("form any", (403,), body={"token": "none", "to": "/"}),
    "POST /logout": R("form any", prepare=lambda c: c.hub.browsers.clear()),
    "GET /settings": R("session"),
    "POST /settings/profile": R("form user+", body={"fullname": "x"}),
    "POST /settings/tokens": R("form user+", (200,), body=lambda c: {"name": fresh(c), "role": "read"}),
    "POST /settings/tokens/revoke": R("form user+", (404,), body={"id": "0"}),
    "POST /settings/keys": R("form admin in team", (400,), body={"name": "k", "text": "no key", "owner": "team"}),
    "POST /settings/keys/remove": R("form user+", (404,), body={"id": "0"}),
    "POST /settings/sessions/end": R("form own", prepare=lambda c: c.hub.browsers.clear()),
    "GET /new": R("session"),
    "GET /new/organisation": R("session"),
    "POST /new/organisation": R("form user+", body=lambda c: {"name": fresh(c)}),
    "POST /-/organisations/{}/members": R("form admin in team", path=("team",), body={"user": "reader", "role": "read"}),
    "POST /new": R("form write in team", body=lambda c: {"name": fresh(c), "organization": "team", "type": "model"}),
    f"POST {FORM}/like": R("form read+"),
    f"POST {FORM}/unlike": R("form read+"),
    f"POST {FORM}/settings": R("form admin", body=lambda c: {"description": "d", "visibility": "private" if c.kind == "private" else "public", "gated": "manual" if c.kind == "gated" else "", "protectedBranches": "main",
                                                         "protectedTags": "", "branchProtection": "default"}),
    f"POST {FORM}/ask-access": R("form read+", (303, 400)),
    f"POST {FORM}/access": R("form write", (303, 400), body={"user": "asker", "status": "accepted"}, prepare=asked),
    f"POST {FORM}/move": R("form admin", (400, 403), body={"toRepo": "nobody-there/x"}),
    f"POST {FORM}/fork": R("form open team+", (409,), body=lambda c: {"repository": f"team/{c.name}"}),
    f"POST {FORM}/delete": R("form admin", body=lambda c: {"confirm": f"team/{c.name}"}, prepare=victim),
    f"POST {FORM}/upload/{{}}": [R("form write open", path=("main",), body={"how": "commit"}, files=[("f.txt", b"x")]), R("form open+", path=("main",), body={"how": "pull request"}, files=[("g.txt", b"x")])],
    f"POST {FORM}/discussions": R("form read+", body={"title": "t", "description": "d"}),
    f"POST {FORM}/discussions/{{}}/comment": R("form read+", path=("1",), body={"comment": "c"}),
    f"POST {FORM}/discussions/{{}}/comment/{{}}/edit": R("form author", path=("1", lambda c: c.comment), body={"content": "c"}),
    f"POST {FORM}/discussions/{{}}/comment/{{}}/hide": R("form write", path=("1", lambda c: c.comment)),
    f"POST {FORM}/discussions/{{}}/title": R("form write", path=("1",), body={"title": "t"}),
    f"POST {FORM}/discussions/{{}}/status": R("form write", path=("1",), body={"status": "open"}),
    f"POST {FORM}/discussions/{{}}/merge": R("form write", (400,), path=("1",)),
    "GET /{}/{}/settings": R("page session"),
    "GET /{}/{}/{}/settings": R("page session"),
    "GET /{}/{}/discussions": R("page read"),
    "GET /{}/{}/{}/discussions": R("page read"),
    "GET /{}/{}/discussions/{}": R("page read", path=("1",)),
    "GET /{}/{}/{}/discussions/{}": R("page read", path=("1",)),
    "GET /{}/{}/commits/{}/{*}": [R("page open", path=("main", "")), R("page open", path=("main", "a.txt"))],
    "GET /{}/{}/{}/commits/{}/{*}": [R("page open", path=("main", "")), R("page open", path=("main", "a.txt"))],
    "GET /{}/{}/upload/{}/{*}": R("page session", path=("main", "")),
    "GET /{}/{}/{}/upload/{}/{*}": R("page session", path=("main", "")),
    "GET /{}/{}/tree/{}/{*}": R("page open", path=("main", "")),
    "GET /{}/{}/{}/tree/{}/{*}": R("page open", path=("main", "")),
    "GET /{}/{}/blob/{}/{*}": R("page open", path=("main", "a.txt")),
    "GET /{}/{}/{}/blob/{}/{*}": R("page open", path=("main", "a.txt")),
    "GET /{}": R("any", path=("team",)),
    "GET /{}/{}": R("page read"),
    "GET /{}/{}/{}": R("page read"),
}
BESIDE_REPOS = ("session", "form any", "form own", "form user+", "form write in team", "form admin in team", "any", "user", "user+", "write in team", "link", "xet")  # which repository does not matter


def role_of(actor, kind, new):
    """The most that the actor may do; new: the repository is one that no token names."""
    actor = actor.removesuffix("_ro")
    if actor in SCOPED:
        return 2 if kind in SCOPED[actor] and not (new and actor.endswith("_one")) else 0
    return ROLES.get(actor, 0)


def expected(need, actor, kind, new=False):
    """None: let in. Else the status, and the error's code, that the actor reads."""
    role, read_only, scoped = role_of(actor, kind, new), actor.endswith("_ro"), actor.removesuffix("_ro") in SCOPED
    words = need.split()
    page = words[0] == "page"
    if actor == "revoked":
        return 401, None
    if need == "any":
        return None
    if need == "own":  # the account's
        return (403, None) if scoped else None
    if need == "session":
        return (303 if actor == "nobody" else 403), None
    if need == "page session":
        return (404 if actor == "nobody" or kind == "private" and role == 0 else 403), None
    if words[0] == "form":
        said = expected(need.removeprefix("form "), actor, kind, new)
        return (403, None) if actor == "nobody" else said and (said[0], None)
    if need == "xet":
        return 401, None
    if need == "link":
        return 403, None
    writing = need.endswith("+") or need.startswith(("write", "admin", "author"))
    if actor == "nobody" and (writing or "user" in words):
        return 401, None
    if writing and read_only:
        return 403, None
    if need in ("user", "user+"):
        return (403, None) if scoped and writing else None
    if need == "write in team":
        return None if role >= 2 and not actor.endswith("_one") else (403, None)
    if need == "admin in team":
        return None if role >= 3 else (403, None)
    if kind == "private" and role == 0:
        return (404, None) if page else (401 if actor == "nobody" else 404, "RepoNotFound")
    if writing and scoped and role == 0 and "team+" not in words:
        return 403, None
    if "open" in need and kind == "gated" and role < 2:
        return (404 if actor == "nobody" else 403, None) if page else (401 if actor == "nobody" else 403, "GatedRepo")
    if "team+" in words:  # whose the new one is to be
        return None if role >= 2 and not actor.endswith("_one") else (403, None)
    least = {"write": 2, "admin": 3, "author": 4}.get(words[0], 0)
    return None if role >= least or actor == "admin" or (actor == "admin_one" and words[0] == "author") else (403, None)


class Case:
    def __init__(self, hub, kind, type):
        self.hub, self.kind, self.type = hub, kind, type
        self.name = f"{kind}-{type}"
        self.api = f"/api/{type}/team/{self.name}"
        self.comment = hub.comments[self.name]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("access") / "data")
    h.numbers = itertools.count()
    h.browsers = {}
    h.tokens = {"nobody": None, "admin": h.token}
    for name in ("other", "reader", "writer", "manager", "asker"):
        h.tokens[name] = h.run("user", "add", name).strip()
    h.run("org", "add", "team", "manager")
    h.run("org", "member", "team", "reader", "--role", "read")
    h.run("org", "member", "team", "writer", "--role", "write")
    for name in ("writer", "manager"):
        h.tokens[name + "_ro"] = h.run("token", "add", name, "--name", "ro", "--role", "read").strip()
    h.tokens["revoked"] = h.run("token", "add", "manager", "--name", "gone").strip()
    h.run("token", "revoke", "manager", "--name", "gone")

    def make(type, kind, name):
        r = h.ask("POST", "/api/repos/create", {"name": name, "organization": "team", "type": type[:-1], "private": kind == "private"})
        assert r.status == 200, r.body
        if kind == "gated":
            assert h.ask("PUT", f"/api/{type}/team/{name}/settings", {"gated": "manual"}).status == 200

    h.make = make
    h.comments = {}
    for type in ("models", "datasets"):
        for kind in KINDS:
            name = f"{kind}-{type}"
            api = f"/api/{type}/team/{name}"
            make(type, kind, name)
            secret = [{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": "a.txt", "content": base64.b64encode(SECRET).decode(), "encoding": "base64"}}]
            body = "\n".join(map(json.dumps, secret))
            assert h.ask("POST", f"{api}/branch/b", {}).status == 200
            assert h.ask("POST", f"{api}/discussions", {"title": "t", "description": "d"}).json()["num"] == 1
            assert h.ask("POST", f"{api}/commit/main?create_pr=1", body, headers=ND).status == 200
            assert h.ask("POST", f"{api}/commit/main", body, headers=ND).status == 200
            h.comments[name] = h.ask("GET", f"{api}/discussions/1").json()["events"][0]["id"]
    h.tokens["manager_in"] = h.run("token", "add", "manager", "--name", "in", "--only", "team").strip()
    h.tokens["manager_in_ro"] = h.run("token", "add", "manager", "--name", "in_ro", "--role", "read", "--only", "team").strip()
    h.tokens["manager_out"] = h.run("token", "add", "manager", "--name", "out", "--only", "manager").strip()
    for name in ("manager", "admin"):
        h.tokens[name + "_one"] = h.run("token", "add", name, "--name", "one", "--only", "team/private-models, datasets/team/private-datasets").strip()
    yield h
    h.stop()


def fill(route, row, case):
    """The request's path: the repository for the first braces, the row's path for the others."""
    path = route.split(" ")[1]
    about_repo = row.need not in BESIDE_REPOS and path.startswith(("/api/{}/{}/{}", "/-/{}/{}/{}", "/{}/{}"))
    values = []
    if about_repo:
        whole = path.startswith(("/api/", "/-/")) or path.startswith("/{}/{}/{}/") and path.count("{}") + path.count("{*}") - len(row.path) == 3 or path == "/{}/{}/{}"
        values = [case.type, "team", case.name] if whole else ["team", case.name]
    values += [x(case) if callable(x) else x for x in row.path]
    for v in values:
        path = path.replace("{*}" if "{}" not in path else "{}", v, 1)
    assert "{" not in path, f"{route}: ROUTES says too little of its path"
    return path + row.query


def type_of(route):
    path = route.split(" ")[1]
    return "datasets" if path.startswith("/{}/{}/{}") else "models"


def ask(hub, route, row, actor, kind):
    case = Case(hub, kind, type_of(route))
    if row.prepare:
        row.prepare(case)
    body = row.body(case) if callable(row.body) else row.body
    if row.need.startswith("form") and actor != "revoked":  # by a browser that is signed in
        if actor not in hub.browsers:
            hub.browsers[actor] = Browser(hub).login(hub.tokens[actor]) if hub.tokens[actor] else Browser(hub)
            page = hub.browsers[actor].send("GET", "/settings" if hub.tokens[actor] else "/login")
            page.csrf = Forms(page.text).forms[-1][2]["csrf"]
        b = hub.browsers[actor]
        fields = {"csrf": b.csrf, **(body or {})}
        b.send("POST", fill(route, row, case), *(multipart(fields, row.files) if row.files else (urllib.parse.urlencode(fields),)), follow=False)
        return Reply(b.status, collections.defaultdict(lambda: None, b.headers), b.text.encode())
    return hub.ask(route.split(" ")[0], fill(route, row, case), body, token=hub.tokens[actor], headers=row.headers)


def test_every_route_is_in_the_table():
    routes = subprocess.run([*BINARY, "hub", "routes"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert sorted(set(routes)) == sorted(routes)
    assert set(routes) - ROUTES.keys() == set(), "a route without a line in ROUTES: who may ask it?"
    assert ROUTES.keys() - set(routes) == set(), "no such route any more"


@pytest.mark.parametrize("route", ROUTES)
def test_who_may(hub, route):
    rows = ROUTES[route] if isinstance(ROUTES[route], list) else [ROUTES[route]]
    wrong = []
    for row in rows:
        for actor in ACTORS:
            for kind in KINDS if row.need not in BESIDE_REPOS else KINDS[:1]:
                r = ask(hub, route, row, actor, kind)
                new = victim in (row.body, row.prepare) or row.body is moved
                want, code = expected(row.need, actor, kind, new), r.headers["X-Error-Code"]
                got = f"{row.need}{row.query}: {actor}, {kind}: {r.status} {code} {r.body[:100]}"
                if want is None and (r.status not in row.ok or code in ("RepoNotFound", "GatedRepo")):
                    wrong.append(f"{got}: wanted {row.ok}")
                if want is not None and (r.status != want[0] or (want[1] and code != want[1])):
                    wrong.append(f"{got}: wanted {want}")
                if want is not None and SECRET in r.body:
                    wrong.append(f"{got}: shows what it must not")
                if kind != "private" and b"private-models" in r.body and not any(role_of(actor, k, False) for k in KINDS):
                    wrong.append(f"{got}: names a private repository")
    assert not wrong, "\n".join(wrong)


def test_a_token_of_xet_opens_no_other_door(hub):
    for kind in KINDS:
        token = hub.ask("GET", f"/api/models/team/{kind}-models/xet-read-token/main").json()["accessToken"]
        for path in ("/api/whoami-v2", "/api/models", f"/api/models/team/{kind}-models", f"/team/{kind}-models/resolve/main/a.txt", "/"):
            assert hub.ask("GET", path, token=token).status == 401
        assert hub.ask("GET", f"/v2/reconstructions/{HASH}", token=token).status == 404


def test_pages_of_other_sites_send_nothing(hub):
    for origin, status in (("http://evil.example", 403), ("null", 403), (hub.url, 200), (None, 200)):
        headers = {"Origin": origin} if origin else {}
        assert hub.ask("POST", "/api/models/team/public-models/like", {}, headers=headers).status == status
    assert hub.ask("GET", "/api/models", headers={"Origin": "http://evil.example"}).status == 200


PAGES = ("", "/discussions", "/discussions/1", "/discussions/2", "/tree/main/", "/upload/main/", "/settings")


def test_pages_show_no_form_that_is_refused(hub):
    """What a page offers is what its session may do: every form of every page, sent as it stands by everybody who sees it."""
    shown, wrong = {a: set() for a in ACTORS if a not in ("nobody", "revoked")}, []
    for actor in shown:
        b = Browser(hub).login(hub.tokens[actor])
        pages = [f"/team/{kind}-models{page}" for kind in KINDS for page in PAGES] + ["/new", "/new/organisation", "/team", f"/{actor}"]
        for page in pages:
            b.send("GET", page)
            for method, action, fields in Forms(b.text).forms if b.status == 200 else ():
                if method != "post":
                    continue
                shown[actor].add(action)
                body = multipart(fields, [("", b"")]) if "/upload/" in action else (urllib.parse.urlencode(fields),)
                b.send("POST", action, *body, follow=False)
                if b.status in (401, 403):
                    wrong.append(f"{actor} on {page}: {action}: {b.status} {Page(b.text).text[:200]}")
    assert not wrong, "\n".join(wrong)
    for actor in ("other", "reader", "writer", "manager", "admin", "manager_in"):
        assert {"/-/models/team/public-models/like", "/-/models/team/public-models/discussions", "/-/models/team/public-models/upload/main"} <= shown[actor], actor
    assert {a for a in shown if "/-/models/team/public-models/settings" in shown[a]} == {"manager", "admin"}
    assert {a for a in shown if "/new/organisation" in shown[a]} == {"other", "reader", "writer", "manager", "admin"}
    assert {a for a in shown if "/new" in shown[a]} == {"other", "reader", "writer", "manager", "admin", "manager_in", "manager_out"}
    assert {a for a in shown if not shown[a]} == {"writer_ro", "manager_ro", "manager_in_ro"}
    assert shown["manager_out"] == {"/new", "/-/models/team/public-models/fork"}, "to its own account"
    assert all("/private-models/" in action for action in shown["manager_one"] | shown["admin_one"])
