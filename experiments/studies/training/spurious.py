"""Spurious rewards (S10): how much of what reward training gives does a reward give that says nothing of the answer?

1. Rewards: the right answer; the majority of the base's own answers; the majority where it is wrong; the answer's form; chance; chance
   without clipping; nothing (one update, which changes nothing). The same questions, updates and seeds otherwise.
2. A random reward has no expected gradient but through clipping (2506.10947, section 4.3), so that its arm says nothing where no ratio was
   ever clipped: such a training is refused, not reported.
3. A second base can be trained by the same rewards: whether chance helps hangs on what pretraining made likely.

Source: 2506.10947.
"""

from __future__ import annotations

from collections import Counter
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
from ..elicitation.workroom import Workroom
from .questions import graded, training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, mean_of, refuse_rewarded, unlearned
from .rewards import Reward
from .side_by_side import trainings
from .trained_models import Job

ARMS = {
    "truth": "right answers",
    "majority": "the base's majority answers",
    "incorrect": "majority answers that are wrong",
    "format": "the answer's form",
    "random": "chance",
    "unclipped": "chance, without clipping",
    "nothing": "no reward",
}
AGAINST = (
    ("truth", "random"), ("majority", "random"), ("incorrect", "random"), ("format", "random"), ("random", "unclipped"),
    ("unclipped", "nothing"),
)  # fmt: skip


class SpuriousOptions(RewardedOptions):
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """What is rewarded."""
    votes: int = Field(default=8, ge=2)
    """Sampled answers of the base per question that a majority is of."""
    chance: float = Field(default=0.5, gt=0, lt=1)
    """Of the random reward."""


def run(room: Workroom, options: SpuriousOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    grown, labels = grown_of(room, options)
    points, tables, said, _ = graded_everywhere(room, "spurious", grown, options, AGAINST)
    said += unlearned(grown, first)
    for arm in ("random", "unclipped"):
        if own_arms := [one for one in grown if one.group == arm]:
            clipped = [100 * row["clipped"] for one in own_arms for row in one.own.curve]
            said.append(
                f"{first.name}: {ARMS[arm]}: {min(clipped):.2f} to {max(clipped):.2f} % of the ratios of an update clipped; mean entropy "
                f"{mean_of(own_arms, 'entropy'):.3f} nats."
            )
    if labels:
        known = [one["right"] for one in labels.values()]
        said.append(
            f"{first.name}: the majority of {options.votes} answers is right on {sum(known)} of {len(known)} training questions that the "
            f"base answers."
        )
    return points, tables, said


def grown_of(room: Workroom, options: SpuriousOptions) -> tuple[list[Grown], dict[str, Any]]:
    """The trainings of every arm and seed, and the majorities that some of them were rewarded by.

    Raises BadInput where labels do not fill an update, and where a random reward was never clipped.
    """
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "spurious")
    labels = majorities(room, items, options) if {"majority", "incorrect"} & set(options.arms) else {}
    wrong = [item for item in items if item.id in labels and not labels[item.id]["right"]]
    if "incorrect" in options.arms and len(wrong) < options.prompts:
        raise BadInput(
            f"card spurious: the base's majority is wrong on {len(wrong)} training questions, which do not fill an update of "
            f"{options.prompts}; leave incorrect out of arms, or give more questions."
        )
    voted = [item for item in items if item.id in labels]
    if "majority" in options.arms and len(voted) < options.prompts:
        raise BadInput(f"card spurious: the base answers {len(voted)} training questions; leave majority out of arms.")
    arms: list[tuple[str, Job]] = []
    """What is rewarded."""
    for arm in (arm for arm in ARMS if arm in options.arms):
        asked, reward, other = _training(arm, items, voted, wrong, labels, options)
        for seed in options.seeds:
            recipe = options.recipe(seed, **other)
            arms.append((arm, Job(tuple(asked), first.form, reward, recipe, f"{ARMS[arm]}, seed {seed}")))
    owns = trainings(room, [job for _, job in arms])
    grown = [
        Grown(arm, ARMS[arm], job.recipe.seed, own, "steered" if arm == "truth" else "control")
        for (arm, job), own in zip(arms, owns, strict=True)
    ]
    for one in grown:
        if one.group == "random":
            check_clipped(one)
    return grown, labels


def _training(
    arm: str,
    items: list[Item],
    voted: list[Item],
    wrong: list[Item],
    labels: dict[str, Any],
    options: SpuriousOptions,
) -> tuple[list[Item], Reward, dict[str, Any]]:
    """Questions, reward, and what differs in the recipe."""
    if arm in ("majority", "incorrect"):
        chosen = voted if arm == "majority" else wrong
        return chosen, Reward("label", tuple(labels[item.id]["answer"] for item in chosen)), {}
    if arm in ("random", "unclipped"):
        return items, Reward("random", chance=options.chance), {"clip": (0.0, 0.0)} if arm == "unclipped" else {}
    return items, Reward(arm), {"updates": 1} if arm == "nothing" else {}  # type: ignore[arg-type]


def majorities(room: Workroom, items: list[Item], options: SpuriousOptions) -> dict[str, Any]:
    """The base's most frequent sampled answer per question, of those that it answers at all, and whether it is right; ties go to the
    answer that came first."""
    base, task, form = room.base, room.asked.found, room.asked.settings[0].form

    def make() -> dict[str, Any]:
        rows = [
            Row(tuple(asked_ids(task, base, item, form)), seed=1 + number * 10**3 + vote)
            for number, item in enumerate(items)
            for vote in range(options.votes)
        ]
        texts = generate(
            base, rows, GenerationSettings(options.tokens, temperature=1.0), batch_size=256, detail="tokens"
        )
        grade, found = graded(base, task, items, form), {}
        for number, item in enumerate(items):
            grades = [grade(number, text) for text in texts[number * options.votes : (number + 1) * options.votes]]
            answers = Counter(one.answer for one in grades if one is not None and one.answer is not None)
            if answers:
                answer = answers.most_common(1)[0][0]
                right = any(one is not None and one.answer == answer and one.correct for one in grades)
                found[item.id] = {"answer": answer, "right": right}
        return found

    facts = {"items": [item.id for item in items], "votes": options.votes, "tokens": options.tokens, "form": form}
    made: dict[str, Any] = room.part("majorities", facts, make)
    return made


def check_clipped(one: Grown) -> None:
    """Raises BadInput for a random reward in whose training no ratio was clipped."""
    if not any(row["clipped"] for row in one.own.curve):
        steps = len(one.own.curve)
        raise BadInput(
            f"card spurious: with a reward by chance no ratio was clipped in {steps} updates of seed {one.seed}, so that its expected "
            f"gradient is zero by construction and the arm would say nothing; give more gradient steps per update (--set reuse=2 or more) "
            f"or a larger rate."
        )


def refuse(asked: Elicit, options: SpuriousOptions) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card spurious: arms")
    refuse_rewarded(asked, options, "spurious")
    if "random" in options.arms and options.reuse == 1:
        raise BadInput(
            "card spurious: with one gradient step per update no ratio is ever clipped, and a reward by chance has no expected gradient; "
            "give --set reuse=2 or more."
        )


CARD = Card(
    name="spurious",
    title="Spurious rewards",
    systems=("S10",),
    papers=("2506.10947",),
    measures="what rewards give that say little or nothing of the answer, beside the right answer's",
    control="a random reward with and without clipping, and no reward",
    quick=SpuriousOptions(n=200),
    full=SpuriousOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=40, prompts=16, votes=32),
    run=run,
    refuse=refuse,
)
