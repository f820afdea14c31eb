"""The selection rule of 2510.07364 v1 to v3, for comparison only: candidates of a gated token are scored by the thinking model.

1. Candidates are coefficients (0.1 to 1.0) times the category's vector, added over a window of the last tokens (all, 1, 15, 50, 100); each
   is a whole pass over the text, and the candidate token that the thinking model finds likeliest is emitted. The unsteered token is no
   candidate.
2. The rule looks at the thinking model's distribution, so that any direction that reaches its token looks good: controls without a
   learned direction did as well in the authors' own files. Results of it are labelled legacy.
3. The vectors are those of the bank; v1 trained its own, with unit norm at the start.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.hooks import hooked
from ..model.models import LoadedModel
from .shift import ShiftBank

COEFFICIENTS = tuple(round(0.1 * i, 1) for i in range(1, 11))
WINDOWS: tuple[int | None, ...] = (None, 1, 15, 50, 100)
"""Last tokens that are shifted; None is all of them."""


@torch.inference_mode()
def legacy_token(
    model: LoadedModel,
    bank: ShiftBank,
    category: int,
    ids: Sequence[int],
    prompt: int,
    thinking_logits: Tensor,
    coefficients: Sequence[float] = COEFFICIENTS,
    windows: Sequence[int | None] = WINDOWS,
) -> tuple[int, Tensor]:
    """The token that v1 emits after `ids` (of which the first `prompt` are the prompt, where nothing is shifted before its last token),
    and the base's logits under the winning shift `[vocabulary]`. `thinking_logits [vocabulary]` are the thinking model's."""
    n = len(ids)
    widths = sorted({min(n - prompt + 1, w or n) for w in windows})
    pairs = [(c, w) for c in coefficients for w in widths]
    covered = torch.zeros(len(pairs), n, 1, device=model.device)
    for row, (coefficient, width) in enumerate(pairs):
        covered[row, n - width :] = coefficient * bank.scale
    vector = bank.vectors[category].to(model.device)

    def edit(hidden: Tensor) -> Tensor:
        return hidden + (covered * vector).to(hidden)

    batch = torch.tensor([list(ids)] * len(pairs), device=model.device)
    with hooked(model.layout, {bank.site: edit}):
        logits = model.model(input_ids=batch, use_cache=False, logits_to_keep=1).logits[:, -1].float()
    tokens = logits.argmax(-1)
    best = int(thinking_logits.to(tokens.device)[tokens].argmax())
    return int(tokens[best]), logits[best]
