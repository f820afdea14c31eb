"""Streaming sums over latents: what is kept of a corpus while it is read.

1. Every accumulator takes in one batch at a time and holds a fixed number of values per latent, whatever the number of texts.
2. Sums are kept in float64. Those of `GroupedSums` and `Activity` are kept per group of texts (a text's number modulo the groups), so
   that estimates without one group can be had at the end.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from steering.errors import BadInput

from .dictionary import Dictionary
from .estimates import Estimates, correlation_estimates, t_estimates


class GroupedSums:
    """Sums of activations over sets of tokens ("columns", which may overlap), per group of texts.

    `sums [groups, columns, latents]`, `tokens [groups, columns]`.
    """

    def __init__(self, groups: int, columns: int, latents: int):
        self.sums = torch.zeros(groups, columns, latents, dtype=torch.float64)
        self.tokens = torch.zeros(groups, columns, dtype=torch.float64)

    def add(self, groups: Tensor, members: Tensor, latents: Tensor) -> Tensor:
        """Take in `latents [rows, positions, latents]` of texts in `groups [rows]`, with `members [rows, columns, positions]` 1 where a
        token belongs to a column and 0 elsewhere. Returns the rows' own sums, `[rows, columns, latents]`."""
        sums = torch.bmm(members, latents)
        self.sums.index_add_(0, groups, sums.double())
        self.tokens.index_add_(0, groups, members.sum(-1).double())
        return sums


class Firing:
    """How often each latent is active, its largest activation, and how well `reconstruct` gives back what was read.

    `active [groups, latents]`, `tokens [groups]`, `peak [latents]`. The reconstruction is measured on every `stride`-th token of a batch.
    """

    def __init__(self, groups: int, dictionary: Dictionary, stride: int = 16):
        self.active = torch.zeros(groups, dictionary.latents, dtype=torch.float64)
        self.tokens = torch.zeros(groups, dtype=torch.float64)
        self.peak = torch.zeros(dictionary.latents)
        self._dictionary, self._stride = dictionary, stride
        self._read, self._missed, self._squares = 0, 0.0, 0.0
        self._total = torch.zeros(dictionary.width, dtype=torch.float64)

    def add(self, groups: Tensor, latents: Tensor, mask: Tensor, activations: Tensor) -> None:
        """Take in `latents [rows, positions, latents]`, which must be 0 outside `mask [rows, positions]`, and what they were read from."""
        active = torch.stack(
            [row.sign().sum(0) for row in latents]
        )  # row by row: a copy of all of them would not fit the cache
        self.active.index_add_(0, groups, active.double())
        self.tokens.index_add_(0, groups, mask.sum(1, dtype=torch.float64))
        torch.maximum(self.peak, latents.amax((0, 1)), out=self.peak)
        if self._stride:
            h = activations.flatten(0, 1)[mask.flatten().nonzero()[:: self._stride, 0]]
            missed = self._dictionary.reconstruct(h).cpu() - h
            self._read += len(h)
            self._missed += float(missed.double().square().sum())
            self._squares += float(h.double().square().sum())
            self._total += h.double().sum(0)

    @property
    def density(self) -> np.ndarray:
        """Share of the tokens on which each latent is active."""
        return (self.active.sum(0) / self.tokens.sum()).numpy()

    @property
    def l0(self) -> float:
        """Latents active per token, mean."""
        return float(self.active.sum() / self.tokens.sum())

    @property
    def explained_variance(self) -> float:
        """1 - sum ||h - ĥ||² / sum ||h - mean||² over the tokens measured; NaN when they are all alike."""
        spread = self._squares - float(self._total.square().sum()) / max(self._read, 1)
        return 1 - self._missed / spread if spread > 0 else float("nan")


class Spread:
    """Count, mean `[latents]` and squared deviations `[latents]` of samples (Chan, Golub and LeVeque 1983)."""

    def __init__(self, latents: int):
        self.count = 0
        self.mean = torch.zeros(latents, dtype=torch.float64)
        self.squares = torch.zeros(latents, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in `values [n, latents]`."""
        if not len(values):
            return
        values = values.double()
        mean, count = values.mean(0), len(values)
        step, total = mean - self.mean, self.count + count
        self.squares += (values - mean).square().sum(0) + step.square() * (self.count * count / total)
        self.mean += step * (count / total)
        self.count = total

    @property
    def deviation(self) -> np.ndarray:
        """Sample standard deviation `[latents]`; NaN with fewer than two samples."""
        if self.count < 2:
            return np.full(len(self.mean), np.nan)
        return (self.squares / (self.count - 1)).sqrt().numpy()

    @property
    def standardised(self) -> np.ndarray:
        """Mean over standard deviation (Cohen's d of paired samples); NaN where nothing varies."""
        return self.mean.numpy() / np.where(self.deviation > 0, self.deviation, np.nan)

    def estimates(self) -> Estimates:
        """Means with t intervals and p values against 0."""
        return t_estimates(self.mean.numpy().copy(), self.deviation / np.sqrt(max(self.count, 1)), self.count - 1)


class Correlation:
    """Point-biserial correlation of a number per latent with a yes or no, over texts: Pearson's r with the yes as 1."""

    def __init__(self, latents: int):
        self._sides = Spread(latents), Spread(latents)

    def add(self, values: Tensor, yes: Tensor) -> None:
        """Take in `values [n, latents]` and `yes [n]` bool."""
        for side, chosen in zip(self._sides, (~yes, yes), strict=True):
            side.add(values[chosen])

    def estimates(self) -> Estimates:
        """r with Fisher intervals; NaN where a latent does not vary. Raises BadInput when one side is empty, or for too few texts."""
        no, yes = self._sides
        if not (no.count and yes.count):
            raise BadInput(
                f"{yes.count} texts are right and {no.count} wrong, so nothing can be correlated with it; give texts of both, or leave "
                f"`correct` out."
            )
        total = no.count + yes.count
        step = (yes.mean - no.mean).numpy()
        between = no.count * yes.count / total
        squares = (no.squares + yes.squares).numpy() + between * step**2
        r = step * np.sqrt(between) / np.sqrt(np.where(squares > 0, squares, np.nan))
        return correlation_estimates(r, total)
