"""Decoder rows: near each other, and as steering vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.vector.vectors import Provenance, SteeringVector

from .dictionary import Dictionary


def decoder_neighbours(decoder: Tensor, count: int, *, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """(latents, cosines) of the decoder rows nearest to each, nearest first, `[latents, count]`; `decoder [latents, width]`."""
    unit = decoder / decoder.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    count = min(count, len(unit) - 1)
    places, values = [], []
    for start in range(0, len(unit), chunk):
        cosine = unit[start : start + chunk] @ unit.T
        own = torch.arange(len(cosine))
        cosine[own, own + start] = -2.0
        found = cosine.topk(count, dim=-1)
        places.append(found.indices)
        values.append(found.values)
    return torch.cat(places), torch.cat(values)


def latent_vector(dictionary: Dictionary, latent: int, activation: float) -> SteeringVector:
    """What the latent writes at this activation: `activation * W_dec[latent]`, at the autoencoder's site, so that `1v` adds it once.

    Raises BadInput for a latent that does not exist, an activation that is no number above 0, and a row that writes nothing.
    """
    if not 0 <= latent < dictionary.latents:
        raise BadInput(f"Latent {latent} does not exist: {dictionary.name} has 0 to {dictionary.latents - 1}.")
    if not (math.isfinite(activation) and activation > 0):
        raise BadInput(
            f"Activation {activation:g}: give a number above 0, such as the latent's mean where it is active."
        )
    row = dictionary.sae.W_dec[latent].detach().float().cpu() * activation
    if not float(row.norm()) > 0:
        raise BadInput(f"Latent {latent} of {dictionary.name} writes nothing: its decoder row is zero.")
    origin = Provenance(
        method="latent",
        model=dictionary.provenance.model,
        model_id=dictionary.provenance.model_id,
        contrast=f"decoder row of latent {latent} of {dictionary.name} at activation {activation:.4g}",
        notes={"autoencoder": dictionary.digest, "latent": latent},
    )
    return SteeringVector(f"latent-{latent}", dictionary.site, row, origin)
