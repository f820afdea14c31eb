"""Confidence by reward (RLCR): does a model that is rewarded for saying how sure it is say more than how often it is right?

1. The base states no confidence. It is first taught a scale on its own sampled texts: behind a cue it writes a level that is drawn at
   random, so that the scale is written and says nothing. Every arm starts there.
2. Arms, equal but for the reward: a right answer less the squared error of the stated confidence (2507.16806); the squared error alone; the
   confidence held against the verdict on another text, from which no more can be learned than how often answers are right; a right answer
   alone, which leaves the confidence as it was.
3. Stated confidence is read behind greedy test texts, with the cue given. Beside it stand a constant, and the probability of the answer's
   tokens, which needs no training.
4. Of the first seed's model it is asked whether what it states is read off a direction that tells right texts from wrong ones: a probe on
   other questions, its rank correlation with the statement, and what adding it does to the statement, beside random directions.

Source: 2507.16806; directions after 2605.05715.
"""

from __future__ import annotations

import random
from typing import Any

from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown

from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit, Setting
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .calibrated_tables import calibration_lines, stated_of
from .questions import graded, training_items
from .read_out import Taught, read_out
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded, unlearned
from .rewards import Reward
from .scales import Scale, scale_of
from .side_by_side import trainings
from .supervised import Lesson, Tuning
from .trained_models import Job, TextJob, TrainedModel, trained_on_texts

ARMS = {
    "brier": "right answer and confidence",
    "confidence": "confidence alone",
    "shuffled": "right answer, confidence of another text",
    "truth": "right answer alone",
}
REWARDS = {"brier": "brier", "confidence": "brier-alone", "shuffled": "brier-shuffled", "truth": "truth"}
AGAINST = (("brier", "truth"), ("brier", "shuffled"), ("brier", "confidence"))
SCALED = "taught a scale at random"


class CalibratedOptions(RewardedOptions):
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """What is rewarded."""
    rate: float = Field(default=5e-5, gt=0)
    """Adam's step."""
    tokens: int = Field(default=280, ge=1)
    """Of a text in training: one that does not end is asked for no confidence."""
    asked: int = Field(default=64, ge=8)
    """Training questions whose texts the scale is taught on, and the probe is fitted to."""
    texts: int = Field(default=4, ge=1)
    """Per question."""
    steps: int = Field(default=60, ge=1)
    """Gradient steps of teaching the scale."""
    teaching: float = Field(default=5e-4, gt=0)
    """Adam's highest step while the scale is taught."""
    directions: int = Field(default=19, ge=2)
    """Random directions beside the probe's."""


def run(room: Workroom, options: CalibratedOptions) -> tuple[list[Point], list[Table], list[str]]:
    setting = setting_of(room.asked)
    items = training_items(room.asked, options.read, options.pool, "calibrated")
    scale = scale_of(room.base, room.asked.found)
    taught = _taught(room, items, setting, options)
    start = _start(room, taught, scale, options)
    jobs = [
        (arm, Job(tuple(items), setting.form, Reward(REWARDS[arm]), options.recipe(seed), f"{ARMS[arm]}, seed {seed}", start=start))  # type: ignore[arg-type]
        for arm in ARMS
        if arm in options.arms
        for seed in options.seeds
    ]  # fmt: skip
    owns = trainings(room, [job for _, job in jobs])
    grown = [
        Grown(arm, ARMS[arm], job.recipe.seed, own, "steered" if arm == "brier" else "control")
        for (arm, job), own in zip(jobs, owns, strict=True)
    ]
    scaled = Grown("scale", SCALED, 0, start, "control")
    points, tables, said, runs = graded_everywhere(room, "calibrated", [*grown, scaled], options, AGAINST)
    said += unlearned(grown, setting)
    stated = {
        one.line.arm: stated_of(room, runs[setting.name], setting, one.line.arm, one.model, scale)
        for one in (*grown, scaled)
    }
    table, words = calibration_lines(setting, [*grown, scaled], stated)
    tables.append(table)
    said += words
    first = next((one for one in grown if one.group == "brier"), grown[0])
    more, told = read_out(room, first, setting, taught, stated[first.line.arm], scale, options.directions)
    return points, [*tables, *more], said + told


def setting_of(asked: Elicit) -> Setting:
    """Where confidence is trained: the setting that asks to think, else the first one."""
    return next((setting for setting in asked.settings if setting.form == asked.think), asked.settings[0])


def _taught(room: Workroom, items: list[Item], setting: Setting, options: CalibratedOptions) -> list[Taught]:
    """Sampled texts of the base that ended, with their verdicts. Raises BadInput where none did."""
    base, task, few = room.base, room.asked.found, items[: options.asked]

    def make() -> list[dict[str, Any]]:
        prompts = [tuple(asked_ids(task, base, item, setting.form)) for item in few]
        rows = [
            Row(prompt, seed=1 + number * 10**3 + draw)
            for number, prompt in enumerate(prompts)
            for draw in range(options.texts)
        ]
        texts = generate(
            base, rows, GenerationSettings(options.tokens, temperature=1.0), batch_size=256, detail="tokens"
        )
        grade, made = graded(base, task, few, setting.form), []
        for place, text in enumerate(texts):
            number = place // options.texts
            if (found := grade(number, text)) is not None:
                made.append({"number": number, "ids": list(text.token_ids), "right": found.correct})
        return made

    facts = {"items": [item.id for item in few], "texts": options.texts, "tokens": options.tokens, "form": setting.form}
    found = room.part("scale-texts", facts, make)
    if not found:
        raise BadInput(
            f"card calibrated: none of {len(few) * options.texts} texts of {base.id} ended within {options.tokens} tokens, so that there "
            f"is none behind which a confidence could be asked for; give more tokens."
        )
    return [
        Taught(one["number"], tuple(asked_ids(task, base, few[one["number"]], setting.form)), tuple(one["ids"]), one["right"])
        for one in found
    ]  # fmt: skip


def _start(room: Workroom, taught: list[Taught], scale: Scale, options: CalibratedOptions) -> TrainedModel:
    """The base with a scale that says nothing. Its own texts are learnt along: levels alone, a token per text, cost most right answers."""
    rng = random.Random("levels of the scale")
    lessons = [Lesson(one.prompt_ids, (*one.token_ids, *scale.cue_ids, rng.choice(scale.level_ids))) for one in taught]
    return trained_on_texts(room, TextJob(tuple(lessons), Tuning(options.steps, 16, options.teaching), SCALED))


def refuse(asked: Elicit, options: CalibratedOptions) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card calibrated: arms")
    refuse_rewarded(asked, options, "calibrated")


CARD = Card(
    name="calibrated",
    title="Confidence by reward",
    systems=("S33",),
    papers=("2507.16806", "2605.05715"),
    measures="Brier score, calibration error and AUROC of a stated confidence after training for it; whether it is read off a direction",
    control="confidence held against another text's verdict, right answers alone, a constant, the answer's probability, random directions",
    quick=CalibratedOptions(n=200, updates=10),
    full=CalibratedOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16, asked=200),
    run=run,
    refuse=refuse,
)
