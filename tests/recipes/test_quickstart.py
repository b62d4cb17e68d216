"""The quickstart trains, evaluates and chats, by public names alone."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rlchat
from rlchat.models.policy import Policy

PAGE = Path(__file__).parents[2] / "recipes" / "quickstart.py"


@dataclass
class Printed:
    """What the page printed, and what its calls of the public API gave."""

    run: Path
    text: str
    results: list[rlchat.EvaluationResult]
    session: rlchat.ChatSession
    pieces: list[str]


@pytest.fixture(scope="module")
def printed(
    make_policy: Callable[..., Policy], tmp_path_factory: pytest.TempPathFactory
) -> Printed:
    folder = tmp_path_factory.mktemp("quickstart")
    start, run, out = folder / "start", folder / "run", io.StringIO()
    make_policy().save(start)
    results: list[rlchat.EvaluationResult] = []
    sessions: list[rlchat.ChatSession] = []
    pieces: list[str] = []
    evaluate = rlchat.evaluate

    def measured(*args: Any, **kwargs: Any) -> rlchat.EvaluationResult:
        results.append(evaluate(*args, **kwargs))
        return results[-1]

    class Session(rlchat.ChatSession):
        def reply(self, text: str) -> Iterator[str]:
            sessions.append(self)
            for piece in super().reply(text):
                pieces.append(piece)
                yield piece

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(rlchat, "evaluate", measured)
        patch.setattr(rlchat, "ChatSession", Session)
        runpy.run_path(str(PAGE))["main"](str(start), run, iterations=1, episodes=4, users=2)
    return Printed(run, out.getvalue(), results, sessions[0], pieces)


def test_it_trains_an_agent_that_can_be_loaded(printed: Printed) -> None:
    rows = [json.loads(line) for line in (printed.run / "metrics.jsonl").open(encoding="utf-8")]
    assert [row["iteration"] for row in rows] == [0]
    assert len(list((printed.run / "transcripts").iterdir())) == 1
    trained = rlchat.load_agent(printed.run)
    assert trained.batched is not None
    assert trained.version != rlchat.load_agent(printed.run.parent / "start").version


def test_it_tells_success_and_what_training_gained(printed: Printed) -> None:
    after, before = printed.results
    assert after.split == before.split == "dev"
    assert [e.seed for e in after.episodes] == [e.seed for e in before.episodes]
    assert len(after.episodes) == 2
    rate, gain = after.metrics["success"], after.minus(before)["success"]
    assert 0 <= rate.low <= rate.mean <= rate.high <= 1 and rate.low < rate.high
    lines = printed.text.splitlines()
    assert lines[0] == f"success {rate.mean:.0%}, {gain.mean:+.0%} by training"
    assert lines[1] == f"95% interval of the gain: {gain.low:+.0%} to {gain.high:+.0%}"


def test_it_prints_the_reply_as_it_comes(printed: Printed) -> None:
    reply = printed.session.conversation[-1]
    assert [m.content for m in printed.session.conversation if m.role == "user"] == [
        "Hello, where is my parcel?"
    ]
    assert reply.role == "assistant" and len(printed.pieces) > 1
    assert "".join(printed.pieces) == reply.content
    assert printed.text.endswith(f"{reply.content}\n")


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
