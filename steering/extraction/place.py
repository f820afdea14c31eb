"""Where a vector is trained, and how large activations are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput
from ..model.capture import capture
from ..model.models import LoadedModel
from ..model.sites import Site


@dataclass(frozen=True, eq=False)
class Place:
    """A site at which a vector is trained, or a number along `direction [d_model]`. Raises BadInput."""

    site: Site
    size: float
    """Mean norm of the activations there (`sizes_of`): what steps and norms are shares of."""
    direction: Tensor | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.size) and self.size > 0):
            raise BadInput(f"{self.site}: the size of its activations is {self.size}; give their mean norm.")
        if self.direction is not None:
            unit = self.direction.detach().float().cpu()
            if unit.ndim != 1 or not torch.isfinite(unit).all() or not float(unit.norm()):
                raise BadInput(f"{self.site}: the direction is no finite row of numbers that are not all 0.")
            object.__setattr__(self, "direction", unit / unit.norm())

    def vector(self, value: Tensor) -> Tensor:
        """What is added, `[d_model]`, for what is trained: `[d_model]`, or `[1]` along a direction."""
        if self.direction is None:
            return value * (self.size / math.sqrt(len(value)))
        return value * (self.size * self.direction).to(value)


def sizes_of(model: LoadedModel, prompts: Sequence[tuple[int, ...]], sites: Sequence[Site]) -> dict[Site, float]:
    """Mean L2 norm of the activations at the last token of each prompt, by site."""
    found: dict[Site, list[float]] = {site: [] for site in sites}
    for batch in capture(model, list(prompts), list(sites)):
        for row, number in enumerate(batch.rows):
            for site in sites:
                found[site].append(float(batch.values[site][row, len(prompts[number]) - 1].float().norm()))
    return {site: float(np.mean(norms)) for site, norms in found.items()}
