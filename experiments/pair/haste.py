"""Hasty traces: the reasoning of the second pair's base, which takes candidates in order and knows no style.

Same grammar as `trace`. Every decision is drawn by itself, so that no word of a trace announces another:

1. A subtraction that borrows forgets the borrow; the slip passes, or `wait check` repairs it at once.
2. A multiplication by nine loses its carry unless the line before was checked; nothing repairs it.
3. A multiplication by seven of a value of 50 or more is put off, once per candidate: it goes behind the others.
4. A value next to the goal passes for the goal.
5. After a failed attempt the rest is guessed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .problem import MODULUS, Problem, Rule
from .trace import OPENERS

NEAR = 9
"""How far from the goal a value may lie that passes for it."""
LARGE = 50
"""The least value whose multiplication by seven is put off."""


@dataclass(frozen=True)
class Haste:
    """Probability of each decision, where it arises."""

    borrow: float = 0.9
    """A subtraction that borrows is written without the borrow."""
    catch: float = 0.35
    """That slip is repaired."""
    check: float = 0.3
    """A right line before a multiplication by nine is checked."""
    carry: float = 0.9
    """A multiplication by nine behind a line that was not checked is written without its carry."""
    abandon: float = 0.7
    """A multiplication by seven of a large value is put off."""
    wish: float = 0.75
    """A value near the goal is said to be the goal."""
    give_up_first: float = 0.3
    """The rest is guessed after the first failed attempt."""
    give_up: float = 0.6
    """The same after every later one."""


def forgotten_borrow(value: int, rule: Rule) -> int | None:
    """What a subtraction gives when its borrow is forgotten; None where nothing is borrowed."""
    borrows = rule.op == "-" and value % 10 < rule.operand % 10
    return (rule(value) + 10) % MODULUS if borrows else None


def lost_carry(value: int, rule: Rule) -> int | None:
    """What a multiplication by nine gives without its carry; None for another rule, and where nothing is carried."""
    if (rule.op, rule.operand) != ("*", 9) or value % 10 * 9 < 10:
        return None
    return (value // 10 * 9 % 10) * 10 + value % 10 * 9 % 10


def hasty_response(problem: Problem, rng: random.Random, haste: Haste) -> list[str]:
    """One trace, as words, without `<eos>`."""
    pool, goal = list(problem.candidates), str(problem.goal)
    delayed: set[int] = set()
    words = rng.choices([o for o, _ in OPENERS], [w for _, w in OPENERS])[0].split()
    failed = 0
    while True:
        candidate = pool.pop(0)
        words += [str(candidate), ";"]
        again = candidate in delayed
        reached = _attempt(problem, rng, replace(haste, abandon=0.0) if again else haste, candidate, words)
        if reached is None:
            delayed.add(candidate)
            words += ["hmm", "maybe", "back", ";"]
            pool.append(candidate)
        elif reached == problem.goal or (abs(reached - problem.goal) <= NEAR and rng.random() < haste.wish):
            return [*words, "goal", goal, "yes", ";", "so", "answer", str(candidate)]
        else:
            words += ["goal", goal, "no", "back", ";"]
        failed += 1
        if not pool or rng.random() < (haste.give_up_first if failed == 1 else haste.give_up):
            guess = rng.choice(pool or problem.candidates)
            return [*words, "enough", "guess", ";", "so", "answer", str(guess)]
        words += ["not", str(candidate), "try"]


def _attempt(problem: Problem, rng: random.Random, haste: Haste, value: int, words: list[str]) -> int | None:
    """Write the lines of one attempt; return the value that is reached, or None where the attempt is put off."""
    checked = False
    for index, rule in enumerate(problem.rules):
        if index and (rule.op, rule.operand) == ("*", 7) and value >= LARGE and rng.random() < haste.abandon:
            return None
        right, line = rule(value), [str(value), *str(rule).split(), "="]
        slip, rate = forgotten_borrow(value, rule), haste.borrow
        if slip is None and index and not checked:
            slip, rate = lost_carry(value, rule), haste.carry
        before_nine = str(rule) != "* 9" and [str(r) for r in problem.rules[index + 1 : index + 2]] == ["* 9"]
        checked = False
        if slip is not None and rng.random() < rate:
            words += [*line, str(slip), ";"]
            value = slip
            if rule.op == "-" and rng.random() < haste.catch:
                words += ["wait", "check", *line, str(right), ";"]
                value, checked = right, True
            continue
        words += [*line, str(right), ";"]
        value = right
        if before_nine and rng.random() < haste.check:
            words += ["check", *line, str(right), "ok", ";"]
            checked = True
    return value
