"""A person's preference weights over style features, inferred from their comparisons.

Preference weights are a vector w over style features φ. Of two replies to the same words a person
prefers a with probability σ(w·(φ(a) − φ(b))) (Bradley and Terry 1952). The prior of w is a normal
distribution around the weights of everybody else; see `population_prior`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlchat_reward_models.style_features import STYLE_FEATURES, Array

_STEPS, _TOLERANCE = 100, 1e-10


@dataclass(frozen=True)
class PreferencePosterior:
    """A normal distribution over preference weights w: of one person, or over people."""

    mean: Array  # (P,) log-odds per unit of a feature
    covariance: Array  # (P, P)

    @classmethod
    def unknown(cls) -> PreferencePosterior:
        """The prior without data: each feature counts by log-odds of about 1, up or down."""
        return cls(np.zeros(len(STYLE_FEATURES)), np.eye(len(STYLE_FEATURES)))

    def expected_information(self, pairs: Array) -> Array:
        """How much an answer about each pair is expected to tell: p (1 − p) d'Vd.

        It is the information of an answer about w·d, where w is not known yet (MacKay 1992,
        "Information-based objective functions for active data selection").

        Args:
            pairs: (N, P) differences of two replies' style features, either way round.

        Returns:
            (N,) numbers of at least 0.
        """
        right = _sigmoid(pairs @ self.mean)
        return np.asarray(right * (1 - right) * ((pairs @ self.covariance) * pairs).sum(axis=1))


def fit_posterior(prior: PreferencePosterior, seen: Array) -> PreferencePosterior:
    """Infer preference weights from comparisons: MAP and Laplace's approximation.

    Newton's method on log N(w; prior) + Σ log σ(w·d), which is concave (MacKay 1992, "The
    evidence framework applied to classification networks"); steps that overshoot are halved.

    Args:
        prior: of the weights, before these comparisons.
        seen: (N, P) as `feature_differences` gives them.
    """
    precision = np.linalg.inv(prior.covariance)

    def loss(w: Array) -> float:
        away = w - prior.mean
        return float(away @ precision @ away / 2 + np.logaddexp(0, -seen @ w).sum())

    w = prior.mean
    for _ in range(_STEPS):
        right = _sigmoid(seen @ w)  # (N,) the probability that w gave to each answer
        uphill = seen.T @ (1 - right) - precision @ (w - prior.mean)
        information = (seen.T * (right * (1 - right))) @ seen + precision
        step = np.linalg.solve(information, uphill)
        while loss(w + step) > loss(w) and np.abs(step).max() > _TOLERANCE:
            step = step / 2
        w = w + step
        if np.abs(step).max() <= _TOLERANCE:
            break
    return PreferencePosterior(w, np.linalg.inv(information))


def population_prior(others: Array) -> PreferencePosterior:
    """The prior of a person who was not asked yet: everybody's weights, with spread 1 each.

    Args:
        others: (N, P) comparisons of everybody else, pooled; with none it is
            `PreferencePosterior.unknown`.
    """
    unknown = PreferencePosterior.unknown()
    return replace(unknown, mean=fit_posterior(unknown, others).mean)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
