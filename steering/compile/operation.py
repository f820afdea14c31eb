"""From an intervention to the numbers of the common formula (`formula.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..plan.plan import SETS_PROJECTION, Intervention
from ..vector.features import Features
from ..vector.vectors import SteeringVector
from .feature_formula import LATENT_COLUMNS
from .formula import COLUMNS, Needs


def numbers(intervention: Intervention) -> list[float]:
    """The per-row numbers of one intervention, in the order of `COLUMNS`."""
    row = dict.fromkeys(COLUMNS, 0.0) | {"low": -math.inf, "high": math.inf, "keep": float(intervention.keep_norm)}
    operation, dose = intervention.operation, intervention.dose
    if operation in (*SETS_PROJECTION, "cap", "floor"):
        row["project"] = 1.0
    if operation == "cap":
        row["high"] = 0.0
    if operation == "floor":
        row["low"] = 0.0
    if dose is not None:
        key = {"raw": "constant", "vector": "constant", "residual": "relative", "degrees": "angle", "factor": "factor"}[
            dose.unit
        ]
        assert isinstance(intervention.vector, SteeringVector)
        size = {"vector": intervention.vector.norm, "degrees": math.pi / 180}.get(dose.unit, 1.0)
        row[key] = dose.amount * size - (1.0 if dose.unit == "factor" else 0.0)
    return [row[name] for name in COLUMNS]


def latent_numbers(intervention: Intervention, features: Features) -> list[list[float]]:
    """The numbers of one intervention for each chosen latent, in the order of `LATENT_COLUMNS`."""
    rows = []
    operation, dose = intervention.operation, intervention.dose
    amount = 0.0 if dose is None else dose.amount
    for place in range(len(features.chosen)):
        peak = 1.0
        if dose is not None and dose.unit == "peak":
            assert features.peaks is not None
            peak = float(features.peaks[place])
        row = {"factor": 1.0, "constant": 0.0, "raise": 0.0, "low": -math.inf, "high": math.inf}
        if operation in ("ablate", "clamp", "mean"):
            mean = 0.0 if operation != "mean" or features.means is None else float(features.means[place])
            row |= {"factor": 0.0, "constant": amount * peak if operation == "clamp" else mean}
        elif operation == "add":
            row["constant"] = amount * peak
        elif operation == "cap":
            row["high"] = amount * peak
        elif operation == "floor":
            row["low"] = amount * peak
        elif operation == "scale":
            row["factor"] = amount
        else:
            row["raise"] = amount
        rows.append([row[name] for name in LATENT_COLUMNS])
    return rows


def needs_of(interventions: Sequence[Intervention]) -> Needs:
    """What the interventions of one slot make necessary."""
    kinds = {i.operation for i in interventions}
    units = {i.dose.unit for i in interventions if i.dose is not None}
    keep = any(i.keep_norm for i in interventions)
    simple = kinds <= {"add"} and "residual" not in units and not keep
    return Needs(simple, bool(kinds & {"cap", "floor"}), "rotate" in kinds, keep)
