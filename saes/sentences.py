"""A taxonomy of reasoning sentences: a small top-k autoencoder over sentence vectors (Venhoff et al., 2510.07364, section 2.2, App. A).

    z = TopK_k(W_enc (x - b_dec) + b_enc),   x̂ = z W_dec + b_dec

1. x is a sentence vector (or a token's activation) centred by the training mean and divided by its L2 norm; both happen in here
   (`prepared`), so that training, published files and use at inference cannot differ in them. Values are not rectified.
2. The category of a sentence is the argmax of the encoder's pre-activations; top-k plays no part in it.
3. Stored as safetensors; published `.pt` files are read through the allow-list of `steering.vector.interchange`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.interchange.pickles import as_tensor, unpickle
from steering.vector.interchange.source import Source
from steering.vector.vectors import write_tensors

FORMAT = "steering-workbench/sentence-sae@1"
TENSORS = ("encoder", "bias", "decoder", "b_dec", "mean")
PUBLISHED = ("encoder_weight", "encoder_bias", "decoder_weight", "b_dec")


@dataclass(frozen=True, eq=False)
class SentenceSAE:
    """Top-k autoencoder of `n` categories. Raises BadInput when its parts do not fit together."""

    encoder: Tensor
    """`[n, width]`."""
    bias: Tensor
    """`[n]`."""
    decoder: Tensor
    """`[n, width]`, rows of norm 1."""
    b_dec: Tensor
    """`[width]`, taken off the prepared vector before the encoder and added after the decoder."""
    mean: Tensor | None
    """`[width]`: centring mean of the training activations. None where a published file lacks it; nothing can be read then."""
    k: int
    site: Site | None = None
    titles: tuple[str, ...] = ()
    """Name of each category, or none at all."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in TENSORS:
            value = getattr(self, name)
            if value is not None:
                value = value.detach().to("cpu", torch.float32).contiguous()
                if not torch.isfinite(value).all():
                    raise BadInput(f"The sentence autoencoder's {name} holds NaN or infinity.")
                object.__setattr__(self, name, value)
        if self.encoder.ndim != 2 or self.decoder.shape != self.encoder.shape or self.bias.shape != (self.n,):
            raise BadInput(
                f"Encoder {list(self.encoder.shape)}, decoder {list(self.decoder.shape)} and bias {list(self.bias.shape)} must be "
                f"[n, width], [n, width] and [n]."
            )
        for name in ("b_dec", "mean"):
            value = getattr(self, name)
            if value is not None and value.shape != (self.width,):
                raise BadInput(f"{name} has shape {list(value.shape)}; [{self.width}] is needed.")
        if not 0 < self.k <= self.n:
            raise BadInput(f"k {self.k} does not fit {self.n} categories.")
        if self.titles and len(self.titles) != self.n:
            raise BadInput(f"{len(self.titles)} titles for {self.n} categories; give one for each, or none.")

    @property
    def n(self) -> int:
        """Categories."""
        return int(self.encoder.shape[0])

    @property
    def width(self) -> int:
        return int(self.encoder.shape[1])

    def prepared(self, x: Tensor) -> Tensor:
        """(x - mean) / ‖x - mean‖, `[..., width]` float32. Raises BadInput for another width, or where there is no mean."""
        if self.mean is None:
            raise BadInput(
                "This sentence autoencoder was trained on centred, normalised activations and its file lacks the mean: read with raw ones "
                "it gives other categories. Pass mean to load_published (sentence_vectors(...).mean over traces of its model)."
            )
        return prepare(x, self.mean)

    def pre_activations(self, x: Tensor) -> Tensor:
        """W_enc (prepared(x) - b_dec) + b_enc, `[..., n]`, for raw activations `x [..., width]`."""
        return (self.prepared(x) - self.b_dec) @ self.encoder.T + self.bias

    def categories(self, x: Tensor) -> Tensor:
        """Category of each raw activation, `[...]` int64: argmax of the pre-activations."""
        return self.pre_activations(x).argmax(-1)

    def encode(self, x: Tensor) -> Tensor:
        """z `[..., n]`: the k largest pre-activations, zero elsewhere."""
        return top_k(self.pre_activations(x), self.k)

    def decode(self, z: Tensor) -> Tensor:
        """z W_dec + b_dec, `[..., width]`: a prepared vector, not a raw activation."""
        return z @ self.decoder + self.b_dec

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically (temporary name, fsync, rename)."""
        facts = {
            "k": self.k,
            "site": self.site.name if self.site else None,
            "titles": self.titles,
            "provenance": dict(self.provenance),
        }
        tensors = {name: value for name in TENSORS if (value := getattr(self, name)) is not None}
        return write_tensors(path, tensors, {"format": FORMAT, "sentences": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: Path | str) -> SentenceSAE:
        """Read what `save` wrote. Raises BadInput for anything but a whole safetensors file in this format."""
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"No sentence autoencoder at {path}.")
        try:
            with safe_open(path, "pt") as handle:
                metadata = handle.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise BadInput(
                        f"{path} does not hold a sentence autoencoder: its metadata lacks format {FORMAT!r}."
                    )
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}
            facts = json.loads(metadata["sentences"])
            mean = tensors.pop("mean", None)
            site = Site.parse(facts["site"]) if facts["site"] else None
            return SentenceSAE(
                **tensors,
                mean=mean,
                k=facts["k"],
                site=site,
                titles=tuple(facts["titles"]),
                provenance=facts["provenance"],
            )
        except BadInput:
            raise
        except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise BadInput(f"{path} is corrupt or cut short ({error}); copy or write it again.") from error


def load_published(
    path: Path | str, *, mean: Tensor | None = None, site: Site | str | None = None, titles: Sequence[str] = ()
) -> SentenceSAE:
    """A file of the paper's authors: `{encoder_weight, encoder_bias, decoder_weight, b_dec, topk, ...}`, perhaps `activation_mean`.

    All these files were trained on centred, L2-normalised sentence vectors. Those of v1 hold no mean, and v1 fed them raw activations at
    inference; later ones were patched with `activation_mean` and are fed prepared activations. Both are read prepared here, which is
    how they were trained: a file without a mean needs `mean [width]`, and reads nothing without one. (`b_dec` does not stand in for it:
    in the v1 file of R1-Distill-Qwen-1.5B, layer 12, it is orthogonal to the mean activation, and fed raw, all behaviours' mean
    activations of 2506.18167 fall into one category.) The site is the output of the layer that the file is named after.

    Raises BadInput for a file that is corrupt, asks to run code, names no layer (pass `site`), or contradicts `mean`.
    """
    source = Source.read(path)
    content = unpickle(source)
    if not isinstance(content, Mapping):
        raise BadInput(f"{source.path} holds a {type(content).__name__}; the authors' files are mappings.")
    missing = [key for key in PUBLISHED if key not in content]
    if missing:
        raise BadInput(
            f"{source.path} lacks {', '.join(missing)}; it is not one of the authors' sentence autoencoders."
        )
    own = content.get("activation_mean")
    if own is not None:
        own = as_tensor(own, f"{source.path}: activation_mean")
        if mean is not None and not torch.allclose(own, mean.float(), atol=1e-4, rtol=1e-3):
            raise BadInput(f"{source.path} holds its own activation_mean, unlike the one given; leave mean out.")
    named = re.search(r"layer(\d+)", source.path.name)
    if site is None and named is None:
        raise BadInput(f"{source.path.name} does not name a layer; pass site, such as blocks.12.hook_resid_post.")
    where = Site.parse(site) if site is not None else Site(int(named[1]))  # type: ignore[index]
    note = source.note(
        "sentence autoencoder", loss=content.get("loss"), centring="in the file" if own is not None else "given"
    )
    encoder, bias, decoder, b_dec = (as_tensor(content[key], f"{source.path}: {key}") for key in PUBLISHED)
    return SentenceSAE(
        encoder,
        bias,
        decoder,
        b_dec,
        mean=own if own is not None else mean,
        k=int(content.get("topk", 3)),
        site=where,
        titles=tuple(titles),
        provenance=note,
    )


def prepare(x: Tensor, mean: Tensor) -> Tensor:
    """(x - mean) / ‖x - mean‖, `[..., width]` float32 on the CPU. Raises BadInput when the widths differ."""
    if x.shape[-1] != len(mean):
        raise BadInput(f"Activations of width {x.shape[-1]} do not fit a sentence autoencoder of width {len(mean)}.")
    centred = x.detach().to("cpu", torch.float32) - mean
    return centred / centred.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def top_k(u: Tensor, k: int) -> Tensor:
    """The k largest entries of `u [..., n]`, zero elsewhere; not rectified."""
    values, places = u.topk(k, dim=-1)
    return torch.zeros_like(u).scatter(-1, places, values)
