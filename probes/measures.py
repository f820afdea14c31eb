"""Measures of scored samples under weights, and their bootstrap over groups.

1. Every measure takes a weight per sample, so a resample of groups is a vector of weights and nothing is copied or sorted again.
2. Ties count one half in the AUROC; average precision is the step sum over distinct scores, as in scikit-learn.
3. Intervals resample whole groups (percentile bootstrap, 95 %). A resample without one of the classes is drawn as it is and left out.
4. Where resamples do not vary and the value is 0 or 1, the open end is Wilson's for n of n, n being the groups of the smaller class.
5. Where the smaller class has fewer than `FEWEST` groups there is no interval (NaN): resamples of two or three groups say little of others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest

from steering.extraction.separability import CONFIDENCE, Interval

RESAMPLES = 400
FEWEST = 5
"""Groups of the rarest class below which no interval is given."""
Measure = Callable[[np.ndarray], float]
"""From weights `[n]` to a value; NaN where it is not defined."""


def auroc(truth: np.ndarray, scores: np.ndarray) -> Measure:
    """P(positive scores above negative) + half of P(equal), for `truth [n]` in {0, 1} and `scores [n]`."""
    ranks = np.unique(scores, return_inverse=True)[1]
    size = int(ranks.max()) + 1

    def measure(weight: np.ndarray) -> float:
        high = np.bincount(ranks, weight * truth, size)
        low = np.bincount(ranks, weight * (1 - truth), size)
        total = high.sum() * low.sum()
        return float(high @ (low.cumsum() - low / 2) / total) if total > 0 else float("nan")

    return measure


def average_precision(truth: np.ndarray, scores: np.ndarray) -> Measure:
    """Sum over thresholds of (recall step) x precision."""
    ranks = np.unique(-scores, return_inverse=True)[1]
    size = int(ranks.max()) + 1

    def measure(weight: np.ndarray) -> float:
        high = np.bincount(ranks, weight * truth, size)
        every = np.bincount(ranks, weight, size).cumsum()
        if not high.sum() > 0:
            return float("nan")
        precision = np.divide(high.cumsum(), every, out=np.zeros(size), where=every > 0)
        return float(high @ precision / high.sum())

    return measure


def mean_of(values: np.ndarray) -> Measure:
    """Weighted mean of `values [n]`."""

    def measure(weight: np.ndarray) -> float:
        total = weight.sum()
        return float(weight @ values / total) if total > 0 else float("nan")

    return measure


def calibration_error(truth: np.ndarray, confidence: np.ndarray, bins: int = 10) -> Measure:
    """ECE: mean over samples of |share of truths - mean confidence| in the sample's bin, equal bins of [0, 1]."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)

    def measure(weight: np.ndarray) -> float:
        total = weight.sum()
        gaps = np.bincount(place, weight * (truth - confidence), bins)
        return float(np.abs(gaps).sum() / total) if total > 0 else float("nan")

    return measure


def group_weights(groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each sample's group is drawn, `[resamples, n]` float32."""
    number = np.unique(groups, return_inverse=True)[1]
    n = int(number.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return drawn.astype(np.float32)[:, number]


def interval(
    measure: Measure, weights: np.ndarray, base: np.ndarray | None = None, smaller: int | None = None
) -> Interval:
    """Value on all samples and percentile interval over the rows of `weights`; `base [n]` multiplies every weight.

    `smaller` is the number of groups of the rarest class; without it neither the fewest groups nor Wilson's bound apply.
    """
    own = np.ones(weights.shape[1]) if base is None else base
    value = measure(own)
    drawn = np.array([measure(row * own) for row in weights])
    return bounds(value, drawn, smaller)


def bounds(value: float, drawn: np.ndarray, smaller: int | None = None, *, share: bool = True) -> Interval:
    """The interval of a value from its resampled values; NaN ones are left out. `share` says that 0 and 1 are the ends of its range."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or np.isnan(value) or (smaller is not None and smaller < FEWEST):
        return Interval(value, float("nan"), float("nan"))
    low, high = (float(q) for q in np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    if share and smaller and low == high and value in (0.0, 1.0):
        found = binomtest(smaller if value == 1.0 else 0, smaller).proportion_ci(CONFIDENCE, method="wilson")
        low, high = (float(found.low), 1.0) if value == 1.0 else (0.0, float(found.high))
    return Interval(value, low, high)
