"""One latent of a sparse autoencoder, as an edit of the activation that it reads.

1. Changing latent j from f to a adds (a - f) W_dec[j] to the activation x: what decode(changed) + error gives, with
   error = x - decode(encode(x)), from one encoder row and one decoder row.
2. The decoder's bias, and whatever the autoencoder does not reconstruct, stay as they are.
3. Autoencoders whose latents depend on each other, that rescale their input, or that read another shape are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.sites import Site
from steering.vectors import UNKNOWN, Provenance, SteeringVector

ARCHITECTURES = ("standard", "jumprelu")
"""SAELens architectures whose latents are each a function of their own pre-activation."""


@dataclass(frozen=True)
class Latent:
    """Latent `index` of an autoencoder over activations of width d."""

    index: int
    encoder: Tensor
    """`[d]`, column of W_enc."""
    bias: float
    """Encoder bias, with what an input centred on the decoder's bias adds."""
    threshold: float
    """The latent is silent where its pre-activation is at most this: 0 for ReLU."""
    decoder: Tensor
    """`[d]`, row of W_dec."""

    def activation(self, x: Tensor) -> Tensor:
        """f `[...]` of activations `x [..., d]`, float32."""
        before = x.float() @ self.encoder + self.bias
        return torch.where(before > self.threshold, before, 0.0).clamp_min(0.0)

    def clamped(self, x: Tensor, value: float | Tensor) -> Tensor:
        """`x [..., d]` with the latent at `value`, the error term kept."""
        change = (value - self.activation(x))[..., None] * self.decoder
        return (x.float() + change).to(x.dtype)

    def ablated(self, x: Tensor) -> Tensor:
        """`x [..., d]` with the latent at 0, the error term kept."""
        return self.clamped(x, 0.0)

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        """`x [..., d]` with the latent at `factor` times what it is, the error term kept."""
        return self.clamped(x, factor * self.activation(x))

    def vector(self, site: Site, name: str = "") -> SteeringVector:
        """The decoder row as a steering vector: adding c of it raises the latent's share by c, wherever the latent stands."""
        provenance = Provenance("decoder row of an SAE latent", UNKNOWN, notes={"latent": self.index})
        return SteeringVector(name or f"latent {self.index}", site, self.decoder, provenance)


def latent_of(sae: Any, index: int) -> Latent:
    """Latent `index` of a SAELens autoencoder. Raises BadInput for one that this form does not describe."""
    architecture, config = sae.cfg.architecture(), sae.cfg
    if architecture not in ARCHITECTURES:
        raise BadInput(
            f"A {architecture} autoencoder's latents depend on each other; this form is for {' and '.join(ARCHITECTURES)}."
        )
    if config.normalize_activations not in ("none", None) or config.reshape_activations not in ("none", None):
        raise BadInput(
            f"The autoencoder normalises or reshapes its input ({config.normalize_activations}, {config.reshape_activations}); "
            f"fold the scaling into its weights first (fold_activation_norm_scaling_factor)."
        )
    if not 0 <= index < sae.W_dec.shape[0]:
        raise BadInput(f"Latent {index} does not exist: the autoencoder has {sae.W_dec.shape[0]}.")
    encoder = sae.W_enc[:, index].detach().float()
    bias = float(sae.b_enc.detach()[index])
    if config.apply_b_dec_to_input:
        bias -= float(sae.b_dec.detach().float() @ encoder)
    threshold = float(sae.threshold.detach()[index]) if architecture == "jumprelu" else 0.0
    return Latent(index, encoder, bias, threshold, sae.W_dec[index].detach().float())
