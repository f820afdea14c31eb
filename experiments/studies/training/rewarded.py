"""What cards share whose arms are weights trained by reward: their sizes, and arms of several seeds graded in every setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from steering.errors import BadInput

from ...statistics import Floats, paired_difference
from ...store.runs import Arm, Run
from ..elicitation.asked import Elicit, Setting
from ..elicitation.audit_verdict import corrects
from ..elicitation.card import Options
from ..elicitation.findings import Point, Table
from ..elicitation.points import difference_said, points_of
from ..elicitation.workroom import Workroom
from .questions import training_items
from .recipe import Recipe
from .reinforced_tables import Line, as_often, budget_table, curve_table, gap_of, gap_said, groups_of, together
from .side_effects import drilled, formed
from .trained_models import TrainedModel


class SeededOptions(Options):
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Of the trainings."""
    tokens: int = Field(default=200, ge=1)
    """Of a text in training."""
    pool: int = Field(default=256, ge=2)
    """Training questions of the built-in task."""


class RewardedOptions(SeededOptions):
    updates: int = Field(default=12, ge=1)
    """Steps of the optimiser per training."""
    prompts: int = Field(default=8, ge=1)
    """Groups per update."""
    samples: int = Field(default=8, ge=2)
    """Texts per group."""
    reuse: int = Field(default=2, ge=1)
    """Gradient steps per update."""
    rate: float = Field(default=2e-4, gt=0)
    """Adam's step."""
    read: dict[str, int] = Field(default_factory=dict)
    """Of another task: training questions by split."""

    def recipe(self, seed: int, **other: Any) -> Recipe:
        """The settings of one training."""
        given = {
            "updates": self.updates, "prompts": self.prompts, "samples": self.samples, "reuse": self.reuse, "rate": self.rate,
            "tokens": self.tokens, "seed": seed,
        }  # fmt: skip
        return Recipe(**given | other)


@dataclass(frozen=True, eq=False)
class Grown:
    """A training of one seed, in its group."""

    group: str
    label: str
    seed: int
    own: TrainedModel
    role: str = "steered"
    update: int | None = None
    """After which its weights are graded; by default the last."""

    @property
    def model(self) -> str:
        return self.own.model if self.update is None else self.own.models[self.update]

    @property
    def line(self) -> Line:
        return Line(self.group, self.label, f"{self.group}-{self.seed}", self.own)


def graded_everywhere(
    room: Workroom,
    card: str,
    grown: Sequence[Grown],
    options: SeededOptions,
    against: Sequence[tuple[str, str]] = (),
) -> tuple[list[Point], list[Table], list[str], dict[str, Run]]:
    """Points, tables and sentences of the trained models in every setting, and the runs by setting. `against` names pairs of groups whose
    difference is said, the second the control of the first."""
    lines = [one.line for one in grown]
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    runs: dict[str, Run] = {}
    controls = dict(reversed([pair for pair in against]))
    for setting in room.asked.settings:
        arms = [_arm(room, setting, one) for one in grown]
        found = room.evaluate(card, setting, [*room.references(setting), *arms], options.n)
        beside = {
            one.line.arm: f"{controls[one.group]}-{one.seed}"
            for one in grown
            if one.group in controls and any(o.group == controls[one.group] and o.seed == one.seed for o in grown)
        }
        points += points_of(found, setting, beside)
        right = corrects(found, setting.split)
        updates = options.updates if isinstance(options, RewardedOptions) else None
        tables.append(budget_table(room, setting, right, lines, updates))
        said += said_of_groups(setting, right, lines)
        said += versus(setting, right, lines, against)
        runs[setting.name] = found
    if any("reward" in one.own.curve[0] for one in grown):
        tables.append(curve_table(lines))
    tables.append(side_effects(room, grown, runs))
    return points, tables, said, runs


