"""Answers of several arms to questions whose difficulty is known, with level and slopes of each arm.

1. A row is a question in one variant (its own symbols, or a twin's); all arms answer the same rows. Axes that do not vary among them are
   left out, and named.
2. Resamples and permutations move whole questions, and are the same for all arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...statistics import Floats, wilson_clustered
from ...statistics.shares import Interval
from ...statistics.slopes import Fitted, around, permuted_slopes, resampled_slopes, slope_p, slopes_of, varies
from ...tasks.items import Item
from .axes import Axis, table_of

OWN = "own symbols"
LEVEL = "level"


@dataclass(frozen=True)
class Shifted:
    """Rows by question, axes `[rows, axes]`, and what each arm answers rightly `[rows]`."""

    names: tuple[str, ...]
    """Of the axes that vary."""
    constant: tuple[str, ...]
    """Axes that do not, or follow from others."""
    items: tuple[str, ...]
    table: Floats
    rights: Mapping[str, Floats]

    @cached_property
    def fits(self) -> dict[str, Fitted | None]:
        """Level and slopes by arm."""
        return {arm: slopes_of(right, self.table) if self.names else None for arm, right in self.rights.items()}

    def why_not(self, arm: str) -> str:
        """Why no slope of an arm is stated; empty where one is."""
        right, fit = self.rights[arm], self.fits[arm]
        if len(set(right.tolist())) < 2:
            return f"all {len(right)} answers are {'right' if right[0] else 'wrong'}"
        if fit is None:
            return "no axis varies"
        return "the axes tell right from wrong without an error, so slopes have no bound" if fit.separated else ""

    def guesses(self, arm: str, guessing: Mapping[str, float], level: float) -> str:
        """That an arm is not detectably above guessing, with the numbers: neither its accuracy over all rows is (its interval), nor its
        success at the reference (`level`, the lower end of its log-odds there). `guessing` is by question. Empty where one of the two is,
        and of tasks in which guessing gives nothing."""
        rows: dict[str, list[float]] = {}
        for item, right in zip(self.items, self.rights[arm], strict=True):
            rows.setdefault(item, []).append(float(right))
        share = float(np.mean([guessing.get(item, 0.0) for item in self.items]))
        around_ = wilson_clustered([sum(own) for own in rows.values()], [len(own) for own in rows.values()])
        guessed = slopes_of([guessing.get(item, 0.0) for item in self.items], self.table) if self.names else None
        if not share or around_.low > share or (guessed is not None and level > guessed.level):
            return ""
        return (
            f"at the level of guessing ({100 * self.rights[arm].mean():.1f} % right, {100 * around_.low:.1f} to {100 * around_.high:.1f}; "
            f"who guesses {100 * share:.1f})"
        )

    def resampled(self, resamples: int) -> dict[str, Floats]:
        """Coefficients `[resamples, 1 + axes]` by arm, over the same resampled questions."""
        if not self.names:
            return {}
        arms = list(self.rights)
        found = resampled_slopes([self.rights[arm] for arm in arms], self.table, self.items, resamples)
        return {arm: found[:, place] for place, arm in enumerate(arms)}

    def permutation_ps(self, arm: str, permutations: int) -> list[float]:
        """Two-sided p of each slope among permuted axes."""
        fit = self.fits[arm]
        assert fit is not None
        null = permuted_slopes(self.rights[arm], self.table, self.items, permutations)
        return [slope_p(slope, null[:, place + 1]) for place, slope in enumerate(fit.slopes)]


def shifted(
    axes: Sequence[Axis], items: Mapping[str, Item], marks: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> Shifted:
    """The rows of all variants. `marks` is by variant, by arm, by question; a row counts where all arms answered it."""
    arms = list(next(iter(marks.values())))
    rows = [
        (variant, item)
        for variant, own in marks.items()
        for item in items
        if all(item in own[arm] for arm in arms)
    ]  # fmt: skip
    table = table_of(axes, [(items[item], variant) for variant, item in rows])
    kept = varies(table)
    return Shifted(
        tuple(axes[place].name for place in kept), tuple(axis.name for n, axis in enumerate(axes) if n not in kept),
        tuple(item for _, item in rows), table[:, kept],
        {arm: np.array([marks[variant][arm][item] for variant, item in rows]) for arm in arms},
    )  # fmt: skip


@dataclass(frozen=True)
class Change:
    """An arm's level and slopes minus the base's, in log-odds."""

    names: tuple[str, ...]
    """The level, then the axes."""
    values: tuple[float, ...]
    intervals: tuple[Interval, ...]


def change_of(found: Shifted, arm: str, drawn: Mapping[str, Floats], base: str = "base") -> Change | None:
    """None where no slope of one of the two is stated."""
    own, beside = found.fits[arm], found.fits[base]
    if own is None or beside is None or found.why_not(arm) or found.why_not(base):
        return None
    values = (own.level - beside.level, *(a - b for a, b in zip(own.slopes, beside.slopes, strict=True)))
    over = drawn[arm] - drawn[base]
    return Change((LEVEL, *found.names), values, tuple(around(over[:, place]) for place in range(len(values))))


def verdict(change: Change) -> str:
    """What an arm changes, by its intervals."""
    clear = [place for place, around_ in enumerate(change.intervals) if around_.low > 0 or around_.high < 0]
    said = ["the level " + ("rises" if change.values[0] > 0 else "falls")] if 0 in clear else []
    for place in clear:
        if place:
            way = "higher" if change.values[place] > 0 else "lower"
            said.append(f"the slope of {change.names[place]} is {way}")
    return ", ".join(said) if said else "neither level nor slope changes detectably"


def number(value: float, around_: Interval) -> str:
    """A coefficient with its interval."""
    return f"{value:+.2f} ({around_.low:+.2f} to {around_.high:+.2f})"
