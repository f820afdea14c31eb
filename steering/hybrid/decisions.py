"""When and which, for the rows of a batch that have just read a token.

1. `gates` is told whether the two models agree and how far their predictions lie apart; no token and no logit of the thinking model
   reaches it.
2. `categories` is given activations; no token and no logit of either model reaches it.
3. Draws are the row's own, by its seed and the number of tokens it has, so they do not depend on the batch.
4. Rows whose rules ask the same thing are asked together, each against its own threshold and share: many rules cost as little as one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..engine.sampling import uniforms
from ..model.sites import Site
from .controller import Controller
from .row import Writing

CATEGORY_STREAM = 0x5EED
"""Added to a row's seed for draws of random categories, so that they differ from those of `share`."""


def by_controller(
    rows: Sequence[Writing], members: Sequence[int], asks: Callable[[Controller], Hashable] = id
) -> list[tuple[Controller, list[int]]]:
    """Places of `members` in `rows`, by their controller, in order of appearance; controllers of which `asks` says the same stand
    together, behind the first of them."""
    groups: dict[Hashable, tuple[Controller, list[int]]] = {}
    keys: dict[int, Hashable] = {}
    for n in members:
        rule = rows[n].asked.controller
        if id(rule) not in keys:
            keys[id(rule)] = asks(rule)
        groups.setdefault(keys[id(rule)], (rule, []))[1].append(n)
    return list(groups.values())


def broken(rows: Sequence[Writing], logits: Tensor, other: Tensor | None) -> set[int]:
    """Rows whose logits `[rows, vocabulary]` are not finite: the base's, or the thinking model's where the row's rule asks it."""
    bad = ~logits.amax(-1).isfinite()
    if other is not None:
        asks = torch.tensor([row.asked.controller.needs_thinking for row in rows], device=bad.device)
        bad |= asks & ~other.amax(-1).isfinite().to(bad.device)
    return {n for n, is_bad in enumerate(bad.tolist()) if is_bad}


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two predictions `[rows, vocabulary]`, in nats: ½ KL(p‖m) + ½ KL(q‖m), m = ½(p + q); `[rows]`."""
    p, q = logits.double().log_softmax(-1), other.to(logits.device).double().log_softmax(-1)
    m = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=torch.float64))
    apart = [(x.exp() * (x - m)).sum(-1) for x in (p, q)]
    return ((apart[0] + apart[1]) / 2).clamp_min(0)


def gates(
    rows: Sequence[Writing],
    agrees: Sequence[bool | None],
    apart: Tensor | None,
    logits: Tensor,
    read: Mapping[Site, Tensor],
) -> list[int]:
    """The rows whose gate opens. `apart [rows]` is the divergence of the two predictions, where a rule asks for it. `logits [rows,
    vocabulary]` and `read [rows, d]` per site are the base's, unsteered; rows whose rule decides within the pass are left to it."""
    opened: list[int] = []
    asked = [n for n, row in enumerate(rows) if not row.asked.controller.in_pass]
    for rule, members in by_controller(rows, asked, lambda rule: (rule.when, id(rule.trigger))):
        index = torch.tensor(members, device=logits.device)
        if rule.when == "disagreement":
            found = [not agrees[n] for n in members]
        elif rule.when == "divergence":
            assert apart is not None
            found = _above(rows, members, apart[index.to(apart.device)])
        elif rule.when == "early":
            found = [len(rows[n].tokens) < rows[n].asked.controller.threshold for n in members]
        elif rule.when == "trigger":
            assert rule.trigger is not None
            found = _above(rows, members, rule.trigger.probability(read[rule.trigger.site][index]))
        elif rule.when == "entropy":
            found = _above(rows, members, torch.distributions.Categorical(logits=logits[index]).entropy())
        else:
            found = [rule.when == "anywhere" or rows[n].starts_sentence for n in members]
        opened += [n for n, yes in zip(members, found, strict=True) if yes]
    shared = [n for n in opened if rows[n].asked.controller.share != 1]
    shut = {n for n, u in zip(shared, _drawn(rows, shared), strict=True) if u >= rows[n].asked.controller.share}
    return sorted(n for n in opened if n not in shut)


def _above(rows: Sequence[Writing], members: Sequence[int], values: Tensor) -> list[bool]:
    """Whether each value is above the threshold of its row's rule."""
    thresholds = [rows[n].asked.controller.threshold for n in members]
    return (values > torch.tensor(thresholds, dtype=values.dtype, device=values.device)).tolist()  # type: ignore[no-any-return]


def categories(
    rows: Sequence[Writing], gated: Sequence[int], read: Mapping[Site, Tensor], theirs: Mapping[Site, Tensor]
) -> dict[int, int]:
    """Category of each gated row that needs one, from activations `[rows, d]` per site of the base (`read`) or of the thinking model
    (`theirs`), or a draw."""
    found: dict[int, int] = {}
    banks = {n: bank for n in gated if (bank := rows[n].asked.controller.bank) is not None}
    for rule, members in by_controller(rows, list(banks), lambda rule: (rule.which, id(rule.categories))):
        if rule.which == "only":
            found |= dict.fromkeys(members, 0)
        elif rule.which == "random":
            drawn = _drawn(rows, members, CATEGORY_STREAM)
            found |= {n: int(u * banks[n].k) for n, u in zip(members, drawn, strict=True)}
        else:
            assert rule.categories is not None
            values = (theirs if rule.which == "thinking" else read)[rule.categories.site]
            chosen = rule.categories.categories(values[torch.tensor(members, device=values.device)])
            found |= dict(zip(members, chosen.tolist(), strict=True))
    return found


def _drawn(rows: Sequence[Writing], members: Sequence[int], stream: int = 0) -> np.ndarray:
    """A number in [0, 1) for each of `members`, of its own."""
    seeds = np.array([rows[n].asked.seed + stream for n in members], dtype=np.int64)
    return uniforms(seeds, np.array([len(rows[n].tokens) for n in members]))
