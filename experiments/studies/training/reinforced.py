"""Vectors trained by reinforcement (S24): how few numbers recover how much of what training all weights gives?

1. Budgets: one number along the mean difference of prompts, one vector at one layer, one vector at every layer, each from several seeds, by
   outcome reward alone; beside them the thinking model, whose weights were all trained so.
2. Controls: the same updates with rewards dealt out anew within each group; the same numbers fitted to the base's own right texts; the
   trained vector at another layer; the mean difference at the layer and dose that development questions choose.
3. The first seed's vector is audited as any vector is: biases on its words, its words' directions, itself without them, its first word as
   text, random directions of its norm.
4. Vectors are trained and audited in the first setting's form, and graded in every setting.

Sources: 2505.18706, 2509.06608.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown
from steering.extraction import Descent, Example, Reading, mean_difference, optimised_vector
from steering.extraction.place import Place, sizes_of
from steering.extraction.reinforced import Reinforcing
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector

from ...store.runs import Arm
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit
from ..elicitation.audit import audited
from ..elicitation.audit_options import AuditOptions, development
from ..elicitation.audit_subjects import Subject
from ..elicitation.audit_verdict import corrects
from ..elicitation.card import Card, Options
from ..elicitation.findings import Point, Table
from ..elicitation.points import points_of
from ..elicitation.workroom import Workroom
from .questions import outcome, training_items
from .reinforced_tables import Line, budget_table, cosine_table, curve_table, told
from .trained import Trained, trained

BUDGETS = {
    "number": "one number on the mean difference",
    "vector": "one vector",
    "vectors": "a vector per layer",
}
DIFFERENCE = "mean difference, chosen dose"


class ReinforcedOptions(Options):
    budgets: tuple[str, ...] = tuple(BUDGETS)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    updates: int = Field(default=24, ge=1)
    prompts: int = Field(default=8, ge=1)
    """Per update."""
    samples: int = Field(default=8, ge=2)
    """Per prompt."""
    rate: float = Field(default=0.25, gt=0)
    """Share of the activation that an update moves a coordinate by."""
    tokens: int = Field(default=200, ge=1)
    """Of a text in training."""
    reuse: int = Field(default=1, ge=1)
    """Gradient steps per update."""
    pool: int = Field(default=256, ge=2)
    """Training questions of the built-in task."""
    read: dict[str, int] = Field(default_factory=dict)
    """Of another task: training questions by split."""
    span: str = "last_prompt"
    layer: int | None = Field(default=None, ge=0)
    """Where one vector is trained; by default the last layer of the first half."""
    doses: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Of the mean difference, in units of its norm."""
    n_dev: int = Field(default=24, ge=2)
    dev: str | None = None
    fits: int = Field(default=40, ge=1)
    """Gradient steps of the fit to right texts."""
    directions: int = Field(default=20, ge=1)
    texts: int = Field(default=24, ge=2)
    """That the audit's Jacobian lens is fitted on."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What trainings of a card share."""

    items: list[Item]
    pool: list[tuple[int, ...]]
    sizes: dict[Site, float]
    differences: dict[Site, SteeringVector]
    site: Site


