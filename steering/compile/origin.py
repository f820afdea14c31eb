"""Whether a plan's vectors and latents come from the model that they are used on.

1. A vector of another model with the same width runs and steers nothing in particular, or something else; it is said, once per vector.
2. Weights are compared by fingerprint. Where a file names none it is said that it does not; a random direction belongs to no model.
3. Where spans leave attention sinks out, that is said as well.
4. Hashing the weights of a large model takes long. Where nothing else has asked for its fingerprint, ids are compared in its place.
"""

from __future__ import annotations

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.reader import Sited
from ..model.sinks import sinks_of
from ..plan.plan import Plan
from ..vector.vectors import UNKNOWN, Provenance

SKIPPING = ("all", "prompt", "outside_thinking")
"""Spans that leave attention sinks out."""
HASHED = 4 * 2**30
"""Bytes of weights up to which they are hashed for this."""


def origins(plan: Plan, model: Sited) -> tuple[str, ...]:
    """A sentence per vector or dictionary of a plan that comes from another model, or does not say from which."""
    read = [step.gate.vector for step in plan.interventions if step.gate is not None and step.gate.vector is not None]
    used = [*(step.vector for step in plan.interventions), *read]
    found = (origin(vector.name, vector.provenance, model) for vector in used)
    return tuple(dict.fromkeys(said for said in found if said is not None))


def refuse_foreign(plan: Plan, model: Sited) -> None:
    """Raises BadInput when a plan holds anything that is not known to come from the model."""
    found = origins(plan, model)
    if found:
        raise BadInput(f"{found[0]} Take one from {model.id}, or leave strict out to run it all the same.")


def left_out(plan: Plan, model: Sited) -> tuple[str, ...]:
    """A sentence where spans of a plan leave attention sinks of the model out."""
    kinds = {atom.kind for step in plan.interventions for atom in step.span.atoms}
    skipping = [kind for kind in SKIPPING if kind in kinds]
    if not skipping or "sinks" in kinds or not (found := sinks_of(model)):
        return ()
    return (f"{found.sentence(model.id, f'Span {skipping[0]}')} Write `{skipping[0]} | sinks` to edit it too.",)


def origin(name: str, made: Provenance, model: Sited) -> str | None:
    """A sentence where what is called `name` comes from another model, or does not say from which; None where it is the model's own."""
    if made.method == "random":
        return None
    named = f" ({made.model_id})" if made.model_id else ""
    if made.model == UNKNOWN:
        return (
            f"{name} does not say from which weights it comes{named}: whether they are those of {model.id} is unknown."
        )
    own = _fingerprint(model)
    if own == made.model or (own is None and made.model_id == model.id):
        return None
    if own is None:
        return f"{name} comes from {made.model_id or made.model}, not from {model.id} (by name; the weights were not compared)."
    if made.model_id == model.id:
        return f"{name} comes from other weights of {model.id}: another revision or precision."
    return f"{name} comes from another model: {made.model_id or made.model}, not {model.id}."


def _fingerprint(model: Sited) -> str | None:
    """The model's fingerprint, where it is known or quickly made."""
    if not isinstance(model, LoadedModel):
        return None
    if "fingerprint" in vars(model):
        return model.fingerprint
    size = sum(p.numel() * p.element_size() for p in model.model.parameters())
    return model.fingerprint if size <= HASHED else None
