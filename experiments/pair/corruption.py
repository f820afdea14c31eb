"""Traces that are wrong in one way each, on the same problems with the same answers.

1. `valid`: a search that is right in every line, candidates in the order shown, until one reaches the goal.
2. `swapped`: the valid trace of another problem of the same update (2505.13775).
3. `noise`: the problem's own trace, every number that a rule gives drawn at random wherever it stands; candidates, rules, goal and verdicts
   stay.
4. `shuffled`: the lines of the problem's own trace in random order over their places (2502.07374); what is tried and the verdicts stay, so
   that a text still knows when to end.
5. `filler`: a countdown of as many words as another problem's trace. It ends by itself; one word repeated has no end that can be known.
6. `answers`: no trace.

All end with the problem's own right answer. Swapped traces and fillers go round among the problems of an update, so that their length says
nothing of the answer and every arm reads equally many tokens; `answers` reads further problems in place of traces.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .corpus import Document, asked
from .problem import STANDARD, Problem, draw_problem
from .trace import Style, direct_response, think_response

ARMS = ("valid", "swapped", "noise", "shuffled", "filler", "answers")
EXACT = Style(1.0, 0.0, 0.0, 0.0, 0.0, False, 0.0, 0.0)
"""No slip, no check, nothing abandoned or given up."""
LONGEST = 198
"""Words of a trace; a problem that takes more is drawn anew. Two words of a countdown hold one number below 100."""
CONCLUSION = 3
"""Words that state the answer: `so answer N`."""
DIRECT_EVERY = 2
"""One bare question with its quick answer per so many traces, in every arm."""


def searched(rng: random.Random) -> tuple[Problem, list[str]]:
    """A training problem of standard size and the words of its trace, without those that state the answer."""
    while True:
        problem = draw_problem(rng, STANDARD, "train")
        body = think_response(problem, rng, EXACT)[:-CONCLUSION]
        if len(body) <= LONGEST:
            return problem, body


def lesson(arm: str, seed: int, update: int, size: int) -> list[Document]:
    """The documents of an update: `size` problems, asked to think first, and every second of them once more in the bare form, answered
    quickly. A pure function of its arguments; the problems do not depend on the arm."""
    rng = random.Random(f"corruption/{seed}/{update}")
    drawn = [searched(rng) for _ in range(size)]
    direct = [asked(problem, "bare", direct_response(problem)) for problem, _ in drawn[::DIRECT_EVERY]]
    whole = [_answered(problem, body) for problem, body in drawn]
    own = random.Random(f"corruption/{seed}/{update}/{arm}")
    if arm == "answers":
        return _filled([asked(problem, "think", direct_response(problem)) for problem, _ in drawn], whole, rng) + direct
    bodies = [body for _, body in drawn]
    if arm in ("swapped", "filler"):
        bodies = moved_round(bodies, own)
    return [
        _answered(problem, corrupted(arm, body, own)) for (problem, _), body in zip(drawn, bodies, strict=True)
    ] + direct


def _answered(problem: Problem, body: list[str]) -> Document:
    return asked(problem, "think", [*body, "so", "answer", str(problem.answer)])


def _filled(short: list[Document], whole: Sequence[Document], rng: random.Random) -> list[Document]:
    """Further problems, until no other one fits into the tokens that the traces take."""
    room = sum(len(one.words) for one in whole) - sum(len(one.words) for one in short)
    while True:
        problem = draw_problem(rng, STANDARD, "train")
        further = asked(problem, "think", direct_response(problem))
        room -= len(further.words)
        if room < 0:
            return short
        short.append(further)


def moved_round(bodies: Sequence[list[str]], rng: random.Random) -> list[list[str]]:
    """The same traces, each at another place: none stays where it was."""
    order = rng.sample(range(len(bodies)), len(bodies))
    moved: list[list[str]] = [[] for _ in bodies]
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        moved[here] = bodies[there]
    return moved


def corrupted(arm: str, body: Sequence[str], rng: random.Random) -> list[str]:
    """A trace as an arm has it, of as many words. `swapped` leaves it as it is, its problem being another."""
    if arm == "noise":
        return _noise(body, rng)
    if arm == "shuffled":
        return _shuffled(body, rng)
    if arm == "filler":
        pairs = len(body) // 2
        return [*["hmm"] * (len(body) % 2), *(word for n in range(pairs - 1, -1, -1) for word in (str(n), ";"))]
    return list(body)


def clauses_of(body: Sequence[str]) -> list[list[str]]:
    """The steps of a trace: what ends with `;`."""
    found: list[list[str]] = [[]]
    for word in body:
        found[-1].append(word)
        if word == ";":
            found.append([])
    return [clause for clause in found if clause]


def is_line(clause: Sequence[str]) -> bool:
    """Whether a step is `A op B = C ;`."""
    return len(clause) == 6 and clause[3] == "="


def _shuffled(body: Sequence[str], rng: random.Random) -> list[str]:
    clauses = clauses_of(body)
    lines = [clause for clause in clauses if is_line(clause)]
    rng.shuffle(lines)
    return [word for clause in clauses for word in (lines.pop() if is_line(clause) else clause)]


def _noise(body: Sequence[str], rng: random.Random) -> list[str]:
    """Of `A op B = C ;` the C, and the A where it is the C of the line before."""
    words, carried = [], False
    for clause in clauses_of(body):
        line = is_line(clause)
        if line:
            first = str(rng.randrange(100)) if carried else clause[0]
            clause = [first, *clause[1:4], str(rng.randrange(100)), ";"]
        carried = line
        words += clause
    return words
