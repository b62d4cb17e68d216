"""Preference weights from comparisons, against numbers worked out by hand and on a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_reward_models.preference_posterior import (
    PreferencePosterior,
    fit_posterior,
    population_prior,
)
from rlchat_reward_models.style_features import STYLE_FEATURES

HERE = list(STYLE_FEATURES)


def unit(feature: str, size: float = 1.0) -> np.ndarray:
    return size * np.eye(len(STYLE_FEATURES))[HERE.index(feature)]


def test_one_comparison_by_hand() -> None:
    # One feature, d = 1: w = 1 − σ(w), whose root is 0.401058; the precision is 1 + σ(w) σ(−w).
    found = fit_posterior(PreferencePosterior.unknown(), unit("warmth")[None])
    w = 0.401058
    assert found.mean == pytest.approx(unit("warmth", w), abs=1e-6)
    right = 1 / (1 + math.exp(-w))
    variance = 1 / (1 + right * (1 - right))
    assert found.covariance == pytest.approx(
        np.eye(len(STYLE_FEATURES)) + np.diag(unit("warmth", variance - 1)), abs=1e-6
    )


def test_some_comparisons_against_a_grid() -> None:
    seen = np.array([unit("length") + unit("facts"), unit("length", 2), unit("facts", -1)])
    before = PreferencePosterior(unit("length", -0.5), np.eye(len(STYLE_FEATURES)) / 2)
    axis = np.linspace(-2, 2, 2001)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    loss = (x + 0.5) ** 2 + y**2  # half of precision 2
    for a, b in ((1, 1), (2, 0), (0, -1)):
        loss += np.logaddexp(0, -(a * x + b * y))
    best = np.unravel_index(np.argmin(loss), loss.shape)
    found = fit_posterior(before, seen).mean
    assert found[HERE.index("length")] == pytest.approx(axis[best[0]], abs=2e-3)
    assert found[HERE.index("facts")] == pytest.approx(axis[best[1]], abs=2e-3)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=8, max_size=8), max_size=6))
def test_it_finds_the_top_whatever_was_said(rows: list[list[float]]) -> None:
    seen = np.array(rows).reshape(-1, len(STYLE_FEATURES))
    found = fit_posterior(PreferencePosterior.unknown(), seen)
    right = 0.5 * (1 + np.tanh(seen @ found.mean / 2))
    assert seen.T @ (1 - right) == pytest.approx(found.mean, abs=1e-5)


def test_the_prior_is_around_everybody_s_weights() -> None:
    nobody = population_prior(np.zeros((0, len(STYLE_FEATURES))))
    assert (nobody.mean == 0).all() and (nobody.covariance == np.eye(len(STYLE_FEATURES))).all()
    common = population_prior(np.array([unit("warmth")]))
    assert common.mean == pytest.approx(unit("warmth", 0.401058), abs=1e-6)
    assert (common.covariance == np.eye(len(STYLE_FEATURES))).all()


def test_an_answer_tells_most_where_it_is_not_known_yet() -> None:
    prior = PreferencePosterior(
        unit("warmth", 2.0), np.eye(len(STYLE_FEATURES)) - np.diag(unit("facts", 0.9))
    )
    told = prior.expected_information(
        np.array([unit("length"), unit("facts"), unit("warmth"), unit("length", 2)])
    )
    # p (1 − p) d'Vd: ¼ · 1, ¼ · 0.1, σ(2) σ(−2) · 1, ¼ · 4
    assert told == pytest.approx([0.25, 0.025, 0.104994, 1.0], abs=1e-6)