def run(room: Workroom, options: ReinforcedOptions) -> tuple[list[Point], list[Table], list[str]]:
    asked, first = room.asked, room.asked.settings[0]
    bench = _bench(room, options)
    trainings = {
        (budget, seed): trained(
            room,
            bench.items,
            first.form,
            _places(bench, budget),
            _spec(options, seed),
            f"{BUDGETS[budget]}, seed {seed}",
        )
        for seed in options.seeds
        for budget in options.budgets
    }
    lines: list[Line] = []
    arms: list[Arm] = []
    vectors: dict[str, Any] = {}

    def add(
        group: str, label: str, seed: int | None, plan: Plan, role: str = "steered", own: Trained | None = None
    ) -> None:
        name = group if seed is None else f"{group}-{seed}"
        vectors.update(plan.vectors)
        arms.append(
            room.arm(first, name, label if seed is None else f"{label}, seed {seed}", role, plan=plan.to_dict())
        )
        lines.append(Line(group, label, name, own))

    for (budget, seed), own in trainings.items():
        add(budget, BUDGETS[budget], seed, _plan(own.vectors, options.span), own=own)
    for seed in options.seeds:
        place = [Place(bench.site, bench.sizes[bench.site])]
        dealt = trained(
            room,
            bench.items,
            first.form,
            place,
            _spec(options, seed, shuffled=True),
            f"one vector, shuffled rewards, seed {seed}",
        )
        add("shuffled", "one vector, shuffled rewards", seed, _plan(dealt.vectors, options.span), "control", dealt)
        fitted = _fitted(room, bench, options, seed)
        if fitted is not None:
            add("fitted", "one vector, fitted to own right texts", seed, _plan([fitted], options.span), "control")
        if (one := trainings.get(("vector", seed))) is not None:
            other = Site((bench.site.layer + max(1, room.base.n_layers // 2)) % room.base.n_layers)
            moved = _plan(one.vectors, options.span, other)
            add("elsewhere", f"one vector, put at layer {other.layer}", seed, moved, "control")
    chosen, dose = _chosen(room, bench, options)
    add(
        "difference",
        f"{DIFFERENCE} {dose:g}v, layer {chosen.site.layer}",
        None,
        _plan([chosen], options.span, dose=dose),
        "control",
    )
    points: list[Point] = []
    tables, said = [], []
    for setting in asked.settings:
        own_arms = [arm.model_copy(update={"form": setting.form}) for arm in arms]
        found = room.evaluate("reinforced", setting, [*room.references(setting), *own_arms], options.n, vectors)
        controls = {f"vector-{s}": f"shuffled-{s}" for s in options.seeds if "vector" in options.budgets}
        points += points_of(found, setting, controls)
        right = corrects(found, setting.split)
        tables.append(budget_table(room, setting, right, lines, options.updates))
        said += told(setting, right, lines)
    tables += [curve_table(lines), cosine_table(lines, chosen, vectors, bench.site)]
    if (one := trainings.get(("vector", options.seeds[0]))) is not None:
        subject = Subject(
            "trained",
            f"the vector of seed {options.seeds[0]}",
            one.vectors[0],
            Dose(1.0, "vector"),
            Span.parse(options.span),
        )
        asking = AuditOptions(
            n=options.n, n_dev=options.n_dev, dev=options.dev, directions=options.directions, texts=options.texts
        )
        own_points, table, words = audited(room, first, subject, asking, False)
        points += own_points
        tables.append(table)
        said += words
    names = ", ".join(f"{own.files[0].name} ({own.label})" for own in trainings.values() if len(own.files) == 1)
    if names:
        said.append(f"{first.name}: vectors lie under .elicitation/trained of the runs folder: {names}.")
    return points, tables, said


def _bench(room: Workroom, options: ReinforcedOptions) -> Bench:
    base, task, first = room.base, room.asked.found, room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "reinforced")
    pool = [tuple(asked_ids(task, base, item, first.form)) for item in items]
    thinking = [asked_ids(task, base, item, room.asked.think) for item in items]
    sites = [Site(layer) for layer in range(base.n_layers)]
    layer = max(0, base.n_layers // 2 - 1) if options.layer is None else options.layer
    found = mean_difference(
        base,
        Reading.last_token(thinking),
        Reading.last_token(pool),
        sites,
        name="asked to think minus asked plainly",
        contrast=f"mean at the last token of prompts in the form {room.asked.think} minus in the form {first.form}",
    )
    sizes = {site: float(f"{size:.4g}") for site, size in sizes_of(base, pool, sites).items()}
    return Bench(items, pool, sizes, found, base.layout.check(Site(layer)))


def _places(bench: Bench, budget: str) -> list[Place]:
    if budget == "number":
        return [Place(bench.site, bench.sizes[bench.site], bench.differences[bench.site].direction)]
    if budget == "vector":
        return [Place(bench.site, bench.sizes[bench.site])]
    return [Place(site, size) for site, size in bench.sizes.items()]


def _spec(options: ReinforcedOptions, seed: int, shuffled: bool = False) -> Reinforcing:
    return Reinforcing(
        updates=options.updates, prompts=options.prompts, samples=options.samples, max_new_tokens=options.tokens, span=options.span,
        rate=options.rate, reuse=options.reuse, shuffled=shuffled, seed=seed,
    )  # fmt: skip


def _plan(vectors: Sequence[SteeringVector], span: str, site: Site | None = None, dose: float = 1.0) -> Plan:
    return Plan(
        tuple(
            Intervention("add", vector, Span.parse(span), Dose(dose, "vector"), sites=() if site is None else (site,))
            for vector in vectors
        )
    )


def _fitted(room: Workroom, bench: Bench, options: ReinforcedOptions, seed: int) -> SteeringVector | None:
    """As many numbers, fitted by gradient descent to right texts that the unsteered base samples on the questions of one update; None
    where it samples none."""
    base, size = room.base, bench.sizes[bench.site]
    chosen = torch.randperm(len(bench.pool), generator=torch.Generator().manual_seed(seed))[
        : options.prompts * 2
    ].tolist()
    rows = [
        Row(bench.pool[number], seed=1 + seed * 10**6 + number * 10**3 + sample)
        for number in chosen
        for sample in range(options.samples)
    ]
    texts = generate(base, rows, GenerationSettings(options.tokens, temperature=1.0), batch_size=256, detail="tokens")
    reward = outcome(base, room.asked.found, bench.items, room.asked.settings[0].form)
    numbers = [number for number in chosen for _ in range(options.samples)]
    right = [text for number, text in zip(numbers, texts, strict=True) if reward(number, text)]
    if not right:
        return None
    examples = [
        Example(text.prompt_ids, promote=(text.token_ids,)) for text in right[: options.prompts * options.samples]
    ]
    descent = Descent(
        steps=options.fits, learning_rate=options.rate * size / base.d_model**0.5, start_norm=0.05 * size, seed=seed
    )
    return optimised_vector(
        base, examples, bench.site, span=options.span, descent=descent, name=f"fitted to right texts, seed {seed}"
    )


def _chosen(room: Workroom, bench: Bench, options: ReinforcedOptions) -> tuple[SteeringVector, float]:
    """The mean difference at the layer and dose that are right most often on development questions; ties go to the smaller dose."""
    first = room.asked.settings[0]
    dev = first.model_copy(update={"split": development(room.asked, first, options, "reinforced")})
    tried = {
        f"layer-{site.layer}-{dose:g}": (vector, dose)
        for site, vector in bench.differences.items()
        for dose in options.doses
    }
    arms = [room.arm(dev, "base", "base, greedy", "baseline")]
    vectors: dict[str, Any] = {}
    for name, (vector, dose) in tried.items():
        plan = _plan([vector], options.span, dose=dose)
        vectors.update(plan.vectors)
        arms.append(room.arm(dev, name, f"layer {vector.site.layer}, {dose:g}v", plan=plan.to_dict()))
    found = room.evaluate(
        "reinforced-choice", dev, arms, options.n_dev, vectors, "choosing the dose of the mean difference"
    )
    right = corrects(found, dev.split)
    best = max(tried, key=lambda name: (float(right[name].mean()), -tried[name][1], -tried[name][0].site.layer))
    return tried[best]


def refuse(asked: Elicit, options: ReinforcedOptions) -> None:
    for budget in options.budgets:
        if budget not in BUDGETS:
            raise unknown("budget", budget, BUDGETS, where="card reinforced: budgets")
    if len(set(options.seeds)) < len(options.seeds):
        raise BadInput("card reinforced: a seed stands twice in seeds.")
    Span.parse(options.span)
    first = asked.settings[0]
    if first.form == asked.think:
        raise BadInput(
            f"card reinforced: the first setting asks to think already ({first.form}), so that no mean difference of prompts can be made."
        )
    items = training_items(asked, options.read, options.pool, "reinforced")
    if len(items) < options.prompts:
        raise BadInput(
            f"card reinforced: {len(items)} training questions do not fill an update of {options.prompts} prompts."
        )
    split = development(asked, first, options, "reinforced")
    if split in options.read:
        raise BadInput(
            f"card reinforced: split {split} is trained on, and nothing can be chosen on it too; give --set dev=SPLIT."
        )
    asked.found.items(split, options.n_dev)


CARD = Card(
    name="reinforced",
    title="Vectors trained by reinforcement",
    systems=("S24",),
    papers=("2505.18706", "2509.06608"),
    measures="gap recovered by one number, one vector and a vector per layer that outcome reward trains, beside all weights",
    control="shuffled rewards, a fit to own right texts, another layer, the mean difference, words of the vector, random directions",
    quick=ReinforcedOptions(n=200),
    full=ReinforcedOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16, samples=12, n_dev=60, directions=39),
    run=run,
    refuse=refuse,
)
