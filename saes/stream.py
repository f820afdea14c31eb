"""Activations of a model as an endless, shuffled stream of training batches, in bounded memory.

1. Sequences are read up to the site and no further, a batch at a time; what special tokens carry is left out unless asked for.
2. A buffer of fixed size is kept half full of unread activations; each batch is drawn from it at random. The same seed gives the
   same stream.
3. When the sequences are used up they are read again in another order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steering.capture import capture
from steering.errors import BadInput
from steering.models import LoadedModel
from steering.sites import Site


def activation_stream(
    model: LoadedModel,
    sequences: Sequence[Sequence[int]],
    site: Site,
    *,
    batch: int = 4096,
    buffer: int = 65_536,
    read_batch: int = 64,
    seed: int = 0,
    keep_specials: bool = False,
    skip: int = 0,
) -> Iterator[Tensor]:
    """Batches `[batch, width]` float32 of activations at `site`, for ever. `skip` batches are drawn and dropped first.

    Raises BadInput when there are no sequences, or the buffer does not hold two batches.
    """
    if not sequences:
        raise BadInput("There are no sequences to read activations from.")
    if buffer < 2 * batch:
        raise BadInput(f"A buffer of {buffer} activations does not hold two batches of {batch}.")
    generator, order = torch.Generator().manual_seed(seed), random.Random(seed)
    held = torch.empty(0, model.layout.width(site))
    source = _rows(model, sequences, site, read_batch, order, keep_specials)
    drawn = 0
    while True:
        if len(held) < buffer // 2 + batch:
            parts, count = [held], len(held)
            while count < buffer:
                part = next(source)
                parts.append(part)
                count += len(part)
            held = torch.cat(parts)
            held = held[torch.randperm(len(held), generator=generator)]
        taken, held = held[:batch], held[batch:]
        drawn += 1
        if drawn > skip:
            yield taken


def _rows(
    model: LoadedModel,
    sequences: Sequence[Sequence[int]],
    site: Site,
    read_batch: int,
    order: random.Random,
    keep_specials: bool,
) -> Iterator[Tensor]:
    special = set() if keep_specials else set(model.tokenizer.all_special_ids)
    while True:
        places = list(range(len(sequences)))
        order.shuffle(places)
        found = False
        for start in range(0, len(places), read_batch):
            chunk = [sequences[place] for place in places[start : start + read_batch]]
            for captured in capture(model, chunk, [site], batch_size=read_batch):
                wanted = captured.mask.clone()
                for row, index in enumerate(captured.rows):
                    for position, token in enumerate(chunk[index]):
                        if token in special:
                            wanted[row, position] = False
                values = captured.values[site][wanted].float().cpu()
                found = found or bool(len(values))
                yield values
        if not found:
            raise BadInput("All tokens of the sequences are special tokens; nothing is left to train on.")
