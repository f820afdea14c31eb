"""llama.cpp on the model's GGUF file, through this project's executor: quantised weights, one control vector per configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def load(folder: str) -> Any:
    from steering.engine.generation import Row
    from steering.engine.sampling import GenerationSettings
    from steering.executors.llama_cpp import LlamaCpp
    from steering.model.sites import Site
    from steering.plan.plan import Dose, Intervention, Plan, Span
    from steering.vector.vectors import Provenance, SteeringVector

    model = LlamaCpp(Path(folder) / "model.gguf")
    model.ends = lambda token: False  # type: ignore[method-assign]  # every contender writes to its budget

    def plan(configuration: dict[str, Any], span: str) -> Plan:
        v = torch.randn(model.d_model, generator=torch.Generator().manual_seed(configuration["seed"]))
        vector = SteeringVector("v", Site(configuration["layer"]), v / v.norm(), Provenance("random", "none"))
        on = Span("generated") if span == "generated" else Span.parse("all | sinks")
        return Plan((Intervention("add", vector, on, Dose(configuration["scale"], "raw")),))

    def run(workload: dict[str, Any]) -> list[list[int]]:
        if workload["end_ids"]:
            raise ValueError("llama.cpp ends texts at the model's own end tokens only")
        plans = [plan(c, workload["span"]) for c in workload["configurations"]] or [Plan()]
        rows = [Row(tuple(prompt), p) for p in plans for prompt in workload["prompts"]]
        found = model.generate(rows, GenerationSettings(workload["new_tokens"]), batch_size=workload["batch"])
        return [list(row.token_ids) for row in found]

    return run
