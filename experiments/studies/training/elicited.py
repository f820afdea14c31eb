"""Trainings of weights that other cards do, by name, for cards that compare what they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steering.errors import BadInput, unknown

from ..elicitation.asked import Elicit
from ..elicitation.workroom import Workroom
from . import critique, one_example, spurious
from .rewarded import Grown

WEIGHTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "one-example": (one_example, {"arms": ("truth",)}),
    "truth": (spurious, {"arms": ("truth",)}),
    "format": (spurious, {"arms": ("format",)}),
    "random": (spurious, {"arms": ("random",)}),
    "critique": (critique, {"arms": ("critique",)}),
}
"""The card of each, and its arm."""


def trained_weights(
    room: Workroom, names: Sequence[str], seeds: Sequence[int], sized: Mapping[str, Any], read: Mapping[str, int]
) -> list[Grown]:
    """The trainings, in the quick sizes of their cards but for those that `sized` names; read where they were trained before."""
    found: list[Grown] = []
    for name in names:
        module, arms = WEIGHTS[name]
        own = module.CARD.quick.model_dump()
        sizes = own | arms | {"seeds": tuple(seeds)} | {field: sized[field] for field in sized if field in own}
        if "read" in sizes:
            sizes["read"] = dict(read)
        found += module.grown_of(room, type(module.CARD.quick).model_validate(sizes))[0]
    return found


def refuse_weights(asked: Elicit, names: Sequence[str], sized: Mapping[str, Any], card: str) -> None:
    """Raises BadInput for an unknown training, one that a task does not allow, and a size that none of them has."""
    for name in names:
        if name not in WEIGHTS:
            raise unknown("training", name, WEIGHTS, where=f"card {card}: weights")
    known = {field for name in names for field in type(WEIGHTS[name][0].CARD.quick).model_fields}
    if odd := sorted(set(sized) - known):
        raise unknown("field", odd[0], sorted(known), where=f"card {card}: sized")
    if "critique" in names and not asked.builtin:
        raise BadInput(
            f"card {card}: critiques need the exact verifier of the built-in task; name other trainings in weights, such as "
            f"--set 'weights=[one-example, random]'."
        )
