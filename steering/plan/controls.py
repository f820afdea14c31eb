"""Random directions in a plan's place: controls whose edits are as large as the plan's.

1. `add` of a random direction of the vector's norm makes an edit of the same size whatever the activation is.
2. How far an ablation, a clamp or a rotation moves an activation depends on what lies along the direction, and along a random one there is
   next to nothing. Its control adds a random direction of the size that the operation was *measured* to have (`Sizes`), in units of the
   activation's norm, at the same places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import BadInput
from ..model.sites import Site
from ..vector.features import Features
from ..vector.vectors import random_like
from .dose import Dose
from .plan import Intervention, Plan

Sizes = Mapping[tuple[Intervention, Site], float]
"""Measured ‖Δ‖/‖h‖ of interventions, each site by itself (`engine.edit_size`)."""


def sized_alone(step: Intervention) -> bool:
    """Whether a random direction in the step's place edits as much without being measured."""
    return step.operation == "add" and not step.keep_norm


def random_control(plan: Plan, seed: int, sizes: Sizes | None = None) -> Plan:
    """The plan with a random direction, another one for every vector and seed, in place of every direction that edits; gates stay.

    Raises BadInput for a plan of latents (their controls are matched latents) and for a step whose edit size depends on its direction and
    was not measured.
    """
    made = []
    for step in plan.interventions:
        if isinstance(step.vector, Features):
            raise BadInput(
                "A plan over latents has no random directions of its own kind; set controls.random to 0, or use steer ablate."
            )
        vector = random_like(step.vector, seed)
        if sized_alone(step):
            made.append(replace(step, vector=vector, site=None))
            continue
        for site in step.sites:
            if sizes is None or (step, site) not in sizes:
                raise BadInput(
                    f"The size of {step.operation}'s edit depends on its direction; measure it first (measured_sizes)."
                )
            dose = Dose(sizes[step, site], "residual")
            made.append(Intervention("add", vector, step.span, dose, sites=(site,), gate=step.gate))
    return Plan(tuple(made))
