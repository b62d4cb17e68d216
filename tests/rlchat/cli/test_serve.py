"""`rlchat serve`: mistakes are one sentence, keys are made once, and signals end it cleanly."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import httpx
import pytest

from rlchat.cli.main import main
from rlchat.cli.serving import serve
from rlchat.serving.http.keys import VARIABLE, is_loopback, read_keys

ROOT = Path(__file__).parents[3]
TINY = ["serve", "base", "--policy", "tiny", "--adapter.dtype", "float32", "--port", "0"]
WISH = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("serve", "expected at least one agent to serve; got none; try starter; *"),
        ("serve starter a=starter starter", "expected each agent once; got 'starter' twice; *"),
        ("serve =starter", "expected NAME=AGENT with a name; got '=starter'; *"),
        ("serve expert", "expected agents that are language models here: *; got 'expert'; *"),
        ("serve openai:x@http://h/v1", "expected agents that are language models here: *"),
        ("serve strater --port 0", "expected an agent: *; got 'strater'; did you mean starter?"),
        ("serve base --policy tiny --host 0.0.0.0", "expected keys where others can reach*"),
        ("serve base --policy tiny --host 203.0.113.7 --keys ok", "expected an address of this *"),
        ("serve base --policy tiny --port 70000", "expected port from 0 to 65535; got 70000; *"),
        ("serve base --keys absent", "expected a readable file of keys; got absent (FileNot*"),
        ("serve base --keys plain", "expected hashes of keys in plain, *entry 2; keys *"),
        ("serve base --keys empty", "expected hashes of keys in empty, *; got none; *"),
        ("serve base --generation.rows 0", "expected rows of at least 1; got 0; *"),
        ("serve base --generation.temperature nan", "expected temperature from 0 to 2; got nan*"),
        ("serve base --generation.thinking maybe", "expected off, on or a number of tokens*"),
        (
            "serve base --policy tiny --port 0 --generation.thinking on",
            "expected a model whose *",
        ),
        ("serve base --limits.request-s 0", "expected request_s above 0; got 0.0; *"),
        ("serve key folder/keys", "expected a file that can be written; got folder/keys (No such*"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain").write_text(f"sha256:{'0' * 64} a name\nmy-own-secret-key\n")
    Path("empty").write_text("# nobody\n")
    Path("ok").write_text(f"sha256:{'0' * 64}\n")
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "secret" not in said
    assert fnmatchcase(said.removeprefix("rlchat: ").strip(), sentence), said


def test_a_port_in_use_is_told_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "no-such-agent", "--port", str(port)]) == 2
    assert re.fullmatch(
        rf"rlchat: expected an address .*; got 127\.0\.0\.1:{port} \(.*in use\); .*\n",
        capsys.readouterr().err,
    )


def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "fastapi" else True)
    assert main(["serve", "starter"]) == 2
    assert "fastapi is not installed; run pip install 'rlchat[serve]'" in capsys.readouterr().err


def test_help_loads_neither_a_network_nor_a_server() -> None:
    code = (
        "import sys\nfrom rlchat.cli.main import main\n"
        "try:\n    main(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'fastapi', 'uvicorn', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "http://HOST:PORT/v1" in done.stdout and done.stdout.endswith("[]\n")


def test_a_key_is_shown_once_and_kept_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    made = []
    for name in ("Ada's phone", ""):
        assert main(["serve", "key", str(file), "--name", name]) == 0
        made.append(capsys.readouterr().out.strip())
    kept = file.read_text()
    assert not any(key in kept for key in made) and "Ada's phone" in kept
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = read_keys(file, {VARIABLE: "another-key-of-many-letters, and-one-more-of-them-x"})
    assert len(keys.hashes) == 4
    for key in (*made, "and-one-more-of-them-x"):
        assert keys.let_in(f"Bearer {key}") and keys.let_in(f"bearer  {key} ")
    assert not keys.let_in(f"Bearer {made[0][:-1]}") and not keys.let_in("")
    assert not read_keys(None, {})
    with pytest.raises(ValueError, match="of at least 20 letters in RLCHAT_API_KEYS; got one of 3"):
        read_keys(None, {VARIABLE: "abc"})


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")],
        ("localhost.example.org", False),
    ],
)
def test_what_is_this_machines_own(host: str, own: bool) -> None:
    assert is_loopback(host) is own


@contextmanager
def serving(log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    rooms = [str(ROOT / room) for room in ("envs", "reward_models", ".")]
    path = os.pathsep.join([*rooms, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-u", "-m", "rlchat.cli.main", *TINY]
    with log.open("w") as err:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
    try:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if found := re.match(r"Serving base on (http://127\.0\.0\.1:\d+)/v1 ", line):
                assert told[:2] == ["loading libraries\n", "loading base\n"]
                yield process, found[1]
                return
        raise AssertionError(told)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_signals_let_a_reply_end(number: signal.Signals, tmp_path: Path) -> None:
    with serving(tmp_path / "log") as (process, url):
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json={**WISH, "stream": True, "max_tokens": 200}
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(number)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]" and '"finish_reason": "length"' in rest[-2]
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 0 and said.endswith("Goodbye.\n")
        assert "waiting for 1 replies" in said
    assert "Traceback" not in (tmp_path / "log").read_text()
