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

from collections.abc import Callable
from typing import Any

from steering.errors import BadInput, unknown
from steering.extraction.reinforced import Reinforcing
from steering.model.sites import Site
from steering.plan.plan import Dose, Plan, Span

from ...store.runs import Arm
from ..elicitation.asked import Elicit
from ..elicitation.audit import audited
from ..elicitation.audit_options import AuditOptions, development
from ..elicitation.audit_subjects import Subject
from ..elicitation.audit_verdict import corrects
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.points import points_of
from ..elicitation.workroom import Workroom
from .bench import Bench, ReinforcedOptions, adding, bench_of, chosen_difference, fitted, places_of, spec_of
from .questions import training_items
from .reinforced_tables import Line, budget_table, cosine_table, curve_table, told
from .side_by_side import vector_trainings
from .trained import Trained, VectorJob, trained_vectors

BUDGETS = {
    "number": "one number on the mean difference",
    "vector": "one vector",
    "vectors": "a vector per layer",
}
SHUFFLED = "one vector, shuffled rewards"
DIFFERENCE = "mean difference, chosen dose"


def run(room: Workroom, options: ReinforcedOptions) -> tuple[list[Point], list[Table], list[str]]:
    asked, first = room.asked, room.asked.settings[0]
    bench = bench_of(room, options)
    named = [(budget, seed) for seed in options.seeds for budget in options.budgets]
    asked_for = [
        _job(bench, first.form, budget, spec_of(options, seed), f"{BUDGETS[budget]}, seed {seed}")
        for budget, seed in named
    ]
    shuffled = [_shuffled(bench, first.form, options, seed) for seed in options.seeds if "vector" in options.budgets]
    owns = vector_trainings(room, [*asked_for, *shuffled])
    trainings = dict(zip(named, owns, strict=False))
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
        add(budget, BUDGETS[budget], seed, adding(own.vectors, options.span), own=own)
    said: list[str] = []
    if "vector" in options.budgets:
        said += _beside(room, bench, options, trainings, add)
    chosen, dose = chosen_difference(room, bench, options)
    add(
        "difference",
        f"{DIFFERENCE} {dose:g}v, layer {chosen.site.layer}",
        None,
        adding([chosen], options.span, dose=dose),
        "control",
    )
    points: list[Point] = []
    tables: list[Table] = []
    for setting in asked.settings:
        own_arms = [arm.model_copy(update={"form": setting.form}) for arm in arms]
        found = room.evaluate("reinforced", setting, [*room.references(setting), *own_arms], options.n, vectors)
        controls = {f"vector-{s}": f"shuffled-{s}" for s in options.seeds if "vector" in options.budgets}
        points += points_of(found, setting, controls)
        right = corrects(found, setting.split)
        tables.append(budget_table(room, setting, right, lines, options.updates))
        said += told(setting, right, lines)
    tables += [curve_table(lines), cosine_table(lines, chosen, vectors, bench.site)]
    said += [f"{first.name}: {line}" for line in _unlearned([line for line in lines if line.own is not None])]
    one = trainings.get(("vector", options.seeds[0]))
    if one is not None and any(row["trained"] for row in one.curve):
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


def _beside(
    room: Workroom,
    bench: Bench,
    options: ReinforcedOptions,
    trainings: dict[tuple[str, int], Trained],
    add: Callable[..., None],
) -> list[str]:
    """The controls of one vector; a sentence for each that there is not."""
    said, first = [], room.asked.settings[0]
    layers = room.base.n_layers
    for seed in options.seeds:
        dealt = trained_vectors(room, _shuffled(bench, first.form, options, seed))
        add("shuffled", SHUFFLED, seed, adding(dealt.vectors, options.span), "control", dealt)
        texts = fitted(room, bench, options, seed)
        if texts is None:
            said.append(f"{first.name}: seed {seed}: the base samples no right text that a vector could be fitted to.")
        else:
            label = "one vector, fitted to own right texts"
            add("fitted", label, seed, adding([texts], options.span), "control")
        if layers > 1:
            other = Site((bench.site.layer + layers // 2) % layers)
            dose = bench.sizes[other] / bench.sizes[bench.site]  # as large a share of the activation
            moved = adding(trainings["vector", seed].vectors, options.span, other, dose)
            add("elsewhere", f"one vector, put at layer {other.layer} at equal share", seed, moved, "control")
    return said


def _job(bench: Bench, form: str, budget: str, spec: Reinforcing, label: str) -> VectorJob:
    return VectorJob(tuple(bench.items), form, tuple(places_of(bench, budget)), spec, label)


def _shuffled(bench: Bench, form: str, options: ReinforcedOptions, seed: int) -> VectorJob:
    return _job(bench, form, "vector", spec_of(options, seed, shuffled=True), f"{SHUFFLED}, seed {seed}")


def _unlearned(lines: list[Line]) -> list[str]:
    """Trainings in which no group of texts had rewards that differ."""
    empty = [line for line in lines if line.own is not None and not any(row["trained"] for row in line.own.curve)]
    return [
        f"{line.label} ({line.arm}) learned nothing: in no update did the rewards of a group differ, so that it is its random start."
        for line in empty
    ]


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
