"""What the help of options says: each text makes sense without what stands above it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from rlchat.cli.main import VERBS
from rlchat.cli.options import ChatOptions, EvalOptions
from rlchat.inference.scripted_agent import SCRIPTED
from rlchat.models.starters import STARTERS

PRONOUNS = ("Its ", "It ", "They ", "Their ", "Them", "Those ", "The same", "Of ", "That ")


def texts(kind: type[Any]) -> dict[str, str]:
    """The texts below the fields of a dataclass, its bases' included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for one, following in zip(tree.body, [*tree.body[1:], None], strict=True):
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                said = following.value if isinstance(following, ast.Expr) else None
                if isinstance(said, ast.Constant) and isinstance(said.value, str):
                    found[one.target.id] = " ".join(said.value.split())
    return found


def options(kind: type[Any], of: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of all options, groups' included."""
    hints, told = typing.get_type_hints(kind), texts(kind)
    for one in fields(kind):
        if is_dataclass(hints[one.name]):
            yield from options(hints[one.name], f"{of}{one.name}.")
        else:
            yield of + one.name, told.get(one.name, "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_s_help_makes_sense_alone(verb: str) -> None:
    for name, text in options(VERBS[verb].options_class()):
        assert len(text.split()) >= 4, f"--{name}: {text!r}"
        assert text[0].isupper(), f"--{name}: {text}"
        assert not text.startswith(PRONOUNS), f"--{name}: {text}"
        assert text.endswith((".", ".)")), f"--{name}: {text}"


def test_where_an_agent_is_named_all_are_listed() -> None:
    for kind in (EvalOptions, ChatOptions):
        listed = dict(options(kind))["agent"]
        for name in (*SCRIPTED, *STARTERS, "base", "openai:MODEL@URL", "run or adapter folder"):
            assert name in listed, name


def test_help_loads_no_torch() -> None:
    """The options of every verb can be explained at once, and the verbs of a group listed."""
    code = (
        "import sys\n"
        "from rlchat.cli.main import VERBS, main\n"
        f"for verb in {[*VERBS, 'reward', 'feedback', 'models']}:\n"
        "    try:\n"
        "        main([*verb.split(), '--help'])\n"
        "    except SystemExit:\n"
        "        pass\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[3]
    path = ":".join(str(root / room) for room in ("envs", "reward_models", "."))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n[]\n"), done.stdout[-200:]
