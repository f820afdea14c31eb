"""Exchange (S23): does a behaviour's direction belong to the model that it was read from, or to the one that it is added to?

1. A behaviour's vector is the mean before its spans minus the mean of whole texts (`exchange_vectors`), read from the base and from the
   thinking model on the same texts, those of the thinking model.
2. Every vector is added to every model over the generated tokens: base, thinking model, and bases whose weights other cards trained. What
   moves is the behaviour's share of a text's labelled spans; beside it the same vector subtracted, and random vectors of its norm.
3. Exact labels of the built-in task stand beside a list of keywords, with their correlation over texts; elsewhere the lexicon labels.

Source: 2507.12638 (a base's backtracking vector works in the thinking model and not in the base; cosine 0.74).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from pydantic import Field

from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector, random_like

from ...pair.verifier import BEHAVIOURS
from ...statistics import paired_difference, rank_p
from ...store.runs import Arm, Run
from ..elicitation.asked import Elicit, Setting
from ..elicitation.card import Card, Options
from ..elicitation.findings import Point, Table
from ..elicitation.points import between, difference_said, points_of
from ..elicitation.workroom import Workroom
from .elicited import refuse_weights, trained_weights
from .exchange_vectors import behaviour_vectors
from .questions import training_items

KEYWORDS = {
    "backtracking": ("back", "wait", "hmm", "alternatively"), "checking": ("check", "verify"), "self-correcting": ("wait", "actually"),
    "doubting": ("hmm", "maybe", "perhaps"),
}  # fmt: skip
"""Words that a list would count."""
FROM = {"base": "the base", "thinking": "the thinking model"}


class ExchangeOptions(Options):
    behaviours: tuple[str, ...] = Field(default=("backtracking", "checking"), min_length=1)
    """Whose vectors are exchanged."""
    dose: float = Field(default=1.0, gt=0)
    """In units of a vector's norm, which is that of the mean activation."""
    layer: int | None = Field(default=None, ge=0)
    """Where vectors are read and added; by default the last layer of the first half."""
    before: int = Field(default=4, ge=0)
    """Tokens before a span that are read."""
    after: int = Field(default=1, ge=1)
    """Tokens of the span itself, at most."""
    texts: int = Field(default=200, ge=8)
    """Of the thinking model, that are read."""
    directions: int = Field(default=19, ge=2)
    """Random vectors per model."""
    weights: tuple[str, ...] = ("one-example", "random")
    """Trainings of weights by other cards that vectors are added to as well, of seed 0."""
    sized: dict[str, Any] = Field(default_factory=dict)
    """Fields of those cards that are to be others than in their quick preset."""
    read: dict[str, int] = Field(default_factory=dict)
    """Of another task: training questions by split."""


def run(room: Workroom, options: ExchangeOptions) -> tuple[list[Point], list[Table], list[str]]:
    setting = _setting(room.asked)
    site = room.base.layout.check(Site(_layer(room, options)))
    items = training_items(room.asked, options.read, options.texts, "exchange")
    window = (options.before, options.after)
    vectors, table, said = behaviour_vectors(room, items, site, options.behaviours, window)
    models = {"base": (room.asked.base, "base"), "thinking": (str(room.asked.thinking), "thinking model")}
    for grown in trained_weights(room, options.weights, (0,), options.sized, options.read):
        models[grown.line.arm] = (grown.model, f"base trained on {grown.label}")
    arms: list[Arm] = []
    used: dict[str, Any] = {}

    def add(name: str, label: str, model: str, vector: SteeringVector, dose: float, role: str) -> None:
        plan = Plan((Intervention("add", vector, Span.parse("generated"), Dose(dose, "vector"), sites=(site,)),))
        used.update(plan.vectors)
        arms.append(room.arm(setting, name, label, role, model=model, plan=plan.to_dict()))

    size = float(np.mean([float(v.direction.norm()) for v in vectors.values()]))
    for prefix, (model, label) in models.items():
        if prefix not in ("base", "thinking"):
            arms.append(room.arm(setting, prefix, label, model=model))
        for (behaviour, source), vector in vectors.items():
            name = f"{prefix}-{behaviour.replace(' ', '-')}-of-{source}"
            add(name, f"{label}, {behaviour} of {FROM[source]} added", model, vector, options.dose, "steered")
            add(
                f"{name}-minus",
                f"{label}, {behaviour} of {FROM[source]} subtracted",
                model,
                vector,
                -options.dose,
                "control",
            )
        for seed in range(options.directions):
            drawn = random_like(next(iter(vectors.values())), seed)
            dose = options.dose * size / float(drawn.direction.norm())
            add(f"{prefix}-random-{seed}", f"{label}, random vector {seed}", model, drawn, dose, "control")
    found = room.evaluate("exchange", setting, [*room.references(setting), *arms], options.n, used)
    points = [point for point in points_of(found, setting) if "-random-" not in point.arm]
    tables = [table]
    shares = {behaviour: spans_of(found, behaviour) for behaviour in options.behaviours}
    for behaviour in options.behaviours:
        made, words = _behaviour(setting, behaviour, shares[behaviour], models, options)
        tables.append(made)
        said += words
    if keyword := _keywords(room, setting, found, options):
        tables.append(keyword)
    return points, tables, said


def _setting(asked: Elicit) -> Setting:
    """Where traces are: the setting that asks to think."""
    return next((setting for setting in asked.settings if setting.form == asked.think), asked.settings[0])


