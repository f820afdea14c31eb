"""Every operation on SAE latents as one formula over rows, so that rows of any plans share a batch.

With pre-activations u, latents f = act(u), and per row and latent the numbers of `LATENT_COLUMNS`:

    u'  = u + raise mean|u|          (the mean over the row's raised latents)
    a   = clip(factor act(u') + constant, low, high)
    h'  = h + m (a - f) W_dec        (m the schedule's multiplier; rescaled as the autoencoder rescales its output)

1. Latents that a row does not edit have factor 1 and nothing else, so a = f; where latents compete, a raised one can evict another, whose
   decoder row is then taken out (He et al., 2601.08058).
2. A row or position that is not edited keeps its activation bit for bit. Arithmetic is in float32.
3. No Python branch on data and no host synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .formula import TINY

LATENT_COLUMNS = ("factor", "constant", "raise", "low", "high")


@dataclass(frozen=True)
class Reader:
    """How a dictionary is read: its rows, on the device of its site."""

    activation: str
    normalisation: str
    encoder: Tensor
    """`[latents, width]`."""
    bias: Tensor
    decoder: Tensor
    threshold: Tensor | None
    magnitude: Tensor | None
    magnitude_bias: Tensor | None
    k: int

    def normalised(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the autoencoder reads of `h [..., width]` float32, and what its output is multiplied by `[..., 1]`."""
        if self.normalisation == "constant_norm_rescale":
            size = torch.linalg.vector_norm(h, dim=-1, keepdim=True) / h.shape[-1] ** 0.5
            return h / size, size
        if self.normalisation == "layer_norm":
            centred = h - h.mean(-1, keepdim=True)
            spread = centred.std(-1, keepdim=True)
            return centred / (spread + 1e-5), spread
        return h, None

    def act(self, projected: Tensor, lift: Tensor | None = None) -> Tensor:
        """f `[..., latents]` of h · encoder, pre-activations raised by `lift`."""
        u = projected + self.bias
        if lift is not None:
            u = u + lift
        if self.activation == "relu":
            return u.clamp_min(0.0)
        if self.activation == "jumprelu":
            return torch.where(u > self.threshold, u, 0.0).clamp_min(0.0)
        if self.activation == "gated":
            size = projected * self.magnitude + self.magnitude_bias
            if lift is not None:
                size = size + lift
            return torch.where(u > 0, size.clamp_min(0.0), 0.0)
        values, indices = u.topk(self.k, dim=-1)
        return torch.zeros_like(u).scatter(-1, indices, values.clamp_min(0.0))


def apply_latents(
    hidden: Tensor, reader: Reader, numbers: Tensor, mask: Tensor, multiplier: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Edit `hidden [rows, positions, width]` where `mask [rows, positions]` by `numbers [rows, latents, len(LATENT_COLUMNS)]`; also
    returns ‖h' - h‖ / ‖h‖ `[rows, positions]`."""
    factor, constant, raised, low, high = (c[:, None] for c in numbers.unbind(-1))
    h = hidden.float()
    read, rescale = reader.normalised(h)
    projected = read @ reader.encoder.T
    f = reader.act(projected)
    lifted = raised != 0
    share = lifted.float() / lifted.float().sum(-1, keepdim=True).clamp_min(1.0)
    size = ((projected + reader.bias).abs() * share).sum(-1, keepdim=True)
    a = torch.maximum(torch.minimum(factor * reader.act(projected, raised * size) + constant, high), low)
    change = a - f if multiplier is None else (a - f) * multiplier[..., None]
    delta = change @ reader.decoder
    if rescale is not None:
        delta = delta * rescale
    norm = torch.linalg.vector_norm(h, dim=-1)
    ratio = torch.where(mask, torch.linalg.vector_norm(delta, dim=-1) / norm.clamp_min(TINY), 0.0)
    return torch.where(mask[..., None], (h + delta).to(hidden.dtype), hidden), ratio
