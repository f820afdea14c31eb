"""A sparse autoencoder together with the site whose activations it reads.

1. Encoding and decoding are SAELens' own. Everything downstream (scores, dashboards, plans) reads through this object, so that a
   normalisation or a bias is applied once, the same way, everywhere.
2. `digest` hashes every weight, the configuration and the site: it names the autoencoder in stored tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from steering.compile.feature_formula import Reader
from steering.compile.origin import origin
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.vector.features import Features
from steering.vector.vectors import UNKNOWN, Provenance

from .latents import features_of


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A SAELens autoencoder (inference form, float32) and its site. Raises BadInput where latents of it cannot be read."""

    name: str
    sae: Any
    site: Site
    card: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its training."""

    def __post_init__(self) -> None:
        self.sae.eval()
        self.features((0,))  # refuses what cannot be read

    @property
    def latents(self) -> int:
        return int(self.sae.W_dec.shape[0])

    @property
    def width(self) -> int:
        return int(self.sae.W_dec.shape[1])

    @property
    def competes(self) -> bool:
        """Whether latents compete for being active (top-k), so that most activations are zero."""
        return self._rows.activation == "topk"

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits."""
        config = {k: v for k, v in self.sae.cfg.to_dict().items() if k not in ("metadata", "device")}
        found = hashlib.sha256(f"{self.site.name} {json.dumps(config, sort_keys=True, default=str)}".encode())
        for name, value in sorted(self.sae.state_dict().items()):
            found.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput when `model` has no such site or another width there, naming the model that the card names."""
        named = str(self.card.get("model_id", ""))
        try:
            model.layout.check(self.site)
        except BadInput as error:
            of = (
                f"The autoencoder {self.name} is of {named}, not of {model.id}: " if named not in ("", model.id) else ""
            )
            raise BadInput(f"{of}{error}") from error
        if self.width != model.layout.width(self.site):
            raise BadInput(
                f"{self.name} reads activations of width {self.width}, but {model.id} has {model.layout.width(self.site)} at {self.site}; "
                f"use an autoencoder of this model and site{f', or the model that its card names, {named}' if named else ''}."
            )

    @torch.inference_mode()
    def encode(self, h: Tensor) -> Tensor:
        """Activations of all latents, `[..., latents]` float32, for `h [..., width]`."""
        return self.sae.encode(h.float().to(self.sae.W_enc.device))

    @torch.inference_mode()
    def pre_activations(self, h: Tensor) -> Tensor:
        """What each latent's activation function (gated: its gate) is applied to, `[..., latents]` float32."""
        all_rows = self._rows
        read, _ = self._reader.normalised(h.float().cpu())
        return read @ all_rows.encoder.T + all_rows.bias

    @torch.inference_mode()
    def reconstruct(self, h: Tensor) -> Tensor:
        """decode(encode(h)), `[..., width]` float32."""
        h = h.float().to(self.sae.W_enc.device)
        return self.sae.decode(self.sae.encode(h))

    @cached_property
    def decoder(self) -> Tensor:
        """`[latents, width]` float32 on the host, scaled as activations are."""
        return self._rows.decoder

    @cached_property
    def norms(self) -> Tensor:
        """Norm of each latent's decoder row, `[latents]`: an activation times it is in units of the residual stream."""
        return self.decoder.norm(dim=-1)

    def features(
        self, latents: Sequence[int], *, peaks: Tensor | None = None, means: Tensor | None = None, name: str = ""
    ) -> Features:
        """Chosen latents, ready for plans. `peaks`, `means`: `[len(latents)]`. Raises BadInput for a latent that does not exist."""
        return features_of(
            self.sae, latents, self.site, name=name, peaks=peaks, means=means, provenance=self.provenance
        )

    @property
    def provenance(self) -> Provenance:
        """Where its latents come from: the weights that its card names."""
        return Provenance(
            f"latents of {self.name}",
            str(self.card.get("model", UNKNOWN)),
            str(self.card.get("model_id", "")),
            notes={"autoencoder": self.name},
        )

    def origin(self, model: LoadedModel) -> str | None:
        """A sentence where it was trained on other weights than `model`'s, or does not say on which; None where they are its own."""
        return origin(self.name, self.provenance, model)

    @cached_property
    def _rows(self) -> Features:
        return features_of(self.sae, range(self.latents), self.site, name="all")

    @cached_property
    def _reader(self) -> Reader:
        rows = self._rows
        return Reader(
            rows.activation, rows.normalisation, rows.encoder, rows.bias, rows.decoder, rows.threshold, rows.magnitude,
            rows.magnitude_bias, rows.k,
        )  # fmt: skip
