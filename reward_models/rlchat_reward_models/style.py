"""How a reply is said, as a few numbers, and how much a person likes each of them.

A person's taste is a vector w over the parts of a manner φ. Of two replies to the same words they
prefer a with probability σ(w·(φ(a) − φ(b))) (Bradley and Terry 1952). Before they are asked, w is
normally distributed around the common taste; see `begin`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlchat_envs import Conversation
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.rules import sentences

Array: TypeAlias = NDArray[np.float64]

# What 1 is on each scale: about the spread of demonstrators' replies in one and the same moment, on
# the training sides of five worlds; at least 0.3, as what hardly occurs there must not weigh most.
PARTS: dict[str, float] = {
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
_NEWTON, _CLOSE = 100, 1e-10


def manner(context: Conversation, reply: str) -> Array:
    """Measure how a reply is said.

    Args:
        context: the messages before it.
        reply: the agent's message.

    Returns:
        (P,) a number for each of `PARTS`, in units of their spreads.
    """
    words = _WORD.findall(reply.lower())
    desk = {w for m in context if m.role == "tool" for w in _WORD.findall(m.content.lower())}
    facts = {w for w in words if w in desk and (len(w) >= _LONG or w[0].isdigit())}
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
    return np.array([measured[name] / spread for name, spread in PARTS.items()])


def differences(preferences: Sequence[Preference]) -> Array:
    """What preferences say about tastes: (N, P), the manner of the better less that of the worse.

    Where both are the same, N counts it, but it says nothing.
    """
    rows = [
        manner(p.prompt, p.chosen[-1].content) - manner(p.prompt, p.rejected[-1].content)
        for p in preferences
    ]
    return np.array(rows).reshape(-1, len(PARTS))


@dataclass(frozen=True)
class Taste:
    """A normal distribution over w: what is known of a person, or how people differ."""

    mean: Array  # (P,) log-odds per unit of a part
    covariance: Array  # (P, P)

    @classmethod
    def unknown(cls) -> Taste:
        """Nobody known: every part may please or displease, by log-odds of about 1."""
        return cls(np.zeros(len(PARTS)), np.eye(len(PARTS)))

    def telling(self, pairs: Array) -> Array:
        """How much an answer about each pair is expected to tell: p (1 − p) d'Vd.

        It is the information of an answer about w·d, where w is not known yet (MacKay 1992,
        "Information-based objective functions for active data selection").

        Args:
            pairs: (N, P) differences of two replies' manners, either way round.

        Returns:
            (N,) numbers of at least 0.
        """
        right = _sigmoid(pairs @ self.mean)
        return np.asarray(right * (1 - right) * ((pairs @ self.covariance) * pairs).sum(axis=1))


def learn(before: Taste, seen: Array) -> Taste:
    """What is known of a person after their comparisons: MAP and Laplace's approximation.

    Newton's method on log N(w; before) + Σ log σ(w·d), which is concave (MacKay 1992, "The
    evidence framework applied to classification networks"); steps that overshoot are halved.

    Args:
        before: what was known.
        seen: (N, P) as `differences` gives them.
    """
    precision = np.linalg.inv(before.covariance)

    def loss(w: Array) -> float:
        away = w - before.mean
        return float(away @ precision @ away / 2 + np.logaddexp(0, -seen @ w).sum())

    w = before.mean
    for _ in range(_NEWTON):
        right = _sigmoid(seen @ w)  # (N,) the probability that w gave to each answer
        uphill = seen.T @ (1 - right) - precision @ (w - before.mean)
        information = (seen.T * (right * (1 - right))) @ seen + precision
        step = np.linalg.solve(information, uphill)
        while loss(w + step) > loss(w) and np.abs(step).max() > _CLOSE:
            step = step / 2
        w = w + step
        if np.abs(step).max() <= _CLOSE:
            break
    return Taste(w, np.linalg.inv(information))


def begin(others: Array) -> Taste:
    """What is known of somebody before they are asked: the common taste, more or less 1 a part.

    Args:
        others: (N, P) what everybody else has said, pooled; with nobody it is `Taste.unknown`.
    """
    return replace(Taste.unknown(), mean=learn(Taste.unknown(), others).mean)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
