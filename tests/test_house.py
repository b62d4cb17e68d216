import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    rooms = [str(ROOT / room) for room in ("envs", "reward_models", ".")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(rooms)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_text_world_loads_no_neural_network() -> None:
    done = run(
        sys.executable,
        "-c",
        "import sys, rlchat_envs; print(sorted({'torch', 'transformers'} & set(sys.modules)))",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_imports_run_one_way() -> None:
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_every_room_but_the_command_line_is_kept_from_the_terminal() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = (
        c
        for c in told["tool"]["importlinter"]["contracts"]
        if {"rich", "tyro"} <= set(c.get("forbidden_modules", ()))
    )
    rooms = {module.name for module in pkgutil.iter_modules([str(ROOT / "rlchat")])}
    assert set(contract["source_modules"]) == {f"rlchat.{room}" for room in rooms - {"cli"}}


def test_every_extra_that_a_message_names_can_be_installed() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    code = [p for room in ("rlchat", "envs", "reward_models") for p in (ROOT / room).rglob("*.py")]
    named = {e for p in code for e in re.findall(r"rlchat\[(\w+)\]", p.read_text("utf-8"))}
    assert "turtle" in named and named <= told["optional-dependencies"].keys()
