"""Intervals, and shares with theirs.

Sources: Wilson 1927 (score interval); Korn & Graubard 1998 (effective sample size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; `level` is its coverage, 0.95 for 95 %."""

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of a share: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).

    Raises ValueError without 0 <= successes <= n and n of at least 1.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"a share needs 0 <= successes <= n and n of at least 1, not {successes} of {n}")
    return _wilson(successes / n, float(n), level)


def _wilson(share: float, n: float, level: float, quantile: float | None = None) -> Interval:
    z = float(stats.norm.ppf(0.5 + level / 2)) if quantile is None else quantile
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return Interval(float(low), float(high), level)


def wilson_clustered(successes: ArrayLike, counts: ArrayLike, level: float = 0.95) -> Interval:
    """Score interval of a share when item i gives `successes[i]` of `counts[i]` samples.

    The samples count as n' = p(1-p)/V independent ones, V = G/(G-1)·Σ(sᵢ - p·mᵢ)²/(Σmᵢ)² being the variance of the
    share between G items, and n' being kept within [G, Σmᵢ]; it is G where p is 0 or 1. One sample per item
    gives `wilson`.
    """
    s, m = np.asarray(successes, float), np.asarray(counts, float)
    if s.shape != m.shape or s.ndim != 1 or len(s) == 0 or (m < 1).any() or (s < 0).any() or (s > m).any():
        raise ValueError("each item needs 0 <= successes <= counts, counts of at least 1, in two equally long rows")
    items, total = len(s), float(m.sum())
    share = float(s.sum() / total)
    effective = float(items)
    if items > 1 and 0 < share < 1:
        variance = items / (items - 1) * float(((s - share * m) ** 2).sum()) / total**2
        effective = total if variance == 0 else float(np.clip(share * (1 - share) / variance, items, total))
    return _wilson(share, effective, level)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Score interval of the mean of numbers in [0, 1], `[items]`, each of which may itself be a probability or a vote.

    The items count as n' = p(1-p)/V independent 0/1 samples, V being the variance of their mean, and n' being kept at n or more; it is n
    where all are equal. Student's quantile, with n - 1 degrees of freedom. Raises ValueError for values outside [0, 1].
    """
    v = np.asarray(values, dtype=float)
    if v.ndim != 1 or len(v) == 0 or not ((v >= 0) & (v <= 1)).all():
        raise ValueError("a mean of shares needs a row of numbers between 0 and 1")
    n, share = len(v), float(v.mean())
    variance = float(v.var(ddof=1)) / n if n > 1 else 0.0
    effective = max(n, share * (1 - share) / variance) if variance > 0 else n
    return _wilson(share, float(effective), level, float(stats.t.ppf(0.5 + level / 2, max(1, n - 1))))
