"""Scripted desks of the hard tier, made of those of the easy one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation
from rlchat_envs.scenarios.support.agents import (
    Expert,
    Habits,
    MediocreDesk,
    Speaker,
    missing_facts,
)
from rlchat_envs.scenarios.support.goals import load_data


class HardSpeaker(Speaker):
    """Can also tell what the record says against the customer."""

    def contradict(self, resolution: str, status: str, kind: bool) -> str:
        """Tell it, and make an offer."""
        manner = "kind" if kind else "curt"
        told = self.pick(load_data("hard/wording")["contradict"][manner]).format(status=status)
        return f"{told} {self.pick(self.words['offer'][manner][resolution])}"


class HardExpert:
    """Solves every problem like the easy expert, and tells kindly what contradicts the customer."""

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        rng = np.random.default_rng(seed)
        self._speaker = HardSpeaker(rng)
        self._expert = Expert(rng)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is best."""
        if privileged["untold"] and not missing_facts(privileged):
            resolution, status = str(privileged["resolution"]), str(privileged["status"])
            return self._speaker.contradict(resolution, status, kind=True)
        return self._expert.reply(of_problem(conversation, privileged), privileged)


# Milder than in the easy tier, where one wrong habit spoils one problem and not two.
EASY_HABITS = Habits(skips_policy=0.35, reads_first_rule=0.15, resolves_blind=0.05)


@dataclass(frozen=True, slots=True)
class HardHabits:
    """How often a mediocre desk does what, beside its easy habits; not a dial for PPO."""

    keeps_quiet: float = 0.25  # about what the record says, every time it makes an offer
    overlooks_exception: float = 0.25
    stretches_exception: float = 0.2  # to an order that does not fall under it


class HardMediocreDesk:
    """The demonstrator: the easy one, which also avoids unpleasant news and misreads exceptions."""

    def __init__(self, seed: int = 0, habits: HardHabits | None = None):
        """Make a desk; its generator decides when a habit shows."""
        rng = np.random.default_rng(seed)
        self._speaker = HardSpeaker(rng)
        self.habits = habits or HardHabits()
        self._desk = MediocreDesk(rng, EASY_HABITS)
        self._misreads = False

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        said, speaker, habits = of_problem(conversation, privileged), self._speaker, self.habits
        if all(m.role != "assistant" for m in said):
            excepted = privileged["twist"] == "exception"
            chance = habits.overlooks_exception if excepted else habits.stretches_exception
            self._misreads = bool(speaker.rng.random() < chance)
        resolution = str(privileged["misread" if self._misreads else "resolution"])
        move = self._desk.plan(said, {**privileged, "resolution": resolution})
        status = str(privileged["status"])
        if move.asks:
            return speaker.ask(move.asks, move.kind)
        if privileged["untold"] and speaker.rng.random() >= habits.keeps_quiet:
            return speaker.contradict(move.offer, status, move.kind)
        return speaker.offer(move.offer, status, move.kind)


def of_problem(conversation: Conversation, privileged: Mapping[str, Any]) -> Conversation:
    """The part of a conversation that is about the present problem."""
    opened = (i for i, m in enumerate(conversation) if m.content == privileged["opening"])
    return conversation[max(opened, default=0) :]
