"""The edit of one pass of the base: shifts that were decided before it, and those of rules that decide within it.

1. A shift decided before the pass is added where it was decided, whatever else the pass holds.
2. A rule that decides within the pass reads the activation that it then edits, on the device, without asking the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .controller import Controller
from .decisions import by_controller
from .lane import Lane
from .row import Writing


class Made(NamedTuple):
    """What a rule did within the pass."""

    fired: bool
    category: int
    alpha: float
    ratio: float
    """‖delta‖ / ‖h‖."""


class Inside:
    """A rule that decides within the pass, and what it decided for the rows that it was asked about, in order."""

    def __init__(self, rule: Controller):
        self.rule = rule
        self._parts: list[Tensor] = []

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Rows to edit `[rows]`, and what is added `[rows, d]`, for unsteered activations `hidden [rows, d]`."""
        rule = self.rule
        opened = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
        if rule.trigger is not None:
            opened = rule.trigger.probability(hidden) > rule.threshold
        if hidden.device.type == "cpu":  # asking costs nothing here, and few rows are open
            index = opened.nonzero()[:, 0]
            chosen, alpha, delta = (
                hidden.new_zeros(len(hidden)),
                hidden.new_zeros(len(hidden)),
                torch.zeros_like(hidden),
            )
            if len(index):
                found, delta[index], alpha[index] = self._shift(hidden[index])
                chosen[index] = found.to(chosen)
        else:
            found, delta, alpha = self._shift(hidden)
            chosen = found.float()
        self._parts.append(torch.stack([chosen.float(), alpha.float()], 1))
        return opened, delta

    def _shift(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Categories, shifts and coefficients of rows."""
        rule = self.rule
        assert rule.bank is not None
        chosen = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        if rule.categories is not None:
            chosen = rule.categories.categories(hidden)
        delta, alpha = rule.bank.shift(hidden, chosen)
        return chosen, delta.to(hidden), alpha.to(hidden)

    def made(self, fired: Tensor, ratio: Tensor) -> list[Made]:
        """What was done to the rows asked about, given what the hook did to them, `fired` and `ratio [rows]`."""
        table = torch.cat([torch.cat(self._parts), ratio[:, None], fired[:, None].float()], 1).tolist()
        return [Made(bool(f), int(c), a, r) for c, a, r, f in table]


class PassEdit:
    """Rows `[places]` of which some (`again`) get their decided `shift [places, d]`, and some (`onward`) may decide within the pass."""

    def __init__(self, rows: Sequence[Writing | None], again: Sequence[int], onward: Sequence[int], shift: Tensor):
        self.shift = shift
        self.fixed = torch.zeros(len(rows), dtype=torch.bool)
        self.fixed[list(again)] = True
        self.fixed = self.fixed.to(shift.device)
        inside = [
            (place, row)
            for place in onward
            if (row := rows[place]) is not None
            and row.asked.controller.in_pass
            and (row.asked.controller.when == "trigger" or row.starts_sentence)
        ]
        groups = by_controller([row for _, row in inside], range(len(inside)))
        self.groups = [(Inside(rule), [inside[n][0] for n in members]) for rule, members in groups]
        self.needed = bool(again) or bool(self.groups)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Rows to edit `[places]`, and what is added `[places, d]`, for unsteered activations `hidden [places, d]`."""
        mask, added = self.fixed.clone(), self.shift.clone()
        for inside, members in self.groups:
            index = torch.tensor(members, device=hidden.device)
            opened, delta = inside(hidden[index])
            mask[index], added[index] = opened, delta.to(added)
        return mask, added

    def made(self, lane: Lane) -> dict[int, Made]:
        """What the rules that decided within the pass did, by place, as the lane's hook edited it."""
        found: dict[int, Made] = {}
        for inside, members in self.groups:
            assert lane.fired is not None and lane.ratio is not None
            index = torch.tensor(members, device=lane.fired.device)
            found |= dict(zip(members, inside.made(lane.fired[index], lane.ratio[index]), strict=True))
        return found
