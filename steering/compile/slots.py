"""Slots: the j-th intervention at a site, over all plans of a call, as tables with one line per distinct intervention.

1. Line 0 is for rows that the slot does not touch, so that a batch of any plans is described by one index per row and slot.
2. A slot edits along directions (`Slot`) or edits latents of one dictionary (`LatentSlot`); plans with both mix in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..model.reader import Sited
from ..model.sites import Site
from ..plan.gate import Gate
from ..plan.plan import Intervention
from ..vector.features import Features
from ..vector.vectors import SteeringVector
from .feature_formula import LATENT_COLUMNS, Reader, apply_latents
from .formula import COLUMNS, Needs, SlotRows, apply
from .operation import latent_numbers, needs_of, numbers


@dataclass
class Slot:
    """Edits along directions."""

    site: Site
    needs: Needs
    direction: Tensor
    """`[1 + interventions, width]`."""
    numbers: Tensor
    """`[1 + interventions, len(COLUMNS)]`."""
    scheduled: bool
    """Whether any intervention's multiplier varies."""
    gates: tuple[Gate | None, ...]
    """Per line of the table."""
    once: Tensor
    """`[1 + interventions]` bool: gated interventions that may act only once in a row."""
    delta: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.delta = self.direction * self.numbers[:, :1]

    @property
    def gated(self) -> bool:
        return any(gate is not None for gate in self.gates)

    @property
    def device(self) -> torch.device:
        return self.direction.device

    @property
    def only_constant(self) -> bool:
        """Whether all that it does is to add constants."""
        return self.needs.only_constant

    def rows(self, lines: Tensor) -> SlotRows:
        """The numbers of a batch whose rows use `lines [rows]` of the table."""
        return SlotRows(self.direction[lines][:, None], self.numbers[lines], self.delta[lines][:, None])

    def edit(self, hidden: Tensor, rows: SlotRows, mask: Tensor, multiplier: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `formula.apply`."""
        return apply(hidden, rows, self.needs, mask, multiplier)


@dataclass
class LatentSlot:
    """Edits of latents of one dictionary."""

    site: Site
    reader: Reader
    numbers: Tensor
    """`[1 + interventions, latents, len(LATENT_COLUMNS)]`."""
    scheduled: bool
    gates: tuple[Gate | None, ...]
    once: Tensor
    only_constant = False

    @property
    def gated(self) -> bool:
        return any(gate is not None for gate in self.gates)

    @property
    def device(self) -> torch.device:
        return self.numbers.device

    def rows(self, lines: Tensor) -> Tensor:
        """The numbers of a batch whose rows use `lines [rows]` of the table, `[rows, latents, len(LATENT_COLUMNS)]`."""
        return self.numbers[lines]

    def edit(self, hidden: Tensor, rows: Tensor, mask: Tensor, multiplier: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `feature_formula.apply_latents`."""
        return apply_latents(hidden, self.reader, rows, mask != 0, multiplier)


def family(intervention: Intervention) -> str:
    """What interventions must share to be lines of one slot: nothing for directions, the way of reading for latents, and the whole
    dictionary where latents compete."""
    used = intervention.vector
    if isinstance(used, SteeringVector):
        return ""
    return used.dictionary if used.activation == "topk" else f"{used.activation} {used.normalisation}"


def make_slot(site: Site, interventions: list[Intervention], model: Sited) -> Slot | LatentSlot:
    """The slot of interventions of one family at a site."""
    device = next(model.layout.blocks[site.layer].layer.parameters()).device
    schedules = [i.dose.schedule if i.dose is not None else None for i in interventions]
    once = [
        s is not None and s.kind == "once" and i.gate is not None for s, i in zip(schedules, interventions, strict=True)
    ]
    scheduled = any(s is not None and s.kind in ("linear", "decay") for s in schedules)
    gates = (None, *(i.gate for i in interventions))
    used = [i.vector for i in interventions]
    acts_once = torch.tensor([False, *once], device=device)
    features = [f for f in used if isinstance(f, Features)]
    if features:
        reader, table = _latents(interventions, features)
        moved = {n: v.to(device) for n, v in vars(reader).items() if isinstance(v, Tensor)}
        return LatentSlot(site, Reader(**{**vars(reader), **moved}), table.to(device), scheduled, gates, acts_once)
    vectors = [v for v in used if isinstance(v, SteeringVector)]
    directions = torch.stack([v.direction / v.norm for v in vectors])
    table = torch.tensor([[0.0] * len(COLUMNS), *map(numbers, interventions)])
    return Slot(
        site,
        needs_of(interventions),
        torch.cat([torch.zeros(1, directions.shape[1]), directions]).to(device),
        table.to(device),
        scheduled,
        gates,
        acts_once,
    )


def _latents(interventions: Sequence[Intervention], features: Sequence[Features]) -> tuple[Reader, Tensor]:
    """One dictionary with every row that some line edits, and the table over it."""
    first, places = features[0], {}
    kept: list[tuple[Features, int]] = []
    for used in features:
        rows = range(len(used.encoder)) if used.activation == "topk" else used.chosen
        for row in rows:
            key = (used.dictionary, row)
            if key not in places:
                places[key] = len(kept)
                kept.append((used, row))

    def gathered(name: str) -> Tensor | None:
        values = [getattr(used, name) for used, _ in kept]
        return None if values[0] is None else torch.stack([v[row] for v, (_, row) in zip(values, kept, strict=True)])

    whole = first.activation == "topk"
    parts = {
        name: getattr(first, name) if whole else gathered(name)
        for name in ("encoder", "bias", "decoder", "threshold", "magnitude", "magnitude_bias")
    }
    reader = Reader(first.activation, first.normalisation, k=first.k, **parts)
    identity = dict(zip(LATENT_COLUMNS, (1.0, 0.0, 0.0, -math.inf, math.inf), strict=True))
    table = torch.tensor([identity[c] for c in LATENT_COLUMNS]).repeat(1 + len(interventions), len(kept), 1)
    for line, (intervention, used) in enumerate(zip(interventions, features, strict=True), 1):
        for latent, row in zip(latent_numbers(intervention, used), used.chosen, strict=True):
            table[line, places[used.dictionary, row]] = torch.tensor(latent)
    return reader, table
