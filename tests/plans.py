"""Vectors and plans for the tiny models, made without loading any."""

from __future__ import annotations

import torch

from steering.model.sites import Site
from steering.plan.plan import Dose, Gate, Intervention, Plan, Schedule, Span
from steering.vector.vectors import Provenance, SteeringVector

WIDTH = 16
D_HEAD = 8


def vector(
    seed: int = 0,
    layer: int = 1,
    kind: str = "resid_post",
    width: int | None = None,
    norm: float = 3.0,
    head: int | None = None,
) -> SteeringVector:
    """A random direction; the same seed gives the same one at every site of one width."""
    width = width or (D_HEAD if kind == "z" else WIDTH)
    direction = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    site = Site(layer, kind, 1 if kind == "z" and head is None else head)  # type: ignore[arg-type]
    return SteeringVector(f"v{seed}", site, direction / direction.norm() * norm, Provenance("random", "none"))


def plan(
    operation: str = "add",
    span: str = "generated",
    amount: float = 2.0,
    unit: str = "vector",
    gate: Gate | None = None,
    schedule: str = "constant",
    keep_norm: bool = False,
    sites: tuple[Site, ...] = (),
    **where: object,
) -> Plan:
    dose = None if operation == "ablate" else Dose(amount, unit, Schedule.parse(schedule))  # type: ignore[arg-type]
    made = Intervention(operation, vector(**where), Span.parse(span), dose, gate=gate, keep_norm=keep_norm, sites=sites)  # type: ignore[arg-type]
    return Plan((made,))
