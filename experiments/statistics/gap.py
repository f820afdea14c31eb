"""The share of a gap that a treatment recovers.

Sources: Donner & Zou 2012, Statistical Methods in Medical Research 21:347 (ratio by recovery of variance estimates, MOVER-R); Tango 1998
(the intervals it is made from); Fieller 1954 (ratio of means, beside it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .bootstrap import RESAMPLES, _item_means
from .paired import paired_difference
from .shares import Floats, Interval


@dataclass(frozen=True)
class GapRecovered:
    """Share of the gap from baseline to reference that a treatment closes. Where it is not defined, value and interval
    are None and `reason` says why."""

    defined: bool
    value: float | None
    interval: Interval | None
    gap: float
    """Mean of the reference minus mean of the baseline."""
    gap_interval: Interval
    n: int
    reason: str | None
    fieller: Interval | None = None
    """The interval by Fieller's theorem, for comparison: it has no width where nothing changed, and covers less where little did. None
    where it is unbounded or the share is not defined."""


def gap_recovered(
    baseline: ArrayLike,
    treated: ArrayLike,
    reference: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> GapRecovered:
    """(treated - baseline) / (reference - baseline), means over the same items, each `[items]` or `[items, seeds]`.

    The interval holds the ratios r for which the interval of mean(treated - baseline) - r·mean(reference - baseline), recovered from
    the score intervals of the two differences and their correlation over items (a lower bound of it), holds 0. Not defined unless
    the interval of the gap lies above 0: around 0 the ratio has no finite spread, and below 0 there is nothing to recover.
    """
    low, middle, high = _item_means(baseline, treated, reference)
    span = paired_difference(low, high, resamples=resamples, seed=seed, level=level)
    bounds = f"{100 * level:g} % interval {span.interval.low:+.3f} to {span.interval.high:+.3f}"
    value: float | None = None
    second: Interval | None = None
    interval: Interval | None = None
    reason: str | None = None
    if 0 in span.interval:
        reason = f"the gap from baseline to reference may be zero ({bounds})"
    elif span.difference < 0:
        reason = f"the reference is below the baseline ({bounds})"
    else:
        value = float((middle - low).mean() / (high - low).mean())
        part = paired_difference(low, middle, resamples=resamples, seed=seed, level=level)
        interval = _ratio(
            (part.difference, part.interval),
            (span.difference, span.interval),
            correlation_bound(middle - low, high - low),
        )
        second = fieller(middle - low, high - low, level)
    return GapRecovered(reason is None, value, interval, span.difference, span.interval, span.n, reason, second)


def correlation_bound(x: Floats, y: Floats) -> float:
    """A lower bound of the items' correlation where it is positive (its standard error below the estimate); the estimate where it is not; 0
    where one of the two does not vary. A correlation taken at its estimate makes the ratio's interval cover 87 to 92 % when a treatment
    mends just the items that the reference mends."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    found = float(np.corrcoef(x, y)[0, 1])
    return found if found <= 0 else max(-1.0, found - (1 - found**2) / np.sqrt(len(x)) - 1 / len(x))


def _ratio(top: tuple[float, Interval], bottom: tuple[float, Interval], correlation: float) -> Interval:
    """MOVER-R: the ratios r at which the recovered interval of top - r·bottom holds 0. The bottom's interval lies above 0."""
    (x, of_x), (y, of_y) = top, bottom

    def bound(r: float, side: int) -> float:
        """Lower (-1) or upper (1) end of the interval of x - r·y."""
        far = x - of_x.low if side < 0 else of_x.high - x
        other = of_y.high - y if (side < 0) == (r >= 0) else y - of_y.low
        agree = correlation if r >= 0 else -correlation
        size = abs(r)
        return (
            x - r * y + side * float(np.sqrt(max(0.0, far**2 + (size * other) ** 2 - 2 * agree * far * size * other)))
        )

    ends = []
    for side in (-1, 1):
        inner, step = x / y, 1.0
        while side * bound(inner + side * step, side) >= 0 and step < 1e9:  # a ratio that far off is still possible
            step *= 2
        outer = inner + side * step
        for _ in range(80):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if side * bound(middle, side) >= 0 else (inner, middle)
        ends.append(round((inner + outer) / 2, 12))
    return Interval(ends[0], ends[1], of_x.level)


def fieller(top: ArrayLike, bottom: ArrayLike, level: float = 0.95) -> Interval | None:
    """Interval of mean(top)/mean(bottom) over paired items `[items]`: the ratios r for which top - r·bottom may have mean zero.

    With t the quantile at n - 1, g = t²·v_bb/b² and v the covariance of the means: (r - g·v_tb/v_bb ± t/b·sqrt(v_tt - 2·r·v_tb + r²·v_bb -
    g·(v_tt - v_tb²/v_bb)))/(1 - g). None where g is 1 or more: then no ratio is excluded on one side. Raises ValueError for unequal rows.
    """
    t, b = np.asarray(top, dtype=float), np.asarray(bottom, dtype=float)
    if t.shape != b.shape or t.ndim != 1 or len(t) < 2:
        raise ValueError("Fieller's interval needs two equally long rows of at least two items")
    (v_tt, v_tb), (_, v_bb) = np.cov(t, b) / len(t)
    mean_t, mean_b = float(t.mean()), float(b.mean())
    quantile = float(stats.t.ppf(0.5 + level / 2, len(t) - 1))
    g = np.inf if mean_b == 0 else quantile**2 * v_bb / mean_b**2
    if g >= 1:
        return None
    ratio = mean_t / mean_b
    if v_bb == 0:
        half = quantile / abs(mean_b) * np.sqrt(v_tt)
        return Interval(float(ratio - half), float(ratio + half), level)
    inner = v_tt - 2 * ratio * v_tb + ratio**2 * v_bb - g * (v_tt - v_tb**2 / v_bb)
    half = quantile / abs(mean_b) * np.sqrt(max(inner, 0.0)) / (1 - g)
    centre = (ratio - g * v_tb / v_bb) / (1 - g)
    # Where all ratios agree the rounding of the last bits must not open an interval.
    return Interval(round(float(centre - half), 12), round(float(centre + half), 12), level)
