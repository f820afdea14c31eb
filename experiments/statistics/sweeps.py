"""The best of many cells, and what of it is luck.

1. A sweep's winner is tested against all cells at once: the p-value is that of the largest of the cells' statistics when every item's
   differences may have either sign in all cells together (max-T), so correlated cells cost little and a null sweep wins rarely.
2. The winner's difference is the largest of many noisy ones and therefore too large; `optimism` estimates by how much.
3. Neither replaces a second run: choose on development items, measure on test items (`confirm`).

Sources: Westfall & Young 1993 (max-T); Efron 2014 (bootstrap of a selected estimate).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import RESAMPLES, _item_means
from .paired import PairedDifference, paired_difference
from .shares import Floats


@dataclass(frozen=True)
class SweepWinner:
    """The cell with the largest mean difference from the baseline."""

    cell: int
    difference: float
    """As measured on the items it was chosen on."""
    p: float
    """Two-sided, corrected for the number of cells."""
    p_alone: float
    """Two-sided, as if it had been the only cell."""
    significant: bool
    """Whether it is above the baseline at `alpha` after correction."""
    optimism: float
    """How much of the difference selection adds, by bootstrap; never negative."""
    cells: int
    n: int
    """Items."""
    alpha: float

    @property
    def shrunk(self) -> float:
        """The difference without the optimism."""
        return self.difference - self.optimism

    @property
    def note(self) -> str:
        """What to say beside the winner."""
        return (
            f"The best of {self.cells} cells on {self.n} items: {100 * self.difference:+.1f} points as measured, "
            f"{100 * self.shrunk:+.1f} less what choosing the best adds; p = {self.p:.3g} corrected for {self.cells} cells. "
            f"Measure it on items that it was not chosen on."
        )


def sweep_winner(
    baseline: ArrayLike, cells: ArrayLike, *, alpha: float = 0.05, resamples: int = RESAMPLES, seed: int = 0
) -> SweepWinner:
    """The best of several cells against one baseline on the same items.

    `baseline` is `[items]` or `[items, seeds]`, `cells` the same with the cells in front; higher is better. Raises ValueError for shapes
    that differ, and for items that a cell lacks.
    """
    stacked = np.asarray(cells, dtype=float)
    if stacked.ndim < 2 or len(stacked) == 0:
        raise ValueError("a sweep needs cells in front of items: [cells, items] or [cells, items, seeds]")
    first, *others = _item_means(baseline, *stacked)
    d = np.stack([other - first for other in others])
    means = d.mean(axis=1)
    best = int(np.argmax(means))
    p, alone = _max_t(d, best, resamples, seed)
    return SweepWinner(
        best, float(means[best]), p, alone, bool(p <= alpha and means[best] > 0), _optimism(d, resamples, seed),
        len(d), d.shape[1], alpha,
    )  # fmt: skip


def _max_t(d: Floats, best: int, resamples: int, seed: int) -> tuple[float, float]:
    """p of the best cell's |T| among the largest |T| of all cells, and among its own, T = Σd/sqrt(Σd²), signs flipped by item."""
    scale = np.sqrt((d**2).sum(axis=1))
    scaled = d / np.where(scale > 0, scale, 1.0)[:, None]
    observed = abs(scaled[best].sum()) - 1e-9
    rng, above, alone = np.random.default_rng(seed), 0, 0
    batch = max(1, 2_000_000 // d.size)
    for start in range(0, resamples, batch):
        signs = rng.integers(0, 2, (min(batch, resamples - start), d.shape[1])).astype(float) * 2 - 1
        found = np.abs(signs @ scaled.T)
        above += int((found.max(axis=1) >= observed).sum())
        alone += int((found[:, best] >= observed).sum())
    return (1 + above) / (1 + resamples), (1 + alone) / (1 + resamples)


def _optimism(d: Floats, resamples: int, seed: int) -> float:
    """Mean over bootstrap samples of how much their winner's mean there exceeds its mean on the items themselves."""
    rng, means = np.random.default_rng(seed + 1), d.mean(axis=1)
    n, total, count = d.shape[1], 0.0, min(resamples, 2_000)
    batch = max(1, 2_000_000 // d.size)
    for start in range(0, count, batch):
        size = min(batch, count - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size) / n
        found = weights @ d.T
        chosen = found.argmax(axis=1)
        total += float((found[np.arange(size), chosen] - means[chosen]).sum())
    return max(0.0, total / count)


@dataclass(frozen=True)
class Confirmed:
    """A winner on items that it was not chosen on."""

    chosen: SweepWinner
    test: PairedDifference

    @property
    def lost(self) -> float:
        """How much smaller the difference is on test items."""
        return self.chosen.difference - self.test.difference


def confirm(chosen: SweepWinner, baseline: ArrayLike, winner: ArrayLike, *, seed: int = 0) -> Confirmed:
    """The winner against the baseline on test items: one comparison, so nothing is corrected."""
    return Confirmed(chosen, paired_difference(baseline, winner, seed=seed))
