"""Massive activations: a few coordinates of the residual stream that are orders of magnitude larger than all others.

1. By Sun et al. (arXiv 2402.17762), a coordinate is massive in a hidden state when its magnitude is above 100 and about 1,000 times the
   median magnitude of that hidden state. Both numbers are parameters; a coordinate is massive at a site when it is so at any token read.
2. They sit mostly at the first token and at delimiters, so all tokens of the sequences are looked at, BOS included.
3. A direction is a massive axis when massive coordinates hold at least half of its energy (sum of squares). Adding such a vector scales
   the model's bias terms rather than the thing it was named after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.capture import capture
from ..model.models import LoadedModel
from ..model.sites import Site

FLOOR, RATIO, SHARE = 100.0, 1000.0, 0.5
LARGE = 100.0
"""Medians of its hidden state from which on a coordinate is large: not massive by the definition, and still no ordinary one."""
TOP = 3
"""Coordinates counted as a direction's top ones."""


@dataclass(frozen=True)
class MassiveCoordinates:
    """What was found at a site. Per coordinate `[d_model]`, the largest value of magnitude over median magnitude of its hidden state."""

    coordinates: tuple[int, ...]
    ratio: Tensor


@dataclass(frozen=True)
class Concentration:
    """How much of a direction's energy lies in few coordinates, and whether those are massive."""

    top: tuple[int, ...]
    """Coordinates with the most energy, largest first."""
    top_share: float
    """Their share of the energy; 3/d_model at least."""
    top_ratio: tuple[float, ...]
    """Largest magnitude of each in the stream, in medians of its hidden state."""
    massive: tuple[int, ...]
    """All massive coordinates of the site."""
    massive_share: float
    massive_axis: bool
    large: tuple[int, ...] = ()
    """Coordinates that reach `LARGE` medians of their hidden state, massive ones among them."""
    large_share: float = 0.0
    """Their share of the energy."""
    large_ratio: float = 0.0
    """The largest of them, in medians."""


def massive_coordinates(
    model: LoadedModel,
    sequences: Sequence[Sequence[int]],
    sites: Sequence[Site],
    *,
    floor: float = FLOOR,
    ratio: float = RATIO,
) -> dict[Site, MassiveCoordinates]:
    """Massive coordinates per site over all tokens of `sequences`, streamed."""
    largest = {site: torch.zeros(model.d_model) for site in sites}
    massive = {site: torch.zeros(model.d_model, dtype=torch.bool) for site in sites}
    for batch in capture(model, sequences, sites):
        for site in sites:
            size = batch.values[site][batch.mask].float().abs().cpu()
            relative = size / size.median(dim=1, keepdim=True).values.clamp_min(torch.finfo(torch.float32).tiny)
            largest[site] = torch.maximum(largest[site], relative.amax(0))
            massive[site] |= ((size > floor) & (relative >= ratio)).any(0)
    return {
        site: MassiveCoordinates(tuple(massive[site].nonzero().flatten().tolist()), largest[site]) for site in sites
    }


def concentration(direction: Tensor, found: MassiveCoordinates) -> Concentration:
    """Where the energy of `direction [d_model]` lies."""
    energy = direction.double().square()
    energy = energy / energy.sum()
    top = energy.topk(min(TOP, len(energy)))
    large = (found.ratio >= LARGE).nonzero().flatten()
    share = float(energy[list(found.coordinates)].sum()) if found.coordinates else 0.0
    return Concentration(
        tuple(top.indices.tolist()),
        float(top.values.sum()),
        tuple(found.ratio[top.indices].tolist()),
        found.coordinates,
        share,
        share >= SHARE,
        tuple(large.tolist()),
        float(energy[large].sum()),
        float(found.ratio[large].max()) if len(large) else 0.0,
    )
