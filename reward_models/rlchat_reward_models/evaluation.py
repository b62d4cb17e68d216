"""How well a reward model agrees with preferences: by source, by confidence, by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlchat_envs import Conversation
from rlchat_reward_models.calibration import Bin, bins, calibration_error
from rlchat_reward_models.preferences import Preference, by_source
from rlchat_reward_models.scorer import LearnedScorer


@dataclass(frozen=True)
class PreferenceEvaluation:
    """Preferences, and by how much a reward model scores each chosen reply above the other."""

    preferences: list[Preference]
    margins: NDArray[np.float64]  # in logits

    @property
    def correct(self) -> list[bool]:
        """Whether the reward model agrees, for each preference."""
        return [bool(m > 0) for m in self.margins]

    @property
    def clear(self) -> PreferenceEvaluation:
        """The preferences whose outcomes differ by more than two standard errors."""
        return self.only([p.clear for p in self.preferences])

    @property
    def calibration_error(self) -> float:
        """Expected calibration error; see `rlchat_reward_models.calibration.calibration_error`."""
        return calibration_error(self.margins)

    @property
    def bins(self) -> list[Bin]:
        """Accuracy by confidence; see `rlchat_reward_models.calibration.bins`."""
        return bins(self.margins)

    @property
    def length_correlation(self) -> float:
        """Pearson correlation of margins with differences of length; 0 if either is constant."""
        longer = [_length(p.chosen) - _length(p.rejected) for p in self.preferences]
        return _correlation(self.margins, np.asarray(longer, float))

    @property
    def outcome_correlation(self) -> float | None:
        """Pearson correlation of margins with measured differences of outcome, both ways round."""
        measured = [(m, p.difference) for m, p in zip(self.margins, self.preferences, strict=True)]
        pairs = [(m, d) for m, d in measured if d is not None]
        if len(pairs) < 2:
            return None
        m, d = (np.asarray(x, float) for x in zip(*pairs, strict=True))
        return _correlation(np.concatenate([m, -m]), np.concatenate([d, -d]))

    def only(self, which: Sequence[bool]) -> PreferenceEvaluation:
        """The evaluation of some of the preferences."""
        kept = [p for p, w in zip(self.preferences, which, strict=True) if w]
        return PreferenceEvaluation(kept, self.margins[np.asarray(which, bool)])

    def worst(self, count: int) -> list[tuple[Preference, float]]:
        """The largest errors: clear preferences with the most negative margins."""
        clear = self.clear
        order = [i for i in np.argsort(clear.margins)[:count] if clear.margins[i] < 0]
        return [(clear.preferences[i], float(clear.margins[i])) for i in order]

    def sources(self) -> list[tuple[str, PreferenceEvaluation]]:
        """The evaluation of each source of preferences, by its name."""
        of = {id(p): m for p, m in zip(self.preferences, self.margins, strict=True)}
        return [
            (name, PreferenceEvaluation(group, np.array([of[id(p)] for p in group])))
            for name, group in by_source(self.preferences)
        ]


def evaluate_preferences(
    scorer: LearnedScorer, preferences: Sequence[Preference]
) -> PreferenceEvaluation:
    """Score both replies of every preference.

    The uncertainty penalty is left out: only differences of the mean scores count here.
    """
    chosen = scorer.ensemble_scores([(p.prompt, p.chosen) for p in preferences]).mean
    rejected = scorer.ensemble_scores([(p.prompt, p.rejected) for p in preferences]).mean
    margins = ((chosen - rejected) / scorer.scale.temperature).double().numpy()
    return PreferenceEvaluation(list(preferences), margins)


def _length(messages: Conversation) -> int:
    return sum(len(m.content) for m in messages if m.role == "assistant")


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
