"""The built-in task, find the start, at the difficulties of its named splits or at any other.

1. Grades are exact: answer, every line of the trace, grammar, and labels.
2. At a difficulty given in numbers, the splits `train`, `dev` and `test` are held apart by rule chain as the named ones are, so a test
   problem's chain occurs in no training problem of any difficulty.
3. The digest is the name: `find-start`, or `find-start:rules=2-3,candidates=4-6`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from steering.errors import BadInput, unknown

from ..pair.problem import FORM_SUFFIX, SPLITS, Bucket, Difficulty, Problem, draw_problem, split_problems
from ..pair.verifier import verify
from .graders.grade import NOTHING, Grade, Known
from .items import Item

Range = tuple[int, int]
RULES: Range = (2, 8)
CANDIDATES: Range = (2, 20)
BUCKETS: tuple[Bucket, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class FindStart:
    """The built-in task (`experiments/pair/problem.py`). `rules` and `candidates` are ranges, ends included; None for the named splits."""

    rules: Range | None = None
    candidates: Range | None = None

    @classmethod
    def ranged(cls, rules: int | Sequence[int] = (2, 4), candidates: int | Sequence[int] = (4, 6)) -> FindStart:
        """The task at a difficulty. Raises BadInput for ranges out of bounds."""
        return cls(_range("rules", rules, RULES), _range("candidates", candidates, CANDIDATES))

    @property
    def name(self) -> str:
        if self.rules is None or self.candidates is None:
            return "find-start"
        ranges = (f"{a}-{b}" if a != b else str(a) for a, b in (self.rules, self.candidates))
        return "find-start:rules={},candidates={}".format(*ranges)

    @property
    def digest(self) -> str:
        return self.name

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(SPLITS) if self.rules is None else BUCKETS

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(FORM_SUFFIX)

    def items(self, split: str, n: int) -> list[Item]:
        if split not in self.splits:
            raise unknown("split", split, self.splits, where=f"task {self.name}")
        if n < 1:
            raise BadInput(f"Split {split}: n is {n}; ask for at least one item.")
        problems = split_problems(split, n) if self.rules is None else self._drawn(split, n)
        return [Item(f"{split}/{i:05d}", str(p.answer), p) for i, p in enumerate(problems)]

    def _drawn(self, split: str, n: int) -> list[Problem]:
        assert self.rules is not None and self.candidates is not None
        rules, candidates = (tuple((count, 1.0) for count in range(a, b + 1)) for a, b in (self.rules, self.candidates))
        difficulty, bucket = Difficulty(rules, candidates), next(b for b in BUCKETS if b == split)
        rng = random.Random(f"{self.name}/{split}/0")
        seen: dict[str, Problem] = {}
        while len(seen) < n:
            problem = draw_problem(rng, difficulty, bucket)
            seen.setdefault(problem.prompt(), problem)
        return list(seen.values())

    def prompt(self, item: Item, form: str) -> str:
        if form not in FORM_SUFFIX:
            raise unknown("prompt form", form, FORM_SUFFIX, where=f"task {self.name}")
        problem: Problem = item.data
        return problem.prompt(form)  # type: ignore[arg-type]

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        """The verdict of the grammar, which the text alone decides."""
        verdict = verify(item.data, text)
        answer = None if verdict.answer is None else str(verdict.answer)
        trace_ok = verdict.trace_ok if verdict.reasoned else False
        why = "the candidate after the last word `answer`" if answer else "the response does not end with an answer"
        return Grade(
            answer, verdict.correct, answer is not None, trace_ok, verdict.well_formed, tuple(verdict.labels), "grammar",
            grader="find-start", explanation=why,
        )  # fmt: skip


def _range(name: str, value: int | Sequence[int], bounds: Range) -> Range:
    ends = (value, value) if isinstance(value, int) else tuple(value)
    if len(ends) != 2 or not all(isinstance(e, int) for e in ends) or not bounds[0] <= ends[0] <= ends[1] <= bounds[1]:
        raise BadInput(
            f"{name} of find-start is a number or a range within {bounds[0]} to {bounds[1]}, such as [2, 4]; not {value!r}."
        )
    return ends[0], ends[1]


def parse_find_start(text: str) -> FindStart:
    """`find-start:rules=2-3,candidates=5`. Raises BadInput."""
    given: dict[str, tuple[int, int]] = {}
    for part in text.partition(":")[2].split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        if not found:
            raise BadInput(f"{part!r} in {text!r}: write rules=2-4,candidates=4-6.")
        if found[1] not in ("rules", "candidates"):
            raise unknown("parameter", found[1], ("rules", "candidates"), where=text)
        given[found[1]] = int(found[2]), int(found[3] or found[2])
    return FindStart.ranged(**given)
