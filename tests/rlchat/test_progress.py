"""What is shown where nobody watches."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rlchat import progress
from rlchat.progress import Progress, signs


def heard(monkeypatch: pytest.MonkeyPatch, apart: float) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr(progress, "LINES_APART", apart)
    with Progress(Console(file=out)) as shown:
        shown.say("warm start")
        for i in range(3):
            shown.status(f"episode {i}")
    return out.getvalue().splitlines()


def test_a_log_hears_how_it_goes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(monkeypatch, 60.0) == ["warm start"]
    assert heard(monkeypatch, -1.0) == ["warm start", "episode 0", "episode 1", "episode 2"]


CALM = {"iteration": 0, "seconds": 1.0, "return": 0.5, "success": 0.5, "entropy": 0.3}


def test_what_looks_wrong_is_told_once() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=200), total=3) as shown:
        shown.iteration(CALM)
        shown.iteration({**CALM, "iteration": 1, "entropy": 0.01, "skipped_updates": 2.0})
        shown.iteration({**CALM, "iteration": 2, "entropy": 0.01})
    said = out.getvalue()
    assert said.count("hardly tries") == 1
    assert "iteration 1: entropy 0.01: the agent hardly tries anything any more" in said
    assert "2 updates skipped: not finite" in said


def test_a_score_that_rises_without_success_is_a_sign() -> None:
    rows = [{**CALM, "return": 0.1 * i, "success": 0.6 - 0.05 * i} for i in range(8)]
    assert signs(rows) == {"success": "return rises while success falls; read transcripts"}
    assert signs(rows[:7]) == {}  # too early to tell
    assert signs([{**r, "success": 0.6} for r in rows]) == {}
    assert signs([{**r, "success": float("nan")} for r in rows]) == {}  # it knows no success


def test_a_cost_that_rises_is_a_sign_whatever_the_score_does() -> None:
    rows = [{**CALM, "cost": 0.02 * i} for i in range(8)]  # .08 more over four iterations
    assert signs(rows) == {"cost": "what is unsafe grows more frequent; read transcripts"}
    assert signs([{**r, "cost": 0.01 * i} for i, r in enumerate(rows)]) == {}
