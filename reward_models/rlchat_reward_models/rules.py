"""Rules that score how an assistant message is worded.

Every part is 0 at best, or an agent could collect points by saying more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlchat_envs import Conversation

_COURTEOUS = re.compile(
    r"\b(?:please|thank(?:s| you)|sorry|apolog\w+|happy to|glad\w*|of course|certainly|welcome|"
    r"take your time|no problem|appreciate|understand|kindly|pleasure)\b",
    re.IGNORECASE,
)
_CLOSED = re.compile(r"[.!?…。！？)\"'”’:]\s*$")  # noqa: RUF001 (Chinese ends sentences so)
_WORD = re.compile(r"\w+")
RULES = ("courtesy", "brevity", "repetition", "cut_off")


@dataclass(frozen=True, slots=True)
class RuleWeights:
    """What each fault costs, in score units per turn."""

    courtesy: float = 0.1  # no courteous word
    brevity: float = 0.1  # for every `brevity_words` words above `brevity_words`
    repetition: float = 0.1  # a sentence that this agent said before
    cut_off: float = 0.2  # breaks off before the sentence is closed
    brevity_words: int = 40


class RuleScorer:
    """Courtesy, brevity, repetition and cut-off; satisfies `rlchat_envs.Scorer`."""

    def __init__(self, weights: RuleWeights | None = None):
        """Make a scorer with these weights."""
        self.weights = weights or RuleWeights()

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        """Score ``reply``, given the conversation before it; every part is in (-inf, 0]."""
        w = self.weights
        earlier = [s for m in conversation if m.role == "assistant" for s in sentences(m.content)]
        said = sentences(reply)
        excess = max(0, len(_WORD.findall(reply)) - w.brevity_words) / w.brevity_words
        return {
            "courtesy": 0.0 if _COURTEOUS.search(reply) else -w.courtesy,
            "brevity": -w.brevity * min(excess, 5.0),
            "repetition": -w.repetition * any(s in earlier for s in said) if said else 0.0,
            "cut_off": 0.0 if _CLOSED.search(reply) else -w.cut_off,
        }


def sentences(text: str) -> list[str]:
    """Split into sentences of three words or more, lower-case, without punctuation."""
    parts = (" ".join(_WORD.findall(p.lower())) for p in re.split(r"[.!?\n]+", text))
    return [p for p in parts if p.count(" ") >= 2]
