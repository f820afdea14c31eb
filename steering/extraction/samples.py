"""Activations of a reading, sample by sample, streamed.

1. `samples` yields one batch of sequences at a time: for each site `[samples, d_model]` in float32, in the order of the reading.
2. `pairs` walks two readings in step: sample k of one belongs to sample k of the other.
3. `gathered` keeps everything, 4 bytes x samples x d_model per site; only what has no streaming form uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.capture import capture
from ..model.models import LoadedModel
from ..model.sites import Site
from .reading import Reading


def samples(
    model: LoadedModel, reading: Reading, sites: Sequence[Site], *, batch_size: int = 32
) -> Iterator[dict[Site, Tensor]]:
    """Residual stream at the samples of `reading`, one dictionary per batch of sequences; sequences with nothing to read are not run.

    Raises BadInput when the reading names no position at all.
    """
    rows = [i for i, wanted in enumerate(reading.positions) if wanted]
    if not rows:
        raise BadInput("The reading names no position, so there is nothing to read; check how it was made.")
    counts = reading.samples
    for batch in capture(model, [reading.sequences[i] for i in rows], sites, batch_size=batch_size):
        where = [rows[i] for i in batch.rows]
        row = torch.tensor([k for k, i in enumerate(where) for _ in reading.positions[i]], device=model.device)
        column = torch.tensor([p for i in where for p in reading.positions[i]], device=model.device)
        values = {site: batch.values[site][row, column].float().cpu() for site in sites}
        if reading.spans is not None:
            starts = [sum(counts[i] for i in where[:k]) for k in range(len(where))]
            number = torch.tensor([starts[k] + n for k, i in enumerate(where) for n in reading.spans[i]])
            values = {site: _means(value, number) for site, value in values.items()}
        yield values


def pairs(
    model: LoadedModel, positive: Reading, negative: Reading, sites: Sequence[Site], *, batch_size: int = 32
) -> Iterator[dict[Site, tuple[Tensor, Tensor]]]:
    """(positive, negative) samples that belong together, `[pairs, d_model]` each.

    Raises BadInput when the readings do not have the same number of samples in every sequence.
    """
    check_paired(positive, negative)
    both = zip(
        samples(model, positive, sites, batch_size=batch_size),
        samples(model, negative, sites, batch_size=batch_size),
        strict=True,
    )
    for high, low in both:
        yield {site: (high[site], low[site]) for site in sites}


def check_paired(positive: Reading, negative: Reading) -> None:
    """Raises BadInput when the two readings cannot be paired sample by sample."""
    a, b = positive.samples, negative.samples
    if a == b:
        return
    if len(a) != len(b):
        raise BadInput(f"Pairs need as many positive as negative sequences; there are {len(a)} and {len(b)}.")
    index = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
    raise BadInput(
        f"Pair {index} has {a[index]} positive and {b[index]} negative samples. Read one sample on each side, for example the last token "
        f"or the mean over a span."
    )


def gathered(
    model: LoadedModel, reading: Reading, sites: Sequence[Site], *, batch_size: int = 32
) -> dict[Site, Tensor]:
    """All samples of a reading in memory: per site `[samples, d_model]`, float32."""
    parts = list(samples(model, reading, sites, batch_size=batch_size))
    return {site: torch.cat([part[site] for part in parts]) for site in sites}


def _means(values: Tensor, number: Tensor) -> Tensor:
    n = int(number.max()) + 1
    totals = torch.zeros(n, values.shape[1], dtype=torch.float64).index_add_(0, number, values.double())
    return (totals / torch.bincount(number, minlength=n)[:, None]).float()
