"""From an intervention to the numbers of the common formula (`formula.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .formula import COLUMNS, Needs
from .plan import SETS_PROJECTION, Intervention


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
        size = {"vector": intervention.vector.norm, "degrees": math.pi / 180}.get(dose.unit, 1.0)
        row[key] = dose.amount * size - (1.0 if dose.unit == "factor" else 0.0)
    return [row[name] for name in COLUMNS]


def needs_of(interventions: Sequence[Intervention]) -> Needs:
    """What the interventions of one slot make necessary."""
    kinds = {i.operation for i in interventions}
    units = {i.dose.unit for i in interventions if i.dose is not None}
    keep = any(i.keep_norm for i in interventions)
    simple = kinds <= {"add"} and "residual" not in units and not keep
    return Needs(simple, bool(kinds & {"cap", "floor"}), "rotate" in kinds, keep)
