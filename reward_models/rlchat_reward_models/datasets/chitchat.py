"""People's own ratings of their conversations, as preferences between two of them.

The chitchat dataset (BYU Perception, Control and Cognition Lab, MIT licence) holds conversations
of two strangers, rated by a person who took part: witty, interesting, upbeat, from 1 to 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat_envs import Conversation, Message
from rlchat_reward_models.preferences import Preference, weight
from rlchat_reward_models.splits import Split, split_of

SOURCE = "chitchat"
UNTOUCHED = 5  # what the form showed before anybody moved it
ASPECTS = ("witty", "interesting", "upbeat")
LEAST_MESSAGES = 4
NOISE = 1.5  # points on a scale of 10 by which a person might have rated otherwise


@dataclass(frozen=True, slots=True)
class Rated:
    """A conversation and its mean rating, from 1 to 10."""

    name: str
    conversation: Conversation
    rating: float


def load() -> Mapping[str, Any]:
    """Load the data of the installed package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import chitchat_dataset
    except ImportError as error:
        raise ValueError(
            "expected the package chitchat-dataset for people's ratings; it is not installed; "
            "pip install 'rlchat[people]'"
        ) from error
    data: Mapping[str, Any] = chitchat_dataset.Dataset()
    return data


def rated(data: Mapping[str, Any]) -> Iterator[Rated]:
    """Conversations whose three ratings were all moved off the form's default."""
    for name, entry in data.items():
        given = entry.get("ratings") or {}
        points = [int(given[a]) for a in ASPECTS if a in given]
        if len(points) < len(ASPECTS) or UNTOUCHED in points:
            continue
        conversation = _conversation(entry["messages"])
        if len(conversation) >= LEAST_MESSAGES:
            yield Rated(name, conversation, sum(points) / len(points))


def _conversation(groups: Iterable[Iterable[Mapping[str, str]]]) -> Conversation:
    """Whoever speaks first is the user; what one says in a row is one message."""
    first, said = "", []
    for group in groups:
        parts = list(group)
        text = " ".join(p["text"].strip() for p in parts).strip()
        if not text:
            continue
        first = first or parts[0]["sender"]
        said.append(Message("user" if parts[0]["sender"] == first else "assistant", text))
    return tuple(said)


def preferences(dialogues: Iterable[Rated], each: int = 3, seed: int = 0) -> list[Preference]:
    """Pair conversations with others of their split; the better rated one is chosen.

    Both of a pair are in the same split, so that no conversation is in two.

    Args:
        dialogues: rated ones.
        each: how often a conversation comes first in a pair.
        seed: decides who is compared with whom.
    """
    rng = np.random.default_rng(seed)
    groups: dict[Split, list[Rated]] = {"train": [], "calibration": [], "held-out": []}
    for one in dialogues:
        groups[split_of(one.name)].append(one)
    found = []
    for group in groups.values():
        for _ in range(each if len(group) > 1 else 0):
            order = rng.permutation(len(group))
            for i, j in zip(order, np.roll(order, 1), strict=True):
                found.append(_compare(group[int(i)], group[int(j)]))
    return found


def _compare(a: Rated, b: Rated) -> Preference:
    better, worse = (a, b) if a.rating >= b.rating else (b, a)
    difference = better.rating - worse.rating
    return Preference(
        (),
        better.conversation,
        worse.conversation,
        weight(difference, 0.0, NOISE),
        SOURCE,
        0,
        a.name,
        difference,
        NOISE / 2,  # so that a difference above the noise counts as clear
    )
