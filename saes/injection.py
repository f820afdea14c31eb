"""Is a latent set off by tokens alone? Token injection (Ma et al., arXiv 2601.05679).

1. A latent's top tokens are the n-grams of a corpus at whose last token it is most active on average: 3 unigrams, 2 bigrams, 1 trigram,
   each seen a least number of times. They are put into texts that hold no reasoning, at random places after the first token.
2. A text's number is the largest activation over its tokens that count. The effect is Cohen's d (pooled deviation) of the texts with the
   tokens against the same texts without, treated as two independent samples as in the paper; intervals by Hedges and Olkin (1985, p. 86).
3. A latent's class goes by the largest d of the three variants, as in the paper. The largest of three is selected: its interval is that of
   one variant and does not allow for the choice; p is multiplied by the number of variants tried. Each variant is reported.
4. Memory does not grow with the corpus: of the n-grams of one length the most frequent `capacity` are kept at least, so on a large corpus a
   rare one may be forgotten.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from steering.errors import BadInput
from steering.model.models import LoadedModel

from .corpus import Text, encoded
from .dictionary import Dictionary
from .estimates import CONFIDENCE

VARIANTS = {1: 3, 2: 2, 3: 1}
"""Length of an n-gram to how many different ones go into a text."""
NAMES = {1: "unigram", 2: "bigram", 3: "trigram"}
CLASSES = ((0.8, "token-driven"), (0.5, "partially token-driven"), (0.2, "weakly token-driven"))
CONTEXT = "context-dependent"
UNTESTED = "untested"

NGram = tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """The effect of injecting n-grams of one length."""

    ngrams: tuple[NGram, ...]
    d: float
    """Infinite when activations differ and do not vary on either side."""
    low: float
    """95 % interval; NaN where d is infinite."""
    high: float
    p: float


@dataclass(frozen=True)
class InjectionEffect:
    """What injection does to one latent. No variants: it is active on no n-gram that is frequent enough."""

    latent: int
    variants: tuple[Variant, ...]

    @property
    def largest(self) -> Variant | None:
        """The variant with the largest d (see the module, 3)."""
        return max(self.variants, key=lambda v: v.d, default=None)

    @property
    def kind(self) -> str:
        """`token-driven` (d at least 0.8), `partially` (0.5) or `weakly token-driven` (0.2), else `context-dependent`; or `untested`."""
        if self.largest is None:
            return UNTESTED
        d = self.largest.d
        return next((name for least, name in CLASSES if d >= least), CONTEXT)

    @property
    def p(self) -> float:
        """p of the largest effect, times the number of variants."""
        return min(1.0, self.largest.p * len(self.variants)) if self.largest else math.nan


@dataclass(frozen=True)
class Injection:
    """Effects on several latents, over `texts` texts."""

    effects: tuple[InjectionEffect, ...]
    texts: int
    seed: int
    dictionary: str
    """Digest of the autoencoder."""


def injection_effects(
    model: LoadedModel,
    dictionary: Dictionary,
    latents: Sequence[int],
    corpus: Sequence[Text],
    originals: Sequence[Sequence[int]],
    *,
    minimum: int = 5,
    seed: int = 0,
    batch_size: int = 16,
    capacity: int = 20_000,
) -> Injection:
    """Inject the top tokens of chosen `latents` on `corpus` into `originals` (ids of texts without reasoning, with BOS).

    An n-gram must occur `minimum` times. Raises BadInput for latents that do not exist, fewer than two originals, or ones so long that
    nothing can be put into them.
    """
    chosen = _checked(dictionary, latents)
    room = model.context - max(n * count for n, count in VARIANTS.items())
    if len(originals) < 2 or not all(0 < len(ids) <= room for ids in originals):
        raise BadInput(
            f"Injection needs at least two texts of 1 to {room} tokens each; got {len(originals)}, the longest of "
            f"{max(map(len, originals), default=0)}."
        )
    tops = top_ngrams(model, dictionary, latents, corpus, minimum=minimum, batch_size=batch_size, capacity=capacity)
    before = _peaks(model, dictionary, [tuple(ids) for ids in originals], chosen, batch_size)
    effects = []
    for place, (latent, found) in enumerate(zip(latents, tops, strict=True)):
        variants = []
        for ngrams in found:
            changed = [injected(ids, ngrams, f"{seed}/{text}") for text, ids in enumerate(originals)]
            after = _peaks(model, dictionary, changed, chosen[place : place + 1], batch_size)
            variants.append(Variant(ngrams, *cohens_d(after[:, 0], before[:, place])))
        effects.append(InjectionEffect(int(latent), tuple(variants)))
    return Injection(tuple(effects), len(originals), seed, dictionary.digest)


def top_ngrams(
    model: LoadedModel,
    dictionary: Dictionary,
    latents: Sequence[int],
    corpus: Sequence[Text],
    *,
    minimum: int = 5,
    batch_size: int = 16,
    capacity: int = 20_000,
) -> list[tuple[tuple[NGram, ...], ...]]:
    """Per latent, its top n-grams of each length that has any: those with the largest mean activation at their last token, over all their
    occurrences. n-grams with special tokens in them are left out."""
    chosen = _checked(dictionary, latents)
    size = 1 + max((max(text.ids) for text in corpus if text.ids), default=0)
    tables = {n: _Means(len(latents), capacity) for n in VARIANTS}
    for batch in encoded(model, dictionary, corpus, batch_size=batch_size):
        for row, index in enumerate(batch.texts):
            ids = torch.tensor(corpus[index].ids)
            z, counted = batch.latents[row, : len(ids)][:, chosen].double(), batch.mask[row, : len(ids)]
            for n, table in tables.items():
                if len(ids) < n:
                    continue
                whole = counted.unfold(0, n, 1).all(1)
                codes = sum(ids[i : len(ids) - n + 1 + i] * size ** (n - 1 - i) for i in range(n))
                assert isinstance(codes, Tensor)
                table.add(codes[whole], z[n - 1 :][whole])
    found = []
    for place in range(len(latents)):
        per_length = (table.top(place, VARIANTS[n], minimum) for n, table in tables.items())
        decoded = (
            tuple(tuple(code // size ** (n - 1 - i) % size for i in range(n)) for code in codes)
            for n, codes in zip(tables, per_length, strict=True)
        )
        found.append(tuple(ngrams for ngrams in decoded if ngrams))
    return found


def injected(ids: Sequence[int], ngrams: Sequence[NGram], seed: str) -> tuple[int, ...]:
    """`ids` with every n-gram put in whole, each at a random place after the first token. The same seed gives the same places."""
    rng = random.Random(f"injection/{seed}/{len(ngrams)}")
    places = sorted((rng.randint(1, len(ids)) for _ in ngrams), reverse=True)
    whole = list(ids)
    for place, ngram in zip(places, rng.sample(list(ngrams), len(ngrams)), strict=True):
        whole[place:place] = ngram
    return tuple(whole)


def cohens_d(after: np.ndarray, before: np.ndarray) -> tuple[float, float, float, float]:
    """(d, low, high, p) of `after [n]` against `before [m]`, pooled deviation; interval and p by the large-sample variance
    (n + m) / nm + d² / 2(n + m)."""
    n, m = len(after), len(before)
    step = float(after.mean() - before.mean())
    pooled = math.sqrt(((n - 1) * after.var(ddof=1) + (m - 1) * before.var(ddof=1)) / (n + m - 2))
    if pooled == 0 and step == 0:
        return 0.0, math.nan, math.nan, math.nan
    if pooled == 0:
        return math.copysign(math.inf, step), math.nan, math.nan, 0.0
    d = step / pooled
    error = math.sqrt((n + m) / (n * m) + d**2 / (2 * (n + m)))
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    return d, d - reach, d + reach, float(2 * stats.norm.sf(abs(d) / error))


class _Means:
    """Sums of activations by n-gram, for the n-grams seen most often (lossy counting, Manku and Motwani 2002)."""

    def __init__(self, latents: int, capacity: int):
        self._codes = torch.empty(0, dtype=torch.long)
        self._counts = torch.empty(0, dtype=torch.long)
        self._sums = torch.empty(0, latents, dtype=torch.float64)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._capacity = capacity

    def add(self, codes: Tensor, values: Tensor) -> None:
        self._waiting.append((codes, values))
        if sum(len(c) for c, _ in self._waiting) >= self._capacity:
            self._merge()

    def top(self, latent: int, count: int, minimum: int) -> list[int]:
        """Codes of the n-grams with the largest mean, above 0."""
        self._merge()
        frequent = (self._counts >= minimum).nonzero()[:, 0]
        means = self._sums[frequent, latent] / self._counts[frequent]
        best = means.argsort(descending=True, stable=True)[:count]
        return [int(self._codes[frequent[i]]) for i in best.tolist() if means[i] > 0]

    def _merge(self) -> None:
        if not self._waiting:
            return
        added = torch.cat([c for c, _ in self._waiting])
        codes, place = torch.cat([self._codes, added]).unique(return_inverse=True)
        counts = torch.zeros(len(codes), dtype=torch.long)
        counts.index_add_(0, place, torch.cat([self._counts, torch.ones(len(added), dtype=torch.long)]))
        sums = torch.zeros(len(codes), self._sums.shape[1], dtype=torch.float64)
        sums.index_add_(0, place, torch.cat([self._sums, *(v for _, v in self._waiting)]))
        self._waiting = []
        if len(codes) > self._capacity:
            kept = counts.argsort(descending=True, stable=True)[: self._capacity]
            codes, counts, sums = codes[kept], counts[kept], sums[kept]
        self._codes, self._counts, self._sums = codes, counts, sums


def _checked(dictionary: Dictionary, latents: Sequence[int]) -> Tensor:
    missing = [latent for latent in latents if not 0 <= latent < dictionary.latents]
    if missing or not latents:
        raise BadInput(
            f"{f'Latent {missing[0]} does not exist' if missing else 'No latent is named'}: {dictionary.name} has "
            f"{dictionary.latents}, 0 to {dictionary.latents - 1}."
        )
    return torch.tensor(list(latents), dtype=torch.long)


def _peaks(
    model: LoadedModel, dictionary: Dictionary, sequences: Sequence[tuple[int, ...]], chosen: Tensor, batch_size: int
) -> np.ndarray:
    """Largest activation over the tokens that count, `[texts, chosen]`; 0 where none counts."""
    found = []
    for batch in encoded(model, dictionary, [Text(ids) for ids in sequences], batch_size=batch_size):
        found.append(torch.where(batch.mask[..., None], batch.latents[..., chosen], 0.0).amax(1))
    return torch.cat(found).double().numpy()
