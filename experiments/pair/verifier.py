"""Exact verification of answers and of every line of a trace, and exact behaviour labels from the grammar.

1. The answer is right when the stated candidate reaches the goal.
2. A trace is right when it reasons, every line applies the next rule to the present value with the right result (a wrong result counts as
   repaired when `wait check` corrects it at once), every goal test tells the truth, and the answer is the candidate that passed it.
3. A response is well formed when all of it is in the grammar of `trace.py`.
4. Labels are read off the grammar, so they are exact where the response is well formed; reading stops at the first word outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .problem import MODULUS, Problem, Rule

BEHAVIOURS = (
    "proposing", "computing", "checking", "self-correcting", "doubting", "backtracking", "testing the goal", "giving up", "concluding",
)  # fmt: skip


@dataclass(frozen=True)
class Span:
    """A behaviour over words `start:end` of the response."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Equation:
    """A line as it is stated: a rule applied to a value, and the result that is said."""

    value: int
    rule: Rule
    result: int

    @property
    def stated(self) -> tuple[int, Rule]:
        """What is computed."""
        return self.value, self.rule

    @property
    def right(self) -> bool:
        """Whether the result is what the rule gives."""
        return self.rule(self.value) == self.result


@dataclass
class Verdict:
    """What the verifier found in one response."""

    answer: int | None = None
    correct: bool = False
    reasoned: bool = False
    well_formed: bool = False
    trace_ok: bool = False
    lines: int = 0
    wrong_lines: int = 0
    """Lines with a wrong result, repaired or not."""
    repaired_lines: int = 0
    false_lines: int = 0
    """Lines that in the end do not say what the next rule makes of the present value: a wrong result that stays, or another rule."""
    early_goals: int = 0
    """Goal tests of a candidate that was not put through every rule, or through more."""
    labels: list[Span] = field(default_factory=list)


class _OutsideGrammar(Exception):
    """The response left the grammar."""


def _number(word: str) -> int:
    if not (word.isdigit() and int(word) < MODULUS):
        raise _OutsideGrammar
    return int(word)


class _Reader:
    """One pass over a response, collecting labels and truth as it goes."""

    def __init__(self, problem: Problem, words: list[str]):
        self.problem, self.words, self.at = problem, words, 0
        self.verdict = Verdict()
        self.truthful = True
        self.passed: int | None = None

    def peek(self, *expected: str) -> bool:
        return tuple(self.words[self.at : self.at + len(expected)]) == expected

    def take(self, *expected: str) -> None:
        if not self.peek(*expected):
            raise _OutsideGrammar
        self.at += len(expected)

    def number(self) -> int:
        if self.at >= len(self.words):
            raise _OutsideGrammar
        self.at += 1
        return _number(self.words[self.at - 1])

    def label(self, name: str, start: int) -> None:
        self.verdict.labels.append(Span(name, start, self.at))

    def response(self) -> None:
        if self.peek("answer"):
            self.take("answer")
            self.number()
            self.end()
            return
        self.verdict.reasoned = True
        start = self.at
        if self.peek("hmm", "maybe", "try"):
            self.take("hmm", "maybe")
            self.label("doubting", start)
        elif self.peek("let", "us", "try"):
            self.take("let", "us")
        else:
            self.take("first")
        candidate = -1
        while True:
            start = self.at
            if candidate >= 0:
                self.take("not")
                self.truthful &= self.number() == candidate
            self.take("try")
            candidate = self.number()
            self.take(";")
            self.label("proposing", start)
            self.truthful &= candidate in self.problem.candidates
            if self.attempt(candidate):
                self.passed = candidate
                break
            if self.peek("enough"):
                start = self.at
                self.take("enough", "guess", ";")
                self.label("giving up", start)
                break
        start = self.at
        self.take("so", "answer")
        concluded = self.number()
        self.label("concluding", start)
        self.end()
        self.verdict.trace_ok = self.truthful and self.passed == concluded

    def end(self) -> None:
        if self.at != len(self.words):
            raise _OutsideGrammar
        self.verdict.well_formed = True

    def attempt(self, value: int) -> bool:
        """Lines up to the goal test or an abandonment; True when the trace says the goal is reached."""
        done = 0
        while True:
            start = self.at
            if self.peek("goal"):
                self.take("goal")
                self.verdict.early_goals += done != len(self.problem.rules)
                self.truthful &= self.number() == self.problem.goal and done == len(self.problem.rules)
                if self.peek("yes"):
                    self.take("yes", ";")
                    self.label("testing the goal", start)
                    self.truthful &= value == self.problem.goal
                    return True
                self.take("no")
                self.label("testing the goal", start)
                self.truthful &= value != self.problem.goal
                start = self.at
                self.take("back", ";")
                self.label("backtracking", start)
                return False
            if self.peek("hmm", "maybe", "back"):
                self.take("hmm", "maybe")
                self.label("doubting", start)
                start = self.at
                self.take("back", ";")
                self.label("backtracking", start)
                return False
            value, right = self.line(value, done)
            done += 1
            self.verdict.false_lines += not right
            self.truthful &= right

    def line(self, value: int, index: int) -> tuple[int, bool]:
        """One computed line with its repair or check; the value it leaves and whether it is right in the end."""
        start = self.at
        stated, result = self.equation()
        self.take(";")
        self.label("computing", start)
        self.verdict.lines += 1
        rule = self.problem.rules[index] if index < len(self.problem.rules) else None
        follows = rule is not None and stated == (value, rule)
        truth = stated[1](stated[0])
        right = result == truth
        self.verdict.wrong_lines += not right
        if self.peek("wait", "check"):
            start = self.at
            self.take("wait", "check")
            again, result = self.equation()
            self.take(";")
            self.label("self-correcting", start)
            repaired = again == stated and result == truth
            self.verdict.repaired_lines += repaired and not right
            return result, follows and repaired
        start = self.at
        if self.peek("hmm", "check"):
            self.take("hmm")
            self.label("doubting", start)
            start = self.at
        if self.peek("check"):
            self.take("check")
            again, checked = self.equation()
            self.take("ok", ";")
            self.label("checking", start)
            right = right and again == stated and checked == result
        return result, follows and right

    def equation(self) -> tuple[tuple[int, Rule], int]:
        equation, self.at = _equation(self.words, self.at)
        return equation.stated, equation.result


def _equation(words: Sequence[str], at: int) -> tuple[Equation, int]:
    """The equation that begins at a word, and the place behind it."""
    if len(words) < at + 5 or words[at + 1] not in tuple("+-*") or words[at + 3] != "=":
        raise _OutsideGrammar
    return Equation(_number(words[at]), Rule(words[at + 1], _number(words[at + 2])), _number(words[at + 4])), at + 5


def read_equation(words: Sequence[str]) -> Equation | None:
    """What `A op B = C` says; None where the words are anything else, or more."""
    try:
        found, end = _equation(words, 0)
    except _OutsideGrammar:
        return None
    return found if end == len(words) else None


def verify(problem: Problem, response: str | list[str]) -> Verdict:
    """Check a response (without special tokens) against its problem."""
    words = response.split() if isinstance(response, str) else list(response)
    reader = _Reader(problem, words)
    try:
        reader.response()
    except _OutsideGrammar:
        reader.verdict.trace_ok = reader.verdict.well_formed = False
    verdict = reader.verdict
    if len(words) >= 2 and words[-2] == "answer" and words[-1].isdigit():
        verdict.answer = int(words[-1])
        verdict.correct = verdict.answer == problem.answer
    return verdict
