"""Where in the depth of a model the prediction of a token settles, and the deep-thinking ratio of a text.

1. Logit lens: the residual stream after every layer (`resid_post`), at the position that predicts a token, goes through the model's own
   final norm, unembedding and soft cap. The last layer's is the model's own prediction.
2. D_l is the Jensen-Shannon divergence of layer l's distribution and the last one's, in bits, so 0 to 1, and 0 at the last layer.
3. Layers count from 1 to L. `stays` is the first layer from which on D is at most the threshold at every layer; `first` is the first layer
   at which it is, which is the published rule (a running minimum). `first` is never later than `stays`.
4. A token is deep-thinking where it settles at layer ceil(depth · L) or later: of 4 layers at 0.85 the 4th alone, of 6 the 6th, of 7 the
   6th and 7th, of 36 the last six. With 4 layers it says no more than how far the last layer's step moves the prediction.

Source: Chen et al. 2602.13517, section 2.2, with threshold 0.5 and depth 0.85 (section 3). Its equation of the late layers is taken, not
the line of its Algorithm 1, which has ceil((1 - depth) · L). It names no base of the logarithm; it tries the threshold 0.75, which in nats
no divergence reaches. It writes no final norm; without one the last layer's distribution is not the model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.capture import capture
from ..model.divergence import jensen_shannon
from ..model.models import LoadedModel
from ..model.sites import Site

THRESHOLD, DEPTH = 0.5, 0.85
BATCH = 8
"""Texts that are read in one pass."""
NUMBERS = 1 << 22
"""Probabilities that one step of the lens holds: tokens times vocabulary."""


@torch.inference_mode()
def lens_divergence(model: LoadedModel, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
    """Per text (prompt ids, token ids), D `[tokens, layers]` in bits at the positions that predict its tokens, float64 on the CPU.

    Raises BadInput for a text without prompt or tokens, one longer than the context, a model behind another executor, and one whose numbers
    become NaN or infinite.
    """
    if model.executor is not None:
        raise BadInput("The logit lens reads the model itself; load it without another executor.")
    for index, (prompt, tokens) in enumerate(texts):
        if not prompt or not tokens:
            raise BadInput(f"Text {index} needs a prompt and at least one token to read.")
    sites = [Site(layer) for layer in range(model.n_layers)]
    found: list[Tensor] = []
    for batch in capture(model, [(*prompt, *tokens)[:-1] for prompt, tokens in texts], sites, batch_size=BATCH):
        places = [range(len(texts[row][0]) - 1, len(texts[row][0]) + len(texts[row][1]) - 1) for row in batch.rows]
        streams = [
            torch.cat([batch.values[site][n, place.start : place.stop] for n, place in enumerate(places)])
            for site in sites
        ]
        found += _divergence(model, streams).split([len(place) for place in places])
    return found


def _divergence(model: LoadedModel, streams: Sequence[Tensor]) -> Tensor:
    """D `[tokens, layers]` of streams `[tokens, d_model]`, one per layer."""
    size = max(1, NUMBERS // int(model.model.config.vocab_size))
    parts = []
    for start in range(0, len(streams[0]), size):
        chunk = slice(start, start + size)
        last = _predicted(model, streams[-1][chunk])
        columns = [jensen_shannon(_predicted(model, stream[chunk]), last) for stream in streams[:-1]]
        parts.append(torch.stack([*columns, torch.zeros_like(last[:, 0])], dim=1).double().cpu())
    return torch.cat(parts)


def _predicted(model: LoadedModel, streams: Tensor) -> Tensor:
    """Log-probabilities `[tokens, vocabulary]` of streams `[tokens, d_model]` that stand where the last layer's output does."""
    last, given = model.n_layers - 1, streams[:, None]
    ids = torch.zeros(len(streams), 1, dtype=torch.long, device=model.device)
    resume = (last, given) if model.runs.resumes and last else None
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    logits = model.runs.forward({Site(last): lambda hidden: given.to(hidden)}, inputs, resume)[:, -1].float()
    if not bool(logits.isfinite().all()):
        raise BadInput("A text cannot be read: the model's numbers become NaN or infinite. Load the model in float32.")
    return logits.log_softmax(-1)


def settling_layers(divergence: Tensor, threshold: float = THRESHOLD) -> tuple[Tensor, Tensor]:
    """(stays, first) `[tokens]`, layers counted from 1, of D `[tokens, layers]`. Raises BadInput for a threshold outside [0, 1)."""
    if not 0 <= threshold < 1:
        raise BadInput(f"threshold {threshold:g} must be at least 0 and below 1, in bits.")
    near = divergence <= threshold
    near[:, -1] = True  # the last layer is 0 from itself
    behind = near.flip(1).long().cumprod(1).sum(1)
    return near.shape[1] - behind + 1, near.long().argmax(1) + 1


def late_from(n_layers: int, depth: float = DEPTH) -> int:
    """The first layer, counted from 1, at which settling is late: ceil(depth · n_layers). Raises BadInput for a depth outside (0, 1]."""
    if not 0 < depth <= 1:
        raise BadInput(f"depth {depth:g} must be above 0 and at most 1.")
    return math.ceil(Fraction(str(depth)) * n_layers)
