"""Gates: whether an intervention acts, decided per row and per token by reading the row's own activations or uncertainty.

1. A gate reads the same forward pass, at the position it decides about, at the intervention's own site (before the edit) or at one that
   lies before it. It never reads another row, and padding has no position.
2. `projection`: h·u; `cosine`: cos(h, v); `probe`: sigmoid(w·h + b) with the vector as w; `entropy`: entropy in nats of the distribution
   that the token at this position was drawn from, so it is defined for generated tokens only; `call`: any function of the activations.
3. The gate is open where its value lies above the threshold (below it with `below`). Every value read is kept in the row's receipt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import BadInput, unknown
from ..model.sites import Site
from ..vector.vectors import SteeringVector

GATES = ("projection", "cosine", "probe", "entropy", "call")
NEEDS_VECTOR = ("projection", "cosine", "probe")


@dataclass(frozen=True)
class GateView:
    """What a callable gate sees: `hidden [rows, positions, width]` before the edit, and each token's `position` in its row (negative
    on padding), `[rows, positions]`."""

    hidden: Tensor
    position: Tensor
    site: Site


@dataclass(frozen=True)
class Gate:
    """A condition. Raises BadInput on construction when it lacks what its kind reads."""

    kind: Literal["projection", "cosine", "probe", "entropy", "call"]
    threshold: float = 0.0
    below: bool = False
    vector: SteeringVector | None = None
    bias: float = 0.0
    """Added to the probe's logit."""
    site: Site | None = None
    """Where it reads; defaults to the site of the intervention."""
    function: Callable[[GateView], Tensor] | None = field(default=None, compare=False)
    """For `call`: returns a value `[rows, positions]` per token. Slow: it leaves the compiled path at every step."""
    name: str = ""
    """For `call`: what the function is called in stored plans; it stands for the function in the plan's identity."""

    def __post_init__(self) -> None:
        if self.kind not in GATES:
            raise unknown("gate", self.kind, GATES)
        if (self.kind in NEEDS_VECTOR) != (self.vector is not None):
            raise BadInput(f"Gate {self.kind} {'needs' if self.kind in NEEDS_VECTOR else 'takes no'} vector.")
        if self.kind == "call" and (self.function is None or not self.name):
            raise BadInput("Gate call needs a function and a name for it, which stands for it in the plan's identity.")
        if self.kind == "entropy" and self.site is not None:
            raise BadInput("Gate entropy reads the next-token distribution and takes no site.")
        if not float("-inf") < self.threshold < float("inf"):
            raise BadInput(f"Gate threshold {self.threshold} is not a finite number.")

    @property
    def slow(self) -> bool:
        """Whether it calls user code at every step."""
        return self.kind == "call"

    def value(self, hidden: Tensor, entropy: Tensor, position: Tensor, site: Site) -> Tensor:
        """The value read, float32 `[rows, positions]`, from `hidden [rows, positions, width]` and `entropy [rows, positions]`."""
        if self.kind == "entropy":
            return entropy
        if self.kind == "call":
            assert self.function is not None
            found = self.function(GateView(hidden, position, site))
            if not isinstance(found, Tensor) or found.shape != hidden.shape[:2]:
                raise BadInput(
                    f"Gate {self.name!r} must return a tensor of shape {list(hidden.shape[:2])}, one value per token."
                )
            return found.float()
        assert self.vector is not None
        v = self.vector.direction.to(hidden.device)
        h = hidden.float()
        if self.kind == "probe":
            return torch.sigmoid(h @ v + self.bias)
        along = h @ (v / v.norm())
        return along if self.kind == "projection" else along / h.norm(dim=-1).clamp_min(1e-12)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; only what its kind uses."""
        facts: dict[str, Any] = {"kind": self.kind, "threshold": self.threshold}
        if self.below:
            facts["below"] = True
        if self.vector is not None:
            facts |= {"vector": self.vector.digest, "vector_name": self.vector.name}
        if self.kind == "probe":
            facts["bias"] = self.bias
        if self.site is not None:
            facts["site"] = self.site.name
        if self.kind == "call":
            facts["name"] = self.name
        return facts

    def __str__(self) -> str:
        inside = self.vector.name if self.vector is not None else self.name
        where = f" at {self.site}" if self.site is not None else ""
        return f"{self.kind}{f'({inside})' if inside else ''} {'<' if self.below else '>'} {self.threshold:g}{where}"
