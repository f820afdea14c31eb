"""Extraction by optimisation: the vector that, added to the residual stream, makes given continuations likely or unlikely
(arXiv 2502.18862: one example is enough to try).

1. Promoting y after x minimises -sum_t log p(y_t | x, y_<t); suppressing it minimises -sum_t log(1 - p(y_t | x, y_<t)). Targets' losses
   are added. Each continuation is read in one teacher-forced pass.
2. The vector is added at one site over one span, with the spans and positions of a plan: the result, applied as `add` at dose 1 in vector
   norms over the same span, is what was optimised.
3. Adam on the vector alone. After each step its norm is left (`free`), cut to `norm` (`at_most`, as published) or set to it (`exactly`).
4. The model's weights and their gradients are as before, and no hook is left, whatever happens.
5. The same settings and seed give the same vector. The loss before each step and after the last one is kept in the notes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..compile.coverage import continued
from ..errors import BadInput, unknown
from ..model.gradients import differentiable
from ..model.models import LoadedModel
from ..model.sites import Site
from ..plan.plan import Span
from ..vector.vectors import Provenance, SteeringVector

CONSTRAINTS = ("free", "at_most", "exactly")


@dataclass(frozen=True)
class Example:
    """A prompt (ids as fed, with BOS) and continuations (ids) to make likelier or less likely."""

    prompt_ids: tuple[int, ...]
    promote: tuple[tuple[int, ...], ...] = ()
    suppress: tuple[tuple[int, ...], ...] = ()
    negated: bool = False
    """Add the vector's negative on this example, so that one vector serves both directions."""


