"""Decoder rows near each other."""

from __future__ import annotations

import torch
from torch import Tensor


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
