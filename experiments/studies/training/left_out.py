"""Leave one family out (S35): what does each kind of document give to answers and to traces?

1. One start is trained on with a corpus of drills, recitals, direct answers and traces by style, whole, and without one family at a time;
   equal tokens, several seeds.
2. Control: the same corpus without as many documents drawn at random, several draws per seed. Less of everything is no kind of document.
3. Costs are read on answers, on traces, and on the loss of fresh documents of every family.

Source: 2411.12580 (procedural knowledge): which documents reasoning draws on. There by influence functions, here by leaving out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field

from steering.errors import BadInput, unknown

from ...pair.corpus import FAMILIES, Batch, family_document, packed
from ...pair.left_out import DRAW, WHOLE, corpus_of, lessons, without
from ...pair.pretrain import packed_loss
from ...pair.problem import STANDARD as SIZES
from ...pair.supervised import Supervised
from ..elicitation.asked import Elicit
from ..elicitation.card import Card, Options
from ..elicitation.findings import Point, Table
from ..elicitation.points import points_of
from ..elicitation.workroom import Workroom
from .continued import START, Continued, continued, is_continued, refuse_others
from .corrupted import BARE, STANDARD
from .corrupted_tables import curve_table
from .left_out_tables import costs_of, costs_table, losses_table, told_of
from .side_by_side import spread
from .verified import Axes, axes_of

ROW = 416
"""Tokens of a packed row."""
FRESH = 24
"""Documents of each family that no training has read, on which loss is measured."""


class LeftOutOptions(Options):
    families: tuple[str, ...] = Field(default=FAMILIES, min_length=1)
    """That are left out, one at a time."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Of the trainings."""
    draws: int = Field(default=2, ge=1)
    """Per seed, of documents that are left out at random."""
    each: int = Field(default=200, ge=2)
    """Documents of every family in the corpus."""
    updates: int = Field(default=40, ge=1)
    """Steps of the optimiser per training."""
    tokens: int = Field(default=2400, ge=500)
    """Per update, at most."""
    rate: float = Field(default=3e-3, gt=0)
    """Learning rate at its plateau."""


def run(room: Workroom, options: LeftOutOptions) -> tuple[list[Point], list[Table], list[str]]:
    draws = tuple(f"{DRAW}{number}" for number in range(options.draws))
    arms = (WHOLE, *options.families, *draws)
    labels = {arm: label_of(arm) for arm in arms}
    named = [(options, arm, seed) for seed in options.seeds for arm in arms]
    spread(room, _trained, [one for one in named if not is_continued(room, _reads(*one), _spec(options))])
    trained = {(arm, seed): _trained(room, (options, arm, seed)) for _, arm, seed in named}
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    for setting in (STANDARD, BARE):
        asked = [room.arm(setting, "start", f"{START}, before training", "baseline", model=START)]
        for (arm, seed), own in trained.items():
            role = "control" if arm in draws else "steered"
            asked.append(room.arm(setting, f"{arm}-{seed}", own.label, role, model=own.model))
        made = room.evaluate("left-out", setting, asked, options.n)
        controls = {f"{arm}-{seed}": f"{draws[0]}-{seed}" for arm, seed in trained if arm not in draws}
        points += points_of(made, setting, controls)
        axes: dict[str, Axes] = axes_of(room, made, setting, options.n)
        fields = ("right", "verified", "holds") if setting is STANDARD else ("right",)
        for field in fields:
            costs = costs_of(axes, field, arms, draws, options.seeds)
            tables.append(costs_table(setting, field, costs, labels))
            said += told_of(setting, field, costs, labels)
    tables.append(losses_table(_fresh_losses(room, trained), arms, options.seeds, labels))
    tables.append(curve_table(trained, arms, options.seeds, labels))
    return points, tables, said


NAMED = {
    WHOLE: "whole corpus",
    "direct": "without direct answers",
    "drill": "without drills",
    "recital": "without recitals",
}


def label_of(arm: str) -> str:
    """What an arm's corpus is."""
    if arm.startswith(DRAW):
        return f"without a random share, draw {arm.removeprefix(DRAW)}"
    return NAMED.get(arm, f"without {arm} traces")


def _reads(options: LeftOutOptions, arm: str, seed: int) -> dict[str, Any]:
    return {"documents": "left-out", "arm": arm, "seed": seed, "each": options.each, "tokens": options.tokens}


def _spec(options: LeftOutOptions) -> Supervised:
    return Supervised(options.updates, options.rate)


def _trained(room: Workroom, one: tuple[LeftOutOptions, str, int]) -> Continued:
    options, arm, seed = one
    made: list[Batch] = []

    def lesson(update: int) -> Batch:
        if not made:
            corpus = without(corpus_of(seed, options.each), arm, seed)
            made.extend(packed(own, ROW) for own in lessons(corpus, seed, options.updates, options.tokens))
        return made[update]

    return continued(room, _reads(*one), lesson, _spec(options), f"{label_of(arm)}, seed {seed}")


@torch.inference_mode()
def _fresh_losses(
    room: Workroom, trained: Mapping[tuple[str, int], Continued]
) -> dict[tuple[str, int], dict[str, float]]:
    """Loss of every training on fresh documents by family, nats per token."""
    rng = random.Random("left-out/fresh")
    fresh = {family: packed([family_document(rng, family, SIZES) for _ in range(FRESH)], ROW) for family in FAMILIES}
    return {
        key: {family: float(packed_loss(room.model(own.model).model, batch)) for family, batch in fresh.items()}
        for key, own in trained.items()
    }


def refuse(asked: Elicit, options: LeftOutOptions) -> None:
    refuse_others(asked, "left-out")
    for family in options.families:
        if family not in FAMILIES:
            raise unknown("family", family, FAMILIES, where="card left-out: families")
    if options.tokens < ROW:
        raise BadInput(
            f"card left-out: tokens is {options.tokens}; an update reads at least one document, of up to {ROW} tokens."
        )


CARD = Card(
    name="left-out",
    title="Leave one family out",
    systems=("S35",),
    papers=("2411.12580",),
    measures="what the absence of drills, recitals, direct answers and each style of traces costs on answers, traces and loss",
    control="as many documents left out at random, several draws; equal tokens; several seeds",
    quick=LeftOutOptions(n=200),
    full=LeftOutOptions(n=400, seeds=(0, 1, 2, 3, 4), draws=4, each=1000, updates=200),
    run=run,
    refuse=refuse,
)
