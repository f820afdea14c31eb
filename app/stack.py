"""The intervention stack of the Playground: cards as plain values, in the address and as edits.

1. A stack reads back from its address; a part that cannot be read is named, not guessed.
2. Strength is one number: in units of the vector's norm, of the residual's norm, in degrees / 45 (rotate) or as a factor (scale); the raw
   amount is said in words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from app.vector_files import VectorFile
from experiments.live.edits import Edit, When
from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.verbs import OPERATIONS

OWN = -1
"""The layer that the vector was taken from."""
UNITS = {"vector": "× ‖v‖", "residual": "× ‖h‖"}
SPANS = {
    "last_prompt": "last prompt token",
    "generated": "every generated token",
    "prompt": "the prompt",
    "all": "every token",
    "first_n:8": "first 8 generated tokens",
    "after_n:8": "after 8 generated tokens",
    "sentence_starts": "starts of sentences",
    "inside_thinking": "inside the thinking segment",
}
GATES = {
    "projection": "the projection on a vector",
    "cosine": "the cosine with a vector",
    "entropy": "the entropy of the token's own prediction, in nats",
}
MEANINGS = {
    "add": "adds the direction",
    "ablate": "removes the direction",
    "clamp": "sets the projection",
    "cap": "caps the projection",
    "floor": "keeps the projection above",
    "rotate": "turns towards the direction",
    "scale": "scales the projection",
}
DEGREES = 45.0
"""Degrees of one unit of strength."""


@dataclass(frozen=True)
class Card:
    """One intervention as it stands in the form."""

    operation: str = "add"
    vector: str = ""
    layer: int = OWN
    strength: float = 1.0
    unit: str = "vector"
    span: str = "last_prompt"
    keep_norm: bool = False
    gate: str = ""
    """A kind of `GATES`; no gate where it is empty."""
    threshold: float = 0.0
    below: bool = False
    gate_vector: str = ""
    """What a gate reads along; its own vector where it is empty."""

    def edit(self, vectors: Mapping[str, VectorFile]) -> Edit:
        """The edit that it stands for. Raises BadInput with what to change."""
        if self.vector not in vectors:
            raise BadInput("Choose a vector for every intervention, or remove the card.")
        vector = vectors[self.vector]
        units = OPERATIONS.get(self.operation, ())
        unit = self.unit if self.unit in units else (units[0] if units else None)
        amount = self.strength * DEGREES if unit == "degrees" else self.strength
        try:
            return Edit(
                operation=self.operation,
                vector=vector.digest,
                vector_name=vector.name,
                site=self.site(vector).name,
                span=self.span,
                amount=None if unit is None else float(amount),
                unit=unit,
                keep_norm=self.keep_norm,
                gate=self._when(vectors),
            )
        except ValidationError as error:
            raise BadInput(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error

    def _when(self, vectors: Mapping[str, VectorFile]) -> When | None:
        """The gate. Raises BadInput, ValidationError."""
        if not self.gate:
            return None
        if self.gate == "entropy":
            return When(kind="entropy", threshold=self.threshold, below=self.below)
        digest = self.gate_vector or self.vector
        if digest not in vectors:
            raise BadInput("Choose a vector for every gate, or take the gate away.")
        read = vectors[digest]
        where = "" if not self.gate_vector or read.site == self.site(vectors[self.vector]) else read.site.name
        return When(
            kind=self.gate,
            threshold=self.threshold,
            below=self.below,
            vector=digest,
            vector_name=read.name,
            site=where,  # type: ignore[arg-type]
        )

    def site(self, vector: VectorFile) -> Site:
        """Where it acts: the vector's own site, at the chosen layer."""
        return vector.site if self.layer == OWN else replace(vector.site, layer=self.layer)

    def raw(self, vector: VectorFile) -> str:
        """The amount in words."""
        units = OPERATIONS.get(self.operation, ())
        if not units:
            return "no amount"
        if units == ("degrees",):
            return f"{self.strength * DEGREES:g}°"
        if units == ("factor",):
            return f"factor {self.strength:g}"
        if self.unit == "residual":
            return f"{self.strength:g} × ‖h‖ at each position"
        return f"raw {self.strength * vector.norm:.4g} (‖v‖ {vector.norm:.4g})"


def write(cards: list[Card]) -> str | None:
    """The stack for the address; None for an empty one."""
    fields = [
        [c.operation, c.vector, c.layer, c.strength, c.unit, c.span, int(c.keep_norm)]
        + ([c.gate, c.threshold, int(c.below), c.gate_vector] if c.gate else [])
        for c in cards
    ]
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False) if cards else None


def read(text: str) -> list[Card]:
    """The stack of an address. Raises BadInput."""
    try:
        cards, fields = [], json.loads(text)
        if not isinstance(fields, list):
            raise ValueError(text)
        for operation, vector, layer, strength, unit, span, keep, *gate in fields:
            card = Card(str(operation), str(vector), int(layer), float(strength), str(unit), str(span), bool(keep))
            if gate:
                kind, threshold, below, read = gate
                card = replace(
                    card, gate=str(kind), threshold=float(threshold), below=bool(below), gate_vector=str(read)
                )
            if card.gate not in ("", *GATES) or not math.isfinite(card.threshold):
                raise ValueError(card.gate)
            if card.operation not in OPERATIONS or card.unit not in UNITS or not math.isfinite(card.strength):
                raise ValueError(card.operation)
            if not -1 <= card.layer < 1000 or len(card.span) > 500:
                raise ValueError(card.span)
            cards.append(card)
        if len(cards) > 12:
            raise ValueError("too many")
        return cards
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput("the interventions of this link cannot be read") from error


def card_of(entry: Mapping[str, object], vectors: Mapping[str, VectorFile]) -> Card | None:
    """The card of a stored plan's intervention; None where the form cannot say it."""
    dose, site = entry.get("dose"), entry.get("site")
    vector = vectors.get(str(entry.get("vector")))
    gate = entry.get("gate") or {}
    if not isinstance(gate, Mapping) or gate.get("kind", "") not in ("", *GATES):
        return None
    read = str(gate.get("vector", ""))
    if read and (read not in vectors or (gate.get("site") and str(gate["site"]) != vectors[read].site.name)):
        return None
    if vector is None or not isinstance(site, str) or not isinstance(dose, Mapping | None):
        return None
    amount, unit = (0.0, "vector") if dose is None else (float(str(dose.get("amount"))), str(dose.get("unit")))
    if dose is not None and dose.get("schedule"):
        return None
    if unit == "raw":
        amount, unit = amount / vector.norm, "vector"
    elif unit == "degrees":
        amount, unit = amount / DEGREES, "vector"
    elif unit == "factor":
        unit = "vector"
    if not math.isfinite(amount):
        return None
    where = Site.parse(site)
    if replace(where, layer=vector.site.layer) != vector.site:
        return None
    layer = OWN if where.layer == vector.site.layer else where.layer
    return Card(
        str(entry["operation"]), vector.digest, layer, amount, unit, str(entry["span"]), bool(entry.get("keep_norm")),
        str(gate.get("kind", "")), float(str(gate.get("threshold", 0.0))), bool(gate.get("below")),
        "" if read == vector.digest and not gate.get("site") else read,
    )  # fmt: skip
