"""The score table of an autoencoder: one row per latent, every score with its interval, p and q.

1. One pass over the texts gives density, activations, ReasonScore, the AUROC of every labelled behaviour, the correlation with correctness
   and, with a second model, the difference between the two on the same tokens. Memory does not grow with the corpus.
2. A score is there when what it needs is given; nothing is filled in. A latent that is never active on the texts keeps its row; its scores
   are NaN.
3. Intervals are over texts, in `<score>_low` and `<score>_high` at 95 %; `<score>_p` is two-sided, `<score>_q` adjusted over the latents
   (Benjamini and Hochberg). q does not allow for looking at several scores.
4. `attrs` says what was read: digests of autoencoder, model and texts, counts, and what of the run was random.

| column | score | needs |
|---|---|---|
| `density`, `mean`, `mean_active`, `peak` | share of tokens on which it is active; mean activation, and where active; largest | |
| `reason_score`, `reason_entropy` | `reason_score` | `vocabulary` |
| `auroc_<label>` | `auroc`, against 0.5 | labelled spans |
| `correctness` | correlation over texts of the mean activation over generated tokens with a right answer | `Text.correct` |
| `cot_difference`, `cot_standardised` | `differences` | `pairs` |
| `thinking_difference`, `thinking_standardised` | mean over texts of a text's mean activation in `thinking` minus in `model` | `thinking` |
| `thinking_density` | `density` in `thinking` | `thinking` |
| `injection`, `injection_unigram` ..., `injection_class` | `injection`, NaN for latents not asked for | `injection` |
| `promoted`, `demoted`, `logit_share`, `logit_kurtosis` | `logit_effect` | `logit_tokens` |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from steering.errors import BadInput, unknown
from steering.extraction.reading import Reading
from steering.model.models import LoadedModel
from steering.model.prompts import token_texts

from .auroc import SpanHistograms
from .corpus import Encoded, Text, encoded
from .dictionary import Dictionary
from .differences import paired_difference
from .estimates import adjusted, jackknifed, share_interval
from .injection import NAMES, UNTESTED, Injection
from .logit_effect import logit_effects
from .moments import Correlation, Firing, GroupedSums, Spread
from .reason_score import Vocabulary, reason_estimates

COUNTED, GENERATED = 0, 1
"""Columns of the pass's sums; those of the vocabulary's windows follow."""


class ScorePass:
    """What one pass over `texts` gathers. `add` every batch of `encoded(model, dictionary, texts)`, then take `columns`.

    `groups` is the number of groups of texts that the jackknife leaves out in turn.
    """

    def __init__(
        self,
        model: LoadedModel,
        dictionary: Dictionary,
        texts: Sequence[Text],
        *,
        vocabulary: Vocabulary | None = None,
        thinking: bool = False,
        groups: int = 20,
    ):
        if groups < 2:
            raise BadInput(f"groups {groups} must be at least 2: the jackknife leaves out one at a time.")
        self._model, self._dictionary, self._texts, self._vocabulary = model, dictionary, texts, vocabulary
        self.groups = max(1, min(groups, len(texts)))
        latents = dictionary.latents
        words = len(vocabulary.words) + 1 if vocabulary else 0
        self.sums = GroupedSums(self.groups, 2 + words, latents)
        self.activity = Firing(self.groups, dictionary)
        labels = sorted({span.label for text in texts for span in text.spans})
        self._spans = SpanHistograms(self.groups, labels, latents) if labels else None
        known = {text.correct for text in texts if text.correct is not None}
        if len(known) == 1:
            raise BadInput(
                f"Every text with a known answer is {'right' if True in known else 'wrong'}, so nothing can be correlated with it; give "
                f"texts of both, or leave `correct` out."
            )
        self._correctness = Correlation(latents) if known else None
        self._thinking = (Spread(latents), Firing(self.groups, dictionary, stride=0)) if thinking else None

    @torch.inference_mode()
    def add(self, batch: Encoded, thinking: Encoded | None = None) -> None:
        """Take in one batch, and what `thinking` makes of the same one. Sets latents to 0 where tokens do not count."""
        latents, mask = _silenced(batch)
        group = torch.tensor([index % self.groups for index in batch.texts])
        sums = self.sums.add(group, self._members(batch, mask), latents)
        self.activity.add(group, latents, mask, batch.activations)
        counted, generated = mask.sum(1), self._generated(batch, mask).sum(1)
        if self._spans is not None:
            for row, index in enumerate(batch.texts):
                if self._texts[index].spans:
                    self._spans.add(index % self.groups, self._texts[index].spans, latents[row], mask[row])
        if self._correctness is not None:
            answers = [self._texts[index].correct for index in batch.texts]
            kept = torch.tensor([a is not None for a in answers]) & (generated > 0)
            means = sums[kept, GENERATED] / generated[kept, None]
            self._correctness.add(means, torch.tensor([bool(a) for a in answers])[kept])
        if self._thinking is not None:
            assert thinking is not None and thinking.texts == batch.texts
            spread, activity = self._thinking
            theirs, same = _silenced(thinking)
            activity.add(group, theirs, same, thinking.activations)
            step = (theirs.sum(1) - sums[:, COUNTED]) / counted.clamp_min(1)[:, None]
            spread.add(step[counted > 0])

    def columns(self) -> dict[str, Any]:
        """The table's columns. Raises BadInput when no token counted, or a score cannot be had from these texts."""
        activity, sums = self.activity, self.sums
        if not activity.tokens.sum():
            raise BadInput("The texts hold special tokens only; there is nothing to score.")
        density = activity.density
        alive = density > 0
        shares = _without(activity.active, activity.tokens)
        low, high = share_interval(density, shares, len(self._texts))
        total, tokens = sums.sums[:, COUNTED], sums.tokens[:, COUNTED]
        mean = (total.sum(0) / tokens.sum()).numpy()
        means = jackknifed(mean, _without(total, tokens))
        active = activity.active.sum(0).numpy()
        found: dict[str, Any] = {"density": density, "density_low": low, "density_high": high}
        found |= {"mean": mean, "mean_low": means.low, "mean_high": means.high}
        found["mean_active"] = total.sum(0).numpy() / np.where(alive, active, np.nan)
        found["peak"] = activity.peak.double().numpy()
        if self._vocabulary is not None:
            order = [*range(2, sums.sums.shape[1]), COUNTED]
            scores, entropy = reason_estimates(
                sums.sums[:, order], sums.tokens[:, order], self._dictionary.norms.cpu(), self._vocabulary
            )
            found |= scores.where(alive).columns("reason_score")
            found["reason_entropy"] = np.where(alive, entropy.numpy(), np.nan)
        if self._spans is not None:
            for label, estimates in self._spans.estimates().items():
                found |= estimates.where(alive).columns(f"auroc_{label}")
        if self._correctness is not None:
            found |= self._correctness.estimates().where(alive).columns("correctness")
        if self._thinking is not None:
            spread, theirs = self._thinking
            found |= spread.estimates().where(alive | (theirs.density > 0)).columns("thinking_difference")
            found["thinking_standardised"] = spread.standardised
            found["thinking_density"] = theirs.density
        return found

    def facts(self) -> dict[str, Any]:
        """What was read, and how well the autoencoder gives it back."""
        found: dict[str, Any] = {
            "texts": len(self._texts),
            "tokens": int(self.activity.tokens.sum()),
            "groups": self.groups,
            "l0": self.activity.l0,
            "explained_variance": self.activity.explained_variance,
        }
        if self._vocabulary is not None:
            near = self.sums.tokens[:, 2:].sum(0).long().tolist()
            found["window_tokens"] = dict(zip(self._vocabulary.words, near, strict=False))
            found["window"] = [self._vocabulary.before, self._vocabulary.after]
        return found

    def _generated(self, batch: Encoded, mask: Tensor) -> Tensor:
        prompts = torch.tensor([self._texts[index].prompt for index in batch.texts])
        return mask & (torch.arange(mask.shape[1]) >= prompts[:, None])

    def _members(self, batch: Encoded, mask: Tensor) -> Tensor:
        members = torch.zeros(len(mask), self.sums.sums.shape[1], mask.shape[1])
        members[:, COUNTED] = 1.0
        members[:, GENERATED] = self._generated(batch, mask).float()
        if self._vocabulary is not None:
            for row, index in enumerate(batch.texts):
                ids = self._texts[index].ids
                members[row, 2:, : len(ids)] = self._vocabulary.windows(self._model, ids)
        return members * mask[:, None].float()


