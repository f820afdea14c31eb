"""The share of a gap that a treatment recovers.

Sources: Fieller 1954 (ratio of means); Efron 1987 (BCa).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .bootstrap import RESAMPLES, _bootstrap, _item_means, _ratio_of_means, _Unbounded
from .paired import paired_difference
from .shares import Interval


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
    """The interval by Fieller's theorem, beside the bootstrap's; None where it is unbounded or the share is not defined."""


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

    The interval is a BCa bootstrap of the ratio, whole items resampled, so what the three share cancels. Not defined
    unless the interval of the gap lies above 0: around 0 the ratio has no finite spread, and below 0 there is
    nothing to recover.
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
        try:
            second = fieller(middle - low, high - low, level)
            interval, _ = _bootstrap([middle - low, high - low], _ratio_of_means, value, resamples, seed, level)
        except _Unbounded:
            value, second = None, None
            reason = f"the gap is so uncertain that its share has no finite interval ({bounds})"
    return GapRecovered(reason is None, value, interval, span.difference, span.interval, span.n, reason, second)


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
