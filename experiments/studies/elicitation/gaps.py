"""What questions in their own symbols are worth against the same in others: gaps, and differences of gaps.

1. A gap is accuracy on the questions minus accuracy on their twins, paired by question.
2. Whether an arm has another gap than the base is a difference of paired differences, over the same questions.
3. Where an arm is not detectably above guessing on the questions, its gap says nothing: nothing can be lost there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...statistics import AgainstDirections, Floats, PairedDifference, against_directions, paired_difference, wilson
from ...statistics.directions import FEW_DIRECTIONS
from ...store.runs import Run
from .points import between, hedged

Marks = Mapping[str, float]
"""By id of the question, 1 where it was answered rightly."""


def marks_of(run: Run, split: str, column: str = "correct") -> dict[str, dict[str, float]]:
    """Per arm what a column of its rows says by question; rows where it says nothing are left out."""
    found: dict[str, dict[str, float]] = {arm.name: {} for arm in run.manifest.arms}
    for row in run.table(columns=["arm", "split", "item", column]).to_pylist():
        if row["split"] == split and row[column] is not None:
            found[row["arm"]][row["item"]] = float(row[column])
    return found


@dataclass(frozen=True)
class Gap:
    """An arm's answers to questions and to their twins, `[items]` each, in one order."""

    items: tuple[str, ...]
    own: Floats
    twin: Floats
    guessing: float
    """Accuracy of one who guesses."""

    @property
    def each(self) -> Floats:
        """Per question, in {-1, 0, 1}."""
        return self.own - self.twin

    @property
    def found(self) -> PairedDifference:
        return paired_difference(self.twin, self.own)

    @property
    def guesses(self) -> bool:
        """Whether the questions are not detectably answered better than by guessing."""
        return wilson(int(self.own.sum()), len(self.own)).low <= self.guessing

    @property
    def said(self) -> str:
        """The gap in points."""
        found = self.found
        return f"{100 * found.difference:+.1f} ({between(found.interval.low, found.interval.high)})"


def gap_between(own: Marks, twin: Marks, guessing: Mapping[str, float]) -> Gap | None:
    """The gap on the questions that both hold; None where they hold none in common. `guessing` is by question too."""
    items = tuple(item for item in own if item in twin)
    if not items:
        return None
    level = float(np.mean([guessing.get(item, 0.0) for item in items]))
    first, second = (np.array([side[item] for item in items]) for side in (own, twin))
    return Gap(items, first, second, level)


def other_gap(base: Gap, arm: Gap) -> PairedDifference:
    """The arm's gap minus the base's."""
    return paired_difference(base.each, arm.each)


def why_not(base: Gap, arm: Gap) -> str:
    """Why an arm's gap is not compared with the base's; empty where it is."""
    if base.guesses or arm.guesses:
        return f"{'the base' if base.guesses else 'it'} is not detectably above guessing"
    return ""


def verdict(base: Gap, arm: Gap) -> str:
    """What the arm does to the base's gap, by rule."""
    if why := why_not(base, arm):
        return f"{why}, so nothing can be said"
    change = other_gap(base, arm)
    if not change.clear:
        unclear = hedged(change.interval.low, change.interval.high, change.p)
        return f"{unclear.replace('difference, ', 'change of the gap').removesuffix(', ')}"
    if change.difference > 0:
        return "the gap widens"
    wider = base.found.clear and base.found.difference > 0
    return "the gap shrinks" if wider else "the gap is lower than the base's, which itself is not clearly above 0"


def rank_of(arm: Gap, others: Sequence[Gap]) -> tuple[float | str, str]:
    """The rank p of the arm's gap among those of random directions as a table has it, and in a sentence; both say the same, and where there
    is nothing to rank or to be ranked among, why."""
    guessers, few = sum(other.guesses for other in others), len(others) < FEW_DIRECTIONS
    if arm.guesses:
        return "none: it guesses", "it is not detectably above guessing, so its gap is nothing to be ranked"
    if 2 * guessers > len(others):
        words = f"{guessers} of {len(others)} random directions are at the level of guessing, so their gaps are nothing to be ranked among"
        return "none: most random ones guess", words
    found = among_directions(arm, others)
    words = (
        f"{found.as_good} of {found.directions} random directions have a gap as low (n {found.n}, p {found.rank_p:.3f}"
    )
    if few:
        return f"{found.rank_p:.3f}, too few to tell", f"{words}, too few to tell anything)"
    return round(found.rank_p, 3), f"{words})"


def among_directions(arm: Gap, others: Sequence[Gap]) -> AgainstDirections:
    """The arm's gap among those of random directions on the same questions, ranked by how low it is. Values are (1 + gap)/2."""
    return against_directions((1 + arm.each) / 2, [(1 + other.each) / 2 for other in others], lowers=True)
