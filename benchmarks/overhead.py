"""What steering costs: one unsteered and one steered stream of the same model take turns token by token.

Steps of both alternate in order, so that a drift of the machine meets both; what is compared is the median time of a step.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from steering.engine.generation import Row, stream
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

from .workloads import prompts

PROMPT = 32


@dataclass(frozen=True)
class Overhead:
    """Of one batch size."""

    batch: int
    steps: int
    """Steps timed on each side."""
    milliseconds: float
    """Median of an unsteered step."""
    ratio: float
    """Median of a steered step over that."""
    ratio_range: tuple[float, float]
    """The same over the runs, lowest and highest."""


def overhead(model: LoadedModel, batch: int, new_tokens: int, runs: int) -> Overhead:
    """One vector added at the middle layer over every generated token, against nothing."""
    endless = replace(model, extra=dict(model.extra))
    endless.__dict__["eos_ids"] = frozenset()
    v = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    vector = SteeringVector("v", Site(model.n_layers // 2), v / v.norm(), Provenance("random", "none"))
    plan = Plan((Intervention("add", vector, Span("generated"), Dose(4.0, "raw")),))
    settings = GenerationSettings(new_tokens)
    asked = prompts(batch, PROMPT, PROMPT, model.model.config.vocab_size)
    times: list[list[list[float]]] = []
    for _ in range(runs):
        streams = [
            stream(endless, [Row(p, chosen) for p in asked], settings, batch_size=batch, detail="tokens")
            for chosen in (Plan(), plan)
        ]
        sides: list[list[float]] = [[], []]
        for side in (0, 1):
            next(streams[side])
        for step in range(new_tokens - 2):
            for side in (0, 1) if step % 2 else (1, 0):
                start = time.perf_counter()
                next(streams[side])
                sides[side].append(time.perf_counter() - start)
        for events in streams:
            for _ in events:
                pass
        times.append(sides)
    per_run = [statistics.median(steered) / statistics.median(plain) for plain, steered in times]
    plain, steered = ([t for sides in times for t in sides[side]] for side in (0, 1))
    base = statistics.median(plain)
    return Overhead(batch, len(plain), 1e3 * base, statistics.median(steered) / base, (min(per_run), max(per_run)))
