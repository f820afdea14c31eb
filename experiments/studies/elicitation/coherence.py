"""Local coherence or global validity (S18): are steps that fit together a trace that is right, before and after steering?

1. A pair of steps is coherent or not by what stands in it (`coherent` for the built-in task, `equations` for natural text); a trace is
   valid where the verifier finds every line, test and the answer right. Coherence is not validity: a trace that guesses at its end, or
   applies the wrong rule rightly, is coherent.
2. Controls of the judge: the steps of every trace in random orders, and steps of other questions' traces before each step.
3. A steered arm is compared with the base that is asked to think first (by question), for a bare base writes no trace, and with random
   directions of its length.
4. The same traces are read as explorations (`exploring`).

Sources: 2510.18176 (errors per step found by a language model; here by rules); 2505.20296.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from steering.vector.vectors import random_like

from ...store.runs import Arm
from .asked import Elicit, Setting
from .audit_options import GivenVectors, check_edit
from .audit_subjects import Subject, given
from .card import Card
from .coherence_tables import (
    beside_random,
    changes,
    controls,
    equations,
    explorations,
    kinds,
    overview,
    sentences,
)
from .findings import Point, Table
from .judged import Text, judged
from .points import points_of
from .workroom import Workroom

MOST = 1000
"""Draws of a control of the judge that are allowed: each reads every pair again."""


class CoherenceOptions(GivenVectors):
    temperature: float = Field(default=1.0, ge=0)
    """Texts are sampled: greedy ones of the built-in base are coherent throughout, so that nothing can be seen to rise."""
    permutations: int = Field(default=100, ge=1, le=MOST)
    """Random orders of the steps, and choices of other questions' steps."""
    directions: int = Field(default=20, ge=1)
    """Random directions beside a steered arm."""
    n_random: int = Field(default=24, ge=1)
    """Questions that they are asked."""


def refuse(asked: Elicit, options: CoherenceOptions) -> None:
    check_edit("coherence", options.span, options.dose)


def run(room: Workroom, options: CoherenceOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    subjects = given(room, options)
    for setting in room.asked.settings:
        references = room.references(setting, "sampled" if options.temperature else "greedy")
        steered = [room.arm(setting, one.key, f"steered by {one.label}", plan=one.own.to_dict()) for one in subjects]
        vectors = {digest: vector for one in subjects for digest, vector in one.own.vectors.items()}
        found = room.evaluate(
            "coherence", setting, [*references, *steered], options.n, vectors, temperature=options.temperature
        )
        points += points_of(found, setting)
        arms = [*references, *steered]
        texts = {arm.name: judged(room, found, setting, arm) for arm in arms}
        labels = {arm.name: arm.label for arm in arms}
        reference = next((arm.name for arm in references if arm.role == "prompt"), "base")
        tables += [
            overview(setting, labels, texts, room.asked.builtin),
            kinds(setting, labels, texts, room.asked.builtin),
            (explorations if room.asked.builtin else equations)(setting, labels, texts),
        ]
        checked, power = controls(setting, labels, texts, options.permutations)
        moved, shifts = changes(setting, labels, texts, reference)
        tables += [checked, *([moved] if moved.lines else [])]
        said += sentences(setting, labels, texts, power)
        said += shifts
        for one in subjects:
            drawn = _random(room, setting, one, options)
            table, words = beside_random(setting, f"steered by {one.label}", *drawn, room.asked.builtin)
            tables.append(table)
            said.append(words)
        if not subjects:
            said.append(f"{setting.name}: nothing is steered: name a vector, --set files=[think.safetensors].")
    return points, tables, said


def _random(
    room: Workroom, setting: Setting, subject: Subject, options: CoherenceOptions
) -> tuple[list[Text], list[list[Text]]]:
    """The texts of the steered arm and of random directions of its length, on the same questions."""
    arms = [
        room.arm(setting, "base", "base", "baseline"),
        room.arm(setting, subject.key, f"steered by {subject.label}", plan=subject.own.to_dict()),
    ]
    vectors: dict[str, Any] = dict(subject.own.vectors)
    noise: list[Arm] = []
    for seed in range(options.directions):
        drawn = random_like(subject.vector, seed)
        plan = subject.plan(drawn.direction, drawn.name)
        vectors |= plan.vectors
        noise.append(
            room.arm(setting, f"random-{seed}", f"random direction {seed}", "control", plan=plan.to_dict())
        )  # fmt: skip
    found = room.evaluate(
        "coherence-random", setting, [*arms, *noise], min(options.n, options.n_random), vectors, "random directions",
        temperature=options.temperature,
    )  # fmt: skip
    return judged(room, found, setting, arms[1]), [judged(room, found, setting, arm) for arm in noise]


CARD = Card(
    name="coherence",
    title="Local coherence or global validity",
    systems=("S18",),
    papers=("2510.18176", "2505.20296"),
    measures="share of pairs of steps that fit together, of traces all of whose pairs do, and of valid traces; errors of exploring",
    control="steps in random orders, steps of other questions before each step; random directions beside the steering",
    quick=CoherenceOptions(n=60),
    full=CoherenceOptions(n=200, permutations=200, directions=39, n_random=100),
    run=run,
    refuse=refuse,
    version=2,
)
