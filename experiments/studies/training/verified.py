"""Answers and traces on two axes: what a text says in the end, and whether what it says on the way is so.

1. An answer is right or not, whatever stands before it.
2. A trace holds when all of it is in the grammar, every goal is tested behind every rule, and every line applies the next rule to the
   present value with the right result, whatever answer follows. It is verified when its verdicts and its answer are right too.
3. Equations are counted wherever they stand: whether what is written as arithmetic is arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...pair.problem import Problem
from ...pair.verifier import read_equation, verify
from ...statistics import Floats
from ...store.runs import Run
from ..elicitation.asked import Setting
from ..elicitation.workroom import Workroom


@dataclass(frozen=True, eq=False)
class Axes:
    """One arm's texts, `[questions]` each, in one order."""

    right: Floats
    """1 where the answer is."""
    verified: Floats
    """1 where verdicts, lines and answer are."""
    holds: Floats
    """1 where every line is."""
    equations: Floats
    """Equations written."""
    true: Floats
    """Of these, right ones."""
    tokens: Floats
    opened: tuple[str, ...]
    """First words."""


def axes_of(room: Workroom, run: Run, setting: Setting, n: int) -> dict[str, Axes]:
    """Per arm of a run of the built-in task."""
    problems = {item.id: item.data for item in room.asked.found.items(setting.split, n)}
    rows = run.table(columns=["arm", "split", "item", "text", "token_ids"]).to_pylist()
    found: dict[str, dict[str, tuple[list[float], str]]] = {}
    for row in rows:
        if row["split"] == setting.split:
            numbers = measured(problems[row["item"]], row["text"].split())
            first = (row["text"].split() or [""])[0]
            found.setdefault(row["arm"], {})[row["item"]] = ([*numbers, float(len(row["token_ids"]))], first)
    made = {}
    for arm, own in found.items():
        table = np.array([own[item][0] for item in problems], dtype=float)
        right, verified, holds, equations, true, tokens = table.T
        opened = tuple(own[item][1] for item in problems)
        made[arm] = Axes(right, verified, holds, equations, true, tokens, opened)
    return made


def measured(problem: Problem, words: list[str]) -> tuple[float, float, float, float, float]:
    """Right, verified, holds, equations, true ones: of one text, without special tokens."""
    verdict = verify(problem, words)
    equations = [one for at in range(len(words) - 4) if (one := read_equation(words[at : at + 5])) is not None]
    holds = (
        verdict.reasoned
        and verdict.well_formed
        and verdict.lines > 0
        and not (verdict.false_lines or verdict.early_goals)
    )
    verified = verdict.reasoned and verdict.trace_ok
    return (
        float(verdict.correct), float(verified), float(holds), float(len(equations)), float(sum(one.right for one in equations)),
    )  # fmt: skip
