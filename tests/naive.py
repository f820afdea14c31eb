"""The naive oracle: one row, no cache, no padding, the whole sequence recomputed every step, edits by a plain position loop.

It shares no code with the engine but the hook installer, and writes each operation out by its own formula.
"""

from __future__ import annotations

import torch

from steering.models import LoadedModel
from steering.plan import Intervention, Plan
from steering.sites import hooked


def spans_position(intervention: Intervention, position: int, prompt_length: int) -> bool:
    kind, n = intervention.span.kind, intervention.span.n
    if kind == "all":
        return True
    if kind == "prompt":
        return position < prompt_length
    if kind == "last_prompt":
        return position == prompt_length - 1
    if kind == "generated":
        return position >= prompt_length
    assert n is not None
    return prompt_length <= position < prompt_length + n


def edited(h: torch.Tensor, intervention: Intervention) -> torch.Tensor:
    v = intervention.vector.direction
    u = v / v.norm()
    if intervention.operation == "ablate":
        return h - (h @ u) * u
    dose = intervention.dose
    assert dose is not None
    size = {"raw": 1.0, "vector": float(v.norm()), "residual": float(h.norm())}[dose.unit] * dose.amount
    if intervention.operation == "add":
        return h + size * u
    return h - (h @ u) * u + size * u


@torch.inference_mode()
def naive_logits(model: LoadedModel, ids: list[int], plan: Plan, prompt_length: int) -> torch.Tensor:
    """Logits `[positions, vocabulary]` of the steered model over a whole sequence."""
    edits = {}
    for site in {i.site for i in plan.interventions}:
        here = [i for i in plan.interventions if i.site == site]

        def edit(hidden: torch.Tensor, here: list[Intervention] = here) -> torch.Tensor:
            out = hidden.clone()
            for intervention in here:
                for position in range(hidden.shape[1]):
                    if spans_position(intervention, position, prompt_length):
                        out[0, position] = edited(out[0, position], intervention)
            return out

        edits[site] = edit
    with hooked(model.layout, edits):
        return model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def naive_generate(model: LoadedModel, prompt_ids: tuple[int, ...], plan: Plan, max_new_tokens: int) -> list[int]:
    """Greedy continuation."""
    ids = list(prompt_ids)
    for _ in range(max_new_tokens):
        ids.append(int(naive_logits(model, ids, plan, len(prompt_ids))[-1].argmax()))
        if ids[-1] in model.eos_ids:
            break
    return ids[len(prompt_ids) :]
