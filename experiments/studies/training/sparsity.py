"""Update sparsity (S17): does training move few numbers, and do these few carry what it gives?

1. Tolerance curves of the update from base to thinking model, and of every further model that is named, in float32 and in bfloat16, beside
   dense noise of equal norm per tensor.
2. Per kind of weight: size, effective rank, and the share within the weights' principal directions, beside the same noise.
3. Sparse transplants: the base with the new values of the numbers that moved furthest, graded beside R transplants of drawn numbers that
   hold as much of the update's squared norm: as large a step, spread over many more numbers.

Sources: 2505.11711; challenged by 2509.04259 and 2511.08567.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from steering.errors import BadInput
from steering.model.deltas import keep_delta
from steering.model.memory import free_bytes

from ...statistics import against_directions, gap_recovered
from ...store.runs import Arm
from ..elicitation.asked import Elicit, Setting
from ..elicitation.audit_verdict import corrects
from ..elicitation.card import Card, Options
from ..elicitation.findings import Point, Table
from ..elicitation.points import points_of
from ..elicitation.workroom import Workroom
from .updates import (
    Weights,
    check_alike,
    curve,
    dense_noise,
    effective_rank,
    matrices,
    moved,
    own_weights,
    principal_share,
    transplant,
)

PRINCIPAL = 0.1
"""Share of a matrix's singular directions that are called principal."""
PUBLISHED = 1e-5
"""Tolerance of 2505.11711."""


class SparsityOptions(Options):
    shares: tuple[float, ...] = Field(default=(0.01, 0.05, 0.2), min_length=1)
    """Of all numbers, transplanted."""
    draws: int = Field(default=20, ge=1)
    """Transplants of drawn numbers beside each."""
    models: tuple[str, ...] = ()
    """Further models whose update from the base is read, and not transplanted."""

    @property
    def further_models(self) -> tuple[str, ...]:
        return self.models


def run(room: Workroom, options: SparsityOptions) -> tuple[list[Point], list[Table], list[str]]:
    thinking = str(room.asked.thinking)
    before, after = (own_weights(model.model) for model in (room.base, room.model(thinking)))
    check_alike(before, after)
    tables, said = [], []
    for name in (thinking, *options.models):
        other = after if name == thinking else own_weights(room.model(name).model)
        check_alike(before, other)
        if not any(float((other[n] - before[n]).norm()) for n in before):
            said.append(f"{name} has the base's weights: no update to read.")
            continue
        noise = dense_noise(before, other)
        tables += [_curves(name, before, other, noise), _kinds(name, before, other, noise)]
        said.append(_sparse(name, before, other, noise))
    if not any(float((after[n] - before[n]).norm()) for n in before):
        return [], tables, said
    _check_room(room, options, before)
    names, counts = {}, {}
    for share in options.shares:
        for seed in (None, *range(options.draws)):
            weights, counts[share, seed] = transplant(before, after, share, seed)
            names[share, seed] = keep_delta(room.asked.base, before, weights)
    points: list[Point] = []
    for setting in room.asked.settings:
        found = room.evaluate("sparsity", setting, [*room.references(setting), *_arms(room, setting, names)], options.n)
        own = points_of(found, setting)
        points += [point for point in own if "-drawn-" not in point.arm]
        right = corrects(found, setting.split)
        table, sentences = _transplants(setting, right, before, after, counts, options)
        tables.append(table)
        said += sentences
    return points, tables, said


def _arms(room: Workroom, setting: Setting, names: dict[tuple[float, int | None], str]) -> list[Arm]:
    arms = []
    for (share, seed), model in names.items():
        percent = f"{100 * share:g}"
        if seed is None:
            arms.append(room.arm(setting, f"top-{percent}", f"base, {percent} % furthest moved", model=model))
        else:
            label = f"base, drawn numbers of as large a step as {percent} %, draw {seed}"
            arms.append(room.arm(setting, f"top-{percent}-drawn-{seed}", label, "control", model=model))
    return arms


def _curves(name: str, before: Weights, after: Weights, noise: Weights) -> Table:
    lines = tuple(
        (f"{tolerance:g}", *(f"{100 * value:.2f}" for value in (full, half, plain, rounded)))
        for (tolerance, full, half), (_, plain, rounded) in zip(curve(before, after), curve(before, noise), strict=True)
    )
    return Table(
        title=f"{name}: numbers that its training left where they were, % of {sum(w.numel() for w in before.values()):,}",
        heads=("tolerance", "float32", "bfloat16", "dense noise, float32", "dense noise, bfloat16"),
        lines=lines,
        notes=(
            "Moved by at most the tolerance, in values of that precision. Dense noise has the update's norm in every tensor, and moves "
            "every number of those that moved: what its bfloat16 column calls unchanged beyond its float32 column is rounding.",
        ),
    )


def _kinds(name: str, before: Weights, after: Weights, noise: Weights) -> Table:
    dense = matrices(before, noise)
    lines: list[tuple[Any, ...]] = []
    for kind, pairs in matrices(before, after).items():
        shares = []
        for own in (pairs, dense[kind]):
            ranks = [effective_rank(delta) / min(delta.shape) for _, delta in own]
            inside = [principal_share(w, delta, max(1, round(PRINCIPAL * min(w.shape)))) for w, delta in own]
            shares.append((float(np.mean(ranks)), float(np.mean(inside))))
        size = np.sqrt(sum(float(d.norm()) ** 2 for _, d in pairs) / sum(float(w.norm()) ** 2 for w, _ in pairs))
        lines.append(
            (
                kind, len(pairs), f"{100 * size:.2f}", f"{100 * shares[0][0]:.0f}", f"{100 * shares[1][0]:.0f}",
                f"{100 * shares[0][1]:.2f}", f"{100 * shares[1][1]:.2f}",
            )
        )  # fmt: skip
    return Table(
        title=f"{name}: matrices that moved, by kind",
        heads=(
            "kind", "matrices", "norm of the update, % of the weights'", "effective rank, % of full", "of dense noise",
            f"share in the first {100 * PRINCIPAL:g} % of singular directions, %", "of dense noise ",
        ),
        lines=tuple(lines),
    )  # fmt: skip


