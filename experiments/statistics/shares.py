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


def _wilson(share: float, n: float, level: float) -> Interval:
    z = float(stats.norm.ppf(0.5 + level / 2))
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
