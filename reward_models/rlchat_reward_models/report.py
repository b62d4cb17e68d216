"""How far a judge can be trusted: by source, by confidence, by length, by what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlchat_envs import Conversation
from rlchat_reward_models.calibration import Bin, bins, calibration_error
from rlchat_reward_models.learned import LearnedScorer
from rlchat_reward_models.preferences import Preference, by_source


@dataclass(frozen=True)
class Judged:
    """Preferences, and by how much a judge scores the chosen side above the other, in logits."""

    preferences: list[Preference]
    margins: NDArray[np.float64]

    @property
    def right(self) -> list[bool]:
        """Where the judge agrees."""
        return [bool(m > 0) for m in self.margins]

    @property
    def clear(self) -> Judged:
        """Those whose outcomes differ by more than two standard errors."""
        return self.only([p.clear for p in self.preferences])

    @property
    def calibration_error(self) -> float:
        """See `rlchat_reward_models.calibration.calibration_error`."""
        return calibration_error(self.margins)

    @property
    def bins(self) -> list[Bin]:
        """See `rlchat_reward_models.calibration.bins`."""
        return bins(self.margins)

    @property
    def length_correlation(self) -> float:
        """Pearson's, of margins with differences of length in characters; 0 if one is constant."""
        longer = [_length(p.chosen) - _length(p.rejected) for p in self.preferences]
        return _correlation(self.margins, np.asarray(longer, float))

    @property
    def outcome_correlation(self) -> float | None:
        """Pearson's, of margins with measured differences of outcome, both ways round."""
        measured = [(m, p.difference) for m, p in zip(self.margins, self.preferences, strict=True)]
        pairs = [(m, d) for m, d in measured if d is not None]
        if len(pairs) < 2:
            return None
        m, d = (np.asarray(x, float) for x in zip(*pairs, strict=True))
        return _correlation(np.concatenate([m, -m]), np.concatenate([d, -d]))

    def only(self, which: Sequence[bool]) -> Judged:
        """Some of them."""
        kept = [p for p, w in zip(self.preferences, which, strict=True) if w]
        return Judged(kept, self.margins[np.asarray(which, bool)])

    def worst(self, count: int) -> list[tuple[Preference, float]]:
        """The largest errors: clear preferences that the judge is surest are the other way."""
        clear = self.clear
        order = [i for i in np.argsort(clear.margins)[:count] if clear.margins[i] < 0]
        return [(clear.preferences[i], float(clear.margins[i])) for i in order]

    def sources(self) -> list[tuple[str, Judged]]:
        """One group for each source."""
        of = {id(p): m for p, m in zip(self.preferences, self.margins, strict=True)}
        return [
            (name, Judged(group, np.array([of[id(p)] for p in group])))
            for name, group in by_source(self.preferences)
        ]


def judge_all(scorer: LearnedScorer, preferences: Sequence[Preference]) -> Judged:
    """Score both sides of every preference, without caution: only differences count here."""
    chosen = scorer.opinions([(p.prompt, p.chosen) for p in preferences]).mean
    rejected = scorer.opinions([(p.prompt, p.rejected) for p in preferences]).mean
    margins = ((chosen - rejected) / scorer.scale.temperature).double().numpy()
    return Judged(list(preferences), margins)


def _length(messages: Conversation) -> int:
    return sum(len(m.content) for m in messages if m.role == "assistant")


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
