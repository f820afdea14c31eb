"""Find-the-start problems: which candidate, put through the rules in order, reaches the goal (all arithmetic modulo 100)?

1. Exactly one candidate reaches the goal: every rule is a bijection modulo 100 and the candidates are distinct.
2. Splits are held apart by structure: the whole rule chain is hashed, so no rule chain of a development or test problem occurs in
   training, whatever its goal and candidates (`bucket_of`). Another chain of the same length that computes the same map does occur, for
   nearly all of them.
3. `new-map-test` is new as a map too: its chains multiply by 3, 7 and 9, together by 89, and training chains multiply at most twice, so
   that none of any length computes v -> 89 v + b (mod 100).
4. A problem is a pure function of (split, seed, index).
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from steering.errors import unknown

MODULUS = 100
MULTIPLIERS = (3, 7, 9)
ADDENDS = tuple(range(2, 50))
Bucket = Literal["train", "dev", "test"]
Form = Literal["bare", "quick", "think"]
FORM_SUFFIX: dict[str, str] = {"bare": "?", "quick": "? be quick", "think": "? think first"}


@dataclass(frozen=True)
class Rule:
    """One step of the chain: `op` in + - *, `operand` an integer."""

    op: str
    operand: int

    def __call__(self, value: int) -> int:
        if self.op == "+":
            return (value + self.operand) % MODULUS
        if self.op == "-":
            return (value - self.operand) % MODULUS
        return (value * self.operand) % MODULUS

    def __str__(self) -> str:
        return f"{self.op} {self.operand}"


@dataclass(frozen=True)
class Problem:
    """Rules, goal, candidates in the order shown, and the one candidate that reaches the goal."""

    rules: tuple[Rule, ...]
    goal: int
    candidates: tuple[int, ...]
    answer: int

    def prompt(self, form: Form = "bare") -> str:
        """The question as text; `form` asks for nothing (bare), a quick answer, or thinking first. Raises BadInput for another one."""
        if form not in FORM_SUFFIX:
            raise unknown("prompt form", form, FORM_SUFFIX, "find-start")
        rules = " ; ".join(map(str, self.rules))
        return f"rules {rules} ; goal {self.goal} start {' '.join(map(str, self.candidates))} {FORM_SUFFIX[form]}"

    def run(self, start: int) -> int:
        """Value reached from `start` after every rule."""
        for rule in self.rules:
            start = rule(start)
        return start

    @property
    def affine(self) -> tuple[int, int]:
        """What the chain computes: (a, b) of v -> a v + b (mod 100)."""
        offset = self.run(0)
        return (self.run(1) - offset) % MODULUS, offset

    @property
    def chain(self) -> str:
        """The structure that splits are held apart by."""
        return " ; ".join(map(str, self.rules))


@dataclass(frozen=True)
class Difficulty:
    """How many rules and candidates, as (count, weight) pairs."""

    rules: tuple[tuple[int, float], ...]
    candidates: tuple[tuple[int, float], ...]
    multiplications: int | None = None
    """How many rules multiply; None for one, or sometimes two in chains of four or more."""


TRAINING = Difficulty(
    rules=((2, 0.25), (3, 0.35), (4, 0.25), (5, 0.15)),
    candidates=((3, 0.15), (4, 0.25), (5, 0.25), (6, 0.17), (7, 0.10), (8, 0.08)),
)
STANDARD = Difficulty(rules=((2, 1), (3, 1), (4, 1)), candidates=((4, 1), (5, 1), (6, 1)))
HARD = Difficulty(rules=((4, 1), (5, 1)), candidates=((7, 1), (8, 1)))
NEW_MAP = Difficulty(rules=((4, 1), (5, 1)), candidates=((4, 1), (5, 1), (6, 1)), multiplications=3)
"""As many candidates as standard problems, and chains as long as hard ones."""
SPLITS: dict[str, tuple[Difficulty, Bucket]] = {
    "standard-dev": (STANDARD, "dev"),
    "standard-test": (STANDARD, "test"),
    "hard-dev": (HARD, "dev"),
    "hard-test": (HARD, "test"),
    "new-map-test": (NEW_MAP, "test"),
}


@lru_cache(maxsize=200_000)
def bucket_of(chain: str) -> Bucket:
    """Split that a rule chain belongs to: 1/16 test, 1/16 dev, the rest train."""
    value = hashlib.sha256(chain.encode()).digest()[0] % 16
    return "test" if value == 0 else "dev" if value == 1 else "train"


def _weighted(rng: random.Random, pairs: tuple[tuple[int, float], ...]) -> int:
    return rng.choices([count for count, _ in pairs], [weight for _, weight in pairs])[0]


def draw_problem(rng: random.Random, difficulty: Difficulty, bucket: Bucket) -> Problem:
    """One problem whose rule chain lies in `bucket`. At least one rule multiplies; no operation-operand pair occurs twice."""
    n_rules, n_candidates = _weighted(rng, difficulty.rules), _weighted(rng, difficulty.candidates)
    while True:
        n_multiply = difficulty.multiplications or (2 if n_rules >= 4 and rng.random() < 0.4 else 1)
        multiply = [Rule("*", m) for m in rng.sample(MULTIPLIERS, n_multiply)]
        shift = [Rule(rng.choice("+-"), rng.choice(ADDENDS)) for _ in range(n_rules - n_multiply)]
        rules = multiply + shift
        rng.shuffle(rules)
        if len(set(rules)) == n_rules and bucket_of(" ; ".join(map(str, rules))) == bucket:
            break
    candidates = rng.sample(range(MODULUS), n_candidates)
    answer = rng.choice(candidates)
    problem = Problem(tuple(rules), 0, tuple(candidates), answer)
    return Problem(problem.rules, problem.run(answer), problem.candidates, answer)


def split_problems(split: str, n: int, seed: int = 0) -> list[Problem]:
    """The first `n` distinct problems of a named split. Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the built-in task has {', '.join(SPLITS)}")
    difficulty, bucket = SPLITS[split]
    rng = random.Random(f"{split}/{seed}")
    seen: dict[str, Problem] = {}
    while len(seen) < n:
        problem = draw_problem(rng, difficulty, bucket)
        seen.setdefault(problem.prompt(), problem)
    return list(seen.values())


def parse_problem(prompt: str) -> Problem:
    """Inverse of `Problem.prompt` for any form; the answer is found by running the rules. Raises ValueError when malformed."""
    words = prompt.split()
    try:
        goal_at, start_at, end = words.index("goal"), words.index("start"), words.index("?")
        body = words[1:goal_at]
        rules = tuple(Rule(body[i], int(body[i + 1])) for i in range(0, len(body), 3))
        goal, candidates = int(words[goal_at + 1]), tuple(int(w) for w in words[start_at + 1 : end])
        problem = Problem(rules, goal, candidates, -1)
        (answer,) = [c for c in candidates if problem.run(c) == goal]
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a find-the-start prompt: {prompt!r} ({error})") from error
    return Problem(rules, goal, candidates, answer)
