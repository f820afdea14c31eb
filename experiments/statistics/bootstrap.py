"""Means of items and the bootstrap over items.

Items are what was sampled: with several seeds per item the seeds are averaged within the item first. Source: Efron 1987 (BCa).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .shares import Floats, Interval

RESAMPLES = 10_000
_CHUNK = 500_000
"""Resampled values held at once."""


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
