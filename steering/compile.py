"""From plans to dense per-row tensors: everything that can be wrong is refused here, before a forward pass.

1. Every operation is one formula on the unit direction u: delta = (constant + relative * ‖h‖ - project * (h·u)) * u. Rows with different
   plans, operations and spans therefore share one hook per site and one batch.
2. Spans become a boolean ledger `[rows, columns]` over the padded batch layout (left padding, then the prompt, then generated tokens);
   padding is never active.
3. A row that a slot does not touch keeps its activations bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import BadInput
from .models import LoadedModel
from .plan import Intervention, Plan, Span
from .sites import Site


@dataclass
class Slot:
    """The j-th intervention at a site for every row of a batch."""

    direction: Tensor
    """`[rows, 1, d_model]`, unit length (zero for rows without a j-th intervention), float32."""
    constant: Tensor
    """`[rows, 1, 1]`, residual-stream units."""
    relative: Tensor
    """`[rows, 1, 1]`, multiples of the activation's norm."""
    project: Tensor
    """`[rows, 1, 1]`, how much of the present projection is taken away: 1 for ablate and clamp, 0 for add."""
    active: Tensor
    """`[rows, columns]` bool."""

    def select(self, keep: Tensor) -> Slot:
        """The same slot for a subset of rows."""
        return Slot(
            self.direction[keep], self.constant[keep], self.relative[keep], self.project[keep], self.active[keep]
        )

    def apply(self, hidden: Tensor, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Edit `hidden [rows, positions, d_model]`; also returns ‖delta‖/‖h‖ and the mask of edited positions, both `[rows, positions]`."""
        h = hidden.float()
        norm = h.norm(dim=-1, keepdim=True)
        amount = self.constant + self.relative * norm - self.project * (h * self.direction).sum(-1, keepdim=True)
        mask = self.active[:, columns]
        edited = torch.where(mask[..., None], (h + amount * self.direction).to(hidden.dtype), hidden)
        ratio = torch.where(mask, (amount.abs() / norm.clamp_min(1e-12)).squeeze(-1), 0.0)
        return edited, ratio, mask


@dataclass
class CompiledPlans:
    """All plans of a batch: per site, the slots in order of application."""

    slots: dict[Site, list[Slot]]
    planned: Tensor
    """`[rows, columns]` int32: how many edits the ledger asks for at each column."""

    def select(self, keep: Tensor) -> CompiledPlans:
        return CompiledPlans(
            {s: [slot.select(keep) for slot in slots] for s, slots in self.slots.items()}, self.planned[keep]
        )


def covered(span: Span, prompt_length: int, max_new_tokens: int) -> range:
    """Positions (0 is the first real token) that a span names in a sequence of `prompt_length` plus generated tokens."""
    end = prompt_length + max_new_tokens
    if span.kind == "all":
        return range(0, end)
    if span.kind == "prompt":
        return range(0, prompt_length)
    if span.kind == "last_prompt":
        return range(prompt_length - 1, prompt_length)
    if span.kind == "generated":
        return range(prompt_length, end)
    assert span.n is not None
    return range(prompt_length, min(prompt_length + span.n, end))


def coefficients(intervention: Intervention) -> tuple[float, float, float]:
    """(constant, relative, project) of the common formula for one intervention."""
    project = 0.0 if intervention.operation == "add" else 1.0
    if intervention.dose is None:
        return 0.0, 0.0, project
    amount, unit = intervention.dose.amount, intervention.dose.unit
    if unit == "residual":
        return 0.0, amount, project
    return (amount * intervention.vector.norm if unit == "vector" else amount), 0.0, project


def check_plan(plan: Plan, model: LoadedModel) -> None:
    """Raises BadInput when a plan cannot run on a model: wrong width, site out of range."""
    for intervention in plan.interventions:
        intervention.vector.check(model)
        assert intervention.site is not None
        model.layout.check(intervention.site)


def compile_plans(
    plans: Sequence[Plan], prompt_lengths: Sequence[int], max_new_tokens: int, model: LoadedModel
) -> CompiledPlans:
    """Tensors for a left-padded batch whose prompts end at column `max(prompt_lengths)`."""
    rows, widest = len(plans), max(prompt_lengths)
    columns, device = widest + max_new_tokens, model.device
    for plan in dict.fromkeys(plans):
        check_plan(plan, model)
    at_site: dict[Site, list[list[tuple[int, Intervention]]]] = defaultdict(list)
    for row, plan in enumerate(plans):
        depth: dict[Site, int] = defaultdict(int)
        for intervention in plan.interventions:
            site = intervention.site
            assert site is not None
            if depth[site] == len(at_site[site]):
                at_site[site].append([])
            at_site[site][depth[site]].append((row, intervention))
            depth[site] += 1
    planned = torch.zeros(rows, columns, dtype=torch.int32)
    slots: dict[Site, list[Slot]] = {}
    for site, layers in at_site.items():
        slots[site] = []
        for entries in layers:
            direction, active = torch.zeros(rows, 1, model.d_model), torch.zeros(rows, columns, dtype=torch.bool)
            scalars = torch.zeros(3, rows, 1, 1)
            for row, intervention in entries:
                positions = covered(intervention.span, prompt_lengths[row], max_new_tokens)
                if not positions:
                    raise BadInput(
                        f"Span {intervention.span} covers no position of row {row} ({max_new_tokens} new tokens)."
                    )
                shift = widest - prompt_lengths[row]
                active[row, positions.start + shift : positions.stop + shift] = True
                direction[row, 0] = intervention.vector.direction / intervention.vector.norm
                scalars[:, row, 0, 0] = torch.tensor(coefficients(intervention))
            planned += active
            constant, relative, project = scalars.to(device)
            slots[site].append(Slot(direction.to(device), constant, relative, project, active.to(device)))
    return CompiledPlans(slots, planned.to(device))
