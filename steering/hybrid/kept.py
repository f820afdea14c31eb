"""Adapting a bank to shifts that stay in the cache, so that a hybrid needs one reading per token.

Decoding forgets a shifted reading; where it is kept instead (`Controller.revert` off), every later token attends to it, and a bank trained
on single predictions can derail the text. Here a trained bank goes on training on whole texts:

1. Every disagreement of a text is shifted in one pass, and every token from the first one on is predicted with those shifts in its past.
2. The loss is cross-entropy at disagreements, averaged per category, plus the mean cross-entropy of the other tokens behind a shift.
3. The layers up to the site do not depend on the shifts; they are read once and kept while memory allows. The best epoch on held-out
   texts is kept, which may be the bank as it came.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BadInput
from ..extraction.optimised import still
from ..model.gradients import differentiable
from ..model.models import LoadedModel
from .disagreement import Disagreements
from .isolated import first_layer
from .shift import PARTS, ShiftBank, coefficients
from .training import KEEP_BYTES, Recipe


class _Texts:
    """Texts in minibatches: what enters the layer above the site, and where it is shifted."""

    def __init__(self, model: LoadedModel, bank: ShiftBank, data: Disagreements, size: int, generator: torch.Generator):
        order = torch.randperm(len(data.texts), generator=generator).tolist()
        used = [index for index in order if data.positions[index]]
        self.chunks = [used[i : i + size] for i in range(0, len(used), size)]
        self.model, self.site, self.data = model, bank.site, data
        model.rope.check_short([len(text) for text in data.texts])
        self.first = first_layer(model, bank.site)
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    def hidden(self, number: int) -> Tensor:
        """Unshifted activations at the site, `[texts, tokens, d]`, right-padded."""
        if number in self._kept:
            return self._kept[number]
        found: dict[str, Tensor] = {}

        def read(hidden: Tensor) -> None:
            found["hidden"] = hidden.detach().clone()

        with torch.no_grad(), differentiable(self.model, {self.site: read}) as run:
            run(input_ids=self.ids(number), attention_mask=self.mask(number), use_cache=False)
        size = found["hidden"].numel() * found["hidden"].element_size()
        if self._bytes + size <= KEEP_BYTES:
            self._kept[number] = found["hidden"]
            self._bytes += size
        return found["hidden"]

    def ids(self, number: int) -> Tensor:
        texts = [self.data.texts[i] for i in self.chunks[number]]
        ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        return ids.to(self.model.device)

    def mask(self, number: int) -> Tensor:
        lengths = torch.tensor([len(self.data.texts[i]) for i in self.chunks[number]])
        return (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long().to(self.model.device)

    def places(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, positions and categories of the minibatch's disagreements."""
        flat = [
            (row, p, c)
            for row, i in enumerate(self.chunks[number])
            for p, c in zip(self.data.positions[i], self.data.categories[i], strict=True)
        ]
        table = torch.tensor(flat, device=self.model.device)
        return table[:, 0], table[:, 1], table[:, 2]

    def behind(self, number: int) -> Tensor:
        """`[texts, tokens - 1]` bool: positions from the first disagreement on whose next token is no disagreement's."""
        mask = self.mask(number)[:, 1:].bool()
        rows, positions, _ = self.places(number)
        first = torch.full((len(mask),), mask.shape[1], device=mask.device)
        first = first.scatter_reduce(0, rows, positions, "amin")
        after = torch.arange(mask.shape[1], device=mask.device)[None] >= first[:, None]
        own = torch.zeros_like(mask)
        own[rows, positions] = True
        return mask & after & ~own


def adapt_to_cache(
    model: LoadedModel,
    bank: ShiftBank,
    training: Disagreements,
    held_out: Disagreements,
    recipe: Recipe | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> ShiftBank:
    """The bank, trained further for shifts that stay. Raises BadInput when a side has no disagreement."""
    recipe = recipe or Recipe(epochs=4)
    for name, data in (("training", training), ("held-out", held_out)):
        if not data.n:
            raise BadInput(f"The models never disagree on the {name} texts, so there is nothing to adapt to.")
    generator = torch.Generator().manual_seed(recipe.seed)
    inner, outer = (_Texts(model, bank, data, recipe.texts, generator) for data in (training, held_out))
    unit = float(bank.provenance.get("unit", 1.0))
    parts = [getattr(bank, name).clone() for name in PARTS]
    parts[0], parts[1] = parts[0] / unit, parts[1] * unit
    parts = [part.requires_grad_() for part in parts]
    groups = [{"params": parts[:1], "lr": recipe.vectors_rate}, {"params": parts[1:], "lr": recipe.network_rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    with torch.inference_mode(False), torch.enable_grad(), still(model):
        best, kept, at = _assess(outer, parts, unit), [part.detach().clone() for part in parts], 0
        history = [best]
        for epoch in range(1, recipe.epochs + 1):
            for number in torch.randperm(len(inner.chunks), generator=generator).tolist():
                optimiser.zero_grad()
                text_loss(inner, number, parts, unit).backward()
                torch.nn.utils.clip_grad_norm_(parts[1:], recipe.clip)
                optimiser.step()
            loss = _assess(outer, parts, unit)
            history.append(loss)
            if loss < best:
                best, kept, at = loss, [part.detach().clone() for part in parts], epoch
            if on_epoch is not None:
                on_epoch(epoch, recipe.epochs)
    kept[0], kept[1] = kept[0] * unit, kept[1] / unit
    facts = {
        **bank.provenance,
        "adapted": "to shifts that stay in the cache",
        "parent": bank.digest,
        "adapted_at": at,
        "losses": history,
    }
    return replace(bank, **dict(zip(PARTS, kept, strict=True)), provenance=facts)


def text_loss(texts: _Texts, number: int, parts: list[Tensor], unit: float) -> Tensor:
    """Loss of one minibatch with every disagreement shifted, in nats."""
    hidden = texts.hidden(number)
    rows, positions, categories = texts.places(number)
    here = hidden[rows, positions].float()
    shift = unit * coefficients(here / unit, categories, *parts[1:])[:, None] * parts[0][categories]
    shifted = hidden.index_put((rows, positions), shift.to(hidden), accumulate=True)
    ids = texts.ids(number)
    with differentiable(texts.model, resume=(texts.first, shifted)) as run:
        logits = run(input_ids=ids, attention_mask=texts.mask(number), use_cache=False).logits[:, :-1]
    each = F.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")
    present, inverse, counts = categories.unique(return_inverse=True, return_counts=True)
    loss = (each[rows, positions] / counts[inverse]).sum() / len(present)
    behind = texts.behind(number)
    return loss + each[behind].mean() if bool(behind.any()) else loss


@torch.no_grad()
def _assess(texts: _Texts, parts: list[Tensor], unit: float) -> float:
    return sum(float(text_loss(texts, number, parts, unit)) for number in range(len(texts.chunks))) / len(texts.chunks)
