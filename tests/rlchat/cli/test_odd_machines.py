"""Odd machines: another locale, no home folder, nothing that can be written, odd names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rlchat.models.fetching.catalog import make_tiny

ROOT = Path(__file__).parents[3]
# Runs verbs one after the other, in a process that may write below one folder alone; a user
# without HOME is not in the list of users either.
PROGRAM = """
import errno, json, os, pwd, sys

allowed, commands = os.path.realpath(sys.argv[1]), json.loads(sys.argv[2])
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
changes = {"os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,)}


def guard(event, arguments):
    if event == "open" and arguments[2] & writing:
        places = [arguments[0]]
    else:
        places = [arguments[i] for i in changes.get(event, ())]
    for place in places:
        if isinstance(place, int) or place is None:
            continue
        path = os.path.realpath(os.fsdecode(place))
        if not path.startswith((allowed + os.sep, "/dev/", "/proc/")) and path != allowed:
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), path)


def nobody(user):
    raise KeyError(user)


if "HOME" not in os.environ:
    pwd.getpwuid = nobody
sys.addaudithook(guard)
from rlchat.cli.main import main

for words in commands:
    status = main(words)
    print("status", status, flush=True)
"""
OPTIONS = "--adapter.dtype float32 --adapter.device cpu"
SFT = f"{OPTIONS} --warm-start.demonstrations 4 --warm-start.epochs 1"
NAMES = {"HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME", "XDG_DATA_HOME"}
OWN = {"RLCHAT_CACHE", "RLCHAT_DATA", "HF_HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR"}


def run(
    allowed: Path, commands: list[list[str]], environment: Mapping[str, str], typed: str = ""
) -> tuple[list[int], str, str]:
    """Run verbs; give their statuses, and what was printed and complained of."""
    kept = {k: v for k, v in os.environ.items() if k not in NAMES | OWN}
    paths = os.pathsep.join(map(str, (ROOT, *(ROOT / room for room in ("envs", "reward_models")))))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(allowed), json.dumps(commands)],
        env=kept | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd=allowed,
        input=typed.encode(),
        capture_output=True,
    )
    out, complaint = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    assert "Traceback" not in complaint, complaint
    assert done.returncode == 0, complaint
    lines = [line for line in out.splitlines() if line.startswith("status ")]
    return [int(line.split()[1]) for line in lines], out, complaint


def commands(base: str, out: str) -> list[list[str]]:
    """A start by imitation, an evaluation, and a talk through a pipe."""
    return [
        ["sft", "--policy", base, "--out", out, *SFT.split()],
        ["eval", out, "--episodes", "1", *OPTIONS.split(), "--json", f"{out}.json"],
        ["chat", out, *OPTIONS.split()],
    ]


TYPED = "Hällo, wo ist mein Päckchen 😀?\n+\n/save Gespräch eins.jsonl\n"


def test_nothing_needs_a_home_or_a_folder_that_can_be_written(tmp_path: Path) -> None:
    """A service's user in a container: all that is written goes below the system's own folder."""
    place = tmp_path / "tmp"
    place.mkdir()
    statuses, _, complaint = run(place, commands("tiny", "a run"), {"TMPDIR": str(place)}, TYPED)
    assert statuses == [0, 0, 0], complaint
    assert "set RLCHAT_CACHE to a folder that stays" in complaint
    assert "set RLCHAT_DATA to a folder that stays" in complaint
    assert (place / f"rlchat-{os.getuid()}" / "rlchat_data" / "feedback.db").is_file()
    assert not (place / "~").exists()


def test_a_home_that_cannot_be_written_takes_a_sentence(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    make_tiny(place / "model")
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(place)}
    asked = [["models", "fetch", "tiny"], *commands("model", "run")]
    statuses, _, complaint = run(place, asked, environment, TYPED)
    assert statuses == [2, 0, 0, 0], complaint
    assert "set RLCHAT_CACHE to a folder of yours" in complaint


def test_the_plainest_locale(tmp_path: Path) -> None:
    environment = {
        **{"LANG": "C", "LC_ALL": "C", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        **{"RLCHAT_DATA": str(tmp_path / "Dätä")},
    }
    make_tiny(tmp_path / "ein Modell für alle")
    asked = commands("ein Modell für alle", "Läufe/der erste")
    statuses, _, complaint = run(tmp_path, asked, environment, TYPED)
    assert statuses == [0, 0, 0], complaint
    assert (tmp_path / "Läufe" / "der erste" / "adapter_model.safetensors").is_file()
    saved = (tmp_path / "Gespräch eins.jsonl").read_text("utf-8")
    assert "Hällo, wo ist mein Päckchen 😀?" in saved


def test_a_locale_that_lacks_a_letter_takes_a_sentence(tmp_path: Path) -> None:
    """Python takes UTF-8 in the plainest locale, unless it is told not to."""
    environment = {
        **{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        **{"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    }
    asked = [["envs"], ["sft", "--policy", "tiny", "--out", "Läufe", *SFT.split()]]
    statuses, _, complaint = run(tmp_path, asked, environment)
    assert statuses == [0, 2]
    assert "expected names that this locale can write (ascii); got" in complaint
    assert "set PYTHONUTF8=1" in complaint


@pytest.mark.long
def test_a_training_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    small = (
        "--episodes 4 --ppo.minibatches 1 --ppo.critic-warmup 0 --rollout.rows 4 "
        "--rollout.max-new-tokens 4 --iterations 1 --evaluation 1"
    )
    odd = "mit  zwei Leerzeichen, 'quotes' & ümläuten"
    words = ["--policy", "tiny", "--run", odd, *SFT.split(), *small.split()]
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    asked = [["train", *words], ["train", *words, "--resume"], ["chat", odd, *OPTIONS.split()]]
    statuses, _, complaint = run(tmp_path, asked, environment, TYPED)
    assert statuses == [0, 0, 0], complaint
