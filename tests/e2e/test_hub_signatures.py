"""What the pages say of signatures: verified only where a key that the owner gave to the hub made them and the files are those that were signed."""
import base64
import json
import re
import subprocess
import urllib.parse

import pytest

from conftest import VECTORS
from test_hub import BINARY, Hub
from test_hub_pages import Page
from test_hub_pages_write import Browser

OMS = VECTORS / "oms"
FILES = {str(p.relative_to(OMS / "model")): p.read_bytes() for p in (OMS / "model").rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    h.bob = h.run("user", "add", "bob").strip()
    h.browser = Browser(h).login(h.bob)
    yield h
    h.stop()


def add_key(hub, name, text, want=200, **kw):
    hub.browser.get("/settings").post("/settings/keys", want, name=name, text=text, **kw)


def says(hub, repo, files):
    if hub.ask("GET", f"/api/models/{repo}", token=hub.bob).status == 404:
        hub.repo(repo, hub.bob)
    assert hub.commit(repo, files, hub.bob).status == 200
    return Page(hub.ask("GET", "/" + repo, token=None).body.decode()).text.replace("\n", " ")


def test_keys_are_keys(hub):
    for text in ("", "hf_x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", (OMS / "p256.sig").read_text()[:7000], "x" * 9000):
        add_key(hub, "k", text, 400)
    other = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    rsa = subprocess.run(["openssl", "rsa", "-pubout"], input=other, capture_output=True, check=True).stdout.decode()
    add_key(hub, "rsa", rsa, 400)
    b = hub.browser.get("/settings")
    b.send("POST", "/settings/keys", "csrf=" + "0" * 64 + "&name=x&owner=bob&text=x")
    assert b.status == 403


@pytest.mark.parametrize("curve", ["p256", "p384", "p521"])
def test_a_model_signature(hub, curve):
    sig, repo = (OMS / f"{curve}.sig").read_bytes(), f"bob/{curve}"
    assert "Signature not verified" in says(hub, repo, {**FILES, "model.sig": sig})  # whoever made it, bob did not say that it was him
    add_key(hub, "key " + curve, (OMS / f"{curve}.pub").read_text())
    text = says(hub, repo, {"model.sig": sig})
    assert f"Verified: model.sig is by the key key {curve} of bob, for 2 files, which are all that are here." in text
    assert "1 file here is not among them: extra.py" in says(hub, repo, {"extra.py": b"import os"}) and "Verified in part" in says(hub, repo, {"model.sig": sig})
    text = says(hub, repo, {"config.json": b'{"a":2}'})
    assert "Signature does not fit" in text and "config.json" in text and "Verified" not in text
    # another's repository does not profit from bob's key
    hub.repo("admin/" + curve)
    assert hub.commit("admin/" + curve, {**FILES, "model.sig": sig}).status == 200
    assert "by no key that admin gave" in Page(hub.ask("GET", f"/admin/{curve}", token=None).body.decode()).text


def test_signatures_that_were_changed(hub):
    add_key(hub, "p256 again", (OMS / "p256.pub").read_text())
    bundle = json.loads((OMS / "p256.sig").read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])

    def changed(payload=None, **kw):
        b = json.loads(json.dumps(bundle))
        if payload:
            b["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        b["dsseEnvelope"].update(kw)
        return json.dumps(b).encode()

    cases = {"spaces": changed(payload + b" "), "digest": changed(payload.replace(b"e346", b"e347")), "type": changed(payloadType="text/plain"), "none": changed(signatures=[]),
             "cut": changed(signatures=[{"sig": bundle["dsseEnvelope"]["signatures"][0]["sig"][:-4]}]), "empty": b"{}", "no json": b"\0\1", "list": b"[]", "no base64": changed(payload=None, signatures=[{"sig": "***"}]),
             "twice": changed(payload.replace(b'"predicateType"', b'"subject": [], "predicateType"'))}
    certificate = json.loads(changed())
    certificate["verificationMaterial"] = {"x509CertificateChain": {"certificates": []}}
    cases["certificate"] = json.dumps(certificate).encode()
    for i, (name, sig) in enumerate(cases.items()):
        text = says(hub, f"bob/changed{i}", {**FILES, "model.sig": sig})
        assert "Signature not verified" in text and "Verified" not in text, name
    assert "Verified:" in says(hub, "bob/unchanged", {**FILES, "model.sig": changed()})


def test_a_signed_record(hub, tmp_path):
    model = tmp_path / "model"
    for a, b in ((VECTORS / "qwen2", tmp_path / "m.gguf"), (tmp_path / "m.gguf", model)):
        subprocess.run([*BINARY, "convert", str(a), str(b), "--no-tokenizer"], check=True, capture_output=True)
    files = lambda: {p.name: p.read_bytes() for p in model.iterdir()}
    assert "Not signed: farseek.rec" in says(hub, "bob/record", files())
    subprocess.run([*BINARY, "sign", "--new-key", str(tmp_path / "k"), "--no-password"], check=True, capture_output=True)
    subprocess.run([*BINARY, "sign", str(model), "--key", str(tmp_path / "k.key")], check=True, capture_output=True)
    assert "Signature not verified: farseek.rec" in says(hub, "bob/record", files())
    add_key(hub, "minisign", (tmp_path / "k.pub").read_text())
    text = says(hub, "bob/record", files())
    assert "Verified record: farseek.rec is by the key minisign of bob" in text and "files beside the weights are as it says" in text
    assert "Signature does not fit: farseek.rec" in says(hub, "bob/record", {"config.json": files()["config.json"] + b" "})
    assert "Signature not verified: farseek.rec" in says(hub, "bob/record", {"farseek.rec": files()["farseek.rec"].replace(b"class", b"class ")})


def test_asking_and_being_let_in(hub):
    hub.repo("bob/gate", hub.bob)
    assert hub.commit("bob/gate", {"README.md": b"# The secret card"}, hub.bob).status == 200
    bob = hub.browser
    bob.get("/bob/gate/settings").post("/-/models/bob/gate/settings", gated="manual")
    dora = Browser(hub).login(hub.run("user", "add", "dora").strip()).get("/bob/gate")
    assert "secret card" not in dora.text
    dora.post("/-/models/bob/gate/ask-access")
    assert "You asked for it" in dora.text and "secret card" not in dora.text
    bob.get("/bob/gate/settings")
    assert "dora" in bob.text
    csrf = re.search('name="csrf" value="([0-9a-f]{64})"', bob.text)[1]
    assert bob.send("POST", "/-/models/bob/gate/access", urllib.parse.urlencode({"csrf": csrf, "user": "dora", "status": "accepted"})).status == 200 and "dora" not in bob.text
    assert "secret card" in dora.get("/bob/gate").text
