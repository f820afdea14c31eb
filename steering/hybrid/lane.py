"""One model's half of a hybrid: its cache, what each row may see of it, and a step that feeds one token to every row.

1. A row's tokens lie at columns of a fixed cache in the order in which they were fed; which columns it sees (`seen`) and the position of
   each (`at`) are tables of their own, so that rows may stand at different positions and a column can be taken back.
2. A step either advances a row (a new position) or feeds its newest token again. While a token is fed again the column of its first
   reading is hidden from it, and afterwards the new column is: the cache is what it was before (`keep` leaves the new reading instead).
3. Activations are read at the sites asked for at every row's last position; at one of them a shift can be added there.
4. Hooks are held while the lane is open and do nothing outside of its own passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from ..engine.reading import TOKENS_PER_PASS
from ..model.cache import ColumnCache, Masks
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sites import Site
from ..model.turns import turn

Steering = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a row's unsteered activations at the steered site `[rows, d]` to the mask of rows to edit `[rows]` and what is added `[rows, d]`."""
SLACK = 0.25
"""Spare columns as a share of the longest row: how often the cache is packed anew."""


def distinct(prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The prompts that are read, in the order in which they are."""
    return sorted(dict.fromkeys(prompts), key=len)


class Lane:
    """`places` rows of at most `longest` tokens each, with activations read at `reads` and edited at `steered`."""

    def __init__(
        self, model: LoadedModel, places: int, longest: int, reads: Sequence[Site] = (), steered: Site | None = None
    ):
        self.model, self.masks, self.steered = model, Masks(model.runs.config), steered
        self.columns = longest + 1 + max(8, int(SLACK * longest))
        device = model.device
        self.cache = ColumnCache(model.n_layers, places, self.columns)
        self.seen = torch.zeros(places, self.columns, dtype=torch.bool, device=device)
        """`[places, columns]`: which columns hold a token of the row."""
        self.at = torch.zeros(places, self.columns, dtype=torch.long, device=device)
        """`[places, columns]`: position of the token in each column."""
        self.position = torch.zeros(places, dtype=torch.long, device=device)
        """Of each row's newest token."""
        self.newest = torch.zeros(places, dtype=torch.long, device=device)
        """Its column."""
        self.column = 0
        """The column that the next step writes."""
        self.read: dict[Site, Tensor] = {}
        """What was read in the latest pass, `[rows, d]` per site, before any edit."""
        self.fired: Tensor | None = None
        """`[rows]` bool: rows that the latest pass edited."""
        self.ratio: Tensor | None = None
        """`[rows]`: ‖edited - unedited‖ / ‖unedited‖ there."""
        self._steering: Steering | None = None
        self._running = False
        self._rows = torch.arange(places, device=device)
        wanted = dict.fromkeys([*reads, *([steered] if steered is not None else [])])
        self._edits: dict[Site, Edit] = {site: self._edit(site) for site in wanted}
        self._stack = ExitStack()

    def __enter__(self) -> Lane:
        self._stack.enter_context(self.model.runs.holding(self._edits))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _edit(self, site: Site) -> Edit:
        def edit(hidden: Tensor) -> Tensor | None:
            if not self._running:
                return None
            last = hidden[:, -1]
            self.read[site] = last.clone()
            if site != self.steered or self._steering is None:
                return None
            chosen, added = self._steering(self.read[site])
            if chosen.device.type == "cpu" and not bool(chosen.any()):
                self.fired, self.ratio = chosen, torch.zeros(len(last))
                return None
            edited = torch.where(chosen[:, None], last + added.to(last), last)
            self.fired = chosen
            self.ratio = (edited - last).float().norm(dim=-1) / last.float().norm(dim=-1).clamp_min(1e-12)
            return torch.cat([hidden[:, :-1], edited[:, None]], 1) if hidden.shape[1] > 1 else edited[:, None]

        return edit

    def _forward(self, inputs: dict[str, Any], steering: Steering | None = None) -> Tensor:
        self.read, self.fired, self.ratio = {}, None, None
        with turn(self.model.model):
            self._steering, self._running = steering, True
            try:
                return self.model.runs.forward(self._edits, inputs)[:, -1].float()
            finally:
                self._running = False

    def _mask(self, low: int) -> Tensor | dict[str, Tensor]:
        """What each row's query in the current column sees of the columns from `low` on, per kind of layer."""
        window, found = self.masks.window, {}
        seen, at = self.seen[:, low : self.column + 1], self.at[:, low : self.column + 1]
        for kind in self.masks.kinds:
            here = seen
            if kind == "sliding_attention":
                here = seen & (at > self.at[:, self.column, None] - (window or 0))
            found[kind] = self.masks.formed(here[:, None, None], self.model.dtype)
        return found if len(found) > 1 else next(iter(found.values()))

    def step(
        self, ids: Tensor, advance: Tensor, steering: Steering | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Feed `ids [places]`: to rows of `advance [places]` as a new token, to the others as their newest one again.

        Returns logits `[places, vocabulary]` float32. `keep [places]` names rows whose second reading replaces the first. Rows that are
        not in use are fed without effect.
        """
        if self.column == self.columns:
            self.pack()
        rows, column = self._rows, self.column
        before = self.seen[rows, self.newest]
        self.seen[rows, self.newest] = before & advance
        self.position = self.position + advance
        self.seen[:, column] = True
        self.at[:, column] = self.position
        low = self._low()
        self.cache.open(low, column, column + 1)
        logits = self._forward(
            {
                "input_ids": ids[:, None],
                "attention_mask": self._mask(low),
                "position_ids": self.position[:, None],
                "past_key_values": self.cache,
                "use_cache": True,
                "logits_to_keep": 1,
            },
            steering,
        )
        stays = advance if keep is None else advance | keep
        self.seen[:, column] = stays
        self.seen[rows, self.newest] = before & ~(stays & ~advance)
        self.newest = torch.where(stays, column, self.newest)
        self.column += 1
        return logits

    def _low(self) -> int:
        """A column before which no row sees anything; looked up when the cache is packed or rows are seated."""
        return self._lowest

    _lowest = 0

    def pack(self, width: int = 0) -> None:
        """Move each row's columns together, in order, so that all rows end at one column, at `width` or later; holes are gone."""
        counts = self.seen.sum(1)
        end = max(int(counts.max()), width)
        order = torch.argsort(self.seen.int(), dim=1, stable=True)[:, self.columns - end :]  # unseen first, then seen
        for layer in self.cache.layers:
            if layer.is_initialized:
                for part in (layer.keys, layer.values):
                    index = order.to(part.device)[:, None, :, None].expand(-1, part.shape[1], -1, part.shape[3])
                    part[:, :, :end] = part.gather(2, index)
        seen, at = self.seen.gather(1, order), self.at.gather(1, order)
        self.seen.zero_()
        self.seen[:, :end], self.at[:, :end] = seen, at
        self.newest = torch.full_like(self.newest, end - 1).clamp_min(0)
        self.column = end
        self._find_low()

    def _find_low(self) -> None:
        used = self.seen.any(0).nonzero()
        self._lowest = int(used[0]) if len(used) else self.column

    def leave(self, places: Sequence[int]) -> None:
        """Forget the rows in these places."""
        self.seen[list(places)] = False
        self._find_low()

    def wipe(self, places: Sequence[int]) -> None:
        """Empty the cache of places whose numbers were not finite: a hidden column counts for nothing only as long as it is."""
        self.cache.wipe(torch.tensor(list(places)))

    def keep(self, places: Sequence[int]) -> None:
        """Drop all places but these."""
        index = torch.tensor(places, device=self.seen.device)
        self.cache.keep_rows(index)
        self.seen, self.at = self.seen[index], self.at[index]
        self.position, self.newest = self.position[index], self.newest[index]
        self._rows = torch.arange(len(places), device=index.device)
        self._find_low()

    def seat(
        self, places: Sequence[int], prompts: Sequence[tuple[int, ...]], steering: Steering | None = None
    ) -> tuple[Tensor, dict[Site, Tensor]]:
        """Give free places to rows whose prompts are read here, each distinct one once, its last token edited by `steering`.

        Returns logits after each prompt `[rows, vocabulary]` and the activations at its last token `[rows, d]` per site, before the
        edit. `fired` and `ratio` are then those of the distinct prompts, in the order of `distinct(prompts)`.
        """
        longest = max(map(len, prompts))
        if self.column < longest or self.column == self.columns:
            self.pack(longest)
        fired, ratio = [], []
        logits: dict[tuple[int, ...], Tensor] = {}
        reads: dict[tuple[int, ...], dict[Site, Tensor]] = {}
        most = max(1, TOKENS_PER_PASS // longest)
        every = distinct(prompts)
        for start in range(0, len(every), most):
            chunk = every[start : start + most]
            cache, found = self._prefill(chunk, steering)
            if self.fired is not None and self.ratio is not None:
                fired.append(self.fired)
                ratio.append(self.ratio)
            for row, prompt in enumerate(chunk):
                logits[prompt] = found[row]
                reads[prompt] = {site: value[row] for site, value in self.read.items()}
            pairs = [(place, chunk.index(p)) for place, p in zip(places, prompts, strict=True) if p in set(chunk)]
            to, of = torch.tensor([a for a, _ in pairs]), torch.tensor([b for _, b in pairs])
            self.cache.copy_rows(to, self.column - cache.columns, cache, of, 0, cache.columns)
        for place, prompt in zip(places, prompts, strict=True):
            begin = self.column - len(prompt)
            self.seen[place] = False
            self.seen[place, begin : self.column] = True
            self.at[place, begin : self.column] = torch.arange(len(prompt), device=self.at.device)
            self.position[place] = len(prompt) - 1
            self.newest[place] = self.column - 1
        self._find_low()
        self.fired, self.ratio = (torch.cat(fired), torch.cat(ratio)) if fired else (None, None)
        sites = next(iter(reads.values()))
        return (
            torch.stack([logits[p] for p in prompts]),
            {site: torch.stack([reads[p][site] for p in prompts]) for site in sites},
        )

    def _prefill(self, prompts: Sequence[tuple[int, ...]], steering: Steering | None) -> tuple[ColumnCache, Tensor]:
        width, device = max(map(len, prompts)), self.seen.device
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
        offset = torch.tensor([width - len(p) for p in prompts], device=device)
        cache = ColumnCache(self.model.n_layers, len(prompts), width)
        cache.open(0, 0, width)
        logits = self._forward(
            {
                "input_ids": ids.to(device),
                "attention_mask": self.masks.make(offset, 0, 0, width, self.model.dtype),
                "position_ids": (torch.arange(width, device=device)[None] - offset[:, None]).clamp_min(0),
                "past_key_values": cache,
                "use_cache": True,
                "logits_to_keep": 1,
            },
            steering,
        )
        return cache, logits
