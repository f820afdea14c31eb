"""Activations of a model as an endless, shuffled stream of training batches, in bounded memory.

1. Sequences are read up to the site and no further, a batch at a time; what special tokens carry, and attention sinks, are left out
   unless asked for: one sink can hold nearly all of the variance.
2. A buffer of fixed size is kept half full of unread activations; each batch is drawn from it at random. The same seed gives the
   same stream. Where it is known how many batches will be drawn, no more is read than they hold, to the end of a forward pass.
3. When the sequences are used up they are read again in another order; where activations are held, they are kept in bfloat16 at the first
   reading, and the model is run no more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.memory import free_bytes
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .corpus import counted, padded

POOL = 1024
"""Sequences that are sorted by length together, so that batches pad little."""


def activation_stream(
    model: LoadedModel,
    sequences: Sequence[Sequence[int]],
    site: Site,
    *,
    batch: int = 4096,
    buffer: int = 65_536,
    read_tokens: int = 8192,
    seed: int = 0,
    keep_specials: bool = False,
    keep_sinks: bool = False,
    hold: bool = False,
    skip: int = 0,
    batches: int | None = None,
) -> Iterator[Tensor]:
    """Batches `[batch, width]` float32 of activations at `site`: `batches` of them in all, or for ever. The first `skip` are drawn and
    dropped; `read_tokens` are read in one forward pass, padding included. `hold`: keep what was read, 2 bytes per number, in place of
    reading again.

    Raises BadInput when there are no sequences, the buffer does not hold two batches, or what is to be held does not fit into memory.
    """
    if not sequences:
        raise BadInput("There are no sequences to read activations from.")
    if buffer < 2 * batch:
        raise BadInput(f"A buffer of {buffer} activations does not hold two batches of {batch}.")
    left = None if batches is None else batches * batch
    if hold:
        _refuse_too_much(sum(map(len, sequences)), model.layout.width(site))
    if left is not None:
        buffer, read_tokens = min(buffer, max(left, 2 * batch)), min(read_tokens, max(left, 1))
    generator, order = torch.Generator().manual_seed(seed), random.Random(seed)
    held = torch.empty(0, model.layout.width(site))
    source = _endless(lambda: _rows(model, sequences, site, read_tokens, order, keep_specials, keep_sinks), hold, order)
    drawn = 0
    while left is None or left > 0:
        wanted = buffer if left is None else min(buffer, left)
        if len(held) < min(wanted, buffer // 2 + batch):
            parts, count = [held], len(held)
            while count < wanted:
                part = next(source)
                parts.append(part)
                count += len(part)
            held = torch.cat(parts)
            held = held[torch.randperm(len(held), generator=generator)]
        taken, held = held[:batch], held[batch:]
        drawn += 1
        left = None if left is None else left - batch
        if drawn > skip:
            yield taken


def _refuse_too_much(tokens: int, width: int) -> None:
    needed, free = tokens * width * torch.bfloat16.itemsize, free_bytes("cpu")
    if needed > free:
        raise BadInput(
            f"{tokens:,} activations of width {width} take {needed / 2**30:.1f} GiB when they are held, and {free / 2**30:.1f} GiB are "
            f"free; do not hold them, or train on fewer texts."
        )


def _endless(read: Callable[[], Iterator[Tensor]], hold: bool, order: random.Random) -> Iterator[Tensor]:
    """Reading after reading; where they are held, the first one again and again, its parts in another order each time."""
    while not hold:
        yield from read()
    kept = []
    for part in read():
        kept.append(part.bfloat16())
        yield kept[-1].float()
    while True:
        order.shuffle(kept)
        yield from (part.float() for part in kept)


def _rows(
    model: LoadedModel,
    sequences: Sequence[Sequence[int]],
    site: Site,
    tokens: int,
    order: random.Random,
    keep_specials: bool,
    keep_sinks: bool,
) -> Iterator[Tensor]:
    """Every activation once, `[n, width]` float32 per forward pass."""
    found = False
    for chunk in _chunks(sequences, tokens, order):
        for captured in capture(model, chunk, [site], batch_size=len(chunk)):
            ids, _ = padded([chunk[row] for row in captured.rows], captured.mask.shape[1])
            wanted = counted(model, ids, captured.mask.cpu(), keep_specials=keep_specials, keep_sinks=keep_sinks)
            values = captured.values[site].float().cpu()[wanted]
            found = found or bool(len(values))
            yield values
    if not found:
        raise BadInput(
            "All tokens of the sequences are special tokens or attention sinks; nothing is left to train on."
        )


def _chunks(sequences: Sequence[Sequence[int]], tokens: int, order: random.Random) -> Iterator[list[Sequence[int]]]:
    """All sequences once, in random order, in batches of similar length that hold `tokens` with their padding (or one sequence)."""
    places = list(range(len(sequences)))
    order.shuffle(places)
    for start in range(0, len(places), POOL):
        pool = sorted(places[start : start + POOL], key=lambda place: len(sequences[place]))
        batches: list[list[Sequence[int]]] = [[]]
        for place in pool:
            if batches[-1] and (len(batches[-1]) + 1) * len(sequences[place]) > tokens:
                batches.append([])
            batches[-1].append(sequences[place])
        order.shuffle(batches)
        yield from batches
