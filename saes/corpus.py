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
    sequences = [text.ids for text in texts]
    for captured in capture(model, sequences, [dictionary.site], batch_size=batch_size):
        h = captured.values[dictionary.site]
        ids, _ = padded([sequences[index] for index in captured.rows], h.shape[1])
        mask = counted(model, ids, captured.mask.cpu())
        yield Encoded(captured.rows, dictionary.encode(h).cpu(), mask, h.float().cpu())


def padded(sequences: Sequence[Sequence[int]], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Ids `[rows, length]`, 0 behind a sequence's end, and which of them are a sequence's own (bool)."""
    length = max(map(len, sequences)) if length is None else length
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids, torch.arange(length)[None] < torch.tensor([len(sequence) for sequence in sequences])[:, None]


def counted(
    model: LoadedModel, ids: Tensor, real: Tensor, *, keep_specials: bool = False, keep_sinks: bool = False
) -> Tensor:
    """`[rows, positions]` bool: the real tokens that are neither special nor attention sinks."""
    special = torch.tensor([] if keep_specials else sorted(set(model.tokenizer.all_special_ids)), dtype=torch.long)
    return outside_sinks(real & ~torch.isin(ids, special), () if keep_sinks else sinks_of(model).positions)


def spread(texts: Sequence[Text], tokens: int | None) -> list[Text]:
    """Texts of about `tokens` tokens together, evenly spread over `texts` and at least one; all of them for None."""
    held = sum(len(text.ids) for text in texts)
    if tokens is None or tokens >= held:
        return list(texts)
    count = max(1, round(len(texts) * tokens / held))
    return [texts[(2 * i + 1) * len(texts) // (2 * count)] for i in range(count)]
