"""What is shown where nobody watches."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rlchat import progress
from rlchat.progress import Progress


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
