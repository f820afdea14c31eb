"""Plans: what to do to which activations, as frozen data.

1. A plan is an ordered list of interventions. At one site they act in that order, each on what the one before left.
2. It is validated on construction, hashes by content (vectors' bytes included), and reads back from what it writes (`to_dict`,
   `from_dict`, YAML and JSON); `schema` describes the format.
3. Conflict rule: an intervention that would undo an earlier one completely (it sets or removes the projection on the same direction at
   the same site and shares positions) is refused when the plan is compiled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from ..documents import read_yaml
from ..errors import BadInput, unknown
from ..model.sites import Site, parse_sites
from ..vector.features import Features
from ..vector.vectors import SteeringVector
from .dose import SUFFIXES, Dose, Schedule
from .gate import Gate
from .span import Span
from .verbs import ALL_OPERATIONS, LATENT_OPERATIONS, OPERATIONS, SETS_PROJECTION

__all__ = [
    "ALL_OPERATIONS",
    "LATENT_OPERATIONS",
    "OPERATIONS",
    "SETS_PROJECTION",
    "Dose",
    "Gate",
    "Intervention",
    "Plan",
    "Schedule",
    "Span",
]


@dataclass(frozen=True)
class Intervention:
    """One edit. With unit direction u = v/‖v‖, present projection p = h·u and dose c:

    add h + c u; ablate h - p u; clamp h + (c - p) u; cap: clamp where p > c; floor: clamp where p < c; scale h + (c - 1) p u;
    rotate: h turned by c degrees towards u in the plane of h and u, its norm kept (away from u when negative; it stops at u).

    With latents f of an autoencoder in place of a vector, the reconstruction error kept: add f + c; ablate 0; mean: their mean over the
    corpus; clamp c; cap min(f, c); floor max(f, c); scale c f; raise: act(u + c mean|u|) of the pre-activations u (He et al., 2601.08058).
    """

    operation: Literal["add", "ablate", "clamp", "cap", "floor", "rotate", "scale", "mean", "raise"]
    vector: SteeringVector | Features
    span: Span
    dose: Dose | None = None
    site: Site | None = None
    """Defaults to the vector's own site; `sites` names several."""
    sites: tuple[Site, ...] = ()
    gate: Gate | None = None
    keep_norm: bool = False
    """Rescale the edited activation to the norm it had."""

    def __post_init__(self) -> None:
        operations = LATENT_OPERATIONS if isinstance(self.vector, Features) else OPERATIONS
        if self.operation not in operations:
            raise unknown("operation", self.operation, operations, f"an edit of {self.vector.name!r}")
        units = operations[self.operation]
        if self.dose is not None and not units:
            raise BadInput(f"{self.operation} takes no dose; leave it out.")
        if isinstance(self.vector, Features):
            self._check_features(self.vector)
        if units and self.dose is None:
            raise BadInput(f"{self.operation} needs a dose, for example {_example(units)}.")
        if self.dose is not None and self.dose.unit not in units:
            raise BadInput(
                f"{self.operation} takes a dose in {' or '.join(units)}, not {self.dose.unit}; for example {_example(units)}."
            )
        if self.operation == "rotate" and self.dose is not None and not -180 <= self.dose.amount <= 180:
            raise BadInput(f"rotate by {self.dose.amount:g} degrees: give an angle from -180 to 180.")
        if self.site is not None and self.sites and self.sites != (self.site,):
            raise BadInput("Give either site or sites, not both.")
        sites = self.sites or ((self.site,) if self.site is not None else (self.vector.site,))
        if len(set(sites)) != len(sites):
            raise BadInput("A site is named twice in one intervention; the edit would be made twice there.")
        object.__setattr__(self, "sites", tuple(sorted(sites, key=lambda s: s.order)))
        object.__setattr__(self, "site", self.sites[0] if len(self.sites) == 1 else None)
        if self.gate is not None:
            self._check_gate(self.gate)

    def _check_features(self, features: Features) -> None:
        if self.keep_norm:
            raise BadInput(
                "keep-norm rescales the whole activation, reconstruction error included; leave it out with latents."
            )
        if self.dose is not None and self.dose.unit == "peak" and features.peaks is None:
            raise BadInput(
                f"{features.name!r} holds no peaks: give the dose in the latents' own units, or score them first."
            )
        if self.operation == "mean" and features.means is None:
            raise BadInput(f"{features.name!r} holds no means: score them first, or ablate to zero.")

    def _check_gate(self, gate: Gate) -> None:
        read = [gate.site] if gate.site is not None else []
        late = [site for site in read for edited in self.sites if edited < site]
        if late:
            raise BadInput(
                f"Gate {gate} reads {late[0]}, which lies behind the edit at {self.sites[0]}; read at or before it."
            )
        kinds = {atom.kind for atom in self.span.atoms}
        if gate.kind == "entropy" and not self.span.generated_only:
            raise BadInput(
                f"Gate entropy is defined for generated tokens only, but span {self.span} ({', '.join(sorted(kinds))}) reaches into the "
                f"prompt; use generated, or write ({self.span}) & generated."
            )

    def to_dict(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "operation": self.operation,
            "vector": self.vector.digest,
            "vector_name": self.vector.name,
            "site": self.sites[0].name if len(self.sites) == 1 else [site.name for site in self.sites],
            "span": str(self.span),
            "dose": None if self.dose is None else {"amount": self.dose.amount, "unit": self.dose.unit},
        }
        if self.dose is not None and self.dose.schedule.kind != "constant":
            facts["dose"]["schedule"] = str(self.dose.schedule)
        if self.gate is not None:
            facts["gate"] = self.gate.to_dict()
        if self.keep_norm:
            facts["keep_norm"] = True
        return facts


