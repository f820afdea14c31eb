"""Exact edits of traces of the built-in task: one changed value whose consequence is known, and other wordings that the grammar allows.

1. `toward`: a result in the attempt at a rejected candidate is changed so that the rules still to come lead from it to the goal. A text
   that uses what it wrote accepts that candidate; one that does not keeps its answer.
2. `away`: a result in the attempt at the accepted candidate is changed. A text that uses it rejects the candidate.
3. `random`: any line gets another result; what follows from it is not asked, only whether the answer stays.
4. A rewording says the same (`steps.meaning`): another opener, a check with `hmm` or without.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from ...pair.problem import MODULUS, Problem, Rule
from ...pair.trace import OPENERS
from .steps import Step, Trace, meaning


@dataclass(frozen=True)
class Edit:
    """A trace up to a step, which is replaced by `text`. `implied` is the candidate that follows from it where one does, `repair` the line
    that would take it back at once."""

    kind: str
    step: int
    text: str
    implied: str | None
    repair: str


@dataclass(frozen=True)
class Line:
    """A computed line: of which candidate's attempt, which rule, and the value it leaves."""

    step: int
    candidate: int
    index: int
    words: tuple[str, ...]

    @property
    def equation(self) -> str:
        return " ".join(self.words[:4])

    @property
    def result(self) -> int:
        return int(self.words[4])


def lines_of(trace: Trace) -> list[Line]:
    """The right lines of a trace that no check follows, each with its place in the chain of rules."""
    problem: Problem = trace.item.data
    found, candidate, index = [], -1, 0
    for number, step in enumerate(trace.steps):
        words = step.text.split()
        if step.kind == "proposing":
            candidate, index = int(words[words.index("try") + 1]), 0
        elif step.kind == "computing":
            checked = number + 1 < len(trace.steps) and trace.steps[number + 1].kind in ("self-correcting", "checking")
            value, rule = int(words[0]), Rule(words[1], int(words[2]))
            follows = index < len(problem.rules) and rule == problem.rules[index]
            if follows and rule(value) == int(words[4]) and not checked and candidate in problem.candidates:
                found.append(Line(number, candidate, index, tuple(words)))
            index += 1
    return found


def edits_of(trace: Trace, most: int) -> list[Edit]:
    """At most `most` edits of each kind, chosen by the problem alone."""
    problem: Problem = trace.item.data
    rng = random.Random(f"edits/{trace.item.id}")
    lines = lines_of(trace)
    answer = None if trace.answer is None else int(trace.answer)
    accepts = trace.steps[-1].meaning.endswith(" yes")
    last = max((n for n, step in enumerate(trace.steps) if step.kind == "proposing"), default=0)
    chosen: list[Edit] = []
    pools = {
        "toward": [line for line in lines if line.candidate != answer],
        "away": [line for line in lines if accepts and line.step > last and line.candidate == answer],
        "random": lines,
    }
    for kind, pool in pools.items():
        for line in sorted(rng.sample(pool, min(most, len(pool))), key=lambda line: line.step):
            if kind == "toward":
                value = leads_to_goal(problem, line.index + 1)
            else:
                wrong = [n for n in range(MODULUS) if n not in (line.result, leads_to_goal(problem, line.index + 1))]
                value = rng.choice(wrong)
            if value == line.result:
                continue
            implied = str(line.candidate) if kind == "toward" else None
            chosen.append(
                Edit(
                    kind, line.step, f"{line.equation} {value} ;", implied, f"wait check {line.equation} {line.result}"
                )
            )
    return chosen


def leads_to_goal(problem: Problem, index: int) -> int:
    """The value from which the rules from `index` on lead to the goal; there is one, for every rule is a bijection."""
    for value in range(MODULUS):
        end = value
        for rule in problem.rules[index:]:
            end = rule(end)
        if end == problem.goal:
            return value
    raise AssertionError("every rule is a bijection modulo 100")


def outcome(edit: Edit, trace: Trace, behind: str, answer: str | None) -> str:
    """What a text did with an edit, from what it wrote `behind` it and its answer: `repairs` it in its first step, `follows` it, `keeps`
    its answer, or `neither`. A text without an answer follows an `away` edit where its first test of the goal fails."""
    if meaning(behind.split(";")[0], True) == edit.repair:
        return "repairs"
    if answer is None:
        rejects = re.search(r"\bgoal \d+ (yes|no)\b", behind)
        return "follows" if edit.kind == "away" and rejects and rejects[1] == "no" else "neither"
    if edit.kind == "away":
        return "keeps" if answer == trace.answer else "follows"
    if answer == edit.implied:
        return "follows"
    return "keeps" if answer == trace.answer else "neither"


def reworded(trace: Trace) -> list[str]:
    """The text of every step in other words that mean the same; steps that have none stay."""
    rng = random.Random(f"reworded/{trace.item.id}")
    found = []
    for number, step in enumerate(trace.steps):
        found.append(_reword(step, number == 0, rng))
    return found


def _reword(step: Step, first: bool, rng: random.Random) -> str:
    words = step.text.split()
    if first and "try" in words:
        own = " ".join(words[: words.index("try") + 1])
        other = rng.choice([opener for opener, _ in OPENERS if opener != own])
        return " ".join([other, *words[words.index("try") + 1 :]])
    if words[:2] == ["hmm", "check"]:
        return " ".join(words[1:])
    if words[:1] == ["check"]:
        return " ".join(["hmm", *words])
    return step.text
