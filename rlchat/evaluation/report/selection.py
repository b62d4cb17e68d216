"""Which episodes a page has room for, and how a page holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rlchat.evaluation.report.dialogues import Dialogue, Played
from rlchat.evaluation.report.endings import in_words

_UNSAFE = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def chosen(dialogues: Sequence[Dialogue], most: int, room: int) -> list[Dialogue]:
    """Choose episodes: failures first, evenly over all that were played together.

    Episodes of the same user and goal come together, so that they can be read side by side.

    Args:
        dialogues: all of them.
        most: episodes, at most.
        room: bytes, at most.

    Returns:
        Those that are chosen, in the order in which they came.
    """
    goals: dict[object, list[int]] = {}
    for i, dialogue in enumerate(dialogues):
        goals.setdefault(dialogue.goal, []).append(i)
    queues: dict[Played, list[list[int]]] = {}
    for own in goals.values():
        queues.setdefault(dialogues[own[0]].played, []).append(own)
    for queue in queues.values():  # those to be taken next are last
        queue.sort(key=lambda own: _rank(dialogues, own), reverse=True)
    taken: list[int] = []
    while any(queues.values()):
        for queue in queues.values():
            if not queue:
                continue
            own = queue.pop()
            size = sum(_size(_dumped(_told(dialogues[i], 0))) for i in own)
            if len(taken) + len(own) > most or size > room:
                continue
            taken += own
            room -= size
    return [dialogues[i] for i in sorted(taken)]


def _rank(dialogues: Sequence[Dialogue], own: Sequence[int]) -> tuple[bool, bool, int]:
    """Failures before others, those with tokens before those without, then by index."""
    first = dialogues[own[0]]
    failed = any(dialogues[i].failed for i in own)
    return not failed, not any(dialogues[i].tokens for i in own), first.index


def as_data(dialogues: Sequence[Dialogue]) -> str:
    """Episodes as JSON that may stand in a page: nothing in it can end the element around it."""
    played = list(dict.fromkeys(d.played for d in dialogues))
    place = {p: i for i, p in enumerate(played)}
    sets = [{"run": p.run, "label": p.label, "env": p.env, "split": p.split} for p in played]
    told = [_told(d, place[d.played]) for d in dialogues]
    return _dumped({"sets": sets, "episodes": told})


def _told(dialogue: Dialogue, place: int) -> dict[str, Any]:
    env, users, split, seed = dialogue.goal
    found: dict[str, Any] = {
        "set": place,
        "index": dialogue.index,
        "goal": f"{env} {','.join(users)} {split} {seed}",
        "success": dialogue.success,
        "ending": in_words(dialogue.ending),
        "score": round(dialogue.score, 4),
        "messages": dialogue.messages,
        "parts": dialogue.parts,
        "costs": dialogue.costs if any(dialogue.costs) else [],
        "facts": dialogue.facts,
    }
    if any(dialogue.thoughts):
        found["thoughts"] = dialogue.thoughts
    if dialogue.tokens is not None:
        found["tokens"] = dialogue.tokens
    return found


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _dumped(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join(_UNSAFE.get(c, c) for c in text) if any(c in text for c in _UNSAFE) else text
