"""Reinforcement on one question (S6): does one prompt, asked again and again, draw out as much as a whole set of them?

1. The example is the question whose mean reward varied most over the epochs of an ordinary training on a few questions (2504.20571,
   historical variance); the hard one is that which earned least.
2. Arms, equal but for question and reward: the example with its right answer; with the answer's form; with the entropy bonus alone; with a
   wrong label, the most frequent wrong answer of the base; the hard question; the full set.
3. The curve holds accuracy on the example, while training, and on test questions after some updates, those past saturation among them.
4. Self-checks are counted in test texts: labelled sentences that check or correct on the built-in task, else the paper's words.

Source: 2504.20571; sums of its loss as in `grpo`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown

from ...store.runs import Run
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit, Setting
from ..elicitation.audit_verdict import corrects
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .questions import graded, training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded, unlearned
from .rewards import Reward
from .side_by_side import trainings
from .trained_models import Job, trained_by_reward

ARMS = {
    "full": "the full set, right answers",
    "truth": "one question, its right answer",
    "format": "one question, the answer's form",
    "entropy": "one question, entropy bonus alone",
    "wrong": "one question, a wrong label",
    "hard": "the hardest question, its right answer",
}
AGAINST = (
    ("truth", "full"), ("truth", "format"), ("truth", "entropy"), ("truth", "wrong"), ("truth", "hard"), ("entropy", "format"),
)  # fmt: skip
CHECKS = ("checking", "self-correcting")
WORDS = re.compile(r"\b(?:rethink|recheck|recalculate)\w*", re.IGNORECASE)
SATURATED = 0.95
"""Mean reward of the example from which on it has nothing more to teach."""


class OneExampleOptions(RewardedOptions):
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """What is rewarded, on which questions."""
    candidates: int = Field(default=24, ge=2)
    """Questions of the ordinary training among which the example is chosen."""
    epochs: int = Field(default=3, ge=2)
    """Of that training."""
    bonus: float = Field(default=1e-3, gt=0)
    """Weight of the entropy bonus in the arm that has no reward; the other arms have none."""
    shown: tuple[int, ...] = ()
    """Updates after which test questions are asked too; by default after a third and two thirds of them."""

    @property
    def kept(self) -> tuple[int, ...]:
        thirds = (self.updates // 3, 2 * self.updates // 3)
        return tuple(sorted({update for update in self.shown or thirds if 0 < update < self.updates}))


def run(room: Workroom, options: OneExampleOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    grown, said = grown_of(room, options)
    points, tables, words, runs = graded_everywhere(room, "one-example", grown, options, AGAINST)
    said += words + unlearned(grown, first)
    if options.kept:
        tables.append(_over_updates(room, grown, first, runs[first.name], options))
    tables.append(_self_checks(room, grown, runs))
    said += _saturation(grown, first)
    return points, tables, said


def grown_of(room: Workroom, options: OneExampleOptions) -> tuple[list[Grown], list[str]]:
    """The trainings of every arm and seed, and what is said of the question that was chosen."""
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "one-example")
    few = items[: options.candidates]
    label = "the ordinary training that chooses"
    history = trained_by_reward(room, Job(tuple(few), first.form, Reward(), _history(options), label))
    past = history_of(history.curve, len(few))
    example, hardest = chosen(past)
    said = [
        f"{first.name}: the example is training question {example} (mean reward by epoch "
        f"{', '.join(f'{value:.2f}' for value in past[example])}; variance {np.var(past[example]):.3f}), the hardest {hardest} "
        f"({', '.join(f'{value:.2f}' for value in past[hardest])}), of {len(past)} asked in {options.epochs} epochs."
    ]
    wrong = _wrong(room, items[example], options) if "wrong" in options.arms else None
    arms: list[tuple[str, Job]] = []
    """What is rewarded, on which questions."""
    for arm in (arm for arm in ARMS if arm in options.arms):
        if arm == "wrong" and wrong is None:
            said.append(f"{first.name}: the base never answers the example wrongly, so that it has no wrong label.")
            continue
        reward, other = _training(arm, wrong, options)
        asked = tuple(items) if arm == "full" else (items[hardest if arm == "hard" else example],)
        for seed in options.seeds:
            recipe, name = options.recipe(seed, **other), f"{ARMS[arm]}, seed {seed}"
            arms.append((arm, Job(asked, first.form, reward, recipe, name, options.kept)))
    owns = trainings(room, [job for _, job in arms])
    grown = [
        Grown(arm, ARMS[arm], job.recipe.seed, own, "steered" if arm in ("full", "truth") else "control")
        for (arm, job), own in zip(arms, owns, strict=True)
    ]
    return grown, said


def _history(options: OneExampleOptions) -> Any:
    """Every candidate once per epoch."""
    per_epoch = -(-options.candidates // options.prompts)
    return options.recipe(options.seeds[0], updates=per_epoch * options.epochs)


def history_of(curve: Sequence[dict[str, Any]], size: int) -> dict[int, list[float]]:
    """Mean reward of every question each time that it was asked, of those asked at least twice."""
    found: dict[int, list[float]] = {}
    for row in curve:
        for number, reward in row["asked"]:
            found.setdefault(int(number), []).append(float(reward))
    return {number: found[number] for number in sorted(found) if number < size and len(found[number]) >= 2}


def chosen(past: dict[int, list[float]]) -> tuple[int, int]:
    """The question whose reward varied most, and the one that earned least among the others; ties go to the first."""
    example = max(past, key=lambda number: (np.var(past[number]), -number))
    hardest = min((number for number in past if number != example), key=lambda number: (np.mean(past[number]), number))
    return example, hardest


def _wrong(room: Workroom, item: Item, options: OneExampleOptions) -> str | None:
    """The most frequent wrong answer that the base samples."""
    base, task, form = room.base, room.asked.found, room.asked.settings[0].form

    def make() -> str | None:
        ids = tuple(asked_ids(task, base, item, form))
        rows = [Row(ids, seed=1 + draw) for draw in range(64)]
        texts = generate(
            base, rows, GenerationSettings(options.tokens, temperature=1.0), batch_size=256, detail="tokens"
        )
        grade = graded(base, task, [item], form)
        found = [grade(0, text) for text in texts]
        wrong = Counter(g.answer for g in found if g is not None and g.answer is not None and not g.correct)
        return wrong.most_common(1)[0][0] if wrong else None

    label: str | None = room.part("wrong-label", {"item": item.id, "form": form, "tokens": options.tokens}, make)
    return label


def _training(arm: str, label: str | None, options: OneExampleOptions) -> tuple[Reward, dict[str, Any]]:
    """The reward, and what differs in the recipe."""
    if arm == "entropy":
        return Reward("nothing"), {"entropy": options.bonus}
    if arm == "wrong":
        assert label is not None
        return Reward("label", (label,)), {}
    return Reward("format" if arm == "format" else "truth"), {}


def _over_updates(
    room: Workroom, grown: Sequence[Grown], first: Setting, last: Run, options: OneExampleOptions
) -> Table:
    """Accuracy on test questions after some updates, and on the questions trained on."""
    arms = [
        room.arm(
            first, f"{one.line.arm}-after-{update}", f"{one.label}, seed {one.seed}, {update} updates",
            model=one.own.models[update],
        )
        for one in grown
        for update in options.kept
    ]  # fmt: skip
    before = room.evaluate(
        "one-example",
        first,
        [*room.references(first)[:1], *arms],
        options.n,
        what="after " + ", ".join(map(str, options.kept)),
    )
    right = corrects(before, first.split) | {
        f"{name}-after-{options.updates}": values for name, values in corrects(last, first.split).items()
    }
    lines: list[tuple[Any, ...]] = []
    for group in dict.fromkeys(one.group for one in grown):
        own = [one for one in grown if one.group == group]
        for update in (*options.kept, options.updates):
            tested = [100 * float(right[f"{one.line.arm}-after-{update}"].mean()) for one in own]
            earned = [one.own.curve[update - 1]["reward"] for one in own]
            lines.append(
                (own[0].label, update, f"{np.mean(earned):.2f}", f"{np.mean(tested):.1f} ({min(tested):.1f} to {max(tested):.1f})")
            )  # fmt: skip
    return Table(
        title=f"{first.name}: test questions after some updates",
        heads=("training", "updates", "reward in that update", "right % on test questions, mean (range over seeds)"),
        lines=tuple(lines),
        notes=(f"n {options.n}; the reward is the arm's own, sampled at temperature 1.",),
    )


def _self_checks(room: Workroom, grown: Sequence[Grown], runs: dict[str, Run]) -> Table:
    lines: list[tuple[Any, ...]] = []
    exact = room.asked.builtin
    for name, run in runs.items():
        shares = self_checks(run, exact)
        known = {"base": "base, greedy", "thinking": "thinking model"}
        for arm, label in known.items():
            if arm in shares:
                lines.append((name, label, f"{100 * shares[arm]:.1f}"))
        for group in dict.fromkeys(one.group for one in grown):
            own = [100 * shares[one.line.arm] for one in grown if one.group == group]
            label = next(one.label for one in grown if one.group == group)
            lines.append((name, label, f"{np.mean(own):.1f} ({min(own):.1f} to {max(own):.1f})"))
    what = "a labelled check or correction" if exact else "rethink, recheck or recalculate"
    return Table(
        title="Self-checks",
        heads=("setting", "arm", f"% of texts with {what}, mean (range over seeds)"),
        lines=tuple(lines),
    )


def self_checks(run: Run, exact: bool) -> dict[str, float]:
    """Share of an arm's texts that check themselves: by exact labels, or by the words of 2504.20571."""
    found: dict[str, list[float]] = {}
    for row in run.table(columns=["arm", "text", "labels"]).to_pylist():
        checks = (
            any(label["label"] in CHECKS for label in row["labels"] or ())
            if exact
            else WORDS.search(row["text"] or "") is not None
        )
        found.setdefault(row["arm"], []).append(float(checks))
    return {arm: float(np.mean(values)) for arm, values in found.items()}


