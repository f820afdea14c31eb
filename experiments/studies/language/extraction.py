"""Vectors from the study's pairs of texts, with their quality on held-out pairs.

1. A vector is the difference of means of the two sides, read over all tokens or at the last one, attention sinks left out.
2. Quality is measured on pairs that no vector was extracted from. It does not say that the vector steers.
"""

from __future__ import annotations

from typing import Any

from steering.extraction import Reading, assess, mean_difference
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from .directions import Direction
from .spec import LanguageSpec
from .texts import encoded, pairs


def readings(model: LoadedModel, direction: Direction, use: str, n: int | None = None) -> tuple[Reading, Reading]:
    """What is read of the positive and the negative texts of a use."""
    read = Reading.all_tokens if direction.read == "all" else Reading.last_token
    found = pairs(direction.name, use, n)
    return read(encoded(model, found.positive)), read(encoded(model, found.negative))


def extracted(model: LoadedModel, direction: Direction, spec: LanguageSpec) -> dict[int, SteeringVector]:
    """The direction's vector by layer."""
    positive, negative = readings(model, direction, "train", spec.pairs)
    sites = [Site(layer) for layer in spec.sites(model.n_layers)]
    found = mean_difference(
        model, positive, negative, sites, name=direction.title, contrast=f"mean of {direction.contrast}"
    )
    return {site.layer: vector for site, vector in found.items()}


def quality(
    model: LoadedModel, direction: Direction, spec: LanguageSpec, vectors: dict[int, SteeringVector]
) -> dict[str, Any]:
    """The quality report of each layer's vector as plain data, by layer."""
    training, held_out = readings(model, direction, "train", spec.pairs), readings(model, direction, "held-out")
    return {str(layer): assess(model, vector, training, held_out).to_dict() for layer, vector in vectors.items()}
