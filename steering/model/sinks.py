"""Attention sinks: leading positions whose activation is far longer than any other's, whatever token stands there.

1. Many models keep a massive activation at the first position, which their attention heads look at when they look at nothing (Xiao et al.,
   arXiv 2309.17453; Sun et al., arXiv 2402.17762). With a BOS it sits on the BOS; a tokenizer that adds none puts it on the first word.
2. It is measured, not assumed: random tokens are read, with the tokenizer's own beginning, and a position is a sink when in most texts it
   is at least `RATIO` times as long as the median position at some block's output. Only an unbroken run from position 0 counts: what stands
   out further on does so by its token, which `extraction.quality` looks at in the texts that are read.
3. A mean, a variance or an edit that takes such a position in is about the sink and little else. Readings, streams of activations and the
   spans `all`, `prompt` and `outside_thinking` leave it out unless it is asked for, and say so.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadInput
from .capture import capture
from .models import LoadedModel
from .reader import Reads
from .sites import Site

RATIO = 10.0
"""Norms of the median position from which on a position is a sink."""
TEXTS, LENGTH = 5, 12
"""Texts that are read, and their tokens."""


@dataclass(frozen=True)
class Sinks:
    """What was found."""

    positions: tuple[int, ...]
    """Positions that are sinks, ascending; empty where there is none."""
    ratio: float
    """The largest norm over the median one, at position 0 in most texts."""
    layer: int
    """The block after which it was found."""

    def __bool__(self) -> bool:
        return bool(self.positions)

    @property
    def words(self) -> str:
        """The positions in words."""
        named = ", ".join(map(str, self.positions))
        return f"position {named}" if len(self.positions) == 1 else f"positions {named}"

    def sentence(self, name: str, what: str) -> str:
        """That `what` leaves the sinks out of the model `name`."""
        one = len(self.positions) == 1
        return (
            f"{what} leaves out {self.words}, {'an attention sink' if one else 'attention sinks'} of {name}: the activation there is up to "
            f"{self.ratio:.0f} times as long as elsewhere (block {self.layer})."
        )


def sinks_of(model: Reads) -> Sinks:
    """The attention sinks of a model, measured once: one pass over a few dozen random tokens. Raises BadInput for a `Reader`."""
    if "sinks" not in model.extra:
        if not isinstance(model, LoadedModel):
            raise BadInput(f"Where {model.id} has attention sinks is measured on its weights; load it by load_model.")
        model.extra["sinks"] = _measured(model)
    found: Sinks = model.extra["sinks"]
    return found


def _measured(model: LoadedModel) -> Sinks:
    length = min(LENGTH, model.context)
    if length < 4:  # nothing to compare a position with
        return Sinks((), 0.0, 0)
    rng, special = random.Random("attention sinks"), {*model.tokenizer.all_special_ids, *model.eos_ids}
    embedded = getattr(model.model, "get_input_embeddings", None)
    rows = len(model.tokenizer) if embedded is None else int(embedded().weight.shape[0])
    size = min(len(model.tokenizer), rows)
    plain = [token for token in range(size) if token not in special] or list(range(size))
    first = beginning(model)
    texts = [(*first, *(rng.choice(plain) for _ in range(length - len(first)))) for _ in range(TEXTS)]
    sites = [Site(layer) for layer in range(model.n_layers)]
    (read,) = capture(model, texts, sites, batch_size=TEXTS)
    ratios = torch.stack([_relative(read.values[site]) for site in sites])  # [layers, texts, positions]
    usual = ratios.nan_to_num(0.0).median(dim=1).values  # [layers, positions]
    far = (usual >= RATIO).any(0).tolist()
    at_first = usual[:, 0]
    return Sinks(tuple(range((*far, False).index(False))), float(at_first.max()), int(at_first.argmax()))


def beginning(model: LoadedModel) -> tuple[int, ...]:
    """What the tokenizer puts before every text, such as a BOS."""
    bos = model.tokenizer.bos_token_id
    ids = list(model.tokenizer("a")["input_ids"])
    return (bos,) if bos is not None and ids[:1] == [bos] else ()


def _relative(values: Tensor) -> Tensor:
    norms = values.float().norm(dim=-1)
    return (norms / norms.median(dim=-1, keepdim=True).values.clamp_min(1e-30)).cpu()


def outside_sinks(mask: Tensor, positions: Collection[int]) -> Tensor:
    """`mask [rows, positions]` of tokens that count, without the sinks."""
    kept = mask.clone()
    inside = [p for p in positions if p < mask.shape[1]]
    kept[:, inside] = False
    return kept


def body(model: Reads, sequence: Sequence[int]) -> range:
    """Positions of a sequence that are no sink."""
    found = sinks_of(model).positions
    return range(min(len(sequence), found[-1] + 1 if found else 0), len(sequence))
