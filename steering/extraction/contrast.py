"""Extraction by difference of means: where does the residual stream differ between two models, or between two modes of one?

1. `checkpoint_difference` teacher-forces the same token sequences through base and thinking model: mean(thinking) - mean(base) at the same
   positions. The text is identical, so the difference is the models' and not the words'.
2. `mean_difference` contrasts two sets of samples within one model, for example prompts that ask for thinking and prompts that ask
   for a quick answer.
3. `paired_difference` averages the differences within pairs; the direction is that of `mean_difference`, and the notes say how far the
   pairs agree.
4. Every vector carries its provenance: models, contrast, counts, hash of the tokens read. Attention sinks are left out of readings, and
   the notes say so (`sinks_left_out`).
5. Everything streams: memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.capture import mean_at
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import Provenance, SteeringVector
from .reading import Reading
from .samples import pairs, samples
from .sinks import sink_notes, without_sinks


def mean_of(model: LoadedModel, reading: Reading, sites: Sequence[Site]) -> tuple[dict[Site, Tensor], int]:
    """Mean over the samples of a reading per site (float64 `[d_model]`), and how many samples there were."""
    if reading.spans is None:
        return mean_at(model, reading.sequences, reading.positions, sites)
    totals = {site: torch.zeros(model.d_model, dtype=torch.float64) for site in sites}
    for batch in samples(model, reading, sites):
        for site in sites:
            totals[site] += batch[site].double().sum(0)
    return {site: total / reading.count for site, total in totals.items()}, reading.count


def checkpoint_difference(
    base: LoadedModel, thinking: LoadedModel, reading: Reading, sites: Sequence[Site], *, name: str = "thinking - base"
) -> dict[Site, SteeringVector]:
    """mean(thinking) - mean(base) per site on identical tokens, `[d_model]`; to be applied in the base.

    Raises BadInput when a token read means something else to the other model, or the widths differ: the comparison is only defined on the
    same tokens and the same stream. Chat templates, and tokens that are not read, may differ.
    """
    asked, reading = reading, without_sinks(thinking, without_sinks(base, reading))
    check_tokens(base, thinking, reading)
    if base.d_model != thinking.d_model:
        raise BadInput(
            f"{base.id} has d_model {base.d_model}, {thinking.id} has {thinking.d_model}; their streams cannot be subtracted."
        )
    low, count = mean_of(base, reading, sites)
    high, _ = mean_of(thinking, reading, sites)
    vectors = {}
    for site in sites:
        provenance = Provenance(
            "checkpoint difference",
            base.fingerprint,
            base.id,
            contrast=f"mean of {thinking.id} ({thinking.fingerprint}) minus mean of {base.id} on the same tokens",
            data=reading.digest,
            counts=(count, count),
            notes=sink_notes(base, (asked, reading)),
        )
        vectors[site] = SteeringVector(name, site, (high[site] - low[site]).float(), provenance)
    return vectors


def check_tokens(base: LoadedModel, thinking: LoadedModel, reading: Reading) -> None:
    """Raises BadInput when an id of the reading is not the same token to both models, naming the first few."""
    if base.tokenizer_fingerprint == thinking.tokenizer_fingerprint:
        return
    ids = sorted({token for sequence in reading.sequences for token in sequence})
    mine, theirs = (model.tokenizer.convert_ids_to_tokens(ids) for model in (base, thinking))
    odd = [(i, a, b) for i, a, b in zip(ids, mine, theirs, strict=True) if a != b]
    if odd:
        shown = ", ".join(f"{i}: {a!r} and {b!r}" for i, a, b in odd[:5])
        raise BadInput(
            f"{base.id} and {thinking.id} cannot read the same tokens: {len(odd)} of the {len(ids)} ids read differ ({shown}). Read texts "
            f"without tokens that only one of them knows, or use a pair with one vocabulary (steer pair check)."
        )


def mean_difference(
    model: LoadedModel, positive: Reading, negative: Reading, sites: Sequence[Site], *, name: str, contrast: str
) -> dict[Site, SteeringVector]:
    """mean(positive) - mean(negative) per site within one model, `[d_model]`. `contrast` says in words what was subtracted from what."""
    asked = positive, negative
    positive, negative = (without_sinks(model, reading) for reading in asked)
    notes = sink_notes(model, (asked[0], positive), (asked[1], negative))
    high, n_high = mean_of(model, positive, sites)
    low, n_low = mean_of(model, negative, sites)
    vectors = {}
    for site in sites:
        provenance = Provenance(
            "mean difference",
            model.fingerprint,
            model.id,
            contrast,
            f"{positive.digest}-{negative.digest}",
            (n_high, n_low),
            notes=notes,
        )
        vectors[site] = SteeringVector(name, site, (high[site] - low[site]).float(), provenance)
    return vectors


def paired_difference(
    model: LoadedModel, positive: Reading, negative: Reading, sites: Sequence[Site], *, name: str, contrast: str
) -> dict[Site, SteeringVector]:
    """Mean over pairs of positive - negative per site, `[d_model]` (CAA, arXiv 2312.06681).

    Notes: `agreement`, the mean cosine between a pair's difference and the vector, in [-1, 1]; high agreement goes with steering that works
    (arXiv 2505.22637). Pairs whose two sides are identical have no direction and count as 0. Raises BadInput when the readings do not pair.
    """
    asked = positive, negative
    positive, negative = (without_sinks(model, reading) for reading in asked)
    notes = sink_notes(model, (asked[0], positive), (asked[1], negative))
    totals = {site: torch.zeros(model.d_model, dtype=torch.float64) for site in sites}
    units = {site: torch.zeros(model.d_model, dtype=torch.float64) for site in sites}
    for batch in pairs(model, positive, negative, sites):
        for site, (high, low) in batch.items():
            difference = high.double() - low.double()
            totals[site] += difference.sum(0)
            units[site] += torch.nn.functional.normalize(difference, dim=1).sum(0)
    vectors = {}
    for site in sites:
        mean = totals[site] / positive.count
        agreement = float(units[site] @ mean / mean.norm().clamp_min(1e-300)) / positive.count
        provenance = Provenance(
            "paired difference",
            model.fingerprint,
            model.id,
            contrast,
            f"{positive.digest}-{negative.digest}",
            (positive.count, negative.count),
            notes={"agreement": agreement, **notes},
        )
        vectors[site] = SteeringVector(name, site, mean.float(), provenance)
    return vectors
