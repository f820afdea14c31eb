"""How large a plan's edits are on given prompts, measured: what its controls are matched to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.sites import Site
from ..plan.controls import sized_alone
from ..plan.plan import Intervention, Plan
from .generation import Row, generate
from .record import Generation
from .sampling import GenerationSettings

TOKENS = 16
"""Tokens written per prompt, for spans that reach into the response."""


def mean_ratio(generations: Sequence[Generation]) -> float:
    """Mean ‖Δ‖/‖h‖ over the positions that the plans cover, those included where nothing changed; 0 where no position is covered.

    Rows whose numbers became NaN or infinite have no size and are left out.
    """
    whole = [g for g in generations if g.finish != "nonfinite"]
    planned = sum(g.receipt.planned for g in whole)
    return sum(sum(g.receipt.ratio) for g in whole) / planned if planned else 0.0


def edit_size(model: LoadedModel, prompts: Sequence[tuple[int, ...]], plan: Plan, tokens: int = TOKENS) -> float:
    """Mean ‖Δ‖/‖h‖ of a plan's edits over prompts and the first `tokens` of their responses. Raises NeverFired as `generate` does,
    and BadInput where every row's numbers become NaN or infinite."""
    rows = [Row(ids, plan) for ids in prompts]
    found = generate(model, rows, GenerationSettings(tokens), batch_size=len(rows))
    if found and all(generation.finish == "nonfinite" for generation in found):
        raise BadInput(
            f"The size of the plan's edits on {model.id} cannot be measured: in every row {found[0].nonfinite}. Give a smaller dose, or "
            f"load the model in bfloat16 or float32."
        )
    return mean_ratio(found)


def measured_sizes(
    model: LoadedModel, prompts: Sequence[tuple[int, ...]], plans: Sequence[Plan]
) -> dict[tuple[Intervention, Site], float]:
    """The size of every step whose edit depends on its direction, each at each of its sites alone (`plan.controls`)."""
    steps = dict.fromkeys(step for plan in plans for step in plan.interventions if not sized_alone(step))
    return {
        (step, site): edit_size(model, prompts, Plan((replace(step, site=None, sites=(site,)),)))
        for step in steps
        for site in step.sites
    }
