"""How users talk, in numbers: simulated ones beside those of some conversations, real ones say."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlchat_envs.core.messages import Conversation

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_LENGTHS = (2, 5, 10, 20, 40)  # words: upper bounds of the bins, and one bin above
_ACTS = (  # the first that fits, a sentence
    ("asks", re.compile(r"\?\s*$|^(?:who|what|when|where|why|how|which|can|could|is|are|do)\b")),
    ("greets", re.compile(r"^(?:hi|hiya|hello|hey|good (?:morning|afternoon|evening)|dear)\b")),
    ("thanks", re.compile(r"\b(?:thanks?|cheers|appreciate|grateful|obliged)\b")),
    ("leaves", re.compile(r"\b(?:bye|goodbye|farewell|see you|so long|take care)\b")),
    ("refuses", re.compile(r"^no\b|\b(?:don t|won t|can t|not|never|rather not)\b")),
    ("agrees", re.compile(r"^(?:yes|yeah|yep|sure|ok|okay|right|fine|exactly)\b")),
    ("numbers", re.compile(r"\d")),
    ("tells", re.compile("")),
)


@dataclass(frozen=True)
class Talk:
    """How the users of some conversations talk.

    ``lengths`` counts messages by bins of words, ``acts`` sentences by what they do on their
    surface, ``words`` words, ``turns`` conversations by the user's messages in them.
    """

    lengths: Counter[int]
    acts: Counter[str]
    words: Counter[str]
    turns: Counter[int]

    @property
    def words_a_message(self) -> float:
        """Mean."""
        return self.words.total() / max(1, self.lengths.total())

    @property
    def acts_a_message(self) -> float:
        """Mean number of sentences."""
        return self.acts.total() / max(1, self.lengths.total())

    @property
    def vocabulary(self) -> float:
        """Different words, per 1,000 words; grows with less than the number of words."""
        return 1_000 * len(self.words) / max(1, self.words.total())

    @property
    def messages(self) -> float:
        """Mean number of the user's messages in a conversation."""
        return sum(n * c for n, c in self.turns.items()) / max(1, self.turns.total())

    def hazard(self, turn: int) -> float:
        """Of the conversations that reach the user's message number ``turn``, the share it ends."""
        reached = sum(count for n, count in self.turns.items() if n >= turn)
        return self.turns[turn] / reached if reached else math.nan

    def distances(self, other: Talk) -> dict[str, float]:
        """Jensen-Shannon divergences in bits, 0 (the same) to 1 (nothing in common), by kind."""
        return {
            "lengths": divergence(self.lengths, other.lengths),
            "acts": divergence(self.acts, other.acts),
            "words": divergence(self.words, other.words),
            "turns": divergence(self.turns, other.turns),
        }


def listen(conversations: Iterable[Conversation]) -> Talk:
    """Count how the users in conversations talk."""
    talk = Talk(Counter(), Counter(), Counter(), Counter())
    for conversation in conversations:
        said = [m.content.lower().replace("'", " ") for m in conversation if m.role == "user"]
        talk.turns[len(said)] += 1
        for text in said:
            words = _WORD.findall(text)
            talk.words.update(words)
            talk.lengths[sum(len(words) > bound for bound in _LENGTHS)] += 1
            talk.acts.update(_act(s.strip()) for s in _SENTENCE.split(text) if s.strip())
    return talk


def divergence(p: Mapping[Any, int], q: Mapping[Any, int]) -> float:
    """Jensen-Shannon divergence of two tables of counts, in bits (Lin 1991)."""
    of_p, of_q = sum(p.values()), sum(q.values())
    if not of_p or not of_q:
        return math.nan
    total = 0.0
    for key in {**p, **q}:
        a, b = p.get(key, 0) / of_p, q.get(key, 0) / of_q
        middle = (a + b) / 2
        total += sum(x * math.log2(x / middle) for x in (a, b) if x) / 2
    return total


def rows(talks: Mapping[str, Talk], beside: Talk) -> list[tuple[str, ...]]:
    """A line for each: means, hazards of the first turns, and distances to ``beside``."""
    lines = []
    for name, talk in talks.items():
        means = [talk.words_a_message, talk.acts_a_message, talk.messages, talk.vocabulary]
        hazards = "/".join(f"{talk.hazard(turn):.2f}" for turn in range(1, 7))
        distances = [f"{d:.2f}" for d in talk.distances(beside).values()]
        lines.append((name, *(f"{mean:.1f}" for mean in means), hazards, *distances))
    return lines


HEADINGS = (
    *("users", "words a message", "acts a message", "messages", "vocabulary"),
    *("hazard of ending 1-6", "lengths", "acts", "words", "turns"),
)


def _act(sentence: str) -> str:
    return next(name for name, pattern in _ACTS if pattern.search(sentence))
