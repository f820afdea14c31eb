"""Latents of SAELens autoencoders as `Features`, ready for plans.

1. What is read and written is SAELens' own encoding and decoding: the decoder bias that the input is centred on, gating, thresholds, top-k
   and run-time normalisation are carried over, and a form that is not is refused by name.
2. Only the rows asked for are kept, except where latents compete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.features import NORMALISATIONS, Features
from steering.vector.vectors import UNKNOWN, Provenance

ARCHITECTURES = {"standard": "relu", "jumprelu": "jumprelu", "gated": "gated", "topk": "topk"}


def features_of(
    sae: Any,
    latents: Sequence[int],
    site: Site | None = None,
    *,
    name: str = "",
    peaks: Tensor | None = None,
    means: Tensor | None = None,
    provenance: Provenance | None = None,
) -> Features:
    """Chosen latents of an autoencoder as what a plan edits: of a `Dictionary` (what `load_dictionary` returns), which knows its site, or
    of a SAELens autoencoder that reads the activations of `site`. `peaks`, `means`: `[len(latents)]`.

    Raises BadInput for an architecture, normalisation or latent that does not exist here, and for a site that is missing or not the
    dictionary's.
    """
    if isinstance(getattr(sae, "site", None), Site):  # a Dictionary, which stands on the floor above
        if site not in (None, sae.site):
            raise BadInput(f"{sae.name} reads {sae.site}, not {site}; leave the site out.")
        found: Features = sae.features(latents, name=name, peaks=peaks, means=means)
        return found if provenance is None else replace(found, provenance=provenance)
    if site is None:
        raise BadInput(
            "A SAELens autoencoder does not say where it reads: give the site, or what saes.load_dictionary returns."
        )
    config = getattr(sae, "cfg", None)
    if config is None:
        raise BadInput(f"Latents are taken of a SAELens autoencoder or of a Dictionary, not of a {type(sae).__name__}.")
    architecture = config.architecture()
    if architecture not in ARCHITECTURES:
        raise BadInput(
            f"A {architecture} autoencoder cannot be steered latent by latent here; supported are {', '.join(ARCHITECTURES)}."
        )
    normalisation = config.normalize_activations or "none"
    if normalisation not in NORMALISATIONS:
        raise BadInput(
            f"The autoencoder's input is normalised by {normalisation!r}, a factor measured in training: fold it into the weights first "
            f"(fold_activation_norm_scaling_factor)."
        )
    if config.reshape_activations not in ("none", None):
        raise BadInput(f"The autoencoder reads {config.reshape_activations} activations, not one row of {site}.")
    size = sae.W_dec.shape[0]
    missing = [latent for latent in latents if not 0 <= latent < size]
    if missing:
        raise BadInput(f"Latent {missing[0]} does not exist: the autoencoder has {size}, 0 to {size - 1}.")
    activation = ARCHITECTURES[architecture]
    kept = torch.arange(size) if activation == "topk" else torch.tensor(list(latents), dtype=torch.long)
    encoder, decoder = sae.W_enc.detach().float().T[kept], sae.W_dec.detach().float()[kept]
    centre = sae.b_dec.detach().float() @ encoder.T if config.apply_b_dec_to_input else torch.zeros(len(kept))
    own = sae.b_gate if activation == "gated" else sae.b_enc
    extra: dict[str, Any] = {}
    if activation == "jumprelu":
        extra["threshold"] = sae.threshold.detach()[kept]
    if activation == "gated":
        factor = sae.r_mag.detach().float()[kept].exp()
        extra |= {"magnitude": factor, "magnitude_bias": sae.b_mag.detach().float()[kept] - centre * factor}
    bias = own.detach().float()[kept] - centre
    if activation == "topk":
        extra["k"] = int(config.k)
        if config.rescale_acts_by_decoder_norm:
            norms = decoder.norm(dim=-1)
            encoder, bias, decoder = encoder * norms[:, None], bias * norms, decoder / norms[:, None]
    return Features(
        name or "+".join(f"latent{latent}" for latent in latents)[:60],
        site,
        activation,  # type: ignore[arg-type]
        encoder,
        bias,
        decoder,
        tuple(latents) if activation == "topk" else tuple(range(len(kept))),
        tuple(latents),
        provenance or Provenance("latents of a SAELens autoencoder", UNKNOWN, notes={"architecture": architecture}),
        normalisation=normalisation,  # type: ignore[arg-type]
        peaks=peaks,
        means=means,
        **extra,
    )
