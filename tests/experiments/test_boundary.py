"""pass@k problem by problem, crossings with intervals, support sets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from experiments.statistics import crossing, curve, pass_at_k, pass_curves, support


def enumerated(right: int, samples: int, k: int) -> float:
    """The share of subsets of k samples that hold a right one."""
    subsets = list(combinations([n < right for n in range(samples)], k))
    return sum(any(subset) for subset in subsets) / len(subsets)


def test_pass_at_k_of_each_problem_is_that_of_all_subsets() -> None:
    counts, ks = [0, 1, 3, 7, 8], [1, 2, 4, 8]
    found = pass_curves(counts, 8, ks)
    expected = [[enumerated(c, 8, k) for k in ks] for c in counts]
    assert found == pytest.approx(np.array(expected))
    assert [pass_at_k(counts, 8, k).value for k in ks] == pytest.approx(found.mean(axis=0).tolist())
    for wrong in (lambda: pass_curves([9], 8, [1]), lambda: pass_curves([1], 8, [9]), lambda: pass_curves([], 8, [1])):
        with pytest.raises(ValueError):
            wrong()


def test_no_interval_has_no_width_and_all_hold_the_mean() -> None:
    ks = [1, 2, 4, 8, 16]
    for counts in ([32] * 20, [0] * 20, [30] * 20, [1] * 20, [0, 32] * 10, list(range(20))):
        found = curve(pass_curves(counts, 32, ks), ks)
        for value, low, high in zip(found.value, found.low, found.high, strict=True):
            assert low <= value <= high and high - low > 0.005


def test_a_crossing_that_is_there_is_found_with_its_interval_and_one_that_is_not_is_not() -> None:
    rng, ks = np.random.default_rng(0), [1, 2, 4, 8, 16, 32]
    base = rng.binomial(64, 0.12, 200)  # every problem is solved now and then
    sharp = np.where(rng.random(200) < 0.6, 60, 0)  # three in five always, the others never
    found = crossing(pass_curves(base, 64, ks), pass_curves(sharp, 64, ks), ks)
    assert found.clear and found.k in (8, 16) and found.low is not None and found.high is not None
    assert found.low <= found.k <= found.high and found.share > 0.95
    same = rng.binomial(64, 0.4, 200)
    noise = crossing(pass_curves(same, 64, ks), pass_curves(rng.permutation(same), 64, ks), ks)
    assert not noise.clear
    better = crossing(pass_curves(base, 64, ks), pass_curves(np.minimum(64, base + 20), 64, ks), ks)
    assert better.k is None and better.low is None and not better.clear


def test_support_sets_of_a_case_done_by_hand() -> None:
    found = support([3, 0, 1, 0, 5], [2, 1, 0, 0, 9])
    assert (found.preserved, found.expanded, found.shrunk, found.neither) == (2, 1, 1, 1)
    assert found.retention == pytest.approx(2 / 3) and found.discovery == pytest.approx(1 / 3)
    assert (
        found.retention_interval is not None
        and 0 < found.retention_interval.low < 2 / 3 < found.retention_interval.high < 1
    )
    nothing = support([0, 0], [0, 1])
    assert nothing.retention is None and nothing.retention_interval is None and nothing.discovery == 1.0
