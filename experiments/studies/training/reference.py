"""Reward by the reference's likelihood (VeriFree): is a verifier needed, where a right answer is known?

1. The model's own answer is cut off and the reference put in its place; the reward is the probability that the model gives it there. The
   gradient is that of the expected probability: reinforcement of what was written before, and likelihood of the reference, weighted by
   the reward (`completions`).
2. Arms, equal but for the reward: both terms; the first alone; both with references dealt out anew; a verifier's verdict.

Source: 2505.21493.
"""

from __future__ import annotations

import random

from pydantic import Field

from steering.errors import BadInput, unknown

from ...tasks.items import Item
from ..elicitation.asked import Elicit
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .questions import training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded, unlearned
from .rewards import Reward
from .side_by_side import trainings
from .trained_models import Job

ARMS = {
    "likelihood": "likelihood of the reference, both terms",
    "alone": "likelihood of the reference, as a reward alone",
    "shuffled": "likelihood of another question's reference",
    "full": "the full set, right answers",
}
AGAINST = (("likelihood", "full"), ("likelihood", "alone"), ("likelihood", "shuffled"))


class ReferenceOptions(RewardedOptions):
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """What is learned."""


def run(room: Workroom, options: ReferenceOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "reference")
    jobs = [
        (arm, Job(tuple(items), first.form, reward_of(arm, items), options.recipe(seed), f"{ARMS[arm]}, seed {seed}"))
        for arm in ARMS
        if arm in options.arms
        for seed in options.seeds
    ]
    owns = trainings(room, [job for _, job in jobs])
    grown = [
        Grown(arm, ARMS[arm], job.recipe.seed, own, "steered" if arm == "likelihood" else "control")
        for (arm, job), own in zip(jobs, owns, strict=True)
    ]
    points, tables, said, _ = graded_everywhere(room, "reference", grown, options, AGAINST)
    return points, tables, said + unlearned(grown, first)


def reward_of(arm: str, items: list[Item]) -> Reward:
    """An arm's reward, its references with it."""
    if arm == "full":
        return Reward()
    gold = [item.gold for item in items]
    if arm == "shuffled":
        return Reward("likelihood", tuple(dealt_anew(gold)))
    return Reward("likelihood-alone" if arm == "alone" else "likelihood", tuple(gold))


def dealt_anew(answers: list[str]) -> list[str]:
    """The same answers in a random order in which none lies at its own place: a random order, put forward by one place, of the places."""
    order = list(range(len(answers)))
    random.Random("references").shuffle(order)
    found = list(answers)
    for place, number in enumerate(order):
        found[number] = answers[order[(place + 1) % len(order)]]
    return found


def refuse(asked: Elicit, options: ReferenceOptions) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card reference: arms")
    refuse_rewarded(asked, options, "reference")
    items = training_items(asked, options.read, options.pool, "reference")
    if bare := next((item for item in items if not item.gold), None):
        raise BadInput(
            f"card reference: question {bare.id} has no right answer in words, so that its likelihood cannot be read."
        )


CARD = Card(
    name="reference",
    title="Reward by the reference's likelihood",
    systems=("S6",),
    papers=("2505.21493",),
    measures="what the probability of a known answer, as a reward and as a text, trains without a verifier",
    control="the reward without the text, references of other questions, a verifier's verdict",
    quick=ReferenceOptions(n=200),
    full=ReferenceOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16),
    run=run,
    refuse=refuse,
)
