"""Statistics of runs: intervals, paired comparisons, the gap recovered, pass@k, and what a sample size can show.

1. Pure functions of arrays; equal arguments give equal numbers (the bootstrap has its own seeded generator).
2. Items are what was sampled: with several seeds per item (`[items, seeds]`) the seeds are averaged within the item
   first and items are resampled, so seeds never pass for independent items.
3. A number that is not defined is None with the reason, never a guess: a ratio to a gap that may be zero has no value.
4. Shares are in [0, 1], differences in the units of the values; levels and power are shares.

Sources: Wilson 1927 (score interval); Korn & Graubard 1998 (effective sample size); McNemar 1947, exact form; Efron
1987 (BCa); Chen et al. 2021, arXiv 2107.03374, equation 1 (pass@k); Holm 1979; Connor 1987 (sample size for paired
shares).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
RESAMPLES = 10_000
_CHUNK = 500_000
"""Resampled values held at once."""


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; `level` is its coverage, 0.95 for 95 %."""

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


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


@dataclass(frozen=True)
class PassAtK:
    """Probability that at least one of k samples is right, averaged over problems."""

    value: float
    interval: Interval
    k: int
    n: int
    """Problems."""


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


def _item_means(*groups: ArrayLike) -> list[Floats]:
    """Each group as one number per item, `[items]`, from `[items]` or `[items, seeds]`. NaN marks a sample that is
    missing: a sample counts where no group misses it. Raises ValueError for unequal shapes and for an item without a
    common sample."""
    arrays = [np.asarray(g, dtype=float) for g in groups]
    shape = arrays[0].shape
    if any(a.shape != shape for a in arrays) or len(shape) not in (1, 2) or 0 in shape:
        shapes = ", ".join(str(list(a.shape)) for a in arrays)
        raise ValueError(f"paired values need one common shape, [items] or [items, seeds], not {shapes}")
    held = ~np.any([np.isnan(a) for a in arrays], axis=0).reshape(shape[0], -1)
    counts = held.sum(axis=1)
    if (counts == 0).any():
        raise ValueError(f"item {int(np.argmin(counts))} has no sample that all groups hold; leave it out")
    return [np.where(held, a.reshape(held.shape), 0.0).sum(axis=1) / counts for a in arrays]


class _Unbounded(Exception):
    """The bootstrap interval is not finite."""


def _bootstrap(
    columns: Sequence[Floats], statistic: Callable[..., Floats], value: float, resamples: int, seed: int, level: float
) -> tuple[Interval, str]:
    """Interval of a statistic of paired columns `[items]`, items resampled with replacement; BCa, or percentile
    where BCa is not defined (its bias or acceleration is infinite or 0/0). `statistic(*columns, axis)` is
    vectorised. Raises _Unbounded when neither is finite."""
    if all((c == c[0]).all() for c in columns):
        return Interval(value, value, level), "all differences equal"
    batch = max(1, _CHUNK // len(columns[0]))
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        for method, name in (("BCa", "BCa bootstrap"), ("percentile", "percentile bootstrap")):
            found = stats.bootstrap(
                columns,
                statistic,
                paired=True,
                vectorized=True,
                n_resamples=resamples,
                batch=batch,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
            if np.isfinite([found.low, found.high]).all():
                # A bound of 0 must stay 0: means of thirds and sevenths are off by the last bit.
                return Interval(round(float(found.low), 12), round(float(found.high), 12), level), name
    raise _Unbounded


def _mean(values: Floats, axis: int = -1) -> Floats:
    return np.asarray(values.mean(axis=axis))


def _ratio_of_means(top: Floats, bottom: Floats, axis: int = -1) -> Floats:
    return np.asarray(top.mean(axis=axis) / bottom.mean(axis=axis))


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
    interval: Interval | None = None
    reason: str | None = None
    if 0 in span.interval:
        reason = f"the gap from baseline to reference may be zero ({bounds})"
    elif span.difference < 0:
        reason = f"the reference is below the baseline ({bounds})"
    else:
        value = float((middle - low).mean() / (high - low).mean())
        try:
            interval, _ = _bootstrap([middle - low, high - low], _ratio_of_means, value, resamples, seed, level)
        except _Unbounded:
            value, reason = None, f"the gap is so uncertain that its share has no finite interval ({bounds})"
    return GapRecovered(reason is None, value, interval, span.difference, span.interval, span.n, reason)


def pass_at_k(
    correct_counts: ArrayLike,
    samples: int | ArrayLike,
    k: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> PassAtK:
    """Unbiased pass@k: the mean over problems of 1 - C(n-c, k)/C(n, k), for c right of n samples.

    `correct_counts` is `[problems]`, `samples` the same or one number for all. The interval is a bootstrap over
    problems. Raises ValueError for k above the samples of a problem, or counts out of range.
    """
    c = np.asarray(correct_counts, dtype=np.int64)
    n = np.broadcast_to(np.asarray(samples, dtype=np.int64), c.shape)
    if c.ndim != 1 or len(c) == 0 or (c < 0).any() or (c > n).any():
        raise ValueError("pass@k needs a row of counts, each between 0 and the samples of its problem")
    if not 1 <= k <= n.min():
        raise ValueError(f"pass@{k} needs k between 1 and the fewest samples of a problem, {n.min()}")
    # C(n-c, k)/C(n, k) is the product over j < k of (n-c-j)/(n-j), which is 0 as soon as n-c < k.
    j = np.arange(k)
    each = 1.0 - np.prod(np.clip(n[:, None] - c[:, None] - j, 0, None) / (n[:, None] - j), axis=1)
    value = float(each.mean())
    interval, _ = _bootstrap([each], _mean, value, resamples, seed, level)
    return PassAtK(value, interval, k, len(c))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted for being one family, in the order given: p(i)·(m-i+1) of the sorted ones, made
    non-decreasing, at most 1. Raises ValueError for a value outside [0, 1]."""
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1) | np.isnan(p)).any():
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return tuple(adjusted.tolist())


def minimum_detectable_difference(
    n: int, discordant_rate: float, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest difference of two paired shares that McNemar's two-sided test at `alpha` finds with `power` on n items.

    Solves n·δ² = (z_a·sqrt(ψ) + z_b·sqrt(ψ - δ²))² for δ, with ψ the share of discordant pairs (with several seeds per
    item: the mean squared difference of an item). A difference needs at least as many discordant pairs: ψ is raised to
    δ where it is below. A normal approximation, somewhat optimistic for small n. None where even n pairs that all
    point one way are not significant.
    """
    if n < 1 or not 0 <= discordant_rate <= 1:
        raise ValueError(f"n must be at least 1 and the discordant rate within [0, 1], not {n} and {discordant_rate}")
    if 2.0 ** (1 - n) > alpha:
        return None
    z_a, z_b = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    scale = (z_a * np.sqrt(n) + z_b * np.sqrt(n + z_b**2 - z_a**2)) / (n + z_b**2)
    return float(max(scale * np.sqrt(discordant_rate), scale**2))
