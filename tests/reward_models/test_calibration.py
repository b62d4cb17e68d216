import numpy as np
import pytest

from rlchat_reward_models.calibration import Bin, bins, calibration_error, fit_temperature


def test_bins_by_hand() -> None:
    # σ(1) = 0.7311 (fifth bin of ten from 0.5), σ(3) = 0.9526 (tenth).
    groups = bins([1.0, -1.0, 1.0, 3.0])
    assert [(g.count, round(g.confidence, 4), g.accuracy) for g in groups] == [
        (3, 0.7311, pytest.approx(2 / 3)),
        (1, 0.9526, 1.0),
    ]
    assert calibration_error([1.0, -1.0, 1.0, 3.0]) == pytest.approx(
        0.75 * (0.731059 - 2 / 3) + 0.25 * (1 - 0.952574), abs=1e-5
    )


def test_a_toss_up_is_half_right() -> None:
    assert bins([0.0]) == [Bin(1, 0.5, 0.5)]
    assert calibration_error([0.0, 0.0]) == 0.0
    assert calibration_error([]) == 0.0


def test_the_temperature_that_fits_is_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-true))
    margins = np.where(right, true, -true) * 3  # three times too sure
    assert fit_temperature(margins, np.ones(20_000)) == pytest.approx(3, rel=0.1)
    assert calibration_error(margins) > 0.1
    assert calibration_error(margins / 3) < 0.02
