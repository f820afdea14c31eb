"""The rows being generated together: their cache, their places, their coverage, and what was done to them.

1. A row sits in one place (an index of every tensor) from admission to its end; compaction moves rows together.
2. Tokens of all rows end at the same column of the cache. A row's position is its column minus its offset.
3. What the hooks did is kept per row by position (`ledger`) and read back once, when the row ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from ..compile.compilation import CompiledPlans
from ..model.cache import ColumnCache, Masks
from ..model.executor import Resume
from ..model.lean import additive
from ..model.models import LoadedModel
from ..model.turns import turn
from .invariant import OwnColumns
from .ledger import Ledger
from .passes import Passes, SlotBatch
from .prefix import SharedPrompts
from .record import Generation, Progress


class Batch:
    """`places` rows of at most `positions` tokens each."""

    def __init__(
        self,
        model: LoadedModel,
        compiled: CompiledPlans,
        places: int,
        columns: int,
        positions: int,
        masks: Masks,
        history: bool = False,
        shared: SharedPrompts | None = None,
        own: OwnColumns | None = None,
    ):
        """`own`: steps of one token attend row by row (`invariant`)."""
        device = model.device
        self.model, self.compiled, self.masks = model, compiled, masks
        self.cache = ColumnCache(model.n_layers, places, columns)
        self.column = 0
        """The column that the next pass writes first."""
        self.rows: list[Progress | None] = [None] * places
        self.positions = positions
        self.offset = torch.zeros(places, dtype=torch.long, device=device)
        self.begins: list[int] = [0] * places
        """`offset` on the host."""
        self.start = torch.zeros(places, dtype=torch.long, device=device)
        """First column of a row's own: its offset, or where its shared prompt ends."""
        self.starts: list[int] = [0] * places
        """`start` on the host."""
        self.shared, self.own = shared, own
        self.spoiled: set[int] = set()
        """Places whose cache holds NaN or infinity, which a mask does not keep from the next row there."""
        self.reach = np.full((len(compiled.slots), places), -1)
        """Last position of each row that each slot covers, -1 where there is none: a step beyond it edits nothing."""
        self.slots = [
            SlotBatch(
                slot,
                torch.zeros(places, dtype=torch.long, device=slot.device),
                torch.zeros(places, positions, dtype=torch.bool, device=slot.device),
                torch.ones(places, positions, device=slot.device) if slot.scheduled else None,
                torch.zeros(places, dtype=torch.bool, device=slot.device),
            )
            for slot in compiled.slots
        ]
        self.passes = Passes(self.slots)
        self.edits = self.passes.edits()
        self.ledger = Ledger(compiled, places, positions, device)
        self.history = torch.zeros(places, positions, dtype=torch.long, device=device) if history else None
        """Tokens by position, every unused entry filled with the row's first token."""
        self.numbers_masked = device.type == "cpu" and model.dtype == torch.float32 and model.executor is None
        """Whether masks of decoding steps are made as numbers at once, as attention would turn them into at every layer."""
        self._moved()

    def _moved(self) -> None:
        """Rows came, went or moved, or are edited further on: what is known about the coming steps is looked up again."""
        self._until: int | None = None
        self._visible: Tensor | None = None

    def reuse(self, compiled: CompiledPlans) -> None:
        """Empty all places for plans of the same shape."""
        self.compiled, self.rows = compiled, [None] * len(self.rows)
        self.ledger.reuse(compiled)
        for batch, slot in zip(self.slots, compiled.slots, strict=True):
            batch.slot = slot
            batch.lines.zero_()
            batch.active.zero_()
            batch.spent.zero_()
        self.passes = Passes(self.slots)
        self.edits = self.passes.edits()
        self.offset.zero_()
        self.start.zero_()
        self.reach[:] = -1
        self.begins, self.starts = [0] * len(self.rows), [0] * len(self.rows)
        self._clean(range(len(self.rows)))
        self._moved()
        self.refresh()

    @property
    def live(self) -> list[int]:
        """Places with a running row."""
        return [place for place, row in enumerate(self.rows) if row is not None]

    @property
    def free(self) -> list[int]:
        return [place for place, row in enumerate(self.rows) if row is None]

    def clear(self, places: list[int]) -> None:
        """Forget what places held, before rows are seated there."""
        self.ledger.settle()
        index = torch.tensor(places, device=self.offset.device)
        for batch in self.slots:
            there = index.to(batch.lines.device)
            batch.active[there] = False
            batch.spent[there] = False
            batch.lines[there] = 0
        self.ledger.clear(index)
        self.reach[:, places] = -1
        self._clean(places)
        self._moved()

    def _clean(self, places: Sequence[int]) -> None:
        """Empty the cache of the spoiled ones among places."""
        if spoiled := [place for place in places if place in self.spoiled]:
            self.cache.wipe(torch.tensor(spoiled))
            self.spoiled.difference_update(spoiled)

    def seat(self, place: int, progress: Progress, stored: tuple[ColumnCache, int] | None = None) -> None:
        """Give a place to a row whose prompt ends at the current column; where the prompt is shared, `stored` says where it has been
        read (a cache and its row). The place is clear."""
        self._moved()
        self.rows[place] = progress
        prompt = len(progress.row.read_ids)
        self.begins[place] = self.column - prompt
        self.offset[place] = self.begins[place]
        self.starts[place] = self.begins[place] if stored is None else self.column
        self.start[place] = self.starts[place]
        if self.shared is not None:
            self.shared.leave(place)
            if stored is not None:
                self.shared.take(place, progress.row.read_ids, *stored)
        for number, batch in enumerate(self.slots):
            if progress.plan is not None and progress.plan.lines[number]:
                batch.lines[place] = progress.plan.lines[number]
                covered = torch.from_numpy(progress.plan.active[number])
                self.reach[number, place] = int(np.flatnonzero(progress.plan.active[number])[-1:].max(initial=-1))
                batch.active[place, : len(covered)] = covered.to(batch.active.device)
                if batch.multiplier is not None:
                    batch.multiplier[place, : len(covered)] = torch.from_numpy(progress.plan.multiplier[number]).to(
                        batch.active.device
                    )
        if self.history is not None:
            ids = torch.tensor(progress.row.read_ids, device=self.history.device)
            self.history[place] = ids[0]
            self.history[place, :prompt] = ids

    def refresh(self) -> None:
        """After rows were seated or moved: look their numbers up again."""
        for batch in self.slots:
            batch.refresh()
        if self.shared is not None:
            self.shared.refresh(self.offset.device)

    def follow(self, place: int, token: int) -> None:
        """Tell a row its newest token, so that spans that depend on it cover the token's position."""
        progress = self.rows[place]
        assert progress is not None
        if progress.plan is None or not progress.plan.followed:
            return
        position = progress.length - 1
        if progress.plan.follow(position, token):
            with torch.inference_mode():
                for number, batch in enumerate(self.slots):
                    if progress.plan.active[number, position]:
                        batch.active[place, position] = True
                        self.reach[number, place] = max(self.reach[number, place], position)
                        self._until = None

    def read(self, ids: Tensor, keep: int) -> Tensor:
        """Feed whole sequences `ids [places, t]`; logits `[places, keep, vocabulary]` of the last `keep` columns."""
        return self._forward(ids, 0, None, keep)[0]

    def forward(
        self, ids: Tensor, low: int, entropy: Tensor | None, resume: Resume | None = None, wanted: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Feed `ids [places, t]` at the coming `t` columns, from the first layer or from `resume`. Returns the last
        column's logits `[places, vocabulary]` float32 and the size of its edits `[places]` (None when nothing is steered, or when it is
        not `wanted`)."""
        logits, ratio = self._forward(ids, low, entropy, 1, resume)
        return logits[:, -1].float(), ratio() if wanted and ratio is not None else None

    def _forward(
        self, ids: Tensor, low: int, entropy: Tensor | None, keep: int, resume: Resume | None = None
    ) -> tuple[Tensor, Callable[[], Tensor] | None]:
        begin, end = self.column, self.column + ids.shape[1]
        step, passes = ids.shape[1] == 1, self.passes
        if step and not passes.gated:
            fed = positions = torch.rsub(self.offset, begin).clamp_(0, self.positions - 1)[:, None]
        else:
            columns = torch.arange(begin, end, device=ids.device)
            positions = (columns[None] - self.offset[:, None]).clamp_max(self.positions - 1)
            fed = positions.clamp_min(0)
        self.cache.open(low, begin, end)
        mask = self._mask(low, end) if step else self.masks.make(self.start, low, begin, end, self.model.dtype)
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": fed,
            "past_key_values": self.cache,
            "use_cache": True,
            "logits_to_keep": keep,
        }
        edits = bool(self.slots) and (not step or self._covers(begin))
        with turn(self.model.model), self._attended(fed, low, end, step):
            if edits:
                passes.begin(fed if step else positions, entropy)
            try:
                logits = self.model.runs.forward(self.edits, inputs, resume)
            finally:
                passes.end()
        self.column = end
        if not edits:
            return logits, None
        self.ledger.note(positions, fed, passes)
        return logits, passes.last_ratio

    def _attended(self, fed: Tensor, low: int, end: int, step: bool) -> AbstractContextManager[None]:
        """What the coming pass attends to, where it is not the columns of the cache under a mask."""
        if self.shared is not None:
            return self.shared.attended(self.model, fed)
        if self.own is None or not step:
            return nullcontext()
        starts = [end - 1 if row is None else self.starts[place] for place, row in enumerate(self.rows)]
        return self.own.attended(self.model, starts, low, end)

    def _mask(self, low: int, end: int) -> Tensor | dict[str, Tensor]:
        """The mask of a decoding step: where every layer sees every column, a part of one that is made when rows move."""
        if self.masks.kinds != ("full_attention",):
            return self.masks.make(self.start, low, end - 1, end, self.model.dtype)
        if self._visible is None:
            columns = torch.arange(self.cache.columns, device=self.start.device)
            seen = (columns[None] >= self.start[:, None])[:, None, None]
            numbers = self.numbers_masked and not self.masks.additive
            self._visible = additive(seen) if numbers else self.masks.formed(seen, self.model.dtype)
        return self._visible[..., low:end]

    def _covers(self, column: int) -> bool:
        """Whether any row is edited, or read by a gate, in a step at this column."""
        if self._until is None:
            self._until = int((self.reach + np.array(self.begins)).max(initial=-1))
        return self.passes.gated or column <= self._until

    def finished(self, place: int) -> Generation:
        """The generation of a row, as far as it has come."""
        progress = self.rows[place]
        assert progress is not None
        return progress.generation(*self.ledger.row(place, progress))

    def latest_gates(self, places: list[int]) -> Tensor | None:
        """What each gate read at the position fed last, `[places, gates]`, NaN where it read nothing; None without gates."""
        return self.ledger.latest_gates(places, [row.length - 1 for p in places if (row := self.rows[p]) is not None])

    def move_in(self, places: list[int], other: Batch) -> None:
        """Take over all rows of `other` (same column, same compiled plans), one per place given."""
        there = torch.arange(len(places))
        here = torch.tensor(places, device=self.offset.device)
        width = other.column
        self.cache.copy_rows(here, self.column - width, other.cache, there, 0, width)
        self.clear(places)
        for place, progress in zip(places, other.rows, strict=True):
            assert progress is not None
            self.seat(place, progress)
        for mine, theirs in zip(self.slots, other.slots, strict=True):
            mine.active[here.to(mine.active.device)] = theirs.active
            mine.spent[here.to(mine.active.device)] = theirs.spent
        self.ledger.take(here, other.ledger)
        if self.history is not None and other.history is not None:
            self.history[here] = other.history

    def compact(self) -> None:
        """Drop the places that no row holds."""
        live = self.live
        keep = torch.tensor(live, device=self.offset.device)
        self._moved()
        self.cache.keep_rows(keep)
        self.rows = [self.rows[place] for place in live]
        self.spoiled.clear()  # the rows of such places have ended
        self.offset, self.begins = self.offset[keep], [self.begins[place] for place in live]
        self.start, self.starts = self.start[keep], [self.starts[place] for place in live]
        if self.shared is not None:
            self.shared.keep(live)
        for batch in self.slots:
            there = keep.to(batch.lines.device)
            batch.lines, batch.active, batch.spent = batch.lines[there], batch.active[there], batch.spent[there]
            if batch.multiplier is not None:
                batch.multiplier = batch.multiplier[there]
        self.ledger.keep(keep)
        self.reach = self.reach[:, live]
        if self.history is not None:
            self.history = self.history[keep]
        self.refresh()

    def make_room(self) -> None:
        """Shift the columns that no running row uses out of the cache."""
        self._shift(self.low)

    def make_way(self, width: int) -> None:
        """See to it that a row of `width` columns can end at the current one."""
        self._shift(min(0, self.column - width))

    def _shift(self, columns: int) -> None:
        if columns:
            self._moved()
            self.cache.shift(columns, self.column)
            self.column -= columns
            self.offset -= columns
            self.start -= columns
            self.begins = [begin - columns for begin in self.begins]
            self.starts = [start - columns for start in self.starts]

    @property
    def low(self) -> int:
        """First column that a running row uses."""
        return min((self.starts[place] for place in self.live), default=self.column)


def seeds_and_steps(rows: Sequence[Progress | None]) -> tuple[np.ndarray, np.ndarray]:
    """Seed and number of tokens so far of each row (0 where there is none)."""
    return (
        np.array([0 if row is None else row.row.seed for row in rows], dtype=np.int64),
        np.array([0 if row is None else len(row.tokens) for row in rows], dtype=np.int64),
    )
