"""Reading activations: streamed, never all in memory, and no further up the model than asked for.

1. `capture` yields one batch at a time; nothing is kept between batches.
2. The forward pass stops right after the highest site asked for: later layers, final norm and unembedding are not computed.
3. Sequences on both sides of a rotary limit (`rope`) are read apart and given back together.
4. Values are the residual stream itself. Hugging Face's last `hidden_states` entry is taken after the final norm; this is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput
from .hooks import Edit, hooked
from .models import LoadedModel
from .sites import Site


class _HighestSiteReached(Exception):
    """Ends a forward pass once everything asked for has been read."""


@dataclass(frozen=True)
class Captured:
    """Activations of one batch: `values[site] [rows, positions, d_model]` right-padded, with `mask [rows, positions]` of real tokens."""

    rows: tuple[int, ...]
    values: dict[Site, Tensor]
    mask: Tensor


@torch.inference_mode()
def capture(
    model: LoadedModel, sequences: Sequence[Sequence[int]], sites: Sequence[Site], *, batch_size: int = 32
) -> Iterator[Captured]:
    """Run token sequences (with their BOS) through the model and yield residual-stream activations at `sites`, in input order.

    Raises BadInput for an empty sequence, one longer than the context, no site, or a site the model does not have.
    """
    if not sites:
        raise BadInput("capture needs at least one site, such as blocks.0.hook_resid_post.")
    for site in sites:
        model.layout.check(site)
    for index, sequence in enumerate(sequences):
        if not 0 < len(sequence) <= model.context:
            raise BadInput(f"Sequence {index} has {len(sequence)} tokens; {model.id} reads 1 to {model.context}.")
    for start in range(0, len(sequences), batch_size):
        batch = sequences[start : start + batch_size]
        groups = model.rope.groups([len(sequence) for sequence in batch])
        read = [_read(model, [batch[row] for row in members], sites) for members in groups]
        values, mask = read[0] if len(groups) == 1 else _merged(read, groups)
        yield Captured(tuple(range(start, start + len(batch))), values, mask)


def _read(
    model: LoadedModel, batch: Sequence[Sequence[int]], sites: Sequence[Site]
) -> tuple[dict[Site, Tensor], Tensor]:
    """Activations at `sites` of one pass, and the mask of real tokens."""
    last = max(sites, key=lambda site: site.order)
    lengths = np.array([len(sequence) for sequence in batch])
    padded = np.zeros((len(batch), int(lengths.max())), np.int64)
    for row, sequence in enumerate(batch):
        padded[row, : len(sequence)] = sequence
    ids = torch.from_numpy(padded).to(model.device)
    mask = torch.from_numpy(np.arange(padded.shape[1]) < lengths[:, None]).to(model.device)
    values: dict[Site, Tensor] = {}

    def reader(site: Site) -> Edit:
        def read(hidden: Tensor) -> None:
            if site == last:  # nothing runs after it that could write to it
                values[site] = hidden.detach()
                raise _HighestSiteReached
            values[site] = hidden.detach().clone()

        return read

    with hooked(model.layout, {site: reader(site) for site in sites}):
        try:
            model.model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        except _HighestSiteReached:
            pass
    return values, mask


def _merged(
    parts: Sequence[tuple[dict[Site, Tensor], Tensor]], groups: Sequence[Sequence[int]]
) -> tuple[dict[Site, Tensor], Tensor]:
    """What was read in several passes, as one batch whose rows are in order."""
    rows, width = sum(map(len, groups)), max(mask.shape[1] for _, mask in parts)
    whole = parts[0][1].new_zeros(rows, width)
    values = {site: value.new_zeros(rows, width, value.shape[-1]) for site, value in parts[0][0].items()}
    for (found, mask), members in zip(parts, groups, strict=True):
        whole[list(members), : mask.shape[1]] = mask
        for site, value in found.items():
            values[site][list(members), : mask.shape[1]] = value
    return values, whole


def mean_at(
    model: LoadedModel, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], sites: Sequence[Site]
) -> tuple[dict[Site, Tensor], int]:
    """Mean activation per site (float64 `[d_model]`) over the named positions of each sequence, and how many positions were read."""
    if len(positions) != len(sequences):
        raise BadInput(f"{len(sequences)} sequences but positions for {len(positions)}.")
    for index, (sequence, wanted) in enumerate(zip(sequences, positions, strict=True)):
        if any(not 0 <= p < len(sequence) for p in wanted):
            raise BadInput(
                f"Sequence {index} has {len(sequence)} tokens; positions {list(wanted)[:8]} are not all inside it."
            )
    totals = {site: torch.zeros(model.d_model, dtype=torch.float64) for site in sites}
    count = 0
    for batch in capture(model, sequences, sites):
        chosen = torch.zeros_like(batch.mask)
        for row, index in enumerate(batch.rows):
            chosen[row, list(positions[index])] = True
        count += int(chosen.sum())
        for site in sites:
            totals[site] += batch.values[site][chosen].double().sum(0).cpu()
    if count == 0:
        raise BadInput("No position was named, so there is no mean; check the read positions.")
    return {site: total / count for site, total in totals.items()}, count
