"""Doses: how much, in which unit, and how it changes over the generated tokens.

1. Units: `raw` (residual-stream units along the unit direction), `vector` (times the vector's own norm), `residual` (times the norm of the
   activation at that position), `degrees` (rotate), `factor` (scale, raise) and `peak` (times a latent's largest activation).
2. A schedule multiplies the amount by a number that depends on the generated token's index alone (0 for the first; prompt positions
   count as 0). `once` makes only the first edit that its span (and gate) allow in a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import BadInput, unknown

UNITS = ("raw", "vector", "residual", "degrees", "factor", "peak")
SUFFIXES = {"": "raw", "v": "vector", "r": "residual", "deg": "degrees", "f": "factor", "p": "peak"}
SCHEDULES = ("constant", "linear", "decay", "once")
OVERSIZED = 10.0
"""‖delta‖/‖h‖ beyond which next to nothing of the activation is left: what follows shows the edit, not the model."""


@dataclass(frozen=True)
class Schedule:
    """`linear`: from `start` to `end` over `steps` generated tokens, then `end`; `decay`: halved every `steps`; `once`: one edit only."""

    kind: Literal["constant", "linear", "decay", "once"] = "constant"
    start: float = 1.0
    end: float = 1.0
    steps: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise unknown("schedule", self.kind, SCHEDULES)
        if self.kind in ("linear", "decay") and not 0 < self.steps < float("inf"):
            raise BadInput(
                f"Schedule {self.kind} needs a positive number of steps, as in {self.kind}:{'1:0:64' if self.kind == 'linear' else '16'}."
            )
        if not all(abs(value) < float("inf") for value in (self.start, self.end)):
            raise BadInput(f"Schedule {self} has an end that is not a finite number.")

    def factor(self, step: int) -> float:
        """Multiplier at generated token `step` (0-based; prompt positions are 0)."""
        if self.kind == "linear":
            return self.start + (self.end - self.start) * min(step / self.steps, 1.0)
        return 0.5 ** (step / self.steps) if self.kind == "decay" else 1.0

    def __str__(self) -> str:
        if self.kind == "linear":
            return f"linear:{self.start:g}:{self.end:g}:{self.steps:g}"
        return f"decay:{self.steps:g}" if self.kind == "decay" else self.kind

    @staticmethod
    def parse(text: str | Schedule) -> Schedule:
        """`constant`, `linear:<from>:<to>:<steps>`, `decay:<half life>`, `once`."""
        if isinstance(text, Schedule):
            return text
        kind, *numbers = text.split(":")
        if kind not in SCHEDULES:
            raise unknown("schedule", kind, SCHEDULES)
        try:
            values = [float(n) for n in numbers]
        except ValueError as error:
            raise BadInput(f"Schedule {text!r}: {error}.") from error
        wanted = {"linear": 3, "decay": 1}.get(kind, 0)
        if len(values) != wanted:
            raise BadInput(f"Schedule {text!r} needs {wanted} numbers after {kind}, not {len(values)}.")
        if kind == "linear":
            return Schedule("linear", *values)
        return Schedule("decay", steps=values[0]) if kind == "decay" else Schedule(kind)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Dose:
    """How much of an operation; see the module for units."""

    amount: float
    unit: Literal["raw", "vector", "residual", "degrees", "factor", "peak"] = "vector"
    schedule: Schedule = Schedule()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown("dose unit", self.unit, UNITS)
        if not float("-inf") < self.amount < float("inf"):
            raise BadInput(f"Dose {self.amount} is not a finite number.")

    def __str__(self) -> str:
        suffix = next(s for s, unit in SUFFIXES.items() if unit == self.unit)
        return f"{self.amount!r}{suffix}" + ("" if self.schedule.kind == "constant" else f"~{self.schedule}")

    @staticmethod
    def parse(text: str | Dose) -> Dose:
        """`4` (raw), `0.5v`, `0.2r`, `30deg`, `1.5f`, `2p`, each with an optional schedule: `0.5v~linear:1:0:64`."""
        if isinstance(text, Dose):
            return text
        number, tilde, schedule = text.partition("~")
        match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(v|r|deg|f|p|)", number.strip())
        if match is None:
            raise BadInput(f"{text!r} is not a dose. Write 4 (raw units), 0.5v (times the vector's norm), 0.2r (times the residual "
                           f"norm), 30deg (rotate), 1.5f (scale, raise) or 2p (times a latent's peak).")  # fmt: skip
        return Dose(float(match[1]), SUFFIXES[match[2]], Schedule.parse(schedule) if tilde else Schedule())  # type: ignore[arg-type]


def oversized_sentence(largest: float) -> str | None:
    """The warning about a largest edit of `largest` times the activation; None up to `OVERSIZED`."""
    if largest <= OVERSIZED:
        return None
    return (
        f"The largest edit is {largest:.3g} times the activation that it was made on; beyond {OVERSIZED:g} times, what follows shows the "
        f"edit and not the model. Give a smaller dose."
    )
