"""What the trainings of trained vectors share: questions, sizes of activations, places by budget, and the controls that are not reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.extraction import Descent, Example, Reading, mean_difference, optimised_vector
from steering.extraction.place import Place, sizes_of
from steering.extraction.reinforced import Reinforcing
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector

from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.audit_options import development
from ..elicitation.audit_verdict import corrects
from ..elicitation.card import Options
from ..elicitation.workroom import Workroom
from .questions import outcome, training_items


class ReinforcedOptions(Options):
    budgets: tuple[str, ...] = Field(default=("number", "vector", "vectors"), min_length=1)
    """What is trained: one number on a fixed direction, a vector, a vector per layer."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Of the trainings; what is drawn, and what vectors begin at."""
    updates: int = Field(default=24, ge=1)
    """Steps of the optimiser per training."""
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
    """At which tokens vectors are added, in training and when graded."""
    layer: int | None = Field(default=None, ge=0)
    """Where one vector is trained; by default the last layer of the first half."""
    doses: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    """Of the mean difference, in units of its norm."""
    n_dev: int = Field(default=24, ge=2)
    """Questions that doses are chosen on."""
    dev: str | None = None
    """Their split; by default the task's own."""
    fits: int = Field(default=40, ge=1)
    """Gradient steps of the fit to right texts."""
    directions: int = Field(default=20, ge=1)
    """Random directions of equal size: the null."""
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


def site_of(room: Workroom, options: ReinforcedOptions) -> Site:
    """Where one vector is trained. Raises BadInput for a layer that the base does not have."""
    layer = max(0, room.base.n_layers // 2 - 1) if options.layer is None else options.layer
    return room.base.layout.check(Site(layer))


def bench_of(room: Workroom, options: ReinforcedOptions) -> Bench:
    base, task, first, site = room.base, room.asked.found, room.asked.settings[0], site_of(room, options)
    items = training_items(room.asked, options.read, options.pool, "reinforced")
    pool = [tuple(asked_ids(task, base, item, first.form)) for item in items]
    thinking = [asked_ids(task, base, item, room.asked.think) for item in items]
    sites = [Site(layer) for layer in range(base.n_layers)]
    found = mean_difference(
        base,
        Reading.last_token(thinking),
        Reading.last_token(pool),
        sites,
        name="asked to think minus asked plainly",
        contrast=f"mean at the last token of prompts in the form {room.asked.think} minus in the form {first.form}",
    )
    sizes = {site: float(f"{size:.4g}") for site, size in sizes_of(base, pool, sites).items()}
    return Bench(items, pool, sizes, found, site)


def places_of(bench: Bench, budget: str) -> list[Place]:
    """Where numbers are trained, by budget: `number`, `vector` or `vectors`."""
    if budget == "number":
        return [Place(bench.site, bench.sizes[bench.site], bench.differences[bench.site].direction)]
    if budget == "vector":
        return [Place(bench.site, bench.sizes[bench.site])]
    return [Place(site, size) for site, size in bench.sizes.items()]


def spec_of(options: ReinforcedOptions, seed: int, shuffled: bool = False) -> Reinforcing:
    """The settings of one training."""
    return Reinforcing(
        updates=options.updates, prompts=options.prompts, samples=options.samples, max_new_tokens=options.tokens, span=options.span,
        rate=options.rate, reuse=options.reuse, shuffled=shuffled, seed=seed,
    )  # fmt: skip


def adding(vectors: Sequence[SteeringVector], span: str, site: Site | None = None, dose: float = 1.0) -> Plan:
    return Plan(
        tuple(
            Intervention("add", vector, Span.parse(span), Dose(dose, "vector"), sites=() if site is None else (site,))
            for vector in vectors
        )
    )


def fitted(room: Workroom, bench: Bench, options: ReinforcedOptions, seed: int) -> SteeringVector | None:
    """As many numbers, fitted by gradient descent to right texts that the unsteered base samples itself, on twice as many questions as an
    update has and at most as many texts; None where it samples none that are right."""
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


def chosen_difference(room: Workroom, bench: Bench, options: ReinforcedOptions) -> tuple[SteeringVector, float]:
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
        plan = adding([vector], options.span, dose=dose)
        vectors.update(plan.vectors)
        arms.append(room.arm(dev, name, f"layer {vector.site.layer}, {dose:g}v", plan=plan.to_dict()))
    found = room.evaluate(
        "reinforced-choice", dev, arms, options.n_dev, vectors, "choosing the dose of the mean difference"
    )
    right = corrects(found, dev.split)
    best = max(tried, key=lambda name: (float(right[name].mean()), -tried[name][1], -tried[name][0].site.layer))
    return tried[best]
