"""Plans: what to do to which activations, as frozen data.

1. A plan is an ordered list of interventions; interventions at one site act in that order.
2. It is validated on construction, hashes by content (vectors' bytes included), and reads back from what it writes (`to_dict`,
   `from_dict`, YAML and JSON).
3. A span names token positions. An edit at a position changes the prediction of the token after it: `last_prompt` steers the choice of
   the first generated token, `generated` steers every later one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from .errors import BadInput, unknown
from .sites import Site
from .vectors import SteeringVector

SPANS = ("all", "prompt", "last_prompt", "generated", "first_n")
OPERATIONS = ("add", "ablate", "clamp")
UNITS = ("raw", "vector", "residual")


@dataclass(frozen=True)
class Span:
    """Which positions: all, the prompt (with its BOS), its last token, the generated tokens, or the first `n` generated ones."""

    kind: Literal["all", "prompt", "last_prompt", "generated", "first_n"]
    n: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in SPANS:
            raise unknown("span", self.kind, SPANS)
        if self.kind == "first_n" and (self.n is None or self.n < 1):
            raise BadInput(f"Span first_n needs n of at least 1, not {self.n}: it would cover no token.")
        if self.kind != "first_n" and self.n is not None:
            raise BadInput(f"Span {self.kind} takes no n (got {self.n}); use first_n:{self.n}.")

    @staticmethod
    def parse(text: str | Span) -> Span:
        """Span from its short form: `generated`, `first_n:8`."""
        if isinstance(text, Span):
            return text
        kind, _, n = text.partition(":")
        if n and not n.lstrip("-").isdigit():
            raise BadInput(f"Span {text!r}: n must be a whole number, as in first_n:8.")
        return Span(kind, int(n) if n else None)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.kind if self.n is None else f"{self.kind}:{self.n}"


@dataclass(frozen=True)
class Dose:
    """How much. `raw`: residual-stream units along the unit direction; `vector`: times the vector's own norm; `residual`: times the norm
    of the activation at that position."""

    amount: float
    unit: Literal["raw", "vector", "residual"] = "vector"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown("dose unit", self.unit, UNITS)
        if not float("-inf") < self.amount < float("inf"):
            raise BadInput(f"Dose {self.amount} is not a finite number.")


@dataclass(frozen=True)
class Intervention:
    """One edit. With unit direction u = v/‖v‖ and dose c: add h + c·u; ablate h - (h·u)u (takes no dose); clamp h + (c - h·u)u."""

    operation: Literal["add", "ablate", "clamp"]
    vector: SteeringVector
    span: Span
    dose: Dose | None = None
    site: Site | None = None
    """Defaults to the vector's own site."""

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise unknown("operation", self.operation, OPERATIONS)
        if self.operation == "ablate" and self.dose is not None:
            raise BadInput("ablate projects the direction out completely and takes no dose; leave the dose out.")
        if self.operation != "ablate" and self.dose is None:
            raise BadInput(f"{self.operation} needs a dose, for example Dose(1.0, 'vector').")
        if self.site is None:
            object.__setattr__(self, "site", self.vector.site)

    def to_dict(self) -> dict[str, Any]:
        assert self.site is not None
        return {
            "operation": self.operation,
            "vector": self.vector.digest,
            "vector_name": self.vector.name,
            "site": self.site.name,
            "span": str(self.span),
            "dose": None if self.dose is None else {"amount": self.dose.amount, "unit": self.dose.unit},
        }


@dataclass(frozen=True)
class Plan:
    """Interventions in order of application. The empty plan leaves the model alone."""

    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "interventions", tuple(self.interventions))

    def __bool__(self) -> bool:
        return bool(self.interventions)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; vectors are named by digest."""
        return {"interventions": [i.to_dict() for i in self.interventions]}

    @property
    def digest(self) -> str:
        """Content hash: 16 hexadecimal digits, stable across processes. Names of vectors do not count."""
        facts = [{k: v for k, v in i.to_dict().items() if k != "vector_name"} for i in self.interventions]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @staticmethod
    def from_dict(data: Mapping[str, Any], vectors: Mapping[str, SteeringVector]) -> Plan:
        """Inverse of `to_dict`; `vectors` maps digests (or names) to vectors. Raises BadInput naming the key that is wrong."""
        interventions = []
        if not isinstance(data, Mapping) or not isinstance(data.get("interventions"), list):
            raise BadInput("A plan is a mapping with a list 'interventions'.")
        for index, entry in enumerate(data["interventions"]):
            where = f"interventions[{index}]"
            missing = {"operation", "vector", "span"} - set(entry)
            if missing:
                raise BadInput(f"{where} lacks {', '.join(sorted(missing))}.")
            extra = set(entry) - {"operation", "vector", "vector_name", "site", "span", "dose"}
            if extra:
                raise unknown("key", sorted(extra)[0], ("operation", "vector", "site", "span", "dose"), where)
            if entry["vector"] not in vectors:
                raise unknown("vector", entry["vector"], vectors, where)
            dose = entry.get("dose")
            interventions.append(
                Intervention(
                    entry["operation"],
                    vectors[entry["vector"]],
                    Span.parse(entry["span"]),
                    None if dose is None else Dose(float(dose["amount"]), dose.get("unit", "vector")),
                    Site.parse(entry["site"]) if entry.get("site") else None,
                )
            )
        return Plan(tuple(interventions))

    @staticmethod
    def from_yaml(text: str, vectors: Mapping[str, SteeringVector]) -> Plan:
        return Plan.from_dict(yaml.safe_load(text), vectors)
