"""One edit of a live generation and its gate: as a plan's mapping, and as a one-line plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steering.errors import BadInput
from steering.model.sites import Site, parse_sites
from steering.plan.dose import SUFFIXES
from steering.plan.span import Span
from steering.plan.verbs import OPERATIONS


def said(error: BadInput) -> ValueError:
    """As pydantic takes it."""
    return ValueError(str(error))


class When(BaseModel):
    """A gate: an edit is made only at tokens where what is read lies above the threshold, or below it. `vector` is a digest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: Literal["projection", "cosine", "entropy"]
    threshold: float
    below: bool = False
    vector: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    vector_name: str = ""
    site: str = ""
    """Where it reads; the edit's own site where it is empty."""

    @model_validator(mode="after")
    def _whole(self) -> When:
        if (self.kind == "entropy") == bool(self.vector):
            raise ValueError(f"gate {self.kind} {'takes no' if self.kind == 'entropy' else 'needs a'} vector")
        return self

    def facts(self, vector: str | None = None) -> dict[str, Any]:
        """As in a plan's mapping; `vector` replaces the digest."""
        facts: dict[str, Any] = {"kind": self.kind, "threshold": self.threshold}
        facts |= {"below": True} if self.below else {}
        if self.vector:
            facts |= {"vector": vector} if vector else {"vector": self.vector, "vector_name": self.vector_name}
        return facts | ({"site": self.site} if self.site else {})

    def line(self, vector: str) -> str:
        """As in a one-line plan."""
        read = f"{self.kind}({_quoted(vector)})" if self.vector else self.kind
        where = f" at {self.site}" if self.site else ""
        return f"when {read} {'<' if self.below else '>'} {self.threshold!r}{where}"


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"[\s;()]", name) else name


class Edit(BaseModel):
    """One intervention. `vector` is a digest; `amount` in `unit` (raw, vector, residual, degrees, factor)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    operation: str = "add"
    vector: str = Field(pattern=r"^[0-9a-f]{16}$")
    vector_name: str = ""
    site: str
    span: str = "generated"
    amount: float | None = None
    unit: str | None = None
    keep_norm: bool = False
    gate: When | None = None

    @field_validator("span")
    @classmethod
    def _readable_span(cls, value: str) -> str:
        try:
            return str(Span.parse(value))
        except BadInput as error:
            raise said(error) from error

    @field_validator("site")
    @classmethod
    def _readable_site(cls, value: str) -> str:
        try:
            parse_sites(value)
        except BadInput as error:
            raise said(error) from error
        return value

    @model_validator(mode="after")
    def _fitting_dose(self) -> Edit:
        if self.operation not in OPERATIONS:
            raise ValueError(f"unknown operation {self.operation!r}; use one of {', '.join(OPERATIONS)}")
        units = OPERATIONS[self.operation]
        if units and (self.amount is None or self.unit not in units):
            raise ValueError(f"{self.operation} needs an amount in {' or '.join(units)}")
        if not units and self.amount is not None:
            raise ValueError(f"{self.operation} takes no amount")
        if self.gate is not None:
            self._check_gate(self.gate)
        return self

    def _check_gate(self, gate: When) -> None:
        """Raises ValueError for a gate that no plan can have."""
        if gate.kind == "entropy" and not Span.parse(self.span).generated_only:
            raise ValueError(
                f"a gate on entropy reads what a generated token was drawn from, and span {self.span} covers others too; choose "
                "generated, first_n or after_n"
            )
        if gate.site and Site.parse(gate.site).layer > min(site.layer for site in parse_sites(self.site)):
            raise ValueError(
                f"the gate reads {gate.site}, which lies behind the edit at {self.site}; choose a vector of an earlier layer"
            )

    @property
    def dose(self) -> str:
        """As in a one-line plan, such as `0.5v`."""
        if self.amount is None:
            return ""
        return f"{self.amount!r}{next(s for s, unit in SUFFIXES.items() if unit == self.unit)}"

    @property
    def vectors(self) -> tuple[str, ...]:
        """Digests of what it needs."""
        return (self.vector, *([self.gate.vector] if self.gate and self.gate.vector else []))

    def facts(self, files: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As in a plan's mapping; `files` replace the digests."""
        vector = None if files is None else files[self.vector]
        facts: dict[str, Any] = {"operation": self.operation, "vector": vector or self.vector}
        if self.vector_name and vector is None:
            facts["vector_name"] = self.vector_name
        facts |= {"site": self.site, "span": self.span}
        facts["dose"] = None if self.amount is None else {"amount": self.amount, "unit": self.unit}
        facts |= {"keep_norm": True} if self.keep_norm else {}
        if self.gate is not None:
            own = None if files is None else files.get(self.gate.vector)
            facts["gate"] = self.gate.facts(own)
        return facts

    def line(self, vector: str, gating: str = "") -> str:
        """As in a one-line plan, with `vector` (and `gating`, the gate's) as a vector's name or path."""
        words = [self.operation, _quoted(vector), self.dose, "keep-norm" if self.keep_norm else ""]
        gate = [] if self.gate is None else [self.gate.line(gating)]
        return " ".join([*filter(None, words), "at", self.site, "on", self.span, *gate])
