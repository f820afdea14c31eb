"""Rates per token with intervals over questions: what they hold, at the edges and in repeated draws."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.statistics import rate_clustered


@pytest.mark.parametrize(("rate", "shape"), [(0.01, 2.0), (0.03, 2.0), (0.01, 0.3)])
def test_the_interval_holds_the_rate_as_often_as_it_says(rate: float, shape: float) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(600):
        tokens = rng.gamma(4, 25, 100).round() + 1
        events = rng.poisson(rate * tokens * rng.gamma(shape, 1 / shape, 100))
        _, found = rate_clustered(events, tokens)
        assert found is not None
        held += found.low <= rate <= found.high
    assert 0.9 <= held / 600 <= 0.98


def test_questions_that_go_together_widen_the_interval() -> None:
    even = rate_clustered([2] * 40, [100] * 40)[1]
    apart = rate_clustered([80] + [0] * 39, [100] * 40)[1]
    mixed = rate_clustered([0, 4] * 20, [100] * 40)[1]
    assert even is not None and apart is not None and mixed is not None
    assert even.high - even.low < mixed.high - mixed.low < apart.high - apart.low


def test_nothing_seen_has_a_bound_and_one_question_no_interval() -> None:
    rate, found = rate_clustered([0, 0], [500, 500])
    assert rate == 0 and found is not None and found.low == 0 and found.high == pytest.approx(3.688879 / 1000, rel=1e-5)
    assert rate_clustered([3], [100]) == (0.03, None)


@pytest.mark.parametrize(("events", "tokens"), [([1], [0]), ([-1], [5]), ([1, 2], [5]), ([], [])])
def test_what_is_no_count_is_refused(events: list[int], tokens: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        rate_clustered(events, tokens)
