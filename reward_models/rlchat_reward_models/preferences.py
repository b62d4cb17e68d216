"""Preferences: of two replies in one context, which is the better one, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlchat_envs import Conversation, Message
from rlchat_reward_models.messages import messages_of, transcript, whole
from rlchat_reward_models.records import read
from rlchat_reward_models.splits import split_of


@dataclass(frozen=True, slots=True)
class Preference:
    """One comparison, in trl's conversational preference format with four fields more.

    ``chosen`` and ``rejected`` are what follows ``prompt``: one assistant message, or a whole
    conversation where nothing is shared. ``weight`` in (0, 1] says how much better: 1 if every
    rater would agree, near 0 for a toss-up. ``difference`` and ``error`` are the outcomes' mean
    difference and its standard error, in score units, where outcomes were measured.
    """

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    weight: float = 1.0
    source: str = "file"
    turn: int = 0
    dialogue: str = ""
    difference: float | None = None
    error: float | None = None

    @property
    def probability(self) -> float:
        """Probability that a rater prefers ``chosen``: the soft label (1 + weight) / 2."""
        return (1 + self.weight) / 2

    @property
    def clear(self) -> bool:
        """Whether outcomes differ by more than two standard errors; True if none were measured."""
        if self.difference is None or self.error is None:
            return True
        return self.difference > 2 * self.error

    @property
    def context(self) -> tuple[str, Conversation]:
        """Dialogue and prompt, which its replies share with those of other comparisons."""
        return self.dialogue, self.prompt

    @property
    def held_out(self) -> bool:
        """Whether its dialogue is in the held-out split."""
        return split_of(self.dialogue) == "held-out"

    def to_json(self) -> dict[str, Any]:
        """Make a line of a file."""
        row: dict[str, Any] = {
            "prompt": messages_to_json(self.prompt),
            "chosen": messages_to_json(self.chosen),
            "rejected": messages_to_json(self.rejected),
            "weight": round(self.weight, 4),
            "source": self.source,
            "turn": self.turn,
            "dialogue": self.dialogue,
        }
        if self.difference is not None and self.error is not None:
            row |= {"difference": round(self.difference, 4), "error": round(self.error, 4)}
        return row


def messages_to_json(messages: Conversation) -> list[dict[str, str]]:
    """Messages as transformers' chat format."""
    return [{"role": m.role, "content": m.content} for m in messages]


def weight(difference: float, error: float, noise: float) -> float:
    """How much more often raters agree than disagree, 2 Φ(d / sqrt(e² + s²)) − 1.

    Thurstone 1927 ("A law of comparative judgment"): a rater sees the difference ``d`` with
    normal noise of its own, ``s``, on top of the error ``e`` with which it was measured.

    Args:
        difference: of outcomes, at least 0.
        error: its standard error.
        noise: the rater's, in the same units, above 0.
    """
    return math.erf(difference / math.sqrt(2 * (error**2 + noise**2)))


@dataclass(frozen=True, slots=True)
class Tidied:
    """Preferences fit to learn from, and what was left out."""

    preferences: list[Preference]
    ties: int
    duplicates: int
    contradictions: int


def tidy(preferences: Iterable[Preference]) -> Tidied:
    """Leave out ties, and what was said before.

    A pair that comes again either way round counts once. Where both ways round occur, raters
    contradict each other, and the weights decide: the pair stays with what is left of the
    larger one.
    """
    ties = total = 0
    found: dict[tuple[Conversation, frozenset[Conversation]], list[Preference]] = {}
    for p in preferences:
        if p.weight <= 0 or p.chosen == p.rejected:
            ties += 1
            continue
        total += 1
        found.setdefault((p.prompt, frozenset((p.chosen, p.rejected))), []).append(p)
    kept, contradictions = [], 0
    for alike in found.values():
        first = alike[0]
        against = [p for p in alike if p.chosen == first.rejected]
        if not against:
            kept.append(first)
            continue
        contradictions += 1
        kept += _weighed(first, max(against, key=lambda p: p.weight))
    return Tidied(kept, ties, total - len(found), contradictions)


def _weighed(a: Preference, b: Preference) -> list[Preference]:
    """The heavier of two that contradict each other, with the difference of their weights."""
    heavier, left = (a, a.weight - b.weight) if a.weight >= b.weight else (b, b.weight - a.weight)
    if left <= 0:
        return []
    return [replace(heavier, weight=left)]


