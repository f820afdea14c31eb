"""What latents do on a corpus, added up batch by batch: how often, how strongly, where in the text, with which labels, with whom.

1. Memory is `latents` times a constant; co-activation rests on a uniform sample of tokens of fixed size (all tokens, where there are no
   more), so that it needs no `[latents, latents]` table.
2. Relative positions and right or wrong answers count generated tokens only; labels count the tokens of their spans.
3. Special tokens do not count anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from .corpus import Encoded, Text

PARTS = 10
"""Bins of relative position in the generated text."""
OCTAVES = 24
"""The histogram reaches from 2^-24 to 2^24; what lies outside counts in its end bins."""
SAMPLE = 65_536
"""Tokens that co-activation is measured on."""


class Activity:
    """Sums over the tokens seen so far. `[latents, ...]` float64 or int64."""

    def __init__(self, latents: int, labels: Sequence[str], *, bins: int = 2):
        self.labels = tuple(labels)
        self.edges = (2.0 ** (torch.arange(-OCTAVES * bins, OCTAVES * bins + 1) / bins)).float()
        self.tokens = 0
        self.active = torch.zeros(latents, dtype=torch.float64)
        self.total = torch.zeros(latents, dtype=torch.float64)
        self.peak = torch.zeros(latents)
        self.histogram = torch.zeros(latents, len(self.edges) - 1, dtype=torch.int64)
        self.groups = torch.zeros(PARTS + 2 + len(self.labels), dtype=torch.float64)
        """Tokens in each part of the text, in right and in wrong answers, and of each label."""
        self.group_active = torch.zeros(latents, len(self.groups), dtype=torch.float64)
        self.group_total = torch.zeros(latents, len(self.groups), dtype=torch.float64)

    def add(self, batch: Encoded, texts: Sequence[Text]) -> None:
        """Count one batch of `texts`, the corpus that its numbers refer to."""
        z = batch.latents[batch.mask]
        if not len(z):
            return
        firing = (z > 0).float()
        self.tokens += len(z)
        self.active += firing.sum(0, dtype=torch.float64)
        self.total += z.sum(0, dtype=torch.float64)
        self.peak = torch.maximum(self.peak, z.amax(0))
        bins = len(self.edges) - 1
        _, latent = firing.nonzero(as_tuple=True)
        place = (torch.bucketize(z[firing > 0], self.edges, right=True) - 1).clamp(0, bins - 1)
        self.histogram += torch.bincount(latent * bins + place, minlength=self.histogram.numel()).view_as(
            self.histogram
        )
        groups = self._groups(batch, texts)[batch.mask]
        self.groups += groups.sum(0, dtype=torch.float64)
        self.group_active += (firing.T @ groups).double()
        self.group_total += (z.T @ groups).double()

    def _groups(self, batch: Encoded, texts: Sequence[Text]) -> Tensor:
        """1 where a token is in a group, `[rows, positions, groups]`."""
        found = torch.zeros(*batch.mask.shape, len(self.groups))
        for row, number in enumerate(batch.texts):
            text = texts[number]
            generated = len(text.ids) - text.prompt
            place = torch.arange(generated)
            found[row, text.prompt + place, place * PARTS // max(generated, 1)] = 1
            if text.correct is not None:
                found[row, text.prompt : len(text.ids), PARTS if text.correct else PARTS + 1] = 1
            for span in text.spans:
                found[row, span.start : span.end, PARTS + 2 + self.labels.index(span.label)] = 1
        return found


class Coactivation:
    """Which latents are active on a sample of the tokens, drawn by `seed`."""

    def __init__(self, latents: int, *, most: int = SAMPLE, seed: int = 0):
        self._random, self._most = np.random.default_rng(seed), most
        self._keys = np.zeros(0)
        self._active = sparse.csr_matrix((0, latents), dtype=np.float32)

    @property
    def tokens(self) -> int:
        return len(self._keys)

    def add(self, batch: Encoded) -> None:
        """Offer the tokens of one batch to the sample."""
        z = batch.latents[batch.mask]
        keys = self._random.random(len(z))
        limit = self._keys.max() if len(self._keys) == self._most else 1.0
        chosen = np.flatnonzero(keys < limit)
        rows = sparse.csr_matrix((z[torch.from_numpy(chosen)] > 0).numpy().astype(np.float32))
        self._keys = np.concatenate([self._keys, keys[chosen]])
        self._active = sparse.vstack([self._active, rows], format="csr")
        if len(self._keys) > self._most:
            kept = np.sort(np.argpartition(self._keys, self._most)[: self._most])
            self._keys, self._active = self._keys[kept], self._active[kept]

    def neighbours(
        self, count: int, *, chunk: int = 256
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]], list[NDArray[np.int64]]]:
        """Per latent, those most associated with it by the phi coefficient of being active on the same tokens (their correlation), highest
        first: (latents, phi, tokens on which both are active). Only latents active together at least once, with positive phi."""
        n = float(self.tokens)
        single = np.asarray(self._active.sum(0)).ravel().astype(np.float64)
        spread = np.sqrt(single * (n - single))
        columns = self._active.tocsc()
        latents, phis, boths = [], [], []
        for start in range(0, columns.shape[1], chunk):
            both = (columns[:, start : start + chunk].T @ self._active).toarray().astype(np.float64)
            own = np.arange(len(both)) + start
            scale = spread[own, None] * spread[None]
            phi = np.divide(
                n * both - single[own, None] * single[None], scale, out=np.zeros_like(both), where=scale > 0
            )
            phi[both == 0] = 0.0
            phi[np.arange(len(both)), own] = 0.0
            for row in range(len(both)):
                best = np.argsort(-phi[row], kind="stable")[:count]
                best = best[phi[row, best] > 0]
                latents.append(best)
                phis.append(phi[row, best])
                boths.append(both[row, best].astype(np.int64))
        return latents, phis, boths
