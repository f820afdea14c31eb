"""What the decoder rows of an autoencoder say by themselves: the tokens they speak for, and the rows nearest to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steering.hooks import hooked
from steering.models import LoadedModel
from steering.sites import Site

from .dictionary import Dictionary

CHUNK = 32
"""Directions per forward pass; each gives two rows of logits over the vocabulary."""


@torch.inference_mode()
def direction_logits(
    model: LoadedModel, dictionary: Dictionary, latents: Sequence[int], count: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((ids, logits) of the tokens most promoted, (ids, logits) of those most demoted), `[latents, count]` each, as
    `steering.extraction.lens.lens_logits` gives them for one direction: through the model's own final norm and unembedding, at norm
    sqrt(d_model), odd in the direction. Empty for an autoencoder of single heads, whose rows are not in the residual stream.
    """
    ends: tuple[list[tuple[Tensor, Tensor]], ...] = ([], [])
    rows = dictionary.decoder[list(latents)]
    if rows.shape[1] != model.d_model or dictionary.site.kind == "z":
        nothing = (torch.zeros(len(rows), 0, dtype=torch.long), torch.zeros(len(rows), 0))
        return nothing, nothing
    rows = rows * (rows.shape[1] ** 0.5 / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12))
    for part in rows.split(CHUNK):
        both = torch.cat([part, -part]).to(model.device)[:, None]

        def replace(hidden: Tensor, both: Tensor = both) -> Tensor:
            return both.to(hidden)

        ids = torch.zeros(len(both), 1, dtype=torch.long, device=model.device)
        with hooked(model.layout, {Site(model.n_layers - 1): replace}):
            logits = model.model(input_ids=ids, use_cache=False).logits[:, 0].float()
        odd = (logits[: len(part)] - logits[len(part) :]).cpu() / 2
        for end, largest in zip(ends, (True, False), strict=True):
            found = odd.topk(min(count, odd.shape[1]), largest=largest)
            end.append((found.indices, found.values))
    first, second = ((torch.cat([i for i, _ in end]), torch.cat([v for _, v in end])) for end in ends)
    return first, second


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
