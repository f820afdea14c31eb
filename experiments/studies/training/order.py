"""Supervised and then reinforced, or the other way round: does the order matter, at as many gradient steps?

1. What is learnt from are the thinking model's right texts on training questions. Supervised on whole texts is ordinary fine-tuning; step
   by step (SRL, 2510.25992) the base is given the first steps of a text and rewarded for how alike its next step is to the text's own.
2. Arms of as many gradient steps: reward alone; texts alone; steps alone; texts, then reward; steps, then reward; reward, then texts, half
   of the steps each. Cost counts both halves.

Source: 2510.25992 (its monologue before a step is left out: a step of these texts is a line).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown

from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.steps import steps_of
from ..elicitation.workroom import Workroom
from .questions import graded, training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded, unlearned
from .rewards import Reward
from .side_by_side import text_trainings, trainings
from .supervised import Lesson, Tuning
from .trained_models import Job, TextJob, TrainedModel

ARMS = {
    "texts-reward": "texts, then reward",
    "steps-reward": "steps, then reward",
    "reward-texts": "reward, then texts",
    "texts": "texts alone",
    "steps": "steps alone",
    "full": "the full set, right answers",
}
STAGES = {
    "texts-reward": ("texts", "reward"), "steps-reward": ("steps", "reward"), "reward-texts": ("reward", "texts"), "texts": ("texts",),
    "steps": ("steps",), "full": ("reward",),
}  # fmt: skip
"""What every arm is trained by, one behind the other."""
AGAINST = (
    ("texts-reward", "full"), ("texts-reward", "texts"), ("texts-reward", "reward-texts"), ("steps-reward", "full"),
    ("steps-reward", "steps"), ("steps-reward", "texts-reward"),
)  # fmt: skip


class OrderOptions(RewardedOptions):
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """What is learned, in which order."""
    batch: int = Field(default=16, ge=1)
    """Texts per gradient step of the supervised part."""
    teaching: float = Field(default=5e-4, gt=0)
    """Adam's highest step there."""
    step_tokens: int = Field(default=24, ge=2)
    """Longest step."""


@dataclass(frozen=True)
class Shown:
    """A right text of the thinking model, on a training question."""

    item: Item
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """Its end token included."""


def run(room: Workroom, options: OrderOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "order")
    shown = _shown(room, items, options)
    owns = _trained(room, items, shown, options)
    grown = [
        Grown(arm, ARMS[arm], seed, own, "control" if arm in ("texts", "steps", "full") else "steered")
        for (arm, seed), own in owns.items()
    ]
    points, tables, said, _ = graded_everywhere(room, "order", grown, options, AGAINST)
    said.append(
        f"{first.name}: {len(shown)} of {len(items)} texts of the thinking model on training questions are right and learnt from."
    )
    rewarded = [one for one in grown if "reward" in one.own.curve[0]]
    return points, tables, said + unlearned(rewarded, first)


def _trained(
    room: Workroom, items: list[Item], shown: list[Shown], options: OrderOptions
) -> dict[tuple[str, int], TrainedModel]:
    """The trainings by arm and seed, in the order of the arms: all first stages, then all second ones."""
    form = room.asked.settings[0].form
    lessons = [Lesson(one.prompt_ids, one.token_ids) for one in shown]
    named = [(arm, seed) for arm in ARMS if arm in options.arms for seed in options.seeds]
    found: dict[tuple[str, int], TrainedModel] = {}
    for stage in range(2):
        jobs: dict[tuple[str, int], Job] = {}
        taught: dict[tuple[str, int], TextJob] = {}
        for arm, seed in named:
            if stage >= len(STAGES[arm]):
                continue
            kind, label, start = STAGES[arm][stage], f"{ARMS[arm]}, seed {seed}", found.get((arm, seed))
            updates = options.updates // len(STAGES[arm]) + stage * (options.updates % 2)
            if kind == "texts":
                tuning = Tuning(updates * options.reuse, options.batch, options.teaching, seed)
                taught[arm, seed] = TextJob(tuple(lessons), tuning, label, start)
            elif kind == "steps":
                recipe = options.recipe(seed, updates=updates, tokens=options.step_tokens)
                jobs[arm, seed] = _steps(room, shown, form, recipe, label)
            else:
                recipe = options.recipe(seed, updates=updates)
                jobs[arm, seed] = Job(tuple(items), form, Reward(), recipe, label, start=start)
        found |= dict(zip(jobs, trainings(room, list(jobs.values())), strict=True))
        found |= dict(zip(taught, text_trainings(room, list(taught.values())), strict=True))
    return {name: found[name] for name in named}


def _shown(room: Workroom, items: list[Item], options: OrderOptions) -> list[Shown]:
    """Greedy right texts of the thinking model. Raises BadInput where it writes none."""
    task, form, thinking = room.asked.found, room.asked.settings[0].form, room.model(str(room.asked.thinking))
    prompts = [tuple(asked_ids(task, thinking, item, form)) for item in items]

    def make() -> list[dict[str, Any]]:
        rows = [Row(prompt) for prompt in prompts]
        texts = generate(thinking, rows, GenerationSettings(options.tokens), batch_size=256, detail="tokens")
        grade = graded(thinking, task, items, form)
        return [
            {"number": number, "ids": list(text.token_ids)}
            for number, text in enumerate(texts)
            if (found := grade(number, text)) is not None and found.correct
        ]

    facts = {"items": [item.id for item in items], "tokens": options.tokens, "form": form}
    found = room.part("shown-texts", facts, make)
    if not found:
        raise BadInput(
            f"card order: {thinking.id} answers none of {len(items)} training questions right within {options.tokens} tokens, so that "
            f"there is no text to learn from; give more tokens, or other questions."
        )
    return [Shown(items[one["number"]], prompts[one["number"]], tuple(one["ids"])) for one in found]


def _steps(room: Workroom, shown: list[Shown], form: str, recipe: Any, label: str) -> Job:
    """A question per step of every text: the steps before it are given, the step itself is the label. As many of them, drawn, as an update
    asks of each."""
    every: list[tuple[Item, tuple[int, ...], tuple[int, ...]]] = []
    for one in shown:
        body = tuple(token for token in one.token_ids if token not in room.base.eos_ids)
        every += [(one.item, body[: step.start], body[step.start : step.end]) for step in steps_of(room.base, body)]
    few = random.Random("steps").sample(every, min(len(every), max(len(shown), recipe.prompts)))
    labels = tuple(" ".join(map(str, step)) for _, _, step in few)
    return Job(
        tuple(item for item, _, _ in few), form, Reward("step", labels), recipe, label, begun=tuple(before for _, before, _ in few)
    )  # fmt: skip


def refuse(asked: Elicit, options: OrderOptions) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card order: arms")
    if asked.thinking is None:
        raise BadInput("card order: the texts that are learnt from are a thinking model's: give --pair BASE,THINKING.")
    if options.updates < 2:
        raise BadInput(f"card order: {options.updates} update cannot be halved; give at least 2.")
    refuse_rewarded(asked, options, "order")


CARD = Card(
    name="order",
    title="Supervised, then reinforced",
    systems=("S19",),
    papers=("2510.25992",),
    measures="what texts or steps of a thinking model and outcome reward train, alone and one behind the other",
    control="each alone, and the other order, at as many gradient steps",
    quick=OrderOptions(n=200),
    full=OrderOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16),
    run=run,
    refuse=refuse,
)
