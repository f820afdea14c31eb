"""From plans to tables of numbers: everything that can be wrong with a plan is refused here, before a forward pass.

1. A slot is the j-th intervention at a site, with one table over all plans of a call (`slots`).
2. A row's coverage is laid out by position: which positions each slot edits and with what multiplier. What depends on tokens yet to be
   generated is followed token by token (`RowPlan.follow`).
3. An intervention that would undo an earlier one completely is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from ..model.reader import Sited
from ..model.sites import Site
from ..plan.plan import SETS_PROJECTION, Intervention, Plan
from ..vector.vectors import SteeringVector
from .coverage import Coverage
from .feature_formula import LATENT_COLUMNS
from .formula import COLUMNS
from .operation import latent_numbers, numbers
from .origin import left_out, origins, refuse_foreign
from .slots import LatentSlot, Slot, family, make_slot

LARGEST = 1e18
"""Largest number of a dose. The squares of activations of that length are still numbers of float32, with room for their sum."""
SAME_DIRECTION = 0.999
"""|cosine| from which two directions count as one in the conflict rule."""


def check_plan(plan: Plan, model: Sited, strict: bool = False) -> None:
    """Raises BadInput when a plan cannot run on a model: wrong width, site it does not have, a dose beyond what can be computed; and, when
    `strict`, vectors that are not known to come from it."""
    if strict:
        refuse_foreign(plan, model)
    for intervention in plan.interventions:
        gate = intervention.gate
        for site in intervention.sites:
            model.layout.check(site)
            intervention.vector.check_width(model, site)
        refuse_overflow(intervention)
        if gate is not None:
            for site in (gate.site,) if gate.site is not None else intervention.sites:
                model.layout.check(site)
                if gate.vector is not None and gate.vector.direction.shape[0] != model.layout.width(site):
                    raise BadInput(
                        f"Gate {gate}: its vector has width {gate.vector.direction.shape[0]}, {site} has {model.layout.width(site)}."
                    )


def refuse_overflow(intervention: Intervention) -> None:
    """Raises BadInput for a dose so large that norms of the edited activations overflow float32, whatever the model makes of them."""
    used = intervention.vector
    if isinstance(used, SteeringVector):
        row = dict(zip(COLUMNS, numbers(intervention), strict=True))
        largest = max(abs(row[name]) for name in ("constant", "relative", "factor"))
    else:
        latents = [dict(zip(LATENT_COLUMNS, line, strict=True)) for line in latent_numbers(intervention, used)]
        largest = max(abs(line[name]) for line in latents for name in ("constant", "factor", "raise"))
    if not largest <= LARGEST:
        raise BadInput(
            f"Dose {intervention.dose} of {used.name!r} is too large to compute with: it comes to {largest:.3g}, and the norm of an "
            f"activation beyond {LARGEST:.0e} overflows float32. Give a dose of the order of the "
            f"activation's norm, such as 0.5r."
        )


@dataclass(frozen=True)
class CompiledPlans:
    """Slots in order of application (site, then depth), and each plan's line in every slot (0 where it has none)."""

    slots: tuple[Slot | LatentSlot, ...]
    lines: dict[Plan, tuple[int, ...]]
    members: dict[Plan, tuple[tuple[int, Intervention], ...]]
    """Per plan: (slot, intervention) pairs."""
    origins: dict[Plan, tuple[str, ...]]
    """Per plan: what is to be said of vectors that come from another model."""


def compile_plans(plans: Sequence[Plan], model: Sited) -> CompiledPlans:
    """Tables for all distinct plans of a call. Raises BadInput for a plan that does not fit the model or whose edits conflict."""
    distinct = list(dict.fromkeys(plans))
    for plan in distinct:
        check_plan(plan, model)
    table: dict[tuple[Site, int, str], list[Intervention]] = defaultdict(list)
    places: dict[Plan, list[tuple[tuple[Site, int, str], int, Intervention]]] = {}
    for plan in distinct:
        depth: dict[Site, int] = defaultdict(int)
        places[plan] = []
        for intervention in plan.interventions:
            for site in intervention.sites:
                key = (site, depth[site], family(intervention))
                entries = table[key]
                if intervention not in entries:
                    entries.append(intervention)
                places[plan].append((key, entries.index(intervention) + 1, intervention))
                depth[site] += 1
    order = sorted(table, key=lambda key: (key[0].order, *key[1:]))
    index = {key: i for i, key in enumerate(order)}
    said = {plan: (*origins(plan, model), *left_out(plan, model)) for plan in distinct}
    lines, members = {}, {}
    for plan, found in places.items():
        used = [0] * len(order)
        for key, line, _ in found:
            used[index[key]] = line
        lines[plan] = tuple(used)
        members[plan] = tuple((index[key], intervention) for key, _, intervention in found)
    return CompiledPlans(tuple(make_slot(key[0], table[key], model) for key in order), lines, members, said)


