"""A steered arm of a card, and random directions in its vector's place.

1. The vector is that of a file, or the demo's on the built-in pair (layer and dose chosen on development problems); without either no arm
   is steered, and the card says so.
2. A random direction has the vector's length, site, span and dose; each is its own draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, model_validator

from steering.plan.plan import Plan
from steering.vector.vectors import SteeringVector, random_like

from ...store.runs import Arm
from .asked import Setting
from .audit_options import AuditOptions, refuse_edit
from .audit_subjects import Subject, given
from .card import Options
from .workroom import Workroom


class SteeredOptions(Options):
    """Options of a card with a steered arm."""

    file: str | None = None
    """A vector; by default the demo's on the built-in pair, and of other models none."""
    digest: str | None = None
    """Of the vector in the file; found out."""
    dose: str = "1v"
    """Of the file's vector."""
    span: str = "last_prompt"
    """At which tokens the vector is added."""
    n_choice: int = Field(default=24, ge=2)
    """Development questions on which the demo's layer and dose are chosen."""
    directions: int = Field(default=20, ge=1)
    """Random directions beside the steered arm."""
    n_directions: int = Field(default=20, ge=1)
    """Questions that they answer."""

    @model_validator(mode="before")
    @classmethod
    def _known_by_its_bytes(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("file"), str) and data["file"]:
            data = data | {"digest": SteeringVector.load(data["file"]).digest}
        return data

    @model_validator(mode="after")
    def _applied(self) -> SteeredOptions:
        refuse_edit(self.span, self.dose)
        return self

    @property
    def vector_files(self) -> tuple[str, ...]:
        return () if self.file is None else (self.file,)


@dataclass(frozen=True)
class Steered:
    """A vector, how it is applied, and the random directions beside it."""

    subject: Subject
    drawn: tuple[SteeringVector, ...]

    @property
    def vectors(self) -> dict[str, SteeringVector]:
        """All vectors by digest."""
        return {one.digest: one for one in (self.subject.vector, *self.drawn)}

    def plan(self, vector: SteeringVector) -> dict[str, Any]:
        (own,) = self.subject.own.interventions
        return Plan((replace(own, vector=vector),)).to_dict()

    def arm(self, room: Workroom, setting: Setting) -> Arm:
        """The steered base."""
        label = f"base, steered by {self.subject.label}"
        return room.arm(setting, "steered", label, plan=self.plan(self.subject.vector))

    def random(self, room: Workroom, setting: Setting) -> list[Arm]:
        """The base steered by each random direction."""
        return [
            room.arm(setting, f"random-{number}", f"random direction {number}", "control", plan=self.plan(noise))
            for number, noise in enumerate(self.drawn)
        ]


def steered_by(room: Workroom, options: SteeredOptions) -> Steered | None:
    """The vector of the file, or the demo's; None where there is none. Raises BadInput for a vector of another model."""
    files = () if options.file is None else (options.file,)
    asked = AuditOptions(files=files, dose=options.dose, span=options.span, n_choice=options.n_choice)
    subjects = given(room, asked)
    if not subjects:
        return None
    vector = subjects[0].vector
    return Steered(subjects[0], tuple(random_like(vector, seed) for seed in range(options.directions)))
