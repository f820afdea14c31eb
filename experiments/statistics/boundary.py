"""What a model can reach at all: pass@k problem by problem, where two curves cross, and which problems each can solve.

1. pass@k of a problem is 1 - C(n-c, k)/C(n, k) for c right of n samples (2107.03374, equation 1), never 1 - (1 - c/n)^k.
2. A crossing is stated with an interval over resampled problems, or not at all: curves of a sample nearly always cross somewhere.
3. Support sets are at equal numbers of samples: a problem is in a model's support if one of them is right (2507.14843).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .paired import paired_difference
from .shares import Floats, Interval, mean_interval, wilson


def pass_curves(correct_counts: ArrayLike, samples: int, ks: Sequence[int]) -> Floats:
    """`[problems, ks]`: pass@k of every problem. Raises ValueError for k above `samples`, or counts out of range."""
    c = np.asarray(correct_counts, dtype=np.int64)
    if c.ndim != 1 or not len(c) or (c < 0).any() or (c > samples).any():
        raise ValueError(f"pass@k needs a row of counts between 0 and {samples}")
    if not ks or min(ks) < 1 or max(ks) > samples:
        raise ValueError(f"k goes from 1 to the {samples} samples of a problem, not {list(ks)}")
    found = np.empty((len(c), len(ks)))
    for place, k in enumerate(ks):
        j = np.arange(k)
        found[:, place] = 1 - np.prod(np.clip(samples - c[:, None] - j, 0, None) / (samples - j), axis=1)
    return found


@dataclass(frozen=True)
class Curve:
    """pass@k over problems, with an interval at each k."""

    ks: tuple[int, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Crossing:
    """Where the second curve, ahead at the smallest k, falls to the first or below it."""

    ahead_at_one: float
    """Second minus first at the smallest k."""
    ahead_interval: Interval
    behind_at_most: float
    """Second minus first at the largest k."""
    behind_interval: Interval
    k: int | None
    """The first k at which the second is no longer ahead; None where it stays ahead."""
    share: float
    """Share of resamples in which it is ahead at the smallest k and no longer so at the largest."""
    low: int | None
    """Of the crossing k over those resamples; None where fewer than half of them cross."""
    high: int | None

    @property
    def clear(self) -> bool:
        """Whether both ends are: ahead at the smallest k, behind at the largest, each with an interval that leaves out 0."""
        return self.ahead_interval.low > 0 and self.behind_interval.high < 0


@dataclass(frozen=True)
class Support:
    """Problems by who solves them at equal numbers of samples."""

    preserved: int
    """Solved by both."""
    expanded: int
    """By the second alone."""
    shrunk: int
    """By the first alone."""
    neither: int
    retention: float | None
    """preserved/(preserved + shrunk); None where the first solves none."""
    retention_interval: Interval | None
    discovery: float | None
    """expanded/(preserved + expanded); None where the second solves none."""
    discovery_interval: Interval | None


NEAR = 0.05


def curve(each: Floats, ks: Sequence[int], level: float = 0.95) -> Curve:
    """The mean of pass@k over problems `[problems, ks]`, each with the score interval of a mean; where all are within `NEAR` of 1 (or
    of 0), with the wider one of as many problems that are all solved (or none): their spread says nothing of problems unlike them."""
    ends = [_around(np.clip(each[:, place], 0, 1), level) for place in range(len(ks))]
    mean = each.mean(axis=0)
    return Curve(tuple(ks), tuple(mean.tolist()), tuple(e.low for e in ends), tuple(e.high for e in ends))


def _around(own: Floats, level: float) -> Interval:
    if (own >= 1 - NEAR).all() or (own <= NEAR).all():
        return mean_interval(np.round(own), level)
    return mean_interval(own, level)


def crossing(
    first: Floats, second: Floats, ks: Sequence[int], *, resamples: int = 2_000, seed: int = 0, level: float = 0.95
) -> Crossing:
    """Where the second curve falls to the first; both `[problems, ks]` on the same problems. Raises ValueError for other shapes."""
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != len(ks):
        raise ValueError(
            f"two curves on the same problems and ks are needed: {first.shape}, {second.shape}, {len(ks)} ks"
        )
    gap = second - first
    n, mean = len(gap), gap.mean(axis=0)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n @ gap
    found = int(_fallen(mean[None])[0])
    crosses = (drawn[:, 0] > 0) & (drawn[:, -1] <= 0)
    at = _fallen(drawn[crosses])
    ends = np.quantile(at, [(1 - level) / 2, (1 + level) / 2], method="nearest") if crosses.mean() >= 0.5 else None
    start, end = (paired_difference(first[:, place], second[:, place], level=level) for place in (0, -1))
    return Crossing(
        start.difference, start.interval, end.difference, end.interval, ks[found] if mean[0] > 0 and found < len(ks) else None,
        float(crosses.mean()), None if ends is None else ks[int(ends[0])], None if ends is None else ks[int(ends[1])],
    )  # fmt: skip


def _fallen(gaps: Floats) -> np.ndarray:
    """Per line, the place of the first k at which the second curve is no longer ahead; the number of ks where there is none."""
    behind = gaps <= 0
    return np.where(behind.any(axis=1), behind.argmax(axis=1), gaps.shape[1])


def support(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Support:
    """Support sets from right samples per problem `[problems]` of both, at equal numbers of samples."""
    one, two = np.asarray(first) > 0, np.asarray(second) > 0
    if one.shape != two.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"two rows of counts on the same problems are needed: {one.shape}, {two.shape}")
    both, more, fewer = int((one & two).sum()), int((two & ~one).sum()), int((one & ~two).sum())

    def ratio(top: int, bottom: int) -> tuple[float | None, Interval | None]:
        return (top / bottom, wilson(top, bottom, level)) if bottom else (None, None)

    (kept, around_kept), (new, around_new) = ratio(both, both + fewer), ratio(more, both + more)
    return Support(both, more, fewer, len(one) - both - more - fewer, kept, around_kept, new, around_new)
