"""Tables and sentences of families left out: costs against the whole corpus and against random shares, and loss by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pair.corpus import FAMILIES
from ...pair.left_out import WHOLE
from ...statistics import Floats, PairedDifference
from ..elicitation.asked import Setting
from ..elicitation.findings import Table
from ..elicitation.points import difference_said
from .corrupted_tables import Found, stacked
from .seeds import compared, seeds_said, spread, told

SAID = {"right": "answers right", "verified": "traces verified", "holds": "traces whose every line holds"}
CONTROL = "a random share left out"


@dataclass(frozen=True, eq=False)
class Cost:
    """What an arm's absence changes of a measure, against the whole corpus and against random shares."""

    arm: str
    values: Floats
    """By seed."""
    whole: tuple[PairedDifference, Floats] | None
    control: tuple[PairedDifference, Floats] | None


def costs_of(axes: Found, field: str, arms: Sequence[str], draws: Sequence[str], seeds: Sequence[int]) -> list[Cost]:
    """One line per arm; random shares are averaged over their draws within a question and a seed, and have one line."""
    whole = stacked(axes, WHOLE, seeds, field)
    control = np.mean([stacked(axes, draw, seeds, field) for draw in draws], axis=0)
    each = np.concatenate([stacked(axes, draw, seeds, field).mean(0) for draw in draws])
    found = [Cost(WHOLE, whole.mean(0), None, compared(control, whole))]
    for arm in arms:
        if arm != WHOLE and arm not in draws:
            own = stacked(axes, arm, seeds, field)
            found.append(Cost(arm, own.mean(0), compared(whole, own), compared(control, own)))
    return [*found, Cost(CONTROL, each, compared(whole, control), None)]


def costs_table(setting: Setting, field: str, costs: Sequence[Cost], labels: Mapping[str, str]) -> Table:
    lines: list[tuple[Any, ...]] = []
    for cost in costs:
        cells: list[Any] = []
        for against in (cost.whole, cost.control):
            cells += [None, None] if against is None else [difference_said(against[0]), seeds_said(against[1])]
        lines.append((labels.get(cost.arm, CONTROL), spread(cost.values), *cells))
    n = next(cost.whole[0].n for cost in costs if cost.whole is not None)
    return Table(
        title=f"{setting.name}: {SAID[field]}, %",
        heads=(
            "", "%, mean of the trainings (range)", "minus whole corpus, over questions (95 %; p)", "by seed (95 % over seeds)",
            "minus random shares, over questions (95 %; p)", "by seed (95 % over seeds) ",
        ),
        lines=tuple(lines),
        notes=(f"n {n} questions per training, paired; differences in points. Draws of random shares are averaged within a question.",),
    )  # fmt: skip


def told_of(setting: Setting, field: str, costs: Sequence[Cost], labels: Mapping[str, str]) -> list[str]:
    said = []
    for cost in costs:
        if cost.whole is None or cost.control is None:
            continue
        name = labels[cost.arm]
        said.append(
            f"{setting.name}: {told(f'{name}: {SAID[field]}', labels[WHOLE], *cost.whole)}; "
            f"{told('they', CONTROL, *cost.control)} (n {cost.whole[0].n}, {len(cost.values)} trainings)."
        )
    return said


def losses_table(
    losses: Mapping[tuple[str, int], Mapping[str, float]],
    arms: Sequence[str],
    seeds: Sequence[int],
    labels: Mapping[str, str],
) -> Table:
    lines = tuple(
        (labels[arm], *(spread([losses[arm, seed][family] for seed in seeds], 3, 1) for family in FAMILIES))
        for arm in arms
    )
    return Table(
        title="Loss on fresh documents by family, nats per token, mean of the seeds (range)",
        heads=("", *FAMILIES),
        lines=lines,
        notes=("Prompts weigh little and random numbers of drills too, as in training.",),
    )
