"""Is a step of the built-in task coherent with the step before it? Exact, and local: the judge sees no more than the pair.

1. A computed line is coherent where its left operand is the value that the step before left behind and its result is right, or wrong and
   repaired at once by `wait check`. A step that leaves no value behind is followed by no coherent line.
2. A test of the goal is coherent where it names the problem's goal and its verdict is true of the value that the step before left behind.
3. A check is coherent where it repeats what the line before computes and its result is right; one that says `ok` repeats the result too.
4. Of other steps (candidates, giving up, going back, conclusions) and of words outside the grammar a pair says nothing that can be tested.
   Which rule is due, which candidates are listed, and what the answer is, no pair says: validity is the verifier's (`trace_ok`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ...pair.problem import MODULUS, Problem
from ...pair.verifier import Equation, read_equation

COMPUTED = ("line", "check", "repair")
"""Kinds of clauses that state an equation."""


@dataclass(frozen=True)
class Clause:
    """What a step says by itself. `kind` is one of `COMPUTED`, `try`, `test`, `back`, `guess`, `answer`, or empty outside the grammar."""

    kind: str
    equation: Equation | None = None
    number: int | None = None
    """The candidate that is tried or stated, or the goal that is named."""
    rejected: int | None = None
    """The candidate that is left, where another is tried."""
    reached: bool | None = None
    """The verdict of a test."""
    repaired: bool = False
    """A wrong result that the next step takes back at once."""

    @property
    def left_behind(self) -> int | None:
        """The value that a following line goes on from."""
        if self.equation is not None:
            return self.equation.result
        return self.number if self.kind == "try" else None


def clauses_of(texts: Sequence[str]) -> tuple[Clause, ...]:
    """The steps of a text, each read by itself; what repairs a line is the step behind it. Of a text without steps none."""
    read = [clause_of(text.split()) for text in texts]
    return tuple(
        replace(own, repaired=_repairs(behind, own)) if own.kind == "line" else own
        for own, behind in pairwise([*read, Clause("")])
    )


def clause_of(words: Sequence[str]) -> Clause:
    """What the words of a step say."""
    words = list(words[:-1]) if words[-1:] == [";"] else list(words)
    if words[:2] == ["wait", "check"]:
        return _computed("repair", words[2:])
    if words[:2] == ["hmm", "check"]:
        words = words[1:]
    if words[:1] == ["check"]:
        return _computed("check", words[1:-1] if words[-1:] == ["ok"] else [])
    if words in (["hmm", "maybe", "back"], ["enough", "guess"]):
        return Clause("back" if words[-1] == "back" else "guess")
    number = _number(words[-1]) if words else None
    if number is not None and words[:-1] in (["so", "answer"], ["answer"]):
        return Clause("answer", number=number)
    if number is not None and words[:-1] in (["let", "us", "try"], ["first", "try"], ["hmm", "maybe", "try"]):
        return Clause("try", number=number)
    if number is not None and len(words) == 4 and words[0] == "not" and words[2] == "try":
        rejected = _number(words[1])
        return Clause("") if rejected is None else Clause("try", number=number, rejected=rejected)
    goal = _number(words[1]) if words[:1] == ["goal"] and words[2:] in (["yes"], ["no", "back"]) else None
    if goal is not None:
        return Clause("test", number=goal, reached=words[2] == "yes")
    return _computed("line", words)


def _computed(kind: str, words: list[str]) -> Clause:
    equation = read_equation(words)
    return Clause(kind, equation) if equation else Clause("")


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() and int(word) < MODULUS else None


def _repairs(check: Clause, line: Clause) -> bool:
    """Whether a step takes back a wrong result of the line before it."""
    if check.kind != "repair" or check.equation is None or line.equation is None:
        return False
    return not line.equation.right and check.equation.right and check.equation.stated == line.equation.stated


def coherent(problem: Problem, earlier: Clause, later: Clause) -> bool | None:
    """Whether `later` is coherent behind `earlier`; None where the pair says nothing that can be tested."""
    value, own = earlier.left_behind, later.equation
    if later.kind == "test":
        return value is not None and later.number == problem.goal and later.reached == (value == problem.goal)
    if own is None:
        return None
    if later.kind == "line":
        return own.value == value and (own.right or later.repaired)
    before = earlier.equation
    if before is None or before.stated != own.stated or not own.right:
        return False
    return later.kind == "repair" or own.result == before.result
