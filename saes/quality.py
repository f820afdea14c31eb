"""How good an autoencoder is on texts it was not trained on: sparsity, reconstruction, and what it costs the model.

1. One pass over the texts for the numbers of the autoencoder, and three forward passes per batch for the loss: as it is, with the
   reconstruction in place of the activation, and with zeros in place of it. Nothing is kept between batches.
2. Special tokens and attention sinks are neither counted nor replaced: the model's BOS activation stays its own. What they hold is told
   beside it, and an autoencoder that has learned them and little else is said to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.hooks import Edit, hooked
from steering.model.models import LoadedModel
from steering.model.sinks import RATIO

from .corpus import Text, encoded
from .dictionary import Dictionary

APART = 0.2
"""Difference of explained variance, with sinks and without, from which on a remark is made."""
DENSE = 0.1
"""A latent active on more than this share of the tokens is dense."""


@dataclass(frozen=True)
class Quality:
    """Measured over `tokens` tokens."""

    tokens: int
    l0: float
    """Latents active per token, mean."""
    explained_variance: float
    """1 - Σ‖h - ĥ‖² / Σ‖h - mean‖²."""
    cosine: float
    """Of h and ĥ, mean over tokens."""
    dead: float
    """Share of latents never active on these tokens."""
    dense: float
    """Share of latents active on more than a tenth of the tokens."""
    loss: float
    """Cross-entropy of the next token in nats, the model as it is."""
    spliced_loss: float
    """With the reconstruction in place of the activation."""
    ablated_loss: float
    """With zeros in place of the activation."""
    explained_variance_all: float = float("nan")
    """The same with every token but padding, attention sinks and special tokens among them."""
    outlier_share: float = float("nan")
    """Share of Σ‖h‖² over every token that lies in tokens at least ten times as long as the median one."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should not miss, a sentence each."""
        found = []
        if self.explained_variance_all - self.explained_variance > APART:
            found.append(
                f"It explains {self.explained_variance_all:.0%} of the variance of all tokens and {self.explained_variance:.0%} without "
                f"attention sinks and special tokens, which hold {self.outlier_share:.0%} of the squared length: it has learned those few "
                f"positions. Train without them."
            )
        return tuple(found)

    @property
    def recovered(self) -> float:
        """(ablated - spliced) / (ablated - clean): the share of the loss that the reconstruction keeps from being lost."""
        gap = self.ablated_loss - self.loss
        return (self.ablated_loss - self.spliced_loss) / gap if gap > 0 else float("nan")


def assess_dictionary(
    model: LoadedModel, dictionary: Dictionary, texts: Sequence[Text], *, batch_size: int = 16
) -> Quality:
    """Read `texts` through the autoencoder. Raises BadInput when they hold no token that counts, or as `encoded`."""
    total = torch.zeros(dictionary.width, dtype=torch.float64)
    fired = torch.zeros(dictionary.latents, dtype=torch.float64)
    model.rope.check_together([len(text.ids) for text in texts])
    tokens, squares, missed, cosines = 0, 0.0, 0.0, 0.0
    losses, predicted, every = [0.0, 0.0, 0.0], 0, _Every(dictionary.width)
    for batch in encoded(model, dictionary, texts, batch_size=batch_size):
        real = _real([texts[i].ids for i in batch.texts], batch.mask)
        whole, all_near = (
            batch.activations[real].double(),
            dictionary.reconstruct(batch.activations[real]).cpu().double(),
        )
        every.add(whole, all_near)
        counted = batch.mask[real]
        h, near, z = whole[counted], all_near[counted], batch.latents[batch.mask]
        tokens += len(h)
        total += h.sum(0)
        squares += float((h**2).sum())
        missed += float(((h - near) ** 2).sum())
        cosines += float(torch.cosine_similarity(h, near, dim=-1).sum())
        fired += (z != 0).sum(0)
        count, sums = _losses(model, dictionary, [texts[i].ids for i in batch.texts], batch.mask)
        predicted += count
        losses = [a + b for a, b in zip(losses, sums, strict=True)]
    if not tokens or not predicted:
        raise BadInput("The texts hold special tokens only, or one token each; there is nothing to assess.")
    density = fired / tokens
    clean, spliced, ablated = (loss / predicted for loss in losses)
    return Quality(
        tokens,
        float(density.sum()),
        1 - missed / max(squares - float((total**2).sum()) / tokens, 1e-30),
        cosines / tokens,
        float((density == 0).double().mean()),
        float((density > DENSE).double().mean()),
        clean,
        spliced,
        ablated,
        every.explained,
        every.outlier_share,
    )


class _Every:
    """Sums over every token but padding."""

    def __init__(self, width: int):
        self.total, self.count, self.missed = torch.zeros(width, dtype=torch.float64), 0, 0.0
        self.squares: list[Tensor] = []

    def add(self, h: Tensor, near: Tensor) -> None:
        """Activations `[n, width]` and their reconstructions, float64."""
        self.total += h.sum(0)
        self.count += len(h)
        self.missed += float(((h - near) ** 2).sum())
        self.squares.append((h**2).sum(1))

    @property
    def explained(self) -> float:
        whole = float(torch.cat(self.squares).sum()) - float((self.total**2).sum()) / self.count
        return 1 - self.missed / max(whole, 1e-30)

    @property
    def outlier_share(self) -> float:
        squares = torch.cat(self.squares)
        return float(squares[squares >= RATIO**2 * squares.median()].sum() / squares.sum().clamp_min(1e-300))


def _real(sequences: Sequence[Sequence[int]], mask: Tensor) -> Tensor:
    """Which positions hold a token, as `mask [rows, positions]`."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return torch.arange(mask.shape[1])[None] < lengths[:, None]


@torch.inference_mode()
def _losses(
    model: LoadedModel, dictionary: Dictionary, sequences: list[tuple[int, ...]], mask: Tensor
) -> tuple[int, list[float]]:
    """Predicted tokens, and summed cross-entropy: as it is, reconstructed, zeroed."""
    ids = torch.zeros(mask.shape, dtype=torch.long)
    real = torch.zeros(mask.shape, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        real[row, : len(sequence)] = True
    ids, real, counted = ids.to(model.device), real.to(model.device), mask.to(model.device)[..., None]

    def reconstruction(hidden: Tensor) -> Tensor:
        return torch.where(counted, dictionary.reconstruct(hidden).to(hidden), hidden)

    def zero(hidden: Tensor) -> Tensor:
        return torch.where(counted, 0.0, hidden)

    edits: list[dict[Any, Edit]] = [{}, {dictionary.site: reconstruction}, {dictionary.site: zero}]
    target = real[:, 1:]
    sums = []
    for edit in edits:
        with hooked(model.layout, edit):
            logits = model.model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        sums.append(float(loss[target].double().sum()))
    return int(target.sum()), sums
