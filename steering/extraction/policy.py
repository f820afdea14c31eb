"""Log-probabilities of written texts under vectors that are being trained: one forced pass with a gradient.

1. Vectors are added at their sites over the positions that a plan's span covers, as the engine adds them while the text is written.
2. Texts are read in batches of like length; the last token of each is predicted and never fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compile.coverage import continued
from ..engine.forced import chunks_of
from ..errors import BadInput
from ..model.gradients import differentiable
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sites import Site
from ..plan.span import Span


@dataclass(frozen=True)
class Rollout:
    """A prompt as fed and what was written after it, both at least one token."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """Texts that are read in one pass, right-padded."""

    texts: tuple[int, ...]
    """Numbers of the texts, by row."""
    ids: Tensor
    mask: Tensor
    covered: Tensor
    """`[rows, positions, 1]` bool: where vectors are added."""
    place: tuple[Tensor, Tensor]
    """Row and position that predicts each written token, `[tokens]` each."""
    of: Tensor
    """`[tokens]`: the row of each."""
    written: Tensor
    """`[tokens]`: the ids."""


def packed(model: LoadedModel, texts: Sequence[Rollout], span: Span) -> list[Packed]:
    """The texts in batches. Raises BadInput for an empty one, or one longer than the context."""
    for number, text in enumerate(texts):
        if not text.prompt_ids or not text.token_ids:
            raise BadInput(f"Text {number} needs a prompt and at least one written token.")
        if len(text.prompt_ids) + len(text.token_ids) - 1 > model.context:
            raise BadInput(
                f"Text {number}: {len(text.prompt_ids)} prompt and {len(text.token_ids)} written tokens; {model.id} reads {model.context}."
            )
    lengths = [len(text.prompt_ids) + len(text.token_ids) - 1 for text in texts]
    return [_pack(model, texts, tuple(chunk), span) for chunk in chunks_of(model, lengths)]


def _pack(model: LoadedModel, texts: Sequence[Rollout], chunk: tuple[int, ...], span: Span) -> Packed:
    own = [texts[number] for number in chunk]
    width = max(len(text.prompt_ids) + len(text.token_ids) - 1 for text in own)
    ids, mask = torch.zeros(len(own), width, dtype=torch.long), torch.zeros(len(own), width, dtype=torch.long)
    covered = torch.zeros(len(own), width, 1, dtype=torch.bool)
    row: list[int] = []
    column: list[int] = []
    for index, text in enumerate(own):
        fed = (*text.prompt_ids, *text.token_ids[:-1])
        ids[index, : len(fed)] = torch.tensor(fed)
        mask[index, : len(fed)] = 1
        covered[index, continued(model, span, text.prompt_ids, text.token_ids[:-1])] = True
        row += [index] * len(text.token_ids)
        column += range(len(text.prompt_ids) - 1, len(fed))
    device = model.device
    rows = torch.tensor(row, device=device)
    written = torch.tensor([token for text in own for token in text.token_ids], device=device)
    place = (rows, torch.tensor(column, device=device))
    return Packed(chunk, ids.to(device), mask.to(device), covered.to(device), place, rows, written)


def logprobs(model: LoadedModel, batch: Packed, vectors: Mapping[Site, Tensor], temperature: float = 1.0) -> Tensor:
    """Of each written token, `[tokens]` in nats at a temperature, with `vectors [d_model]` added at their sites; float32, or float64 of a
    model in float64."""

    def adding(vector: Tensor) -> Edit:
        return lambda hidden: torch.where(batch.covered, hidden + vector.to(hidden), hidden)

    with differentiable(model, {site: adding(vector) for site, vector in vectors.items()}) as run:
        logits = run(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[batch.place]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return (wide / temperature).log_softmax(-1).gather(-1, batch.written[:, None])[:, 0]
