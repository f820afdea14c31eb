"""A plan as plain additions: what other programs can run, one direction per layer for the prompt and one for what is generated.

1. Only additions of a constant amount, in raw units or in the vector's own length, at the output of layers, on all tokens, the prompt's or
   the generated ones, without a gate. Everything else depends on the activation or on the token, and is refused by name.
2. Additions at one layer are summed, which is what the engine does with them, so no rule for conflicts is needed elsewhere.
3. `all` and `prompt` leave a model's attention sinks out (`span`); other programs edit those too. `sinks_differ` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.sites import Site
from ..vector.interchange.easysteer import PHASES, write_spec
from ..vector.interchange.gguf import export_gguf
from ..vector.vectors import UNKNOWN, Provenance, SteeringVector
from .dose import Dose
from .plan import Intervention, Plan
from .span import Span

SPANS = {"all": ("prompt", "generated"), "prompt": ("prompt",), "generated": ("generated",)}
"""Spans that can be said elsewhere, and the phases that they are."""
SINKS = Span("sinks")


@dataclass(frozen=True)
class Additions:
    """What is added at the output of each layer, `[d_model]` float32."""

    prompt: dict[Site, Tensor]
    generated: dict[Site, Tensor]
    sinks_differ: bool
    """Whether the plan leaves attention sinks out, which other programs edit."""
    model_id: str
    model: str
    """Fingerprint of the weights; `unknown` where the vectors do not say."""
    times: float
    """The longest addition, in lengths of the shortest vector that takes part."""

    def vectors(self, phase: str) -> list[SteeringVector]:
        """One vector per layer of a phase ("prompt" or "generated"), in order."""
        held: dict[Site, Tensor] = getattr(self, phase)
        origin = Provenance("sum of a plan's additions", self.model, self.model_id)
        return [
            SteeringVector(f"{phase} at {site}", site, held[site], origin)
            for site in sorted(held, key=lambda s: s.layer)
        ]


def additions(plan: Plan) -> Additions:
    """The additions that a plan is. Raises BadInput for a plan that is something else, naming the step and what it would take."""
    if not plan:
        raise BadInput("A plan without steps adds nothing.")
    origins = {(v.provenance.model_id, v.provenance.model) for v in plan.vectors.values()}
    model_id, model = origins.pop() if len(origins) == 1 else ("", UNKNOWN)
    phases: dict[str, dict[Site, Tensor]] = {"prompt": {}, "generated": {}}
    differ = False
    for number, step in enumerate(plan.interventions):
        direction = _delta(step, f"interventions.{number}")
        names, without_sinks = _phases(step.span, f"interventions.{number}")
        differ |= without_sinks
        for site in step.sites or (step.site or step.vector.site,):
            if site.kind != "resid_post":
                raise BadInput(
                    f"interventions.{number} edits {site}; elsewhere vectors are added to the output of a layer (hook_resid_post)."
                )
            for name in names:
                before = phases[name].get(site)
                phases[name][site] = direction if before is None else before + direction
    kept = {name: {site: row for site, row in held.items() if row.any()} for name, held in phases.items()}
    if not any(kept.values()):
        raise BadInput(
            "The plan adds nothing: its amounts are 0, or its additions cancel each other. Give an amount other than 0."
        )
    longest = max(float(row.norm()) for held in kept.values() for row in held.values())
    times = longest / min(step.vector.norm for step in plan.interventions if isinstance(step.vector, SteeringVector))
    return Additions(kept["prompt"], kept["generated"], differ, model_id, model, times)


def export_llama_cpp(plan: Plan, path: Path | str, *, model_hint: str) -> Path:
    """Write a control vector (GGUF) for `llama-cli --control-vector`, which adds it at every token. Raises BadInput for a plan that does
    not treat prompt and generated tokens alike, edits the first layer's output, or is no plan of additions."""
    found = additions(plan)
    if not same(found.prompt, found.generated):
        raise BadInput(
            "llama.cpp adds a control vector at every token, those of the prompt too: only a plan on `all` can be written for it. For "
            "`prompt` or `generated` alone write EasySteer's spec."
        )
    return export_gguf(found.vectors("generated"), path, layers="llama.cpp", model_hint=model_hint)


def export_served(plan: Plan, path: Path | str, *, model_hint: str) -> Path:
    """Write EasySteer's spec for `vllm serve --steering-config` (`path`, which ends in .json) and the control vectors that it names beside
    it; returns the spec's path. Raises BadInput for what is no plan of additions."""
    found, path = additions(plan), Path(path)
    if path.suffix != ".json":
        raise BadInput(
            f"{path}: a spec is JSON, and its control vectors lie beside it; give a name that ends in .json."
        )
    if same(found.prompt, found.generated):
        parts = {"all": "generated"}
    else:
        parts = {name: name for name in ("prompt", "generated") if getattr(found, name)}
    entries = []
    for on, phase in parts.items():
        vectors = found.vectors(phase)
        file = path.with_name(f"{path.stem}.{on}.gguf")
        export_gguf(vectors, file, layers="easysteer", model_hint=model_hint)
        entries.append((file.name, [vector.site.layer for vector in vectors], PHASES[on]))
    return write_spec(path, entries)


def same(one: dict[Site, Tensor], other: dict[Site, Tensor]) -> bool:
    """Whether two phases get the same additions, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[site], other[site]) for site in one)


def as_plan(found: Additions) -> Plan:
    """The additions as a plan of their own, a step per layer and phase: what was written, in this program's words."""
    once = Dose(1.0, "vector")
    return Plan(
        tuple(
            Intervention("add", vector, Span(phase), once, vector.site)
            for phase in ("prompt", "generated")
            for vector in found.vectors(phase)
        )
    )


def _delta(step: Intervention, where: str) -> Tensor:
    if step.operation != "add" or not isinstance(step.vector, SteeringVector):
        what = step.operation if isinstance(step.vector, SteeringVector) else f"{step.operation} of latents"
        raise BadInput(
            f"{where} is {what!r}, which depends on the activation; only plain additions of vectors can run elsewhere."
        )
    if step.gate is not None:
        raise BadInput(
            f"{where} has a gate ({step.gate.kind}), which reads each token; only additions without one can run elsewhere."
        )
    if step.keep_norm:
        raise BadInput(f"{where} keeps the activation's norm, so it is no plain addition.")
    assert step.dose is not None, "an addition has a dose"
    if step.dose.schedule.kind != "constant":
        raise BadInput(f"{where} has the schedule {step.dose.schedule}; only constant amounts can run elsewhere.")
    if step.dose.unit not in ("raw", "vector"):
        raise BadInput(
            f"{where} has a dose in {step.dose.unit!r}, which depends on the activation; give it in raw units or in v."
        )
    scale = step.dose.amount if step.dose.unit == "vector" else step.dose.amount / step.vector.norm
    return step.vector.direction * scale


def _phases(span: Span, where: str) -> tuple[tuple[str, ...], bool]:
    """The phases that a span covers, and whether it leaves the attention sinks of those out."""
    whole = span.kind == "union" and SINKS in span.parts
    rest = next((part for part in span.parts if part != SINKS), span) if whole else span
    if rest.kind not in SPANS or (whole and len(span.parts) != 2):
        raise BadInput(
            f"{where} is on `{span}`, which only this program can find; elsewhere there are all, prompt and generated. "
            "Write the plan anew on one of these, such as `on generated`; that is another plan, whose effects are its own."
        )
    phases = SPANS[rest.kind]
    return phases, "prompt" in phases and not whole
