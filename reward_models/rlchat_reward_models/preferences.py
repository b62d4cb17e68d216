"""Preferences: of two replies in one context, which is the better one, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlchat_envs import Conversation, Message
from rlchat_reward_models.splits import split_of

ROLES = ("system", "user", "assistant", "tool")


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


def read_preferences(path: Path) -> list[Preference]:
    """Read JSON lines in any of trl's preference formats.

    With a prompt or without (the messages that both replies begin with become the prompt), of
    messages or of plain strings.

    Raises:
        ValueError: no such file, an empty one, or lines that hold no preference: all of them are
            named, with what is wrong with the first.
    """
    try:
        # Not splitlines: JSON leaves U+2028 and its like unescaped inside a text.
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"expected a readable UTF-8 file of preferences; got {path}: {error}"
        ) from error
    read: list[Preference] = []
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            read.append(preference(json.loads(line), f"{path.name}:{number}"))
        except (ValueError, RecursionError) as error:
            bad.append((number, str(error)))
    if bad:
        more = f" (and lines {', '.join(str(n) for n, _ in bad[1:10])})" if bad[1:] else ""
        raise ValueError(
            f"expected trl's preference format on every line; {path} line {bad[0][0]}: "
            f"{bad[0][1]}{more}; mend or delete them"
        )
    if not read:
        raise ValueError(f"expected preferences, one a line; {path} is empty")
    return read


def preference(row: object, name: str) -> Preference:
    """Parse one line of a file.

    Args:
        row: parsed JSON.
        name: stands for its dialogue if the line names none.

    Raises:
        ValueError: it is no preference.
    """
    if not isinstance(row, Mapping) or not {"chosen", "rejected"} <= row.keys():
        raise ValueError("expected an object with chosen and rejected")
    prompt = _messages(row.get("prompt", []), "prompt", "user")
    chosen, rejected = (_messages(row[k], k, "assistant") for k in ("chosen", "rejected"))
    if "prompt" not in row:
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not chosen or not rejected:
        raise ValueError("expected chosen and rejected to say something")
    kept = _number(row, "weight", 1.0)
    if not 0 <= kept <= 1:
        raise ValueError(f"expected a weight from 0 to 1; got {kept}")
    measured = "difference" in row and "error" in row
    return Preference(
        prompt,
        chosen,
        rejected,
        kept,
        str(row.get("source", "file")),
        int(_number(row, "turn", sum(m.role == "assistant" for m in prompt))),
        str(row.get("dialogue", "")) or name,
        _number(row, "difference", 0.0) if measured else None,
        _number(row, "error", 0.0) if measured else None,
    )


def _messages(value: object, field: str, role: str) -> Conversation:
    """Messages, or a plain string as one message of ``role``."""
    if isinstance(value, str):
        return (Message(role, value),) if value else ()  # type: ignore[arg-type]
    if not isinstance(value, Sequence):
        raise ValueError(f"expected {field} to be text or a list of messages")
    return tuple(_message(m, field) for m in value)


def _message(value: object, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected {field} to hold objects with role and content")
    role, content = value.get("role"), value.get("content")
    if role not in ROLES or not isinstance(content, str):
        raise ValueError(f"expected {field} with roles of {', '.join(ROLES)} and text as content")
    return Message(role, content)


def _number(row: Mapping[str, Any], field: str, otherwise: float) -> float:
    value = row.get(field, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected {field} to be a number; got {value!r}")
    return float(value)


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
