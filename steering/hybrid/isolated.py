"""Shifted predictions with an unshifted past: what each position of a text would predict if it alone were shifted.

In decoding the second reading of a position is forgotten, so every shifted position sees an unshifted past (2510.07364, section 3.4). The
same is computed here for many positions of a text at once:

1. The text is read once, unshifted and without gradients; kept are its activations at the site and its keys and values above it.
2. Each position is read again as a query of its own, its shifted activation entering the layer above the site: it sees the kept keys and
   values of the positions before it and its own new ones, never another shifted position.
3. The result equals shifting one position at a time, and gradients reach the shifted activations only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ..errors import BadInput
from ..model.cache import ColumnCache, Masks
from ..model.gradients import differentiable
from ..model.models import LoadedModel
from ..model.sites import Site


class _Prefix(CacheLayerMixin):
    """Kept keys and values of one layer, to which a pass adds its own without storing them."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to prepare."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], 2), torch.cat([self.values, value_states], 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2] + query_length, 0

    def get_seq_length(self) -> int:
        return self.keys.shape[2]

    def get_max_length(self) -> int:
        return -1


@dataclass(frozen=True, eq=False)
class Kept:
    """Texts that have been read, and the positions of them that are to be read again."""

    texts: Tensor
    """`[n]`: the text of each position, by row."""
    positions: Tensor
    """`[n]`."""
    slots: Tensor
    """`[n]`: the place of each position among those of its text."""
    hidden: Tensor
    """`[n, d]`: unshifted activations at the site."""
    logits: Tensor | None
    """`[n, vocabulary]`: unshifted predictions, where they were asked for."""
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values of the layers above the site, `[texts, heads, tokens, d_head]`."""
    lengths: tuple[int, ...]
    first: int
    """The layer that a second reading begins at."""

    @property
    def bytes(self) -> int:
        """Memory held."""
        kept = [self.hidden, *(part for layer in self.layers for part in layer)]
        return sum(part.numel() * part.element_size() for part in kept)


def first_layer(model: LoadedModel, site: Site) -> int:
    """The layer that reads the stream at `site`. Raises BadInput for a site that is not the stream between two layers."""
    layer = site.layer + (site.kind == "resid_post")
    if site.kind not in ("resid_pre", "resid_post") or not 0 < layer < model.n_layers:
        raise BadInput(
            f"Shifts are trained on the stream between two layers; {site} of {model.id} ({model.n_layers} layers) is not. Choose "
            f"blocks.<layer>.hook_resid_post with a layer from 0 to {model.n_layers - 2}."
        )
    return layer


@torch.no_grad()
def read_once(
    model: LoadedModel,
    texts: Sequence[tuple[int, ...]],
    positions: Sequence[Sequence[int]],
    site: Site,
    predictions: bool = False,
) -> Kept:
    """Read texts (ids with BOS) unshifted; keep what second readings of `positions` (per text) need."""
    first, device = first_layer(model, site), model.device
    model.rope.check_short([len(text) for text in texts])
    width = max(map(len, texts))
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    masks, cache = Masks(model.runs.config), ColumnCache(model.n_layers, len(texts), width)
    cache.open(0, 0, width)
    found: dict[str, Tensor] = {}

    def read(hidden: Tensor) -> None:
        found["hidden"] = hidden

    inputs = {
        "input_ids": ids.to(device),
        "attention_mask": masks.make(
            torch.zeros(len(texts), dtype=torch.long, device=device), 0, 0, width, model.dtype
        ),
        "position_ids": torch.arange(width, device=device)[None].expand(len(texts), -1),
        "past_key_values": cache,
        "use_cache": True,
        "logits_to_keep": 0 if predictions else 1,
    }
    with differentiable(model, {site: read}) as run:
        logits = run(**inputs).logits
    rows = torch.tensor([row for row, wanted in enumerate(positions) for _ in wanted], device=device, dtype=torch.long)
    where = torch.tensor([p for wanted in positions for p in wanted], device=device, dtype=torch.long)
    slots = torch.tensor([s for wanted in positions for s in range(len(wanted))], device=device, dtype=torch.long)
    return Kept(
        rows,
        where,
        slots,
        found["hidden"][rows, where].clone(),
        logits[rows, where].float() if predictions else None,
        tuple((layer.keys, layer.values) for layer in cache.layers[first:]),
        tuple(map(len, texts)),
        first,
    )


def read_again(model: LoadedModel, kept: Kept, shifted: Tensor) -> Tensor:
    """Predictions `[n, vocabulary]` float32 of the kept positions with `shifted [n, d]` in place of their activations, each alone."""
    device, masks = shifted.device, Masks(model.runs.config)
    texts, wide = len(kept.lengths), int(kept.slots.max()) + 1
    width = kept.layers[0][0].shape[2]
    hidden = shifted.new_zeros(texts, wide, shifted.shape[-1]).index_put((kept.texts, kept.slots), shifted)
    at = torch.zeros(texts, wide, dtype=torch.long, device=device)
    at[kept.texts, kept.slots] = kept.positions
    columns = torch.arange(width, device=device)
    own = torch.eye(wide, dtype=torch.bool, device=device)[None].expand(texts, -1, -1)
    found = {}
    for kind in masks.kinds:
        past = columns[None, None] < at[:, :, None]
        if kind == "sliding_attention":
            past = past & (columns[None, None] > at[:, :, None] - (masks.window or 0))
        found[kind] = masks.formed(torch.cat([past, own], 2)[:, None], model.dtype)
    empty = kept.layers[0]
    below = [
        _Prefix(empty[0], empty[1]) for _ in range(kept.first)
    ]  # layers that are passed over, asked for their length only
    cache = Cache(layers=[*below, *(_Prefix(*layer) for layer in kept.layers)])
    inputs = {
        "input_ids": torch.zeros(texts, wide, dtype=torch.long, device=device),
        "attention_mask": found if len(found) > 1 else next(iter(found.values())),
        "position_ids": at,
        "past_key_values": cache,
        "use_cache": True,
    }
    with differentiable(model, resume=(kept.first, hidden.to(model.dtype))) as run:
        logits = run(**inputs).logits
    return logits[kept.texts, kept.slots].float()
