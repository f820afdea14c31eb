"""Level and slopes: logistic fits of success on axes of difficulty.

1. Success is fitted by its log-odds at a reference (the level) and per unit of each axis (the slopes).
2. A fit needs rights and wrongs and axes that vary, else it is None; where the axes tell right from wrong without error, it says that it
   is separated. Half a success and half a failure per coefficient are spread over the rows, so that numbers are finite, also in a resample.
3. Rows of an item belong together: resamples draw whole items, permutations give an item's axes to another one.

Sources: Clogg et al. 1991, Journal of the American Statistical Association 86:68 (pseudo-data); Konis 2007 (separation as a linear
program); Phipson & Smyth 2010 (p of a permutation).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import statsmodels.api as sm
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from scipy.special import expit

from .directions import rank_p
from .shares import Floats, Interval


@dataclass(frozen=True)
class Fitted:
    """Log-odds of success: at the reference, and per unit of each axis."""

    level: float
    slopes: tuple[float, ...]
    separated: bool
    """Whether some combination of the axes tells rights from wrongs: then only the pseudo-data keeps the numbers finite."""

    @property
    def share(self) -> float:
        """Success at the reference."""
        return float(expit(self.level))


def slopes_of(right: ArrayLike, axes: ArrayLike) -> Fitted | None:
    """The fit of `right` `[rows]` (0/1, or shares) on `axes` `[rows, axes]`, whose zero is the reference; None where all rows are right or
    all wrong, and where an axis does not vary or follows from the others. Raises ValueError for shapes that differ."""
    y, x = _checked(right, axes)
    if len(set(y.tolist())) < 2 or np.linalg.matrix_rank(_design(x)) <= x.shape[1]:
        return None
    level, *slopes = _coefficients(y, x)
    return Fitted(float(level), tuple(map(float, slopes)), separated(y, x))


def separated(right: ArrayLike, axes: ArrayLike) -> bool:
    """Whether a hyperplane over the axes leaves no right row on the side of the wrong ones, so that a likelihood has no largest value."""
    y, x = _checked(right, axes)
    if not np.isin(y, (0, 1)).all():
        return False  # a row that is right at times lies on both sides
    signed = _design(x) * np.where(y > 0, 1.0, -1.0)[:, None]
    scale = np.abs(signed).max(axis=0)
    signed = signed / np.where(scale > 0, scale, 1.0)
    found = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(y)), bounds=[(-1, 1)] * signed.shape[1])
    return bool(found.status == 0 and -found.fun > 1e-7)


def resampled_slopes(
    rights: ArrayLike, axes: ArrayLike, items: Sequence[object], resamples: int, seed: int = 0
) -> Floats:
    """Coefficients `[resamples, arms, 1 + axes]` of several arms' rights `[arms, rows]` on the same resampled items, each with all its
    rows. An arm without rights or wrongs in a resample has the finite numbers of the pseudo-data."""
    y, x = np.asarray(rights, dtype=float), np.asarray(axes, dtype=float)
    groups = _groups(items)
    rng = np.random.default_rng(seed)
    found = np.empty((resamples, len(y), 1 + x.shape[1]))
    for place in range(resamples):
        rows = np.concatenate([groups[n] for n in rng.integers(0, len(groups), len(groups))])
        for arm, own in enumerate(y):
            found[place, arm] = _coefficients(own[rows], x[rows])
    return found


def permuted_slopes(
    right: ArrayLike, axes: ArrayLike, items: Sequence[object], permutations: int, seed: int = 0
) -> Floats:
    """Coefficients `[permutations, 1 + axes]` after axes were given to other items. Rows of an item stay together: items of equally many
    rows exchange their axes, and rows of one item exchange theirs."""
    y, x = _checked(right, axes)
    groups, rng = _groups(items), np.random.default_rng(seed)
    found = np.empty((permutations, 1 + x.shape[1]))
    for place in range(permutations):
        other = np.empty_like(x)
        for size in sorted({len(group) for group in groups}):
            own = [group for group in groups if len(group) == size]
            for one, two in zip(own, rng.permutation(len(own)), strict=True):
                other[one] = x[rng.permutation(own[two])]
        found[place] = _coefficients(y, other)
    return found


def around(values: Floats, level: float = 0.95) -> Interval:
    """Percentile interval of resampled values `[resamples]`."""
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high), level)


def varies(axes: ArrayLike) -> list[int]:
    """Axes that can be told apart: each that does not follow from those before it and from a constant."""
    x = np.asarray(axes, dtype=float)
    kept: list[int] = []
    for axis in range(x.shape[1]):
        if np.linalg.matrix_rank(_design(x[:, [*kept, axis]])) == len(kept) + 2:
            kept.append(axis)
    return kept


def slope_p(slope: float, null: Floats) -> float:
    """Two-sided p of a slope among those of permuted axes: (1 + as large ones)/(1 + R)."""
    return rank_p(abs(slope), np.abs(null))


def _coefficients(y: Floats, x: Floats) -> Floats:
    """Level and slopes, with the pseudo-data: k half successes and k half failures spread over the rows, k coefficients."""
    design = _design(x)
    extra = design.shape[1] / (2 * len(y))
    counts = np.column_stack([y + extra, 1 - y + extra])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows that are fitted exactly, in a resample
        return np.asarray(sm.GLM(counts, design, family=sm.families.Binomial()).fit().params, dtype=float)


def _design(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x])


def _groups(items: Sequence[object]) -> list[np.ndarray]:
    known: dict[object, list[int]] = {}
    for row, item in enumerate(items):
        known.setdefault(item, []).append(row)
    return [np.array(rows) for rows in known.values()]


def _checked(right: ArrayLike, axes: ArrayLike) -> tuple[Floats, Floats]:
    y, x = np.asarray(right, dtype=float), np.asarray(axes, dtype=float)
    if y.ndim != 1 or x.ndim != 2 or len(x) != len(y) or not ((y >= 0) & (y <= 1)).all() or not np.isfinite(x).all():
        raise ValueError(f"a fit needs rows of shares in [0, 1] and of finite axes, not {y.shape} and {x.shape}")
    return y, x
