"""Training a bank in the frozen base: shifts that make the base predict the thinking model's token (2510.07364, App. E.2).

1. Only positions where the base's greedy token is not the rollout's next token count; each is shifted alone, with the base's unsteered
   activation read by the coefficient network (`isolated`), which is how decoding uses it.
2. The loss of a minibatch is cross-entropy, averaged within each category and then over the categories present, so that a rare category
   weighs as much as a common one.
3. AdamW: vectors 1e-2, network 1e-3, weight decay 0.01, the network's gradient cut to norm 1; texts in batches of 4, at most 10
   epochs. Each category is saved at its own best epoch on held-out texts; training stops when none has improved for 5 epochs.
4. Vectors and the network's input are trained in units of the stream: the root mean square of its coordinates at the training positions.
   Rates and starting values then mean the same at any scale (alpha starts near 1); where that is 1, they are the paper's.
5. The model's weights are left as they are. The same seed gives the same bank.

The paper does not say how V starts; here as its network, Xavier-uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BadInput
from ..extraction.optimised import still
from ..model.models import LoadedModel
from ..model.sites import Site
from .disagreement import Disagreements
from .isolated import Kept, first_layer, read_again, read_once
from .shift import ShiftBank, coefficients

KEEP_BYTES = 2 * 2**30
"""Texts read once are kept over epochs as long as they take less than this; the rest is read anew."""


@dataclass(frozen=True)
class Recipe:
    """How a bank is trained; defaults are the paper's."""

    epochs: int = 10
    texts: int = 4
    """Texts of a minibatch. Which texts go together is drawn once, their order anew in every epoch."""
    vectors_rate: float = 1e-2
    network_rate: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    hidden: int = 512
    patience: int = 5
    seed: int = 42


@dataclass(frozen=True)
class Fit:
    """A trained bank and how it got there."""

    bank: ShiftBank
    history: tuple[dict[str, Any], ...]
    """Per epoch: `epoch`, `training` loss in nats, `held_out` loss per category (None where a category has no held-out position)."""
    best: tuple[int, ...]
    """Epoch at which each category was saved; 0 is before training."""
    match_rate: float
    """Share of held-out positions at which the shifted base predicts the thinking model's token."""
    unshifted_match_rate: float
    """The same without a shift: 0 by construction of the positions."""
    held_out: int
    """Held-out positions."""


class _Data:
    """Disagreements in minibatches, each read once and kept while memory allows."""

    def __init__(self, model: LoadedModel, site: Site, data: Disagreements, size: int, generator: torch.Generator):
        order = torch.randperm(len(data.texts), generator=generator).tolist()
        used = [index for index in order if data.positions[index]]
        self.chunks = [used[i : i + size] for i in range(0, len(used), size)]
        self.model, self.site, self.data = model, site, data
        self._kept: dict[int, Kept] = {}
        self._bytes = 0
        self.unit = 1.0

    def root_mean_square(self) -> float:
        """Of the coordinates of the stream at the positions."""
        total, count = 0.0, 0
        for number in range(len(self.chunks)):
            hidden = self.batch(number)[0].hidden
            total, count = total + float(hidden.double().square().sum()), count + hidden.numel()
        return (total / count) ** 0.5

    def batch(self, number: int) -> tuple[Kept, Tensor, Tensor]:
        """What second readings need, targets `[n]` and categories `[n]` of one minibatch."""
        chunk, data, device = self.chunks[number], self.data, self.model.device
        kept = self._kept.get(number)
        if kept is None:
            kept = read_once(self.model, [data.texts[i] for i in chunk], [data.positions[i] for i in chunk], self.site)
            if self._bytes + kept.bytes <= KEEP_BYTES:
                self._kept[number] = kept
                self._bytes += kept.bytes
        flat = [(t, c) for i in chunk for t, c in zip(data.targets[i], data.categories[i], strict=True)]
        table = torch.tensor(flat, device=device)
        return kept, table[:, 0], table[:, 1]


