"""Level and slopes: planted ones are found, none where there is none, and separation is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from experiments.statistics.slopes import (
    around,
    permuted_slopes,
    resampled_slopes,
    separated,
    slope_p,
    slopes_of,
    varies,
)


def planted(seed: int, n: int, level: float, *slopes: float) -> tuple[np.ndarray, np.ndarray]:
    """Success of `n` rows by known coefficients, on whole-numbered axes."""
    rng = np.random.default_rng(seed)
    axes = rng.integers(-2, 4, (n, len(slopes))).astype(float)
    return (rng.random(n) < expit(level + axes @ slopes)).astype(float), axes


def test_planted_level_and_slopes_are_found() -> None:
    right, axes = planted(0, 800, 0.7, -0.8, 0.0)
    fit = slopes_of(right, axes)
    drawn = resampled_slopes([right], axes, range(len(right)), 100)[:, 0]
    assert fit is not None and not fit.separated and fit.share == pytest.approx(expit(fit.level))
    for place, (value, truth) in enumerate(zip((fit.level, *fit.slopes), (0.7, -0.8, 0.0), strict=True)):
        assert truth in around(drawn[:, place]) and value == pytest.approx(truth, abs=0.3)
    null = permuted_slopes(right, axes, range(len(right)), 39)
    assert slope_p(fit.slopes[0], null[:, 1]) == pytest.approx(1 / 40) and slope_p(fit.slopes[1], null[:, 2]) > 0.05


def test_an_axis_without_meaning_is_seldom_taken_for_one() -> None:
    found = []
    for seed in range(20):
        right, axes = planted(seed, 60, 0.2, 0.0)
        fit = slopes_of(right, axes)
        assert fit is not None
        found.append(slope_p(fit.slopes[0], permuted_slopes(right, axes, range(60), 19)[:, 1]))
    assert sum(p <= 0.05 for p in found) <= 4 and len(set(found)) > 5


def test_rows_of_an_item_are_no_items_of_their_own() -> None:
    right, axes = planted(1, 80, 0.0, -0.5)
    items, three = list(range(80)), [item for item in range(80) for _ in range(3)]
    alone = resampled_slopes([right], axes, items, 60)[:, 0, 1].std()
    thrice = resampled_slopes([right.repeat(3)], axes.repeat(3, axis=0), three, 60)[:, 0, 1].std()
    assert thrice > 0.85 * alone, "three copies of a row tell no more than one"
    null = permuted_slopes(right.repeat(3), axes.repeat(3, axis=0), three, 60)[:, 1].std()
    assert null > 0.85 * permuted_slopes(right, axes, items, 60)[:, 1].std()


def test_arms_are_resampled_together() -> None:
    right, axes = planted(2, 100, 0.5, -0.5)
    drawn = resampled_slopes([right, right], axes, range(100), 20)
    assert drawn.shape == (20, 2, 2) and (drawn[:, 0] == drawn[:, 1]).all() and drawn[:, 0, 1].std() > 0


def test_where_there_is_no_slope_none_is_given() -> None:
    axes = np.arange(20.0)[:, None] - 10
    assert slopes_of(np.ones(20), axes) is None and slopes_of(np.zeros(20), axes) is None
    mixed = np.tile([0.0, 1.0], 10)
    assert slopes_of(mixed, np.zeros((20, 1))) is None, "an axis that does not vary"
    assert slopes_of(mixed, np.hstack([axes, 2 * axes + 1])) is None, "an axis that follows from another"
    assert varies(np.hstack([np.ones((20, 1)), axes, 2 * axes, axes**2])) == [1, 3]
    fit = slopes_of((axes[:, 0] > 0).astype(float), axes)
    assert fit is not None and fit.separated and np.isfinite(fit.slopes).all()
    noisy = slopes_of(mixed, axes)
    assert noisy is not None and not noisy.separated
    quasi = np.concatenate([np.zeros(10), mixed[:10]])
    assert separated(quasi, np.repeat([[0.0], [1.0]], 10, axis=0)), "all wrong on one side is enough"
    with pytest.raises(ValueError, match="rows of shares"):
        slopes_of([0, 2], [[1.0], [2.0]])


def test_shares_are_fitted_as_what_they_are() -> None:
    axes = np.array([[-1.0], [0.0], [1.0], [2.0]]).repeat(50, axis=0)
    fit = slopes_of(expit(-0.4 - 0.7 * axes[:, 0]), axes)
    assert fit is not None and fit.slopes[0] == pytest.approx(-0.7, abs=0.02) and not fit.separated
