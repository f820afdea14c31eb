"""Which tokens a direction speaks for: the logit lens of a vector.

1. The direction takes the place of the last layer's output and goes through the model's own final norm, unembedding and soft cap, so the
   result needs no knowledge of the architecture.
2. Logits are half the difference between the direction and its negative: biases and anything else that does not depend on the direction
   cancel. The two ends are then what the direction promotes and what it demotes.
3. Suggestive only: it skips every layer between the site and the end. `jacobian` takes them in, on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.hooks import hooked
from ..model.models import LoadedModel
from ..model.prompts import token_texts
from ..model.sites import Site
from ..vector.vectors import SteeringVector

PROBED = 256
"""Coordinates that are read in one pass."""


@dataclass(frozen=True)
class LensToken:
    """A token and its logit under a direction of norm sqrt(d_model)."""

    id: int
    text: str
    logit: float


@torch.inference_mode()
def lens_logits(model: LoadedModel, direction: Tensor) -> Tensor:
    """Logits `[vocabulary]` of a direction `[d_model]`; odd in it, and independent of its length."""
    size = direction.shape[0] ** 0.5 / direction.norm()
    both = torch.stack([direction * size, -direction * size]).to(model.device)[:, None]

    def replace(hidden: Tensor) -> Tensor:
        return both.to(hidden)

    ids = torch.zeros(2, 1, dtype=torch.long, device=model.device)
    with hooked(model.layout, {Site(model.n_layers - 1): replace}):
        logits = model.model(input_ids=ids, use_cache=False).logits[:, 0].double()
    return (logits[0] - logits[1]).cpu() / 2


def lens_tokens(
    model: LoadedModel, vector: SteeringVector, count: int = 10
) -> tuple[tuple[LensToken, ...], tuple[LensToken, ...]]:
    """(most promoted first, most demoted first), `count` tokens each. Raises BadInput when the vector does not fit the model."""
    vector.check(model)
    return logit_ends(model, lens_logits(model, vector.direction), count)


def logit_ends(model: LoadedModel, logits: Tensor, count: int) -> tuple[tuple[LensToken, ...], tuple[LensToken, ...]]:
    """(highest first, lowest first) of logits `[vocabulary]`, `count` tokens each; rows behind the tokenizer's last token are left out.
    Raises BadInput for a count below 1."""
    if count < 1:
        raise BadInput(f"count {count} must be at least 1.")
    logits = logits[: len(model.tokenizer)]
    count = min(count, len(logits))
    ends = []
    for largest in (True, False):
        found = logits.topk(count, largest=largest)
        ids = found.indices.tolist()
        texts = token_texts(model, ids)
        ends.append(tuple(map(LensToken, ids, texts, found.values.tolist())))
    return ends[0], ends[1]


@torch.inference_mode()
def lens_rows(model: LoadedModel, ids: Sequence[int] | None = None) -> Tensor:
    """What the logit lens reads per token: rows `[len(ids), d_model]` float64 on the CPU, the logit of a direction x of norm sqrt(d_model)
    being row · x. None for the whole vocabulary of the logits.

    They are the unembedding's rows with the final norm's weights in them, and are read off the model itself, one coordinate of x after the
    other: exact for a root-mean-square norm, within about a part in sqrt(d_model) for one that takes the mean away, and bent by a soft
    cap of the logits where they are large.
    """
    width = model.d_model
    columns = []
    for start in range(0, width, PROBED):
        count = min(PROBED, width - start)
        probes = torch.zeros(2 * count, 1, width, device=model.device)
        at = torch.arange(count, device=model.device)
        probes[at, 0, start + at] = width**0.5
        probes[count + at, 0, start + at] = -(width**0.5)

        def replace(hidden: Tensor, probes: Tensor = probes) -> Tensor:
            return probes.to(hidden)

        zeros = torch.zeros(2 * count, 1, dtype=torch.long, device=model.device)
        with hooked(model.layout, {Site(model.n_layers - 1): replace}):
            logits = model.model(input_ids=zeros, use_cache=False).logits[:, 0].double()
        odd = (logits[:count] - logits[count:]).cpu() / (2 * width**0.5)
        columns.append(odd if ids is None else odd[:, list(ids)])
    return torch.cat(columns).T.contiguous()
