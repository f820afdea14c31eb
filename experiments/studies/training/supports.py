"""Selects or creates? What each elicitor can solve at all, at equal numbers of samples, beside what the base solves when it is asked again.

1. Every elicitor draws k samples of the same questions. A question is in its support if one of them is right; where the task verifies
   traces, if one of them has a right answer and a right trace, for a short answer is guessed sooner or later.
2. Retention is the share of the base's support that it keeps, discovery the share of its own support that the base's lacks (2507.14843).
3. Samples differ: the base's own second draw, with other seeds, finds questions that its first one did not. An elicitor creates something
   only beyond that, and is compared with it by question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steering.plan.plan import Plan

from ...statistics import Floats, Interval, paired_difference, support
from ...store.runs import Arm, Run
from ..elicitation.asked import Setting
from ..elicitation.boundary import counts_of
from ..elicitation.findings import Table
from ..elicitation.points import difference_said, hedged
from ..elicitation.workroom import Workroom

AGAIN = "the base again, other draws"


def support_sets(
    room: Workroom,
    setting: Setting,
    card: str,
    sources: Mapping[str, tuple[str, str, Plan]],
    n: int,
    draws: int,
) -> tuple[list[Table], list[str]]:
    """Tables, one for answers and one for verified traces where there are any, and a sentence per elicitor. `sources` names the model, the
    form and the plan of each."""
    arms = [room.arm(setting, "base", "base", "baseline")]
    vectors: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for number, (label, (model, form, plan)) in enumerate(sources.items()):
        vectors.update(plan.vectors)
        given: dict[str, Any] = {"plan": plan.to_dict()} if plan else {}
        arms.append(room.arm(setting, f"elicitor-{number}", label, "steered", model=model, form=form, **given))
        labels[f"elicitor-{number}"] = label
    found = _sampled(room, setting, card, arms, n, range(draws), vectors)
    again = _sampled(room, setting, card, arms[:1], n, range(draws, 2 * draws), {})
    tables, said = [], []
    for verified in (False, True):
        counts = counts_of(found, setting, verified)
        second = counts_of(again, setting, verified)
        if counts is None or second is None:
            said.append(f"{setting.name}: the task verifies no traces, so that supports may hold guesses.")
            continue
        base = counts.pop("base")
        own = {AGAIN: second["base"]} | {labels[arm]: values for arm, values in counts.items()}
        table, words = support_table(setting, base, own, draws, verified)
        tables.append(table)
        said += words
    return tables, said


def _sampled(
    room: Workroom, setting: Setting, card: str, arms: Sequence[Arm], n: int, seeds: range, vectors: Mapping[str, Any]
) -> Run:
    return room.evaluate(
        f"{card}-support", setting, arms, n, vectors, f"{len(seeds)} samples each", temperature=1.0, seeds=tuple(seeds)
    )


def support_table(
    setting: Setting, base: Floats, own: Mapping[str, Floats], draws: int, verified: bool
) -> tuple[Table, list[str]]:
    """`base` and every elicitor's right samples by question; `own` holds the base's second draw as `AGAIN`."""
    what = "right answer and trace" if verified else "right answer"
    lines: list[tuple[Any, ...]] = []
    said: list[str] = []
    chance = (own[AGAIN] > 0).astype(float)
    for label, counts in own.items():
        sets = support(base, counts)
        solved = (counts > 0).astype(float)
        beyond = paired_difference(chance, solved)
        lines.append(
            (
                label, sets.preserved, sets.expanded, sets.shrunk, sets.neither, _share(sets.retention, sets.retention_interval),
                _share(sets.discovery, sets.discovery_interval), None if label == AGAIN else difference_said(beyond),
            )
        )  # fmt: skip
        if label != AGAIN:
            hedge = hedged(beyond.interval.low, beyond.interval.high, beyond.p)
            said.append(
                f"{setting.name}, {what}: {label} alone solves {sets.expanded} of {len(base)} questions, the base's own second draw "
                f"{int(((own[AGAIN] > 0) & (base == 0)).sum())}; in all, against that draw: {hedge}{difference_said(beyond)} points."
            )
    return Table(
        title=f"{setting.name}: what each can solve at all, {what}, {draws} samples of each question",
        heads=(
            "elicitor", "both", "it alone", "the base alone", "neither", "retention (95 %)", "discovery (95 %)",
            "solved, minus the base's second draw (95 %)",
        ),
        lines=tuple(lines),
        notes=(
            f"n {len(base)}. Retention: the share of the base's support that is kept. Discovery: the share of its support that the base's "
            "first draw lacks. The base's own second draw says how much of both is luck.",
        ),
    ), said  # fmt: skip


def _share(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "not defined"
    return f"{100 * value:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
