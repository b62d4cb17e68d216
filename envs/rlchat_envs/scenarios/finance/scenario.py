"""Finance-v0: a consultation about which class of product suits a client's money."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rlchat_envs.consultation import ConsultCase, ConsultScenario
from rlchat_envs.consultation.agents import Demonstrator, Habits
from rlchat_envs.consultation.goals import Goal
from rlchat_envs.core.protocols import ScriptedAgent
from rlchat_envs.knowledge import Triple, read_triples
from rlchat_envs.users.personas import Persona

FOLDER = Path(__file__).parent
# There are a third fact, a remark and a promise to fail at: with the usual habits 1 in 4 succeeds.
HABITS = Habits(skips=0.15, usual=0.15, leaves_out=0.1, says_too_much=0.2)


class FinanceCase(ConsultCase):
    """A client's case, with what is known of the classes of products."""

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What the file says, as a graph, and each class's risk, term, cost and use."""
        return super().triples + _products()

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state, with the market and the sum that the client may have named."""
        market = self.goal.facts["market"]
        return {**super().privileged, "fact market": market, "sum": self.goal.shown["sum"]}


class FinanceScenario(ConsultScenario):
    """A bank's savings desk: the product has to suit, its risk is named, nothing promised."""

    def __init__(self) -> None:
        """The file lies beside the code."""
        super().__init__(FOLDER / "finance.yaml")

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """Those of every consultation; the demonstrator has habits of its own."""
        demonstrator = {"demonstrator": lambda seed: Demonstrator(self.spec, seed, HABITS)}
        return {**super().agents, **demonstrator}

    def open(
        self, goal: Goal, persona: Persona, split: str, rng: np.random.Generator
    ) -> FinanceCase:
        """Open a client's case.

        The client's opening is drawn twice, and the second is said: the published results have it
        so, and with another number of draws the same seeds would tell other stories.
        """
        drawn = super().open(goal, persona, split, rng)
        return FinanceCase(drawn.goal, drawn.user)


@cache
def _products() -> tuple[Triple, ...]:
    return read_triples(FOLDER / "products.tsv")
