"""Training thoughts (Quiet-STaR, 2403.09629): those are made likelier that make the text's next tokens likelier than other thoughts do.

1. Every text is read with `passes` thoughts at every token. A thought earns the log-likelihood of the next tokens, mixed, minus the mean of
   the token's thoughts; only thoughts that earn more than that are learned from (REINFORCE, `-max(r, 0) log p(thought)`).
2. The mixed likelihood of the text is trained on too. Without the first term thoughts are places to compute in; without thoughts the same
   texts are read plainly.
3. A state is everything that the next update depends on, so that a training which is stopped ends with the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from steering.errors import BadInput, unknown

from ...pair.supervised import Taught
from .thoughts import Shape, extras, passed, sampled

KINDS = ("thoughts", "unrewarded", "plain")
MODEL = "model."
"""Before the names of the model's own weights."""


@dataclass(frozen=True)
class Thinking:
    """How thoughts are trained. Raises BadInput."""

    kind: Literal["thoughts", "unrewarded", "plain"] = "thoughts"
    updates: int = 30
    passes: int = 2
    """Thoughts of every token."""
    shape: Shape = Shape(4, 4)
    rate: float = 1e-4
    """Adam's step of the weights; start, end and head take ten times it."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        if self.passes < 2:
            raise BadInput(
                f"passes {self.passes}: a thought is weighed against another one of its token; give at least 2."
            )
        for name in ("updates", "rate"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} {getattr(self, name)} must be above 0.")


def begin(model: Any, like: int) -> Taught:
    """Before the first update."""
    weights = {MODEL + name: value.detach().clone() for name, value in model.named_parameters()} | extras(model, like)
    return Taught(weights, {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items()})


def parts(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The model's weights by their own names, and what was added."""
    own = {name.removeprefix(MODEL): value for name, value in weights.items() if name.startswith(MODEL)}
    return own, {name: value for name, value in weights.items() if not name.startswith(MODEL)}


def think(
    start: Any, state: Taught, lesson: Callable[[int], tuple[Tensor, Tensor]], spec: Thinking, every: int = 5
) -> Iterator[Taught]:
    """Train a copy of `start` on `lesson(update)` (ids `[texts, tokens]` and lengths), from a state; yields the state every `every` updates
    and after the last one. Raises BadInput where numbers become NaN or infinite."""
    model = copy.deepcopy(start).float().train()
    named = {MODEL + name: value for name, value in model.named_parameters()}
    added = {name: value.clone().requires_grad_(True) for name, value in parts(dict(state.weights))[1].items()}
    every_weight = named | added
    with torch.no_grad():
        for name, value in named.items():
            value.copy_(state.weights[name])
            value.requires_grad_(True)
    groups = [{"params": list(named.values()), "lr": spec.rate}, {"params": list(added.values()), "lr": 10 * spec.rate}]
    opt = torch.optim.Adam(groups)
    for name, value in every_weight.items():
        mean, square = (moment.clone() for moment in state.moments[name])
        opt.state[value] = {"step": torch.tensor(float(state.updates)), "exp_avg": mean, "exp_avg_sq": square}
    curve = list(state.curve)
    while len(curve) < spec.updates:
        ids, lengths = lesson(len(curve))
        loss, shown = loss_of(model, added, ids, lengths, spec, len(curve))
        if not bool(torch.isfinite(loss)):
            raise BadInput(f"Update {len(curve)}: the loss is not finite; lower the rate ({spec.rate:g}).")
        opt.zero_grad()
        loss.backward()
        for value in every_weight.values():
            value.grad = torch.zeros_like(value) if value.grad is None else value.grad
        torch.nn.utils.clip_grad_norm_(list(every_weight.values()), 1.0)
        opt.step()
        curve.append((int(lengths.sum()), round(shown, 4)))
        if len(curve) % every == 0 or len(curve) == spec.updates:
            yield Taught(
                {name: value.detach().clone() for name, value in every_weight.items()},
                {n: (opt.state[v]["exp_avg"].clone(), opt.state[v]["exp_avg_sq"].clone()) for n, v in every_weight.items()},
                tuple(curve),
            )  # fmt: skip


def loss_of(
    model: Any, added: dict[str, Tensor], ids: Tensor, lengths: Tensor, spec: Thinking, update: int
) -> tuple[Tensor, float]:
    """What is made smaller, and the text's loss in nats per predicted token."""
    shape = spec.shape
    generator = torch.Generator().manual_seed(spec.seed * 10**6 + update)
    if spec.kind == "plain":
        told = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        there = torch.arange(1, ids.shape[1])[None] < lengths[:, None]
        loss = -(told * there).sum() / there.sum()
        return loss, float(loss.detach())
    many, long = ids.repeat_interleave(spec.passes, 0), lengths.repeat_interleave(spec.passes, 0)
    thoughts = sampled(model, added, many, shape, generator)
    found = passed(model, added, many, long, thoughts, shape)
    there = found.there.float()
    loss = -(found.mixed * there).sum() / there.sum()
    shown = float(loss.detach())
    if spec.kind == "thoughts":
        loss = loss + policy_loss(found.mixed.detach(), there, found.thought, spec.passes)
    return loss, shown


def policy_loss(mixed: Tensor, there: Tensor, thought: Tensor, passes: int) -> Tensor:
    """`-max(r, 0) log p(thought)`, mean over the tokens that predict something; all `[texts * passes, tokens, ...]`."""
    earned = (mixed * there).sum(-1)
    groups = earned.reshape(-1, passes, earned.shape[1])
    over = (groups - groups.mean(1, keepdim=True)).reshape(earned.shape)
    predicts = there[..., 0]
    return -(over.clamp(min=0) * thought * predicts).sum() / predicts.sum()
