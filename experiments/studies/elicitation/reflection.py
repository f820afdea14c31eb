"""Reflection (S25): does what follows the first candidate answer correct it or confirm it, and what does stopping there cost?

1. `stated` finds the candidate answers of a text and, in the built-in task, the results that are checked; how often its last candidate is
   the answer that is graded is reported. First against last candidate, and before against after a check, are four-way tables: right to
   right, right to wrong, wrong to right, wrong to wrong.
2. Stopping at the first candidate is compared with stopping elsewhere, the answer then forced: the shares of the texts at which first
   candidates end are permuted among the texts, each permutation a draw.
3. Checking is steered up and down: by a vector along the text, beside R random directions of its length; without a vector by words made
   likelier or unwritable, beside R random lists that occur equally often.

Source: 2510.08308 (extractor of its own by a language model; the one here reads sentences).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

import steering
from steering.vector.vectors import SteeringVector, random_like

from ...statistics import paired_difference, rank_p
from ...statistics.paired import clustered_difference
from ...store.runs import Arm
from .. import demo
from .asked import Setting
from .card import Card, Options
from .findings import Point, Table
from .points import DIFFERENCES, difference_said, points_of, said_of
from .stated import Reflected, texts_of
from .stopping import Stopping, stopping
from .switching import random_lists, words_known, words_of
from .workroom import Workroom

CHECKING = Path(steering.__file__).parent / "builtin" / "vectors" / "checking.safetensors"
"""The vector of the built-in pair."""
WORDS = ("Wait", "wait", "check", "Check", "verify", "Verify", "again", "actually", "Actually")


class ReflectionOptions(Options):
    temperature: float = Field(default=1.0, ge=0)
    """Texts are sampled: the built-in base checks nothing in its greedy texts."""
    file: str | None = None
    """A vector that makes checking likelier; by default the built-in one, and of other models none."""
    digest: str | None = None
    """Of the vector in the file; found out."""
    dose: float = Field(default=demo.BEHAVIOUR_DOSE, gt=0)
    """In lengths of the vector, along the text; of words, times 4 nats."""
    words: tuple[str, ...] = WORDS
    """Made likelier or unwritable where there is no vector."""
    directions: int = Field(default=20, ge=1)
    """Random directions, or random lists, beside each."""
    permutations: int = Field(default=200, ge=1)
    """Of the test that compares shares."""
    cue: str | None = None
    """What asks for an answer."""

    @model_validator(mode="before")
    @classmethod
    def _known_by_its_bytes(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("file"), str) and data["file"]:
            data = data | {"digest": SteeringVector.load(data["file"]).digest}
        return data

    @property
    def vector_files(self) -> tuple[str, ...]:
        return () if self.file is None else (self.file,)


def run(room: Workroom, options: ReflectionOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    for setting in room.asked.settings:
        how = "sampled" if options.temperature else "greedy"
        references = room.references(setting, how)
        steered, controls, vectors, what = _steering(room, setting, options)
        found = room.evaluate(
            "reflection",
            setting,
            [*references, *steered, *controls],
            options.n,
            vectors,
            temperature=options.temperature,
        )
        own = [point for point in points_of(found, setting) if not point.arm.startswith("random-")]
        points += own
        texts = {arm.name: texts_of(room, found, setting, arm) for arm in (*references, *steered, *controls)}
        shown = [*references, *steered]
        tables.append(_four_way(setting, shown, texts))
        if room.asked.builtin:
            tables.append(_checks(setting, shown, texts))
        stopped, sentences = stopping(
            room,
            setting,
            references,
            texts,
            Stopping(options.n, options.temperature, options.permutations, options.cue),
        )
        tables += stopped
        if steered:
            tables.append(_steered(setting, steered, controls, texts, what))
        said += [*sentences, *(said_of(point, f"the {how} base") for point in own if point.role == "steered")]
        if not steered:
            said.append(f"{setting.name}: {what}")
    return points, tables, said


def _steering(
    room: Workroom, setting: Setting, options: ReflectionOptions
) -> tuple[list[Arm], list[Arm], dict[str, Any], str]:
    """Arms that make checking likelier and rarer, their controls (named `random-...`), vectors, and what was steered."""
    file = options.file or (CHECKING if room.asked.base == "builtin:base" and room.asked.builtin else None)
    if file is not None:
        vector = SteeringVector.load(file)
        vector.check(room.base)
        drawn = [random_like(vector, seed) for seed in range(options.directions)]
        plans = {"up": demo.along(vector, options.dose), "down": demo.along(vector, -options.dose)}
        arms = [
            room.arm(setting, name, f"{vector.name} {sign}{options.dose:g}v", plan=plans[name].to_dict())
            for name, sign in (("up", "+"), ("down", "-"))
        ]
        beside = [
            room.arm(
                setting, f"random-both-{number}", f"random direction {number}", "control",
                plan=demo.along(noise, options.dose).to_dict(),
            )
            for number, noise in enumerate(drawn)
        ]  # fmt: skip
        return arms, beside, {one.digest: one for one in (vector, *drawn)}, f"{vector.name} along the text"
    known = words_known(room.base, options.words)
    if not known:
        return [], [], {}, "no word of checking is one of the model's, and no vector was named: nothing was steered."
    plain = room.evaluate(
        "reflection-words", setting, [room.arm(setting, "base", "base", "baseline")], options.n, temperature=options.temperature
    )  # fmt: skip
    lists = random_lists(words_of(plain, setting, room.base), known, options.directions)

    def decoder(name: str, words: list[str]) -> dict[str, Any]:
        likelier = {"kind": "word-bias", "words": words, "nats": 4 * options.dose, "span": "generated"}
        return likelier if name == "up" else {"kind": "suppression", "words": words}

    arms, beside = [], []
    for name, label in (("up", "likelier"), ("down", "unwritable")):
        arms.append(room.arm(setting, name, f"checking words {label}", decoder=decoder(name, known)))
        beside += [
            room.arm(setting, f"random-{name}-{n}", f"random words {label}, draw {n}", "control", decoder=decoder(name, one))
            for n, one in enumerate(lists)
        ]  # fmt: skip
    return arms, beside, {}, "the words " + " ".join(known)


def four_ways(pairs: list[tuple[bool, bool]]) -> tuple[int, int, int, int]:
    """Counts of right to right, right to wrong, wrong to right, wrong to wrong."""
    kinds = ((True, True), (True, False), (False, True), (False, False))
    return tuple(pairs.count(kind) for kind in kinds)  # type: ignore[return-value]


def _four_way(setting: Setting, arms: list[Arm], texts: dict[str, list[Reflected]]) -> Table:
    lines: list[tuple[str | int | float | None, ...]] = []
    for arm in arms:
        own = [text for text in texts[arm.name] if text.candidates]
        if not own:
            lines.append((arm.label, f"0 of {len(texts[arm.name])}", *(None,) * 9))
            continue
        first, last = ([float(text.candidates[at].right) for text in own] for at in (0, -1))
        agrees = [text.agrees for text in own if text.agrees is not None]
        after = np.mean([1 - text.candidates[0].end / text.tokens for text in own])
        lines.append(
            (
                arm.label, f"{len(own)} of {len(texts[arm.name])}", round(float(np.mean([len(text.candidates) for text in own])), 2),
                *four_ways([(text.candidates[0].right, text.candidates[-1].right) for text in own]),
                f"{100 * np.mean(first):.1f}", difference_said(paired_difference(first, last)), f"{100 * after:.1f}",
                f"{sum(agrees)} of {len(agrees)}",
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: first against last candidate answer",
        heads=(
            *("arm", "texts with one", "candidates per text", "right, right", "right, wrong", "wrong, right", "wrong, wrong"),
            *("first right %", "last minus first (95 %; McNemar)", "tokens after the first %", "last one is the graded answer"),
        ),
        lines=tuple(lines),
        notes=("Texts without a candidate are left out. A reflection that only confirms lies in the outer columns.", DIFFERENCES),
    )  # fmt: skip


def _checks(setting: Setting, arms: list[Arm], texts: dict[str, list[Reflected]]) -> Table:
    lines: list[tuple[str | int | float | None, ...]] = []
    for arm in arms:
        pairs = [(text.item, one) for text in texts[arm.name] for one in text.checks or ()]
        if not pairs:
            lines.append((arm.label, 0, 0, *(None,) * 5))
            continue
        before, after = ([float(getattr(one, name)) for _, one in pairs] for name in ("before", "after"))
        among = [item for item, _ in pairs]
        lines.append(
            (
                arm.label, len(pairs), len(set(among)), *four_ways([(one.before, one.after) for _, one in pairs]),
                difference_said(clustered_difference(before, after, among)),
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: results before and after they are checked",
        heads=(
            *("arm", "checks", "in texts", "right, right", "right, wrong", "wrong, right", "wrong, wrong"),
            "after minus before (95 %; by text)",
        ),
        lines=tuple(lines),
        notes=(
            "Right is what the line's own arithmetic gives. Wrong results that are not checked do not stand here.",
            DIFFERENCES,
        ),
    )


def _steered(
    setting: Setting, steered: list[Arm], controls: list[Arm], texts: dict[str, list[Reflected]], what: str
) -> Table:
    lines: list[tuple[str | int | float | None, ...]] = []
    base = np.array([float(text.behaviour) for text in texts["base"]])
    right = np.array([float(text.right) for text in texts["base"]])
    for arm in steered:
        own = np.array([float(text.behaviour) for text in texts[arm.name]])
        beside = [texts[one.name] for one in controls if one.name.startswith(("random-both-", f"random-{arm.name}-"))]
        sign = 1 if arm.name == "up" else -1
        drawn = [np.mean([text.behaviour for text in texts_]) for texts_ in beside]
        accuracies = [np.mean([text.right for text in texts_]) for texts_ in beside]
        found = paired_difference(base, own)
        accuracy = [float(text.right) for text in texts[arm.name]]
        moved = paired_difference(right, accuracy)
        lines.append(
            (
                arm.label, len(own), f"{base.mean():.2f}", f"{own.mean():.2f}",
                f"{found.difference:+.2f} ({found.interval.low:+.2f} to {found.interval.high:+.2f})", len(beside),
                f"{np.mean(drawn):.2f} ({min(drawn):.2f} to {max(drawn):.2f})" if drawn else None,
                round(rank_p(sign * float(own.mean()), [sign * float(one) for one in drawn]), 3) if drawn else None,
                difference_said(moved),
                f"{100 * np.mean(accuracies):.1f} ({100 * min(accuracies):.1f} to {100 * max(accuracies):.1f})" if drawn else None,
                round(rank_p(float(np.mean(accuracy)), [float(one) for one in accuracies]), 3) if drawn else None,
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: checking steered up and down, by {what}",
        heads=(
            *("arm", "texts", "base per text", "checks per text", "minus the base (95 %)", "random ones", "theirs (range)", "rank p"),
            *("right % minus the base (95 %)", "random right % (range)", "rank p, better"),
        ),
        lines=tuple(lines),
        notes=("Checks: computed again, in the built-in task; elsewhere candidates after the first one.", DIFFERENCES),
    )  # fmt: skip


CARD = Card(
    name="reflection",
    title="Reflection: corrective or confirmatory",
    systems=("S25",),
    papers=("2510.08308",),
    measures="what becomes of the first candidate answer and of checked results, what stopping costs, checking steered up and down",
    control="random directions or lists beside the steering; stops at permuted shares of the texts, the answer forced there",
    quick=ReflectionOptions(n=60),
    full=ReflectionOptions(n=200, directions=39, permutations=1000),
    run=run,
    version=4,
)