@dataclass(frozen=True)
class Descent:
    """How the vector is found."""

    steps: int = 100
    learning_rate: float = 0.1
    start_norm: float = 1.0
    """Norm of the random vector to start from, in residual-stream units."""
    constraint: Literal["free", "at_most", "exactly"] = "free"
    norm: float | None = None
    target_loss: float | None = None
    """Stop once the summed loss is at most this, in nats."""
    logit_scale: float = 1.0
    """Logits are multiplied by this before the softmax; the authors' code uses 0.7, which keeps gradients alive near probability 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.constraint not in CONSTRAINTS:
            raise unknown("norm constraint", self.constraint, CONSTRAINTS)
        if (self.norm is None) != (self.constraint == "free") or (self.norm is not None and not self.norm > 0):
            raise BadInput(
                f"Constraint {self.constraint!r} with norm {self.norm}: give a norm above 0, or 'free' and none."
            )
        for name in ("steps", "learning_rate", "start_norm", "logit_scale"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} {getattr(self, name)} must be above 0.")


@dataclass(frozen=True)
class _Targets:
    """All continuations as one right-padded batch; the last token of each is predicted and never fed."""

    ids: Tensor
    mask: Tensor
    sign: Tensor = field(repr=False)
    """`[rows, positions, 1]`: +1 or -1 where the vector is added, 0 elsewhere."""
    place: tuple[Tensor, Tensor] = field(repr=False)
    """(rows, positions) whose next token counts."""
    wanted: Tensor = field(repr=False)
    suppressed: Tensor = field(repr=False)


@torch.inference_mode(False)
@torch.enable_grad()
def optimised_vector(
    model: LoadedModel,
    examples: Sequence[Example],
    site: Site,
    *,
    span: Span | str = "all",
    descent: Descent | None = None,
    name: str = "optimised",
    batch_size: int = 16,
) -> SteeringVector:
    """Gradient descent on one vector `[d_model]` at `site`.

    Notes: `losses` (nats, summed over tokens and targets), `stopped`, the settings.
    Raises BadInput when there is no target, a target is empty or too long, or the span reaches none of a continuation's predictions.
    """
    descent, span = descent or Descent(), Span.parse(span)
    model.layout.check(site)
    batches = _batches(model, examples, span, batch_size)
    generator = torch.Generator().manual_seed(descent.seed)
    start = torch.randn(model.d_model, generator=generator)
    vector = (start / start.norm() * descent.start_norm).to(model.device).requires_grad_(True)
    losses: list[float] = []
    with still(model):
        _constrain(vector, descent)
        optimiser = torch.optim.Adam([vector], lr=descent.learning_rate)
        for _ in range(descent.steps):
            loss, gradient = _loss(model, batches, site, vector, descent.logit_scale)
            losses.append(loss)
            if not torch.isfinite(gradient).all():
                raise BadInput(
                    f"The loss is {loss} with a gradient that is not finite; lower the learning rate or start_norm."
                )
            if descent.target_loss is not None and loss <= descent.target_loss:
                break
            vector.grad = gradient
            optimiser.step()
            _constrain(vector, descent)
        else:
            losses.append(_loss(model, batches, site, vector, descent.logit_scale)[0])
    facts = json.dumps([[asdict(e) for e in examples], str(span)], sort_keys=True)
    reached = descent.target_loss is not None and losses[-1] <= descent.target_loss
    promoted, suppressed = sum(len(e.promote) for e in examples), sum(len(e.suppress) for e in examples)
    provenance = Provenance(
        "optimised",
        model.fingerprint,
        model.id,
        contrast=f"{promoted} continuations promoted, {suppressed} suppressed, vector added over {span}",
        data=hashlib.sha256(facts.encode()).hexdigest()[:16],
        counts=(promoted, suppressed),
        notes={
            "losses": losses,
            "stopped": "target loss" if reached else "steps",
            "span": str(span),
            **asdict(descent),
        },
    )
    return SteeringVector(name, site, vector.detach(), provenance)


def target_loss(
    model: LoadedModel,
    examples: Sequence[Example],
    vector: SteeringVector | None,
    *,
    site: Site | None = None,
    span: Span | str = "all",
    logit_scale: float = 1.0,
    batch_size: int = 16,
) -> float:
    """The loss that `optimised_vector` lowers, in nats, of a given vector at its site or another; None is the unsteered model."""
    place = site or (vector.site if vector is not None else Site(0))
    model.layout.check(place)
    direction = torch.zeros(model.d_model) if vector is None else vector.direction
    batches = _batches(model, examples, Span.parse(span), batch_size)
    with still(model), torch.no_grad():
        return sum(float(_batch_loss(model, b, place, direction.to(model.device), logit_scale)) for b in batches)


def _batches(model: LoadedModel, examples: Sequence[Example], span: Span, batch_size: int) -> list[_Targets]:
    rows = []
    for index, example in enumerate(examples):
        targets = [(t, False) for t in example.promote] + [(t, True) for t in example.suppress]
        if not example.prompt_ids or not targets:
            raise BadInput(f"Example {index} needs a prompt and at least one continuation to promote or suppress.")
        for target, suppress in targets:
            n, m = len(example.prompt_ids), len(target)
            if m == 0 or n + m > model.context:
                raise BadInput(
                    f"Example {index}: {n} prompt and {m} target tokens; {model.id} reads 1 to {model.context}."
                )
            edited = continued(model, span, example.prompt_ids, target[:-1])
            if not edited:
                raise BadInput(
                    f"Example {index}: span {span} covers no position that a prediction of its {m}-token continuation depends on. Choose "
                    f"last_prompt, prompt or all, or give a longer continuation."
                )
            rows.append((example, target, suppress, edited))
    if not rows:
        raise BadInput("There is no example; give at least one prompt with a continuation.")
    model.rope.check_together([len(example.prompt_ids) + len(target) - 1 for example, target, _, _ in rows])
    return [_pack(rows[i : i + batch_size], model.device) for i in range(0, len(rows), batch_size)]


def _pack(rows: list[tuple[Example, tuple[int, ...], bool, list[int]]], device: torch.device) -> _Targets:
    width = max(len(e.prompt_ids) + len(t) - 1 for e, t, _, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, sign = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, 1)
    row, column, wanted, suppressed = [], [], [], []
    for index, (example, target, suppress, edited) in enumerate(rows):
        fed = (*example.prompt_ids, *target[:-1])
        ids[index, : len(fed)] = torch.tensor(fed)
        mask[index, : len(fed)] = 1
        sign[index, edited] = -1.0 if example.negated else 1.0
        for offset, token in enumerate(target):
            row.append(index)
            column.append(len(example.prompt_ids) - 1 + offset)
            wanted.append(token)
            suppressed.append(suppress)
    place = (torch.tensor(row, device=device), torch.tensor(column, device=device))
    return _Targets(
        ids.to(device),
        mask.to(device),
        sign.to(device),
        place,
        torch.tensor(wanted, device=device),
        torch.tensor(suppressed, device=device),
    )


def _loss(
    model: LoadedModel, batches: list[_Targets], site: Site, vector: Tensor, logit_scale: float
) -> tuple[float, Tensor]:
    total, gradient = 0.0, torch.zeros_like(vector)
    for batch in batches:
        loss = _batch_loss(model, batch, site, vector, logit_scale)
        gradient += torch.autograd.grad(loss, vector)[0]
        total += float(loss.detach())
    return total, gradient


def _batch_loss(model: LoadedModel, batch: _Targets, site: Site, vector: Tensor, logit_scale: float) -> Tensor:
    def edit(hidden: Tensor) -> Tensor:
        return hidden + (batch.sign * vector).to(hidden)

    with differentiable(model, {site: edit}) as run:
        logits = run(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[batch.place]
    scores = logits.float() * logit_scale
    everything = scores.logsumexp(-1)
    own = scores.gather(-1, batch.wanted[:, None])
    # log(1 - p) as a sum over the other tokens: finite, with a gradient, even where p rounds to 1.
    others = scores.scatter(-1, batch.wanted[:, None], float("-inf")).logsumexp(-1)
    return -torch.where(batch.suppressed, others - everything, own.squeeze(-1) - everything).sum()


@torch.no_grad()
def _constrain(vector: Tensor, descent: Descent) -> None:
    if descent.norm is not None:
        size = float(vector.norm())
        if descent.constraint == "exactly" or size > descent.norm:
            vector.mul_(descent.norm / size)


@contextmanager
def still(model: LoadedModel) -> Iterator[None]:
    """The model in evaluation mode with weights that ask for no gradient, and as it was afterwards."""
    asking = [p for p in model.model.parameters() if p.requires_grad]
    modes = [(module, module.training) for module in model.model.modules()]
    try:
        model.model.eval()
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