def _sparse(name: str, before: Weights, after: Weights, noise: Weights) -> str:
    (_, full, half), (_, plain, rounded) = curve(before, after, (PUBLISHED,))[0], curve(before, noise, (PUBLISHED,))[0]
    exact = curve(before, after, (0.0,))[0][1]
    return (
        f"{name}: {100 * exact:.1f} % of the numbers are exactly what they were in float32, {100 * full:.1f} % within {PUBLISHED:g} (dense "
        f"noise of equal norm: {100 * plain:.1f}), and {100 * half:.1f} % in bfloat16 (dense noise: {100 * rounded:.1f}); the "
        f"5 % that moved furthest hold {100 * moved(before, after, 0.05):.0f} % of the update's squared norm."
    )


def _transplants(
    setting: Setting,
    right: dict[str, Any],
    before: Weights,
    after: Weights,
    counts: dict[tuple[float, int | None], int],
    options: SparsityOptions,
) -> tuple[Table, list[str]]:
    lines: list[tuple[Any, ...]] = []
    said = []
    total = sum(w.numel() for w in before.values())
    for share in options.shares:
        name = f"top-{100 * share:g}"
        own = right[name]
        drawn = np.stack([right[f"{name}-drawn-{seed}"] for seed in range(options.draws)])
        gap, beside = gap_recovered(right["base"], own, right["thinking"]), against_directions(own, drawn)
        recovered = "not defined"
        if gap.value is not None and gap.interval is not None:
            recovered = f"{100 * gap.value:.0f} % ({100 * gap.interval.low:.0f} to {100 * gap.interval.high:.0f})"
        drew = np.mean([counts[share, seed] for seed in range(options.draws)])
        spread = f"{100 * np.mean(beside.means):.1f} ({100 * min(beside.means):.1f} to {100 * max(beside.means):.1f})"
        lines.append(
            (
                f"{100 * share:g}", counts[share, None], round(float(drew)), f"{100 * moved(before, after, share):.0f}",
                f"{100 * own.mean():.1f}", recovered,
                spread, f"{beside.rank_p:.3f}",
            )
        )  # fmt: skip
        said.append(
            f"{setting.name}: the {100 * share:g} % of the numbers that moved furthest give {100 * own.mean():.1f} % right (gap recovered "
            f"{recovered}), drawn numbers of as large a step ({100 * drew / total:.0f} % of all) {spread}; one-sided "
            f"rank p {beside.rank_p:.3f} for more, never below {1 / (1 + options.draws):.3f} (n {len(own)})."
        )
    return Table(
        title=f"{setting.name}: the base with the new values of some of its numbers",
        heads=(
            "% of the numbers", "numbers", "numbers drawn for as large a step", "% of the update's squared norm",
            "right %", "gap recovered (95 %)",
            f"right % with drawn numbers, mean of {options.draws} (range)", "rank p, more (one-sided)",
        ),
        lines=tuple(lines),
        notes=(f"n {len(right['base'])}; base {100 * right['base'].mean():.1f} %, thinking model {100 * right['thinking'].mean():.1f} %.",),
    ), said  # fmt: skip


def refuse(asked: Elicit, options: SparsityOptions) -> None:
    if asked.thinking is None:
        raise BadInput("The card sparsity compares two models: give --pair BASE,THINKING.")
    if wrong := [share for share in options.shares if not 0 < share < 1]:
        raise BadInput(
            f"card sparsity: shares has {wrong[0]:g}; give shares of all numbers above 0 and below 1, such as 0.05 (all of them are the "
            f"thinking model)."
        )
    shown = [f"{100 * share:g}" for share in options.shares]
    if twice := next((one for one in shown if shown.count(one) > 1), None):
        raise BadInput(f"card sparsity: shares names {twice} % twice, to the digits that are shown; name each once.")


def _check_room(room: Workroom, options: SparsityOptions, before: Weights) -> None:
    """Raises BadInput for shares that are no number, and for more models at once than the memory that is free holds."""
    total = sum(w.numel() for w in before.values())
    if least := [share for share in options.shares if round(share * total) < 1]:
        raise BadInput(f"card sparsity: {least[0]:g} of {total:,} numbers is less than one; give a larger share.")
    models = len(options.shares) * (1 + options.draws) + 2
    size, free = models * total * room.base.dtype.itemsize, free_bytes(str(room.base.device))
    if size > free / 2:
        raise BadInput(
            f"card sparsity: {models} models of {total:,} numbers take {size / 2**30:.1f} GiB at once, more than half of the "
            f"{free / 2**30:.1f} GiB that are free; give fewer shares or draws, such as --set draws=2 --set 'shares=[0.05]'."
        )


CARD = Card(
    name="sparsity",
    title="Update sparsity",
    systems=("S17",),
    papers=("2505.11711", "2509.04259", "2511.08567"),
    measures="numbers left unchanged by tolerance and precision, rank and direction of updates, and what sparse transplants recover",
    control="dense noise of equal norm; transplants of drawn numbers of as large a step",
    quick=SparsityOptions(n=200, draws=19),
    full=SparsityOptions(n=400, shares=(0.001, 0.01, 0.03, 0.05, 0.1, 0.2), draws=20),
    run=run,
    refuse=refuse,
)
