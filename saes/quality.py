"""How good an autoencoder is on texts it was not trained on: sparsity, reconstruction, and what it costs the model.

1. One pass over the texts for the numbers of the autoencoder, and four whole forward passes for the loss: as it is, and with the
   reconstruction, with zeros and with the mean activation in place of the activation. Nothing is kept between batches.
2. Special tokens and attention sinks are neither counted nor replaced: the model's BOS activation stays its own. What they hold is told
   beside it, and an autoencoder that has learned them and little else is said to.
3. The interval of the explained variance is over texts: neighbouring texts, which may be pieces of one, are left out together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.hooks import Edit, hooked
from steering.model.models import LoadedModel
from steering.model.sinks import RATIO

from .corpus import Text, counted, encoded, padded, spread
from .dictionary import Dictionary
from .estimates import jackknifed

APART = 0.2
"""Difference of explained variance, with sinks and without, from which on a remark is made."""
DENSE = 0.1
"""A latent active on more than this share of the tokens is dense."""
GROUPS = 50
"""Groups of neighbouring texts that the interval of the explained variance leaves out one by one; fewer texts are groups of their own."""


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
    explained_variance_low: float = float("nan")
    """95 % interval of `explained_variance` over texts, by the jackknife over groups of neighbouring ones; NaN for fewer than two texts."""
    explained_variance_high: float = float("nan")
    text_low: float = float("nan")
    """Explained variance of single texts, each about its own mean: their 2.5th and 97.5th percentile."""
    text_high: float = float("nan")
    mean_ablated_loss: float = float("nan")
    """With the mean activation of the texts in place of the activation."""
    loss_tokens: int = 0
    """Predicted tokens that the losses were measured on."""

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
        return self._kept(self.ablated_loss)

    @property
    def recovered_of_mean(self) -> float:
        """The same against the mean activation in place of zeros: the stricter of the two."""
        return self._kept(self.mean_ablated_loss)

    def _kept(self, ablated: float) -> float:
        gap = ablated - self.loss
        return (ablated - self.spliced_loss) / gap if gap > 0 else float("nan")


def assess_dictionary(
    model: LoadedModel,
    dictionary: Dictionary,
    texts: Sequence[Text],
    *,
    batch_size: int = 16,
    loss_tokens: int | None = None,
) -> Quality:
    """Read `texts` through the autoencoder. `loss_tokens`: measure the losses, which take whole passes through the model, on texts of
    about so many tokens, spread evenly; by default on all.

    Raises BadInput when they hold no token that counts, or as `encoded`.
    """
    model.rope.check_together([len(text.ids) for text in texts])
    fired = torch.zeros(dictionary.latents, dtype=torch.float64)
    cosines, every, sums = 0.0, _Every(dictionary.width), _Sums(dictionary.width, len(texts))
    for batch in encoded(model, dictionary, texts, batch_size=batch_size):
        _, real = padded([texts[i].ids for i in batch.texts], batch.mask.shape[1])
        whole = batch.activations[real].double()
        near = dictionary.reconstruct(batch.activations[real]).cpu().double()
        every.add(whole, near)
        own = torch.arange(len(real))[:, None].expand_as(real)[real]
        for row, number in enumerate(batch.texts):
            mine = batch.mask[real] & (own == row)
            sums.add(number, whole[mine], near[mine])
        kept = batch.mask[real]
        cosines += float(torch.cosine_similarity(whole[kept], near[kept], dim=-1).sum())
        fired += (batch.latents[batch.mask] != 0).sum(0)
    read = spread(texts, loss_tokens)
    mean = (sums.total.sum(0) / max(sums.tokens, 1)).float()
    losses, predicted = torch.zeros(4, dtype=torch.float64), 0
    for start in range(0, len(read), batch_size):
        count, found = _losses(model, dictionary, [text.ids for text in read[start : start + batch_size]], mean)
        predicted, losses = predicted + count, losses + found
    if not sums.tokens or not predicted:
        raise BadInput("The texts hold special tokens only, or one token each; there is nothing to assess.")
    density, (clean, spliced, zeroed, averaged) = fired / sums.tokens, (losses / predicted).tolist()
    low, high = sums.interval()
    text_low, text_high = sums.of_texts()
    return Quality(
        tokens=sums.tokens,
        l0=float(density.sum()),
        explained_variance=sums.explained,
        cosine=cosines / sums.tokens,
        dead=float((density == 0).double().mean()),
        dense=float((density > DENSE).double().mean()),
        loss=clean,
        spliced_loss=spliced,
        ablated_loss=zeroed,
        explained_variance_all=every.explained,
        outlier_share=every.outlier_share,
        explained_variance_low=low,
        explained_variance_high=high,
        text_low=text_low,
        text_high=text_high,
        mean_ablated_loss=averaged,
        loss_tokens=predicted,
    )


class _Sums:
    """Sums over the tokens that count, by groups of neighbouring texts."""

    def __init__(self, width: int, texts: int):
        self.groups, self._texts = min(GROUPS, texts), texts
        self.total = torch.zeros(self.groups, width, dtype=torch.float64)
        self.parts = torch.zeros(self.groups, 3, dtype=torch.float64)
        """Tokens, Σ‖h‖², Σ‖h - ĥ‖²."""
        self.single: list[float] = []

    @property
    def tokens(self) -> int:
        return int(self.parts[:, 0].sum())

    def add(self, number: int, h: Tensor, near: Tensor) -> None:
        """The tokens `[n, width]` of one text, float64."""
        group = number * self.groups // self._texts
        part = torch.tensor([len(h), float((h**2).sum()), float(((h - near) ** 2).sum())], dtype=torch.float64)
        self.total[group] += h.sum(0)
        self.parts[group] += part
        if len(h) > 1:
            self.single.append(_explained(h.sum(0), part))

    @property
    def explained(self) -> float:
        return _explained(self.total.sum(0), self.parts.sum(0))

    def interval(self) -> tuple[float, float]:
        total, parts = self.total.sum(0), self.parts.sum(0)
        without = [[_explained(total - t, parts - p)] for t, p in zip(self.total, self.parts, strict=True)]
        found = jackknifed(np.array([self.explained]), np.array(without))
        return float(found.low[0]), float(found.high[0])

    def of_texts(self) -> tuple[float, float]:
        if len(self.single) < 2:
            return float("nan"), float("nan")
        low, high = np.quantile(self.single, [0.025, 0.975])
        return float(low), float(high)


def _explained(total: Tensor, parts: Tensor) -> float:
    """Of tokens whose sum is `total [width]`, with `parts`: how many, Σ‖h‖², Σ‖h - ĥ‖²."""
    count, squares, missed = parts.tolist()
    return 1 - missed / max(squares - float((total**2).sum()) / max(count, 1), 1e-30)


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


@torch.inference_mode()
def _losses(
    model: LoadedModel, dictionary: Dictionary, sequences: Sequence[Sequence[int]], mean: Tensor
) -> tuple[int, Tensor]:
    """Predicted tokens, and summed cross-entropy `[4]`: as it is, reconstructed, zeroed, averaged."""
    ids, real = padded(sequences)
    replaced = counted(model, ids, real).to(model.device)[..., None]
    ids, real = ids.to(model.device), real.to(model.device)

    def instead(value: Callable[[Tensor], Tensor | float]) -> dict[Any, Edit]:
        def edit(hidden: Tensor) -> Tensor:
            new = value(hidden)
            return torch.where(replaced, new.to(hidden) if isinstance(new, Tensor) else new, hidden)

        return {dictionary.site: edit}

    edits: list[dict[Any, Edit]] = [
        {},
        instead(dictionary.reconstruct),
        instead(lambda _: 0.0),
        instead(lambda _: mean),
    ]
    target = real[:, 1:]
    sums = []
    for edit in edits:
        with hooked(model.layout, edit):
            logits = model.model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        sums.append(float(loss[target].double().sum()))
    return int(target.sum()), torch.tensor(sums, dtype=torch.float64)
