"""Generated tasks of reasoning-gym, an optional package.

1. The package is imported when a task of it is asked for; without it the error names what to install.
2. Splits differ by seed, a million apart, and an item depends on (task, options, seed, place) alone.
3. An answer is right where the package's own score is 1. Its scorers run in this process: none of them gets more than `LONGEST` characters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from steering.errors import BadInput, unknown

from .formed import Formed
from .graders.final import Final, graded, short_line
from .graders.grade import NOTHING, Grade, Known, unscorable, verdict
from .items import Item
from .prompting import SLOT, Form

SEEDS = {"train": 0, "dev": 1_000_000, "test": 2_000_000}
LONGEST = 2_000
READING = 3
"""Raised when another final answer may be read from a response; part of what identifies graded rows."""
FORMS = {
    "bare": Form(),
    "cot": Form(template=SLOT + "\n\nThink step by step, and put the final answer within \\boxed{}."),
}
"""Forms where a spec names none."""


@dataclass(frozen=True)
class Gym(Formed):
    """One generated task. `options` are those of the package's data set, `given` its prompt forms."""

    task: str
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Form] | None = None

    def __post_init__(self) -> None:
        package = _package()
        names = getattr(getattr(package, "factory", None), "DATASETS", None)
        if names is not None and self.task not in names:
            raise unknown("task", self.task, sorted(names), where="reasoning-gym")

    @property
    def name(self) -> str:
        return f"reasoning-gym:{self.task}"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(SEEDS)

    @property
    def asked(self) -> Mapping[str, Form]:
        return self.given or FORMS

    def question(self, item: Item) -> str:
        return str(item.data["question"])

    @cached_property
    def digest(self) -> str:
        version = getattr(_package(), "__version__", "unknown")
        facts = [self.task, self.seed, dict(self.options), version, READING]
        return f"gym-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}"

    @cached_property
    def _scorer(self) -> Any:
        return self._dataset("test", 1)

    def _dataset(self, split: str, n: int) -> Any:
        try:
            return _package().create_dataset(self.task, seed=self.seed + SEEDS[split], size=n, **self.options)
        except (TypeError, AssertionError, ValueError) as error:
            raise BadInput(f"{self.name} cannot be made with {dict(self.options)}: {error}") from error

    def items(self, split: str, n: int) -> list[Item]:
        if split not in SEEDS:
            raise unknown("split", split, SEEDS, where=f"task {self.name}")
        if n < 1:
            raise BadInput(f"Split {split}: n is {n}; ask for at least one item.")
        made = self._dataset(split, n)
        return [Item(f"{split}/{i:05d}", str(made[i]["answer"]), made[i]) for i in range(n)]

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        return graded("reasoning-gym", text, known, False, lambda final: self._judged(item, final, known))

    def _judged(self, item: Item, final: Final, known: Known) -> Grade:
        made, answer, how = self._scorer, final.text, final.how
        if answer is None and (line := short_line(final, known)):
            answer, how = line, "the response is one short line"
        if answer is None or len(answer) > LONGEST:
            return unscorable("reasoning-gym", None, how)
        try:
            score = float(made.score_answer(answer, item.data))
        except Exception as error:  # scorers parse whatever a model wrote
            return unscorable("reasoning-gym", answer, f"{how}; the scorer failed: {error}")
        return verdict("reasoning-gym", answer, score >= 1.0, f"{how}; scored {score:g} by reasoning-gym")


def _package() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise BadInput(
            "Tasks of reasoning-gym need an optional package: pip install 'steering-workbench[gym]', or pip install reasoning-gym."
        ) from error
    return reasoning_gym
