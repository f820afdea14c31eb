"""Extraction by principal components, with the centring named, because it decides what is found.

1. `pair`: each pair is centred on its own midpoint, so the components are those of the differences about zero. What the two sides share
   (topic, length, position) drops out; the mean difference stays in. This is repeng's `pca_center`.
2. `difference`: differences within pairs, their mean removed, which is what fitting a PCA to differences does (repeng's `pca_diff`). The
   direction is along which pairs *vary*; a difference that is the same in every pair is not found.
3. `global`: all activations of both sides about their common mean (CAST, arXiv 2409.05907). Needs no pairs; finds the contrast only if it
   is the largest variance there is.
4. The sign is fixed: positives project higher on average than negatives. Where they do not differ at all, BadInput is raised.
5. One pass, memory as in `moments`: one `[d_model, d_model]` float64 matrix per site, two for `global`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.linalg import eigh
from torch import Tensor

from ..errors import BadInput, unknown
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import Provenance, SteeringVector
from .length import Length, scaled
from .moments import Moments
from .reading import Reading
from .samples import pairs, samples
from .sinks import sink_notes, without_sinks

Centring = Literal["pair", "difference", "global"]
CENTRINGS = ("pair", "difference", "global")


@dataclass(frozen=True)
class Component:
    """A first principal component."""

    direction: Tensor
    """Unit, `[d_model]`, float64, pointing to the positives."""
    explained: float
    """Its share of the total variance after centring."""
    runner_up: float
    """The second component's share; when it is close, the first one is not well determined."""
    gap: float
    """Mean projection of positives minus that of negatives, in residual-stream units."""


def first_component(scatter: Tensor, difference: Tensor) -> Component:
    """First eigenvector of `scatter [d, d]`, turned so that `difference` (mean positive - mean negative, `[d]`) projects above zero.

    Raises BadInput when there is no variance, or when the two sides' means do not differ along the component.
    """
    d = len(scatter)
    total = float(scatter.trace())
    if not total > 0:
        raise BadInput("All samples are identical after centring, so there is no principal component.")
    values, columns = eigh(scatter.numpy(), subset_by_index=[max(0, d - 2), d - 1])
    direction = torch.from_numpy(columns[:, -1].copy())
    gap = float(difference @ direction)
    if abs(gap) <= 1e-9 * float(difference.norm()) or gap == 0:
        raise BadInput(
            "Positives and negatives have the same mean along the first component, so its sign is undefined."
        )
    runner_up = float(values[0]) / total if d > 1 else 0.0
    return Component(direction if gap > 0 else -direction, float(values[-1]) / total, runner_up, abs(gap))


def pca_direction(
    model: LoadedModel,
    positive: Reading,
    negative: Reading,
    sites: Sequence[Site],
    *,
    name: str,
    contrast: str,
    centring: Centring = "pair",
    length: Length = "gap",
) -> dict[Site, SteeringVector]:
    """First principal component per site, `[d_model]`, with the centring and the length asked for.

    Notes: `explained`, `runner_up` (shares of variance), `gap`. Raises BadInput for readings that do not pair where pairs are needed.
    """
    if centring not in CENTRINGS:
        raise unknown("centring", centring, CENTRINGS)
    asked = positive, negative
    positive, negative = (without_sinks(model, reading) for reading in asked)
    notes = sink_notes(model, (asked[0], positive), (asked[1], negative))
    components = {}
    if centring == "global":
        high = _moments(model, positive, sites)
        low = _moments(model, negative, sites)
        for site in sites:
            difference = high[site].mean - low[site].mean
            components[site] = first_component(high[site].merge(low[site]).scatter, difference)
    else:
        moments = {site: Moments(model.d_model) for site in sites}
        for batch in pairs(model, positive, negative, sites):
            for site, (above, below) in batch.items():
                moments[site].add(above.double() - below.double())
        for site, seen in moments.items():
            components[site] = first_component(seen.second_moment() if centring == "pair" else seen.scatter, seen.mean)
    vectors = {}
    for site, found in components.items():
        provenance = Provenance(
            f"pca, {centring} centring",
            model.fingerprint,
            model.id,
            contrast,
            f"{positive.digest}-{negative.digest}",
            (positive.count, negative.count),
            notes={
                "explained": found.explained,
                "runner_up": found.runner_up,
                "gap": found.gap,
                "length": length,
                **notes,
            },
        )
        direction = scaled(found.direction, found.gap, length).float()
        vectors[site] = SteeringVector(name, site, direction, provenance)
    return vectors


def _moments(model: LoadedModel, reading: Reading, sites: Sequence[Site]) -> dict[Site, Moments]:
    moments = {site: Moments(model.d_model) for site in sites}
    for batch in samples(model, reading, sites):
        for site in sites:
            moments[site].add(batch[site])
    return moments
