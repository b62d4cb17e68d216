"""Features of style: how a reply is worded, as a vector of a few numbers.

How much a person likes each of them is in `rlchat_reward_models.preference_posterior`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlchat_envs import Conversation
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.rules import sentences

Array: TypeAlias = NDArray[np.float64]

# What 1 is on each scale: about the spread of demonstrators' replies in one and the same moment, on
# the training splits of five worlds; at least 0.3, as what hardly occurs there must not weigh most.
STYLE_FEATURES: dict[str, float] = {
    "length": 0.5,  # log(1 + words)
    "courtesy": 0.6,  # please, thank you: how many
    "sympathy": 0.3,  # sorry, I understand, no hurry: how many
    "warmth": 0.3,  # exclamation marks, glad, great: how many
    "questions": 0.35,  # question marks
    "formality": 0.4,  # could, may, would, less contractions
    "facts": 0.3,  # log(1 + words that records and documents say)
    "repetition": 0.3,  # whether it repeats a sentence of the agent's
}
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_COURTESY = re.compile(r"\b(?:please|kindly|thanks?|thankful|grateful|welcome)\b", re.I)
_SYMPATHY = re.compile(
    r"\b(?:sorry|apolog\w+|afraid|understand|regret\w*|unfortunate\w*|i see|no problem|"
    r"no hurry|take your time|don['’]t worry)\b",
    re.I,
)
_WARMTH = re.compile(
    r"!+|\b(?:glad\w*|happy|great|wonderful|lovely|pleasure|delighted|well done|good luck)\b", re.I
)
_FORMAL = re.compile(r"\b(?:could|may|might|would|shall)\b", re.I)
_CASUAL = re.compile(
    r"\b\w+['’](?:m|re|ll|ve|d|t)\b|\b(?:it|that|here|there|what|let)['’]s\b", re.I
)
_LONG = 4  # characters of a word that can be a fact; numbers always can
_MOST = 2  # of a kind of word counts: the third thank-you must not pay


def style_features(context: Conversation, reply: str) -> Array:
    """Measure how a reply is worded.

    Args:
        context: the messages before it.
        reply: the agent's message.

    Returns:
        (P,) a number for each of `STYLE_FEATURES`, in units of their spreads.
    """
    words = _WORD.findall(reply.lower())
    told = {w for m in context if m.role == "tool" for w in _WORD.findall(m.content.lower())}
    facts = {w for w in words if w in told and (len(w) >= _LONG or w[0].isdigit())}
    earlier = {s for m in context if m.role == "assistant" for s in sentences(m.content)}
    formal = len(_FORMAL.findall(reply)) - len(_CASUAL.findall(reply))
    measured = {
        "length": math.log1p(len(words)),
        "courtesy": min(len(_COURTESY.findall(reply)), _MOST),
        "sympathy": min(len(_SYMPATHY.findall(reply)), _MOST),
        "warmth": min(len(_WARMTH.findall(reply)), _MOST),
        "questions": min(reply.count("?"), _MOST),
        "formality": min(max(formal, -_MOST), _MOST),
        "facts": math.log1p(len(facts)),
        "repetition": any(s in earlier for s in sentences(reply)),
    }
    return np.array([measured[name] / spread for name, spread in STYLE_FEATURES.items()])


def feature_differences(preferences: Sequence[Preference]) -> Array:
    """Differences of style features, (N, P): those of the chosen reply less the rejected one's.

    A row of zeros, where both are the same, says nothing about preference weights.
    """
    rows = [
        style_features(p.prompt, p.chosen[-1].content)
        - style_features(p.prompt, p.rejected[-1].content)
        for p in preferences
    ]
    return np.array(rows).reshape(-1, len(STYLE_FEATURES))