def read_preferences(
    source: str | Path, warn: Callable[[str], None] = lambda line: None
) -> list[Preference]:
    """Read a file, or a data set of the hub, in any of trl's preference formats.

    With a prompt or without (what both replies begin with becomes the prompt), of messages or of
    plain strings. Rows that hold no preference are left out.

    Args:
        source: what `rlchat_reward_models.records.read` takes.
        warn: told once what was left out, by reason and line.

    Raises:
        ValueError: no such file, or nothing in it that can be used.
    """
    name = Path(source).name

    def parse(row: Mapping[str, Any], number: int) -> Preference:
        return preference(row, f"{name}:{number}")

    return read(source, "preferences", parse, warn)


def preference(row: object, name: str) -> Preference:
    """Parse one row of a file.

    Args:
        row: parsed JSON.
        name: stands for its dialogue if the row names none.

    Raises:
        ValueError: it is no preference.
    """
    if not isinstance(row, Mapping) or not {"chosen", "rejected"} <= row.keys():
        raise ValueError("expected an object with chosen and rejected")
    prompt, chosen, rejected = _sides(row)
    if not chosen or not rejected:
        raise ValueError("expected chosen and rejected to say something")
    measured = "difference" in row and "error" in row
    return Preference(
        prompt,
        chosen,
        rejected,
        _kept_weight(row),
        whole(str(row.get("source", "file"))),
        int(_number(row, "turn", sum(m.role == "assistant" for m in prompt))),
        whole(str(row.get("dialogue", ""))) or name,
        _number(row, "difference", 0.0) if measured else None,
        _number(row, "error", 0.0) if measured else None,
    )


def _kept_weight(row: Mapping[str, Any]) -> float:
    """A row's weight; 0, a tie, where a judge gave both replies the same score."""
    kept = _number(row, "weight", 1.0)
    if not 0 <= kept <= 1:
        raise ValueError(f"expected a weight from 0 to 1; got {kept}")
    scores = [row.get(f"score_{side}") for side in ("chosen", "rejected")]
    return 0.0 if None not in scores and scores[0] == scores[1] else kept


def _sides(row: Mapping[str, Any]) -> tuple[Conversation, Conversation, Conversation]:
    """Prompt, chosen and rejected, in which nothing is said twice."""
    chosen, rejected = (_messages(row[k], k, "assistant") for k in ("chosen", "rejected"))
    if row.get("prompt") is None:
        shared = _shared(chosen, rejected)
        if isinstance(row["chosen"], str):  # of a transcript: up to the last mark of an assistant
            while shared and chosen[shared].role != "assistant":
                shared -= 1
        return chosen[:shared], chosen[shared:], rejected[shared:]
    prompt = _messages(row["prompt"], "prompt", "user")
    repeats = [_repeated(prompt, side) for side in (chosen, rejected)]
    if not any(repeats):
        return prompt, chosen, rejected
    begun = max(chosen[: repeats[0]], rejected[: repeats[1]], key=len)
    chosen, rejected = chosen[repeats[0] :], rejected[repeats[1] :]
    shared = _shared(chosen, rejected) if all(repeats) else 0
    told = tuple(m for m in prompt if m.role == "system" and m not in begun)
    return (*told, *begun, *chosen[:shared]), chosen[shared:], rejected[shared:]


def _repeated(prompt: Conversation, side: Conversation) -> int:
    """How many messages a side begins with that say what the user said in the prompt."""
    asked = [m.content.strip() for m in prompt if m.role == "user"]
    said: list[str] = []
    for number, m in enumerate(side[:-1], 1):
        said += [m.content.strip()] * (m.role == "user")
        if asked and said[-len(asked) :] == asked and m.role == "user":
            return number
    return 0


def _messages(value: object, field: str, role: str) -> Conversation:
    """Messages, a transcript, or a plain string as one message of ``role``."""
    if isinstance(value, str):
        return transcript(value) or ((Message(role, whole(value)),) if value else ())  # type: ignore[arg-type]
    return () if value is None else messages_of(value, field)


def _number(row: Mapping[str, Any], field: str, otherwise: float) -> float:
    value = row.get(field, otherwise)
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"expected {field} to be a number; got {value!r}")
    return found


def _shared(a: Conversation, b: Conversation) -> int:
    """How many messages two conversations begin with alike, less than all of the shorter one."""
    same = 0
    for one, other in zip(a[:-1], b[:-1], strict=False):
        if one != other:
            break
        same += 1
    return same


def by_source(preferences: Iterable[Preference]) -> Iterator[tuple[str, list[Preference]]]:
    """Groups of one source, in the order in which sources come first."""
    groups: dict[str, list[Preference]] = {}
    for p in preferences:
        groups.setdefault(p.source.partition(":")[0], []).append(p)
    yield from groups.items()
