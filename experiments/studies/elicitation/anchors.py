"""Steering at the sentences that matter, against as many others.

1. A vector is added at the first tokens of the sentences of largest counterfactual importance (by resampling where these are equal), and
   nowhere else. The trace's own text is forced up to the last of these tokens; from there the model goes on greedily, which without the
   vector gives the trace again.
2. Beside it stand R draws of as many other sentences of the same trace, edited at as many tokens. Draw r of all questions together is one
   draw of the null distribution. How much of the trace is written anew is reported: an early place leaves more of it open.
3. What is read: whether the answer is another than the trace's, whether it is right, and KL(unsteered || steered) of the first token
   that is written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from steering.engine.generation import Row, generate
from steering.engine.predicted import next_logprobs
from steering.engine.sampling import GenerationSettings
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector

from ...decoders.candidates import own_seed
from ...statistics import rank_p
from ...tasks.items import stream_seed
from .asked import Setting
from .findings import Table
from .reflection import CHECKING
from .steps import BATCH, Step, Trace, decoded, ids_hash
from .workroom import Workroom


@dataclass(frozen=True)
class Anchoring:
    """A vector, how it is added, and at how much of a trace."""

    vector: SteeringVector
    dose: float
    """In lengths of the vector."""
    first: int
    """Tokens of each sentence."""
    share: float
    """Of a trace's sentences."""
    draws: int
    """Of as many others."""


def vector_of(room: Workroom, file: str | None) -> SteeringVector | None:
    """The vector of a file, or of the built-in pair; None where there is none. Raises BadInput for one that does not fit the base."""
    builtin = CHECKING if room.asked.base == "builtin:base" and room.asked.builtin else None
    if file is None and builtin is None:
        return None
    vector = SteeringVector.load(file or builtin)  # type: ignore[arg-type]
    vector.check(room.base)
    return vector


def top_steps(importance: Sequence[tuple[float, float]], share: float) -> tuple[int, ...]:
    """The places of the sentences of largest importance, a `share` of them and one at least, in the order of the text."""
    count = max(1, round(share * len(importance)))
    order = sorted(range(len(importance)), key=lambda place: (*(-value for value in importance[place]), place))
    return tuple(sorted(order[:count]))


def places_of(
    trace: Trace, importance: Sequence[tuple[float, float]], share: float, draws: int
) -> list[tuple[int, ...]]:
    """The sentences that matter most, then those of every draw, all others than the former; empty where there are not as many."""
    top = top_steps(importance, share)
    others = [place for place in range(len(importance)) if place not in top]
    if len(others) <= len(top):
        return []
    rng = np.random.default_rng(own_seed(stream_seed(trace.item.id, 0), len(top), draws))
    drawn = [tuple(sorted(int(one) for one in rng.choice(others, len(top), replace=False))) for _ in range(draws)]
    return [top, *drawn]


def plan_at(how: Anchoring, steps: Sequence[Step]) -> Plan:
    """Add the vector at the first tokens of some sentences of the response."""
    spans = [Span("window", step.start, min(step.end, step.start + how.first)) for step in steps]
    return Plan((Intervention("add", how.vector, reduce(or_, spans), Dose(how.dose, "vector")),))


