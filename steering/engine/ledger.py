"""What was done to each row of a batch, by position: the size of its edits, how many were made, and what its gates read.

1. Decoding steps without gates are kept as they are and written many steps later, in one go (`settle`); others are written at once.
2. Entries move with their rows; a place is cleared before it is used again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..compile.compilation import CompiledPlans
from ..model.sites import Site
from ..plan.gate import Gate
from .passes import Made, Passes
from .record import Progress

STEPS_KEPT = 128
"""Decoding steps whose edits are written together."""


class Ledger:
    """The entries of `places` rows of at most `positions` tokens. Without plans it keeps nothing."""

    def __init__(self, compiled: CompiledPlans, places: int, positions: int, device: torch.device):
        self.positions = positions
        self.gates = gates_of(compiled)
        """Every gate and the site that it reads."""
        steered = bool(compiled.slots)
        self.ratio = torch.zeros(places, positions, device=device) if steered else None
        """‖delta‖ / ‖h‖, `[places, positions]`, the largest over slots."""
        self.fired = torch.zeros(places, positions, dtype=torch.int32, device=device) if steered else None
        """Edits made, `[places, positions]`."""
        self.gate_values = (
            torch.full((places, len(self.gates), positions), float("nan"), device=device) if self.gates else None
        )
        """`[places, gates, positions]`, NaN where a gate read nothing."""
        self._steps: list[tuple[Tensor, list[Made]]] = []
        """Positions of decoding steps and what was done there, not yet written."""

    def reuse(self, compiled: CompiledPlans) -> None:
        """Serve plans of the same shape; the places are cleared when rows take them."""
        self._steps, self.gates = [], gates_of(compiled)

    def note(self, positions: Tensor, fed: Tensor, passes: Passes) -> None:
        """A pass over `positions [places, columns]` (negative on padding; `fed` without) has run."""
        if not passes.made:
            self._write(positions, passes)
            return
        self._steps.append((fed, passes.made))
        if len(self._steps) == STEPS_KEPT:
            self.settle()

    @torch.inference_mode()
    def settle(self) -> None:
        """Write what the latest decoding steps did."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        assert self.ratio is not None and self.fired is not None
        index = torch.cat([positions for positions, _ in steps], dim=1)
        for number, made in enumerate(zip(*(done for _, done in steps), strict=True)):
            whole = Made(
                made[0].batch, torch.cat([m.fired for m in made], dim=1), torch.cat([m.size for m in made], dim=1)
            )
            ratio, fired = whole.ratio().to(index.device), (whole.fired != 0).to(index.device, torch.int32)
            if number:
                ratio, fired = torch.maximum(ratio, self.ratio.gather(1, index)), fired + self.fired.gather(1, index)
            self.ratio.scatter_(1, index, ratio)
            self.fired.scatter_(1, index, fired)

    def _write(self, positions: Tensor, done: Passes) -> None:
        if done.ratio is None or done.fired is None:
            return
        # padding has a negative position: its (empty) entry goes to the row's last position, which is never fed
        index = torch.where(positions >= 0, positions, self.positions - 1)
        self.write(index, done.ratio, done.fired, done.gate_values)

    def write(self, index: Tensor, ratio: Tensor, fired: Tensor, gate_values: dict[tuple[Gate, Site], Tensor]) -> None:
        """Write entries, all `[places, columns]`, at the positions `index`."""
        assert self.ratio is not None and self.fired is not None
        self.ratio.scatter_(1, index, ratio)
        self.fired.scatter_(1, index, fired)
        if self.gate_values is not None:
            for number, key in enumerate(self.gates):
                if key in gate_values:
                    self.gate_values[:, number].scatter_(1, index, gate_values[key].to(index.device))

    def row(self, place: int, progress: Progress) -> tuple[list[float], int, list[Sequence[float]]]:
        """Of the tokens that a row was fed: sizes of its edits, how many were made, and what its own gates read."""
        self.settle()
        fed = progress.fed
        if self.ratio is None or self.fired is None or progress.plan is None:
            return [0.0] * fed, 0, []
        gates: list[Sequence[float]] = []
        if self.gate_values is not None:
            gates = [self.gate_values[place, number, :fed].tolist() for number in self.gates_of(progress)]
        return self.ratio[place, :fed].tolist(), int(self.fired[place, :fed].sum()), gates

    def gates_of(self, progress: Progress) -> list[int]:
        """Numbers of the gates that a row's plan asks, in plan order."""
        asked = [(i.gate, i.gate.site or i.sites[0]) for i in progress.row.plan.interventions if i.gate is not None]
        return [self.gates.index(key) for key in asked]

    def latest_gates(self, places: list[int], positions: list[int]) -> Tensor | None:
        """What each gate read at a position of each place, `[places, gates]`; None without gates."""
        if self.gate_values is None:
            return None
        home = self.gate_values.device
        return self.gate_values[torch.tensor(places, device=home), :, torch.tensor(positions, device=home)]

    def clear(self, index: Tensor) -> None:
        """Forget what the places `index` hold."""
        for entries, empty in ((self.ratio, 0.0), (self.fired, 0), (self.gate_values, float("nan"))):
            if entries is not None:
                entries[index] = empty

    def take(self, index: Tensor, other: Ledger) -> None:
        """Take over the rows of `other` at the places `index`."""
        other.settle()
        for name in ("ratio", "fired", "gate_values"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None:
                mine[index] = theirs

    def keep(self, index: Tensor) -> None:
        """Keep the places `index` only, in that order."""
        self.settle()
        for name in ("ratio", "fired", "gate_values"):
            entries = getattr(self, name)
            if entries is not None:
                setattr(self, name, entries[index])


def gates_of(compiled: CompiledPlans) -> list[tuple[Gate, Site]]:
    """Every gate of the plans and the site that it reads."""
    return list(
        dict.fromkeys(
            (gate, gate.site or slot.site) for slot in compiled.slots for gate in slot.gates if gate is not None
        )
    )
