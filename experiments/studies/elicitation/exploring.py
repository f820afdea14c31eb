"""A trace of the built-in task as an exploration: what goes wrong on the way through the candidates.

Six errors after 2505.20296: a candidate that the prompt does not list is tried (boundary violation); one whose test failed is tried again
(state revisitation), or at once (self-loop); a text that ends without a passed test leaves listed candidates untested (skipped); a test's
verdict is untrue of the candidate (wrong evaluation), whatever the lines before it said; a text leaves another candidate than the one it is
at, or goes on from one that it has just rejected (backtracking error). Candidates left midway and taken up again are no error.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...pair.problem import Problem
from .coherent import COMPUTED, Clause

ERRORS = ("not listed", "tried again", "tried at once again", "skipped", "wrong evaluation", "backtracking")


def explored(problem: Problem, clauses: Sequence[Clause], cut: bool) -> dict[str, int]:
    """How often each error occurs in a text. A text that was `cut` at the limit skips nothing."""
    found = dict.fromkeys(ERRORS, 0)
    current: int | None = None
    tested: set[int] = set()
    rejected = passed = False
    for clause in clauses:
        if clause.kind == "try" and clause.number is not None:
            found["not listed"] += clause.number not in problem.candidates
            found["backtracking"] += clause.rejected is not None and clause.rejected != current
            if clause.number in tested:
                found["tried at once again" if clause.number == current else "tried again"] += 1
            current = clause.number
        elif clause.kind == "test" and current is not None:
            reached = problem.run(current) == problem.goal
            found["wrong evaluation"] += clause.reached != reached
            passed = passed or bool(clause.reached)
            tested.add(current)
        if rejected and (clause.kind in COMPUTED or clause.kind == "test"):
            found["backtracking"] += 1
        rejected = clause.kind == "test" and not clause.reached
    if not cut and not passed:
        found["skipped"] = len(set(problem.candidates) - tested)
    return found