def side_effects(room: Workroom, grown: Sequence[Grown], runs: Mapping[str, Run]) -> Table:
    """Format validity by setting, and arithmetic where the task is the built-in one; seeds as mean and range."""
    names = {"base": ("base, greedy", [(room.asked.base, "base")])}
    if room.asked.thinking is not None:
        names["thinking"] = ("thinking model", [(room.asked.thinking, "thinking")])
    for one in grown:
        names.setdefault(one.group, (one.label, []))[1].append((one.model, one.line.arm))
    shares = {setting: formed(run) for setting, run in runs.items()}
    exact = room.asked.builtin
    lines: list[tuple[Any, ...]] = []
    for label, own in names.values():
        cells = [_spread([100 * shares[setting][arm] for _, arm in own]) for setting in runs]
        if exact:
            cells.append(_spread([100 * float(drilled(room.model(model)).mean()) for model, _ in own]))
        lines.append((label, *cells))
    heads = [f"% of texts in form, {setting}" for setting in runs]
    return Table(
        title="Side effects: format, and what no reward looked at" if exact else "Side effects: format",
        heads=("what", *heads, *(["% of results and goal tests of drills that are predicted right"] if exact else [])),
        lines=tuple(lines),
        notes=("Mean (range) over seeds. In form: ended, with an answer as the task wants it.",),
    )


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


def _arm(room: Workroom, setting: Setting, one: Grown) -> Arm:
    return room.arm(setting, one.line.arm, f"{one.label}, seed {one.seed}", one.role, model=one.model)


def said_of_groups(setting: Setting, right: Mapping[str, Floats], lines: Sequence[Line]) -> list[str]:
    """What each group gains over the base, seeds averaged within a question."""
    said = []
    for members in groups_of(lines).values():
        values = together(right, members)
        moved = paired_difference(as_often(right, "base", values), values)
        gap = gap_said(gap_of(right, values))
        share = "" if gap is None else f"; gap recovered {gap}"
        said.append(
            f"{setting.name}: {members[0].label}: {difference_said(moved)} points against the base{share} (n {len(values)})."
        )
    return said


def versus(
    setting: Setting, right: Mapping[str, Floats], lines: Sequence[Line], against: Sequence[tuple[str, str]]
) -> list[str]:
    """Differences of groups, paired by question; by seed too where both have the same ones."""
    groups, said = groups_of(lines), []
    for one, other in against:
        if one not in groups or other not in groups:
            continue
        values, beside = together(right, groups[one]), together(right, groups[other])
        if values.shape != beside.shape:
            values, beside = values.mean(1), beside.mean(1)
        moved = paired_difference(beside, values)
        said.append(
            f"{setting.name}: {groups[one][0].label} minus {groups[other][0].label}: {difference_said(moved)} points "
            f"(n {len(values)})."
        )
    return said


def unlearned(grown: Sequence[Grown], first: Setting) -> list[str]:
    """Trainings in which no group's rewards differed in any update, so that only other terms of the loss moved the weights."""
    return [
        f"{first.name}: {one.label}, seed {one.seed}: in no update did the rewards of a group differ."
        for one in grown
        if not any(row["groups"] for row in one.own.curve)
    ]


def mean_of(grown: Sequence[Grown], what: str) -> float:
    """Mean over trainings and updates of one column of the curve."""
    return float(np.mean([row[what] for one in grown for row in one.own.curve]))


def refuse_rewarded(asked: Elicit, options: RewardedOptions, card: str) -> None:
    """Raises BadInput for seeds named twice, too few training questions, and an update that no recipe allows."""
    if len(set(options.seeds)) < len(options.seeds):
        raise BadInput(f"card {card}: a seed stands twice in seeds.")
    options.recipe(0)
    items = training_items(asked, options.read, options.pool, card)
    if len(items) < options.prompts:
        raise BadInput(
            f"card {card}: {len(items)} training questions do not fill an update of {options.prompts} prompts."
        )
