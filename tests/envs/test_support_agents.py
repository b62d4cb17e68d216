"""What scripted desks score, on 300 test-side episodes each.

The table of docs/support-v0.md comes from here:

    pytest tests/envs/test_support_agents.py -k page -s
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlchat_envs import SPLITS, ScriptedAgent
from rlchat_envs.support.agents import (
    Expert,
    MediocreDesk,
    OneResolution,
    PoliteRepeater,
    RandomDesk,
    Sprayer,
)
from rlchat_envs.support.goals import RESOLUTIONS
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[2] / "docs" / "support-v0.md"
EPISODES = 300
AGENTS: dict[str, Callable[[int], ScriptedAgent]] = {
    "expert": Expert,
    "demonstrator": MediocreDesk,
    "random": RandomDesk,
    "Sprayer": lambda seed: Sprayer(),
    "PoliteRepeater": lambda seed: PoliteRepeater(),
    **{f"OneResolution({r})": partial(OneResolution, r) for r in RESOLUTIONS},
}


@dataclass(frozen=True)
class Row:
    """Means over episodes."""

    success: float
    score: float  # of the environment alone
    manners: float  # what `RuleScorer` adds
    turns: float

    def __str__(self) -> str:
        scored = f"{self.score:+.2f} | {self.score + self.manners:+.2f}"
        return f"{self.success:.1%} | {scored} | {self.turns:.1f}"


@pytest.fixture(scope="module")
def measure(play: Callable[..., Any]) -> Callable[[str, str], Row]:
    """Play each agent once and keep the row."""
    known: dict[tuple[str, str], Row] = {}

    def row(name: str, split: str = "test") -> Row:
        if (name, split) not in known:
            played = [
                play(AGENTS[name](seed), split, seed, scorer=RuleScorer())
                for seed in range(EPISODES)
            ]
            parts = [[i["parts"] for i in e.infos[1:]] for e in played]
            score = [sum(p["progress"] + p["resolution"] for p in ps) for ps in parts]
            known[name, split] = Row(
                float(np.mean([e.success for e in played])),
                float(np.mean(score)),
                float(np.mean([sum(e.scores) for e in played]) - np.mean(score)),
                float(np.mean([e.turns for e in played])),
            )
        return known[name, split]

    return row


Measure = Callable[..., Row]


def test_the_expert_solves_it(measure: Measure) -> None:
    assert measure("expert").success >= 0.97
    assert measure("expert").score >= 0.95


@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(measure: Measure, split: str) -> None:
    """Good enough to learn from, and far enough from the expert to leave PPO something to do."""
    assert 0.5 <= measure("demonstrator", split).success <= 0.75


def test_luck_is_not_enough(measure: Measure) -> None:
    assert measure("random").success <= 0.05


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_no_single_resolution_is_enough(measure: Measure, resolution: str) -> None:
    assert measure(f"OneResolution({resolution})").success <= 0.20


@pytest.mark.parametrize("name", ["Sprayer", "PoliteRepeater"])
def test_words_alone_are_not_enough(measure: Measure, name: str) -> None:
    assert measure(name).success <= 0.10


def test_the_page_tells_what_is_measured(measure: Measure) -> None:
    rows = [f"| `{name}` | {measure(name)} |" for name in AGENTS]
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"
