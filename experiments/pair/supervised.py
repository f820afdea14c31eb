"""Supervised training that goes on from given weights: the loop of pretraining, by document, with any start and any documents.

1. A state is everything that the next update depends on, so that a training which is stopped ends with the same bits.
2. What is read at an update is a function of its number alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from .by_document import document_loss, prepare
from .corpus import Batch
from .pretrain import lr_scale, optimiser, update


@dataclass(frozen=True)
class Supervised:
    """How a training runs: updates, and the learning rate at its plateau (`lr_scale`)."""

    updates: int
    rate: float


@dataclass(frozen=True, eq=False)
class Taught:
    """Weights by name, moments of Adam (mean, square) by name, and what was read so far."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, tuple[Tensor, Tensor]]
    curve: tuple[tuple[int, float], ...] = ()
    """Per update: tokens read, padding not counted, and the loss before it in nats per token."""

    @property
    def updates(self) -> int:
        return len(self.curve)

    @property
    def tokens(self) -> int:
        return sum(tokens for tokens, _ in self.curve)


def begin(weights: Mapping[str, Tensor]) -> Taught:
    """Before the first update."""
    return Taught(weights, {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items()})


def supervise(
    start: Qwen2ForCausalLM, state: Taught, lesson: Callable[[int], Batch], spec: Supervised, every: int = 20
) -> Iterator[Taught]:
    """Train a copy of `start` on `lesson(update)`, from a state; yields the state every `every` updates and after the last one."""
    model = copy.deepcopy(start).float().train()
    prepare(model)
    named = dict(model.named_parameters())
    opt = optimiser(model, spec.rate)
    with torch.no_grad():
        for name, weight in named.items():
            weight.copy_(state.weights[name])
            weight.requires_grad_(True)
            mean, square = (moment.clone() for moment in state.moments[name])
            step = torch.tensor(float(state.updates))
            opt.state[weight] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
    curve = list(state.curve)
    while len(curve) < spec.updates:
        rate = spec.rate * lr_scale((len(curve) + 1) / spec.updates, warmup=0.1, decay_from=0.5)
        loss, tokens = update(model, opt, lesson(len(curve)), rate, document_loss)
        curve.append((tokens, round(loss, 4)))
        if len(curve) % every == 0 or len(curve) == spec.updates:
            moments = {
                n: (opt.state[w]["exp_avg"].clone(), opt.state[w]["exp_avg_sq"].clone()) for n, w in named.items()
            }
            yield Taught({n: w.detach().clone() for n, w in named.items()}, moments, tuple(curve))