def steered_at(
    room: Workroom,
    setting: Setting,
    label: str,
    subjects: Sequence[tuple[Trace, Sequence[tuple[float, float]]]],
    how: Anchoring,
) -> tuple[list[Table], list[str]]:
    """The arm on traces of the base with the importances of their sentences (counterfactual, resampling)."""
    found, counts, left = [], [], 0
    for trace, importance in subjects:
        places = places_of(trace, importance, how.share, how.draws)
        left += not places
        if places:
            counts.append(len(places[0]))
            found.append(_continued(room, trace, places, how))
    short = f" {left} traces have too few sentences for as many others." if left else ""
    if not found:
        return [], [f"{setting.name}: {label}: nothing is steered at sentences.{short}"]
    changed, right, moved, anew = (
        np.array([one[name] for one in found], dtype=float).mean(0) for name in ("changed", "right", "kl", "anew")
    )
    before = 100 * float(np.mean([one["was right"] for one in found]))
    rows = (("those that matter most", slice(0, 1)), (f"others, {how.draws} draws", slice(1, None)))
    table = Table(
        title=f"{setting.name}: {label}: {how.vector.name} +{how.dose:g}v at the sentences that matter most, against as many others",
        heads=("where", "questions", "sentences", "written anew %", "answers changed %", "right %", "KL of the next token"),
        lines=(
            ("nowhere", len(found), 0, None, None, f"{before:.1f}", None),
            *(
                (
                    where, len(found), sum(counts), _range(100 * anew[own], 1), _range(100 * changed[own], 1), _range(100 * right[own], 1),
                    _range(moved[own], 3),
                )
                for where, own in rows
            ),
            ("rank p", None, None, _p(anew), _p(changed), _p(np.abs(100 * right - before)), _p(moved)),
        ),
        notes=(
            f"The vector is added at the first {how.first} token(s) of the sentences; the text is forced up to the last one. Draws: mean "
            f"(range). Rank p: a draw leaves as much to be written anew, changes as many answers, lies as far from the right share before, "
            f"moves the next token as much. Nats.",
        ),
    )  # fmt: skip
    many = (
        f"{setting.name}: {label}: {how.vector.name} +{how.dose:g}v at the {sum(counts)} sentences that matter most of {len(found)} "
        f"traces"
    )
    token = f"the next token moves by {moved[0]:.3f} nats against {_range(moved[1:], 3)} at others (rank p {_p(moved)})"
    if not changed.any():
        return [table], [
            f"{many} changes no answer, nor does it at others: answers say nothing of the two; {token}.{short}"
        ]
    return [table], [
        f"{many} changes {100 * changed[0]:.1f} % of the answers, at as many others {_range(100 * changed[1:], 1)} (rank p {_p(changed)}); "
        f"{token}; {100 * anew[0]:.0f} % of the traces are written anew, at others {100 * anew[1:].mean():.0f} %.{short}"
    ]


def _range(values: np.ndarray, digits: int) -> str:
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ({values.min():.{digits}f} to {values.max():.{digits}f})" if len(values) > 1 else mean


def _p(values: np.ndarray) -> str:
    """Of the first value among the others."""
    return f"{rank_p(float(values[0]), values[1:]):.3f}"


def _continued(room: Workroom, trace: Trace, places: Sequence[tuple[int, ...]], how: Anchoring) -> dict[str, Any]:
    """What is written after the last steered token of each of `places`."""
    model, task = room.model(trace.model), room.asked.found

    def make() -> dict[str, Any]:
        chosen = [[trace.steps[one] for one in own] for own in places]
        ends = [min(own[-1].end, own[-1].start + how.first) for own in chosen]
        rows = [
            Row(trace.prompt_ids, plan_at(how, own), begun=trace.ids[:end])
            for own, end in zip(chosen, ends, strict=True)
        ]
        settings = GenerationSettings(room.asked.max_new_tokens)
        written = generate(model, rows, settings, batch_size=BATCH, detail="tokens")
        grades = [task.grade(trace.item, decoded(model, one.token_ids)) for one in written]
        plain = next_logprobs(model, [Row(row.prompt_ids, begun=row.begun) for row in rows]).double()
        moved = (plain.exp() * (plain - next_logprobs(model, rows).double())).sum(-1).clamp_min(0.0)
        return {
            "changed": [grade.answer != trace.answer for grade in grades],
            "right": [bool(grade.correct) for grade in grades],
            "kl": [float(f"{value:.6g}") for value in moved.tolist()],
            "anew": [1 - end / len(trace.ids) for end in ends],
            "was right": bool(task.grade(trace.item, decoded(model, trace.ids)).correct),
        }

    facts = {
        "model": trace.model, "prompt": ids_hash(trace.prompt_ids), "text": ids_hash(trace.ids), "item": trace.item.id, "dose": how.dose,
        "vector": how.vector.digest, "first": how.first, "steps": [[trace.steps[n].start for n in own] for own in places],
    }  # fmt: skip
    return dict(room.part("anchors", facts, make))
