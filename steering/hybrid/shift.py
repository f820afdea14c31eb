"""What a steered position of the base gets: one vector per category, times a coefficient read off the base's own activation.

    shift(h, c) = alpha(h, c) V_c,    alpha(h, c) = softplus(head_c(GELU(W h + b)))

(Venhoff et al., 2510.07364, App. E.2: V in R^{K x d}; a trunk shared by the categories, one head for each.)

1. h is the base's unsteered activation at the bank's site. Neither a vector nor alpha is capped or normalised.
2. Controls keep everything else as it is: `without_effect` (alpha = 0), `with_random_vectors` (each norm-matched to its V_c).
3. Stored as safetensors; `digest` changes with any number in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import read_tensors, write_tensors

FORMAT = "steering-workbench/shift-bank@1"
PARTS = ("vectors", "trunk", "trunk_bias", "heads", "heads_bias")


def coefficients(
    h: Tensor, categories: Tensor, trunk: Tensor, trunk_bias: Tensor, heads: Tensor, heads_bias: Tensor
) -> Tensor:
    """alpha `[rows]` of activations `h [rows, d]` in their `categories [rows]`; shapes as in `ShiftBank`."""
    if len(trunk) == 1:
        hidden = F.gelu(F.linear(h, trunk[0], trunk_bias[0]))
    elif len(h) < len(trunk):
        hidden = F.gelu((trunk[categories] @ h[:, :, None])[:, :, 0] + trunk_bias[categories])
    else:  # all trunks in one product: cheaper than one copy of a trunk per row
        every = F.linear(h, trunk.flatten(0, 1), trunk_bias.flatten()).unflatten(1, trunk_bias.shape)
        hidden = F.gelu(every[torch.arange(len(h), device=h.device), categories])
    return F.softplus((hidden * heads[categories]).sum(1) + heads_bias[categories])


@dataclass(frozen=True, eq=False)
class ShiftBank:
    """Vectors `[K, d]` and the coefficient network. Raises BadInput when they do not fit together."""

    site: Site
    vectors: Tensor
    trunk: Tensor
    """`[1 or K, hidden, d]`: one trunk, or one per category where the categories were saved at different epochs."""
    trunk_bias: Tensor
    """`[1 or K, hidden]`."""
    heads: Tensor
    """`[K, hidden]`."""
    heads_bias: Tensor
    scale: float = 1.0
    """Multiplies every shift; 0 is the control whose edits have no effect."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in PARTS:
            value = getattr(self, name).detach().to(torch.float32).contiguous()
            if not torch.isfinite(value).all():
                raise BadInput(f"The bank's {name} holds NaN or infinity.")
            object.__setattr__(self, name, value)
        k, d = self.k, self.vectors.shape[-1]
        trunks, hidden = 1 if len(self.trunk) == 1 else k, self.trunk.shape[1]
        wanted = {
            "trunk": (trunks, hidden, d),
            "trunk_bias": (trunks, hidden),
            "heads": (k, hidden),
            "heads_bias": (k,),
        }
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise BadInput(
                    f"The bank's {name} has shape {list(getattr(self, name).shape)}; {list(shape)} is needed."
                )

    @property
    def k(self) -> int:
        """Categories."""
        return int(self.vectors.shape[0])

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput when the model has no such site, or one of another width."""
        width = model.layout.width(model.layout.check(self.site))
        if width != self.vectors.shape[1]:
            raise BadInput(
                f"A bank of width {self.vectors.shape[1]} cannot steer {self.site} of {model.id}, which is {width} wide."
            )

    def alpha(self, h: Tensor, categories: Tensor) -> Tensor:
        """Coefficients `[rows]` at activations `h [rows, d]`, the bank's `scale` included."""
        parts = (self.trunk, self.trunk_bias, self.heads, self.heads_bias)
        return self.scale * coefficients(h.float(), categories, *parts)

    def shift(self, h: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """What is added `[rows, d]`, and the coefficients `[rows]`."""
        alpha = self.alpha(h, categories)
        return alpha[:, None] * self.vectors[categories], alpha

    def to(self, device: torch.device) -> ShiftBank:
        """The same bank on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in PARTS})

    def without_effect(self) -> ShiftBank:
        """The same bank with every coefficient 0: edits are made and change nothing."""
        return replace(self, scale=0.0)

    def with_random_vectors(self, seed: int) -> ShiftBank:
        """Gaussian directions, each with the norm of the vector that it replaces; the coefficients stay."""
        drawn = torch.randn(self.vectors.shape, generator=torch.Generator().manual_seed(seed))
        drawn = drawn / drawn.norm(dim=1, keepdim=True) * self.vectors.norm(dim=1, keepdim=True).cpu()
        facts = {**self.provenance, "vectors": f"random, norm-matched, seed {seed}", "parent": self.digest}
        return replace(self, vectors=drawn.to(self.vectors.device), provenance=facts)

    @cached_property
    def digest(self) -> str:
        """Hash of the numbers and the site: 16 hexadecimal digits."""
        found = hashlib.sha256(f"{self.site.name} {self.scale!r}".encode())
        for name in PARTS:
            found.update(getattr(self, name).cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically."""
        facts = {"site": self.site.name, "scale": self.scale, "provenance": dict(self.provenance)}
        tensors = {name: getattr(self, name).cpu() for name in PARTS}
        return write_tensors(path, tensors, {"format": FORMAT, "bank": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: Path | str) -> ShiftBank:
        """Read what `save` wrote. Raises BadInput for anything else."""
        tensors, metadata = read_tensors(path, FORMAT, "shift bank")
        try:
            facts = json.loads(metadata["bank"])
            return ShiftBank(Site.parse(facts["site"]), **tensors, scale=facts["scale"], provenance=facts["provenance"])
        except BadInput:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise BadInput(f"{path} is corrupt or cut short ({error}); write it or copy it again.") from error
