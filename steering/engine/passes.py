"""One forward pass of a batch of rows under their plans: hooks in, activations edited, what happened written down.

1. One hook per edited site, none on sites that no row uses. A hook reads tensors prepared before the pass and writes to tensors; there
   is no branch on data and no host synchronisation in it.
2. Coverage is by position in the row. Padding has a negative position and is never edited.
3. A gate is read before its edit, in the same pass; a gate at an earlier site is read there.
4. What a decoding step did is kept as it is (`Made`) and written to the receipts in one go, many steps later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..compile.formula import add_constant, plain_ratio
from ..compile.slots import LatentSlot, Slot
from ..model.hooks import Edit
from ..model.sites import Site
from ..plan.gate import Gate


@dataclass
class SlotBatch:
    """One slot for the rows of a batch: their lines of its table and their coverage by position."""

    slot: Slot | LatentSlot
    lines: Tensor
    """`[rows]`."""
    active: Tensor
    """`[rows, positions]` bool."""
    multiplier: Tensor | None
    """`[rows, positions]`, where the slot is scheduled."""
    spent: Tensor
    """`[rows]` bool: a gated once-only edit has been made."""
    rows: Any = field(init=False)
    plain: bool = field(init=False)
    """Adds constants on known terms: `active` is then a number to multiply by, and a decoding step costs three operations."""

    def __post_init__(self) -> None:
        self.plain = self.slot.only_constant and not self.slot.scheduled and not self.slot.gated
        if self.plain:
            self.active = self.active.float()
        self.refresh()

    def refresh(self) -> None:
        """Look the rows' numbers up again after `lines` changed."""
        self.rows = self.slot.rows(self.lines)


class Made(NamedTuple):
    """What one slot did in one decoding step."""

    batch: SlotBatch
    fired: Tensor
    """`[rows, 1]`: not 0 where an edit was made."""
    size: Tensor
    """`[rows, 1]`: the norm ‖h‖ for a plain slot, ‖delta‖ / ‖h‖ for others."""

    def ratio(self) -> Tensor:
        """‖delta‖ / ‖h‖, `[rows, 1]`."""
        return plain_ratio(self.batch.rows, self.fired, self.size) if self.batch.plain else self.size


class Passes:
    """The edits of a batch's forward passes, one at a time: `begin`, the pass, `end`. Outside of a pass the edits do nothing."""

    def __init__(self, batches: Sequence[SlotBatch]):
        self.gated = any(batch.slot.gated for batch in batches)
        self._batches = batches
        self.positions: Tensor | None = None
        """`[rows, columns]` of the pass in progress, negative on padding."""

    def edits(self) -> dict[Site, Edit]:
        """One function per site that is edited or read."""
        slots: dict[Site, list[SlotBatch]] = defaultdict(list)
        reads: dict[Site, list[Gate]] = defaultdict(list)
        for batch in self._batches:
            slots[batch.slot.site].append(batch)
            for gate in batch.slot.gates:
                if gate is not None:
                    reads[gate.site or batch.slot.site].append(gate)
        return {site: self._edit(site, slots.get(site, []), reads.get(site, [])) for site in {**slots, **reads}}

    def begin(self, positions: Tensor, entropy: Tensor | None) -> None:
        """A pass over `positions [rows, columns]` is about to run."""
        self.positions, self.entropy = positions, entropy
        self.ratio: Tensor | None = None
        """`[rows, columns]`, the largest over slots."""
        self.fired: Tensor | None = None
        """`[rows, columns]` int32."""
        self.made: list[Made] = []
        """Of a decoding step without gates; `ratio` and `fired` stay empty then."""
        self.gate_values: dict[tuple[Gate, Site], Tensor] = {}
        self._step = not self.gated and positions.shape[1] == 1
        self._real = None if self._step else positions >= 0
        self._index = positions if self._step else positions.clamp_min(0)

    def end(self) -> None:
        """The pass is over, however it went."""
        self.positions = None

    def last_ratio(self) -> Tensor:
        """‖delta‖ / ‖h‖ at the last column of the latest pass, `[rows]`, the largest over slots."""
        largest = self.ratio if self.ratio is not None else torch.zeros(self._index.shape, device=self._index.device)
        for made in self.made:
            largest = torch.maximum(largest, made.ratio().to(largest.device))
        return largest[:, -1]

    def _edit(self, site: Site, batches: list[SlotBatch], gates: list[Gate]) -> Edit:
        def edit(hidden: Tensor) -> Tensor | None:
            if self.positions is None:
                return None
            for gate in gates:
                if (gate, site) not in self.gate_values:
                    self.gate_values[gate, site] = self._read(gate, hidden, self.positions, site)
            for batch in batches:
                hidden = self._apply(batch, hidden)
            return hidden if batches else None

        return edit

    def _read(self, gate: Gate, hidden: Tensor, positions: Tensor, site: Site) -> Tensor:
        positions = positions.to(hidden.device)
        entropy = self.entropy if self.entropy is not None else torch.zeros(positions.shape)
        return gate.value(hidden, entropy.to(hidden.device), positions, site)

    def _apply(self, batch: SlotBatch, hidden: Tensor) -> Tensor:
        home = batch.active.device
        index = self._index.to(home)
        mask = batch.active.gather(1, index)
        if self._step and batch.plain:
            edited, norm = add_constant(hidden, batch.rows, mask)
            self.made.append(Made(batch, mask, norm))
            return edited
        mask = mask if self._real is None else (mask != 0) & self._real.to(home)
        multiplier = None if batch.multiplier is None else batch.multiplier.gather(1, index)
        if batch.slot.gated:
            mask = mask & self._open(batch)
            once = batch.slot.once[batch.lines][:, None]
            first = mask & (mask.cumsum(1) == 1) & ~batch.spent[:, None]
            mask = torch.where(once, first, mask)
            batch.spent |= mask.any(1)
        edited, ratio = batch.slot.edit(hidden, batch.rows, mask, multiplier)
        if self._step:
            self.made.append(Made(batch, mask, ratio))
            return edited
        ratio, fired = ratio.to(self._index.device), mask.to(self._index.device, torch.int32)
        self.ratio = ratio if self.ratio is None else torch.maximum(self.ratio, ratio)
        self.fired = fired if self.fired is None else self.fired + fired
        return edited

    def _open(self, batch: SlotBatch) -> Tensor:
        """Where each row's gate is open, `[rows, columns]`; rows without a gate are open everywhere."""
        shape, home = self._index.shape, batch.active.device
        open_ = torch.ones(shape, dtype=torch.bool, device=home)
        for line, gate in enumerate(batch.slot.gates):
            if gate is not None:
                value = self.gate_values[gate, gate.site or batch.slot.site].to(home)
                passes = value < gate.threshold if gate.below else value > gate.threshold
                open_ = torch.where((batch.lines == line)[:, None], passes, open_)
        return open_
