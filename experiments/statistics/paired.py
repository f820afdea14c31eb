"""Two conditions on the same items: the difference, its interval, and its test.

Sources: Efron 1987 (BCa); McNemar 1947, exact form; Fisher 1935 (sign-flip permutation); Field & Welsh 2007 (cluster bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .bootstrap import _CHUNK, RESAMPLES, _bootstrap, _item_means, _mean, _ratio_of_means
from .shares import Floats, Interval


@dataclass(frozen=True)
class PairedDifference:
    """How b differs from a on the same items."""

    difference: float
    """Mean of b minus mean of a."""
    interval: Interval
    method: str
    """`BCa bootstrap`, `percentile bootstrap` or `all differences equal`."""
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


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> PairedDifference:
    """b minus a on paired values, `[items]` or `[items, seeds]`, 0/1 or any numbers; NaN where a seed is missing.

    The interval is a BCa bootstrap over items (resampling pairs is resampling their differences); it has no width
    where all differences are equal. Raises ValueError for shapes that differ or an item without a pair.
    """
    first, second = _item_means(a, b)
    d = second - first
    value = float(d.mean())
    interval, method = _bootstrap([d], _mean, value, resamples, seed, level)
    # Means of equal samples may differ in the last bits.
    helped, hurt = int((d > 1e-12).sum()), int((d < -1e-12).sum())
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all() and np.asarray(a).size == len(d))
    if binary:
        p, test = mcnemar_exact(helped, hurt), "exact McNemar"
    else:
        p, test = _sign_flip(d, resamples, seed), "sign-flip permutation over items"
    return PairedDifference(value, interval, method, len(d), helped, hurt, p, test, float((d**2).mean()))


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
    interval, method = _bootstrap([sums, sizes], _ratio_of_means, value, resamples, seed, level)
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
