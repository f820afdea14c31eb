"""A small network as a probe: one hidden layer, for what no linear probe can read.

1. A network can compute what the representation does not hold in usable form: read it beside the linear probe and its shuffled control.
2. Training stops where the loss on a fifth of the training groups is smallest; the weights of that epoch are kept.
3. The path is over weight decay (AdamW). Equal arguments give equal networks on one machine; the global random state is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steering.model.sites import Site

from .fitting import CONTROLS, Fitted, Origin, fit
from .methods import Layers
from .samples import Samples
from .splits import Split, grouped_folds

DECAYS = (1.0, 0.1, 0.01)
HIDDEN = 32
EPOCHS = 200
PATIENCE = 20
BATCH = 256
RATE = 3e-3


@dataclass(frozen=True)
class Network:
    """Cross-entropy by AdamW on one rectified hidden layer."""

    hidden: int = HIDDEN
    epochs: int = EPOCHS
    kind: str = "mlp"
    calibrated: bool = True
    standardise: bool = True

    @property
    def name(self) -> str:
        return f"network of {self.hidden} hidden units"

    def along(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, weight: np.ndarray, strengths: Sequence[float], seed: int
    ) -> Iterator[Layers]:
        inner, stop = grouped_folds(y, group, 5, seed)[0]
        data, label, share = torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(weight).float()
        for strength in strengths:
            yield self._trained(data, label, share, torch.from_numpy(inner), torch.from_numpy(stop), strength, seed)

    def _trained(
        self, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, inner: torch.Tensor, stop: torch.Tensor, decay: float, seed: int
    ) -> Layers:  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        classes, width = int(y.max()) + 1, x.shape[1]
        sizes = [(self.hidden, width), (classes, self.hidden)]
        weights = [torch.randn(s, generator=generator) * (2 / s[1]) ** 0.5 for s in sizes]
        parts = [*weights, *(torch.zeros(s[0]) for s in sizes)]
        for part in parts:
            part.requires_grad_()
        optimiser = torch.optim.AdamW(parts, lr=RATE, weight_decay=decay)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            hidden = torch.nn.functional.linear(x[rows], parts[0], parts[2]).relu()
            logits = torch.nn.functional.linear(hidden, parts[1], parts[3])
            each = torch.nn.functional.cross_entropy(logits, y[rows], reduction="none")
            return (each * weight[rows]).sum() / weight[rows].sum()

        best, kept, waited = float("inf"), [p.detach().clone() for p in parts], 0
        for _ in range(self.epochs):
            for rows in inner[torch.randperm(len(inner), generator=generator)].split(BATCH):
                optimiser.zero_grad()
                loss(rows).backward()
                optimiser.step()
            with torch.no_grad():
                now = float(loss(stop))
            waited += 1
            if now < best:
                best, kept, waited = now, [p.detach().clone() for p in parts], 0
            if waited >= PATIENCE:
                break
        arrays = [p.double().numpy() for p in kept]
        return Layers((arrays[0], arrays[1]), (arrays[2], arrays[3]))


def fit_mlp(
    X: Any, y: Any, *, groups: Sequence[object], site: Site | str, classes: Sequence[str] | None = None, balanced: bool = True,
    seed: int = 0, held_out: float = 0.25, decays: Sequence[float] = DECAYS, hidden: int = HIDDEN, folds: int = 3,
    controls: int = CONTROLS, tokens: np.ndarray | None = None, origin: Origin | None = None, split: Split | None = None,
) -> Fitted:  # fmt: skip
    """A network of `hidden` units on standardised `X [n, d]`; arguments and errors as `fitting.fit_logistic`."""
    return fit(Samples.of(X, y, groups, classes), Network(hidden), decays, site, balanced=balanced, seed=seed, held_out=held_out,
               folds=folds, controls=controls, tokens=tokens, origin=origin, split=split)  # fmt: skip
