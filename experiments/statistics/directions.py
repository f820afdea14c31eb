"""A vector against the distribution of random directions, each its own draw. Whether edits are of equal size is for the caller to tell.

1. A random direction is one draw of a distribution: large edits along many directions change texts, so one of them says little. The rank of
   the vector's effect among R draws has a p that is never below 1/(R + 1).
2. The interval of "vector minus random" holds both sources of variance: the items that were answered and the directions that were drawn.
3. A vector that was chosen among K directions is the best of K draws if it is random, and keeps that on new problems: its rank is corrected
   for K (`corrected_rank_p`), or compared with the best of whole pseudo-sweeps (`max_rank_p`).

Sources: Phipson & Smyth 2010, arXiv 1603.05766 (p of a permutation is (1 + b)/(1 + R)); Westfall & Young 1993 (max-T); Šidák 1967; Owen
2007, Annals of Applied Statistics 1:386 (variance of crossed random effects).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .bootstrap import _item_means
from .gap import correlation_bound
from .shares import Floats, Interval, mean_interval

FEW_DIRECTIONS = 20
"""With fewer directions the interval covers less than it says (74 % with five directions of which a quarter have a large effect)."""
LEVEL = 0.05


@dataclass(frozen=True)
class AgainstDirections:
    """A vector's values beside those of R random directions on the same items."""

    difference: float
    """Mean of the vector minus mean over all directions."""
    interval: Interval
    """Over items and directions."""
    directions: int
    n: int
    """Items."""
    rank_p: float
    """One-sided: (1 + directions that do at least as much)/(1 + R)."""
    as_good: int
    """Directions whose mean is at least the vector's (at most, of a vector that lowers)."""
    means: tuple[float, ...]
    """Mean of each direction, smallest first."""

    @property
    def few(self) -> bool:
        """Whether there are too few directions for the interval to cover what it says."""
        return self.directions < FEW_DIRECTIONS

    def band(self, level: float = 0.95) -> tuple[float, float]:
        """The means between which that share of the directions lies (quantiles of the drawn means)."""
        low, high = np.quantile(self.means, [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    @property
    def note(self) -> str:
        """What to say beside the difference."""
        low, high = self.means[0], self.means[-1]
        said = (
            f"{self.as_good} of {self.directions} random directions do at least as much (one-sided p = {self.rank_p:.3g}, never "
            f"below {1 / (1 + self.directions):.3g}); theirs lie between {100 * low:.1f} and {100 * high:.1f} %"
        )
        return said + ("; too few directions for the interval to be relied on" if self.few else "")


def against_directions(
    own: ArrayLike, others: ArrayLike, *, level: float = 0.95, lowers: bool = False
) -> AgainstDirections:
    """A vector's values `[items]` or `[items, seeds]`, in [0, 1], against those of R directions, `[R, items]` or `[R, items, seeds]`.

    Ranks are one-sided: among directions that raise the values as much, or with `lowers` that lower them as much.

    The interval joins (MOVER, Donner & Zou 2012) the score interval of the vector's mean and that of the directions' mean, with a lower
    bound of their correlation over items, and Student's interval of the directions' means. Raises ValueError for shapes that differ and
    values outside [0, 1].
    """
    stacked = np.asarray(others, dtype=float)
    if stacked.ndim < 2 or len(stacked) == 0:
        raise ValueError("random directions come in front of items: [directions, items] or [directions, items, seeds]")
    mine, *theirs = _item_means(own, *stacked)
    table = np.stack(theirs)
    if min(mine.min(), table.min()) < 0 or max(mine.max(), table.max()) > 1:
        raise ValueError("only shares in [0, 1] are compared with directions")
    level_of_each = table.mean(axis=0)
    own, other = float(mine.mean()), float(level_of_each.mean())
    value, means = own - other, np.sort(table.mean(axis=1))
    mine_interval, their_interval = mean_interval(mine, level), mean_interval(level_of_each, level)
    agree = max(0.0, correlation_bound(mine, level_of_each))
    drawn = _of_directions(means, level)

    def reach(one: float, two: float) -> float:
        return math.sqrt(max(0.0, one**2 + two**2 - 2 * agree * one * two) + drawn**2)

    low = max(-1.0, value - reach(own - mine_interval.low, their_interval.high - other))
    high = min(1.0, value + reach(mine_interval.high - own, other - their_interval.low))
    interval = Interval(round(low, 12), round(high, 12), level)
    sign = -1 if lowers else 1
    p = rank_p(sign * float(mine.mean()), sign * means)
    as_good = round(p * (1 + len(table))) - 1
    return AgainstDirections(value, interval, len(table), len(mine), p, as_good, tuple(map(float, means)))


def _of_directions(means: Floats, level: float) -> float:
    """Half the width of Student's interval of the mean over directions; that of one direction is not known."""
    if len(means) < 2:
        return 1.0
    quantile = float(stats.t.ppf(0.5 + level / 2, len(means) - 1))
    return quantile * float(means.std(ddof=1)) / math.sqrt(len(means))


def rank_p(effect: float, null: ArrayLike) -> float:
    """One-sided p of an effect among draws of its null distribution `[R]`: (1 + draws at least as large)/(1 + R). Raises ValueError without
    draws, and for values that are not finite."""
    draws = np.asarray(null, dtype=float)
    if draws.ndim != 1 or len(draws) == 0 or not np.isfinite(draws).all() or not np.isfinite(effect):
        raise ValueError("a rank needs a finite effect and a row of finite draws")
    return float((1 + (draws >= effect - 1e-12).sum()) / (1 + len(draws)))


def corrected_rank_p(p: float, chosen_among: int) -> float:
    """The p of the best of `chosen_among` directions: 1 - (1 - p)^K (Šidák). With one direction it is p itself."""
    if not (chosen_among >= 1 and 0 <= p <= 1):
        raise ValueError(
            f"a p between 0 and 1 of a direction chosen among at least one is corrected, not {p} among {chosen_among}"
        )
    return float(-math.expm1(chosen_among * math.log1p(-p))) if p < 1 else 1.0


def directions_needed(chosen_among: int, level: float = LEVEL) -> int:
    """The fewest random directions with which the best of `chosen_among` can have a corrected p of `level` or less: 19 for one direction,
    78 for four."""
    if chosen_among < 1 or not 0 < level < 1:
        raise ValueError(
            f"a level between 0 and 1 and a choice among at least one are needed, not {level} among {chosen_among}"
        )
    return math.ceil(1 / -math.expm1(math.log1p(-level) / chosen_among) - 1e-9) - 1


def max_rank_p(cells: ArrayLike, pseudo: ArrayLike) -> tuple[int, float]:
    """The cell with the largest effect, and its p among the largest effects of pseudo-sweeps.

    `cells` is `[cells]`: effects of a sweep's cells on the same items; `pseudo` is `[sweeps, cells]`: the same grid with every vector
    replaced by a random direction, another one in every sweep. Exact for any dependence between cells, because the whole sweep is drawn
    anew. Raises ValueError for shapes that differ.
    """
    own, drawn = np.asarray(cells, dtype=float), np.asarray(pseudo, dtype=float)
    if own.ndim != 1 or drawn.ndim != 2 or drawn.shape[1:] != own.shape:
        raise ValueError(f"pseudo-sweeps need the shape [sweeps, {own.size}], not {list(drawn.shape)}")
    best = int(np.argmax(own))
    return best, rank_p(float(own[best]), drawn.max(axis=1))
