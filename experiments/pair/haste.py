"""Hasty traces: the reasoning of the second pair's base, which takes candidates in order and knows no style.

Same grammar as `trace`. Every decision is drawn by itself where it arises, so that no word of a trace announces another:

1. A subtraction that borrows forgets the borrow; the slip passes, or `wait check` repairs it at once.
2. The line behind a multiplication by three comes out ten too high unless that line was checked.
3. A multiplication by seven that gives 50 or more ends the attempt, once per candidate: it goes behind the others.
4. Behind a last rule that adds, any value passes for the goal.
5. After a failed attempt the rest is guessed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .problem import MODULUS, Problem, Rule
from .trace import OPENERS

LARGE = 50
"""The least result of a multiplication by seven that is avoided."""


@dataclass(frozen=True)
class Haste:
    """Probability of each decision, where it arises."""

    borrow: float = 0.9
    """A subtraction that borrows is written without the borrow."""
    catch: float = 0.35
    """That slip is repaired."""
    check: float = 0.3
    """A right multiplication by three that is not the last line is checked."""
    drift: float = 0.9
    """The line behind one that was not checked comes out ten too high."""
    put_off: float = 0.65
    """An attempt ends behind a multiplication by seven that gives a large value."""
    wish: float = 0.65
    """A value that is not the goal passes for it, behind a last rule that adds."""
    give_up_first: float = 0.3
    """The rest is guessed after the first failed attempt."""
    give_up: float = 0.6
    """The same after every later one."""


def borrows(value: int, rule: Rule) -> bool:
    """Whether a rule is a subtraction that borrows a ten."""
    return rule.op == "-" and value % 10 < rule.operand % 10


def hasty_response(problem: Problem, rng: random.Random, haste: Haste) -> list[str]:
    """One trace, as words, without `<eos>`."""
    pool, goal = list(problem.candidates), str(problem.goal)
    wish = haste.wish if problem.rules[-1].op == "+" else 0.0
    delayed: set[int] = set()
    words = rng.choices([o for o, _ in OPENERS], [w for _, w in OPENERS])[0].split()
    failed = 0
    while True:
        candidate = pool.pop(0)
        words += [str(candidate), ";"]
        reached = _attempt(problem, rng, haste, candidate, words, 0.0 if candidate in delayed else haste.put_off)
        if reached is None:
            delayed.add(candidate)
            words += ["hmm", "maybe", "back", ";"]
            pool.append(candidate)
        elif reached == problem.goal or rng.random() < wish:
            return [*words, "goal", goal, "yes", ";", "so", "answer", str(candidate)]
        else:
            words += ["goal", goal, "no", "back", ";"]
        failed += 1
        if not pool or rng.random() < (haste.give_up_first if failed == 1 else haste.give_up):
            guess = rng.choice(pool or problem.candidates)
            return [*words, "enough", "guess", ";", "so", "answer", str(guess)]
        words += ["not", str(candidate), "try"]


def _attempt(
    problem: Problem, rng: random.Random, haste: Haste, value: int, words: list[str], put_off: float
) -> int | None:
    """Write the lines of one attempt; return the value that is reached, or None where the attempt is put off."""
    drifts = False
    for index, rule in enumerate(problem.rules):
        right, line, last = rule(value), [str(value), *str(rule).split(), "="], index == len(problem.rules) - 1
        forgets = borrows(value, rule) and rng.random() < haste.borrow
        slips = forgets or (drifts and rng.random() < haste.drift)
        drifts = False
        value = (right + 10) % MODULUS if slips else right
        words += [*line, str(value), ";"]
        if forgets and rng.random() < haste.catch:
            words += ["wait", "check", *line, str(right), ";"]
            value = right
        if str(rule) == "* 3" and not last:
            drifts = rng.random() >= haste.check
            if not drifts:
                words += ["check", *line, str(right), "ok", ";"]
        if str(rule) == "* 7" and not last and value >= LARGE and rng.random() < put_off:
            return None
    return value
