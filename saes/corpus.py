"""Texts that latents are read on, and the stream of their activations.

1. A text is token ids (with BOS) and what is known of it: how much of it is prompt, labelled spans, whether its answer was right.
2. Latents are read a batch at a time and handed on; nothing is kept between batches, so memory does not grow with the corpus.
3. Special tokens (BOS, EOS, padding) and attention sinks are read by the model but never counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.models import LoadedModel
from steering.model.sinks import outside_sinks, sinks_of

from .dictionary import Dictionary


@dataclass(frozen=True)
class LabelledSpan:
    """Tokens `start` to `end` (exclusive) of a text, counted from its first id, with what they do."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Text:
    """One sequence. Raises BadInput when a span or the prompt reaches outside it."""

    ids: tuple[int, ...]
    prompt: int = 0
    """Leading tokens that are the prompt, BOS included."""
    spans: tuple[LabelledSpan, ...] = ()
    correct: bool | None = None
    """Whether the answer it ends with is right; None where that means nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.prompt <= len(self.ids):
            raise BadInput(f"A text of {len(self.ids)} tokens cannot begin with a prompt of {self.prompt}.")
        for span in self.spans:
            if not 0 <= span.start < span.end <= len(self.ids):
                raise BadInput(
                    f"Span {span.label} {span.start}:{span.end} is not inside a text of {len(self.ids)} tokens."
                )


@dataclass(frozen=True)
class Encoded:
    """Latents of one batch of texts."""

    texts: tuple[int, ...]
    """Their numbers in the corpus."""
    latents: Tensor
    """`[rows, positions, latents]` float32."""
    mask: Tensor
    """`[rows, positions]` bool: tokens that count."""
    activations: Tensor
    """`[rows, positions, width]`."""


def encoded(
    model: LoadedModel, dictionary: Dictionary, texts: Sequence[Text], *, batch_size: int = 16
) -> Iterator[Encoded]:
    """Read the latents of every text, in order. Raises BadInput for no texts, an empty one, or an autoencoder of another width."""
    if not texts:
        raise BadInput("There are no texts to read latents on.")
    dictionary.check(model)
    special = torch.tensor(sorted(set(model.tokenizer.all_special_ids)), dtype=torch.long)
    sinks = sinks_of(model).positions
    sequences = [text.ids for text in texts]
    for captured in capture(model, sequences, [dictionary.site], batch_size=batch_size):
        h = captured.values[dictionary.site]
        ids = torch.zeros(h.shape[:2], dtype=torch.long)
        for row, index in enumerate(captured.rows):
            ids[row, : len(sequences[index])] = torch.tensor(sequences[index])
        mask = outside_sinks(captured.mask.cpu() & ~torch.isin(ids, special), sinks)
        yield Encoded(captured.rows, dictionary.encode(h).cpu(), mask, h.float().cpu())
