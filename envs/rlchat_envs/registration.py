"""Gymnasium ids for scenarios, ours and other people's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from rlchat_envs.core.env import DialogueEnv
from rlchat_envs.core.protocols import Scenario
from rlchat_envs.users.llm import Writer, WrittenScenario


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the environment of a scenario: what `register` leaves with Gymnasium."""

    make_scenario: Callable[[], Scenario]

    def __call__(self, writers: Mapping[str, Writer] | None = None, **kwargs: Any) -> DialogueEnv:
        """Make it.

        Args:
            writers: language models that speak for users, by the names they have in ``users``.
            **kwargs: see `DialogueEnv`.
        """
        scenario = self.make_scenario()
        return DialogueEnv(WrittenScenario(scenario, writers) if writers else scenario, **kwargs)


def register(id: str, make_scenario: Callable[[], Scenario]) -> None:
    """Let ``gym.make(id, split=…, users=…)`` make a scenario's environment.

    Args:
        id: as Gymnasium wants it: ``Name-v0``, or ``space/Name-v0``.
        make_scenario: called without arguments, once an environment.
    """
    gym.register(id, entry_point=Maker(make_scenario))
