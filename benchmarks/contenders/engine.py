"""This project's engine: all rows of all configurations in one queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch


def load(folder: str) -> Any:
    from steering.engine.generation import Row, generate
    from steering.engine.sampling import GenerationSettings
    from steering.model.models import load_model
    from steering.model.sites import Site
    from steering.plan.plan import Dose, Intervention, Plan, Span
    from steering.vector.vectors import Provenance, SteeringVector

    model = load_model(folder, device="cuda" if torch.cuda.is_available() else None)

    ending: dict[frozenset[int], Any] = {}

    def plan(configuration: dict[str, Any], span: str) -> Plan:
        v = torch.randn(model.d_model, generator=torch.Generator().manual_seed(configuration["seed"]))
        vector = SteeringVector("v", Site(configuration["layer"]), v / v.norm(), Provenance("random", "none"))
        return Plan((Intervention("add", vector, Span(span), Dose(configuration["scale"], "raw")),))

    def run(workload: dict[str, Any]) -> list[list[int]]:
        ends = frozenset(workload["end_ids"])
        if ends not in ending:
            ending[ends] = replace(model, extra=dict(model.extra))
            ending[ends].__dict__["eos_ids"] = ends
        wanted = ending[ends]
        plans = [plan(c, workload["span"]) for c in workload["configurations"]] or [Plan()]
        rows = [Row(tuple(prompt), p) for p in plans for prompt in workload["prompts"]]
        detail = workload.get("detail", "tokens")
        found = generate(
            wanted, rows, GenerationSettings(workload["new_tokens"]), batch_size=workload["batch"], detail=detail
        )
        return [list(g.token_ids) for g in found]

    return run
