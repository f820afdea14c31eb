"""Steering vectors from a contrast, each with a report of its quality on what was held out.

1. A contrast is two sides (`sides`) read in one model, or one side read in two models (`thinking`). A share of the items is held out;
   vectors are extracted from the rest, and the report (`steering.extraction.quality`) is measured on what was held out.
2. Where too little is there to be divided, vectors are extracted from everything, and `Extracted.missing` says why there is no report.
3. `METHODS` names the ways to a direction; one that needs pairs refuses sides that are none.
4. Labelled spans give a vector per label (`extract_labels`): the mean over its spans minus the overall mean, measured against the spans of
   all other labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from steering.errors import BadInput, unknown
from steering.extraction import (
    LabelledTrace,
    Quality,
    assess,
    checkpoint_difference,
    label_means,
    label_vectors,
    logistic_direction,
    mean_difference,
    paired_difference,
    pca_direction,
)
from steering.extraction.logistic import fit_classifier
from steering.extraction.principal import first_component
from steering.extraction.stability import Extract, difference_of_means
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from .quality_files import Stored, sequence_hash
from .sides import LEAST, Body, Sides, Where, span_sides

LABELS = "labels"
"""The method of labelled spans, which makes a vector of every label at once."""


@dataclass(frozen=True)
class Method:
    """A way from two readings to a direction, and the same way from samples, whose stability is measured."""

    extract: Callable[..., dict[Site, SteeringVector]]
    of_samples: Extract
    pairs: bool = False


def _component(centring: str) -> Extract:
    def direction(positive: Tensor, negative: Tensor) -> Tensor:
        high, low = positive.double(), negative.double()
        difference = high.mean(0) - low.mean(0)
        values = torch.cat([high, low]) if centring == "global" else high - low
        centred = values if centring == "pair" else values - values.mean(0)
        return first_component(centred.T @ centred, difference).direction

    return direction


def _weights(positive: Tensor, negative: Tensor) -> Tensor:
    return fit_classifier(positive, negative).weight


METHODS: dict[str, Method] = {
    "difference": Method(mean_difference, difference_of_means),
    "paired": Method(paired_difference, difference_of_means, pairs=True),
    "principal": Method(partial(pca_direction, centring="pair"), _component("pair"), pairs=True),
    "principal-difference": Method(partial(pca_direction, centring="difference"), _component("difference"), pairs=True),
    "principal-global": Method(partial(pca_direction, centring="global"), _component("global")),
    "logistic": Method(logistic_direction, _weights),
}
"""Difference of means; of means within pairs; first principal component with each centring; a classifier's weights."""