class RowPlan:
    """One row's coverage: `active [slots, positions]` and `multiplier [slots, positions]` over prompt and generated positions."""

    def __init__(
        self, compiled: CompiledPlans, plan: Plan, prompt_ids: Sequence[int], max_new_tokens: int, model: Sited
    ):
        length = len(prompt_ids)
        total = length + max_new_tokens
        self.active = np.zeros((len(compiled.slots), total), bool)
        self.multiplier = np.ones((len(compiled.slots), total), np.float32)
        self.followed: list[tuple[int, Coverage, bool, list[int]]] = []
        self.compiled, self.lines = compiled, compiled.lines[plan]
        covered: dict[int, np.ndarray] = {}
        for slot, intervention in compiled.members[plan]:
            coverage = Coverage(model, intervention.span, prompt_ids, max_new_tokens)
            known, schedule = coverage.known, intervention.dose.schedule if intervention.dose else None
            if not known.any() and not coverage.dynamic:
                raise BadInput(
                    f"Span {intervention.span} covers no position of a row of {length} prompt tokens and {max_new_tokens} new tokens."
                )
            once = schedule is not None and schedule.kind == "once" and intervention.gate is None
            if once and known.any():
                first = int(known.argmax())
                known = known & (np.arange(total) == first)
            self.active[slot] = known
            if schedule is not None and schedule.kind in ("linear", "decay"):
                self.multiplier[slot] = [schedule.factor(max(0, i - length)) for i in range(total)]
            if coverage.dynamic:
                self.followed.append((slot, coverage, once, [1] if known.any() else []))
            covered[slot] = known
        _refuse_conflicts(compiled, plan, covered)

    @property
    def first_edited(self) -> int | None:
        """First prompt or generated position known to be edited, over all slots."""
        columns = self.active.any(0)
        return int(columns.argmax()) if columns.any() else None

    def first_layer(self, prompt: int) -> int:
        """Lowest layer at which the prompt (its first `prompt` positions) is edited, or read by a gate of such an edit."""
        edited = [slot for slot, active in zip(self.compiled.slots, self.active, strict=True) if active[:prompt].any()]
        read = [gate.site.layer for slot in edited for gate in slot.gates if gate is not None and gate.site is not None]
        return min([*(slot.site.layer for slot in edited), *read])

    def follow(self, position: int, token: int) -> bool:
        """Tell the row what was generated at `position`; returns whether coverage there changed."""
        changed = False
        for slot, coverage, once, done in self.followed:
            if coverage.next(token) and not (once and done):
                self.active[slot, position] = True
                done.append(position)
                changed = True
        return changed


def check_spans(
    compiled: CompiledPlans, model: Sited, rows: Sequence[tuple[Plan, Sequence[int]]], max_new_tokens: int
) -> None:
    """Raises BadInput for a plan whose span covers nothing of its row, or whose edits conflict there; `rows` are plans and prompts."""
    for plan, prompt in rows:
        if plan:
            RowPlan(compiled, plan, prompt, max_new_tokens, model)


def _refuse_conflicts(compiled: CompiledPlans, plan: Plan, covered: dict[int, np.ndarray]) -> None:
    members = compiled.members[plan]
    for later in range(len(members)):
        slot, intervention = members[later]
        if intervention.operation not in SETS_PROJECTION or intervention.gate is not None:
            continue
        for earlier_slot, earlier in members[:later]:
            if compiled.slots[earlier_slot].site != compiled.slots[slot].site:
                continue
            if earlier.operation == intervention.operation == "ablate":
                continue
            if not isinstance(earlier.vector, SteeringVector) or not isinstance(intervention.vector, SteeringVector):
                continue
            one, two = earlier.vector.direction, intervention.vector.direction
            if abs(float(one @ two)) < SAME_DIRECTION * float(one.norm() * two.norm()):
                continue
            if (covered[earlier_slot] & covered[slot]).any():
                raise BadInput(
                    f"{intervention.operation} on {intervention.vector.name!r} at {compiled.slots[slot].site} undoes the earlier "
                    f"{earlier.operation} on the same direction where their spans {earlier.span} and {intervention.span} overlap; "
                    f"put it first, or separate the spans."
                )
