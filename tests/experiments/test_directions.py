"""A vector against random directions: ranks, their corrections, intervals over items and directions."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.statistics import (
    FEW_DIRECTIONS,
    against_directions,
    corrected_rank_p,
    directions_needed,
    max_rank_p,
    paired_difference,
    rank_p,
)


def coins(rng: np.random.Generator, p: object, *shape: int) -> np.ndarray:
    return (rng.random(shape) < p).astype(float)


def test_a_rank_is_counted_with_ties_against_the_vector_and_is_never_zero() -> None:
    assert rank_p(0.9, np.zeros(19)) == 1 / 20
    assert rank_p(0.5, [0.5, 0.2, 0.7, 0.1]) == 3 / 5
    assert rank_p(0.0, np.zeros(20)) == 1
    for draws in ([], [np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="a rank needs"):
            rank_p(0.3, draws)


def test_a_rank_among_draws_of_the_same_distribution_is_uniform() -> None:
    rng = np.random.default_rng(0)
    p = [rank_p(*(lambda d: (d[0], d[1:]))(rng.normal(size=40))) for _ in range(4000)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.01)


def test_the_best_of_several_random_directions_is_corrected_for_their_number() -> None:
    """Directions keep their effects on new problems, so the best of many is large there too."""
    rng = np.random.default_rng(1)
    wins = {"alone": 0, "corrected": 0}
    for _ in range(600):
        effects = np.where(rng.random(12 + 300) < 0.1, 0.6, 0.0) + rng.normal(0, 0.02, 312)
        best, fresh = effects[:12].max(), effects[12:]
        p = rank_p(float(best), fresh)
        wins["alone"] += p <= 0.05
        wins["corrected"] += corrected_rank_p(p, 12) <= 0.05
    assert wins["alone"] / 600 > 0.3, (
        "without the correction the best of twelve often looks real, or this proves nothing"
    )
    assert wins["corrected"] / 600 <= 0.065
    assert corrected_rank_p(0.04, 1) == pytest.approx(0.04) and corrected_rank_p(1.0, 7) == 1
    with pytest.raises(ValueError, match="at least one"):
        corrected_rank_p(0.5, 0)


def test_as_many_directions_are_asked_for_as_the_level_needs() -> None:
    for among in (1, 2, 4, 12, 48):
        needed = directions_needed(among)
        assert corrected_rank_p(1 / (needed + 1), among) <= 0.05 < corrected_rank_p(1 / needed, among)
    assert directions_needed(1) == 19


def test_the_best_cell_is_compared_with_the_best_of_whole_pseudo_sweeps() -> None:
    rng = np.random.default_rng(2)
    wins = 0
    for _ in range(1000):
        # Cells of a sweep share their direction, so that they rise together; the first draw is the sweep itself.
        sweeps = rng.normal(0, 1, (20, 1)) + rng.normal(0, 0.3, (20, 48))
        wins += max_rank_p(sweeps[0], sweeps[1:])[1] <= 0.05
    assert 0.03 <= wins / 1000 <= 0.07
    cells = np.zeros(48)
    cells[7] = 9
    assert max_rank_p(cells, sweeps[1:]) == (7, 1 / 20)
    with pytest.raises(ValueError, match=r"\[sweeps, 48\]"):
        max_rank_p(cells, sweeps[1:, :5])


def test_directions_are_a_source_of_variance_beside_items() -> None:
    rng = np.random.default_rng(3)
    own = coins(rng, 0.8, 400)
    alike = coins(rng, 0.2, 20, 400)
    strong = np.where(np.arange(20)[:, None] % 4 == 0, coins(rng, 0.9, 20, 400), coins(rng, 0.05, 20, 400))
    narrow, wide = against_directions(own, alike), against_directions(own, strong)
    items_only = paired_difference(strong.mean(0), own).interval
    width = wide.interval.high - wide.interval.low
    assert width > 2 * (narrow.interval.high - narrow.interval.low)
    assert width > 2 * (items_only.high - items_only.low), (
        "the mean of the directions is no more certain than the draws allow"
    )
    assert wide.difference == pytest.approx(own.mean() - strong.mean()) and wide.difference in wide.interval
    assert (narrow.rank_p, narrow.as_good, narrow.directions, narrow.n) == (1 / 21, 0, 20, 400)
    assert wide.as_good == int((strong.mean(1) >= own.mean()).sum()) and wide.band()[1] >= 0.85
    assert "do at least as much" in wide.note and "too few" not in wide.note


def test_few_directions_and_wrong_shapes_are_said() -> None:
    rng = np.random.default_rng(4)
    own = coins(rng, 0.5, 30)
    few = against_directions(own, coins(rng, 0.5, FEW_DIRECTIONS - 1, 30))
    assert few.few and "too few directions" in few.note
    single = against_directions(own, coins(rng, 0.5, 1, 30))
    assert single.interval.high - single.interval.low > 1, "one draw does not say how directions differ"
    seeds = against_directions(np.repeat(own[:, None], 3, 1), coins(rng, 0.5, 20, 30, 3))
    assert seeds.n == 30
    for others in (coins(rng, 0.5, 30), coins(rng, 0.5, 20, 31), np.zeros((0, 30))):
        with pytest.raises(ValueError, match="directions|common shape"):
            against_directions(own, others)
    with pytest.raises(ValueError, match="shares"):
        against_directions(own * 7, coins(rng, 0.5, 20, 30))
