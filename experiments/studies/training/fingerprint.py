"""Elicitor fingerprint (S22): do elicitors move the model the same way?

1. Every elicitor is read on the same forced texts, the base's own greedy ones and the thinking model's apart, so that a shift is the
   elicitor's doing and not another text's: asking to think, the thinking model's weights, the mean difference of prompts, vectors trained
   by reward (several seeds), weights trained by the other cards, vectors of files, further models, and random vectors.
2. What each can solve at all, at equal numbers of samples, stands beside it (`supports`).
3. The matrix holds cosines of mean shifts across halves of the questions (`shifts`), its diagonal the split-half ceiling. Every elicitor's
   cosine with the reference (the thinking model, or without one the prompt that asks to think) stands among those of R random vectors.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from steering.engine.forced import ForcedText, forced_activations
from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.plan import Plan
from steering.vector.vectors import SteeringVector, random_like

from ...statistics import Floats, rank_p
from ...store.runs import Run
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit, Setting
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.points import points_of
from ..elicitation.workroom import Workroom
from .bench import ReinforcedOptions, adding, bench_of, chosen_difference, places_of, site_of, spec_of
from .elicited import WEIGHTS, refuse_weights, trained_weights
from .reinforced import refuse as refuse_training
from .shifts import across_halves, halvings
from .supports import support_sets
from .trained import VectorJob, trained_vectors

RANDOM = "random vector"
SAMPLED = 3
"""Random vectors whose texts are sampled too."""
ASKED, THINKING = "asked to think", "thinking model"
Source = tuple[str, str, Plan]
"""Whose activations, asked in which form, under which plan."""


class FingerprintOptions(ReinforcedOptions):
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Of the trainings."""
    files: tuple[str, ...] = ()
    """Vectors that are read too, at 1v over the span."""
    models: tuple[str, ...] = ()
    """Models that are read too."""
    layers: tuple[int, ...] = ()
    """Where shifts are compared; by default the layer of the trained vector, the middle one behind it, and the last."""
    random: int = Field(default=20, ge=2)
    """Random vectors of the trained one's norm."""
    weights: tuple[str, ...] = tuple(WEIGHTS)
    """Trainings of weights by other cards that are read too, each of the first seed and in that card's quick sizes."""
    sized: dict[str, Any] = Field(default_factory=dict)
    """Fields of those cards that are to be others."""
    support: int = Field(default=200, ge=0)
    """Questions whose samples say what an elicitor can solve at all; 0 leaves that out."""
    draws: int = Field(default=8, ge=1)
    """Samples of each."""
    digests: tuple[str, ...] = ()
    """Of the vectors in the files; found out."""

    @model_validator(mode="before")
    @classmethod
    def _known_by_their_bytes(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("files"):
            data = data | {"digests": tuple(SteeringVector.load(path).digest for path in data["files"])}
        return data

    @property
    def vector_files(self) -> tuple[str, ...]:
        return self.files

    @property
    def further_models(self) -> tuple[str, ...]:
        return self.models


def run(room: Workroom, options: FingerprintOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    sites = _sites(room, options)
    others = [name for name in (room.asked.thinking, *options.models) if name is not None]
    for name in others:
        _check_read(room, name, sites)
    bench = bench_of(room, options)
    chosen, dose = chosen_difference(room, bench, options)
    sources: dict[str, Source] = {ASKED: (room.asked.base, room.asked.think, Plan())}
    for name in others:
        sources[THINKING if name == room.asked.thinking else name] = (name, first.form, Plan())

    def vector(label: str, *vectors: SteeringVector, size: float = 1.0) -> None:
        sources[label] = (room.asked.base, first.form, adding(list(vectors), options.span, dose=size))

    vector(f"mean difference, {dose:g}v", chosen, size=dose)
    for seed in options.seeds:
        label = f"trained vector, seed {seed}"
        places = tuple(places_of(bench, "vector"))
        own = trained_vectors(room, VectorJob(tuple(bench.items), first.form, places, spec_of(options, seed), label))
        vector(label, *own.vectors)
        if seed == options.seeds[0]:
            for draw in range(options.random):
                vector(f"{RANDOM} {draw}", random_like(own.vectors[0], draw))
    for path in options.files:
        vector(path, SteeringVector.load(path))
    for grown in trained_weights(room, options.weights, options.seeds[:1], options.sized, options.read):
        sources[f"{grown.label}, seed {grown.seed}"] = (grown.model, first.form, Plan())
    found = room.evaluate("fingerprint", first, room.references(first), options.n)
    points = points_of(found, first)
    tables, said = [], []
    read = [("base", "the base's own texts")]
    if room.asked.thinking is not None:
        read.append(("thinking", "the thinking model's texts"))
    for arm, whose in read:
        texts = _texts(room, found, first, arm)
        if len(texts) < 4:
            said.append(f"{first.name}: {len(texts)} of {whose} hold a token, too few to compare shifts on.")
            continue
        items = [item for item in room.asked.found.items(first.split, options.n) if item.id in texts]
        shifts = {label: _shifts(room, items, texts, source, sites) for label, source in sources.items()}
        base = _shifts(room, items, texts, (room.asked.base, first.form, Plan()), sites)
        for site in sites:
            moved = {label: own[site] - base[site] for label, own in shifts.items()}
            table, sentences = _matrix(first, site, whose, moved)
            tables.append(table)
            said += sentences
    if options.support:
        drawn = {label: one for label, one in sources.items() if not _is_drawn(label) or _number(label) < SAMPLED}
        more, words = support_sets(room, first, "fingerprint", drawn, options.support, options.draws)
        tables += more
        said += words
    return points, tables, said


def _is_drawn(label: str) -> bool:
    return label.startswith(RANDOM)


def _number(label: str) -> int:
    return int(label.removeprefix(RANDOM))


def _texts(room: Workroom, found: Run, setting: Setting, arm: str) -> dict[str, tuple[int, ...]]:
    """Texts of an arm by question, without their end."""
    if all(one.name != arm for one in found.manifest.arms):
        return {}
    rows = found.table(columns=["item", "split", "token_ids", "finish"], arms=[arm]).to_pylist()
    texts = {
        row["item"]: tuple(token for token in row["token_ids"] if token not in room.base.eos_ids)
        for row in rows
        if row["split"] == setting.split and row["finish"] != "nonfinite"
    }
    return {item: ids for item, ids in texts.items() if ids}


def _shifts(
    room: Workroom, items: list[Item], texts: dict[str, tuple[int, ...]], source: Source, sites: list[Site]
) -> dict[Site, Floats]:
    """Mean activation over each forced text, `[questions, width]` by site."""
    name, form, plan = source
    model = room.model(name)
    forced = [ForcedText(tuple(asked_ids(room.asked.found, model, item, form)), texts[item.id], plan) for item in items]
    read = forced_activations(model, forced, sites)
    return {site: np.stack([own[site].double().mean(0).numpy() for own in read]) for site in sites}


def _sites(room: Workroom, options: FingerprintOptions) -> list[Site]:
    """Where shifts are compared. Raises BadInput for a layer that the base does not have."""
    n = room.base.n_layers
    own = site_of(room, options).layer
    layers = options.layers or tuple(sorted({own, (own + n) // 2, n - 1}))
    return [room.base.layout.check(Site(layer)) for layer in layers]


def _check_read(room: Workroom, name: str, sites: list[Site]) -> None:
    """Raises BadInput for a model that the base's tokens mean nothing to, or whose activations are others."""
    other, base = room.model(name), room.base
    why = None
    if other.tokenizer_fingerprint != base.tokenizer_fingerprint:
        why = "has another tokenizer"
    elif (other.d_model, other.n_layers) != (base.d_model, base.n_layers):
        why = f"has {other.n_layers} layers of width {other.d_model}, not {base.n_layers} of {base.d_model}"
    if why:
        raise BadInput(
            f"card fingerprint: {name} {why}, so that its shifts on the texts of {base.id} are no shifts; give models of one "
            f"architecture and tokenizer."
        )


def _matrix(setting: Setting, site: Site, whose: str, moved: dict[str, Floats]) -> tuple[Table, list[str]]:
    still = [label for label, values in moved.items() if not float(np.abs(values).max()) and not _is_drawn(label)]
    labels = [label for label in moved if label not in still and not _is_drawn(label)]
    drawn = [values for label, values in moved.items() if _is_drawn(label) and float(np.abs(values).max())]
    n = len(next(iter(moved.values())))
    halves = halvings(n)
    reference = THINKING if THINKING in labels else ASKED
    lines: list[tuple[Any, ...]] = []
    said = []
    for label in labels:
        lines.append((label, *(f"{across_halves(moved[label], moved[other], halves):+.2f}" for other in labels)))
    if drawn:
        cells = []
        for label in labels:
            chance = [across_halves(moved[label], one, halves) for one in drawn]
            cells.append(f"{np.mean(chance):+.2f} ({min(chance):+.2f} to {max(chance):+.2f})")
        lines.append((f"{len(drawn)} random vectors, mean (range)", *cells))
    if reference in labels and drawn:
        chance = [across_halves(moved[reference], one, halves) for one in drawn]
        for label in labels:
            if label == reference:
                continue
            own = across_halves(moved[label], moved[reference], halves)
            ceilings = [across_halves(moved[one], moved[one], halves) for one in (label, reference)]
            said.append(
                f"{setting.name}: {label} and {reference} at {site}, on {whose}: cosine {own:+.2f} (ceilings {ceilings[0]:.2f} and "
                f"{ceilings[1]:.2f}); {len(drawn)} random vectors {np.mean(chance):+.2f} ({min(chance):+.2f} to {max(chance):+.2f}), "
                f"one-sided rank p {rank_p(own, chance):.3f} for more, never below {1 / (1 + len(drawn)):.3f} (n {n})."
            )
    notes = [
        f"Mean shifts of {n} questions, one half of them against the other, mean of {len(halves)} halvings. Diagonal: the split-half "
        "ceiling, which equal elicitors reach.",
    ]
    if still:
        notes.append(f"Without a shift at this layer: {', '.join(still)}.")
    if not drawn:
        notes.append("Random vectors have no shift at this layer, so that no cosine has a chance level here.")
    return Table(
        title=f"{setting.name}: cosines of mean shifts at {site}, on {whose}",
        heads=("", *labels),
        lines=tuple(lines),
        notes=tuple(notes),
    ), said


def refuse(asked: Elicit, options: FingerprintOptions) -> None:
    refuse_training(asked, options)
    refuse_weights(asked, options.weights, options.sized, "fingerprint")
    if options.n < 4:
        raise BadInput(
            f"card fingerprint: n is {options.n}; shifts of one half of the questions are compared with the other: at least 4."
        )


CARD = Card(
    name="fingerprint",
    title="Elicitor fingerprint",
    systems=("S22",),
    papers=("2505.18706", "2504.20571", "2506.10947"),
    measures="cosines of the mean shifts that elicitors make of activations on the same forced texts; what each can solve at all",
    control="split-half ceilings, random vectors of equal norm; the base's own second draw",
    quick=FingerprintOptions(n=200),
    full=FingerprintOptions(
        n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16, samples=12, n_dev=60, support=400, draws=64
    ),
    run=run,
    refuse=refuse,
)
