"""The quickstart trains, evaluates and chats, by public names alone."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import rlchat
from rlchat.models.policy import Policy

PAGE = Path(__file__).parents[2] / "recipes" / "quickstart.py"


def test_it_runs(
    make_policy: Callable[..., Policy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, run = tmp_path / "start", tmp_path / "run"
    make_policy().save(start)
    runpy.run_path(str(PAGE))["main"](str(start), run, iterations=1, episodes=4, users=2)
    assert (run / "metrics.jsonl").is_file()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("success ") and said[1].startswith("95% interval of the gain: ")
    assert len(said) >= 3


def test_it_takes_public_names_alone() -> None:
    tree = ast.parse(PAGE.read_text("utf-8"))
    assert {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names} == {
        "rlchat"
    }
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported == {"pathlib"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "rlchat"
    }
    assert used <= set(rlchat.__all__)