class ContrastSpec(BaseModel):
    """How two sides become vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sites: tuple[str, ...] = Field(min_length=1)
    read: str = "last"
    method: str = "difference"
    held_out: float = Field(default=0.3, ge=0, lt=1)
    """Share of the items that the report is measured on; 0 extracts from everything and measures nothing."""
    seed: int = 0
    name: str = "positive - negative"
    contrast: str = "positive minus negative texts"
    """What was subtracted from what, in words, for the provenance."""

    @field_validator("read")
    @classmethod
    def _read(cls, value: str) -> str:
        return str(Where.parse(value))

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        if value == "optimised":
            raise BadInput(
                f"The method 'optimised' needs continuations to make likelier, not two sides; it is steering.extraction.optimised_vector. "
                f"Offered here are {', '.join((*METHODS, LABELS))}."
            )
        if value not in (*METHODS, LABELS):
            raise unknown("method", value, (*METHODS, LABELS), "--method")
        return value

    @property
    def where(self) -> Where:
        return Where.parse(self.read)

    @property
    def places(self) -> list[Site]:
        return [Site.parse(name) for name in self.sites]


@dataclass(frozen=True)
class Extracted:
    """A vector, and its report or why there is none."""

    vector: SteeringVector
    stored: Stored | None
    missing: str = ""


def extract_contrast(
    model: LoadedModel, sides: Sides, spec: ContrastSpec, *, thinking: LoadedModel | None = None
) -> dict[Site, Extracted]:
    """A vector per site: positive minus negative side in `model`; with `thinking`, `thinking` minus `model` on the positive side's tokens.

    Raises BadInput before a pass for a method that does not fit the sides, a site that there is not, and texts that are too short.
    """
    if spec.method == LABELS:
        raise BadInput(f"The method {LABELS!r} reads labelled spans; for two sides give one of {', '.join(METHODS)}.")
    if thinking is not None and spec.method != "difference":
        raise BadInput(f"Two models are contrasted by method 'difference', not {spec.method!r}.")
    method = METHODS[spec.method]
    if method.pairs and not sides.paired:
        offered = ", ".join(name for name, one in METHODS.items() if not one.pairs)
        raise BadInput(f"The method {spec.method!r} needs pairs; for texts that do not pair, there are {offered}.")
    places = [model.layout.check(place) for place in spec.places]
    sides.readings(spec.where)  # refuses what is too short
    parts = sides.split(spec.held_out, spec.seed) if spec.held_out else None
    source = sides if parts is None else parts[0]
    high, low = source.readings(spec.where)
    if thinking is not None:
        vectors = checkpoint_difference(model, thinking, low, places, name=spec.name)
    else:
        vectors = method.extract(model, high, low, places, name=spec.name, contrast=spec.contrast)
    found = {}
    for place, vector in vectors.items():
        vector = _noted(vector, spec)
        if parts is None:
            found[place] = Extracted(vector, None, _undivided(sides, spec))
            continue
        found[place] = _measured(
            model, vector, parts, spec, thinking=thinking, extract=method.of_samples, paired=sides.paired
        )
    return found


def extract_labels(
    model: LoadedModel, traces: Sequence[LabelledTrace], spec: ContrastSpec, labels: Sequence[str] = ()
) -> dict[str, dict[Site, Extracted]]:
    """Per label (all, or those named) and site the vector of its spans, read in the window of `steering.extraction.labels`.

    Raises BadInput for a label that no span has.
    """
    names = sorted({span.label for trace in traces for span in trace.spans})
    for label in labels:
        if label not in names:
            raise unknown("label", label, names)
    places = [model.layout.check(place) for place in spec.places]
    every = tuple(Body(t.token_ids, (), f"Trace {n + 1}") for n, t in enumerate(traces))
    numbers = tuple(range(len(traces)))
    whole = Sides(every, every, (numbers, numbers), True)
    parts = whole.split(spec.held_out, spec.seed) if spec.held_out else None
    kept, out = ([traces[i] for i in part.items[0]] for part in (parts if parts is not None else (whole, whole)))
    vectors = label_vectors(model, label_means(model, kept, places))
    for label in labels or names:
        if label not in vectors:
            raise BadInput(f"All spans of {label!r} are among the traces held out; give more traces or --held-out 0.")
    window = spec.model_copy(update={"read": "window", "method": LABELS})
    found: dict[str, dict[Site, Extracted]] = {}
    for label in labels or names:
        found[label] = {}
        for place, vector in vectors[label].items():
            vector = _noted(vector, window)
            if parts is None:
                found[label][place] = Extracted(vector, None, _undivided(whole, spec))
                continue
            try:
                own = span_sides(kept, label, window.where), span_sides(out, label, window.where)
            except BadInput as error:
                found[label][place] = Extracted(vector, None, f"Not measured: {error}")
                continue
            found[label][place] = _measured(model, vector, own, window)
    return found


def _measured(
    model: LoadedModel,
    vector: SteeringVector,
    parts: tuple[Sides, Sides],
    spec: ContrastSpec,
    *,
    thinking: LoadedModel | None = None,
    extract: Extract = difference_of_means,
    paired: bool = False,
) -> Extracted:
    training, held_out = parts
    try:
        report = assess(
            model, vector, training.readings(spec.where), held_out.readings(spec.where), positive_model=thinking,
            extract=extract, paired=paired, seed=spec.seed,
        )  # fmt: skip
    except BadInput as error:
        return Extracted(vector, None, f"Not measured: {error}")
    return Extracted(vector, stored(report, training, held_out, spec))


def stored(report: Quality, training: Sides, held_out: Sides, spec: ContrastSpec) -> Stored:
    """A report with what it was measured on."""
    return Stored(
        vector=report.digest, read=spec.read, method=spec.method, share=spec.held_out, seed=spec.seed,
        training=(len(training.positive), len(training.negative)),
        held_out=(len(held_out.positive), len(held_out.negative)),
        sequences=tuple(sorted({sequence_hash(b.ids) for b in (*training.positive, *training.negative)})),
        report=report,
    )  # fmt: skip


def _undivided(sides: Sides, spec: ContrastSpec) -> str:
    if not spec.held_out:
        return f"Not measured: nothing is held out; extracted from {len(sides.positive)} and {len(sides.negative)} sequences."
    counts = [len({body.ids for body in side}) for side in (sides.positive, sides.negative)]
    return (
        f"Not measured: {min(counts)} different sequences on a side are too few to hold some out (at least {LEAST}, and 2 in each part, "
        f"without dividing what belongs together), so all {len(sides.positive)} and {len(sides.negative)} sequences were extracted from."
    )


def _noted(vector: SteeringVector, spec: ContrastSpec) -> SteeringVector:
    facts: dict[str, Any] = {"read": spec.read, "held_out": spec.held_out, "seed": spec.seed}
    return replace(vector, provenance=replace(vector.provenance, notes={**vector.provenance.notes, **facts}))


def measure(model: LoadedModel, vector: SteeringVector, sides: Sides, spec: ContrastSpec) -> Quality:
    """A vector's report on given texts, a share of which takes the part of those held out. Raises BadInput where they are too few."""
    parts = sides.split(spec.held_out, spec.seed)
    if parts is None:
        raise BadInput(_undivided(sides, spec).partition(", so all")[0].removesuffix(".") + ".")
    readings = [part.readings(spec.where) for part in parts]
    return assess(model, vector, readings[0], readings[1], paired=sides.paired, seed=spec.seed)
