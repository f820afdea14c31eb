"""Latents of a sparse autoencoder as something that a plan edits.

1. Features hold what is needed to read latents (encoder rows) and to write them (decoder rows), float32, with where they came from.
   Where latents compete (top-k), they hold all rows of the autoencoder; otherwise only those that are edited.
2. An edit changes chosen latents from f to a and adds (a - f) W_dec to the activation: decode(changed) + error. Decoder bias and
   reconstruction error stay. All chosen latents are read before any of them is written.
3. Stored as safetensors; loading executes no code. `digest` hashes every number and the site.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import BadInput, unknown
from ..model.reader import Sited
from ..model.sites import Site
from .hub.download import local_file
from .vectors import Provenance, SteeringVector, read_tensors, whole, write_tensors

FORMAT = "steering-workbench/features@1"
ACTIVATIONS = ("relu", "jumprelu", "gated", "topk")
NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")
OPTIONAL = ("threshold", "magnitude", "magnitude_bias", "peaks", "means")


@dataclass(frozen=True, eq=False)
class Features:
    """Chosen latents at a site. Raises BadInput when its parts do not fit together."""

    name: str
    site: Site
    activation: Literal["relu", "jumprelu", "gated", "topk"]
    encoder: Tensor
    """`[rows, width]`; pre-activation = normalised h · encoder + bias."""
    bias: Tensor
    """`[rows]`, with what an input centred on the decoder's bias adds."""
    decoder: Tensor
    """`[rows, width]`."""
    chosen: tuple[int, ...]
    """Rows that are edited."""
    latents: tuple[int, ...]
    """What the autoencoder calls the chosen rows."""
    provenance: Provenance
    threshold: Tensor | None = None
    """`[rows]`, jumprelu: silent where the pre-activation is at most this."""
    magnitude: Tensor | None = None
    """`[rows]`, gated: factor on h · encoder of the magnitude path."""
    magnitude_bias: Tensor | None = None
    """`[rows]`, gated."""
    k: int = 0
    """topk: latents kept per position."""
    normalisation: Literal["none", "constant_norm_rescale", "layer_norm"] = "none"
    peaks: Tensor | None = None
    """`[chosen]`, largest activation over the corpus, for doses in peaks."""
    means: Tensor | None = None
    """`[chosen]`, mean activation over the corpus, for mean ablation."""

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.normalisation not in NORMALISATIONS:
            raise unknown("normalisation", self.normalisation, NORMALISATIONS)
        for name in ("encoder", "bias", "decoder", *OPTIONAL):
            value = getattr(self, name)
            if value is not None:
                value = value.detach().to(torch.float32).cpu().contiguous()
                if not torch.isfinite(value).all():
                    raise BadInput(f"Features {self.name!r}: {name} holds NaN or infinity.")
                object.__setattr__(self, name, value)
        rows = len(self.encoder)
        if self.encoder.ndim != 2 or self.decoder.shape != self.encoder.shape or self.bias.shape != (rows,):
            raise BadInput(
                f"Features {self.name!r}: encoder {list(self.encoder.shape)}, decoder {list(self.decoder.shape)} and bias "
                f"{list(self.bias.shape)} must be [rows, width], [rows, width] and [rows]."
            )
        needed = {"jumprelu": ("threshold",), "gated": ("magnitude", "magnitude_bias")}.get(self.activation, ())
        for name in needed:
            if getattr(self, name) is None or getattr(self, name).shape != (rows,):
                raise BadInput(f"Features {self.name!r}: {self.activation} needs {name} of shape [{rows}].")
        if (self.activation == "topk") != (0 < self.k <= rows):
            raise BadInput(f"Features {self.name!r}: k {self.k} does not fit {self.activation} over {rows} rows.")
        if not self.chosen or not len(self.chosen) == len(set(self.chosen)) == len(self.latents) == len(
            set(self.latents)
        ):
            raise BadInput(f"Features {self.name!r}: name each latent to edit once; got {self.latents}.")
        if not all(0 <= row < rows for row in self.chosen):
            raise BadInput(f"Features {self.name!r}: rows {self.chosen} are not all among the {rows}.")

    @property
    def width(self) -> int:
        return self.encoder.shape[1]

    @cached_property
    def dictionary(self) -> str:
        """Hash of the rows, whatever is chosen of them: latents of one dictionary can be read together."""
        return self._hashed(
            ("encoder", "bias", "decoder", *OPTIONAL[:3]), f"{self.activation} {self.k} {self.normalisation}"
        )

    @cached_property
    def digest(self) -> str:
        """Hash of all numbers, the choice and the site: 16 hexadecimal digits."""
        facts = f"{self.dictionary} {self.chosen} {self.site.name}"
        return self._hashed(("peaks", "means"), facts)

    def _hashed(self, names: tuple[str, ...], facts: str) -> str:
        found = hashlib.sha256(facts.encode())
        for name in names:
            value = getattr(self, name)
            found.update(name.encode() if value is None else value.numpy().tobytes())
        return found.hexdigest()[:16]

    def check_width(self, model: Sited, site: Site) -> None:
        """Raises BadInput when the autoencoder's width is not that of the activations at a site."""
        if self.width != model.layout.width(site):
            raise BadInput(
                f"Features {self.name!r} read activations of width {self.width}, but {model.id} has {model.layout.width(site)} at "
                f"{site}; use an autoencoder of this model and site."
            )

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically (temporary name, fsync, rename)."""
        facts = {
            "name": self.name,
            "site": self.site.name,
            "activation": self.activation,
            "normalisation": self.normalisation,
            "k": self.k,
            "chosen": self.chosen,
            "latents": self.latents,
            "provenance": vars(self.provenance),
        }
        tensors = {n: v for n in ("encoder", "bias", "decoder", *OPTIONAL) if (v := getattr(self, n)) is not None}
        return write_tensors(path, tensors, {"format": FORMAT, "features": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: Path | str) -> Features:
        """Read a feature file. Raises BadInput for anything but a whole safetensors file in this format."""
        tensors, metadata = read_tensors(path, FORMAT, "feature file")
        with whole(path):
            facts = json.loads(metadata["features"])
            found = Features(
                facts["name"],
                Site.parse(facts["site"]),
                facts["activation"],
                tensors.pop("encoder"),
                tensors.pop("bias"),
                tensors.pop("decoder"),
                tuple(facts["chosen"]),
                tuple(facts["latents"]),
                Provenance.parse(facts["provenance"]),
                k=facts["k"],
                normalisation=facts["normalisation"],
                **tensors,
            )
        return found


def load_stored(path: Path | str) -> SteeringVector | Features:
    """What a file holds, or the repository that `hub:owner/name` names: a steering vector, or features. Raises BadInput as their own
    loaders do."""
    file = local_file(path)
    try:
        with safe_open(file, "pt") as handle:
            if (handle.metadata() or {}).get("format") == FORMAT:
                return Features.load(file)
    except (OSError, SafetensorError):
        pass
    return SteeringVector.load(path)
