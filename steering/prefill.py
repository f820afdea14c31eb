"""Reading prompts: each distinct prompt once, whatever number of rows and plans continue it.

1. A prompt that a row's plan leaves unedited is read once and its keys and values are copied to the row.
2. A row whose plan edits the prompt from position p on shares what lies before p and reads the rest under its own plan.
3. Prompts are kept only while a queued row needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import Batch
from .cache import ColumnCache, Masks
from .models import LoadedModel
from .record import Progress

TOKENS_PER_PASS = 16_384
"""Prompt tokens (padding included) read in one forward pass."""


def shared_tokens(progress: Progress) -> int:
    """How many leading prompt tokens the row's plan leaves unedited."""
    prompt = len(progress.row.prompt_ids)
    first = None if progress.plan is None else progress.plan.first_edited
    return prompt if first is None else min(first, prompt)


@dataclass
class _Entry:
    cache: ColumnCache
    row: int
    logits: Tensor | None
    """`[vocabulary]` after the last prompt token, where it was asked for."""


class PromptPool:
    """Prompts that have been read, by their ids. `waiting` counts the rows that still need each."""

    def __init__(self, model: LoadedModel, masks: Masks, waiting: dict[tuple[int, ...], int]):
        self.model, self.masks, self.waiting = model, masks, waiting
        self.entries: dict[tuple[int, ...], _Entry] = {}
        self.tokens_read = 0
        """Prompt tokens fed so far, without padding."""

    def read(self, wanted: dict[tuple[int, ...], int]) -> None:
        """Read prompts up to a number of tokens each (none for 0); those read before are kept."""
        missing = sorted((p for p, n in wanted.items() if n and p not in self.entries), key=len)
        while missing:
            width = wanted[missing[-1]]
            count = max(1, TOKENS_PER_PASS // max(1, max(wanted[p] for p in missing)))
            chunk, missing = missing[-count:], missing[:-count]
            width = max(wanted[p] for p in chunk)
            self._pass(chunk, wanted, width)

    def _pass(self, prompts: Sequence[tuple[int, ...]], wanted: dict[tuple[int, ...], int], width: int) -> None:
        device, model = self.model.device, self.model
        ids = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
        for row, prompt in enumerate(prompts):
            ids[row, : wanted[prompt]] = torch.tensor(prompt[: wanted[prompt]], device=device)
            self.tokens_read += wanted[prompt]
        cache = ColumnCache(model.n_layers, len(prompts), width)
        cache.open(0, 0, width)
        ends = sorted({len(p) - 1 for p in prompts if wanted[p] == len(p)})
        keep: Tensor | int = torch.tensor(ends, device=device) if ends else 1
        inputs = {
            "input_ids": ids,
            "attention_mask": self.masks.make(
                torch.zeros(len(prompts), dtype=torch.long, device=device), 0, 0, width, model.dtype
            ),
            "position_ids": torch.arange(width, device=device)[None].expand(len(prompts), -1),
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": keep,
        }
        read = model.runs.forward({}, inputs)
        for row, prompt in enumerate(prompts):
            whole = wanted[prompt] == len(prompt)
            logits = read[row, ends.index(len(prompt) - 1)].float() if whole else None
            self.entries[prompt] = _Entry(cache, row, logits)

    def done(self, prompt: tuple[int, ...]) -> None:
        """One row fewer needs the prompt; the last one frees it."""
        self.waiting[prompt] -= 1
        if not self.waiting[prompt]:
            self.entries.pop(prompt, None)

    def copy(
        self, batch: Batch, places: Sequence[int], prompts: Sequence[tuple[int, ...]], tokens: Sequence[int]
    ) -> None:
        """Copy the first `tokens` of each row's prompt into its place; they begin at the row's offset."""
        offsets = [batch.begins[place] for place in places]
        groups: dict[tuple[int, int, int], tuple[ColumnCache, list[int], list[int]]] = {}
        for place, prompt, count, offset in zip(places, prompts, tokens, offsets, strict=True):
            if count:
                entry = self.entries[prompt]
                group = groups.setdefault((id(entry.cache), offset, count), (entry.cache, [], []))
                group[1].append(place)
                group[2].append(entry.row)
        for (_, offset, count), (cache, to, of) in groups.items():
            batch.cache.copy_rows(torch.tensor(to), offset, cache, torch.tensor(of), 0, count)


def admit(
    batch: Batch, pool: PromptPool, rows: Sequence[Progress], needs: dict[tuple[int, ...], int]
) -> tuple[list[int], Tensor, Tensor]:
    """Seat rows in free places, their prompts read. `needs` says up to where queued rows need each prompt unedited.

    Returns the places, the logits after each prompt `[rows, vocabulary]` and the size of the edit at its last token `[rows]`.
    """
    places = batch.free[: len(rows)]
    pool.read({row.row.prompt_ids: needs[row.row.prompt_ids] for row in rows})
    logits: dict[int, Tensor] = {}
    ratios: dict[int, Tensor] = {}
    whole, private = [], []
    for place, progress in zip(places, rows, strict=True):
        (whole if shared_tokens(progress) == len(progress.row.prompt_ids) else private).append((place, progress))
    for place, progress in whole:
        batch.seat(place, progress)
        found = pool.entries[progress.row.prompt_ids].logits
        assert found is not None
        logits[place], ratios[place] = found, torch.zeros((), device=found.device)
    prompts = [progress.row.prompt_ids for _, progress in whole]
    pool.copy(batch, [place for place, _ in whole], prompts, [len(p) for p in prompts])
    for group in _groups(private):
        found, ratio = _read_privately(batch, pool, group)
        for number, (place, _) in enumerate(group):
            logits[place], ratios[place] = found[number], ratio[number]
    for progress in rows:
        pool.done(progress.row.prompt_ids)
    batch.refresh()
    return places, torch.stack([logits[p] for p in places]), torch.stack([ratios[p] for p in places])


def _groups(private: list[tuple[int, Progress]]) -> list[list[tuple[int, Progress]]]:
    """Rows that read similar numbers of tokens, at most `TOKENS_PER_PASS` together."""
    left = sorted(private, key=lambda pair: len(pair[1].row.prompt_ids) - shared_tokens(pair[1]))
    groups: list[list[tuple[int, Progress]]] = []
    widest = 0
    for pair in left:
        tokens = len(pair[1].row.prompt_ids) - shared_tokens(pair[1])
        if not groups or tokens * (len(groups[-1]) + 1) > TOKENS_PER_PASS or tokens > max(2, 2 * widest):
            groups.append([])
            widest = tokens
        groups[-1].append(pair)
    return groups


def _read_privately(batch: Batch, pool: PromptPool, group: list[tuple[int, Progress]]) -> tuple[Tensor, Tensor]:
    """Read the edited part of each row's prompt under its plan, in a batch of its own, and move the rows in."""
    lengths = [len(progress.row.prompt_ids) for _, progress in group]
    fed = max(length - shared_tokens(progress) for length, (_, progress) in zip(lengths, group, strict=True))
    width = max(lengths)
    other = Batch(
        batch.model, batch.compiled, len(group), width, batch.positions, batch.masks, batch.history is not None
    )
    other.column = width
    for place, (_, progress) in enumerate(group):
        other.seat(place, progress)
    other.refresh()
    pool.copy(
        other, range(len(group)), [p.row.prompt_ids for _, p in group], [max(0, length - fed) for length in lengths]
    )
    ids = torch.zeros(len(group), fed, dtype=torch.long, device=batch.offset.device)
    for place, (length, (_, progress)) in enumerate(zip(lengths, group, strict=True)):
        tail = progress.row.prompt_ids[max(0, length - fed) :]
        ids[place, fed - len(tail) :] = torch.tensor(tail, device=ids.device)
    other.column = width - fed
    logits, ratio = other.forward(ids, 0, None)
    pool.tokens_read += sum(min(fed, length) for length in lengths)
    batch.move_in([place for place, _ in group], other)
    return logits, torch.zeros(len(group), device=logits.device) if ratio is None else ratio
