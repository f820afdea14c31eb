"""One forward pass of a batch of rows under their plans: hooks in, activations edited, what happened written down.

1. One hook per edited site, none on sites that no row of the pass uses. A hook reads tensors prepared before the pass and writes to
   tensors; there is no branch on data and no host synchronisation in it.
2. Coverage is by position in the row. Padding has a negative position and is never edited.
3. A gate is read before its edit, in the same pass; a gate at an earlier site is read there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .compile import Slot
from .formula import SlotRows, apply
from .gate import Gate
from .layout import Edit
from .sites import Site


@dataclass
class SlotBatch:
    """One slot for the rows of a batch: their lines of its table and their coverage by position."""

    slot: Slot
    lines: Tensor
    """`[rows]`."""
    active: Tensor
    """`[rows, positions]` bool."""
    multiplier: Tensor | None
    """`[rows, positions]`, where the slot is scheduled."""
    spent: Tensor
    """`[rows]` bool: a gated once-only edit has been made."""
    rows: SlotRows = field(init=False)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Look the rows' numbers up again after `lines` changed."""
        self.rows = self.slot.rows(self.lines)


class Pass:
    """The edits of one forward pass over `positions [rows, columns]` (negative on padding), and what they did."""

    def __init__(self, batches: list[SlotBatch], positions: Tensor, entropy: Tensor | None):
        self.positions, self.entropy = positions, entropy
        self.ratio: Tensor | None = None
        """`[rows, columns]`, the largest over slots."""
        self.fired: Tensor | None = None
        """`[rows, columns]` int32."""
        self.gate_values: dict[tuple[Gate, Site], Tensor] = {}
        self._real = positions >= 0
        self._index = positions.clamp_min(0)
        self._reads: dict[Site, list[Gate]] = defaultdict(list)
        self._batches: dict[Site, list[SlotBatch]] = defaultdict(list)
        for batch in batches:
            self._batches[batch.slot.site].append(batch)
            for gate in batch.slot.gates:
                if gate is not None:
                    self._reads[gate.site or batch.slot.site].append(gate)

    def edits(self) -> dict[Site, Edit]:
        """One function per site that is edited or read."""
        return {site: self._edit(site) for site in {*self._batches, *self._reads}}

    def _edit(self, site: Site) -> Edit:
        batches, gates = self._batches.get(site, []), self._reads.get(site, [])

        def edit(hidden: Tensor) -> Tensor | None:
            for gate in gates:
                if (gate, site) not in self.gate_values:
                    self.gate_values[gate, site] = self._read(gate, hidden, site)
            for batch in batches:
                hidden = self._apply(batch, hidden)
            return hidden if batches else None

        return edit

    def _read(self, gate: Gate, hidden: Tensor, site: Site) -> Tensor:
        positions = self.positions.to(hidden.device)
        entropy = self.entropy if self.entropy is not None else torch.zeros(positions.shape)
        return gate.value(hidden, entropy.to(hidden.device), positions, site)

    def _apply(self, batch: SlotBatch, hidden: Tensor) -> Tensor:
        home = batch.active.device
        index, real = self._index.to(home), self._real.to(home)
        mask = batch.active.gather(1, index) & real
        multiplier = None if batch.multiplier is None else batch.multiplier.gather(1, index)
        if batch.slot.gated:
            mask = mask & self._open(batch)
            once = batch.slot.once[batch.lines][:, None]
            first = mask & (mask.cumsum(1) == 1) & ~batch.spent[:, None]
            mask = torch.where(once, first, mask)
            batch.spent |= mask.any(1)
        edited, ratio = apply(hidden, batch.rows, batch.slot.needs, mask, multiplier)
        ratio, fired = ratio.to(self.positions.device), mask.to(self.positions.device, torch.int32)
        self.ratio = ratio if self.ratio is None else torch.maximum(self.ratio, ratio)
        self.fired = fired if self.fired is None else self.fired + fired
        return edited

    def _open(self, batch: SlotBatch) -> Tensor:
        """Where each row's gate is open, `[rows, columns]`; rows without a gate are open everywhere."""
        shape, home = self.positions.shape, batch.active.device
        open_ = torch.ones(shape, dtype=torch.bool, device=home)
        for line, gate in enumerate(batch.slot.gates):
            if gate is not None:
                value = self.gate_values[gate, gate.site or batch.slot.site].to(home)
                passes = value < gate.threshold if gate.below else value > gate.threshold
                open_ = torch.where((batch.lines == line)[:, None], passes, open_)
        return open_
