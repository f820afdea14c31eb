"""Exposure and collapse (S31): does reward training spread styles that pretraining holds, and can it make one that pretraining does not?

1. Texts are sampled from the base after some updates of reward training on right answers, several seeds, and from the thinking model; their
   styles are exact (`styles`).
2. Beside them stands each style's share in the pretraining documents that answer bare prompts. Two styles are planted at nothing there:
   after training their share has an upper bound, and one that appears is said.
3. Collapse is read off how many different texts there are: the entropy of the distribution of styles, and the share of questions whose
   samples are all the same text.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel

from ...pair.problem import Problem
from ...statistics import wilson
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .questions import training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded
from .rewards import Reward
from .side_by_side import trainings
from .styles import PLANTED, STYLES, pretrained, styles_of
from .trained_models import Job

FULL = "the full set, right answers"


class ExposureOptions(RewardedOptions):
    shown: tuple[int, ...] = ()
    """Updates after which texts are sampled; by default after a third and two thirds of them, and after the last."""
    samples_of: int = Field(default=4, ge=2)
    """Sampled texts per question."""
    questions: int = Field(default=100, ge=8)
    """Of the first setting, that are sampled."""

    @property
    def kept(self) -> tuple[int, ...]:
        thirds = (self.updates // 3, 2 * self.updates // 3)
        return tuple(sorted({update for update in self.shown or thirds if 0 < update < self.updates}))


def run(room: Workroom, options: ExposureOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "exposure")
    jobs = [
        Job(tuple(items), first.form, Reward(), options.recipe(seed), f"{FULL}, seed {seed}", options.kept)
        for seed in options.seeds
    ]
    owns = trainings(room, jobs)
    grown = [Grown("full", FULL, seed, own) for seed, own in zip(options.seeds, owns, strict=True)]
    points, tables, said, _ = graded_everywhere(room, "exposure", grown, options)
    corpus = room.part("styles-of-the-corpus", {"of": "bare prompts"}, pretrained)
    models: dict[str, list[str]] = {"0": [room.asked.base]}
    for update in (*options.kept, options.updates):
        models[str(update)] = [one.own.models[update] for one in grown]
    if room.asked.thinking is not None:
        models["thinking model"] = [room.asked.thinking]
    seen = {name: [_sampled(room, model, options) for model in own] for name, own in models.items()}
    tables += [_shares(seen, corpus, options), _collapse(seen, options)]
    for style in PLANTED:
        held = corpus[style]
        counts = {
            name: (sum(one["styles"][style] for one in own), sum(one["texts"] for one in own))
            for name, own in seen.items()
        }
        where = {name: count for name, (count, _) in counts.items() if count}
        found = ", ".join(f"{count} of {counts[name][1]} at {_after(name)}" for name, count in where.items())
        worst = max(100 * wilson(*pair).high for pair in counts.values())
        said.append(
            f"{first.name}: {STYLES[style]} ({100 * held:.1f} % of pretraining): "
            + (
                f"found in {found}."
                if where
                else f"in no text before or after training (at most {worst:.1f} % anywhere, 95 %)."
            )
        )
    return points, tables, said


def _sampled(room: Workroom, name: str, options: ExposureOptions) -> dict[str, Any]:
    """Counts of styles in a model's sampled texts, how many texts there are, and how many questions gave one text again and again."""
    first, model = room.asked.settings[0], room.model(name)
    facts = {"model": model.fingerprint, "questions": options.questions, "samples": options.samples_of}
    made: dict[str, Any] = room.part("styles", facts | {"form": first.form}, lambda: _styles(room, model, options))
    return made


def _styles(room: Workroom, model: LoadedModel, options: ExposureOptions) -> dict[str, Any]:
    first, task = room.asked.settings[0], room.asked.found
    items = task.items(first.split, options.questions)
    rows = [
        Row(tuple(asked_ids(task, model, item, first.form)), seed=number * 10**3 + draw)
        for number, item in enumerate(items)
        for draw in range(options.samples_of)
    ]
    settings = GenerationSettings(room.asked.max_new_tokens, temperature=1.0)
    texts = generate(model, rows, settings, batch_size=256, detail="tokens")
    tally, together, same = dict.fromkeys(STYLES, 0), Counter[str](), 0
    for number, item in enumerate(items):
        problem: Problem = item.data
        own = texts[number * options.samples_of : (number + 1) * options.samples_of]
        same += len({text.token_ids for text in own}) == 1
        for text in own:
            words = model.tokenizer.convert_ids_to_tokens([t for t in text.token_ids if t not in model.eos_ids])
            styles = styles_of(problem, words)
            together[" + ".join(sorted(styles))] += 1
            for style in styles:
                tally[style] += 1
    shares = np.array(list(together.values())) / len(texts)
    return {"styles": tally, "texts": len(texts), "same": same, "entropy": float(-(shares * np.log(shares)).sum())}


def _after(name: str) -> str:
    return f"{name} updates" if name.isdigit() else f"the {name}"


def _shares(seen: dict[str, list[dict[str, Any]]], corpus: dict[str, float], options: ExposureOptions) -> Table:
    lines = []
    for style, label in STYLES.items():
        cells = []
        for own in seen.values():
            shares = [100 * one["styles"][style] / one["texts"] for one in own]
            spread = f" ({min(shares):.1f} to {max(shares):.1f})" if len(shares) > 1 else ""
            cells.append(f"{np.mean(shares):.1f}{spread}")
        lines.append((label, f"{100 * corpus[style]:.1f}", *cells))
    n = options.questions * options.samples_of
    return Table(
        title="Styles of sampled texts, %, by updates of reward training",
        heads=("a text", "in pretraining", *(_after(name) for name in seen)),
        lines=tuple(lines),
        notes=(
            f"{n} texts per model at temperature 1 on bare test questions; mean (range) over seeds. In pretraining: documents that answer "
            f"a bare prompt, the last phases alike. A share of 0 of {n} texts is at most {100 * wilson(0, n).high:.1f} % (95 %).",
        ),
    )


def _collapse(seen: dict[str, list[dict[str, Any]]], options: ExposureOptions) -> Table:
    return Table(
        title="Collapse",
        heads=(
            "after",
            "entropy of the styles' combinations, nats",
            f"% of questions whose {options.samples_of} samples are one text",
        ),
        lines=tuple(
            (
                _after(name),
                f"{math.fsum(one['entropy'] for one in own) / len(own):.2f}",
                f"{np.mean([100 * one['same'] / options.questions for one in own]):.1f}",
            )
            for name, own in seen.items()
        ),
    )


def refuse(asked: Elicit, options: ExposureOptions) -> None:
    if not asked.builtin:
        raise BadInput(
            "card exposure: styles are read off the built-in task's grammar; another task has none. Leave --task out."
        )
    refuse_rewarded(asked, options, "exposure")
    asked.found.items(asked.settings[0].split, options.questions)


CARD = Card(
    name="exposure",
    title="Exposure and collapse",
    systems=("S31",),
    papers=("2512.07783", "2504.13837", "2507.14843"),
    measures="shares of each style of text along reward training, beside their shares in pretraining",
    control="two styles that pretraining does not hold; the base's own texts",
    quick=ExposureOptions(n=200),
    full=ExposureOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16, samples_of=8, questions=200),
    run=run,
    refuse=refuse,
)
