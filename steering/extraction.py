"""Extraction by difference of means: where does the residual stream differ between two models, or between two modes of one?

1. `checkpoint_difference` teacher-forces the same token sequences through base and thinking model: mean(thinking) - mean(base) at the same
   positions. The text is identical, so the difference is the models' and not the words'.
2. `mean_difference` contrasts two sets of positions within one model, for example prompts that ask for thinking and prompts that ask
   for a quick answer.
3. Every vector carries its provenance: models, contrast, counts, hash of the tokens read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from .capture import mean_at
from .errors import BadInput
from .models import LoadedModel
from .sites import Site
from .vectors import Provenance, SteeringVector


@dataclass(frozen=True)
class Reading:
    """Token sequences (with BOS) and the positions to read in each."""

    sequences: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]

    @staticmethod
    def last_token(sequences: Sequence[Sequence[int]]) -> Reading:
        """Read each sequence at its last token."""
        return Reading(tuple(map(tuple, sequences)), tuple((len(s) - 1,) for s in sequences))

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([self.sequences, self.positions]).encode()).hexdigest()[:16]


def checkpoint_difference(
    base: LoadedModel, thinking: LoadedModel, reading: Reading, sites: Sequence[Site], *, name: str = "thinking - base"
) -> dict[Site, SteeringVector]:
    """mean(thinking) - mean(base) per site on identical tokens, `[d_model]`; to be applied in the base.

    Raises BadInput when the models' tokenizers or widths differ: the comparison is only defined on the same tokens and the same stream.
    """
    if base.tokenizer_fingerprint != thinking.tokenizer_fingerprint:
        raise BadInput(f"{base.id} and {thinking.id} do not share a tokenizer, so they cannot read the same tokens.")
    if base.d_model != thinking.d_model:
        raise BadInput(
            f"{base.id} has d_model {base.d_model}, {thinking.id} has {thinking.d_model}; their streams cannot be subtracted."
        )
    low, count = mean_at(base, reading.sequences, reading.positions, sites)
    high, _ = mean_at(thinking, reading.sequences, reading.positions, sites)
    vectors = {}
    for site in sites:
        provenance = Provenance(
            "checkpoint difference",
            base.fingerprint,
            base.id,
            contrast=f"mean of {thinking.id} ({thinking.fingerprint}) minus mean of {base.id} on the same tokens",
            data=reading.digest,
            counts=(count, count),
        )
        vectors[site] = SteeringVector(name, site, (high[site] - low[site]).float(), provenance)
    return vectors


def mean_difference(
    model: LoadedModel, positive: Reading, negative: Reading, sites: Sequence[Site], *, name: str, contrast: str
) -> dict[Site, SteeringVector]:
    """mean(positive) - mean(negative) per site within one model, `[d_model]`. `contrast` says in words what was subtracted from what."""
    high, n_high = mean_at(model, positive.sequences, positive.positions, sites)
    low, n_low = mean_at(model, negative.sequences, negative.positions, sites)
    vectors = {}
    for site in sites:
        provenance = Provenance(
            "mode difference",
            model.fingerprint,
            model.id,
            contrast,
            f"{positive.digest}-{negative.digest}",
            (n_high, n_low),
        )
        vectors[site] = SteeringVector(name, site, (high[site] - low[site]).float(), provenance)
    return vectors