def _layer(room: Workroom, options: ExchangeOptions) -> int:
    return max(0, room.base.n_layers // 2 - 1) if options.layer is None else options.layer


def spans_of(run: Run, behaviour: str) -> dict[str, dict[str, float]]:
    """Share of a text's labelled spans that are of a behaviour, by arm and question; 0 for a text without a span."""
    found: dict[str, dict[str, float]] = {}
    for row in run.table(columns=["arm", "item", "labels"]).to_pylist():
        labels = [span["label"] for span in row["labels"] or ()]
        found.setdefault(row["arm"], {})[row["item"]] = labels.count(behaviour) / len(labels) if labels else 0.0
    return found


def _behaviour(
    setting: Setting,
    behaviour: str,
    shares: dict[str, dict[str, float]],
    models: dict[str, tuple[str, str]],
    options: ExchangeOptions,
) -> tuple[Table, list[str]]:
    """One behaviour in every model, by both vectors."""
    lines: list[tuple[Any, ...]] = []
    said: list[str] = []
    for prefix, (_, label) in models.items():
        before = _values(shares[prefix])
        chance = [
            float((_values(shares[f"{prefix}-random-{seed}"]) - before).mean()) for seed in range(options.directions)
        ]
        for source in FROM:
            name = f"{prefix}-{behaviour.replace(' ', '-')}-of-{source}"
            moved = paired_difference(before, _values(shares[name]))
            back = paired_difference(before, _values(shares[f"{name}-minus"])).difference
            p, low, high = rank_p(moved.difference, chance), moved.interval.low, moved.interval.high
            drawn = f"{100 * np.mean(chance):+.1f}"
            lines.append(
                (
                    label, FROM[source], f"{100 * before.mean():.1f}", f"{100 * moved.difference:+.1f} ({between(low, high)})",
                    f"{100 * back:+.1f}", f"{drawn} ({between(min(chance), max(chance))})", f"{p:.3f}",
                )
            )  # fmt: skip
            said.append(
                f"{setting.name}: {behaviour} of {FROM[source]} in {label}: {difference_said(moved)} points of its share of labelled "
                f"spans; random vectors {drawn} on average, one-sided rank p {p:.3f} for more, never below "
                f"{1 / (1 + options.directions):.3f}; subtracted {100 * back:+.1f}."
            )
    return Table(
        title=f"{setting.name}: {behaviour}, % of a text's labelled spans",
        heads=(
            "added to", "vector of", "without", "difference (95 %)", "subtracted", f"{options.directions} random vectors, mean (range)",
            "rank p, more (one-sided)",
        ),
        lines=tuple(lines),
        notes=(f"n {len(next(iter(shares.values())))}; {options.dose:g}v over generated tokens.",),
    ), said  # fmt: skip


def _values(shares: dict[str, float]) -> np.ndarray:
    return np.array([shares[item] for item in sorted(shares)])


def _keywords(room: Workroom, setting: Setting, run: Run, options: ExchangeOptions) -> Table | None:
    """How well a list of words finds a behaviour: rates and their correlation over the texts of every arm."""
    known = [behaviour for behaviour in options.behaviours if behaviour in KEYWORDS]
    if not known:
        return None
    rows = run.table(columns=["text", "labels"]).to_pylist()
    lines = []
    for behaviour in known:
        words = re.compile(rf"\b(?:{'|'.join(KEYWORDS[behaviour])})\b", re.IGNORECASE)
        exact = np.array([[s["label"] for s in row["labels"] or ()].count(behaviour) for row in rows], float)
        listed = np.array([len(words.findall(row["text"] or "")) for row in rows], float)
        alike = f"{np.corrcoef(exact, listed)[0, 1]:+.2f}" if exact.std() > 0 and listed.std() > 0 else None
        lines.append((behaviour, ", ".join(KEYWORDS[behaviour]), f"{exact.mean():.2f}", f"{listed.mean():.2f}", alike))
    return Table(
        title=f"{setting.name}: labels beside a list of words, per text",
        heads=("behaviour", "words", "labelled spans", "words found", "correlation over texts"),
        lines=tuple(lines),
        notes=(
            f"{len(rows)} texts of all arms; labels are {'exact' if room.asked.builtin else 'those of the lexicon'}.",
        ),
    )


def refuse(asked: Elicit, options: ExchangeOptions) -> None:
    if asked.thinking is None:
        raise BadInput("The card exchange compares two models: give --pair BASE,THINKING.")
    training_items(asked, options.read, options.texts, "exchange")
    refuse_weights(asked, options.weights, options.sized, "exchange")
    if asked.builtin and (odd := [one for one in options.behaviours if one not in BEHAVIOURS]):
        raise BadInput(f"card exchange: the built-in task has no behaviour {odd[0]!r}; it has {', '.join(BEHAVIOURS)}.")
    if len(set(options.behaviours)) < len(options.behaviours):
        raise BadInput("card exchange: a behaviour stands twice in behaviours.")


CARD = Card(
    name="exchange",
    title="Exchange of behaviour vectors",
    systems=("S23",),
    papers=("2507.12638", "2506.18167"),
    measures="what a behaviour's vector of one model does in the other, and in bases that were trained",
    control="random vectors of equal norm, the vector subtracted, split-half ceilings of the cosines",
    quick=ExchangeOptions(n=200),
    full=ExchangeOptions(
        n=400, texts=600, behaviours=("backtracking", "checking", "doubting", "self-correcting"), directions=39
    ),
    run=run,
    refuse=refuse,
)
