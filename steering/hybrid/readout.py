"""Linear readouts of activations: which category a token is in, or how likely a model is to disagree there.

    category(h) = argmax_i (W g(h) + b)_i,    probability(h) = sigmoid or softmax of W g(h) + b

1. g is the identity, or h centred by the training mean and divided by its L2 norm (`unit`), as the sentence autoencoders of Venhoff et
   al. (2510.07364) read activations. It is part of the readout, so training and use cannot differ in it.
2. A readout reads one site of one model and nothing else: it sees no token and no logits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import read_tensors, write_tensors

FORMAT = "steering-workbench/readout@1"


@dataclass(frozen=True, eq=False)
class Readout:
    """`weight [n, width]`, `bias [n]`, `centre [width]` float32. Raises BadInput when they do not fit together."""

    site: Site
    weight: Tensor
    bias: Tensor
    centre: Tensor
    unit: bool
    """Whether centred activations are divided by their norm."""
    titles: tuple[str, ...] = ()
    """Name of each output, or none at all."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weight", "bias", "centre"):
            value = getattr(self, name).detach().to(torch.float32).contiguous()
            if not torch.isfinite(value).all():
                raise BadInput(f"The readout's {name} holds NaN or infinity.")
            object.__setattr__(self, name, value)
        if (
            self.weight.ndim != 2
            or self.bias.shape != self.weight.shape[:1]
            or self.centre.shape != self.weight.shape[1:]
        ):
            raise BadInput(
                f"A readout needs weight [n, width], bias [n] and centre [width], not {list(self.weight.shape)}, "
                f"{list(self.bias.shape)} and {list(self.centre.shape)}."
            )
        if self.titles and len(self.titles) != self.n:
            raise BadInput(f"{len(self.titles)} titles for {self.n} outputs; give one for each, or none.")

    @property
    def n(self) -> int:
        """Outputs."""
        return int(self.weight.shape[0])

    def to(self, device: torch.device) -> Readout:
        """The same readout on a device."""
        return Readout(
            self.site,
            self.weight.to(device),
            self.bias.to(device),
            self.centre.to(device),
            self.unit,
            self.titles,
            self.provenance,
        )

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput when the model has no such site, or one of another width."""
        width = model.layout.width(model.layout.check(self.site))
        if width != self.weight.shape[1]:
            raise BadInput(
                f"A readout of width {self.weight.shape[1]} cannot read {self.site} of {model.id}, which is {width} wide."
            )

    def logits(self, h: Tensor) -> Tensor:
        """W g(h) + b, `[..., n]` float32, of raw activations `h [..., width]`."""
        x = h.float() - self.centre
        if self.unit:
            x = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return x @ self.weight.T + self.bias

    def categories(self, h: Tensor) -> Tensor:
        """The largest output of each activation, `[...]` int64."""
        return self.logits(h).argmax(-1)

    def probability(self, h: Tensor) -> Tensor:
        """Of the last output, `[...]`: a sigmoid where there is one output, a softmax where there are several."""
        logits = self.logits(h)
        return logits[..., 0].sigmoid() if self.n == 1 else logits.softmax(-1)[..., -1]

    @cached_property
    def digest(self) -> str:
        """Hash of the numbers and the site: 16 hexadecimal digits."""
        found = hashlib.sha256(f"{self.site.name} {self.unit} {self.n}".encode())
        for value in (self.weight, self.bias, self.centre):
            found.update(value.cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically."""
        facts = {
            "site": self.site.name, "unit": self.unit, "titles": self.titles, "provenance": dict(self.provenance),
        }  # fmt: skip
        tensors = {"weight": self.weight.cpu(), "bias": self.bias.cpu(), "centre": self.centre.cpu()}
        return write_tensors(path, tensors, {"format": FORMAT, "readout": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: Path | str) -> Readout:
        """Read what `save` wrote. Raises BadInput for anything else."""
        tensors, metadata = read_tensors(path, FORMAT, "readout")
        try:
            facts = json.loads(metadata["readout"])
            return Readout(
                Site.parse(facts["site"]), **tensors, unit=facts["unit"], titles=tuple(facts["titles"]),
                provenance=facts["provenance"],
            )  # fmt: skip
        except BadInput:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise BadInput(f"{path} is corrupt or cut short ({error}); write it or copy it again.") from error
