"""Which tokens a direction speaks for: the logit lens of a vector.

1. The direction takes the place of the last layer's output and goes through the model's own final norm, unembedding and soft cap, so the
   result needs no knowledge of the architecture.
2. Logits are half the difference between the direction and its negative: biases and anything else that does not depend on the direction
   cancel. The two ends are then what the direction promotes and what it demotes.
3. Suggestive only: it skips every layer between the site and the end. `jacobian` takes them in, on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.hooks import hooked
from ..model.models import LoadedModel
from ..model.prompts import token_texts
from ..model.sites import Site
from ..vector.vectors import SteeringVector


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
    """(highest first, lowest first) of logits `[vocabulary]`, `count` tokens each. Raises BadInput for a count below 1."""
    if count < 1:
        raise BadInput(f"count {count} must be at least 1.")
    count = min(count, len(logits))
    ends = []
    for largest in (True, False):
        found = logits.topk(count, largest=largest)
        ids = found.indices.tolist()
        texts = token_texts(model, ids)
        ends.append(tuple(map(LensToken, ids, texts, found.values.tolist())))
    return ends[0], ends[1]
