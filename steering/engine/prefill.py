"""Reading prompts: each distinct prompt once, whatever number of rows and plans continue it.

1. A prompt that a row's plan leaves unedited is read once and its keys and values are copied to the row.
2. A row whose plan edits the prompt from position p on shares what lies before p and reads the rest under its own plan. Where several rows
   edit one prompt, the layers below the first edited one are shared too: the pass begins with the stream that enters that layer.
3. Prompts are kept only while a queued row needs them.
4. Long prompts are read in pieces of `PIECE` tokens, so that what a pass needs beside the cache grows with their length and not with its
   square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.cache import ColumnCache, Masks
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sites import Site
from .batch import Batch
from .reading import Needs, begin_layer, fitting, pieces, shared_tokens
from .record import Progress


@dataclass
class _Entry:
    cache: ColumnCache
    row: int
    logits: Tensor | None
    """`[vocabulary]` after the last prompt token, where it was asked for."""
    streams: dict[int, Tensor]
    """What enters a layer, `[rows of the pass, width, d_model]`, for the layers at which rows begin."""


class PromptPool:
    """Prompts that have been read, by their ids. `waiting` counts the rows that still need each."""

    def __init__(
        self,
        model: LoadedModel,
        masks: Masks,
        needs: dict[tuple[int, ...], Needs],
        waiting: dict[tuple[int, ...], int],
        alone: bool = False,
    ):
        """`alone`: every prompt is read by itself, whole, so that its bits do not depend on others."""
        self.model, self.masks, self.needs, self.waiting, self.alone = model, masks, needs, waiting, alone
        self.entries: dict[tuple[int, ...], _Entry] = {}
        self.tokens_read = 0
        """Prompt tokens fed so far, without padding."""

    def read(self, wanted: Iterable[tuple[int, ...]]) -> None:
        """Read prompts as far as rows need them; those read before are kept."""
        missing = sorted(
            {p for p in wanted if self.needs[p].tokens and p not in self.entries},
            key=lambda p: (self.needs[p].tokens, p),
        )
        while missing:
            count = 1 if self.alone else fitting([self.needs[p].tokens for p in missing], self.model.device)
            chunk, missing = missing[-count:], missing[:-count]
            self._pass(chunk)

    def _pass(self, prompts: Sequence[tuple[int, ...]]) -> None:
        device, model = self.model.device, self.model
        lengths = [self.needs[p].tokens for p in prompts]
        width = max(lengths)
        ids = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
        for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            ids[row, :length] = torch.tensor(prompt[:length], device=device)
        self.tokens_read += sum(lengths)
        cache = ColumnCache(model.n_layers, len(prompts), width)
        noted: dict[int, list[Tensor]] = {layer: [] for p in prompts for layer in self.needs[p].layers}

        def note(layer: int) -> Edit:
            def read(hidden: Tensor) -> None:
                noted[layer].append(hidden)

            return read

        notes = {Site(layer, "resid_pre"): note(layer) for layer in sorted(noted)}
        last = {row: n - 1 for row, (p, n) in enumerate(zip(prompts, lengths, strict=True)) if n == len(p)}
        logits: dict[int, Tensor] = {}
        for begin, end in pieces(width):
            ending = {row: place - begin for row, place in last.items() if begin <= place < end}
            ends = sorted(set(ending.values()))
            cache.open(0, begin, end)
            inputs = {
                "input_ids": ids[:, begin:end],
                "attention_mask": self.masks.make(
                    torch.zeros(len(prompts), dtype=torch.long, device=device), 0, begin, end, model.dtype
                ),
                "position_ids": torch.arange(begin, end, device=device)[None].expand(len(prompts), -1),
                "past_key_values": cache,
                "use_cache": True,
                "logits_to_keep": torch.tensor(ends, device=device) if ends else 1,
            }
            own = [ends.index(ending[row]) if row in ending else 0 for row in range(len(prompts))]
            with model.runs.picking(torch.tensor(own, device=device)):
                found = model.runs.forward(notes, inputs)
            for row in ending:
                logits[row] = found[row, 0 if found.shape[1] == 1 else own[row]].float()
        streams = {layer: parts[0] if len(parts) == 1 else torch.cat(parts, 1) for layer, parts in noted.items()}
        for row, prompt in enumerate(prompts):
            self.entries[prompt] = _Entry(cache, row, logits.get(row), streams)

    def done(self, prompt: tuple[int, ...]) -> None:
        """One row fewer needs the prompt; the last one frees it."""
        self.waiting[prompt] -= 1
        if not self.waiting[prompt]:
            self.entries.pop(prompt, None)

    def copy(
        self,
        batch: Batch,
        places: Sequence[int],
        prompts: Sequence[tuple[int, ...]],
        tokens: Sequence[int],
        layers: slice = slice(None),
    ) -> None:
        """Copy the first `tokens` of each row's prompt into its place, in some layers; they begin at the row's offset."""
        groups: dict[tuple[int, int, int], tuple[ColumnCache, list[int], list[int]]] = {}
        for place, prompt, count in zip(places, prompts, tokens, strict=True):
            if count:
                entry = self.entries[prompt]
                group = groups.setdefault((id(entry.cache), batch.begins[place], count), (entry.cache, [], []))
                group[1].append(place)
                group[2].append(entry.row)
        for (_, offset, count), (cache, to, of) in groups.items():
            batch.cache.copy_rows(torch.tensor(to), offset, cache, torch.tensor(of), 0, count, layers)

    def stream(self, prompts: Sequence[tuple[int, ...]], layer: int, last: int) -> Tensor:
        """What enters `layer` at each prompt's last `last` tokens, left-padded, `[prompts, last, d_model]`."""
        first = self.entries[prompts[0]].streams[layer]
        out = first.new_zeros(len(prompts), last, first.shape[-1])
        for row, prompt in enumerate(prompts):
            entry, count = self.entries[prompt], min(last, len(prompt))
            out[row, last - count :] = entry.streams[layer][entry.row, len(prompt) - count : len(prompt)]
        return out