def score_table(
    model: LoadedModel,
    dictionary: Dictionary,
    texts: Sequence[Text],
    *,
    vocabulary: Vocabulary | None = None,
    pairs: tuple[Reading, Reading] | None = None,
    thinking: LoadedModel | None = None,
    injection: Injection | None = None,
    logit_tokens: int = 0,
    groups: int = 20,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Score every latent on `texts` (see the module for the columns). Indexed by latent.

    `vocabulary`: ReasonScore's words. `pairs`: readings of the same questions (chain of thought, direct). `thinking`: a second model, read
    on the same ids. `injection`: from `injection_effects`. `logit_tokens`: how many tokens each latent writes for are listed.

    Raises BadInput for no texts, an autoencoder of another width, labels or answers that are all the same, words of which fewer than two
    occur, or an injection through another autoencoder.
    """
    if injection is not None and injection.dictionary != dictionary.digest:
        raise BadInput(
            f"The injection was done through autoencoder {injection.dictionary}, not {dictionary.name} ({dictionary.digest}); run "
            f"injection_effects on this one."
        )
    seen = ScorePass(model, dictionary, texts, vocabulary=vocabulary, thinking=thinking is not None, groups=groups)
    own = encoded(model, dictionary, texts, batch_size=batch_size)
    if thinking is None:
        for batch in own:
            seen.add(batch)
    else:
        for batch, other in zip(own, encoded(thinking, dictionary, texts, batch_size=batch_size), strict=True):
            seen.add(batch, other)
    columns = seen.columns()
    if pairs is not None:
        paired = paired_difference(model, dictionary, *pairs, batch_size=batch_size)
        columns |= paired.difference.columns("cot_difference")
        columns["cot_standardised"] = paired.standardised
    if injection is not None:
        columns |= _injection_columns(injection, dictionary.latents)
    if logit_tokens:
        columns |= _logit_columns(model, dictionary, logit_tokens)
    table = pd.DataFrame(columns, index=pd.RangeIndex(dictionary.latents, name="latent"))
    table.attrs = {
        "dictionary": dictionary.digest,
        "dictionary_name": dictionary.name,
        "site": dictionary.site.name,
        "model": model.fingerprint,
        "model_id": model.id,
        "thinking": thinking and thinking.fingerprint,
        "corpus": _digest(texts),
        "pairs": pairs and [side.digest for side in pairs],
        "injection_texts": injection and injection.texts,
        "seed": injection and injection.seed,
        **seen.facts(),
    }
    return table


def candidates(table: pd.DataFrame, by: str, n: int, q: float = 0.05) -> list[int]:
    """The `n` latents (or fewer) with the largest score `by`, of those above its null value at an adjusted p of at most `q`.

    Scores without a test (`density`, `peak`, ...) are ranked as they are. Raises BadInput for a column that is not a score of the table.
    """
    scores = [c for c in table.columns if pd.api.types.is_numeric_dtype(table[c])]
    if by not in scores:
        raise unknown("score", by, scores)
    if n < 1:
        raise BadInput(f"n {n} must be at least 1.")
    found = table[table[by].notna()]
    if f"{by}_q" in table.columns:
        null = 0.5 if by.startswith("auroc_") else 0.0
        found = found[(found[f"{by}_q"] <= q) & (found[by] > null)]
    return [int(latent) for latent in found[by].sort_values(ascending=False, kind="stable").index[:n]]


def _silenced(batch: Encoded) -> tuple[Tensor, Tensor]:
    rows, positions = (~batch.mask).nonzero().unbind(1)
    batch.latents[rows, positions] = 0.0
    return batch.latents, batch.mask


def _without(sums: Tensor, tokens: Tensor) -> np.ndarray:
    """Means without each group, `[groups, latents]`, from `sums [groups, latents]` and `tokens [groups]`."""
    return ((sums.sum(0) - sums) / (tokens.sum() - tokens)[:, None]).numpy()


def _injection_columns(injection: Injection, latents: int) -> Mapping[str, Any]:
    names = ("injection", "injection_low", "injection_high", "injection_p", *(f"injection_{n}" for n in NAMES.values()))
    found: dict[str, Any] = {name: np.full(latents, np.nan) for name in names}
    kinds = np.full(latents, UNTESTED, dtype=object)
    for effect in injection.effects:
        kinds[effect.latent] = effect.kind
        if effect.largest is None:
            continue
        numbers = (effect.largest.d, effect.largest.low, effect.largest.high, effect.p)
        for name, number in zip(names[:4], numbers, strict=True):
            found[name][effect.latent] = number
        for variant in effect.variants:
            found[f"injection_{NAMES[len(variant.ngrams[0])]}"][effect.latent] = variant.d
    found["injection_q"] = adjusted(found["injection_p"])
    return {**found, "injection_class": kinds}


def _logit_columns(model: LoadedModel, dictionary: Dictionary, k: int) -> Mapping[str, Any]:
    effects = logit_effects(model, dictionary, k=k)
    lists = {
        name: [token_texts(model, row.tolist()) for row in ids]
        for name, ids in (("promoted", effects.promoted), ("demoted", effects.demoted))
    }
    return {**lists, "logit_share": effects.share, "logit_kurtosis": effects.kurtosis}


def _digest(texts: Sequence[Text]) -> str:
    found = hashlib.sha256()
    for text in texts:
        spans = [(s.label, s.start, s.end) for s in text.spans]
        found.update(json.dumps([text.ids, text.prompt, spans, text.correct]).encode())
    return found.hexdigest()[:16]
