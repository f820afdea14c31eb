"""Two conditions on the same items: the difference, its interval, and its test.

1. Shares (values in [0, 1], one or several samples per item) have score intervals, which cover at small counts and always have a width.
2. Other numbers have BCa bootstrap intervals; where all their differences are equal, the score interval of a mean bounded by their range.

Sources: Tango 1998 (score interval); Efron 1987 (BCa); McNemar 1947, exact form; Fisher 1935 (sign-flip permutation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .bootstrap import _CHUNK, RESAMPLES, _bootstrap, _item_means, _mean, _ratio_of_means
from .score import mean_difference_interval
from .shares import Floats, Interval

SCORE, BOUNDED = "score interval (Tango)", "score interval of a bounded mean"
LEVELS = 512
"""Most samples that a share in [0, 1] is taken to be the mean of."""


@dataclass(frozen=True)
class PairedDifference:
    """How b differs from a on the same items."""

    difference: float
    """Mean of b minus mean of a."""
    interval: Interval
    method: str
    """`SCORE` for shares; else `BCa bootstrap`, `percentile bootstrap`, or `BOUNDED` where all differences are equal."""
    n: int
    """Items."""
    helped: int
    """Items on which b is above a."""
    hurt: int
    """Items on which b is below a."""
    p: float
    """Two-sided, of no difference."""
    test: str
    """`exact McNemar` for one 0/1 value per item, else `sign-flip permutation over items`."""
    mean_square: float
    """Mean squared difference of an item: for one 0/1 value per item, the share of discordant pairs."""

    @property
    def clear(self) -> bool:
        """Whether interval and test agree that there is a difference. They are of different methods, and near the edge they need not."""
        return 0 not in self.interval and self.p <= 1 - self.interval.level


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> PairedDifference:
    """b minus a on paired values, `[items]` or `[items, seeds]`, 0/1 or any numbers; NaN where a seed is missing.

    Raises ValueError for shapes that differ or an item without a pair.
    """
    first, second = _item_means(a, b)
    d = second - first
    value = float(d.mean())
    interval, method = _interval(first, second, np.asarray(a, dtype=float), d, np.ones(len(d)), resamples, seed, level)
    # Means of equal samples may differ in the last bits.
    helped, hurt = int((d > 1e-12).sum()), int((d < -1e-12).sum())
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all() and np.asarray(a).size == len(d))
    if binary:
        p, test = mcnemar_exact(helped, hurt), "exact McNemar"
    else:
        p, test = _sign_flip(d, resamples, seed), "sign-flip permutation over items"
    return PairedDifference(value, interval, method, len(d), helped, hurt, p, test, float((d**2).mean()))


def _interval(
    first: Floats, second: Floats, given: Floats, sums: Floats, sizes: Floats, resamples: int, seed: int, level: float
) -> tuple[Interval, str]:
    """Interval of Σsums/Σsizes, the difference of `second` and `first` by item or cluster, and how it was found."""
    both = np.concatenate([first, second])
    if both.min() >= 0 and both.max() <= 1:
        return mean_difference_interval(sums, sizes, samples_per_item(given, both), level), SCORE
    each = sums / sizes
    if np.ptp(each) > 0:
        value = float(sums.sum() / sizes.sum())
        columns = [sums] if (sizes == 1).all() else [sums, sizes]
        return _bootstrap(columns, _mean if len(columns) == 1 else _ratio_of_means, value, resamples, seed, level)
    scale = max(float(np.ptp(both)), float(np.abs(both).max()), abs(float(each[0])))
    found = mean_difference_interval(sums / scale, sizes, 1.0, level)
    return Interval(found.low * scale, found.high * scale, level), BOUNDED


def samples_per_item(given: Floats, means: Floats) -> float:
    """How many 0/1 values the shares of an item are means of: counted where the values themselves were given, else the fewest (up to
    `LEVELS`) that can give these means."""
    held = given[~np.isnan(given)]
    if np.isin(held, (0, 1)).all():
        return held.size / len(given)
    for count in range(1, LEVELS + 1):
        scaled = means * count
        if np.abs(scaled - np.round(scaled)).max() < 1e-6:
            return float(count)
    return float(LEVELS)


def _sign_flip(d: Floats, resamples: int, seed: int) -> float:
    """Two-sided p of a zero mean, each item's difference being as likely negative: (1 + #{|T*| >= |T|})/(1 + R)."""
    rng = np.random.default_rng(seed)
    observed, as_large = abs(d.sum()) - 1e-9 * np.abs(d).sum(), 0
    batch = max(1, _CHUNK // len(d))
    for start in range(0, resamples, batch):
        signs = rng.integers(0, 2, (min(batch, resamples - start), len(d)), dtype=np.int8)
        as_large += int((np.abs(2 * (signs @ d) - d.sum()) >= observed).sum())
    return (1 + as_large) / (1 + resamples)


def mcnemar_exact(helped: int, hurt: int) -> float:
    """Two-sided p of McNemar's test: of `helped` heads in `helped + hurt` tosses of a fair coin; 1 without
    discordant pairs."""
    if helped < 0 or hurt < 0:
        raise ValueError(f"counts of discordant pairs cannot be negative: {helped}, {hurt}")
    return float(stats.binomtest(helped, helped + hurt, 0.5).pvalue) if helped + hurt else 1.0


def clustered_difference(
    a: ArrayLike, b: ArrayLike, clusters: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> PairedDifference:
    """b minus a where items come in clusters (variants of one problem, questions on one text), which are what was sampled.

    The value is the mean over items; interval and permutation resample and flip whole clusters, each `(sum of differences, items)`.
    `clusters` is `[items]`, any labels. n, helped and hurt count clusters. Raises ValueError for unequal lengths.
    """
    first, second = _item_means(a, b)
    labels = np.asarray(clusters)
    if labels.shape != first.shape:
        raise ValueError(f"one cluster per item is needed: {labels.shape} labels for {len(first)} items")
    d = second - first
    _, where = np.unique(labels, return_inverse=True)
    sums, sizes = np.bincount(where, d).astype(np.float64), np.bincount(where).astype(np.float64)
    value = float(d.mean())
    interval, method = _interval(first, second, np.asarray(a, dtype=float), sums, sizes, resamples, seed, level)
    helped, hurt = int((sums > 1e-12).sum()), int((sums < -1e-12).sum())
    p = _sign_flip(sums, resamples, seed)
    return PairedDifference(
        value, interval, method, len(sums), helped, hurt, p, "sign-flip permutation over clusters", float((d**2).mean())
    )


def permutation_test(a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of equal means of two groups that share no items, `[items]` each: the share of relabellings (all of them where
    they are few enough) whose means lie at least as far apart."""
    groups = (np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    if any(g.ndim != 1 or len(g) == 0 or np.isnan(g).any() for g in groups):
        raise ValueError("a permutation test needs two rows of numbers")
    found = stats.permutation_test(
        groups, lambda x, y, axis: np.abs(x.mean(axis=axis) - y.mean(axis=axis)), vectorized=True, alternative="greater",
        n_resamples=resamples, rng=np.random.default_rng(seed), batch=max(1, _CHUNK // sum(map(len, groups))),
    )  # fmt: skip
    return float(found.pvalue)
