"""Probes: a linear map or a small network from activations at a site to class probabilities, with its provenance.

    logits(h) = W_L relu(... relu(W_1 h + b_1) ...) + b_L,   probabilities = softmax(logits)

1. The standardisation of the coordinates is folded into W_1 and b_1, so a probe reads raw activations, and a linear one is one matmul.
2. A probe of two classes has the logits (0, z): its probability of the second class is sigmoid(z).
3. A linear probe of two classes gives a `probe` gate, which stays on the compiled path; every other probe gives a `call` gate.
4. Stored as safetensors with JSON metadata; loading executes no code. `digest` hashes weights, site and classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.gate import Gate, GateView
from steering.vector.vectors import UNKNOWN, Provenance, SteeringVector, read_tensors, whole, write_tensors

FORMAT = "steering-workbench/probe@1"
KINDS = ("logistic", "ridge", "mass-mean", "mlp")


@dataclass(frozen=True)
class ProbeProvenance:
    """Where a probe came from."""

    target: str = ""
    """What it predicts, in words."""
    model: str = UNKNOWN
    """Fingerprint of the weights whose activations it reads."""
    model_id: str = ""
    data: str = ""
    """Hash of the activations, labels and groups it was fitted and measured on."""
    train: int = 0
    """Samples fitted on."""
    test: int = 0
    """Samples held out."""
    train_groups: int = 0
    test_groups: int = 0
    regularisation: float = 0.0
    """Chosen along the path; 0 where the method has none."""
    balanced: bool = True
    """Whether every class weighed the same: probabilities are then those under equal class shares."""
    seed: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    """What was measured on the held-out groups, as plain data."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A probe. Raises BadInput when its parts do not fit together or hold NaN or infinity."""

    kind: str
    site: Site
    classes: tuple[str, ...]
    weights: tuple[Tensor, ...]
    """One per layer, `[out, in]` float32; the last has one row per class."""
    biases: tuple[Tensor, ...]
    """One per layer, `[out]` float32."""
    provenance: ProbeProvenance = field(default_factory=ProbeProvenance)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of probe", self.kind, KINDS)
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise BadInput(f"A probe needs two or more different classes, not {list(self.classes)}.")
        if not self.weights or len(self.weights) != len(self.biases):
            raise BadInput(f"A probe needs a bias for every layer; it has {len(self.weights)} and {len(self.biases)}.")
        for name in ("weights", "biases"):
            parts = tuple(p.detach().to("cpu", torch.float32).contiguous() for p in getattr(self, name))
            if not all(torch.isfinite(p).all() for p in parts):
                raise BadInput(f"The probe's {name} hold NaN or infinity; check the activations that it was fitted on.")
            object.__setattr__(self, name, parts)
        width = self.weights[0].shape[-1]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise BadInput(
                    f"Probe layers do not fit together: weight {list(weight.shape)}, bias {list(bias.shape)}, input {width}."
                )
            width = weight.shape[0]
        if width != len(self.classes):
            raise BadInput(f"The probe's last layer has {width} rows for {len(self.classes)} classes.")

    @property
    def width(self) -> int:
        """Width of the activations that it reads."""
        return int(self.weights[0].shape[1])

    @property
    def linear(self) -> bool:
        return len(self.weights) == 1

    @property
    def digest(self) -> str:
        """Hash of weights, site and classes: 16 hexadecimal digits."""
        found = hashlib.sha256(json.dumps([self.site.name, self.classes]).encode())
        for part in (*self.weights, *self.biases):
            found.update(part.numpy().tobytes())
        return found.hexdigest()[:16]

    def logits(self, h: Tensor) -> Tensor:
        """`[..., classes]` float32 on the device of `h [..., width]`. Raises BadInput for another width."""
        if h.shape[-1] != self.width:
            raise BadInput(
                f"Activations of width {h.shape[-1]} do not fit a probe of width {self.width} at {self.site}."
            )
        x = h.float()
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.nn.functional.linear(x.relu() if number else x, weight.to(h.device), bias.to(h.device))
        return x

    def probabilities(self, h: Tensor) -> Tensor:
        """Softmax of the logits, `[..., classes]`."""
        return self.logits(h).softmax(-1)

    def index(self, of: str) -> int:
        """The column of a class. Raises BadInput for a class it does not have."""
        if of not in self.classes:
            raise unknown("class", of, self.classes, where="the probe")
        return self.classes.index(of)

    def direction(self, of: str | None = None) -> tuple[Tensor, float]:
        """(w `[width]`, b) with P(of) = sigmoid(w . h + b), for linear probes of two classes; `of` is the second class by default."""
        if not self.linear or len(self.classes) != 2:
            raise BadInput(
                f"A {self.kind} probe of {len(self.classes)} classes has no single direction; use its logits."
            )
        own = self.index(of or self.classes[1])
        weight, bias = self.weights[0].double(), self.biases[0].double()
        return (weight[own] - weight[1 - own]).float(), float(bias[own] - bias[1 - own])

    def vector(self, of: str | None = None) -> SteeringVector:
        """The weight direction as a steering vector (raw units: its length is the slope of the log-odds, not a dose)."""
        weight, bias = self.direction(of)
        facts = self.provenance
        origin = Provenance(
            f"{self.kind} probe", facts.model, facts.model_id, contrast=facts.target, data=facts.data,
            counts=(facts.train,), notes={"bias": bias, "class": of or self.classes[1], "probe": self.digest},
        )  # fmt: skip
        return SteeringVector(f"probe of {of or self.classes[1]}", self.site, weight, origin)

    def gate(self, threshold: float = 0.5, *, of: str | None = None, below: bool = False) -> Gate:
        """Open where P(of) lies above `threshold` (below it with `below`); `of` is needed with more than two classes.

        Raises BadInput for a threshold outside 0 to 1, or an unknown or missing class.
        """
        if not 0 < threshold < 1:
            raise BadInput(f"Threshold {threshold} is not a probability between 0 and 1.")
        if of is None and len(self.classes) > 2:
            raise BadInput(
                f"Name the class that the gate reads: of={self.classes[0]!r}, ... of {', '.join(self.classes)}."
            )
        column = self.index(of or self.classes[1])
        if self.linear and len(self.classes) == 2:
            vector = self.vector(self.classes[column])
            bias = float(vector.provenance.notes["bias"])
            return Gate("probe", threshold, below, vector, bias, self.site)

        def read(view: GateView) -> Tensor:
            return self.probabilities(view.hidden)[..., column]

        name = f"{self.kind} probe {self.digest} of {self.classes[column]}"
        return Gate("call", threshold, below, site=self.site, function=read, name=name)

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput when the probe cannot read the model: no such site, another width, or other weights."""
        site = model.layout.check(self.site)
        if model.layout.width(site) != self.width:
            raise BadInput(f"The probe reads width {self.width}; {model.id} has {model.layout.width(site)} at {site}.")
        if self.provenance.model not in (UNKNOWN, model.fingerprint):
            raise BadInput(
                f"The probe was fitted on weights {self.provenance.model} ({self.provenance.model_id}), not on those of {model.id} "
                f"({model.fingerprint}); fit one on {model.id}."
            )

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically (temporary name, fsync, rename)."""
        tensors = {f"{n}.{i}": p for n in ("weights", "biases") for i, p in enumerate(getattr(self, n))}
        facts = {
            "kind": self.kind,
            "site": self.site.name,
            "classes": self.classes,
            "provenance": asdict(self.provenance),
        }
        return write_tensors(path, tensors, {"format": FORMAT, "probe": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: Path | str) -> Probe:
        """Read what `save` wrote. Raises BadInput for anything but a whole safetensors file in this format."""
        tensors, metadata = read_tensors(path, FORMAT, "probe file", " `steer probe fit` writes one.")
        with whole(path, "fit the probe again or copy the file again"):
            facts = json.loads(metadata["probe"])
            layers = range(len(tensors) // 2)
            found = Probe(
                facts["kind"],
                Site.parse(facts["site"]),
                tuple(facts["classes"]),
                tuple(tensors[f"weights.{i}"] for i in layers),
                tuple(tensors[f"biases.{i}"] for i in layers),
                ProbeProvenance(**facts["provenance"]),
            )
        return found


def folded(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """A layer over standardised coordinates (h - mean) / scale as one over raw ones: `[out, in]` and `[out]`, float64 arithmetic."""
    raw = weight.double() / scale.double()
    return raw.float(), (bias.double() - raw @ mean.double()).float()


def two_rows(weight: Sequence[float] | Tensor, bias: float) -> tuple[Tensor, Tensor]:
    """The layer whose logits are (0, w . h + b): `[2, d]` and `[2]`."""
    row = torch.as_tensor(weight, dtype=torch.float64)
    return torch.stack([torch.zeros_like(row), row]), torch.tensor([0.0, bias], dtype=torch.float64)
