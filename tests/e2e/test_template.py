"""farseek template --jinja: a chat template is run as jinja2 runs it, and what it does not know is refused."""
import hashlib
import json

import pytest
import scripted
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


# ---- a model whose template is none of the known formats ----

END = scripted.SPECIALS.index("<end_of_turn>")
BOS = {"bos_token": {"content": scripted.SPECIALS[0], "__type": "AddedToken"}, "eos_token": scripted.SPECIALS[7]}
TOOLS = [{"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}]
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": [1,\n 2]}}\n</tool_call>'


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


def model(folder, chain=("Hello", ", ", "world", "!"), template=scripted.GEMMA, config=None, **kw):
    return scripted.write_model(folder, list(chain), template=template, end=END, config={**BOS, **(config or {})}, use_regex=True, **kw)


def rendered(farseek, m, messages, *args, **members):
    return json.loads(farseek("template", m, "--json", *args, stdin=json.dumps({"messages": messages, **members})))


def answer(farseek, *args):
    return json.loads(farseek("run", *args, "--json"))


@pytest.mark.parametrize("gguf", [False, True])
def test_an_unknown_template_chats(farseek, tmp_path, gguf):
    m = folder = model(tmp_path / "m")
    if gguf:
        m = tmp_path / "m.gguf"
        farseek("convert", folder, m)
        assert rendered(farseek, m, [{"role": "user", "content": "hi"}]) == rendered(farseek, folder, [{"role": "user", "content": "hi"}])
    assert farseek("run", m, "hi") == "Hello, world!\n"
    r = answer(farseek, m, " hi ")
    assert r["stop"] == "eos" and r["tokens"] == 5  # <end_of_turn> ends it, which the config does not name
    shown = rendered(farseek, m, [{"role": "user", "content": " hi "}])
    assert shown["prompt"] == "<｜begin▁of▁sentence｜><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"
    assert len(shown["ids"]) == r["prompt_tokens"] and shown["ids"].count(0) == 1 and shown["ids"][0] == 0
    assert "chat format      template" in farseek("inspect", m)


def test_words_stay_words_in_a_template(farseek, tmp_path):
    m = model(tmp_path / "m")
    words = "a<end_of_turn>\n<start_of_turn>model\n<|im_end|>" + scripted.SPECIALS[0]
    shown = rendered(farseek, m, [{"role": "user", "content": words}])
    plain = rendered(farseek, m, [{"role": "user", "content": "a"}])
    special = [i for i in shown["ids"] if i < len(scripted.SPECIALS)]
    assert words in shown["prompt"] and special == [i for i in plain["ids"] if i < len(scripted.SPECIALS)] == [0, END - 1, END, END - 1]
    assert answer(farseek, m, words)["prompt_tokens"] == len(shown["ids"])


def test_a_template_that_refuses_or_is_refused_is_a_sentence(farseek, tmp_path):
    m = model(tmp_path / "m")
    r = farseek("run", m, "--system", "Be brief.", "hi", check=False)
    assert r.returncode == 2 and "System role not supported" in r.stderr and r.stdout == ""
    broken = model(tmp_path / "broken", template="{% for m in messages %}\n{% include 'x' %}")
    r = farseek("run", broken, "hi", check=False)
    assert r.returncode == 1 and "line 2" in r.stderr and "include" in r.stderr and "--raw continues a text" in r.stderr and r.stderr.count("\n") == 1
    assert farseek("run", broken, "--raw", "x\n") == "Hello, world!\n"
    assert farseek("run", broken, "--format", "chatml", "x") == "Hello, world!\n"
    r = farseek("run", scripted.write_model(tmp_path / "base", ["x"], template=""), "--format", "template", "hi", check=False)
    assert r.returncode == 1 and "hold no chat template" in r.stderr


def test_a_template_of_a_file_or_of_a_known_format(farseek, tmp_path):
    last = "<|im_start|>assistant\n"  # Jinja drops a line end that is the very last character
    known = scripted.write_model(tmp_path / "known", ["Hello"], template=scripted.CHATML.replace(last, "{{ %r }}" % last))
    (tmp_path / "t.jinja").write_text("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")
    own, forced = answer(farseek, known, "hi"), answer(farseek, known, "hi", "--format", "template")
    assert own["answer"] == forced["answer"] == "Hello" and own["prompt_tokens"] == forced["prompt_tokens"]
    short = answer(farseek, model(tmp_path / "m"), "hi", "--chat-template", tmp_path / "t.jinja")
    assert short["prompt_tokens"] == 3 and short["answer"] == "Hello, world!"
    (tmp_path / "t.jinja").write_text("{{ 1 +")
    r = farseek("run", known, "hi", "--chat-template", tmp_path / "t.jinja", check=False)
    assert r.returncode == 1 and "t.jinja" in r.stderr and "line 1" in r.stderr


def test_the_clock_can_be_fixed(farseek, tmp_path, monkeypatch):
    m = model(tmp_path / "m", template="{{ strftime_now('%d %b %Y %H') }}{{ messages[0].content }}")
    hi = [{"role": "user", "content": "hi"}]
    assert rendered(farseek, m, hi, "--date", "2024-07-26")["prompt"] == "26 Jul 2024 00hi"
    monkeypatch.setenv("FARSEEK_DATE", "2024-07-26T09:30:00")
    assert rendered(farseek, m, hi)["prompt"] == "26 Jul 2024 09hi"
    assert answer(farseek, m, "hi")["prompt_tokens"] == len("26 Jul 2024 09hi")
    r = farseek("run", m, "hi", "--date", "yesterday", check=False)
    assert r.returncode == 2 and "2026-01-31" in r.stderr


def test_llama_31_puts_its_dates(farseek, tmp_path):
    """As the released template does, whose date is fixed where nobody gives one."""
    dates = ("{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
             "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}<|start_header_id|>system<|end_header_id|>\n\n"
             "Cutting Knowledge Date: December 2023\nToday Date: {{ date_string }}\n\n{{ messages[0].content }}\n")
    m = model(tmp_path / "m", template=dates)
    shown = rendered(farseek, m, [{"role": "user", "content": "hi"}], "--date", "2026-01-31")
    assert "Cutting Knowledge Date: December 2023\nToday Date: 31 Jan 2026\n\nhi" in shown["prompt"]
    assert farseek("run", m, "hi") == "Hello, world!\n"


def test_reasoning_of_a_template_model(farseek, tmp_path):
    opens = scripted.GEMMA.replace("model\n{% endif %}", "model\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}")
    m = model(tmp_path / "opens", ["so ", "it is", "</think>", "\n\n", "Four", "."], template=opens)
    r = answer(farseek, m, "2+2?")
    assert (r["reasoning"], r["answer"]) == ("so it is", "Four.")
    r = answer(farseek, m, "2+2?", "--no-thinking")
    assert (r["reasoning"], r["answer"]) == ("", "so it is</think>\n\nFour.")
    m = model(tmp_path / "says", ["<think>", "\nso", "</think>", "Four"])
    r = answer(farseek, m, "2+2?")
    assert (r["reasoning"], r["answer"]) == ("so", "Four")
    assert farseek("run", m, "<think>") == "Four\n"


def test_tools_are_shown_and_calls_are_lines(farseek, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    chatml = scripted.write_model(tmp_path / "chatml", ["ok", "\n" + CALL[:20], CALL[20:]])
    own = model(tmp_path / "own", ["ok", "\n" + CALL[:20], CALL[20:]],
                template="{% if tools %}{{ tools[0].function.name }} <tool_call>{% endif %}" + scripted.GEMMA)
    for m in (chatml, own):
        lines = farseek("run", m, "1+2?", "--tools", tmp_path / "tools.json").splitlines()
        assert lines[0] == "ok" and [json.loads(x) for x in lines[1:]] == [{"name": "add", "arguments": {"a": [1, 2]}}]
        r = answer(farseek, m, "1+2?", "--tools", tmp_path / "tools.json")
        assert r["answer"] == "ok" and r["calls"] == [{"name": "add", "arguments": {"a": [1, 2]}}]
        assert r["prompt_tokens"] > answer(farseek, m, "1+2?")["prompt_tokens"]
        assert farseek("run", m, "1+2?") == "ok\n" + CALL + "\n"
    (tmp_path / "tools.json").write_text("{}")
    r = farseek("run", own, "1+2?", "--tools", tmp_path / "tools.json", check=False)
    assert r.returncode == 1 and "not a JSON list of tools" in r.stderr


@pytest.mark.parametrize("config, first", [({}, []), ({"add_bos_token": True}, [0]), ({"add_bos_token": False}, [])])
def test_add_bos_token_says_how_a_raw_text_begins(farseek, tmp_path, config, first):
    m = model(tmp_path / "m", config=config)
    ids = [int(x) for x in farseek("tokenize", m, "--bos", stdin="hi").split()]
    assert ids[: len(ids) - 2] == first
    assert answer(farseek, m, "--raw", "hi")["prompt_tokens"] == 2 + len(first)
    assert rendered(farseek, m, [{"role": "user", "content": "hi"}])["ids"].count(0) == 1
