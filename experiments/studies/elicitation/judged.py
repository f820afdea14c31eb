"""Texts of a run with every step judged behind the steps before it, as they stand, shuffled, and behind those of other questions.

A pair is a step with what stands before it. In the built-in task the judge is exact and looks at the step right before (`coherent`);
elsewhere it reads equations and looks at all of them (`equations`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...pair.problem import Problem
from ...pair.verifier import verify
from ...statistics import LEVEL, paired_difference
from ...store.runs import Arm, Run
from .asked import Setting
from .coherent import Clause, clauses_of, coherent
from .equations import Claims, claims_of, known_of, supported
from .exploring import explored
from .points import p_said
from .steps import steps_of
from .workroom import Workroom

FEW = 20
"""Questions below which a resampled interval of a difference is too narrow."""
Judge = Callable[[Sequence[Any], Any], "bool | None"]


@dataclass(frozen=True, eq=False)
class Text:
    """A text in steps, and who judges its pairs."""

    item: str
    right: bool
    cut: bool
    valid: bool | None
    """Whether every line, every test and the answer are right; None where nobody knows."""
    steps: tuple[Any, ...]
    judge: Judge
    counts: dict[str, int]
    """Errors of exploring; elsewhere equations and numbers."""

    @cached_property
    def pairs(self) -> list[bool]:
        """Verdicts on its pairs that say something testable."""
        return self.verdicts(range(len(self.steps)))

    @property
    def share(self) -> float | None:
        """Share of its pairs that are coherent."""
        return float(np.mean(self.pairs)) if self.pairs else None

    def verdicts(self, order: Sequence[int]) -> list[bool]:
        """Verdicts where the steps stand in another order."""
        placed = [self.steps[place] for place in order]
        return _said(self.judge(placed[:n], step) for n, step in enumerate(placed) if n)

    def behind(self, other: Text) -> list[bool]:
        """Verdicts where another text stands before each step, up to the place where it stands."""
        return _said(self.judge(other.steps[:n], step) for n, step in enumerate(self.steps) if n and other.steps)


def _said(verdicts: Any) -> list[bool]:
    return [one for one in verdicts if one is not None]


def judged(room: Workroom, found: Run, setting: Setting, arm: Arm) -> list[Text]:
    """The texts of an arm, by question."""
    model, task = room.model(str(arm.model)), room.asked.found
    items = {item.id: item for item in task.items(setting.split, found.manifest.splits[setting.split])}
    texts = []
    columns = ["split", "item", "token_ids", "text", "correct", "finish"]
    for row in found.table(columns=columns, arms=[arm.name]).to_pylist():
        if row["split"] != setting.split:
            continue
        item, ids = items[row["item"]], [token for token in row["token_ids"] if token not in model.eos_ids]
        right, cut = bool(row["correct"]), row["finish"] != "eos"
        parts = [step.text for step in steps_of(model, ids)] if ids else []
        if isinstance(item.data, Problem) and room.asked.builtin:
            clauses = clauses_of(parts)
            valid = verify(item.data, row["text"]).trace_ok and right
            errors = explored(item.data, clauses, cut)
            texts.append(Text(item.id, right, cut, valid, clauses, _exact(item.data), errors))
        else:
            claims, known = tuple(map(claims_of, parts)), known_of(task.prompt(item, arm.form))
            texts.append(Text(item.id, right, cut, None, claims, _read(known), counted(claims, known)))
    return sorted(texts, key=lambda text: text.item)


def _exact(problem: Problem) -> Judge:
    def judge(before: Sequence[Clause], later: Clause) -> bool | None:
        return coherent(problem, before[-1], later)

    return judge


def _read(known: frozenset[Any]) -> Judge:
    def judge(before: Sequence[Claims], later: Claims) -> bool | None:
        return supported(known, before, later)

    return judge


def counted(claims: Sequence[Claims], known: frozenset[Any]) -> dict[str, int]:
    """Equations and right ones, numbers (each once per step), and those from nowhere."""
    found = dict.fromkeys(("equations", "right", "numbers", "from nowhere"), 0)
    for step in claims:
        found["equations"] += len(step.equations)
        found["right"] += sum(own.right for own in step.equations)
        found["numbers"] += len(step.numbers)
        found["from nowhere"] += len(step.from_nowhere(known))
        known = known | step.numbers
    return found


def pooled(verdicts: Sequence[Sequence[bool]]) -> float | None:
    """Share of all pairs of some texts that are coherent."""
    total = sum(map(len, verdicts))
    return sum(map(sum, verdicts)) / total if total else None


def shuffled(texts: Sequence[Text], draws: int) -> list[float]:
    """The pooled share where the steps of every text are put into a random order, per draw."""
    rng = np.random.default_rng(0)
    found = [pooled([text.verdicts(rng.permutation(len(text.steps)).tolist()) for text in texts]) for _ in range(draws)]
    return [share for share in found if share is not None]


def strangers(texts: Sequence[Text], draws: int) -> list[float]:
    """The pooled share where the steps before are those of another question's text, chosen at random for every text and draw."""
    rng = np.random.default_rng(1)
    long = [text for text in texts if len(text.steps) > 1]
    if len({text.item for text in long}) < 2:
        return []
    found = []
    for _ in range(draws):
        pairs = []
        for text in long:
            others = [other for other in long if other.item != text.item]
            pairs.append(text.behind(others[int(rng.integers(len(others)))]))
        found.append(pooled(pairs))
    return [share for share in found if share is not None]


def with_pairs(texts: Sequence[Text]) -> list[Text]:
    """Texts of which at least one pair says something that can be tested."""
    return [text for text in texts if text.pairs]


@dataclass(frozen=True)
class Moved:
    """How the shares of coherent pairs of two arms' texts differ, in points, averaged over questions."""

    by: float
    low: float
    high: float
    p: float
    n: int

    @property
    def clear(self) -> bool:
        """Whether both the interval and the test say so."""
        return (self.low > 0 or self.high < 0) and self.p <= LEVEL

    @property
    def said(self) -> str:
        return f"{self.by:+.1f} ({self.low:+.1f} to {self.high:+.1f}; {p_said(self.p)})"


def moved(pairs: Sequence[tuple[Text, Text]]) -> Moved | None:
    """The second text of every pair against the first. Pairs of one text are no independent samples, so that from `FEW` questions on
    the shares are compared as numbers per text and not as 0/1 values; None without questions."""
    if not pairs:
        return None
    shares = np.array([[one.share, two.share] for one, two in pairs], float)
    scale = 100.0 if len(pairs) >= FEW and shares.max() > 0.01 else 1.0  # beyond 1, where shares end
    found = paired_difference(*(scale * shares.T))
    by, low, high = (100 / scale * value for value in (found.difference, found.interval.low, found.interval.high))
    return Moved(by, low, high, found.p, found.n)
