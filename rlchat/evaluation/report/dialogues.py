"""Episodes as a report shows them, wherever they were played."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlchat.rollout.trajectory import Ending, Episode


@dataclass(frozen=True, slots=True)
class Played:
    """Episodes that were played together: one iteration of a run, or one evaluation of an agent.

    Attributes:
        run: name of the run or file.
        label: what they are, such as ``iteration 3`` or ``PPO``.
        env: id of the environment.
        users: families of users.
        split: of the environment.
        iteration: in which they were practice; None for an evaluation.
    """

    run: str
    label: str
    env: str
    users: tuple[str, ...]
    split: str
    iteration: int | None = None


@dataclass(slots=True)
class Dialogue:
    """One episode, read from a file that somebody else may have written.

    Attributes:
        played: with which others.
        index: its number among them.
        seed: of the environment.
        messages: pairs of role and text.
        parts: the named score parts of each turn, without those that are zero.
        costs: of each turn, likewise.
        success: None where the environment tells none.
        ending: how it ended, as far as is known.
        thoughts: of each turn, if the agent thinks.
        facts: what the user wants and is, by name; see `goals`.
        tokens: what is known of its tokens, if they were recorded.
    """

    played: Played
    index: int
    seed: int
    messages: list[tuple[str, str]]
    parts: list[dict[str, float]]
    costs: list[dict[str, float]]
    success: bool | None
    ending: str
    thoughts: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    tokens: Mapping[str, Any] | None = None

    @property
    def score(self) -> float:
        """The sum of all parts that are numbers."""
        return sum(sum(p.values()) for p in self.parts)

    @property
    def failed(self) -> bool:
        """Whether the environment tells success, and there was none."""
        return self.success is False

    @property
    def goal(self) -> tuple[str, tuple[str, ...], str, int]:
        """Alike for episodes with the same user and the same goal."""
        return self.played.env, self.played.users, self.played.split, self.seed


def from_transcript(
    line: Mapping[str, Any], played: Played, tokens: Mapping[str, Any] | None
) -> Dialogue:
    """Read a line of a run's transcripts.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    success = line.get("success")
    return Dialogue(
        played,
        int(line["index"]),
        int(line["seed"]),
        [(str(m["role"]), str(m["content"])) for m in line["messages"]],
        [numbers(p) for p in line["parts"]],
        [numbers(c) for c in line.get("costs", ())],
        success if isinstance(success, bool) else None,
        _ending(line),
        [str(t) for t in line.get("thoughts", ())],
        tokens=tokens,
    )


def from_episode(episode: Episode, played: Played) -> Dialogue:
    """Take an evaluation's episode."""
    ending = episode.ending
    return Dialogue(
        played,
        episode.index,
        episode.seed,
        [(str(m.role), str(m.content)) for m in episode.conversation],
        [numbers(p) for p in episode.parts],
        [numbers(c) for c in episode.costs],
        episode.success,
        str(ending or (Ending.GOAL if episode.success else "")),
    )


def numbers(parts: Mapping[str, Any]) -> dict[str, float]:
    """Of named parts those that are finite and not zero."""
    return {
        str(name): round(float(value), 6)
        for name, value in parts.items()
        if isinstance(value, int | float) and math.isfinite(value) and value
    }


def _ending(line: Mapping[str, Any]) -> str:
    """How an episode ended; runs of earlier versions did not write it down in a word."""
    if isinstance(line.get("ending"), str):
        return str(line["ending"])
    if line.get("truncated"):
        return "truncated"
    success = line.get("success")
    if not line.get("terminated") or not isinstance(success, bool):
        return ""
    return str(Ending.GOAL if success else Ending.GAVE_UP)


def with_success(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """Those of environments that tell success."""
    return [d for d in dialogues if d.success is not None]
