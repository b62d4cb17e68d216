"""What the text world's tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rlchat_envs import DialogueEnv, Scorer, ScriptedAgent
from rlchat_envs.scenarios.support import SupportScenario

Play = Callable[..., "Episode"]


@dataclass
class Episode:
    """What a whole episode left behind."""

    seen: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)  # the first is that of reset
    terminated: bool = False
    truncated: bool = False

    @property
    def success(self) -> bool:
        return bool(self.infos[-1]["success"])

    @property
    def turns(self) -> int:
        return len(self.scores)


@dataclass
class Lines:
    """An agent that reads its lines, and the last one for ever."""

    lines: list[str]
    spoken: int = 0

    def reply(self, conversation: object, privileged: object) -> str:
        line = self.lines[min(self.spoken, len(self.lines) - 1)] if self.lines else ""
        self.spoken += 1
        return line


@pytest.fixture(scope="session")
def play() -> Play:
    """Play an episode to its end: ``play(agent or lines, split=, seed=, users=, ...)``."""

    def run(
        agent: ScriptedAgent | list[str],
        split: str = "test",
        seed: int = 0,
        users: tuple[str, ...] = (),
        scorer: Scorer | None = None,
        **kwargs: Any,
    ) -> Episode:
        speaker = Lines(agent) if isinstance(agent, list) else agent
        env = DialogueEnv(SupportScenario(), split, users, scorer, **kwargs)
        observation, info = env.reset(seed=seed)
        episode = Episode([observation], [], [info])
        while not (episode.terminated or episode.truncated):
            said = speaker.reply(info["conversation"], info["privileged"])
            observation, score, episode.terminated, episode.truncated, info = env.step(said)
            episode.seen.append(observation)
            episode.scores.append(score)
            episode.infos.append(info)
        return episode

    return run