def _saturation(grown: Sequence[Grown], first: Setting) -> list[str]:
    """From which update on the example earned nearly all."""
    said = []
    for one in grown:
        if one.group == "truth":
            after = next((n for n, row in enumerate(one.own.curve, 1) if row["reward"] >= SATURATED), None)
            where = "was not reached" if after is None else f"was reached in update {after}"
            said.append(
                f"{first.name}: seed {one.seed}: a reward of {SATURATED} on the example {where}, of {len(one.own.curve)}."
            )
    return said


def refuse(asked: Elicit, options: OneExampleOptions) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card one-example: arms")
    refuse_rewarded(asked, options, "one-example")
    items = training_items(asked, options.read, options.pool, "one-example")
    if len(items) < options.candidates:
        raise BadInput(
            f"card one-example: {len(items)} training questions are fewer than the {options.candidates} candidates; give more, or "
            f"--set candidates={len(items)}."
        )
    if options.candidates < options.prompts:
        raise BadInput(
            f"card one-example: {options.candidates} candidates do not fill an update of {options.prompts} prompts."
        )
    if bad := [update for update in options.shown if not 0 < update < options.updates]:
        raise BadInput(
            f"card one-example: shown has update {bad[0]}; name some between 1 and {options.updates - 1} (the last is always shown)."
        )


CARD = Card(
    name="one-example",
    title="Reinforcement on one question",
    systems=("S6",),
    papers=("2504.20571",),
    measures="what one question trains, by its right answer and by less, beside the full set",
    control="form, entropy bonus alone, a wrong label, the hardest question",
    quick=OneExampleOptions(n=200),
    full=OneExampleOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, samples=8, prompts=16, epochs=6),
    run=run,
    refuse=refuse,
)