def admit(batch: Batch, pool: PromptPool, rows: Sequence[Progress]) -> tuple[list[int], Tensor, Tensor]:
    """Seat rows in free places, their prompts read.

    Returns the places, the logits after each prompt `[rows, vocabulary]` and the size of the edit at its last token `[rows]`.
    """
    places = batch.free[: len(rows)]
    pool.read(row.row.read_ids for row in rows)
    logits: dict[int, Tensor] = {}
    ratios: dict[int, Tensor] = {}
    whole: list[tuple[int, Progress]] = []
    private: list[tuple[int, Progress]] = []
    for place, progress in zip(places, rows, strict=True):
        (whole if shared_tokens(progress, pool.alone) == len(progress.row.read_ids) else private).append(
            (place, progress)
        )
    own = private if batch.shared is not None else [*whole, *private]
    batch.clear(places)
    batch.make_way(max((len(progress.row.read_ids) for _, progress in own), default=0))
    for place, progress in whole:
        entry = pool.entries[progress.row.read_ids]
        batch.seat(place, progress, (entry.cache, entry.row) if batch.shared is not None else None)
        found = entry.logits
        assert found is not None
        logits[place], ratios[place] = found, torch.zeros((), device=found.device)
    if batch.shared is None:
        prompts = [progress.row.read_ids for _, progress in whole]
        pool.copy(batch, [place for place, _ in whole], prompts, [len(p) for p in prompts])
    for layer, group in _groups(pool, private):
        found, ratio = _read_privately(batch, pool, group, layer)
        for number, (place, _) in enumerate(group):
            logits[place], ratios[place] = found[number], ratio[number]
    for progress in rows:
        pool.done(progress.row.read_ids)
    batch.refresh()
    return places, torch.stack([logits[p] for p in places]), torch.stack([ratios[p] for p in places])


def _groups(pool: PromptPool, private: list[tuple[int, Progress]]) -> list[tuple[int, list[tuple[int, Progress]]]]:
    """Rows that begin at the same layer and read similar numbers of tokens (`fitting`), with that layer."""
    device = pool.model.device

    def begin(pair: tuple[int, Progress]) -> int:
        layer = begin_layer(pair[1])
        return layer if layer in pool.needs[pair[1].row.read_ids].layers else 0

    def tokens(pair: tuple[int, Progress]) -> int:
        return len(pair[1].row.read_ids) - shared_tokens(pair[1], pool.alone)

    groups: list[tuple[int, list[tuple[int, Progress]]]] = []
    for layer in sorted({begin(pair) for pair in private}):
        waiting = sorted((pair for pair in private if begin(pair) == layer), key=tokens)
        while waiting:
            count = 1 if pool.alone else fitting([tokens(pair) for pair in waiting], device)
            groups.append((layer, waiting[-count:]))
            waiting = waiting[:-count]
    return groups


def _read_privately(
    batch: Batch, pool: PromptPool, group: list[tuple[int, Progress]], layer: int
) -> tuple[Tensor, Tensor]:
    """Read the edited part of each row's prompt under its plan, from `layer` on, in a batch of its own, and move the rows in."""
    prompts = [progress.row.read_ids for _, progress in group]
    fed = max(len(progress.row.read_ids) - shared_tokens(progress, pool.alone) for _, progress in group)
    width = max(map(len, prompts))
    other = Batch(
        batch.model, batch.compiled, len(group), width, batch.positions, batch.masks, batch.history is not None
    )
    other.column = width
    for place, (_, progress) in enumerate(group):
        other.seat(place, progress)
    other.refresh()
    unread = [max(0, len(prompt) - fed) for prompt in prompts]
    if layer:
        pool.copy(other, range(len(group)), prompts, [len(p) for p in prompts], slice(0, layer))
    pool.copy(other, range(len(group)), prompts, unread, slice(layer, None))
    ids = torch.zeros(len(group), fed, dtype=torch.long, device=batch.offset.device)
    for place, prompt in enumerate(prompts):
        tail = prompt[max(0, len(prompt) - fed) :]
        ids[place, fed - len(tail) :] = torch.tensor(tail, device=ids.device)
    other.column = width - fed
    stream = pool.stream(prompts, layer, fed) if layer else None
    for begin, end in pieces(fed):
        resume = None if stream is None else (layer, stream[:, begin:end])
        logits, ratio = other.forward(ids[:, begin:end], 0, None, resume)
    pool.tokens_read += sum(min(fed, len(prompt)) for prompt in prompts)
    batch.move_in([place for place, _ in group], other)
    return logits, torch.zeros(len(group), device=logits.device) if ratio is None else ratio
