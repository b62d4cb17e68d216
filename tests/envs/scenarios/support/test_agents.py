"""What scripted desks score in both tiers, on 300 test-side episodes each.

The tables of docs/worlds/support-v0.md come from here:

    pytest tests/envs/scenarios/support/test_agents.py -k page -s
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlchat_envs import SPLITS, DialogueEnv, Scenario, ScriptedAgent
from rlchat_envs.baselines.polite import PoliteRepeater
from rlchat_envs.baselines.retrieval import RetrievalAgent
from rlchat_envs.scenarios.support import SupportHardScenario, SupportScenario
from rlchat_envs.scenarios.support.agents import (
    Expert,
    MediocreDesk,
    OneResolution,
    RandomDesk,
    Sprayer,
)
from rlchat_envs.scenarios.support.goals import RESOLUTIONS
from rlchat_envs.scenarios.support.graph_agent import KnowledgeGraphDesk
from rlchat_envs.scenarios.support.hard.agents import HardExpert, HardMediocreDesk
from rlchat_envs.scenarios.support.hard.graph_agent import HardKnowledgeGraphDesk
from rlchat_envs.users.personas import FAMILIES
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "support-v0.md"
EPISODES = 300
EASY, HARD = SupportScenario(), SupportHardScenario()
BASELINES: dict[str, Callable[[int], ScriptedAgent]] = {
    "random": RandomDesk,
    "Sprayer": lambda seed: Sprayer(),
    "PoliteRepeater": lambda seed: PoliteRepeater(),
}
ONE = {f"OneResolution({r})": partial(OneResolution, r) for r in RESOLUTIONS}
FEW = {name: ONE[name] for name in ("OneResolution(store_credit)", "OneResolution(voucher)")}
AGENTS: dict[Scenario, dict[str, Callable[[int], ScriptedAgent]]] = {
    EASY: {
        "expert": Expert,
        "demonstrator": MediocreDesk,
        "knowledge-graph": KnowledgeGraphDesk,
        "retrieval": partial(RetrievalAgent, EASY),
        **BASELINES,
        **ONE,
    },
    HARD: {
        "expert": HardExpert,
        "demonstrator": HardMediocreDesk,
        "knowledge-graph": HardKnowledgeGraphDesk,
        "retrieval": partial(RetrievalAgent, HARD),
        **BASELINES,
        **FEW,  # those with the most success of all
    },
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


Measure = Callable[..., Row]


@pytest.fixture(scope="module")
def measure() -> Measure:
    """Play each agent once and keep the row."""
    known: dict[tuple[Any, ...], Row] = {}

    def row(
        name: str, split: str = "test", tier: Scenario = EASY, users: tuple[str, ...] = ()
    ) -> Row:
        key = (tier, name, split, users)
        if key not in known:
            env = DialogueEnv(tier, split, users, RuleScorer())
            played = [run(env, AGENTS[tier][name](seed), seed) for seed in range(EPISODES)]
            # Rounded, as a mean may lie just between two printed numbers.
            known[key] = Row(*(round(float(mean), 6) for mean in np.mean(played, axis=0)))
        return known[key]

    return row


def run(env: DialogueEnv, agent: ScriptedAgent, seed: int) -> tuple[float, float, float, float]:
    """Success, the environment's score, manners and turns of an episode."""
    _, info = env.reset(seed=seed)
    score = manners = 0.0
    over = False
    while not over:
        said = agent.reply(info["conversation"], info["privileged"])
        _, total, terminated, truncated, info = env.step(said)
        own = info["parts"]["progress"] + info["parts"]["resolution"]
        score, manners = score + own, manners + total - own
        over = terminated or truncated
    return float(info["success"]), score, manners, float(info["turn"])


@pytest.mark.long
@pytest.mark.parametrize("tier", [EASY, HARD])
def test_the_expert_solves_it(measure: Measure, tier: Scenario) -> None:
    assert measure("expert", tier=tier).success >= 0.97
    assert measure("expert", tier=tier).score >= 0.95
    assert measure("expert", tier=tier, users=tuple(FAMILIES)).success >= 0.97


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(measure: Measure, split: str) -> None:
    """Good enough to learn from, and far enough from the expert to leave PPO something to do."""
    assert 0.5 <= measure("demonstrator", split).success <= 0.75
    assert 0.3 <= measure("demonstrator", split, HARD).success <= 0.55


@pytest.mark.long
@pytest.mark.parametrize("tier", [EASY, HARD])
def test_rules_and_memory_go_as_far_as_they_do(measure: Measure, tier: Scenario) -> None:
    assert measure("knowledge-graph", tier=tier).success >= 0.9
    assert measure("knowledge-graph", tier=tier).turns > measure("expert", tier=tier).turns
    retrieval, blind = (measure(name, tier=tier).success for name in ("retrieval", "random"))
    assert blind + 0.05 < retrieval < measure("demonstrator", tier=tier).success


@pytest.mark.long
@pytest.mark.parametrize("tier", [EASY, HARD])
def test_luck_is_not_enough(measure: Measure, tier: Scenario) -> None:
    assert measure("random", tier=tier).success <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("name", ONE)
def test_no_single_resolution_is_enough(measure: Measure, name: str) -> None:
    assert measure(name).success <= 0.20
    assert name not in FEW or measure(name, tier=HARD).success <= 0.10


@pytest.mark.long
@pytest.mark.parametrize("name", ["Sprayer", "PoliteRepeater"])
def test_words_alone_are_not_enough(measure: Measure, name: str) -> None:
    assert measure(name).success <= 0.10
    assert measure(name, tier=HARD).success <= 0.10


@pytest.mark.long
@pytest.mark.parametrize("tier", [EASY, HARD])
def test_the_page_tells_what_is_measured(measure: Measure, tier: Scenario) -> None:
    rows = [f"| `{name}` | {measure(name, tier=tier)} |" for name in AGENTS[tier]]
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"
