"""What is trained on: questions that no setting is graded on, as a model is fed them, and what a text of it earns.

1. Questions of the built-in task are drawn as those of its thinking model's own training were: training rule chains, half of them hard.
2. Another task names a split of its own, beside those that are graded.
3. A text earns 1 when its answer is right and it ended, else 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from steering.engine.record import Generation
from steering.errors import BadInput
from steering.extraction.reinforced import Reward
from steering.model.models import LoadedModel
from steering.model.thinking import leaves_open, model_markers

from ...pair.presets import HARD_SHARE
from ...pair.problem import HARD, STANDARD, draw_problem
from ...tasks.graders.grade import Grade, Known
from ...tasks.items import Item
from ...tasks.task import Encodes, Task
from ..elicitation.asked import Elicit


def training_items(asked: Elicit, read: Mapping[str, int], n: int, card: str) -> list[Item]:
    """The questions. Raises BadInput where the task names none that are not graded."""
    if asked.builtin and not read:
        rng = random.Random("training/0")
        problems = [draw_problem(rng, HARD if rng.random() < HARD_SHARE else STANDARD, "train") for _ in range(n)]
        return [Item(f"training/{i:05d}", str(p.answer), p) for i, p in enumerate(problems)]
    if asked.builtin:
        raise BadInput(
            f"card {card}: read names training questions of another task; the built-in one draws its own. Leave it out."
        )
    graded = {setting.split for setting in asked.settings}
    if not read:
        raise BadInput(
            f"card {card}: task {asked.found.name} names the questions that are trained on, as --set 'read={{train: {n}}}'; it has "
            f"{', '.join(asked.found.splits)}."
        )
    if both := sorted(graded & set(read)):
        raise BadInput(
            f"card {card}: split {both[0]} is graded; train on another one of {', '.join(asked.found.splits)}."
        )
    return [item for split, count in read.items() for item in asked.found.items(split, count)]


def graded(model: LoadedModel, task: Task, items: list[Item], form: str) -> Callable[[int, Generation], Grade | None]:
    """The verdict on a text of the item with that number, asked in a form; None for one that did not end."""
    markers = model_markers(model)
    opened = []
    for item in items:
        fed = task.fed_text(model, item, form) if isinstance(task, Encodes) else task.prompt(item, form)
        question = str((item.data.get("question") if isinstance(item.data, Mapping) else None) or "")
        opened.append(leaves_open(fed, question, markers))

    def grade(number: int, text: Generation) -> Grade | None:
        if text.finish not in ("eos", "stop"):
            return None
        body = model.tokenizer.decode([token for token in text.token_ids if token not in model.eos_ids])
        return task.grade(items[number], body, Known(text.finish, opened[number], markers))

    return grade


def outcome(model: LoadedModel, task: Task, items: list[Item], form: str) -> Reward:
    """1 for a text of the item with that number, asked in a form, that ended with a right answer; else 0."""
    grade = graded(model, task, items, form)

    def reward(number: int, text: Generation) -> float:
        found = grade(number, text)
        return float(found is not None and found.correct)

    return reward
