"""farseek template --jinja: a chat template is run as jinja2 runs it, and what it does not know is refused."""
import hashlib
import json

import pytest
from conftest import VECTORS

VECTOR = json.loads((VECTORS / "jinja_templates.json").read_text())


@pytest.mark.parametrize("template", VECTOR["templates"], ids=lambda t: t["name"])
def test_prompts_are_jinja2s(farseek, tmp_path, template):
    (tmp_path / "t.jinja").write_text(template["text"], newline="")
    rendered = 0
    for conversation, want in list(zip(VECTOR["conversations"], template["sha256"]))[::12]:
        r = farseek("template", "--jinja", tmp_path / "t.jinja", "--json", stdin=json.dumps({**VECTOR["own"], **conversation}), check=False)
        assert (r.returncode == 0) == (want is not None), r.stderr
        if want:
            assert hashlib.sha256(json.loads(r.stdout)["prompt"].encode()).hexdigest()[:24] == want
            rendered += 1
    assert rendered >= 5


@pytest.mark.parametrize("text, words", [("{% include '/etc/passwd' %}", "line 1: the statement 'include'"), ("\n{{ raise_exception('no ' + messages[0].role) }}", "line 2: no user"),
                                         ("{% for i in range(99999) %}{% for j in range(999) %}{% endfor %}{% endfor %}", "more than")])
def test_refusals_are_sentences(farseek, tmp_path, text, words):
    (tmp_path / "t.jinja").write_text(text)
    r = farseek("template", "--jinja", tmp_path / "t.jinja", stdin='{"messages": [{"role": "user", "content": "Hi"}]}', check=False, timeout=60)
    assert r.returncode != 0 and words in r.stderr and r.stdout == ""


def test_the_clock_is_the_machines(farseek, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ strftime_now('%Y') }}{{ tools is none }}")
    assert int(farseek("template", "--jinja", tmp_path / "t.jinja", stdin="{}")[:4]) >= 2024
