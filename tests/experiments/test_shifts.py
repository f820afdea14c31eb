"""Cosines of mean shifts where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.studies.training.shifts import across_halves, halvings


def planted(n: int, width: int, seed: int, direction_seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """One direction for all questions, and noise of every question's own."""
    direction = np.random.default_rng(direction_seed).normal(size=width)
    return direction + noise * np.random.default_rng(seed + 1000).normal(size=(n, width))


def test_equal_elicitors_get_the_ceiling() -> None:
    halves = halvings(200)
    one, other = planted(200, 64, 1), planted(200, 64, 2)
    ceiling = across_halves(one, one, halves)
    assert ceiling > 0.97 and across_halves(one, other, halves) == pytest.approx(ceiling, abs=0.01)
    assert across_halves(one, -other, halves) == pytest.approx(-ceiling, abs=0.01)


def test_noise_that_questions_share_makes_no_cosine() -> None:
    """The same noise in both elicitors, and no direction: on the same questions they would agree wholly."""
    halves, noise = halvings(100), np.random.default_rng(5).normal(size=(100, 64))
    together = noise.mean(0) @ noise.mean(0) / np.linalg.norm(noise.mean(0)) ** 2
    assert together == pytest.approx(1.0) and abs(across_halves(noise, noise, halves)) < 0.15


def test_independent_directions_are_not_told_from_random_ones_and_equal_ones_are() -> None:
    """The rank of a cosine among those of random directions: small for one direction in two elicitors, else as chance has it."""
    halves, small = halvings(60, 20), 0
    one, same = planted(60, 64, 1), planted(60, 64, 2)
    chance = [across_halves(one, planted(60, 64, 50 + k, direction_seed=200 + k), halves) for k in range(20)]
    assert across_halves(one, same, halves) > max(chance)
    for k in range(60):
        apart = across_halves(one, planted(60, 64, 100 + k, direction_seed=300 + k), halves)
        small += (1 + sum(c >= apart for c in chance)) / 21 <= 0.05
    assert small <= 8, "about one in twenty"


def test_halvings_are_of_equal_size_and_no_shift_has_no_cosine() -> None:
    assert all(half.sum() == 5 for half in halvings(10, 20)) and len({half.tobytes() for half in halvings(10, 20)}) > 10
    assert np.isnan(across_halves(np.zeros((8, 4)), np.ones((8, 4)), halvings(8)))
    with pytest.raises(ValueError, match="at least 4"):
        halvings(3)
