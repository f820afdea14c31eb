"""What is said of an arm's difference follows its interval and its test together."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.statistics import paired_difference
from experiments.studies.elicitation.findings import Point
from experiments.studies.elicitation.points import hedged, said_of


def point(low: float, high: float, p: float | None) -> Point:
    return Point(
        setting="here", arm="a", label="arm", role="steered", n=30, accuracy=0.5, low=0.3, high=0.7, tokens=3, truncated=0, unscorable=0,
        difference=(low + high) / 2, difference_low=low, difference_high=high, p=p, run="r", split="test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "p", "words"),
    [
        (0.01, 0.3, 0.02, ""),
        (0.01, 0.3, None, ""),
        (-0.1, 0.3, 0.4, "no detectable difference, "),
        (0.01, 0.3, 0.06, "not clear (the interval leaves 0 out, the test does not reject it: p 0.060), "),
        (-0.3, 0.01, 0.03, "not clear (the interval holds 0, the test rejects it: p 0.030), "),
    ],
)
def test_a_difference_is_called_clear_where_interval_and_test_agree(
    low: float, high: float, p: float | None, words: str
) -> None:
    assert hedged(low, high, p) == words
    assert said_of(point(low, high, p)).startswith(f"here: arm: {words}{100 * (low + high) / 2:+.1f} points")


def test_interval_and_test_of_paired_shares_can_differ_and_then_nothing_is_clear() -> None:
    """Five questions are helped and none is hurt: the score interval leaves 0 out, the exact test has p 0.0625."""
    one, other = np.zeros(30), np.zeros(30)
    other[:5] = 1
    found = paired_difference(one, other)
    assert found.interval.low > 0 and found.p == pytest.approx(0.0625) and not found.clear
    other[:8] = 1
    assert paired_difference(one, other).clear and not paired_difference(one, one).clear