def fit_bank(
    model: LoadedModel,
    site: Site,
    training: Disagreements,
    held_out: Disagreements,
    k: int,
    recipe: Recipe | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> Fit:
    """Train vectors and coefficients of `k` categories at `site` of the base `model`.

    Raises BadInput when a side has no disagreement, a category lies outside `k`, or the site is not between two layers.
    """
    recipe = recipe or Recipe()
    first_layer(model, model.layout.check(site))
    for name, data in (("training", training), ("held-out", held_out)):
        if not data.n:
            raise BadInput(
                f"The models never disagree on the {name} texts, so there is nothing to train on; give more rollouts."
            )
        if max(max(c, default=0) for c in data.categories) >= k:
            raise BadInput(f"The {name} positions name a category beyond {k}.")
    generator = torch.Generator().manual_seed(recipe.seed)
    parts = _start(k, model.d_model, recipe.hidden, generator, model.device)
    inner, outer = (_Data(model, site, data, recipe.texts, generator) for data in (training, held_out))
    groups = [{"params": parts[:1], "lr": recipe.vectors_rate}, {"params": parts[1:], "lr": recipe.network_rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    history: list[dict[str, Any]] = []
    inner.unit = outer.unit = inner.root_mean_square()
    with torch.inference_mode(False), torch.enable_grad(), still(model):
        losses, _ = _assess(outer, parts, k)
        best, since = list(losses), 0
        saved = [[part.detach().clone() for part in parts]] * k
        epochs = [0] * k
        history.append({"epoch": 0, "training": None, "held_out": losses})
        for epoch in range(1, recipe.epochs + 1):
            total = 0.0
            for number in torch.randperm(len(inner.chunks), generator=generator).tolist():
                optimiser.zero_grad()
                loss = _loss(inner, number, parts)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parts[1:], recipe.clip)
                optimiser.step()
                total += float(loss.detach())
            losses, _ = _assess(outer, parts, k)
            history.append({"epoch": epoch, "training": total / len(inner.chunks), "held_out": losses})
            snapshot, improved = [part.detach().clone() for part in parts], False
            for c, loss_c in enumerate(losses):
                if (
                    loss_c is None or best[c] is None or loss_c < best[c]
                ):  # a category without held-out positions: the last epoch
                    best[c], saved[c], epochs[c] = loss_c, snapshot, epoch
                    improved |= loss_c is not None
            since = 0 if improved else since + 1
            if on_epoch is not None:
                on_epoch(epoch, recipe.epochs)
            if since >= recipe.patience:
                break
        final = _assembled(saved)
        _, hits = _assess(outer, final, k)
    facts = {
        "method": "vectors and coefficients on disagreements, each position shifted alone (2510.07364 v4)",
        "model": model.fingerprint,
        "recipe": asdict(recipe),
        "positions": training.n,
        "positions_per_category": training.per_category(k),
        "best_epoch": epochs,
        "match_rate": hits / held_out.n,
        "unit": inner.unit,
    }
    vectors, trunk, *network = final
    bank = ShiftBank(site, vectors * inner.unit, trunk / inner.unit, *network, provenance=facts)  # type: ignore[misc]
    return Fit(bank, tuple(history), tuple(epochs), hits / held_out.n, 0.0, held_out.n)


@torch.no_grad()
def mean_effect(model: LoadedModel, bank: ShiftBank, data: Disagreements, texts: int = 16) -> Tensor:
    """What the bank's shifts do to the base's logits on average, per category: `[K, vocabulary]` float32, zero where there is no position.

    Added to logits in place of a shift, it is the control that asks whether steering the stream does more than a fixed preference.
    """
    total = torch.zeros(bank.k, model.model.get_output_embeddings().weight.shape[0], device=model.device)
    counts = torch.zeros(bank.k, device=model.device)
    with still(model):
        used = [index for index in range(len(data.texts)) if data.positions[index]]
        for start in range(0, len(used), texts):
            chunk = used[start : start + texts]
            kept = read_once(model, [data.texts[i] for i in chunk], [data.positions[i] for i in chunk], bank.site, True)
            categories = torch.tensor([c for i in chunk for c in data.categories[i]], device=model.device)
            assert kept.logits is not None
            moved = read_again(model, kept, kept.hidden + bank.shift(kept.hidden, categories)[0].to(kept.hidden))
            total.index_add_(0, categories, moved - kept.logits)
            counts.index_add_(0, categories, torch.ones_like(categories, dtype=torch.float32))
    return total / counts.clamp_min(1)[:, None]


def _start(k: int, d: int, hidden: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
    """V, trunk, its bias, heads, theirs: Xavier-uniform, biases 0.5."""

    def xavier(rows: int, columns: int) -> Tensor:
        bound = (6 / (rows + columns)) ** 0.5
        return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound

    found = [
        xavier(k, d), xavier(hidden, d)[None], torch.full((1, hidden), 0.5), xavier(k, hidden), torch.full((k,), 0.5),
    ]  # fmt: skip
    return [part.to(device).requires_grad_() for part in found]


def _predictions(data: _Data, kept: Kept, categories: Tensor, parts: Sequence[Tensor]) -> Tensor:
    hidden = kept.hidden.float()
    alpha = coefficients(hidden / data.unit, categories, *parts[1:])
    return read_again(data.model, kept, hidden + data.unit * alpha[:, None] * parts[0][categories])


def _loss(data: _Data, number: int, parts: Sequence[Tensor]) -> Tensor:
    kept, targets, categories = data.batch(number)
    each = F.cross_entropy(_predictions(data, kept, categories, parts), targets, reduction="none")
    present, inverse, counts = categories.unique(return_inverse=True, return_counts=True)
    return (each / counts[inverse]).sum() / len(present)


@torch.no_grad()
def _assess(data: _Data, parts: Sequence[Tensor], k: int) -> tuple[list[float | None], int]:
    """Mean cross-entropy per category, and how many positions predict their target."""
    total, counts, hits = torch.zeros(k), torch.zeros(k), 0
    for number in range(len(data.chunks)):
        kept, targets, categories = data.batch(number)
        logits = _predictions(data, kept, categories, parts)
        each = F.cross_entropy(logits, targets, reduction="none")
        total.index_add_(0, categories.cpu(), each.cpu())
        counts.index_add_(0, categories.cpu(), torch.ones(len(targets)))
        hits += int((logits.argmax(-1) == targets).sum())
    return [float(t / n) if n else None for t, n in zip(total, counts, strict=True)], hits


def _assembled(saved: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """One bank of categories that were saved at epochs of their own."""
    vectors, trunk, trunk_bias, heads, heads_bias = (list(parts) for parts in zip(*saved, strict=True))
    own = range(len(saved))
    shared = all(parts is saved[0] for parts in saved)
    return [
        torch.stack([vectors[c][c] for c in own]),
        trunk[0] if shared else torch.cat(trunk),
        trunk_bias[0] if shared else torch.cat(trunk_bias),
        torch.stack([heads[c][c] for c in own]),
        torch.stack([heads_bias[c][c] for c in own]),
    ]
