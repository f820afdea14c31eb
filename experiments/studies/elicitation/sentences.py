"""Which sentences of a trace matter (2506.19143, 2510.27484): the answer's distribution with a sentence and without it.

1. `forced`: KL between the distributions of the answer that is forced before the sentence and after it; exact, over the prompt's candidates
   where it lists them, else over the answers seen.
2. `resampling`: KL between the answers of N continuations that write the sentence anew and of N that keep it. `counterfactual`: the same,
   of those alone whose new sentence says something else. Both are without what chance puts between two histograms; all KLs are of the
   distribution without the sentence from the one with it.
3. `suppression` and `receiver`: what becomes of later sentences when nothing attends to the sentence, and the attention that it receives
   from the heads that look back (`attended`).
4. In the built-in task it is known which sentences decide (`steps.CHOICES`). Every measure is asked how well it ranks them first (AUROC,
   its interval over problems), beside random scores and the place in the text, which know nothing of the sentence. In every task it is
   said how the measures go together.
5. How often what is removed comes back later, of the same continuations (`resilience`).
6. A vector is added at the sentences that matter most and at as many others (`anchors`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from steering.vector.vectors import SteeringVector

from .anchors import Anchoring, steered_at, vector_of
from .attended import Attended, attended, correlations, heads_table
from .card import Card, Options
from .findings import Point, Table
from .importance import FEW, MEASURES, Importance, forced_importance, measured, with_attention
from .points import points_of
from .resilience import resilience
from .sentence_tables import by_kind, detectable, ranks
from .steps import (
    Trace,
    answer_distributions,
    answer_ids,
    cue_of,
    distinct,
    resampled,
    trace_run,
    traces_of,
)
from .workroom import Workroom

LATER = {"share": "later in the text"}
"""What a place in the text is called beside the measures."""
ANSWERS = 8
"""Answers seen that are weighed against each other where the prompt lists none."""


class SentenceOptions(Options):
    samples: int = Field(default=32, ge=FEW)
    """Continuations per sentence."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the samples."""
    draws: int = Field(default=200, ge=20)
    """Random scores."""
    heads: int = Field(default=3, ge=1)
    """Receiver heads, at most half of the model's."""
    anchors: int = Field(default=6, ge=0)
    """Questions whose traces are steered at the sentences that matter most; 0 steers none."""
    file: str | None = None
    """The vector that steers there; by default the built-in one of checking, and of other models none."""
    digest: str | None = None
    """Of the vector in the file; found out."""
    dose: float = Field(default=3.0, gt=0)
    """In lengths of the vector; what acts along a whole text moves nothing at a few tokens."""
    first: int = Field(default=1, ge=1)
    """Tokens of each of these sentences at which it is added."""
    share: float = Field(default=0.1, gt=0, le=0.5)
    """Of a trace's sentences are steered at."""
    others: int = Field(default=20, ge=20)
    """Draws of as many other sentences."""
    cue: str | None = None
    """Asks for an answer; by default the task's own words, or `So the answer is`."""

    @model_validator(mode="before")
    @classmethod
    def _known_by_its_bytes(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("file"), str) and data["file"]:
            data = data | {"digest": SteeringVector.load(data["file"]).digest}
        return data

    @property
    def vector_files(self) -> tuple[str, ...]:
        return () if self.file is None else (self.file,)


def run(room: Workroom, options: SentenceOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    cue = cue_of(room, options.cue)
    vector = vector_of(room, options.file) if options.anchors else None
    for setting in room.asked.settings:
        points += points_of(trace_run(room, "sentences", setting, options.n), setting)
    for setting in distinct(room.asked.settings):
        found = trace_run(room, "sentences", setting, options.n)
        traces, words = traces_of(room, found, setting, len(answer_ids(room.base, "", cue)) + 16)
        said += words
        looked: dict[str, Attended] = {}
        for own in traces.values():
            if not own:
                continue
            label = own[0].label
            looked[label] = attended(room, own, options.heads)
            said += [f"{setting.name}: {label}: {reason}." for reason in looked[label].reasons]
            drawn = [resampled(room, trace, options.samples, options.temperature) for trace in own]
            parts = [
                with_attention(importances(room, trace, drawn[number], cue), looked[label], number)
                for number, trace in enumerate(own)
            ]
            every = [one for part in parts for one in part]
            tables.append(by_kind(setting, label, every, room.asked.builtin))
            said.append(detectable(setting, label, every, options.samples))
            table, sentence = resilience(setting, label, list(zip(own, drawn, strict=True)), options.samples)
            tables.append(table)
            said.append(sentence)
            if room.asked.builtin:
                table, sentence = ranks(setting, label, every, options.draws)
                tables.append(table)
                said.append(sentence)
            by_measure = [
                {name: [getattr(one, name) for one in part] for name in (*MEASURES, "share")} for part in parts
            ]
            together = correlations(
                setting, label, [{LATER.get(name, name): own[name] for name in own} for own in by_measure]
            )
            tables += [together] if together else []
            if vector is not None and own[0].model == room.asked.base:
                subjects = [
                    (trace, [(one.counterfactual, one.resampling) for one in part])
                    for trace, part in zip(own[: options.anchors], parts, strict=False)
                ]
                how = Anchoring(vector, options.dose, options.first, options.share, options.others)
                steered, words = steered_at(room, setting, label, subjects, how)
                tables += steered
                said += words
            elif options.anchors and own[0].model == room.asked.base:
                said.append(f"{setting.name}: {label}: no vector was named, so nothing is steered at sentences.")
        heads, words = heads_table(setting, looked)
        tables += heads
        said += words
    return points, tables, said


def importances(room: Workroom, trace: Trace, drawn: dict[str, list[list[Any]]], cue: str) -> list[Importance]:
    """Every sentence of a trace, from the continuations of its prefixes."""
    seen = Counter(answer for own in drawn["answers"] for answer in own if answer is not None)
    answers = list(trace.candidates) or [answer for answer, _ in sorted(seen.items(), key=lambda a: (-a[1], a[0]))]
    model = room.model(trace.model)
    forced = [0.0] * len(trace.steps)
    known = [answer for answer in answers[: None if trace.candidates else ANSWERS] if answer_ids(model, cue, answer)]
    if len(known) > 1 or trace.candidates:
        contexts = [(*trace.prompt_ids, *prefix) for prefix in trace.prefixes]
        facts = {"model": trace.model, "contexts": _digest(contexts), "cue": cue, "answers": known}
        spread = room.part("forced", facts, lambda: answer_distributions(model, contexts, cue, known).tolist())
        forced = forced_importance(np.array(spread))
    return measured(trace, drawn, forced)


def _digest(contexts: list[tuple[int, ...]]) -> str:
    import hashlib

    return hashlib.sha256(repr(contexts).encode()).hexdigest()[:16]


CARD = Card(
    name="sentences",
    title="Which sentences matter",
    systems=("S26",),
    papers=("2506.19143", "2510.27484"),
    measures="KL between the answer's distributions with a sentence and without it, and attention to it: suppressed, and by receiver heads",
    control="random scores and the place in the text, against the sentences that are known to decide; as many other sentences",
    quick=SentenceOptions(n=5),
    full=SentenceOptions(n=40, samples=100, anchors=40, others=99),
    run=run,
    version=3,
)
