"""Which tokens a latent writes for: its decoder row through the model's final norm and unembedding.

1. The effect of latent j on the logits is that of its decoder row, at norm sqrt(d_model), alone in the stream that enters the final norm:
   what `steering.extraction.lens.lens_logits` gives for one direction, odd in it. Layers between the site and the end are skipped, so
   it is a direct effect only.
2. Latents are worked on a chunk at a time; memory is a chunk times the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.hooks import hooked
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .dictionary import Dictionary


@dataclass(frozen=True, eq=False)
class LogitEffects:
    """Per latent asked for, strongest first."""

    promoted: np.ndarray
    """Token ids `[latents, k]`."""
    promoted_effects: np.ndarray
    demoted: np.ndarray
    demoted_effects: np.ndarray
    share: np.ndarray
    """`[latents]`: share of the squared effects about their mean over the vocabulary that the 2k tokens have."""
    kurtosis: np.ndarray
    """`[latents]`: excess kurtosis of the effects; 0 for a normal distribution, large where few tokens stand out."""


@torch.inference_mode()
def logit_effects(
    model: LoadedModel, dictionary: Dictionary, latents: Sequence[int] | None = None, *, k: int = 10, chunk: int = 32
) -> LogitEffects:
    """The `k` most promoted and most demoted tokens of `latents` (default: all), with how concentrated the effects are.

    Raises BadInput for a site that does not write to the residual stream, or a latent that does not exist.
    """
    dictionary.check(model)
    if dictionary.site.kind == "z":
        raise BadInput(
            f"{dictionary.site} is read before the output projection, so its decoder does not write to the residual stream; "
            f"use an autoencoder of a resid, attn_out or mlp_out site."
        )
    chosen = list(range(dictionary.latents)) if latents is None else list(latents)
    missing = [latent for latent in chosen if not 0 <= latent < dictionary.latents]
    if missing or not chosen or k < 1:
        raise BadInput(
            f"Latent {missing[0]} does not exist: the autoencoder has {dictionary.latents}."
            if missing
            else f"Asked for {k} tokens of {len(chosen)} latents; give at least one of each."
        )
    named = min(int(model.model.config.vocab_size), len(model.tokenizer))  # rows behind are no tokens
    k = min(k, named // 2)
    parts = []
    for start in range(0, len(chosen), chunk):
        effects = _effects(model, dictionary.decoder[chosen[start : start + chunk]])
        high, low = effects[:, :named].topk(k, dim=1), effects[:, :named].topk(k, dim=1, largest=False)
        mean = effects.mean(1, keepdim=True)
        squared = (effects - mean).square_()
        whole = squared.sum(1)
        ends = squared.gather(1, torch.cat([high.indices, low.indices], 1)).sum(1)
        fourth = squared.square_().mean(1)
        kurtosis = fourth / (whole / effects.shape[1]).square() - 3
        found = (high.indices, high.values, low.indices, low.values, ends / whole, kurtosis)
        parts.append([part.cpu().numpy() for part in found])
    return LogitEffects(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _effects(model: LoadedModel, rows: Tensor) -> Tensor:
    """Logits `[rows, vocabulary]` float32 of directions `[rows, d_model]`."""
    rows = rows * (rows.shape[1] ** 0.5 / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12))
    both = torch.cat([rows, -rows]).to(model.device)[:, None]
    ids = torch.zeros(len(both), 1, dtype=torch.long, device=model.device)
    with hooked(model.layout, {Site(model.n_layers - 1): lambda hidden: both.to(hidden)}):
        logits = model.model(input_ids=ids, use_cache=False).logits[:, 0].float()
    return (logits[: len(rows)] - logits[len(rows) :]) / 2
