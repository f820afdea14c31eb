"""Corrupted traces (S15): what must a trace say for the model that learns from it to answer rightly?

1. One start, which has read no trace, is trained on in every arm: the same problems with the same right answers, with traces that are valid
   or wrong in one way each (`pair.corruption`), or none; equal tokens, several seeds.
2. Answers and traces are two axes (`verified`): in distribution on standard problems, out of it on hard ones, whose chains are longer and
   whose candidates are more than any trained trace's.
3. What the first word does: bare prompts, answered quickly in training, beside the prompt that asks to think first, and beside bare prompts
   whose response begins with the arm's own first word.

Sources: 2505.13775, 2504.09762, 2307.10573, 2502.07374, 2505.13792.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from steering.errors import BadInput, unknown

from ...pair.corpus import Batch, packed
from ...pair.corruption import ARMS, lesson
from ...pair.supervised import Supervised
from ...store.runs import Arm
from ..elicitation.asked import Elicit, Setting
from ..elicitation.card import Card, Options
from ..elicitation.findings import Point, Table
from ..elicitation.points import points_of
from ..elicitation.workroom import Workroom
from .continued import START, Continued, continued, is_continued, refuse_others
from .corrupted_tables import axes_table, chance_of, curve_table, difference_table, first_word_table, told_of
from .side_by_side import spread
from .verified import Axes, axes_of

STANDARD = Setting(name="think-first prompts", split="standard-test", form="think")
HARD = Setting(name="think-first prompts, hard problems", split="hard-test", form="think")
BARE = Setting(name="bare prompts", split="standard-test", form="bare")
LABELS = {
    "valid": "valid traces", "swapped": "another problem's traces", "noise": "traces of random numbers",
    "shuffled": "traces in random order", "filler": "countdowns", "answers": "answers only",
}  # fmt: skip
ROW = 256
"""Tokens of a packed row; the longest document is shorter."""


class CorruptedOptions(Options):
    arms: tuple[str, ...] = Field(default=ARMS, min_length=1)
    """Which traces are learned."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Of the trainings."""
    updates: int = Field(default=60, ge=1)
    """Steps of the optimiser per training."""
    problems: int = Field(default=20, ge=2)
    """Per update."""
    rate: float = Field(default=3e-3, gt=0)
    """Learning rate at its plateau."""


def run(room: Workroom, options: CorruptedOptions) -> tuple[list[Point], list[Table], list[str]]:
    named = [(options, arm, seed) for seed in options.seeds for arm in options.arms]
    spread(room, _trained, [one for one in named if not is_continued(room, _reads(*one), _spec(options))])
    trained = {(arm, seed): _trained(room, (options, arm, seed)) for _, arm, seed in named}
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    found: dict[str, dict[str, Axes]] = {}
    for setting in (STANDARD, HARD, BARE):
        arms = [room.arm(setting, "start", f"{START}, before training", "baseline", model=START)]
        arms += [_arm(room, setting, own, arm, seed) for (arm, seed), own in trained.items()]
        if setting is BARE:
            arms += _opened(room, options, trained, found[STANDARD.name])
        made = room.evaluate("corrupted", setting, arms, options.n)
        controls = {f"{arm}-{seed}": f"answers-{seed}" for arm, seed in trained if arm != "answers"}
        points += points_of(made, setting, controls if "answers" in options.arms else None)
        axes = found[setting.name] = axes_of(room, made, setting, options.n)
        if setting is not BARE:
            tables.append(
                axes_table(setting, axes, options.arms, options.seeds, LABELS, chance_of(room, setting, options.n))
            )
            tables.append(difference_table(setting, axes, options.arms, options.seeds, LABELS))
            said += told_of(setting, axes, options.arms, options.seeds, LABELS)
    tables.append(first_word_table(found[BARE.name], found[STANDARD.name], options.arms, options.seeds, LABELS))
    tables.append(curve_table(trained, options.arms, options.seeds, LABELS))
    return points, tables, said


def _reads(options: CorruptedOptions, arm: str, seed: int) -> dict[str, Any]:
    return {"documents": "corruption", "arm": arm, "seed": seed, "problems": options.problems}


def _spec(options: CorruptedOptions) -> Supervised:
    return Supervised(options.updates, options.rate)


def _trained(room: Workroom, one: tuple[CorruptedOptions, str, int]) -> Continued:
    options, arm, seed = one
    batch = partial(_batch, arm, seed, options.problems)
    return continued(room, _reads(*one), batch, _spec(options), f"{LABELS[arm]}, seed {seed}")


def _batch(arm: str, seed: int, problems: int, update: int) -> Batch:
    return packed(lesson(arm, seed, update, problems), ROW)


def _arm(room: Workroom, setting: Setting, own: Continued, arm: str, seed: int, **given: str) -> Arm:
    role = "steered" if arm == "valid" else "control"
    return room.arm(setting, f"{arm}-{seed}", own.label, role, model=own.model, **given)


def _opened(
    room: Workroom, options: CorruptedOptions, trained: dict[tuple[str, int], Continued], axes: dict[str, Axes]
) -> list[Arm]:
    """Bare prompts with the word that most of an arm's own think-first texts begin with; of the first seed."""
    seed, arms = options.seeds[0], []
    for arm in options.arms:
        ((word, _),) = Counter(axes[f"{arm}-{seed}"].opened).most_common(1)
        if arm == "answers" or not word:
            continue
        own = trained[arm, seed]
        label = f"{own.label}, after {word!r}"
        arms.append(room.arm(BARE, f"{arm}-{seed}-opened", label, "prompt", model=own.model, opening=word))
    return arms


def refuse(asked: Elicit, options: CorruptedOptions) -> None:
    refuse_others(asked, "corrupted")
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card corrupted: arms")
    if "valid" not in options.arms:
        raise BadInput(
            f"card corrupted: arms lacks valid, which every other one is compared with; give some of {', '.join(ARMS)}."
        )


CARD = Card(
    name="corrupted",
    title="Corrupted traces",
    systems=("S15",),
    papers=("2505.13775", "2504.09762", "2307.10573", "2502.07374", "2505.13792"),
    measures="answers and traces apart, of bases that learned from valid, swapped, random, shuffled and content-free traces",
    control="answers only at equal tokens, the start before training, chance; several seeds",
    quick=CorruptedOptions(n=200, updates=320, rate=4e-3),
    full=CorruptedOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=1600),
    run=run,
    refuse=refuse,
)