def _example(units: tuple[str, ...]) -> str:
    unit = "vector" if "vector" in units else units[0]
    amount = {"vector": "1.0", "raw": "2.0", "degrees": "30", "factor": "2"}[unit]
    return f"Dose({amount}, {unit!r}) or {amount}{next(s for s, u in SUFFIXES.items() if u == unit)}"


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
        return digest_of(self.to_dict())

    @property
    def vectors(self) -> dict[str, SteeringVector | Features]:
        """Every vector that edits or gates, by digest."""
        used = [v for i in self.interventions for v in (i.vector, i.gate.vector if i.gate else None) if v is not None]
        return {vector.digest: vector for vector in used}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @staticmethod
    def from_dict(
        data: Mapping[str, Any],
        vectors: Mapping[str, SteeringVector | Features],
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Plan:
        """Inverse of `to_dict`; `vectors` maps digests (or names) to vectors, `functions` names of callable gates to functions.

        Raises BadInput naming the key that is wrong.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("interventions"), list):
            raise BadInput("A plan is a mapping with a list 'interventions'.")
        extra = set(data) - {"interventions"}
        if extra:
            raise unknown("key", sorted(extra)[0], ("interventions",), "the plan")
        return Plan(
            tuple(
                _intervention(entry, f"interventions[{index}]", vectors, functions or {})
                for index, entry in enumerate(data["interventions"])
            )
        )

    @staticmethod
    def from_yaml(text: str, vectors: Mapping[str, SteeringVector | Features]) -> Plan:
        """From YAML or JSON text (JSON is YAML)."""
        return Plan.from_dict(read_yaml(text, "The plan"), vectors)


def digest_of(written: Mapping[str, Any]) -> str:
    """The digest of the plan that `to_dict` wrote, without its vectors at hand."""
    return hashlib.sha256(json.dumps(_nameless(written), sort_keys=True).encode()).hexdigest()[:16]


KEYS = ("operation", "vector", "vector_name", "site", "span", "dose", "gate", "keep_norm")
DOSE_KEYS = ("amount", "unit", "schedule")
GATE_KEYS = ("kind", "threshold", "below", "vector", "vector_name", "bias", "site", "name")


def _checked(entry: Any, needed: Iterable[str], allowed: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise BadInput(f"{where} must be a mapping with {', '.join(needed)}, not {entry!r}.")
    missing = sorted(set(needed) - set(entry))
    if missing:
        raise BadInput(f"{where} lacks {', '.join(missing)}.")
    extra = sorted(set(entry) - set(allowed))
    if extra:
        raise unknown("key", extra[0], allowed, where)
    return entry


def _number(entry: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = (
            " Write it with a dot, as 1.0e30."
            if isinstance(value, str) and re.fullmatch(r"[0-9]+[eE][0-9]+", value)
            else ""
        )
        raise BadInput(f"{where}.{key} must be a number, not {value!r}.{hint}")
    return float(value)


def _vector(
    entry: Mapping[str, Any], vectors: Mapping[str, SteeringVector | Features], where: str
) -> SteeringVector | Features:
    if entry["vector"] not in vectors:
        if not vectors:
            raise BadInput(
                f"{where} names a vector {entry['vector']!r}, and no file was given: say which it is, as --vector NAME=FILE on the "
                "command line (any name; digests are found), or write the file's path in its place."
            )
        raise unknown("vector", entry["vector"], vectors, where)
    return vectors[entry["vector"]]


def _direction(
    entry: Mapping[str, Any], vectors: Mapping[str, SteeringVector | Features], where: str
) -> SteeringVector:
    found = _vector(entry, vectors, where)
    if not isinstance(found, SteeringVector):
        raise BadInput(f"{where} reads a direction, but {found.name!r} holds latents.")
    return found


def _intervention(
    entry: Any,
    where: str,
    vectors: Mapping[str, SteeringVector | Features],
    functions: Mapping[str, Callable[..., Any]],
) -> Intervention:
    entry = _checked(entry, ("operation", "vector", "span"), KEYS, where)
    dose, gate = entry.get("dose"), entry.get("gate")
    if isinstance(dose, str):
        dose = Dose.parse(dose)
    elif dose is not None:
        dose = _checked(dose, ("amount",), DOSE_KEYS, f"{where}.dose")
        schedule = Schedule.parse(dose.get("schedule", "constant"))
        dose = Dose(_number(dose, "amount", 0.0, f"{where}.dose"), dose.get("unit", "vector"), schedule)
    return Intervention(
        entry["operation"],
        _vector(entry, vectors, where),
        Span.parse(entry["span"]),
        dose,
        sites=parse_sites(entry["site"]) if entry.get("site") else (),
        gate=None if gate is None else _gate(gate, f"{where}.gate", vectors, functions),
        keep_norm=bool(entry.get("keep_norm", False)),
    )


def _gate(
    entry: Any,
    where: str,
    vectors: Mapping[str, SteeringVector | Features],
    functions: Mapping[str, Callable[..., Any]],
) -> Gate:
    entry = _checked(entry, ("kind",), GATE_KEYS, where)
    if entry["kind"] == "call" and entry.get("name") not in functions:
        raise unknown("gate function", entry.get("name"), functions, where)
    return Gate(
        entry["kind"],
        _number(entry, "threshold", 0.0, where),
        bool(entry.get("below", False)),
        _direction(entry, vectors, where) if "vector" in entry else None,
        _number(entry, "bias", 0.0, where),
        Site.parse(entry["site"]) if entry.get("site") else None,
        functions.get(entry.get("name", "")) if entry["kind"] == "call" else None,
        entry.get("name", ""),
    )


def _nameless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nameless(inner) for key, inner in value.items() if key != "vector_name"}
    return [_nameless(inner) for inner in value] if isinstance(value, list) else value
