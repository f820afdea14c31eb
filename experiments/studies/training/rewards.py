"""What a text earns while weights are trained: a right answer, a form, a label that need not be right, chance, or nothing (2504.20571,
2506.10947). A text that did not end earns no more than a wrong one, save by chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steering.engine.record import Generation
from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel

from ...tasks.agreement import same_answer
from ...tasks.items import Item
from ...tasks.task import Task
from .questions import graded
from .rollouts import Rewarding

REWARDS = {
    "truth": "1 for a right answer",
    "format": "1 for an answer in the task's form, right or not",
    "label": "1 for the answer that a label names, right or not",
    "random": "1 by chance, whatever the text",
    "routed": "1 for a right answer at once, less for a right one after a trace, -1 for any other",
    "nothing": "0 for every text",
    "likelihood": "the probability of a label after the text, which is trained on too with that weight",
    "likelihood-alone": "the probability of a label after the text, which is not trained on",
    "brier": "1 for a right answer, less the squared error of the confidence that is stated after it",
    "brier-alone": "the squared error of that confidence, negative",
    "brier-shuffled": "as brier, the confidence held against the verdict on another text",
    "step": "how alike the next step is to the one that a label gives",
}
COMPLETED = ("likelihood", "likelihood-alone", "brier", "brier-alone", "brier-shuffled", "step")
"""Those whose texts are cut or completed before they are trained on (`completions`)."""


@dataclass(frozen=True)
class Reward:
    """Which reward. Raises BadInput."""

    name: Literal[
        "truth", "format", "label", "random", "routed", "nothing",
        "likelihood", "likelihood-alone", "brier", "brier-alone", "brier-shuffled", "step",
    ] = "truth"  # fmt: skip
    labels: tuple[str, ...] = ()
    """One per question, of those that name one."""
    chance: float = 0.5
    """Of `random`."""
    thought: float = 0.5
    """Of `routed`, for a right answer after a trace."""

    def __post_init__(self) -> None:
        if self.name not in REWARDS:
            raise unknown("reward", self.name, REWARDS)
        if not 0 < self.chance < 1:
            raise BadInput(
                f"chance {self.chance:g} of a random reward must lie between 0 and 1; at either end there is no advantage."
            )


def rewarding(
    model: LoadedModel, task: Task, items: Sequence[Item], form: str, reward: Reward, seed: int = 0
) -> Rewarding:
    """What texts of the items, asked in a form, earn. Raises BadInput for labels that are not one per item."""
    if reward.name == "label":
        check_labels(reward, items)
    grade = graded(model, task, list(items), form)

    def one(update: int, place: int, number: int, text: Generation) -> float:
        if reward.name == "nothing":
            return 0.0
        if reward.name == "random":
            return float(random.Random(f"reward/{seed}/{update}/{place}").random() < reward.chance)
        found = grade(number, text)
        if reward.name == "routed":
            return (1.0 if _at_once(model, text) else reward.thought) if found is not None and found.correct else -1.0
        if found is None:
            return 0.0
        if reward.name == "truth":
            return float(found.correct)
        if reward.name == "format":
            return float(found.scorable and found.well_formed is not False)
        return float(found.answer is not None and same_answer(task, items[number], found.answer, reward.labels[number]))

    def every(update: int, numbers: list[int], texts: list[Generation]) -> list[float]:
        return [
            one(update, place, number, text) for place, (number, text) in enumerate(zip(numbers, texts, strict=True))
        ]

    return every


def check_labels(reward: Reward, items: Sequence[Item]) -> None:
    """Raises BadInput."""
    if len(reward.labels) != len(items):
        raise BadInput(f"{len(reward.labels)} labels for {len(items)} questions; give one each.")


def _at_once(model: LoadedModel, text: Generation) -> bool:
    """Whether a text of the built-in task begins with its answer."""
    return text.token_ids[:1] == (model.tokenizer.convert_tokens_to_ids("answer"),)
