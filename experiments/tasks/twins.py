"""Twins of the built-in task's problems: the same structure in other symbols.

1. Renamed: goal, candidates and addends are multiplied by a unit modulo 100, multipliers stay. The map is exact: from u times a candidate
   the twin reaches u times what the problem reaches from it. Addends stay among those that training uses.
2. Permuted: the same candidates in an order in which none keeps its place.
3. Unseen: `+ a` is written as `- (100 - a)` and the reverse, the same map in operands that no training problem has.
4. A twin has the id of its problem; problems without a twin are left out, so that the first n twins are those of the first problems that
   have one. Twins are a pure function of problem, kind and draw; another draw is another unit, or another order.
5. The digest is the name: `find-start:twin=renamed`, `find-start:rules=2-3,candidates=4-6,twin=renamed,draw=1`.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from steering.errors import BadInput, unknown

from ..pair.problem import ADDENDS, MODULUS, Problem, Rule, bucket_of
from .findstart import FindStart, parse_find_start
from .items import Item

UNITS = tuple(unit for unit in range(2, MODULUS) if math.gcd(unit, MODULUS) == 1)
"""Numbers that multiply as a bijection modulo 100."""
FEWEST = 4
"""Candidates below which an order in which none keeps its place is a rotation, or the only one."""


def shifted(offset: int) -> Rule | None:
    """`+ x` or `- x` that adds `offset` modulo 100, with the operand that training uses; None where there is none (0, 1, 50 and 99)."""
    offset %= MODULUS
    if offset in ADDENDS:
        return Rule("+", offset)
    return Rule("-", MODULUS - offset) if MODULUS - offset in ADDENDS else None


def scaled(problem: Problem, unit: int) -> Problem | None:
    """The problem with all values multiplied by a unit; None where an addend is none of training's then."""
    rules = []
    for rule in problem.rules:
        own = rule if rule.op == "*" else shifted(unit * (rule.operand if rule.op == "+" else -rule.operand))
        if own is None:
            return None
        rules.append(own)
    goal, answer, *candidates = (
        unit * value % MODULUS for value in (problem.goal, problem.answer, *problem.candidates)
    )
    return Problem(tuple(rules), goal, tuple(candidates), answer)


def renamed(problem: Problem, draw: int = 0) -> Problem | None:
    """The twin by the unit of that draw: units are ordered by a hash of the problem. None where there are no more."""
    order = sorted(UNITS, key=lambda unit: hashlib.sha256(f"{problem.prompt()}/{unit}".encode()).digest())
    return next(islice(filter(None, (scaled(problem, unit) for unit in order)), draw, None), None)


def permuted(problem: Problem, draw: int = 0) -> Problem | None:
    """The twin with its candidates in another order, none in its place; None of too few candidates."""
    if len(problem.candidates) < FEWEST:
        return None
    rng, order = random.Random(f"permuted/{problem.prompt()}/{draw}"), list(problem.candidates)
    while any(one == other for one, other in zip(order, problem.candidates, strict=True)):
        rng.shuffle(order)
    return Problem(problem.rules, problem.goal, tuple(order), problem.answer)


def unseen(problem: Problem, draw: int = 0) -> Problem | None:
    """The twin whose operands training does not use. There is one draw."""
    if draw:
        return None
    rules = tuple(
        rule if rule.op == "*" else Rule("-" if rule.op == "+" else "+", MODULUS - rule.operand)
        for rule in problem.rules
    )
    return Problem(rules, problem.goal, problem.candidates, problem.answer)


TWINS: dict[str, Callable[[Problem, int], Problem | None]] = {
    "renamed": renamed,
    "permuted": permuted,
    "unseen": unseen,
}


@dataclass(frozen=True)
class TwinFindStart(FindStart):
    """The twins of the built-in task's problems, at the same difficulties."""

    twin: str = "renamed"
    draw: int = 0

    def __post_init__(self) -> None:
        if self.twin not in TWINS:
            raise unknown("twin", self.twin, TWINS, where="task find-start")
        if self.twin == "unseen" and self.draw:
            raise BadInput("task find-start: twin=unseen has one draw; leave `draw` out.")

    @property
    def of(self) -> FindStart:
        """The task whose twins these are."""
        return FindStart(self.rules, self.candidates)

    @property
    def name(self) -> str:
        of = self.of.name
        draw = f",draw={self.draw}" if self.draw else ""
        return f"{of}{',' if ':' in of else ':'}twin={self.twin}{draw}"

    def has(self, item: Item) -> bool:
        """Whether a problem has such a twin."""
        return TWINS[self.twin](item.data, self.draw) is not None

    def items(self, split: str, n: int) -> list[Item]:
        """The first n twins. Raises BadInput for an unknown split, and where hardly a problem has a twin."""
        asked = n
        while True:
            problems = self.of.items(split, asked)
            made = [(item, TWINS[self.twin](item.data, self.draw)) for item in problems]
            found = [Item(item.id, str(twin.answer), twin) for item, twin in made if twin is not None]
            if len(found) >= n:
                return found[:n]
            if asked >= 100 * n:
                raise BadInput(f"{self.name}: {len(found)} of the first {asked} problems have such a twin; {n} asked.")
            asked *= 2


def trained_chains(items: list[Item]) -> int:
    """Problems whose rule chain lies in the part that training is drawn from."""
    return sum(bucket_of(item.data.chain) == "train" for item in items)


def parse_twin(text: str) -> TwinFindStart:
    """`find-start:twin=renamed`, with `draw`, `rules` and `candidates` beside it. Raises BadInput."""
    given: dict[str, str] = {}
    rest: list[str] = []
    for part in text.partition(":")[2].split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if key in ("twin", "draw"):
            given[key] = value
        else:
            rest.append(part)
    if not given.get("draw", "0").isdigit():
        raise BadInput(f"draw={given['draw']} in {text!r}: write a number, such as twin=renamed,draw=1.")
    of = parse_find_start(f"find-start:{','.join(rest)}") if rest else FindStart()
    return TwinFindStart(of.rules, of.candidates, given.get("twin", ""), int(given.get("draw", "0")))


def twin_of(of: FindStart, given: Mapping[str, Any]) -> TwinFindStart:
    """The twins that a mapping's `twin` and `draw` name. Raises BadInput."""
    twin, draw = given.get("twin"), given.get("draw", 0)
    if not isinstance(twin, str) or isinstance(draw, bool) or not isinstance(draw, int) or draw < 0:
        raise BadInput(f"task find-start: twin is one of {', '.join(TWINS)}, and draw a number from 0.")
    return TwinFindStart(of.rules, of.candidates, twin, draw)
